"""gml: your git repository is the tracking server.

    >>> import gml  # or: import gml as mlflow
    >>> with gml.start_run(run_name="forest"):  # doctest: +SKIP
    ...     gml.log_param("depth", 3)
    ...     gml.log_metric("auc", 0.91)

Everything is loaded when it is first used, so that importing gml costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gml._version import __version__

if TYPE_CHECKING:
    from gml import keras as keras
    from gml import lightgbm as lightgbm
    from gml import models as models
    from gml import onnx as onnx
    from gml import pyfunc as pyfunc
    from gml import pytorch as pytorch
    from gml import registry as registry
    from gml import sklearn as sklearn
    from gml import statsmodels as statsmodels
    from gml import tensorflow as tensorflow
    from gml import transformers as transformers
    from gml import xgboost as xgboost
    from gml.tracking import data as data
    from gml.tracking import plot as plot
    from gml.tracking.active import ActiveRun as ActiveRun
    from gml.tracking.active import batch as batch
    from gml.tracking.autolog.switch import autolog as autolog
    from gml.tracking.filesystem import artifacts as artifacts
    from gml.tracking.fluent import active_run as active_run
    from gml.tracking.fluent import end_run as end_run
    from gml.tracking.fluent import flush as flush
    from gml.tracking.fluent import get_tracking_uri as get_tracking_uri
    from gml.tracking.fluent import last_active_run as last_active_run
    from gml.tracking.fluent import set_experiment as set_experiment
    from gml.tracking.fluent import set_tracking_uri as set_tracking_uri
    from gml.tracking.fluent import start_run as start_run
    from gml.tracking.log import delete_tag as delete_tag
    from gml.tracking.log import get_artifact_uri as get_artifact_uri
    from gml.tracking.log import log_artifact as log_artifact
    from gml.tracking.log import log_artifacts as log_artifacts
    from gml.tracking.log import log_dict as log_dict
    from gml.tracking.log import log_figure as log_figure
    from gml.tracking.log import log_image as log_image
    from gml.tracking.log import log_input as log_input
    from gml.tracking.log import log_inputs as log_inputs
    from gml.tracking.log import log_metric as log_metric
    from gml.tracking.log import log_metrics as log_metrics
    from gml.tracking.log import log_param as log_param
    from gml.tracking.log import log_params as log_params
    from gml.tracking.log import log_table as log_table
    from gml.tracking.log import log_text as log_text
    from gml.tracking.log import set_tag as set_tag
    from gml.tracking.log import set_tags as set_tags
    from gml.tracking.models.log import load_pyfunc as load_model
    from gml.tracking.queries import create_experiment as create_experiment
    from gml.tracking.queries import delete_experiment as delete_experiment
    from gml.tracking.queries import delete_run as delete_run
    from gml.tracking.queries import download_artifacts as download_artifacts
    from gml.tracking.queries import get_experiment as get_experiment
    from gml.tracking.queries import get_experiment_by_name as get_experiment_by_name
    from gml.tracking.queries import get_run as get_run
    from gml.tracking.queries import metric_history as metric_history
    from gml.tracking.queries import restore_run as restore_run
    from gml.tracking.queries import search_experiments as search_experiments
    from gml.tracking.queries import search_runs as search_runs
    from gml.tracking.queries import set_experiment_tag as set_experiment_tag
    from gml.tracking.report.comparison import compare as compare
    from gml.tracking.runset import runs as runs

_ACTIVE = ("ActiveRun", "batch")
_FLUENT = (
    "active_run", "end_run", "flush", "get_tracking_uri", "last_active_run", "set_experiment",
    "set_tracking_uri", "start_run",
)  # fmt: skip
_LOG = (
    "delete_tag", "get_artifact_uri", "log_artifact", "log_artifacts", "log_dict", "log_figure",
    "log_image", "log_input", "log_inputs", "log_metric", "log_metrics", "log_param", "log_params",
    "log_table", "log_text", "set_tag", "set_tags",
)  # fmt: skip
_QUERIES = (
    "create_experiment", "delete_experiment", "delete_run", "download_artifacts", "get_experiment",
    "get_experiment_by_name", "get_run", "metric_history", "restore_run", "search_experiments",
    "search_runs", "set_experiment_tag",
)  # fmt: skip
_HOMES = (
    dict.fromkeys(_ACTIVE, "gml.tracking.active")
    | dict.fromkeys(_FLUENT, "gml.tracking.fluent")
    | dict.fromkeys(_LOG, "gml.tracking.log")
    | dict.fromkeys(_QUERIES, "gml.tracking.queries")
    | {
        "artifacts": "gml.tracking.filesystem",
        "autolog": "gml.tracking.autolog.switch",
        "compare": "gml.tracking.report.comparison",
        "runs": "gml.tracking.runset",
    }
)

_MODULES = (
    "keras", "lightgbm", "models", "onnx", "pyfunc", "pytorch", "registry", "sklearn", "statsmodels",
    "tensorflow", "transformers", "xgboost",
)  # fmt: skip

__all__ = ["__version__", *_HOMES, "data", "load_model", "plot", *_MODULES]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is not None:
        # All at once: a module that cannot be read later must not end a training.
        importlib.import_module("gml.tracking.log")
        value = getattr(importlib.import_module(home), name)
    elif name == "load_model":
        value = importlib.import_module("gml.tracking.models.log").load_pyfunc
    elif name in _MODULES:
        value = importlib.import_module(f"gml.{name}")
    elif name in {"data", "plot"}:
        value = importlib.import_module(f"gml.tracking.{name}")
    else:
        raise AttributeError(f"module 'gml' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
