"""Models of scikit-learn.

    >>> import gml.sklearn
    >>> info = gml.sklearn.log_model(model, name="model", input_example=X[:5])  # doctest: +SKIP
    >>> model = gml.sklearn.load_model("models:/churn/Production")  # doctest: +SKIP

They are saved as skops, which holds no code. `serialization_format="cloudpickle"` saves what skops cannot;
such a model counts as code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gml.tracking.models import api, log

if TYPE_CHECKING:
    from pathlib import Path

    from gml.tracking.models.log import ModelInfo

_OPTIONS: Final = frozenset({"pyfunc_predict_fn", "skops_trusted_types"})


def log_model(
    sk_model: Any,
    name: str | None = None,
    *,
    artifact_path: str | None = None,
    **options: Any,
) -> ModelInfo:
    """Log an estimator to the active run.

    Args:
        sk_model: a fitted estimator or pipeline.
        name: path within the run, `model` by default.
        artifact_path: MLflow's older word for it.
        **options: signature, input_example, registered_model_name, serialization_format (`skops`,
            `cloudpickle`, `pickle`), pyfunc_predict_fn, skops_trusted_types, code_paths, pip_requirements,
            extra_pip_requirements, conda_env, metadata, params, tags, step, parent.

    Raises:
        InvalidValueError: the model cannot be saved so; says what would do.
    """
    return api.log_as("sklearn", sk_model, name, artifact_path, options, _OPTIONS)


def save_model(sk_model: Any, path: str | Path, **options: Any) -> None:
    """Write an estimator to a new folder. See `log_model` for the options."""
    api.save_as("sklearn", sk_model, path, options, _OPTIONS)


def load_model(model_uri: str | Path, *, trust: str = "data", trusted_types: tuple[str, ...] = ()) -> Any:
    """Return the estimator of a model.

    Args:
        model_uri: `models:/NAME/VERSION`, `runs:/RUN/model`, or a folder.
        trust: `code` lets a pickle be loaded that nobody approved.
        trusted_types: types of a skops file that you vouch for.
    """
    return log.load_flavor("sklearn", model_uri, trust=trust, trusted_types=trusted_types)


def autolog(**options: Any) -> None:
    """Log each fit of scikit-learn by itself. The options are those of `gml.autolog`, `exclude` aside.

    Raises:
        UsageError: an unknown option.
    """
    from gml.tracking.autolog.switch import switch

    switch("sklearn", options)
