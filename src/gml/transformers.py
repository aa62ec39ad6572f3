"""Models of Transformers.

    >>> import gml.transformers
    >>> info = gml.transformers.log_model(model, name="model", input_example=["a text"])  # doctest: +SKIP
    >>> model = gml.transformers.load_model("models:/churn/Production")  # doctest: +SKIP

Weights are saved as safetensors; code from a hub is neither saved nor run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gml.tracking.models import api, log

if TYPE_CHECKING:
    from pathlib import Path

    from gml.tracking.models.log import ModelInfo

_OPTIONS: Final = frozenset({"task"})


def log_model(
    transformers_model: Any,
    name: str | None = None,
    *,
    artifact_path: str | None = None,
    **options: Any,
) -> ModelInfo:
    """Log a pipeline to the active run.

    Args:
        transformers_model: a pipeline, or a dict of `model` and `tokenizer` with `task`.
        name: path within the run, `model` by default.
        artifact_path: MLflow's older word for it.
        **options: signature, input_example, registered_model_name, task, code_paths, pip_requirements,
            extra_pip_requirements, conda_env, metadata, params, tags, step, parent.

    Raises:
        InvalidValueError: the model cannot be saved so; says what would do.
    """
    return api.log_as("transformers", transformers_model, name, artifact_path, options, _OPTIONS)


def save_model(transformers_model: Any, path: str | Path, **options: Any) -> None:
    """Write a pipeline to a new folder. See `log_model` for the options."""
    api.save_as("transformers", transformers_model, path, options, _OPTIONS)


def load_model(model_uri: str | Path, *, trust: str = "data") -> Any:
    """Return the pipeline of a model.

    Args:
        model_uri: `models:/NAME/VERSION`, `runs:/RUN/model`, or a folder.
        trust: `code` lets a model run code of its own that nobody approved.
    """
    return log.load_flavor("transformers", model_uri, trust=trust)
