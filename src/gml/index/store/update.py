"""Bringing the index up to date with the ledger."""

from __future__ import annotations

import gc
from array import array
from contextlib import contextmanager, suppress
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import CorruptError, GmlError, NotFoundError
from gml.git import trees
from gml.index.store import schema
from gml.index.store.rows import MISSHAPEN, Rows, inserts
from gml.index.store.worker import WorkerError, frames, is_worthwhile
from gml.ledger.codec import decode
from gml.ledger.layout import run_of_path

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator

    from gml.ledger.view import LedgerView, RunEntry

# The rows of so many runs are sorted and inserted together: about 60 MB of Python objects.
CHUNK: Final = 10_000


class Updater:
    """Writes runs into the tables. Used inside one transaction.

    Args:
        connection: the open index.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._keys: dict[tuple[int, str], int] = {}
        self._next_rid = connection.execute("SELECT coalesce(max(rid), 0) + 1 FROM run_rows").fetchone()[0]

    def build(self, view: LedgerView, progress: Callable[[int], None] | None = None) -> None:
        """Fill empty tables from the whole ledger."""
        # The second process numbers the keys, so there must not be any.
        empty = self._connection.execute("SELECT count(*) FROM keys").fetchone()[0] == 0
        if not (empty and is_worthwhile(view) and self._build_with_worker(view, progress)):
            self._build_alone(view, progress)
        for statement in schema.statements(schema.INDEXES):
            self._connection.execute(statement)
        self._experiments(view)

    def _build_alone(self, view: LedgerView, progress: Callable[[int], None] | None) -> None:
        done = 0
        with _no_collection():
            # Oldest first, so that rows are appended to the tables in their order.
            for chunk in _chunks(view.entries(oldest_first=True)):
                self._insert(view, chunk)
                done += len(chunk)
                if progress is not None:
                    progress(done)

    def _build_with_worker(self, view: LedgerView, progress: Callable[[int], None] | None) -> bool:
        """Let a second process read the runs; False where it could not, and nothing was changed."""
        many, execute = self._connection.executemany, self._connection.execute
        failed: list[str] = []
        execute("SAVEPOINT worker")
        try:
            with _no_collection():
                for frame in frames(view):
                    many("INSERT INTO keys VALUES (?, ?, ?)", frame["keys"])
                    for where, values in inserts(frame["rows"]):
                        many(f"INSERT INTO {where}", values)
                    failed += frame["failed"]
                    if progress is not None:
                        progress(frame["done"])
        except WorkerError:
            execute("ROLLBACK TO worker")
            return False
        finally:
            execute("RELEASE worker")
        self._next_rid = execute("SELECT coalesce(max(rid), 0) + 1 FROM run_rows").fetchone()[0]
        # What is damaged is said by this process: the other one may only have looked at the wrong place.
        self.renew(view, failed)
        return True

    def advance(self, view: LedgerView, seen_tree: str | None) -> int:
        """Bring the tables from one ledger tree to another; returns the number of runs touched."""
        touched: dict[str, None] = {}
        experiments = False
        for path, _, _ in trees.walk(view.store, seen_tree, view.tree):
            run_id = run_of_path(path)
            if run_id is not None:
                touched[run_id] = None
            experiments = experiments or path.startswith("experiments/")
        self.renew(view, chain(touched, self._damaged() - touched.keys()))
        if experiments:
            self._experiments(view)
        return len(touched)

    def renew(self, view: LedgerView, run_ids: Iterable[str]) -> None:
        """Read some runs again; those that are not in the ledger any more disappear."""
        with _no_collection():
            for chunk in _chunks(run_ids):
                self._remove(chunk)
                entries = [entry for run_id in chunk if (entry := view.entry(run_id)) is not None]
                self._insert(view, entries)

    def _damaged(self) -> set[str]:
        # What a damaged run lacks may have arrived: an object, a manifest.
        return {run_id for (run_id,) in self._connection.execute("SELECT run_id FROM damage")}

    def _experiments(self, view: LedgerView) -> None:
        """Replace the table of experiment names; a damaged experiment has none."""
        rows = {"0": "Default"}
        for name in view.names("experiments"):
            with suppress(GmlError, *MISSHAPEN):
                experiment = view.experiment(name.removesuffix(".json"))
                if experiment is not None:
                    rows[experiment.experiment_id] = experiment.name
        self._connection.execute("DELETE FROM experiment_rows")
        self._connection.executemany("INSERT INTO experiment_rows VALUES (?, ?)", list(rows.items()))

    def _remove(self, run_ids: list[str]) -> None:
        execute, many = self._connection.execute, self._connection.executemany
        many("DELETE FROM damage WHERE run_id = ?", [(run_id,) for run_id in run_ids])
        for run_id in run_ids:
            found = execute(
                "SELECT rid, key_ids FROM run_rows JOIN details USING (rid) WHERE run_id = ?", (run_id,)
            ).fetchall()
            for rid, key_ids in found:
                held = array("I")
                held.frombytes(key_ids)
                ids = [((key_id << schema.SHIFT) + rid,) for key_id in held]
                many("DELETE FROM metric_rows WHERE id = ?", ids)
                many("DELETE FROM text_rows WHERE id = ?", ids)
                execute("DELETE FROM details WHERE rid = ?", (rid,))
                execute("DELETE FROM run_rows WHERE rid = ?", (rid,))

    def _insert(self, view: LedgerView, entries: list[RunEntry]) -> None:
        rows = Rows(self._key_id)
        damaged = []
        for entry in entries:
            try:
                read(view, entry, rows, self._next_rid)
            except GmlError as error:
                damaged.append((entry.run_id, str(error)))
            else:
                self._next_rid += 1
        self._connection.executemany("INSERT OR REPLACE INTO damage VALUES (?, ?)", damaged)
        # In the order of their ids the rows of a chunk go to few pages.
        for where, values in inserts(rows.waiting()):
            self._connection.executemany(f"INSERT INTO {where}", values)

    def _key_id(self, section: int, key: str) -> int:
        found = self._keys.get((section, key))
        if found is None:
            row = self._connection.execute(
                "SELECT key_id FROM keys WHERE section = ? AND key = ?", (section, key)
            ).fetchone()
            if row is None:
                cursor = self._connection.execute(
                    "INSERT INTO keys (section, key) VALUES (?, ?)", (section, key)
                )
                found = int(cursor.lastrowid or 0)
            else:
                found = int(row[0])
            self._keys[section, key] = found
        return found


def read(view: LedgerView, entry: RunEntry, rows: Rows, rid: int) -> None:
    """Add one run to the rows under a number; raises GmlError where it is damaged."""
    plain = entry.record is not None and (
        entry.folder is None or trees.lookup(view.store, entry.folder, "edits") is None
    )
    if plain and entry.record is not None:
        try:
            data = view.store.read(entry.record)[1]
        except GmlError:
            plain = False  # `load` says it with the path
        else:
            path = f"the record of run {entry.run_id}"
            record = decode(data, path, "gml-run", 1)
            if "artifact_manifest" not in record:
                rows.add_record(rid, entry, record)
                return
    try:
        run = view.load(entry)
    except MISSHAPEN as error:
        if isinstance(error, GmlError):
            raise
        raise CorruptError(
            f"run {entry.run_id} is not as the format says ({type(error).__name__}: {error})",
            hint="`gml doctor` names all damage",
        ) from None
    rows.add_run(rid, entry, run)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Pause the garbage collector: millions of small tuples and no cycles, it would only look at them."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


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
