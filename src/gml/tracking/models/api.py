"""The functions that every module of a flavor has: `log_model`, `save_model`, `load_model`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import UsageError
from gml.models.flavor import get_flavor
from gml.models.save import SaveOptions
from gml.models.save import save_model as save_folder
from gml.tracking.models import log

if TYPE_CHECKING:
    from pathlib import Path

    from gml.tracking.models.log import ModelInfo

# Arguments of MLflow that have no meaning here.
_IGNORED: Final = frozenset(
    {"await_registration_for", "model_type", "model_id", "mlflow_model", "resources", "auth_policy",
     "prompts", "env_vars", "uv_project_path", "uv_groups", "uv_extras"}
)  # fmt: skip
_SAVE: Final = frozenset(
    {"signature", "input_example", "code_paths", "pip_requirements", "extra_pip_requirements", "conda_env",
     "metadata"}
)  # fmt: skip
_LOG: Final = frozenset({"registered_model_name", "step", "params", "tags", "parent", "run_id"})


def _split(flavor: str, given: dict[str, Any], known: frozenset[str]) -> tuple[SaveOptions, dict[str, Any]]:
    """Return how to save and what else was given; arguments nobody knows are refused.

    Raises:
        UsageError: an unknown argument.
    """
    save = {key: given.pop(key) for key in list(given) if key in _SAVE and given[key] is not None}
    fmt = (
        given.pop("serialization_format", None)
        or given.pop("model_format", None)
        or given.pop("format", None)
    )
    log_options = {key: given.pop(key) for key in list(given) if key in _LOG}
    options = {key: given.pop(key) for key in list(given) if key in known}
    unknown = sorted(set(given) - _IGNORED)
    if unknown:
        raise UsageError(
            f"gml.{flavor} has no argument {unknown[0]!r}",
            hint=f"it has {', '.join(sorted(known | _SAVE | _LOG))}",
        )
    kept = {key: value for key, value in options.items() if value is not None}
    return SaveOptions(fmt=fmt, options=kept, **save), log_options


def log_as(
    flavor: str,
    model: Any,
    name: str | None,
    artifact_path: str | None,
    options: dict[str, Any],
    known: frozenset[str] = frozenset(),
) -> ModelInfo:
    """Log a model with a flavor. See `gml.tracking.models.log.log_model`."""
    saving, logging_options = _split(flavor, dict(options), known)
    chosen = get_flavor("python_function" if flavor == "pyfunc" else flavor)
    return log.log_model(model, chosen, name or artifact_path or "model", saving, **logging_options)


def save_as(
    flavor: str,
    model: Any,
    path: str | Path,
    options: dict[str, Any],
    known: frozenset[str] = frozenset(),
) -> None:
    """Write a model folder. See `gml.models.save.save_model`."""
    saving, rest = _split(flavor, dict(options), known)
    unknown = sorted(key for key in rest if key not in {"params", "tags", "step"})
    if unknown:
        raise UsageError(f"save_model has no argument {unknown[0]!r}", hint="log_model has it")
    save_folder(model, path, get_flavor("python_function" if flavor == "pyfunc" else flavor), saving)
