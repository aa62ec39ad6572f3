"""The Python API: the functions that training scripts call, with the names MLflow users know.

Bad arguments raise at once. Once a run has started, trouble with storage, network or git never
raises: it is logged as a warning, and what was logged waits in the journal.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from gml.domain.errors import UsageError
from gml.domain.names import check_experiment_name
from gml.domain.run import FINISHED
from gml.tracking import active, start

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gml.tracking.active import ActiveRun
    from gml.tracking.recorder import Recorder

log = logging.getLogger("gml")

P = ParamSpec("P")
T = TypeVar("T")

_experiment: str | None = None
_ordinal = 0


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
            # What `gml log -n` says goes before the name in the script, as `-x` does.
            kept = bool(recorder.header.get("name_chosen"))
            _name_again(recorder, None if kept else run_name, tags, description)
            move_to_chosen(recorder)
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


def move_to_chosen(recorder: Recorder) -> None:
    """Put a run that `gml log` started into the experiment that the script chose."""
    header = recorder.header
    if _experiment is None or _experiment == header.get("experiment"):
        return
    if header.get("experiment_chosen"):
        log.warning(
            "gml: the run stays in experiment %r, which its starter chose; %r is for further runs",
            header.get("experiment"),
            _experiment,
        )
        return
    wanted, name = start.find_experiment(active.workspace(), start.NewRun(experiment=_experiment))
    recorder.append(["x", wanted, name])


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
