"""`gml.autolog` and `gml.FRAMEWORK.autolog`."""

from __future__ import annotations

from typing import Any, Final

from gml.domain.errors import UsageError
from gml.tracking.autolog import boosting, deep, hooks, scikit, session, stats

# framework -> modules that are waited for, and what patches them
_PATCHES: Final = {
    "sklearn": (("sklearn.base",), scikit.patch),
    "xgboost": (("xgboost",), boosting.patch_xgboost),
    "lightgbm": (("lightgbm",), boosting.patch_lightgbm),
    "keras": (("keras",), deep.patch_keras),
    "pytorch": (("lightning.pytorch", "pytorch_lightning"), deep.patch_lightning),
    "statsmodels": (("statsmodels.base.model",), stats.patch),
}


def autolog(
    log_input_examples: bool = True,
    log_model_signatures: bool = True,
    log_models: bool = True,
    disable: bool = False,
    *,
    log_post_training_metrics: bool = True,
    log_plots: bool = True,
    max_tuning_runs: int = 5,
    registered_model_name: str | None = None,
    exclude: tuple[str, ...] = (),
    **more: Any,
) -> None:
    """Log each training of a common framework by itself: params, metrics a step, model, plots.

    scikit-learn, XGBoost, LightGBM, Keras, PyTorch Lightning and statsmodels, imported before or after. A
    fit logs to the active run, or to one of its own. Trouble with logging is a warning; training goes on.

    Args:
        log_input_examples: a few rows of the training data with the model.
        log_model_signatures: the model's signature, inferred from those rows.
        log_models: the model, without code wherever its framework allows.
        disable: stop logging.
        log_post_training_metrics: metrics of the training data.
        log_plots: confusion matrix, curves, importance; needs matplotlib.
        max_tuning_runs: child runs of a search, for its best candidates.
        registered_model_name: register each model under this name when its run has ended.
        exclude: frameworks to leave alone.
        **more: arguments of MLflow that have no meaning here, such as `silent`.

    Raises:
        UsageError: `exclude` names no framework, or an argument is unknown.

    Example:
        >>> gml.autolog()  # doctest: +SKIP
        >>> RandomForestClassifier().fit(X, y)  # doctest: +SKIP
    """
    unknown = sorted(set(exclude) - set(_PATCHES))
    if unknown:
        raise UsageError(f"there is no framework {unknown[0]!r}", hint=f"there are {', '.join(_PATCHES)}")
    given = {
        "log_input_examples": log_input_examples,
        "log_model_signatures": log_model_signatures,
        "log_models": log_models,
        "disable": disable,
        "log_post_training_metrics": log_post_training_metrics,
        "log_plots": log_plots,
        "max_tuning_runs": max_tuning_runs,
        "registered_model_name": registered_model_name,
        **more,
    }
    for framework in _PATCHES:
        if framework not in exclude:
            switch(framework, given)


def switch(framework: str, given: dict[str, Any]) -> None:
    """Switch one framework on, with settings as `autolog` takes them."""
    session.configure(framework, given)
    modules, patch = _PATCHES[framework]
    for module in modules:
        hooks.when_imported(module, patch)
