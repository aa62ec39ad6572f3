"""Opening the index: created, brought up to date or rebuilt as needed, by itself."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import NotFoundError, StorageError
from gml.index.store import schema
from gml.index.store.compile import Compiler
from gml.index.store.update import Updater, tree_of
from gml.ledger.view import RunEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from gml.index.query import Order, Query
    from gml.ledger.view import LedgerView

BUSY_SECONDS: Final = 60.0


class RunIndex:
    """The index of one repository, as of one state of its ledger. Open with `RunIndex.open`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    @classmethod
    def open(cls, path: Path, view: LedgerView, progress: Callable[[int], None] | None = None) -> RunIndex:
        """Open the index and bring it up to date with a state of the ledger.

        A missing, damaged or foreign file is made anew. Where the directory cannot be written, an index
        in memory does.

        Args:
            path: the file.
            view: the state of the ledger.
            progress: called with the number of runs read while the index is built.

        Raises:
            StorageError: the path is taken by something that is not a file, or the disk is full.
        """
        if path.is_dir():
            raise StorageError(f"the index {path} is a directory", hint="remove it; gml makes it anew")
        for attempt in (1, 2):
            connection = None
            try:
                connection = _connect(path)
                index = cls(connection)
                index._catch_up(view, progress)
                return index
            except sqlite3.OperationalError as error:
                if connection is not None:
                    connection.close()
                text = str(error)
                if "readonly" in text or "unable to open" in text:
                    return cls._in_memory(view, progress)
                if "full" in text:
                    raise StorageError(
                        f"cannot write the index {path}: {text}", hint="free some space"
                    ) from None
                if "locked" in text or attempt == 2:
                    raise StorageError(f"cannot use the index {path}: {text}", hint="try again") from None
                _discard(path)
            except (sqlite3.DatabaseError, NotFoundError):
                # Damaged, or it refers to objects that are gone: derived data is made anew.
                if connection is not None:
                    connection.close()
                if attempt == 2:
                    raise
                _discard(path)
        raise StorageError(f"cannot use the index {path}")

    @classmethod
    def _in_memory(cls, view: LedgerView, progress: Callable[[int], None] | None) -> RunIndex:
        index = cls(sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False))
        index._catch_up(view, progress)
        return index

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def meta(self, name: str) -> str | None:
        """Return a fact about the index itself."""
        row = self.connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def _catch_up(self, view: LedgerView, progress: Callable[[int], None] | None) -> None:
        if self._version() == schema.VERSION and self.meta("commit") == (view.commit or ""):
            return
        with _transaction(self.connection):
            if self._version() != schema.VERSION:
                self._create()
            seen = self.meta("commit")
            if seen == (view.commit or ""):
                return
            updater = Updater(self.connection)
            if not seen:
                updater.build(view, progress)
            else:
                tree = tree_of(view, seen)
                if tree is None:
                    raise NotFoundError(f"ledger commit {seen} is gone")
                updater.advance(view, tree)
            updater.experiments(view)
            self._note_damage(updater.damaged)
            self.connection.execute("INSERT OR REPLACE INTO meta VALUES ('commit', ?)", (view.commit or "",))

    def _version(self) -> int:
        return int(self.connection.execute("PRAGMA user_version").fetchone()[0])

    def _create(self) -> None:
        tables = self.connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (name,) in tables:
            quoted = name.replace('"', '""')
            self.connection.execute(f'DROP TABLE "{quoted}"')
        for statement in schema.TABLES.split(";"):
            if statement.strip():
                self.connection.execute(statement)
        self.connection.execute(f"PRAGMA user_version = {schema.VERSION}")

    def _note_damage(self, damaged: dict[str, str]) -> None:
        for run_id, text in damaged.items():
            self.connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (f"damaged {run_id}", text))

    def damaged(self) -> list[str]:
        """Return what was wrong with runs that could not be read."""
        rows = self.connection.execute("SELECT value FROM meta WHERE name LIKE 'damaged %'")
        return [str(value) for (value,) in rows]

    # --- look-ups -----------------------------------------------------------------------------

    def match_ids(self, text: str) -> list[str]:
        """Return the ids of runs that begin or end with a text, newest first."""
        end, backwards = text + "\x7f", text[::-1]
        rows = self.connection.execute(
            "SELECT run_id FROM runs WHERE (run_id >= ? AND run_id < ?) "
            "OR (backwards >= ? AND backwards < ?) ORDER BY position DESC",
            (text, end, backwards, backwards + "\x7f"),
        )
        return [run_id for (run_id,) in rows]

    def match_names(self, name: str) -> list[str]:
        """Return the ids of active runs of a name, newest first."""
        rows = self.connection.execute(
            "SELECT run_id FROM runs WHERE run_name = ? AND lifecycle_stage = 'active' "
            "ORDER BY position DESC",
            (name,),
        )
        return [run_id for (run_id,) in rows]

    def children(self, run_id: str) -> list[str]:
        """Return the ids of runs nested in a run, oldest first."""
        rows = self.connection.execute(
            "SELECT run_id FROM runs WHERE parent = ? ORDER BY position", (run_id,)
        )
        return [child for (child,) in rows]

    def counts(self) -> dict[tuple[str, str], int]:
        """Return the number of runs by (experiment id, life-cycle stage)."""
        rows = self.connection.execute(
            "SELECT experiment_id, lifecycle_stage, count(*) FROM runs GROUP BY 1, 2"
        )
        return {(experiment, stage): count for experiment, stage, count in rows}

    def search(
        self,
        query: Query | None,
        orders: Sequence[Order] = (),
        *,
        now_ms: int,
        experiments: Iterable[str] | None = None,
        stages: Iterable[str] = ("active",),
        limit: int | None = None,
    ) -> list[RunEntry]:
        """Return where the runs are that match a query, in order.

        Args:
            query: from `gml.index.query.parse`; None for all.
            orders: from `parse_order`; none for newest first.
            now_ms: what relative times refer to.
            experiments: only runs of these experiment ids.
            stages: only runs of these life-cycle stages.
            limit: at most so many.

        Raises:
            NotCompilableError: the index cannot answer this query; evaluate it run by run.
        """
        statement = Compiler(self.connection, now_ms).statement(
            query, orders, experiments=experiments, stages=stages, limit=limit
        )
        tests = statement.tests

        def ask(number: int, value: Any) -> int | None:
            answer = tests[number](value)
            return None if answer is None else int(answer)

        self.connection.create_function("gml_test", 2, ask, deterministic=True)
        rows = self.connection.execute(statement.sql, statement.parameters)
        return [RunEntry(*row) for row in rows]


def _connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # Derived data: what a power cut damages is made anew.
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -65536")
        connection.execute("PRAGMA mmap_size = 1073741824")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _discard(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        with contextlib.suppress(OSError):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
