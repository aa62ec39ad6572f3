"""`gml models convert`: the same model in a format without code, checked on its input example."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import InvalidValueError, UsageError
from gml.models.files import ModelFiles
from gml.models.flavor import LoadOptions, flavor_of, get_flavor, need
from gml.models.loaded import load_model, load_native
from gml.models.save import SaveOptions, save_model

if TYPE_CHECKING:
    from pathlib import Path

    from gml.models.mlmodel import MLmodel

TARGETS: Final = ("onnx", "safetensors", "skops")


def convert(files: ModelFiles, target: str, folder: str | Path, options: LoadOptions) -> MLmodel:
    """Write a model in another format to a new folder.

    Args:
        files: the model.
        target: `onnx` (of scikit-learn), `safetensors` (of PyTorch), `skops` (of scikit-learn).
        folder: where to.
        options: how far the model may be trusted while it is loaded.

    Raises:
        UsageError: there is no way from this model to that format.
        InvalidValueError: it cannot be converted, or predicts otherwise afterwards.
        TrustError: loading it would run code that nobody approved.
    """
    import shutil

    mlmodel = files.mlmodel()
    chosen = flavor_of(mlmodel.flavors)
    name = chosen[0].name if chosen is not None else str(mlmodel.pyfunc.get("loader_module"))
    made = {
        ("sklearn", "onnx"): "onnx", ("sklearn", "skops"): "sklearn", ("pytorch", "safetensors"): "pytorch",
    }.get((name, target))  # fmt: skip
    if made is None:
        raise UsageError(
            f"there is no way from {name} to {target}",
            hint="sklearn to onnx or skops, pytorch to safetensors",
        )
    loaded = load_model(files, options)
    native = load_native(files, name, options)
    example = loaded.input_example
    written = _to_onnx(native, example) if made == "onnx" else native
    saving = SaveOptions(
        fmt=None if made == "onnx" else target,
        signature=False if made == "onnx" and example is None else _kept(mlmodel, made),
        input_example=_narrow(example) if made == "onnx" else example,
        metadata={**(mlmodel.metadata or {}), "converted_from": loaded.digest},
    )
    result = save_model(written, folder, get_flavor(made), saving)
    if example is not None:
        again = load_model(ModelFiles.of_folder(folder))
        before, after = (
            loaded.predict(example),
            again.predict(_narrow(example) if made == "onnx" else example),
        )
        if not _same(before, after):
            shutil.rmtree(folder, ignore_errors=True)
            raise InvalidValueError(f"as {target} the model predicts otherwise, so it was not written")
    return result


def _kept(mlmodel: MLmodel, made: str) -> Any:
    """Return the signature of a model that takes the same data as before; inferred for ONNX."""
    return None if made == "onnx" else mlmodel.signature or False


def _narrow(example: Any) -> Any:
    """Return an example as the 32-bit array that the ONNX model takes."""
    import numpy as np

    return None if example is None else np.asarray(example, dtype=np.float32)


def _to_onnx(native: Any, example: Any) -> Any:
    skl2onnx = need("skl2onnx", "skl2onnx")
    width = getattr(native, "n_features_in_", None)
    if width is None:
        raise InvalidValueError("the estimator does not say how many features it has")
    kind = skl2onnx.common.data_types.FloatTensorType([None, int(width)])
    if example is not None and not all(one.kind in "fiub" for one in _types(example)):
        raise InvalidValueError("the model takes columns that are not numbers", hint="ONNX takes tensors")
    classifier = hasattr(native, "classes_")
    try:
        return skl2onnx.convert_sklearn(
            native,
            initial_types=[("input", kind)],
            options={id(native): {"zipmap": False}} if classifier else None,
        )
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise InvalidValueError(f"skl2onnx cannot convert {type(native).__name__}: {said}") from error


def _types(example: Any) -> list[Any]:
    import numpy as np

    if hasattr(example, "dtypes") and not hasattr(example, "dtype"):
        return list(example.dtypes)
    return [np.asarray(example).dtype]


def _same(before: Any, after: Any) -> bool:
    import numpy as np

    first = next(iter(after.values())) if isinstance(after, dict) else after
    left, right = np.asarray(before), np.asarray(first)
    if left.size != right.size:
        return False
    left, right = left.reshape(-1), right.reshape(-1)
    if left.dtype.kind in "fc":
        return bool(np.allclose(left, right, rtol=1e-3, atol=1e-5))
    return bool((left == right).all())
