"""Models of Keras 3, on any of its backends.

    >>> import gml.keras
    >>> info = gml.keras.log_model(model, name="model", input_example=X[:5])  # doctest: +SKIP
    >>> model = gml.keras.load_model("models:/churn/Production")  # doctest: +SKIP

They are saved as `.keras` and loaded in safe mode; a layer that runs code makes the model count as code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gml.tracking.models import api, log

if TYPE_CHECKING:
    from pathlib import Path

    from gml.tracking.models.log import ModelInfo

_OPTIONS: Final = frozenset({"allow_code"})


def log_model(
    model: Any,
    name: str | None = None,
    *,
    artifact_path: str | None = None,
    **options: Any,
) -> ModelInfo:
    """Log a model to the active run.

    Args:
        model: a `keras.Model`.
        name: path within the run, `model` by default.
        artifact_path: MLflow's older word for it.
        **options: allow_code (layers such as Lambda), signature, input_example, registered_model_name,
            code_paths, pip_requirements, extra_pip_requirements, conda_env, metadata, params, tags, step,
            parent.

    Raises:
        InvalidValueError: the model cannot be saved so; says what would do.
    """
    return api.log_as("keras", model, name, artifact_path, options, _OPTIONS)


def save_model(model: Any, path: str | Path, **options: Any) -> None:
    """Write a model to a new folder. See `log_model` for the options."""
    api.save_as("keras", model, path, options, _OPTIONS)


def load_model(model_uri: str | Path, *, trust: str = "data") -> Any:
    """Return the Keras model of a model.

    Args:
        model_uri: `models:/NAME/VERSION`, `runs:/RUN/model`, or a folder.
        trust: `code` lets a model run code of its own that nobody approved.
    """
    return log.load_flavor("keras", model_uri, trust=trust)


def autolog(**options: Any) -> None:
    """Log each fit of Keras by itself. The options are those of `gml.autolog`, `exclude` aside.

    Raises:
        UsageError: an unknown option.
    """
    from gml.tracking.autolog.switch import switch

    switch("keras", options)
