"""The Python API: the functions that training scripts call, with the names MLflow users know.

Bad arguments raise at once. Once a run has started, trouble with storage, network or git never
raises: it is logged as a warning, and what was logged waits in the journal.
"""

from __future__ import annotations

import functools
import logging
import os
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from gml.domain.errors import CorruptError, RepositoryError, StorageError, UsageError
from gml.domain.names import check_experiment_name
from gml.domain.run import FINISHED
from gml.tracking import active, artifacts, start
from gml.tracking.recorder import check_timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gml.tracking.active import ActiveRun
    from gml.tracking.recorder import Recorder

log = logging.getLogger("gml")

P = ParamSpec("P")
T = TypeVar("T")

_experiment: str | None = None
_ordinal = 0


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


def set_experiment(experiment_name: str | None = None, experiment_id: str | None = None) -> Any:
    """Make an experiment the one that new runs belong to; it is created with its first run.

    Args:
        experiment_name: its name.
        experiment_id: or the id of an existing one.

    Returns:
        The experiment.

    Raises:
        UsageError: both or neither were given.
        ConflictError: it is deleted.

    Example:
        >>> gml.set_experiment("churn")  # doctest: +SKIP
    """
    global _experiment  # noqa: PLW0603
    from gml.domain.experiment import Experiment

    if (experiment_name is None) == (experiment_id is None):
        raise UsageError("set_experiment takes either a name or an id")
    if experiment_name is not None:
        check_experiment_name(experiment_name)
    space = active.workspace()
    wanted = start.NewRun(experiment=experiment_name, experiment_id=experiment_id)
    found_id, name = start.find_experiment(space, wanted)
    _experiment = name
    return space.ledger.view().experiment(found_id) or Experiment(found_id, name)


def start_run(
    run_id: str | None = None,
    experiment_id: str | None = None,
    run_name: str | None = None,
    nested: bool = False,
    parent_run_id: str | None = None,
    tags: Mapping[str, Any] | None = None,
    description: str | None = None,
    log_system_metrics: bool | None = None,
) -> ActiveRun:
    """Start a run, or go on with one.

    Args:
        run_id: resume this run instead of starting one.
        experiment_id: id of the experiment; by default the one of `set_experiment`.
        run_name: display name, made up by default.
        nested: allow a run inside the active one, as its child.
        parent_run_id: make it the child of this run.
        tags: first tags.
        description: note for readers.
        log_system_metrics: sample CPU, memory and GPU while it runs (needs the extra `system`).

    Returns:
        The active run, a context manager.

    Raises:
        UsageError: a run is active and `nested` was not given.
        RepositoryError: not inside a git repository.
        NotFoundError: the run to resume does not exist.

    Example:
        >>> with gml.start_run(run_name="forest") as run:  # doctest: +SKIP
        ...     gml.log_metric("auc", 0.91)
    """
    mine = active.stack()
    if mine and not nested and run_id is None:
        raise UsageError(
            f"run {mine[-1].run_id} is already active",
            hint="end it with gml.end_run(), or start a nested one: start_run(nested=True)",
        )
    recorder = _begin(run_id, experiment_id, run_name, nested, parent_run_id, tags, description)
    run = active.push(recorder)
    if log_system_metrics:
        _watch_system(recorder)
    return run


def _begin(
    run_id: str | None,
    experiment_id: str | None,
    run_name: str | None,
    nested: bool,
    parent_run_id: str | None,
    tags: Mapping[str, Any] | None,
    description: str | None,
) -> Recorder:
    global _ordinal  # noqa: PLW0603
    inherited = active.inherited_id()
    if run_id is None and inherited is not None and not nested and parent_run_id is None:
        recorder = start.join_parent(os.environ, active.workspace)
        if recorder is not None:
            active.consume(recorder.run_id)
            _name_again(recorder, run_name, tags, description)
            return recorder
    space = active.workspace()
    if run_id is not None:
        recorder = start.resume(space, run_id)
        _name_again(recorder, run_name, tags, description)
        return recorder
    parent = parent_run_id
    if parent is None:
        outer = active.stack()[-1].run_id if nested and active.stack() else None
        parent = outer or active.outer_id()
    new = start.NewRun(
        experiment=_experiment,
        experiment_id=experiment_id,
        name=run_name,
        tags={k: str(v) for k, v in (tags or {}).items()},
        parent=parent,
        description=description,
        kind=start.kind_of_process(),
    )
    key = start.rank_key(os.environ, _ordinal)
    _ordinal += 1
    if key is not None and not nested:
        return start.start_or_join_rank(space, new, key)
    return start.start_new(space, new)


def _name_again(
    recorder: Recorder, run_name: str | None, tags: Mapping[str, Any] | None, description: str | None
) -> None:
    from gml.domain.names import TAG_NOTE, TAG_RUN_NAME

    extra = dict(tags or {})
    if run_name:
        extra[TAG_RUN_NAME] = run_name
    if description:
        extra[TAG_NOTE] = description
    if extra:
        recorder.set_tags(extra)


def _watch_system(recorder: Recorder) -> None:
    from gml.tracking.capture.system import SystemMonitor

    monitor = SystemMonitor(os.getpid(), 10.0, recorder.system_metrics)
    monitor.start()
    recorder.on_end(monitor.stop)


def end_run(status: str = FINISHED) -> None:
    """End the active run; without one, do nothing.

    Args:
        status: FINISHED, FAILED or KILLED.
    """
    run = active.current()
    if run is not None:
        active.end(run, status)


def active_run() -> ActiveRun | None:
    """Return the run that logging goes to, None when there is none."""
    return active.current()


def last_active_run() -> Any:
    """Return the run that is active or ended last in this process, read back; None before the first."""
    from gml.tracking.queries import get_run

    run_id = active.last_id()
    return None if run_id is None else get_run(run_id)


def _recorder(run_id: str | None = None) -> Recorder:
    """Return the recorder that a logging call goes to, starting a run when none is active."""
    if run_id is not None:
        return _other(run_id)
    run = active.current() or active.join_inherited()
    return (run or start_run()).recorder


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
    """Keep text as an artifact."""
    with _Target(run_id) as recorder:
        artifacts.log_bytes(recorder, text.encode("utf-8", "surrogatepass"), artifact_file)


@_survives
def log_dict(dictionary: Any, artifact_file: str, run_id: str | None = None) -> None:
    """Keep a value as a JSON artifact, or YAML where the name ends so."""
    with _Target(run_id) as recorder:
        artifacts.log_bytes(recorder, artifacts.json_bytes(dictionary, artifact_file), artifact_file)


@_survives
def log_figure(figure: Any, artifact_file: str, *, save_kwargs: Mapping[str, Any] | None = None) -> None:
    """Keep a matplotlib or plotly figure as an artifact; the name's ending decides the format."""
    from gml.tracking.media import figure_bytes

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


def set_tracking_uri(uri: str | os.PathLike[str] | None) -> None:
    """Use the git repository at this path, `gml:` or `file:` URI.

    Raises:
        UsageError: the URI names a server.
    """
    text = os.fspath(uri) if uri is not None else ""
    if "://" in text and not text.startswith(("gml://", "file://")):
        raise UsageError(f"{text!r} is not a git repository on this machine", hint="give its path")
    for prefix in ("gml://", "gml:", "file://", "file:"):
        if text.startswith(prefix):
            text = text[len(prefix) :]
            break
    active.set_repository(text or None)


def get_tracking_uri() -> str:
    """Return `gml:` and the directory of the repository in use."""
    where = active.workspace().store.location
    return f"gml:{where.worktree or where.git_dir}"


def flush() -> None:
    """Make what was logged so far survive a power cut as well."""
    run = active.current()
    if run is not None:
        run.recorder.tick()
