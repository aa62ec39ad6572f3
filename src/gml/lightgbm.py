"""Models of LightGBM.

    >>> import gml.lightgbm
    >>> info = gml.lightgbm.log_model(model, name="model", input_example=X[:5])  # doctest: +SKIP
    >>> model = gml.lightgbm.load_model("models:/churn/Production")  # doctest: +SKIP

A booster is saved as LightGBM's text, an estimator as skops around that text; neither holds code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gml.tracking.models import api, log

if TYPE_CHECKING:
    from pathlib import Path

    from gml.tracking.models.log import ModelInfo

_OPTIONS: Final = frozenset({"skops_trusted_types"})


def log_model(
    lgb_model: Any,
    name: str | None = None,
    *,
    artifact_path: str | None = None,
    **options: Any,
) -> ModelInfo:
    """Log a booster or estimator to the active run.

    Args:
        lgb_model: a trained `Booster`, `LGBMClassifier`, ….
        name: path within the run, `model` by default.
        artifact_path: MLflow's older word for it.
        **options: serialization_format (`text`, `cloudpickle`, `pickle`), skops_trusted_types, signature,
            input_example, registered_model_name, code_paths, pip_requirements,
            extra_pip_requirements, conda_env, metadata, params, tags, step, parent.

    Raises:
        InvalidValueError: the model cannot be saved so; says what would do.
    """
    return api.log_as("lightgbm", lgb_model, name, artifact_path, options, _OPTIONS)


def save_model(lgb_model: Any, path: str | Path, **options: Any) -> None:
    """Write a booster or estimator to a new folder. See `log_model` for the options."""
    api.save_as("lightgbm", lgb_model, path, options, _OPTIONS)


def load_model(model_uri: str | Path, *, trust: str = "data", trusted_types: tuple[str, ...] = ()) -> Any:
    """Return the booster or estimator of a model.

    Args:
        model_uri: `models:/NAME/VERSION`, `runs:/RUN/model`, or a folder.
        trust: `code` lets a model run code of its own that nobody approved.
        trusted_types: types of a skops file that you vouch for.
    """
    return log.load_flavor("lightgbm", model_uri, trust=trust, trusted_types=trusted_types)


def autolog(**options: Any) -> None:
    """Log each training of LightGBM by itself. The options are those of `gml.autolog`, `exclude` aside.

    Raises:
        UsageError: an unknown option.
    """
    from gml.tracking.autolog.switch import switch

    switch("lightgbm", options)
