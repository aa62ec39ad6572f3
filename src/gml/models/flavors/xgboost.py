"""XGBoost: UBJSON by default, JSON when asked for; boosters and the estimators around them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import CorruptError, InvalidValueError
from gml.models.flavor import Expected, LoadOptions, Predict, Saved, need

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from gml.models.files import ModelFiles

_BOOSTER: Final = "xgboost.core.Booster"
_CLASSES: Final = (
    _BOOSTER,
    *(
        f"xgboost.sklearn.{name}"
        for name in (
            "XGBModel", "XGBClassifier", "XGBRegressor", "XGBRanker", "XGBRFClassifier", "XGBRFRegressor",
        )
    ),
)  # fmt: skip


class XgboostFlavor:
    """Boosters and estimators of XGBoost."""

    name = "xgboost"
    loaders = ("mlflow.xgboost",)
    formats = ("ubj", "json")
    needs = "gitml[xgboost]"

    def can_save(self, model: Any) -> bool:
        """Whether it is a booster or an estimator of xgboost's own."""
        return any(_class_name(base) in _CLASSES for base in type(model).__mro__)

    def save(self, model: Any, folder: Path, fmt: str, options: Mapping[str, Any]) -> Saved:  # noqa: ARG002
        """Write `model.ubj` or `model.json`."""
        version = need("xgboost", self.needs).__version__
        kind = next((name for base in type(model).__mro__ if (name := _class_name(base)) in _CLASSES), "")
        if kind != _class_name(type(model)):
            raise InvalidValueError(
                f"{type(model).__name__} is a class of your own on top of {kind.rpartition('.')[2]}",
                hint="save model.get_booster(), or gml.sklearn with serialization_format='cloudpickle'",
            )
        name = f"model.{fmt}"
        try:
            model.save_model(folder / name)
        except Exception as error:
            raise InvalidValueError(
                f"{type(model).__name__} cannot be saved: {' '.join(str(error).split())[:200]}",
                hint="fit it first",
            ) from error
        conf = {"xgb_version": version, "data": name, "model_class": kind, "model_format": fmt, "code": None}
        packages = ("xgboost", "numpy", "pandas", *(("scikit-learn",) if kind != _BOOSTER else ()))
        return Saved(conf, {"loader_module": "mlflow.xgboost", "data": name}, packages)

    def expected(self, conf: Mapping[str, Any], files: ModelFiles) -> Iterable[Expected]:  # noqa: ARG002
        """Return the model's file."""
        return [Expected(str(conf.get("data")), ("xgboost-ubj", "xgboost-json"))]

    def judge(self, conf: Mapping[str, Any], files: ModelFiles, options: LoadOptions) -> Iterable[str]:  # noqa: ARG002
        """Return a reason where MLmodel names a class that is not xgboost's."""
        kind = str(conf.get("model_class", _BOOSTER))
        return [] if kind in _CLASSES else [f"the class {kind}, which is not one of XGBoost's"]

    def load(self, files: ModelFiles, conf: Mapping[str, Any], options: LoadOptions) -> Any:  # noqa: ARG002
        """Return the booster or estimator."""
        xgboost = need("xgboost", self.needs)
        kind = str(conf.get("model_class", _BOOSTER))
        name = str(conf.get("data"))
        if kind not in _CLASSES:
            raise CorruptError(f"MLmodel of {files.origin} names {kind}, which XGBoost does not have")
        try:
            model = getattr(xgboost, kind.rpartition(".")[2])()
            model.load_model(bytearray(files.read(name)))
        except Exception as error:
            said = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
            raise CorruptError(f"{name} of {files.origin} cannot be read by XGBoost: {said}") from error
        return model

    def as_loaded(self, model: Any, options: Mapping[str, Any]) -> Any:  # noqa: ARG002
        """Return the model itself."""
        return model

    def predictor(self, native: Any, conf: Mapping[str, Any], pyfunc: Mapping[str, Any]) -> Predict:  # noqa: ARG002
        """Return its `predict`; params go to it."""
        xgboost = need("xgboost", self.needs)
        if isinstance(native, xgboost.Booster):
            return lambda data, params: native.predict(
                data if isinstance(data, xgboost.DMatrix) else xgboost.DMatrix(data), **(params or {})
            )
        return lambda data, params: native.predict(data, **(params or {}))


def _class_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


FLAVOR = XgboostFlavor()
