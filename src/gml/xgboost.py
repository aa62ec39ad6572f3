"""Models of XGBoost.

    >>> import gml.xgboost
    >>> info = gml.xgboost.log_model(model, name="model", input_example=X[:5])  # doctest: +SKIP
    >>> model = gml.xgboost.load_model("models:/churn/Production")  # doctest: +SKIP

They are saved as UBJSON, or JSON with `model_format="json"`; neither holds code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gml.tracking.models import api, log

if TYPE_CHECKING:
    from pathlib import Path

    from gml.tracking.models.log import ModelInfo

_OPTIONS: Final[frozenset[str]] = frozenset()


def log_model(
    xgb_model: Any,
    name: str | None = None,
    *,
    artifact_path: str | None = None,
    **options: Any,
) -> ModelInfo:
    """Log a booster or estimator to the active run.

    Args:
        xgb_model: a trained `Booster`, `XGBClassifier`, ….
        name: path within the run, `model` by default.
        artifact_path: MLflow's older word for it.
        **options: model_format (`ubj`, `json`), signature, input_example, registered_model_name, code_paths,
            pip_requirements, extra_pip_requirements, conda_env, metadata, params, tags, step, parent.

    Raises:
        InvalidValueError: the model cannot be saved so; says what would do.
    """
    return api.log_as("xgboost", xgb_model, name, artifact_path, options, _OPTIONS)


def save_model(xgb_model: Any, path: str | Path, **options: Any) -> None:
    """Write a booster or estimator to a new folder. See `log_model` for the options."""
    api.save_as("xgboost", xgb_model, path, options, _OPTIONS)


def load_model(model_uri: str | Path, *, trust: str = "data") -> Any:
    """Return the booster or estimator of a model.

    Args:
        model_uri: `models:/NAME/VERSION`, `runs:/RUN/model`, or a folder.
        trust: `code` lets a model run code of its own that nobody approved.
    """
    return log.load_flavor("xgboost", model_uri, trust=trust)


def autolog(**options: Any) -> None:
    """Log each training of XGBoost by itself. The options are those of `gml.autolog`, `exclude` aside.

    Raises:
        UsageError: an unknown option.
    """
    from gml.tracking.autolog.switch import switch

    switch("xgboost", options)
