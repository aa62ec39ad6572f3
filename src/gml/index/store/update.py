"""Bringing the index up to date with the ledger."""

from __future__ import annotations

import gc
import math
from array import array
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

import orjson

from gml.domain.errors import CorruptError, FormatError, NotFoundError
from gml.domain.ids import is_time_ordered
from gml.git import trees
from gml.index.as_mlflow import mlflow_tags
from gml.index.query.fields import number_of
from gml.index.store import schema
from gml.ledger.layout import run_of_path

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator

    from gml.domain.run import Run
    from gml.ledger.view import LedgerView, RunEntry

CHUNK: Final = 5_000

_by_key: Final = itemgetter(0)
_RUN_COLUMNS: Final = (
    "rid", "run_id", "backwards", "position", "record", "folder", "run_name", "experiment_id", "status",
    "user_id", "start_time", "end_time", "lifecycle_stage", "dirty", "parent", "source", "environment",
    "inputs", "key_ids",
)  # fmt: skip
_INSERT_RUN: Final = (
    f"INSERT INTO runs ({', '.join(_RUN_COLUMNS)}) VALUES ({', '.join('?' * len(_RUN_COLUMNS))})"  # noqa: S608
)


class Updater:
    """Writes runs into the tables. Used inside one transaction.

    Args:
        connection: the open index.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._keys: dict[tuple[int, str], int] = {
            (section, key): key_id
            for key_id, section, key in connection.execute("SELECT key_id, section, key FROM keys")
        }
        self._next_rid = connection.execute("SELECT coalesce(max(rid), 0) + 1 FROM runs").fetchone()[0]
        self.damaged: dict[str, str] = {}

    def build(self, view: LedgerView, progress: Callable[[int], None] | None = None) -> None:
        """Fill empty tables from the whole ledger."""
        done = 0
        # Millions of small tuples and no cycles: the collector would only look at them again and again.
        collects = gc.isenabled()
        gc.disable()
        try:
            # Oldest first, so that rows are appended to the tables in their order.
            for chunk in _chunks(reversed(list(view.entries()))):
                self._insert(self._load(view, chunk))
                done += len(chunk)
                if progress is not None:
                    progress(done)
        finally:
            if collects:
                gc.enable()
        for statement in schema.INDEXES.split(";"):
            if statement.strip():
                self._connection.execute(statement)

    def advance(self, view: LedgerView, seen_tree: str | None) -> int:
        """Bring the tables from one ledger tree to another; returns the number of runs touched."""
        touched: dict[str, None] = {}
        for path, _, _ in trees.walk(view.store, seen_tree, view.tree):
            run_id = run_of_path(path)
            if run_id is not None:
                touched[run_id] = None
        for chunk in _chunks(iter(touched)):
            self._remove(chunk)
            entries = [entry for run_id in chunk if (entry := view.entry(run_id)) is not None]
            self._insert(self._load(view, entries))
        return len(touched)

    def experiments(self, view: LedgerView) -> None:
        """Replace the table of experiment names."""
        self._connection.execute("DELETE FROM experiments")
        rows = [(e.experiment_id, e.name) for e in view.experiments()]
        self._connection.executemany("INSERT INTO experiments VALUES (?, ?)", rows)

    def _load(self, view: LedgerView, entries: Iterable[RunEntry]) -> list[tuple[RunEntry, Run]]:
        out = []
        for entry in entries:
            try:
                out.append((entry, view.load(entry)))
            except (CorruptError, FormatError) as error:
                self.damaged[entry.run_id] = str(error)
        return out

    def _remove(self, run_ids: list[str]) -> None:
        execute = self._connection.execute
        for run_id in run_ids:
            row = execute("SELECT rid, key_ids FROM runs WHERE run_id = ?", (run_id,)).fetchone()
            if row is None:
                continue
            rid, key_ids = row
            held = array("I")
            held.frombytes(key_ids)
            pairs = [(key_id, rid) for key_id in held]
            self._connection.executemany("DELETE FROM metrics WHERE key_id = ? AND rid = ?", pairs)
            self._connection.executemany("DELETE FROM texts WHERE key_id = ? AND rid = ?", pairs)
            execute("DELETE FROM runs WHERE rid = ?", (rid,))

    def _insert(self, loaded: list[tuple[RunEntry, Run]]) -> None:
        runs: list[tuple[Any, ...]] = []
        metrics: list[tuple[Any, ...]] = []
        texts: list[tuple[Any, ...]] = []
        key_id = self._key_id
        for entry, run in loaded:
            rid = self._next_rid
            self._next_rid += 1
            held = array("I")
            for key, m in run.metrics.items():
                held.append(key_id(schema.METRIC, key))
                if m.count == 1:
                    last = _real(m.last)
                    metrics.append((held[-1], rid, last, last, last, 1, m.step))
                else:
                    values = _real(m.last), _real(m.min), _real(m.max)
                    metrics.append((held[-1], rid, *values, m.count, m.step))
            for section, pairs in ((schema.PARAM, run.params), (schema.TAG, mlflow_tags(run))):
                for key, value in pairs.items():
                    held.append(key_id(section, key))
                    texts.append((held[-1], rid, *_kind(value), value))
            runs.append((*_run_row(rid, entry, run), held.tobytes()))
        # In the order of the tables' keys the rows of a chunk go to few pages.
        metrics.sort(key=_by_key)
        texts.sort(key=_by_key)
        many = self._connection.executemany
        many(_INSERT_RUN, runs)
        many("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?, ?)", metrics)
        many("INSERT INTO texts VALUES (?, ?, ?, ?, ?)", texts)

    def _key_id(self, section: int, key: str) -> int:
        found = self._keys.get((section, key))
        if found is None:
            cursor = self._connection.execute("INSERT INTO keys (section, key) VALUES (?, ?)", (section, key))
            found = int(cursor.lastrowid or 0)
            self._keys[section, key] = found
        return found


def _run_row(rid: int, entry: RunEntry, run: Run) -> tuple[Any, ...]:
    dirty = run.source.get("dirty")
    return (
        rid,
        run.run_id,
        run.run_id[::-1],
        position(run.run_id, run.start_time),
        entry.record,
        entry.folder,
        run.name,
        run.experiment_id,
        run.status,
        run.user,
        run.start_time,
        run.end_time,
        run.lifecycle_stage,
        int(dirty) if isinstance(dirty, bool) else None,
        run.parent_run_id,
        orjson.dumps(dict(run.source)).decode(),
        orjson.dumps(dict(run.environment)).decode(),
        orjson.dumps([dict(entry) for entry in run.inputs]).decode() if run.inputs else "[]",
    )


def position(run_id: str, start_time: int) -> str:
    """Return what runs are ordered by where nobody asks for an order."""
    return run_id if is_time_ordered(run_id) else f"{max(0, start_time):012x}-{run_id}"


def _kind(value: str) -> tuple[int, float | None]:
    number = number_of(value)
    if number is None:
        return schema.TEXT, None
    return (schema.NAN, None) if math.isnan(number) else (schema.NUMBER, number)


def _real(value: float) -> float | None:
    return None if math.isnan(value) else value


def _chunks(items: Iterable[Any]) -> Iterator[list[Any]]:
    chunk = []
    for item in items:
        chunk.append(item)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def tree_of(view: LedgerView, commit: str) -> str | None:
    """Return the tree of a ledger commit, None when the commit is not in the repository any more."""
    from gml.git.objects import parse_commit

    try:
        return parse_commit(view.store.read(commit)[1]).tree
    except (NotFoundError, CorruptError):
        return None
