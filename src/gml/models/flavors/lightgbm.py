"""LightGBM: a booster as its own text, an estimator as skops around that text; pickles when asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import CorruptError
from gml.models.flavor import Expected, LoadOptions, Predict, Saved, need
from gml.models.flavors import pickles, skops_types
from gml.models.flavors.sklearn import dump_skops, load_object, types_for_mlflow

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from gml.models.files import ModelFiles

_BOOSTER: Final = "lightgbm.basic.Booster"


class LightgbmFlavor:
    """Boosters and estimators of LightGBM."""

    name = "lightgbm"
    loaders = ("mlflow.lightgbm",)
    formats = ("text", "cloudpickle", "pickle")
    needs = "gitml[lightgbm]"

    def can_save(self, model: Any) -> bool:
        """Whether a class of lightgbm is among its bases."""
        names = {f"{base.__module__}.{base.__qualname__}" for base in type(model).__mro__}
        return bool(names & {_BOOSTER, "lightgbm.sklearn.LGBMModel"})

    def save(self, model: Any, folder: Path, fmt: str, options: Mapping[str, Any]) -> Saved:
        """Write `model.lgb`, `model.skops` or `model.pkl`."""
        lightgbm = need("lightgbm", self.needs)
        booster = isinstance(model, lightgbm.Booster)
        vouched = options.get("skops_trusted_types")
        conf: dict[str, Any] = {
            "lgb_version": lightgbm.__version__,
            "model_class": f"{type(model).__module__}.{type(model).__qualname__}",
            "serialization_format": None if booster else fmt,
            "code": None,
        }
        packages = ("lightgbm", "numpy", "pandas", *(() if booster else ("scikit-learn",)))
        if booster:
            name, data = "model.lgb", model.model_to_string().encode()
        elif fmt == "text":
            name, data = "model.skops", dump_skops(model, tuple(vouched or ()))
            found = types_for_mlflow(data, vouched)
            conf |= {"serialization_format": "skops", "skops_trusted_types": found}
            packages += ("skops",)
        else:
            name, data = "model.pkl", pickles.dump(model, fmt)
            packages += ("cloudpickle",) if fmt == "cloudpickle" else ()
        (folder / name).write_bytes(data)
        return Saved({**conf, "data": name}, {"loader_module": "mlflow.lightgbm", "data": name}, packages)

    def expected(self, conf: Mapping[str, Any], files: ModelFiles) -> Iterable[Expected]:  # noqa: ARG002
        """Return the model's file."""
        return [Expected(str(conf.get("data")), (self._wanted(conf),))]

    def _wanted(self, conf: Mapping[str, Any]) -> str:
        booster = conf.get("model_class", _BOOSTER) == _BOOSTER
        return "lightgbm" if booster else "skops"

    def judge(self, conf: Mapping[str, Any], files: ModelFiles, options: LoadOptions) -> Iterable[str]:
        """Return the types of a skops file that nobody vouched for."""
        if self._wanted(conf) == "lightgbm":
            return []
        name = str(conf.get("data"))
        found = skops_types.untrusted(files.read(name), options.trusted_types)
        return [f"{name} holds the types {', '.join(found[:10])}"] if found else []

    def load(self, files: ModelFiles, conf: Mapping[str, Any], options: LoadOptions) -> Any:  # noqa: ARG002
        """Return the booster or estimator."""
        lightgbm = need("lightgbm", self.needs)
        name = str(conf.get("data"))
        if self._wanted(conf) == "skops":
            fmt = str(conf.get("serialization_format") or "cloudpickle")
            return load_object(files.read(name), fmt, f"{name} of {files.origin}")
        text = files.read(name)
        # LightGBM ends the process on some texts that were cut, so their end is looked at first.
        if b"\nend of trees" not in text or b"\nend of parameters" not in text:
            raise CorruptError(f"{name} of {files.origin} is cut: its trees or parameters do not end")
        try:
            return lightgbm.Booster(model_str=text.decode())
        except (lightgbm.basic.LightGBMError, UnicodeDecodeError, ValueError) as error:
            said = " ".join(str(error).split())[:200]
            raise CorruptError(f"{name} of {files.origin} cannot be read by LightGBM: {said}") from error

    def as_loaded(self, model: Any, options: Mapping[str, Any]) -> Any:  # noqa: ARG002
        """Return the model itself."""
        return model

    def predictor(self, native: Any, conf: Mapping[str, Any], pyfunc: Mapping[str, Any]) -> Predict:  # noqa: ARG002
        """Return its `predict`."""
        return lambda data, params: native.predict(data)  # noqa: ARG005


FLAVOR = LightgbmFlavor()
