"""The active run: the only global state of gml.

Runs form a stack in each thread. A thread that started none logs to the newest run of the process, so
worker threads need nothing. Child processes find the run in the environment.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from gml.domain.errors import UsageError
from gml.domain.run import FAILED, FINISHED
from gml.tracking.entities import RunData, RunInfo, artifact_uri
from gml.tracking.start import ENV_ACTIVE, ENV_JOURNAL, ENV_RUN_ID, join_parent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    from gml.tracking.recorder import Recorder
    from gml.workspace import Workspace


class ActiveRun:
    """A run that is being logged to; a context manager that ends it.

    On leaving the `with` block the run becomes FINISHED, or FAILED when an exception leaves it.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.recorder.run_id

    @property
    def info(self) -> RunInfo:
        """Identity and life cycle."""
        facts = self.recorder.header
        return RunInfo(
            self.run_id,
            str(facts.get("name", "")),
            str(facts.get("experiment_id", "0")),
            str(facts.get("user", "")),
            self.recorder.status or "RUNNING",
            int(facts.get("start_time", 0)),
            self.recorder.end_time,
            "active",
            artifact_uri(self.run_id),
        )

    @property
    def data(self) -> RunData:
        """Params so far; metrics and tags are read back with `gml.get_run`."""
        return RunData({}, self.recorder.params, {})

    def __repr__(self) -> str:
        return f"<ActiveRun {self.info.run_name} {self.run_id}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end(self, FINISHED if kind is None else FAILED)


class _State(threading.local):
    def __init__(self) -> None:
        self.stack: list[ActiveRun] = []


_thread = _State()
_all: list[ActiveRun] = []
_guard = threading.Lock()
_batch_depth = 0
_batched: list[Workspace] = []
_workspaces: dict[tuple[Any, ...], Workspace] = {}
_consumed: set[str] = set()
_last: str | None = None
_uri: str | None = None

BATCH = 64


def set_repository(path: str | Path | None) -> None:
    """Use this repository from now on instead of the one around the current directory."""
    global _uri  # noqa: PLW0603
    _uri = None if path is None else str(path)


def workspace() -> Workspace:
    """Return the repository in use, opened once.

    Raises:
        RepositoryError: there is none.
    """
    from gml.workspace import Workspace

    names = ("GML_REPO", "GIT_DIR", "GML_CODE", "GML_CHECKPOINT", "GML_JOURNAL_DIR", "GML_EXPERIMENT")
    key = (_uri, os.getcwd(), os.getpid(), *(os.environ.get(name) for name in names))  # noqa: PTH109
    found = _workspaces.get(key)
    if found is None:
        found = Workspace.open(_uri)
        _workspaces.clear()
        _workspaces[key] = found
    return found


def current() -> ActiveRun | None:
    """Return the run that this thread logs to, None when there is none."""
    mine = _thread.stack
    while mine and mine[-1].recorder.ended:
        # Another thread ended it.
        mine.pop()
    if mine:
        return mine[-1]
    return _all[-1] if _all else None


def stack() -> list[ActiveRun]:
    """Return the runs that this thread started and nobody ended, outermost first."""
    _thread.stack[:] = [run for run in _thread.stack if not run.recorder.ended]
    return _thread.stack


def push(recorder: Recorder) -> ActiveRun:
    """Make a run the active one of this thread, and tell child processes."""
    run = ActiveRun(recorder)
    with _guard:
        _thread.stack.append(run)
        _all.append(run)
    _export()
    return run


def _export() -> None:
    newest = _all[-1] if _all else None
    if newest is None:
        os.environ.pop(ENV_ACTIVE, None)
        if not os.environ.get(ENV_RUN_ID):
            os.environ.pop(ENV_JOURNAL, None)
        return
    os.environ[ENV_ACTIVE] = newest.run_id
    os.environ[ENV_JOURNAL] = str(newest.recorder.path.parent)


def inherited_id() -> str | None:
    """Return the id that GML_RUN_ID (or MLFLOW_RUN_ID) names, as long as it was not used up here."""
    run_id = os.environ.get(ENV_RUN_ID) or os.environ.get("MLFLOW_RUN_ID")
    return run_id if run_id and run_id not in _consumed else None


def outer_id() -> str | None:
    """Return the run of the parent process that a new run of this process is nested in."""
    run_id = os.environ.get(ENV_RUN_ID) or os.environ.get(ENV_ACTIVE)
    return run_id if run_id and all(run.run_id != run_id for run in _all) else None


def consume(run_id: str) -> None:
    """Remember that this process joined the run its parent named."""
    _consumed.add(run_id)


def join_inherited() -> ActiveRun | None:
    """Join the run of the parent process, None when there is none."""
    recorder = join_parent(os.environ, workspace)
    if recorder is None:
        return None
    consume(recorder.run_id)
    return push(recorder)


def end(run: ActiveRun, status: str | None) -> None:
    """End a run and every run of this thread that was started inside it."""
    global _last  # noqa: PLW0603
    if status is not None and status not in {"FINISHED", "FAILED", "KILLED", "SCHEDULED", "RUNNING"}:
        raise UsageError(f"{status!r} is not a run status", hint="use FINISHED, FAILED or KILLED")
    mine = _thread.stack
    ending = mine[mine.index(run) :] if run in mine else [run]
    with _guard:
        for one in ending:
            if one in mine:
                mine.remove(one)
            if one in _all:
                _all.remove(one)
    _last = run.run_id
    _export()
    for one in reversed(ending):
        owner = one.recorder.owner
        one.recorder.end(status if owner else None, defer=_batch_depth > 0)
        if owner and _batch_depth > 0:
            _batched.append(one.recorder.open_workspace())
            if len(_batched) >= BATCH:
                _commit_batch()


def last_id() -> str | None:
    """Return the id of the active run, or of the one that ended last in this process."""
    run = current()
    return run.run_id if run is not None else _last


@contextmanager
def batch() -> Iterator[None]:
    """Commit runs that end inside the block together, up to 64 at a time: many short runs, fast.

    Inside the block `end_run` keeps a run safe from the death of the process; once the block is left,
    also from a power cut.

    Example:
        >>> with gml.batch():  # doctest: +SKIP
        ...     for depth in range(1000):
        ...         with gml.start_run():
        ...             gml.log_param("depth", depth)
    """
    global _batch_depth  # noqa: PLW0603
    _batch_depth += 1
    try:
        yield
    finally:
        _batch_depth -= 1
        if _batch_depth == 0:
            _commit_batch()


def _commit_batch() -> None:
    import logging

    from gml.domain.errors import GmlError
    from gml.tracking.commit import commit_sessions

    spaces = {id(space): space for space in _batched}
    _batched.clear()
    for space in spaces.values():
        try:
            commit_sessions(space)
        except (GmlError, OSError) as error:
            logging.getLogger("gml").warning(
                "gml: runs are not in the ledger yet (%s); `gml recover` commits them", error
            )


def _at_exit() -> None:
    # An unhandled exception was printed before exit handlers run, and left its traces here.
    failed = getattr(sys, "last_value", None) is not None and not hasattr(sys, "ps1")
    for run in reversed(list(_all)):
        end(run, FAILED if failed else FINISHED)
    if _batched:
        _commit_batch()


def _after_fork() -> None:
    """In a forked child: the runs are the parent's; the child logs to them but does not end them."""
    global _guard, _batch_depth  # noqa: PLW0603
    _guard = threading.Lock()
    _batch_depth = 0
    _batched.clear()
    _workspaces.clear()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
