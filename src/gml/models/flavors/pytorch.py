"""PyTorch: weights as safetensors and a description of the layers; pickles when asked for.

A model of PyTorch's own layers is described whole, so that loading it runs nothing of its author. A class of
one's own is a reference: its module travels in `code/`, and the model counts as code.
"""

from __future__ import annotations

import importlib
import io
import json
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import CorruptError, InvalidValueError, MissingPackageError
from gml.models.flavor import Expected, LoadOptions, Predict, Saved, need
from gml.models.flavors import torch_layers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from gml.models.files import ModelFiles

WEIGHTS: Final = "model.safetensors"
_PICKLE: Final = "data/model.pth"
_EXPORTED: Final = "data/model.pt2"
_MODULE_INFO: Final = "data/pickle_module_info.txt"


class PytorchFlavor:
    """Modules of PyTorch."""

    name = "pytorch"
    loaders = ("mlflow.pytorch", "gml.models.flavors.pytorch")
    formats = ("safetensors", "pickle")
    needs = "gitml[pytorch]"

    def can_save(self, model: Any) -> bool:
        """Whether it is a `torch.nn.Module`."""
        return any(
            base.__module__ == "torch.nn.modules.module" and base.__name__ == "Module"
            for base in type(model).__mro__
        )

    def save(self, model: Any, folder: Path, fmt: str, options: Mapping[str, Any]) -> Saved:
        """Write `model.safetensors`, or `data/model.pth` as MLflow has it."""
        torch = need("torch", self.needs)
        conf: dict[str, Any] = {"pytorch_version": str(torch.__version__), "code": None}
        packages = ("torch", "numpy")
        if fmt == "pickle":
            (folder / "data").mkdir()
            try:
                torch.save(model, folder / _PICKLE)
            except Exception as error:
                raise InvalidValueError(f"{type(model).__name__} cannot be pickled: {error}") from error
            (folder / _MODULE_INFO).write_text("pickle", encoding="utf-8")
            conf |= {"model_data": "data"}
            return Saved(conf, {"loader_module": "mlflow.pytorch", "data": "data"}, packages)
        conf |= {"model_data": WEIGHTS, "serialization_format": "safetensors", **_describe(model, options)}
        try:
            need("safetensors.torch", self.needs).save_model(model, str(folder / WEIGHTS))
        except Exception as error:
            raise InvalidValueError(
                f"{type(model).__name__} cannot be saved as safetensors: {error}"
            ) from error
        pyfunc = {"loader_module": "gml.models.flavors.pytorch", "data": WEIGHTS}
        return Saved(conf, pyfunc, (*packages, "safetensors"))

    def expected(self, conf: Mapping[str, Any], files: ModelFiles) -> Iterable[Expected]:
        """Return the file of weights, or the pickle."""
        return [Expected(_data_file(conf, files), ("safetensors",))]

    def judge(self, conf: Mapping[str, Any], files: ModelFiles, options: LoadOptions) -> Iterable[str]:  # noqa: ARG002
        """Return the class that would be imported, and layers that are not PyTorch's."""
        named = conf.get("model_class")
        if named is not None:
            return [] if named in options.trusted_types else [f"the class {named} would be imported"]
        return torch_layers.odd(conf.get("layers"))

    def load(self, files: ModelFiles, conf: Mapping[str, Any], options: LoadOptions) -> Any:
        """Return the module, ready to predict."""
        torch = need("torch", self.needs)
        name = _data_file(conf, files)
        data = files.read(name)
        origin = f"{name} of {files.origin}"
        device = (options.options.get("model_config") or {}).get("device") or options.options.get("device")
        try:
            if name == WEIGHTS:
                model = _rebuild(conf, files)
                weights = need("safetensors.torch", self.needs).load(data)
                _put(model, weights)
            elif name.endswith(".pt2"):
                model = torch.export.load(io.BytesIO(data)).module()
            else:
                model = torch.load(io.BytesIO(data), weights_only=False, map_location="cpu")
        except (CorruptError, MissingPackageError):
            raise
        except ModuleNotFoundError as error:
            raise MissingPackageError(
                f"{origin} needs the module {error.name}", hint="put the code into code_paths"
            ) from error
        except Exception as error:
            said = " ".join(str(error).split())[:300]
            raise CorruptError(f"{origin} cannot be read: {type(error).__name__}: {said}") from error
        if not name.endswith(".pt2"):
            if not hasattr(model, "eval"):
                raise CorruptError(f"{origin} holds {type(model).__name__}, which is no model")
            model.eval()
        return model.to(device) if device else model

    def as_loaded(self, model: Any, options: Mapping[str, Any]) -> Any:  # noqa: ARG002
        """Return the module itself; `predictor` puts it into evaluation and back."""
        return model

    def predictor(self, native: Any, conf: Mapping[str, Any], pyfunc: Mapping[str, Any]) -> Predict:  # noqa: ARG002
        """Return scoring of tables and tensors on the module's device, without gradients."""
        return lambda data, params: score(native, data, params)


def _data_file(conf: Mapping[str, Any], files: ModelFiles) -> str:
    data = str(conf.get("model_data", "data"))
    if data in files:
        return data
    for name in ("model.pth", "model.pt2"):
        if f"{data}/{name}" in files:
            return f"{data}/{name}"
    return f"{data}/model.pth"


def _describe(model: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return how the module is built again: by its layers, or by its class and arguments."""
    kind = type(model)
    if "init_args" not in options and kind.__module__.startswith("torch.nn."):
        return {"layers": torch_layers.describe(model)}
    arguments = dict(options.get("init_args") or {})
    try:
        text = json.dumps(arguments)
    except (TypeError, ValueError) as error:
        raise InvalidValueError(f"init_args cannot be written as JSON: {error}") from error
    if kind.__module__ == "__main__" or "<locals>" in kind.__qualname__:
        raise InvalidValueError(
            f"{kind.__name__} is defined where nobody can import it from",
            hint="put the class into a module and name that in code_paths, or use format='pickle'",
        )
    try:
        same = torch_layers.same_shape(kind(**json.loads(text)), model)
    except Exception as error:
        raise InvalidValueError(
            f"{kind.__name__}({', '.join(arguments)}) cannot be built: {error}",
            hint="init_args={...} are the arguments that it was built with",
        ) from error
    if not same:
        raise InvalidValueError(
            f"{kind.__name__}({', '.join(arguments)}) has other weights than the model",
            hint="init_args={...} are the arguments that it was built with",
        )
    return {"model_class": f"{kind.__module__}.{kind.__qualname__}", "init_args": json.loads(text)}


def _rebuild(conf: Mapping[str, Any], files: ModelFiles) -> Any:
    named = conf.get("model_class")
    if named is None:
        return torch_layers.build(conf.get("layers"), files.origin)
    module, _, attribute = str(named).rpartition(".")
    found = getattr(importlib.import_module(module), attribute, None)
    torch = need("torch", "torch")
    if not (isinstance(found, type) and issubclass(found, torch.nn.Module)):
        raise CorruptError(f"MLmodel of {files.origin} names {named}, which is no torch.nn.Module")
    return found(**(conf.get("init_args") or {}))


def _put(model: Any, weights: Mapping[str, Any]) -> None:
    """Give a module its weights; those that are shared are in the file once."""
    missing, unexpected = model.load_state_dict(weights, strict=False)
    owned = {id(value) for name, value in model.state_dict(keep_vars=True).items() if name in weights}
    names = model.state_dict(keep_vars=True)
    lost = [name for name in missing if id(names[name]) not in owned]
    if lost or unexpected:
        odd = (lost or list(unexpected))[0]
        raise CorruptError(f"the weights do not fit the layers, such as {odd}")


def score(model: Any, data: Any, params: Mapping[str, Any] | None = None) -> Any:
    """Return a module's outputs as arrays; those of a table as a table with its index.

    Args:
        model: the module.
        data: table of numbers, array, or arrays by the names of its inputs.
        params: further arguments of the module.

    Raises:
        InvalidValueError: the outputs are no tensors.
    """
    import numpy as np
    import pandas as pd

    torch = need("torch", "torch")
    first = next(iter(model.parameters()), None) if hasattr(model, "parameters") else None
    device = first.device if first is not None else torch.device("cpu")
    frame = isinstance(data, pd.DataFrame)

    def tensor(value: Any) -> Any:
        array = value.to_numpy(dtype=np.float32) if isinstance(value, pd.DataFrame) else np.asarray(value)
        return torch.as_tensor(array if array.flags.writeable else array.copy(), device=device)

    training = getattr(model, "training", False)
    with torch.inference_mode():
        if training:
            model.eval()
        try:
            if isinstance(data, dict):
                out = model(**{key: tensor(value) for key, value in data.items()}, **(params or {}))
            else:
                out = model(tensor(data), **(params or {}))
        finally:
            if training:
                model.train()
    if isinstance(out, dict):
        return {str(key): _array(value) for key, value in out.items()}
    array = _array(out)
    return pd.DataFrame(array, index=data.index) if frame else array


def _array(value: Any) -> Any:
    if not hasattr(value, "detach"):
        raise InvalidValueError(
            f"the model's output is {type(value).__name__}",
            hint="a tensor, or a dict of tensors, can be served",
        )
    return value.detach().cpu().numpy()


class _ForMLflow:
    def __init__(self, model: Any) -> None:
        self.model = model

    def get_raw_model(self) -> Any:
        return self.model

    def predict(self, data: Any, params: Mapping[str, Any] | None = None) -> Any:
        return score(self.model, data, params)


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> Any:
    """Load the model for MLflow, which calls this with the path of the weights."""
    from pathlib import Path

    from gml.models.files import ModelFiles
    from gml.models.flavor import get_flavor

    files = ModelFiles.of_folder(Path(path).parent)
    conf = files.mlmodel().flavors["pytorch"]
    settings = {"model_config": dict(model_config)} if model_config else {}
    # Who loads it with MLflow has trusted its code already.
    return _ForMLflow(get_flavor("pytorch").load(files, conf, LoadOptions(code=True, options=settings)))


FLAVOR = PytorchFlavor()
