"""Models as functions, whatever their framework; and models written in Python.

    >>> import gml.pyfunc
    >>> class Threshold(gml.pyfunc.PythonModel):
    ...     def predict(self, model_input, params=None):
    ...         return model_input > 0.5
    >>> gml.pyfunc.log_model(python_model=Threshold(), name="model")  # doctest: +SKIP
    >>> gml.pyfunc.load_model("models:/churn/4").predict(table)  # doctest: +SKIP

A model written in Python carries its code, so it loads only when its version is approved, or with
`trust="code"`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import UsageError
from gml.models.loaded import PyFuncModel
from gml.models.python_model import PythonModel, PythonModelContext
from gml.tracking.models import api
from gml.tracking.models.log import load_pyfunc as load_model

if TYPE_CHECKING:
    from pathlib import Path

    from gml.tracking.models.log import ModelInfo

__all__ = ["PyFuncModel", "PythonModel", "PythonModelContext", "load_model", "log_model", "save_model"]

_OPTIONS: Final = frozenset({"artifacts", "model_config"})


def log_model(
    name: str | None = None,
    python_model: Any = None,
    *,
    artifact_path: str | None = None,
    **options: Any,
) -> ModelInfo:
    """Log a model written in Python to the active run.

    Args:
        name: path within the run, `model` by default.
        python_model: a `PythonModel`, a function, or the path of a script that calls `gml.models.set_model`.
        artifact_path: MLflow's older word for the name.
        **options: artifacts (name -> path of a file to save with it), model_config, signature, input_example,
            registered_model_name, code_paths, pip_requirements, extra_pip_requirements, conda_env, metadata,
            params, tags, step, parent.

    Raises:
        UsageError: there is no model.
    """
    return api.log_as("pyfunc", _given(python_model), name, artifact_path, options, _OPTIONS)


def save_model(path: str | Path, python_model: Any = None, **options: Any) -> None:
    """Write a model written in Python to a new folder. See `log_model` for the options."""
    api.save_as("pyfunc", _given(python_model), path, options, _OPTIONS)


def _given(python_model: Any) -> Any:
    if python_model is None:
        raise UsageError("there is no model", hint="python_model=...: a PythonModel, a function or a script")
    return python_model
