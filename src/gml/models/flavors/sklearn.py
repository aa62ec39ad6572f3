"""scikit-learn: skops by default, pickle and cloudpickle when asked for; pipelines and search results too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import CorruptError, InvalidValueError
from gml.models.flavor import Expected, LoadOptions, Predict, Saved, need
from gml.models.flavors import pickles, skops_content, skops_types
from gml.models.formats import sniff

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from gml.models.files import ModelFiles

_PREDICTS: Final = (
    "predict",
    "predict_proba",
    "predict_log_proba",
    "predict_joint_log_proba",
    "decision_function",
)


class SklearnFlavor:
    """Estimators of scikit-learn, and others with its interface."""

    name = "sklearn"
    loaders = ("mlflow.sklearn",)
    formats = ("skops", "cloudpickle", "pickle")
    needs = "gitml[sklearn]"

    def can_save(self, model: Any) -> bool:
        """Whether a class of scikit-learn is among its bases."""
        return any(base.__module__.startswith("sklearn.") for base in type(model).__mro__)

    def save(self, model: Any, folder: Path, fmt: str, options: Mapping[str, Any]) -> Saved:
        """Write `model.skops` or `model.pkl`."""
        version = need("sklearn", self.needs).__version__
        function = str(options.get("pyfunc_predict_fn") or "predict")
        if function not in _PREDICTS:
            raise InvalidValueError(f"{function!r} is no way to predict", hint=f"use one of {_PREDICTS}")
        name = "model.skops" if fmt == "skops" else "model.pkl"
        vouched = options.get("skops_trusted_types")
        data = dump_skops(model, tuple(vouched or ())) if fmt == "skops" else pickles.dump(model, fmt)
        (folder / name).write_bytes(data)
        conf = {
            "pickled_model": name,
            "serialization_format": fmt,
            "sklearn_version": version,
            "code": None,
            "skops_trusted_types": types_for_mlflow(data, vouched) if fmt == "skops" else None,
        }
        extra = {"skops": "skops", "cloudpickle": "cloudpickle"}.get(fmt)
        return Saved(
            conf,
            {"loader_module": "mlflow.sklearn", "model_path": name, "predict_fn": function},
            ("scikit-learn", *((extra,) if extra else ())),
        )

    def expected(self, conf: Mapping[str, Any], files: ModelFiles) -> Iterable[Expected]:  # noqa: ARG002
        """Return the model's file; skops holds data, anything else code."""
        return [Expected(str(conf.get("pickled_model", "model.pkl")), ("skops",))]

    def judge(self, conf: Mapping[str, Any], files: ModelFiles, options: LoadOptions) -> Iterable[str]:
        """Return the types of a skops file that nobody vouched for."""
        name = str(conf.get("pickled_model"))
        found = skops_types.untrusted(files.read(name), options.trusted_types)
        return [f"{name} holds the types {', '.join(found[:10])}"] if found else []

    def load(self, files: ModelFiles, conf: Mapping[str, Any], options: LoadOptions) -> Any:  # noqa: ARG002
        """Return the estimator."""
        need("sklearn", self.needs)
        name = str(conf.get("pickled_model", "model.pkl"))
        fmt = str(conf.get("serialization_format", "pickle"))
        return load_object(files.read(name), fmt, f"{name} of {files.origin}")

    def as_loaded(self, model: Any, options: Mapping[str, Any]) -> Any:  # noqa: ARG002
        """Return the estimator itself."""
        return model

    def predictor(self, native: Any, conf: Mapping[str, Any], pyfunc: Mapping[str, Any]) -> Predict:  # noqa: ARG002
        """Return its `predict`, or the method that it was saved with."""
        function = str(pyfunc.get("predict_fn") or "predict")
        method = getattr(native, function if function in _PREDICTS else "predict", None)
        if method is None:
            raise InvalidValueError(f"{type(native).__name__} has no {function}()")
        return lambda data, params: method(data)  # noqa: ARG005


def load_object(data: bytes, fmt: str, origin: str) -> Any:
    """Return the object in a skops file or a pickle; code of it may run when this is called.

    Args:
        data: the file.
        fmt: what MLmodel says it is; a file that is something else is refused, never tried as that.
        origin: where it comes from.

    Raises:
        CorruptError: it is of another format, or damaged.
    """
    found = sniff(data)
    if fmt == "skops" and found == "skops":
        io = skops_types.skops_io()
        try:
            model = io.loads(data, trusted=skops_types.types_of(data))
        except Exception as error:
            said = " ".join(str(error).split())[:300]
            raise CorruptError(f"{origin} cannot be read: {type(error).__name__}: {said}") from error
        skops_content.check(model, origin)
        return model
    if fmt in {"pickle", "cloudpickle"} and found == "pickle":
        return pickles.load(data, origin)
    raise CorruptError(f"{origin} is no {fmt} file but {found}")


def dump_skops(model: Any, vouched: tuple[str, ...]) -> bytes:
    """Return a model as skops.

    Args:
        model: the estimator.
        vouched: types beyond those known to be harmless that it may hold.

    Raises:
        InvalidValueError: it holds others, or skops cannot write it.
    """
    io = skops_types.skops_io()
    try:
        data: bytes = io.dumps(model)
        odd = skops_types.untrusted(data, vouched)
    except Exception as error:
        raise InvalidValueError(
            f"{type(model).__name__} cannot be saved as skops: {error}",
            hint="serialization_format='cloudpickle' saves it as code",
        ) from error
    if odd:
        raise InvalidValueError(
            f"{type(model).__name__} holds types that would need trust when it is loaded: {', '.join(odd)}",
            hint="name them in skops_trusted_types, or use serialization_format='cloudpickle'",
        )
    return data


def types_for_mlflow(data: bytes, vouched: Any) -> list[str] | None:
    """Return the types beyond skops's own list, which MLflow reads from the model itself."""
    found = skops_types.types_of(data)
    return sorted({*found, *(vouched or ())}) or None


FLAVOR = SklearnFlavor()
