"""Models of PyTorch.

    >>> import gml.pytorch
    >>> info = gml.pytorch.log_model(model, name="model", input_example=X[:5])  # doctest: +SKIP
    >>> model = gml.pytorch.load_model("models:/churn/Production")  # doctest: +SKIP

Weights are saved as safetensors. A model of PyTorch's own layers is described beside them and holds no code.
A class of your own is a reference, built again with `init_args`, and its module goes along in `code_paths`:
such a model counts as code. `serialization_format="pickle"` saves what MLflow reads without gml.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gml.tracking.models import api, log

if TYPE_CHECKING:
    from pathlib import Path

    from gml.tracking.models.log import ModelInfo

_OPTIONS: Final = frozenset({"init_args"})


def log_model(
    pytorch_model: Any,
    name: str | None = None,
    *,
    artifact_path: str | None = None,
    **options: Any,
) -> ModelInfo:
    """Log a module to the active run.

    Args:
        pytorch_model: a `torch.nn.Module`.
        name: path within the run, `model` by default.
        artifact_path: MLflow's older word for it.
        **options: init_args (arguments of a class of your own), serialization_format (`safetensors`,
            `pickle`), signature, input_example, registered_model_name, code_paths, pip_requirements,
            extra_pip_requirements, conda_env, metadata, params, tags, step, parent.

    Raises:
        InvalidValueError: the model cannot be saved so; says what would do.
    """
    return api.log_as("pytorch", pytorch_model, name, artifact_path, options, _OPTIONS)


def save_model(pytorch_model: Any, path: str | Path, **options: Any) -> None:
    """Write a module to a new folder. See `log_model` for the options."""
    api.save_as("pytorch", pytorch_model, path, options, _OPTIONS)


def load_model(model_uri: str | Path, *, trust: str = "data", trusted_types: tuple[str, ...] = ()) -> Any:
    """Return the module of a model.

    Args:
        model_uri: `models:/NAME/VERSION`, `runs:/RUN/model`, or a folder.
        trust: `code` lets a model run code of its own that nobody approved.
        trusted_types: the class that you vouch for, such as `net.Net`, instead of `trust`.
    """
    return log.load_flavor("pytorch", model_uri, trust=trust, trusted_types=trusted_types)


def autolog(**options: Any) -> None:
    """Log each fit of PyTorch Lightning by itself. The options are those of `gml.autolog`, `exclude` aside.

    Raises:
        UsageError: an unknown option.
    """
    from gml.tracking.autolog.switch import switch

    switch("pytorch", options)
