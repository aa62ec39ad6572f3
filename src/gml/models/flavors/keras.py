"""Keras 3: the `.keras` archive in safe mode, with no layer that runs code or reads other files."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import CorruptError, InvalidValueError
from gml.models.flavor import Expected, LoadOptions, Predict, Saved, need
from gml.models.flavors import keras_archive

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from gml.models.files import ModelFiles

_FILE: Final = "data/model.keras"


class KerasFlavor:
    """Models of Keras 3, on any of its backends."""

    name = "keras"
    loaders = ("mlflow.keras",)
    formats = ("keras",)
    needs = "gitml[keras]"

    def can_save(self, model: Any) -> bool:
        """Whether it is a `keras.Model`."""
        return any(
            base.__name__ == "Model" and base.__module__.startswith(("keras.src.models", "keras.models"))
            for base in type(model).__mro__
        )

    def save(self, model: Any, folder: Path, fmt: str, options: Mapping[str, Any]) -> Saved:  # noqa: ARG002
        """Write `data/model.keras`."""
        keras = need("keras", self.needs)
        (folder / "data").mkdir()
        try:
            model.save(folder / _FILE)
        except Exception as error:
            raise InvalidValueError(f"{type(model).__name__} cannot be saved: {error}") from error
        found = keras_archive.odd((folder / _FILE).read_bytes())
        if found and not options.get("allow_code"):
            raise InvalidValueError(
                f"the model would need trust when it is loaded: {found[0]}",
                hint="use layers of keras's own, or allow_code=True",
            )
        (folder / "data" / "keras_module.txt").write_text("keras", encoding="utf-8")
        conf = {
            "data": "data",
            "keras_version": keras.__version__,
            "keras_backend": keras.backend.backend(),
            "save_exported_model": False,
        }
        backend = {"tensorflow": "tensorflow", "torch": "torch", "jax": "jax"}.get(conf["keras_backend"])
        return Saved(
            conf,
            {"loader_module": "mlflow.keras"},
            ("keras", "numpy", *((backend,) if backend else ())),
        )

    def expected(self, conf: Mapping[str, Any], files: ModelFiles) -> Iterable[Expected]:
        """Return the archive; an exported SavedModel is code."""
        return [Expected(_data_file(conf, files), ("keras",))]

    def judge(self, conf: Mapping[str, Any], files: ModelFiles, options: LoadOptions) -> Iterable[str]:  # noqa: ARG002
        """Return each layer that runs code or reads files."""
        return keras_archive.odd(files.read(_data_file(conf, files)))

    def load(self, files: ModelFiles, conf: Mapping[str, Any], options: LoadOptions) -> Any:
        """Return the model."""
        keras = need("keras", self.needs)
        name = _data_file(conf, files)
        if not name.endswith(".keras"):
            raise CorruptError(
                f"{name} of {files.origin} is no .keras file", hint="save it with model.save()"
            )
        saving = importlib.import_module("keras.saving")
        # Keras reads paths only. Its own safe mode stays on unless code may run.
        copied = files.copy(name, owner=keras)
        try:
            return saving.load_model(copied / name, safe_mode=not options.code)
        except Exception as error:
            said = " ".join(str(error).split())[:300]
            raise CorruptError(
                f"{name} of {files.origin} cannot be read by Keras: {type(error).__name__}: {said}"
            ) from error

    def as_loaded(self, model: Any, options: Mapping[str, Any]) -> Any:  # noqa: ARG002
        """Return the model itself."""
        return model

    def predictor(self, native: Any, conf: Mapping[str, Any], pyfunc: Mapping[str, Any]) -> Predict:  # noqa: ARG002
        """Return its `predict`; of a table the outputs are a table too."""

        def predict(data: Any, params: dict[str, Any] | None) -> Any:  # noqa: ARG001
            import numpy as np
            import pandas as pd

            if isinstance(data, pd.DataFrame):
                return pd.DataFrame(native.predict(data.to_numpy(), verbose=0), index=data.index)
            values = (
                {k: np.asarray(v) for k, v in data.items()} if isinstance(data, dict) else np.asarray(data)
            )
            return native.predict(values, verbose=0)

        return predict


def _data_file(conf: Mapping[str, Any], files: ModelFiles) -> str:
    data = str(conf.get("data", "data"))
    for name in (data, f"{data}.keras", f"{data}/model.keras"):
        if name in files:
            return name
    below = files.below(data)
    return next((name for name in below if name.endswith("saved_model.pb")), f"{data}/model.keras")


FLAVOR = KerasFlavor()
