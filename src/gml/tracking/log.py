"""The logging half of the Python API: metrics, params, tags, files and data sets of the active run.

Bad arguments raise at once. Trouble with storage, network or git never raises: it is logged as a
warning, and what was logged waits in the journal.
"""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from gml.domain.errors import CorruptError, InvalidValueError, RepositoryError, StorageError
from gml.domain.names import check_artifact_path
from gml.tracking import active, artifacts, start
from gml.tracking.fluent import move_to_chosen, start_run
from gml.tracking.recorder import check_timestamp

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from gml.tracking.active import ActiveRun
    from gml.tracking.recorder import Recorder

log = logging.getLogger("gml")

P = ParamSpec("P")
T = TypeVar("T")


def _survives(function: Callable[P, T]) -> Callable[P, T | None]:
    """Turn storage trouble into a warning: training never dies of tracking."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T | None:
        try:
            return function(*args, **kwargs)
        except (StorageError, CorruptError, RepositoryError, OSError) as error:
            log.warning("gml: %s: %s", function.__name__, error)
            return None

    return call


def _recorder(run_id: str | None = None) -> Recorder:
    """Return the recorder that a logging call goes to, starting a run when none is active."""
    if run_id is not None:
        return _other(run_id)
    run = active.current() or _join_inherited()
    return (run or start_run()).recorder


def _join_inherited() -> ActiveRun | None:
    run = active.join_inherited()
    if run is not None:
        move_to_chosen(run.recorder)
    return run


def _other(run_id: str) -> Recorder:
    for run in (active.current(), *active.stack()):
        if run is not None and run.run_id == run_id:
            return run.recorder
    return start.resume(active.workspace(), run_id)


class _Target:
    """The recorder of a call; one that was opened for another run's id is closed after it."""

    def __init__(self, run_id: str | None) -> None:
        self._recorder = _recorder(run_id)
        self._borrowed = run_id is None or any(r.recorder is self._recorder for r in active._all)  # noqa: SLF001

    def __enter__(self) -> Recorder:
        return self._recorder

    def __exit__(self, *_: object) -> None:
        if not self._borrowed:
            self._recorder.end(None)


def log_metric(
    key: str,
    value: float,
    step: int | None = None,
    synchronous: bool | None = None,  # noqa: ARG001
    timestamp: int | None = None,
    run_id: str | None = None,
) -> None:
    """Log one metric value.

    What this call returned from survives the death of the process.

    Args:
        key: name, such as `auc` or `train/loss`.
        value: number; NaN and infinities are legal.
        step: position on the x axis, 0 by default.
        synchronous: accepted for MLflow's sake; every call is.
        timestamp: milliseconds since the epoch, now by default.
        run_id: another run than the active one.

    Raises:
        InvalidValueError: the key is illegal or the value is no number.
    """
    run = active.current() if run_id is None else None
    if run is not None:
        if timestamp is not None:
            timestamp = check_timestamp(timestamp)
        try:
            run.recorder.metric(key, value, step, timestamp)
        except (StorageError, OSError) as error:
            log.warning("gml: log_metric: %s", error)
        return
    log_metrics({key: value}, step, timestamp=timestamp, run_id=run_id)


@_survives
def log_metrics(
    metrics: Mapping[str, float],
    step: int | None = None,
    synchronous: bool | None = None,  # noqa: ARG001
    run_id: str | None = None,
    timestamp: int | None = None,
) -> None:
    """Log several metric values at one step; all or none. See `log_metric`."""
    with _Target(run_id) as recorder:
        recorder.metrics(metrics, step, timestamp)


def log_param(key: str, value: Any, synchronous: bool | None = None) -> Any:  # noqa: ARG001
    """Log one param and return its value. See `log_params`."""
    log_params({key: value})
    return value


@_survives
def log_params(
    params: Mapping[str, Any],
    synchronous: bool | None = None,  # noqa: ARG001
    run_id: str | None = None,
) -> None:
    """Log params: the inputs of a run, kept as text and write-once; all or none.

    Raises:
        ConflictError: a param has another value already.
        InvalidValueError: a key is illegal or a value longer than 6000 characters.
    """
    with _Target(run_id) as recorder:
        recorder.log_params(params)


def set_tag(key: str, value: Any, synchronous: bool | None = None) -> None:  # noqa: ARG001
    """Set one tag. See `set_tags`."""
    set_tags({key: value})


@_survives
def set_tags(
    tags: Mapping[str, Any],
    synchronous: bool | None = None,  # noqa: ARG001
    run_id: str | None = None,
) -> None:
    """Set tags: labels that may change. `mlflow.note.content` is the run's description."""
    with _Target(run_id) as recorder:
        recorder.set_tags(tags)


@_survives
def delete_tag(key: str) -> None:
    """Remove a tag from the active run."""
    _recorder().delete_tag(key)


@_survives
def log_artifact(
    local_path: str | os.PathLike[str], artifact_path: str | None = None, run_id: str | None = None
) -> None:
    """Keep a file (or folder) with the run.

    Args:
        local_path: the file.
        artifact_path: folder within the run to put it in.
        run_id: another run than the active one.

    Raises:
        NotFoundError: it does not exist.
    """
    from pathlib import Path

    if Path(local_path).is_dir():
        log_artifacts(local_path, artifacts.artifact_name(local_path, artifact_path), run_id=run_id)
        return
    with _Target(run_id) as recorder:
        artifacts.log_file(recorder, local_path, artifacts.artifact_name(local_path, artifact_path))


@_survives
def log_artifacts(
    local_dir: str | os.PathLike[str], artifact_path: str | None = None, run_id: str | None = None
) -> None:
    """Keep every file below a folder. Files that cannot be read are named in a warning."""

    def failed(error: Exception) -> None:
        log.warning("gml: log_artifacts: %s", error)

    with _Target(run_id) as recorder:
        artifacts.log_folder(recorder, local_dir, (artifact_path or "").strip("/"), failed)


@_survives
def log_text(text: str, artifact_file: str, run_id: str | None = None) -> None:
    """Keep text as an artifact.

    Raises:
        InvalidValueError: it is not text, or the name is not a plain relative path.
    """
    if not isinstance(text, str):
        raise InvalidValueError(
            f"log_text takes text, not {type(text).__name__}", hint="log_dict keeps other values as JSON"
        )
    with _Target(run_id) as recorder:
        artifacts.log_bytes(recorder, text.encode("utf-8", "surrogatepass"), artifact_file)


@_survives
def log_dict(dictionary: Any, artifact_file: str, run_id: str | None = None) -> None:
    """Keep a value as a JSON artifact, or YAML where the name ends so."""
    check_artifact_path(artifact_file)
    with _Target(run_id) as recorder:
        artifacts.log_bytes(recorder, artifacts.json_bytes(dictionary, artifact_file), artifact_file)


@_survives
def log_figure(figure: Any, artifact_file: str, *, save_kwargs: Mapping[str, Any] | None = None) -> None:
    """Keep a matplotlib or plotly figure as an artifact; the name's ending decides the format."""
    from gml.tracking.media import figure_bytes

    check_artifact_path(artifact_file)
    artifacts.log_bytes(_recorder(), figure_bytes(figure, artifact_file, save_kwargs), artifact_file)


@_survives
def log_image(
    image: Any,
    artifact_file: str | None = None,
    key: str | None = None,
    step: int | None = None,
    timestamp: int | None = None,
) -> None:
    """Keep an image: a PIL image, a matplotlib-readable array (H, W[, C]) or a path.

    Args:
        image: the image; arrays are uint8 0..255 or float 0..1.
        artifact_file: name, such as `sample.png`.
        key: or a name for a series of images by `step`.
        step: position in the series.
        timestamp: milliseconds since the epoch.
    """
    from gml.tracking.media import image_bytes, image_name

    name = image_name(artifact_file, key, step, timestamp)
    artifacts.log_bytes(_recorder(), image_bytes(image, name), name)


@_survives
def log_table(data: Any, artifact_file: str, run_id: str | None = None) -> None:
    """Keep a table (dict of columns or DataFrame) as JSON or Parquet; rows of the same name add up."""
    from gml.tracking.media import table_bytes

    check_artifact_path(artifact_file)
    with _Target(run_id) as recorder:
        artifacts.log_bytes(recorder, table_bytes(data, artifact_file, recorder), artifact_file)


@_survives
def log_input(
    dataset: Any,
    context: str | None = None,
    tags: Mapping[str, str] | None = None,
    *,
    name: str | None = None,
) -> None:
    """Record a data set that the run reads: name, digest, schema, profile, source; not its bytes.

    Args:
        dataset: data frame, array, file, folder, or a data set of `gml.data` or MLflow.
        context: what it is used for, such as `train`.
        tags: labels of this use.
        name: display name.
    """
    from gml.tracking.datasets import describe

    described = describe(dataset, name=name)
    labels = dict(tags or {})
    if context is not None:
        labels["mlflow.data.context"] = context
    entry = {key: getattr(described, key) for key in ("name", "digest", "source_type", "source")}
    entry |= {"schema": described.schema, "profile": described.profile, "tags": labels}
    _recorder().append(["i", entry])


def log_inputs(datasets: list[Any], contexts: list[str | None] | None = None) -> None:
    """Record several data sets. See `log_input`."""
    for dataset, context in zip(datasets, contexts or [None] * len(datasets), strict=True):
        log_input(dataset, context)


def get_artifact_uri(artifact_path: str | None = None) -> str:
    """Return the URI of the active run's artifacts, or of one of them."""
    from gml.tracking.entities import artifact_uri

    uri = artifact_uri(_recorder().run_id)
    return f"{uri}/{artifact_path}" if artifact_path else uri
