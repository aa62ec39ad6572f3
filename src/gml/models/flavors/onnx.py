"""ONNX, scored by ONNX Runtime; weights in files beside it only where the model's folder holds them."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import CorruptError, InvalidValueError
from gml.models import onnx_wire
from gml.models.flavor import Expected, LoadOptions, Predict, Saved, need

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from gml.models.files import ModelFiles

_NAME: Final = "model.onnx"
_CPU: Final = "CPUExecutionProvider"
_MAX: Final = 2 << 30


class OnnxModel:
    """A loaded model: the session, and the bytes that `onnx` reads.

    Attributes:
        session: the session of ONNX Runtime.
    """

    def __init__(self, session: Any, data: bytes) -> None:
        self.session = session
        self._data = data

    @property
    def model(self) -> Any:
        """The model as `onnx.ModelProto`."""
        return need("onnx", "gitml[onnx]").load_model_from_string(self._data)

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Return the outputs by name."""
        names = [one.name for one in self.session.get_outputs()]
        return dict(zip(names, self.session.run(None, dict(feeds)), strict=True))


class OnnxFlavor:
    """Models of the package onnx."""

    name = "onnx"
    loaders = ("mlflow.onnx",)
    formats = ("onnx",)
    needs = "gitml[onnx]"

    def can_save(self, model: Any) -> bool:
        """Whether it is an `onnx.ModelProto`, or what this flavor loaded."""
        kind = type(model)
        return isinstance(model, OnnxModel) or (
            kind.__name__ == "ModelProto" and kind.__module__.startswith("onnx")
        )

    def save(self, model: Any, folder: Path, fmt: str, options: Mapping[str, Any]) -> Saved:  # noqa: ARG002
        """Write `model.onnx`, all weights in it."""
        onnx = need("onnx", self.needs)
        proto = _proto(model)
        try:
            onnx.checker.check_model(proto)
            data = proto.SerializeToString()
        except Exception as error:
            raise InvalidValueError(
                f"not a sound ONNX model: {' '.join(str(error).split())[:200]}"
            ) from error
        if onnx_wire.external_locations(data):
            raise InvalidValueError(
                "the model keeps weights in other files", hint="load it with onnx.load, which reads them"
            )
        (folder / _NAME).write_bytes(data)
        conf = {
            "onnx_version": onnx.__version__,
            "data": _NAME,
            "providers": list(options.get("onnx_execution_providers") or [_CPU]),
            "onnx_session_options": options.get("onnx_session_options"),
            "code": None,
        }
        return Saved(conf, {"loader_module": "mlflow.onnx", "data": _NAME}, ("onnx", "onnxruntime", "numpy"))

    def expected(self, conf: Mapping[str, Any], files: ModelFiles) -> Iterable[Expected]:  # noqa: ARG002
        """Return the model's file."""
        return [Expected(str(conf.get("data", _NAME)), ("onnx",))]

    def judge(self, conf: Mapping[str, Any], files: ModelFiles, options: LoadOptions) -> Iterable[str]:  # noqa: ARG002
        """Return weights outside of the folder, and libraries that the session would load."""
        name = str(conf.get("data", _NAME))
        odd = [f"{name} reads {one!r}" for one in _outside(name, files)]
        return [*odd, *(f"the session option {key!r}" for key in _session_code(conf))]

    def load(self, files: ModelFiles, conf: Mapping[str, Any], options: LoadOptions) -> Any:  # noqa: ARG002
        """Return the session and the model."""
        runtime = need("onnxruntime", self.needs)
        name = str(conf.get("data", _NAME))
        outside = _outside(name, files)
        if outside:
            # Not even with trust: these bytes are no part of the model and have no digest.
            raise CorruptError(
                f"{name} of {files.origin} reads {outside[0]!r}, which is no file of the model"
            )
        data = files.read(name)
        providers = [tuple(one) if isinstance(one, list) else one for one in conf.get("providers") or [_CPU]]
        here = set(runtime.get_available_providers())
        usable = [one for one in providers if (one if isinstance(one, str) else one[0]) in here]
        source: Any = data
        if onnx_wire.external_locations(data):
            source = str(files.copy(owner=runtime) / name)
        try:
            session = runtime.InferenceSession(
                source, sess_options=_session_options(runtime, conf), providers=usable or [_CPU]
            )
        except Exception as error:
            said = " ".join(str(error).split())[:200]
            raise CorruptError(f"{name} of {files.origin} cannot be read by ONNX Runtime: {said}") from error
        return OnnxModel(session, data)

    def as_loaded(self, model: Any, options: Mapping[str, Any]) -> Any:  # noqa: ARG002
        """Return a session for the model."""
        runtime = need("onnxruntime", self.needs)
        data = _proto(model).SerializeToString()
        return OnnxModel(runtime.InferenceSession(data, providers=[_CPU]), data)

    def predictor(self, native: Any, conf: Mapping[str, Any], pyfunc: Mapping[str, Any]) -> Predict:  # noqa: ARG002
        """Return scoring by the model's inputs: a table's columns, a tensor, or tensors by name."""
        inputs = native.session.get_inputs()
        return lambda data, params: _score(native, inputs, data)  # noqa: ARG005


def _proto(model: Any) -> Any:
    return model.model if isinstance(model, OnnxModel) else model


def _outside(name: str, files: ModelFiles) -> list[str]:
    """Return the locations of weights that are not files of the model, by their path from its file."""
    try:
        found = onnx_wire.external_locations(files.read(name))
    except onnx_wire.WireError as error:
        raise CorruptError(f"{name} of {files.origin} is damaged") from error
    parent = PurePosixPath(name).parent
    return [
        one
        for one in found
        if not one or ".." in PurePosixPath(one).parts or "\\" in one or str(parent / one) not in files
    ]


def _session_code(conf: Mapping[str, Any]) -> list[str]:
    more = (conf.get("onnx_session_options") or {}).get("extra_session_config") or {}
    return sorted(str(key) for key in more)


def _session_options(runtime: Any, conf: Mapping[str, Any]) -> Any:
    options = runtime.SessionOptions()
    given = conf.get("onnx_session_options") or {}
    for key in ("inter_op_num_threads", "intra_op_num_threads"):
        if given.get(key):
            setattr(options, key, int(given[key]))
    mode = str(given.get("execution_mode") or "").upper()
    if mode in {"SEQUENTIAL", "PARALLEL"}:
        options.execution_mode = getattr(runtime.ExecutionMode, f"ORT_{mode}")
    if given.get("graph_optimization_level") is not None:
        level = int(given["graph_optimization_level"])
        options.graph_optimization_level = runtime.GraphOptimizationLevel(level)
    for key, value in (given.get("extra_session_config") or {}).items():
        options.add_session_config_entry(str(key), str(value))
    return options


def _score(native: OnnxModel, inputs: list[Any], data: Any) -> Any:
    import numpy as np
    import pandas as pd

    if isinstance(data, dict):
        return native.run({key: np.asarray(value) for key, value in data.items()})
    if not isinstance(data, pd.DataFrame):
        array = np.asarray(data)
        if len(inputs) != 1:
            names = ", ".join(one.name for one in inputs)
            raise InvalidValueError(f"the model has {len(inputs)} inputs: {names}", hint="give them by name")
        # 64-bit numbers are what Python has; a model of 32 bits takes them as such.
        return native.run({inputs[0].name: _as_type(array, inputs[0].type)})
    if len(inputs) == 1:
        feeds = {inputs[0].name: _as_type(data.to_numpy(), inputs[0].type)}
    else:
        columns = {one.name: data[[one.name] if len(one.shape) > 1 else one.name] for one in inputs}
        feeds = {one.name: _as_type(columns[one.name].to_numpy(), one.type) for one in inputs}
    found = native.run(feeds)
    return pd.DataFrame.from_dict({name: list(_flat(value)) for name, value in found.items()})


def _as_type(array: Any, kind: str) -> Any:
    import numpy as np

    wanted = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64}.get(kind)
    if wanted is None or array.dtype == wanted:
        return array
    return array.astype(wanted)


def _flat(value: Any) -> Any:
    import numpy as np

    array = np.asarray(value)
    return array.reshape(-1) if array.ndim == 2 and array.shape[1] == 1 else value


FLAVOR = OnnxFlavor()
