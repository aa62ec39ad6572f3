"""The runs that a long-lived process has open: a journal each, closed when nobody has written for a while.

A run that clients write to is a live run of this repository like any other; only its end is not that of a
process. Its journal says `open`, so that whoever commits it leaves it RUNNING (docs/format.md).
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import ConflictError, GmlError, InvalidValueError, NotFoundError
from gml.domain.run import ACTIVE, DELETED
from gml.service.errors import STATE, UNAVAILABLE, ServiceError, not_active, run_missing, translate
from gml.tracking import start
from gml.tracking.commit import commit_sessions
from gml.tracking.journal import session as journal
from gml.tracking.reader import LiveSession
from gml.tracking.recorder import Recorder, process_facts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from gml.service.store import Store

# Open journals hold two file descriptors each.
MOST_OPEN: Final = 256
# Seconds without a write after which a journal is committed and closed.
IDLE: Final = 300.0


@dataclass(slots=True)
class _Open:
    lock: threading.RLock = field(default_factory=threading.RLock)
    recorder: Recorder | None = None
    version: int = 0
    used: float = 0.0
    params: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Seen:
    """A session that was read, and what tells whether it has changed."""

    session: LiveSession
    mark: object


class LiveRuns:
    """Recorders of open runs, for many threads.

    Args:
        store: the repository.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._seen: dict[str, _Seen] = {}
        self._turn = threading.Lock()
        self._count = threading.Lock()
        self._asked = 0
        self._done = 0

    @property
    def _root(self) -> Path:
        return self._store.workspace.journal_root

    # --- writing ------------------------------------------------------------------------------

    def create(
        self, header: Mapping[str, Any], events: Sequence[list[Any]], run_id: str | None = None
    ) -> str:
        """Start a run and return its id.

        Args:
            header: what the journal's first line says beyond what is the same for all.
            events: first events of the journal.
            run_id: id to use, None for a new one.

        Raises:
            ServiceError: the journal cannot be written.
        """
        space = self._store.workspace
        facts = {
            "session": journal.new_session_id(),
            "role": journal.CREATE,
            "writer": space.writer_id,
            "experiment_chosen": True,
            "inline_limit": space.settings.inline_limit,
            "open": True,
        }
        try:
            with self._store.writing():
                wanted = run_id or start.next_id(space)
                facts |= {"run_id": wanted, **header}
                membership = journal.create(
                    space.journal_root, wanted, facts, events, process_facts(os.environ)
                )
        except GmlError as error:
            raise translate(error) from error
        recorder = Recorder(
            wanted, membership, lambda: space, owner=True, checkpoint=space.settings.checkpoint
        )
        entry = _Open(recorder=recorder, used=time.monotonic())
        with self._lock:
            self._open[wanted] = entry
        self._make_room()
        return wanted

    @contextmanager
    def writing(self, run_id: str) -> Iterator[Recorder]:
        """Give the recorder of a run, alone among this process's threads.

        Raises:
            ServiceError: there is no such run, it is deleted, or what was written is not on the disk.
        """
        with self._lock:
            entry = self._open.get(run_id)
            if entry is None:
                entry = self._open[run_id] = _Open()
            else:
                self._open.move_to_end(run_id)
        with entry.lock:
            try:
                if entry.recorder is None:
                    entry.recorder = self._resume(run_id)
                recorder = entry.recorder
                yield recorder
                if recorder.unwritten:
                    raise ServiceError(
                        "The run's journal cannot be written: no space left on the disk, or it fails",
                        UNAVAILABLE,
                    )
            except GmlError as error:
                raise translate(error) from error
            finally:
                entry.version += 1
                entry.used = time.monotonic()
                if entry.recorder is not None and not entry.recorder.owner:
                    # Another process's run: it must not stay live because of us.
                    entry.recorder.end(None)
                    entry.recorder = None
                if entry.recorder is None:
                    self._forget(run_id, entry)
        self._make_room()

    def _forget(self, run_id: str, entry: _Open) -> None:
        with self._lock:
            if self._open.get(run_id) is entry:
                del self._open[run_id]

    def _resume(self, run_id: str) -> Recorder:
        with self._store.writing() as space:
            try:
                return start.resume(space, run_id, stays_open=True)
            except (NotFoundError, InvalidValueError):
                raise run_missing(run_id) from None
            except ConflictError:
                raise not_active("run", run_id, DELETED) from None

    @property
    def count(self) -> int:
        """Number of runs that are open."""
        return len(self._open)

    def is_open(self, run_id: str) -> bool:
        """Whether this process has the run's journal open."""
        with self._lock:
            return run_id in self._open

    def end(self, run_id: str) -> None:
        """Close a run's journal and commit it; returns when it is in the ledger.

        Raises:
            ServiceError: it could not be committed; the journal stays.
        """
        with self._lock:
            entry = self._open.get(run_id)
        if entry is None:
            return
        with entry.lock:
            recorder, entry.recorder = entry.recorder, None
            if recorder is not None:
                recorder.end(None, defer=True)
            self._forget(run_id, entry)
        if recorder is not None:
            self.commit()
            left = self._root / run_id
            if left.is_dir() and not self.is_open(run_id) and not journal.alive_processes(left):
                raise ServiceError(f"Run {run_id} could not be committed; its journal is kept", STATE)

    def commit(self) -> None:
        """Commit every session that has ended: one commit for all threads that ask at the same time."""
        with self._count:
            self._asked += 1
            mine = self._asked
        with self._turn:
            if self._done >= mine:
                return
            with self._count:
                upto = self._asked
            with self._lock:
                mine_open = [self._root / name for name, entry in self._open.items() if entry.recorder]
            with self._store.writing() as space:
                commit_sessions(space, skip=mine_open)
            self._done = upto

    # --- housekeeping -------------------------------------------------------------------------

    def _make_room(self) -> None:
        with self._lock:
            if len(self._open) <= MOST_OPEN:
                return
            oldest = list(self._open)[: len(self._open) - MOST_OPEN + MOST_OPEN // 8]
        self._close(oldest)

    def close_idle(self, idle: float = IDLE) -> int:
        """Commit and close the journals that nobody has written to for a while; returns their number."""
        now = time.monotonic()
        with self._lock:
            names = [name for name, entry in self._open.items() if now - entry.used >= idle]
        self._close(names)
        return len(names)

    def _close(self, run_ids: Sequence[str]) -> None:
        closed = False
        for run_id in run_ids:
            with self._lock:
                entry = self._open.get(run_id)
            # One that is being written to is not idle; whoever waits for it would find it closed.
            if entry is None or not entry.lock.acquire(blocking=False):
                continue
            try:
                if entry.recorder is not None:
                    entry.recorder.end(None, defer=True)
                    entry.recorder = None
                    closed = True
                self._forget(run_id, entry)
            finally:
                entry.lock.release()
        if closed:
            self.commit()

    def close(self) -> None:
        """Commit and close all of them."""
        with self._lock:
            names = list(self._open)
        for name in names:
            with self._lock:
                entry = self._open.pop(name, None)
            if entry is None:
                continue
            with entry.lock:
                if entry.recorder is not None:
                    entry.recorder.end(None, defer=True)
                    entry.recorder = None
        if names:
            self.commit()

    # --- reading ------------------------------------------------------------------------------

    def sessions(self) -> dict[str, LiveSession]:
        """Return the sessions whose journals are here, each as it is now.

        Only the store calls this, under its lock for reading.
        """
        root = self._root
        found: dict[str, LiveSession] = {}
        names = journal.names(root)
        for name in names:
            with self._lock:
                entry = self._open.get(name)
            recorder = entry.recorder if entry is not None else None
            try:
                session = self._session(root / name, entry, recorder)
            except (OSError, GmlError):
                continue  # committed meanwhile, or damaged, which `gml doctor` names
            if session is not None:
                found[name] = session
        self._seen = {name: self._seen[name] for name in found}
        return found

    def _session(self, path: Path, entry: _Open | None, recorder: Recorder | None) -> LiveSession | None:
        known = self._seen.get(path.name)
        if entry is not None and recorder is not None:
            mark: object = (id(recorder), entry.version)
            if known is not None and isinstance(known.mark, tuple) and known.mark[0] == id(recorder):
                if known.mark != mark:
                    known.session.fold.update()
                    known.mark = mark
                return known.session
        else:
            mark = None
            if known is not None and known.mark is None and known.session.fold.is_there:
                known.session.refresh()
                return known.session
        if not (path / journal.SHARED).is_file():
            return None
        session = LiveSession(path)
        self._seen[path.name] = _Seen(session, mark)
        return session


def check_active(stage: str, kind: str, name: str) -> None:
    """Refuse a change of something deleted."""
    if stage != ACTIVE:
        raise not_active(kind, name, stage)
