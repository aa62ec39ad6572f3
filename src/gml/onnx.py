"""Models of ONNX.

    >>> import gml.onnx
    >>> info = gml.onnx.log_model(model, name="model", input_example=X[:5])  # doctest: +SKIP
    >>> model = gml.onnx.load_model("models:/churn/Production")  # doctest: +SKIP

They are scored by ONNX Runtime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gml.tracking.models import api, log

if TYPE_CHECKING:
    from pathlib import Path

    from gml.tracking.models.log import ModelInfo

_OPTIONS: Final = frozenset({"onnx_execution_providers", "onnx_session_options"})


def log_model(
    onnx_model: Any,
    name: str | None = None,
    *,
    artifact_path: str | None = None,
    **options: Any,
) -> ModelInfo:
    """Log a model to the active run.

    Args:
        onnx_model: an `onnx.ModelProto`.
        name: path within the run, `model` by default.
        artifact_path: MLflow's older word for it.
        **options: signature, input_example, registered_model_name, onnx_execution_providers,
            onnx_session_options, code_paths, pip_requirements,
            extra_pip_requirements, conda_env, metadata, params, tags, step, parent.

    Raises:
        InvalidValueError: the model cannot be saved so; says what would do.
    """
    return api.log_as("onnx", onnx_model, name, artifact_path, options, _OPTIONS)


def save_model(onnx_model: Any, path: str | Path, **options: Any) -> None:
    """Write a model to a new folder. See `log_model` for the options."""
    api.save_as("onnx", onnx_model, path, options, _OPTIONS)


def load_model(model_uri: str | Path, *, trust: str = "data") -> Any:
    """Return the model, with its `session` and its `model` of the package onnx, of a model.

    Args:
        model_uri: `models:/NAME/VERSION`, `runs:/RUN/model`, or a folder.
        trust: `code` lets a model run code of its own that nobody approved.
    """
    return log.load_flavor("onnx", model_uri, trust=trust)
