"""One repository, opened for a long-lived process whose threads read and write it at once."""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import GmlError, RepositoryError
from gml.service.errors import run_missing, translate
from gml.service.live import LiveRuns
from gml.tracking.commit import commit_sessions
from gml.tracking.reader import Reader
from gml.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from gml.domain.run import Run
    from gml.ledger.view import RunEntry

CACHED_RUNS: Final = 5_000


class Store:
    """A repository as a service sees it. Open with `Store.open`; close it to commit what is open.

    Reading and writing have a repository object each, so that the sync of a commit keeps no reader waiting.

    Args:
        writing: the repository.
        reading: the same repository, opened again.
    """

    def __init__(self, writing: Workspace, reading: Workspace) -> None:
        self.workspace = writing
        self._reading = reading
        self._read_lock = threading.RLock()
        self._write_lock = threading.RLock()
        self._reader: Reader | None = None
        self._runs: dict[tuple[str, str | None, str | None], Run] = {}
        self.live = LiveRuns(self)

    @classmethod
    def open(cls, path: str | Path | None = None, environ: Mapping[str, str] | None = None) -> Store:
        """Open the repository of a path.

        Raises:
            RepositoryError: there is none, or it cannot be used.
        """
        store = cls(Workspace.open(path, environ), Workspace.open(path, environ))
        # What a server left that died: its runs stay RUNNING, those of dead trainings become KILLED.
        with suppress(GmlError), store.writing() as space:
            commit_sessions(space)
        return store

    @contextmanager
    def writing(self) -> Iterator[Workspace]:
        """Hold this process's turn to change the ledger.

        Raises:
            ServiceError: it could not be written.
        """
        with self._write_lock:
            try:
                yield self.workspace
            except GmlError as error:
                raise translate(error) from error

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """Give a reader of all runs as they are now, live ones included; it has metric summaries, no points.

        Raises:
            ServiceError: the repository cannot be read.
        """
        with self._read_lock:
            try:
                yield self._fresh()
            except GmlError as error:
                raise translate(error) from error

    def _fresh(self) -> Reader:
        live = self.live.sessions()  # before the ledger: what is committed meanwhile must not be missed
        tip = self._reading.ledger.tip()
        if tip is None and not self._reading.store.location.common_dir.is_dir():
            raise RepositoryError("the repository has gone", hint="start again where it is now")
        known = self._reader
        if known is None or known.view.commit != tip:
            fresh = Reader(self._reading, live=live, points=False)
            if known is not None and "index" in known.__dict__:
                known.index.close()
            self._reader = known = fresh
        known.live = live
        known.damaged = []
        return known

    def load(self, reader: Reader, entry: RunEntry) -> Run:
        """Return the run of an entry of the index; those that do not change are remembered."""
        if entry.run_id in reader.live:
            return reader.load(entry)
        key = (entry.run_id, entry.record, entry.folder)
        run = self._runs.get(key)
        if run is None:
            if len(self._runs) >= CACHED_RUNS:
                for old in list(self._runs)[: CACHED_RUNS // 4]:
                    del self._runs[old]
            run = self._runs[key] = reader.load(entry)
        return run

    def run(self, run_id: str) -> Run:
        """Return a run.

        Raises:
            ServiceError: there is none.
        """
        if run_id:
            with self.reading() as reader:
                found = reader.run(run_id)
            if found is not None:
                return found
        raise run_missing(run_id)

    def with_points(self, run_id: str, question: Callable[[Reader, Run], Any]) -> Any:
        """Return what a question about a run and its metric points is answered with.

        Raises:
            ServiceError: there is no such run.
        """
        with self._read_lock:
            try:
                live = self.live.sessions()
                reader = Reader(self._reading, live=live)
                found = reader.run(run_id)
                if found is None:
                    raise run_missing(run_id)
                return question(reader, found)
            except GmlError as error:
                raise translate(error) from error

    def close(self) -> None:
        """Commit what is open, and let go of the repository.

        Raises:
            ServiceError: something could not be committed; its journal stays.
        """
        try:
            self.live.close()
        finally:
            with self._read_lock:
                if self._reader is not None and "index" in self._reader.__dict__:
                    self._reader.index.close()
                self._reader = None
