"""The index of a repository: created, brought up to date or made anew as needed, by itself."""

from __future__ import annotations

import logging
import sqlite3
from array import array
from typing import TYPE_CHECKING, Any, Final, TypeVar

import orjson

from gml.domain.errors import CorruptError, NotFoundError, StorageError
from gml.index.query import ast
from gml.index.store import schema
from gml.index.store.compile import Compiler, NotCompilableError
from gml.index.store.conditions import SECTIONS
from gml.index.store.files import Guard, connect, private, transaction
from gml.index.store.update import Updater, tree_of
from gml.ledger.view import RunEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from gml.index.query import Order, Query
    from gml.ledger.view import LedgerView

    Progress = Callable[[int], None] | None

T = TypeVar("T")

log = logging.getLogger("gml")

# What SQLite says of statements that are too large for it.
_TOO_LARGE: Final = ("too large", "stack overflow", "too many", "too big")
# ... and of a file that is damaged.
_DAMAGE: Final = ("malformed", "not a database", "I/O", "no such table", "no such column")
_LISTED: Final = 10_000
# Damaged runs are tried again by every command, so many at most.
_RETRIED: Final = 100


class _StaleError(Exception):
    """The file is of another version, or has seen a ledger that is gone: make it anew."""


class RunIndex:
    """The index of one repository, as of one state of its ledger. Open with `RunIndex.open`.

    Reading never fails because of the index: one that is damaged is made anew, and where its file cannot
    be used at all, a private one does for as long as the process lives.
    """

    def __init__(self, path: Path, view: LedgerView, progress: Progress = None) -> None:
        self._path = path
        self._view = view
        self._progress = progress
        self._guard: Guard | None = None
        self.connection: sqlite3.Connection = None  # type: ignore[assignment]  # `_open` sets it

    @classmethod
    def open(cls, path: Path, view: LedgerView, progress: Progress = None) -> RunIndex:
        """Open the index and bring it up to date with a state of the ledger.

        Args:
            path: the file.
            view: the state of the ledger.
            progress: called with the number of runs read while the index is built.

        Raises:
            StorageError: another process builds it for minutes, or there is no room for it anywhere.
        """
        index = cls(path, view, progress)
        index._open()
        return index

    def _open(self) -> None:
        try:
            self._guard = Guard(self._path)
        except OSError as error:
            self._open_private(str(error.strerror or error))
            return
        reason = ""
        for _ in range(2):
            try:
                self.connection = connect(self._path)
                self._catch_up()
                return
            except sqlite3.Error as error:
                self._disconnect()
                reason = str(error)
                if "locked" in reason:
                    raise StorageError(
                        f"another process has kept the index {self._path} locked", hint="try again"
                    ) from None
                if _unusable(reason):
                    break
            except (_StaleError, NotFoundError) as error:
                self._disconnect()
                reason = str(error)
            except BaseException:
                self.close()
                raise
            if not self._guard.discard():
                reason = f"{reason}, and other processes use it"
                break
        self._open_private(reason)

    def _open_private(self, reason: str) -> None:
        """Make an index for this process alone."""
        if self._guard is not None:
            self._guard.close()
        log.warning("gml: the index %s cannot be used (%s): reading all runs again", self._path, reason)
        try:
            self.connection = private(self._path)
            try:
                self._catch_up()
            except (sqlite3.Error, _StaleError, NotFoundError):
                self.connection.close()
                self.connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
                self._catch_up()
        except sqlite3.Error as error:
            self._disconnect()
            raise StorageError(f"there is no room for an index ({error})", hint="free some space") from None

    def _disconnect(self) -> None:
        if self.connection is not None:
            self.connection.close()

    def close(self) -> None:
        """Close the file."""
        self._disconnect()
        if self._guard is not None:
            self._guard.close()

    def _catch_up(self) -> None:
        view, connection = self._view, self.connection
        if self._version() == schema.VERSION and self._seen() == (view.commit or ""):
            damaged = connection.execute("SELECT run_id FROM damage LIMIT ?", (_RETRIED,)).fetchall()
            readable = [run_id for (run_id,) in damaged if _readable(view, run_id)]
            if readable:
                with transaction(connection):
                    Updater(connection).renew(view, readable)
            return
        with transaction(connection):
            version = self._version()
            if version not in {0, schema.VERSION}:
                raise _StaleError(f"version {version}")
            seen = self._seen() if version else ""
            if seen is None:
                raise _StaleError("what it has seen is unknown")
            if version and seen == (view.commit or ""):
                return  # another process was faster
            updater = Updater(connection) if version else self._create()
            if not seen:
                updater.build(view, self._progress)
            else:
                tree = tree_of(view, seen)
                if tree is None:
                    raise _StaleError(f"the ledger commit {seen} is gone")
                updater.advance(view, tree)
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('commit', ?)", (view.commit or "",))

    def _version(self) -> int:
        return int(self.connection.execute("PRAGMA user_version").fetchone()[0])

    def _seen(self) -> str | None:
        row = self.connection.execute("SELECT value FROM meta WHERE name = 'commit'").fetchone()
        return None if row is None else str(row[0])

    def _create(self) -> Updater:
        if self.connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise _StaleError("it is the database of something else")
        for statement in schema.statements(schema.TABLES):
            self.connection.execute(statement)
        self.connection.execute(f"PRAGMA user_version = {schema.VERSION}")
        return Updater(self.connection)

    def _ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Return the answer of a question; an index that proves damaged is made anew, once."""
        try:
            return question(self.connection)
        except sqlite3.DatabaseError as error:
            text = str(error)
            if not any(each in text for each in _DAMAGE):
                raise
        self._disconnect()
        if self._guard is not None and self._guard.discard():
            self._guard.close()
            self._open()
        else:
            self._open_private("it is damaged")
        return question(self.connection)

    # --- look-ups -----------------------------------------------------------------------------

    def damaged(self) -> list[CorruptError]:
        """Return what is wrong with the runs that could not be read."""
        rows = self._ask(lambda c: c.execute("SELECT message FROM damage ORDER BY run_id").fetchall())
        return [CorruptError(message) for (message,) in rows]

    def match_ids(self, text: str) -> list[str]:
        """Return the ids of runs that begin or end with a text, newest first."""
        tail = text[-schema.TAIL :][::-1]
        rows = self._ask(
            lambda c: c.execute(
                "SELECT run_id FROM run_rows WHERE (run_id >= ? AND run_id < ?) "
                "OR (tail >= ? AND tail < ?) ORDER BY position DESC",
                (text, text + "\x7f", tail, tail + "\x7f"),
            ).fetchall()
        )
        return [run_id for (run_id,) in rows if run_id.startswith(text) or run_id.endswith(text)]

    def match_names(self, name: str) -> list[str]:
        """Return the ids of active runs of a name, newest first."""
        rows = self._ask(
            lambda c: c.execute(
                "SELECT run_id FROM run_rows WHERE run_name = ? AND lifecycle_stage = 'active' "
                "ORDER BY position DESC",
                (name,),
            ).fetchall()
        )
        return [run_id for (run_id,) in rows]

    def children(self, run_id: str) -> list[str]:
        """Return the ids of runs nested in a run, oldest first."""
        rows = self._ask(
            lambda c: c.execute(
                "SELECT run_id FROM run_rows WHERE parent = ? ORDER BY position", (run_id,)
            ).fetchall()
        )
        return [child for (child,) in rows]

    def counts(self) -> dict[tuple[str, str], int]:
        """Return the number of runs by (experiment id, life-cycle stage)."""
        rows = self._ask(
            lambda c: c.execute(
                "SELECT experiment_id, lifecycle_stage, count(*) FROM run_rows GROUP BY 1, 2"
            ).fetchall()
        )
        return {(experiment, stage): count for experiment, stage, count in rows}

    def keys_of(self, run_ids: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
        """Return the params, metrics and tags that at least one of some runs has, each sorted.

        Tags include those that runs would have in MLflow, as in queries.
        """

        def answer(connection: sqlite3.Connection) -> tuple[list[str], list[str], list[str]]:
            shapes: set[bytes] = set()
            for start in range(0, len(run_ids), _LISTED):
                rows = connection.execute(
                    "SELECT DISTINCT d.key_ids FROM json_each(?) i JOIN run_rows r ON r.run_id = i.value "
                    "JOIN details d ON d.rid = r.rid",
                    (orjson.dumps(list(run_ids[start : start + _LISTED])).decode(),),
                )
                shapes.update(key_ids for (key_ids,) in rows)
            held: set[int] = set()
            for shape in shapes:
                numbers = array("I")
                numbers.frombytes(shape)
                held.update(numbers)
            out: dict[int, list[str]] = {schema.PARAM: [], schema.METRIC: [], schema.TAG: []}
            for key_id, section, key in connection.execute("SELECT key_id, section, key FROM keys"):
                if key_id in held:
                    out[section].append(key)
            return sorted(out[schema.PARAM]), sorted(out[schema.METRIC]), sorted(out[schema.TAG])

        return self._ask(answer)

    def all_keys(self) -> dict[str, set[str]]:
        """Return the keys that runs have, by `ast.METRIC`, `ast.PARAM` and `ast.TAG`.

        Those of runs that are not in the ledger any more may be among them. Tags as in `keys_of`.
        """
        found: dict[str, set[str]] = {ast.METRIC: set(), ast.PARAM: set(), ast.TAG: set()}
        entities = {number: entity for entity, number in SECTIONS.items()}
        for section, key in self._ask(lambda c: c.execute("SELECT section, key FROM keys").fetchall()):
            found[entities[section]].add(key)
        return found

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
            orders: from `parse_order`; none for newest first, by `position`.
            now_ms: what relative times refer to, milliseconds since the epoch.
            experiments: only runs of these experiment ids.
            stages: only runs of these life-cycle stages.
            limit: at most so many.

        Raises:
            NotCompilableError: the index cannot answer this query; evaluate it run by run.
        """
        experiments, stages = None if experiments is None else list(experiments), list(stages)

        def answer(connection: sqlite3.Connection) -> list[RunEntry]:
            for driven in (True, False):
                statement = Compiler(connection, now_ms).statement(
                    query, orders, experiments=experiments, stages=stages, limit=limit, driven=driven
                )
                if statement is None:
                    continue
                found = _run(connection, statement.functions, statement.sql, statement.parameters)
                if not driven or len(found) == limit:
                    break
            return [RunEntry(*row) for row in found]

        return self._ask(answer)


def _run(
    connection: sqlite3.Connection, functions: list[Callable[[Any], Any]], sql: str, parameters: list[Any]
) -> list[Any]:
    def call(number: int, value: Any) -> Any:
        answer = functions[number](value)
        return int(answer) if answer.__class__ is bool else answer

    connection.create_function("gml_call", 2, call, deterministic=True)
    try:
        return connection.execute(sql, parameters).fetchall()
    except sqlite3.OperationalError as error:
        if any(text in str(error) for text in _TOO_LARGE):
            raise NotCompilableError from None
        raise


def _readable(view: LedgerView, run_id: str) -> bool:
    """Whether a run that was damaged can be read now."""
    try:
        return view.run(run_id) is not None
    except Exception:  # noqa: BLE001 - whatever it is, it was noted when it was found
        return False


def _unusable(reason: str) -> bool:
    """Whether a message of SQLite is about the place of the file, not its content."""
    return any(text in reason for text in ("readonly", "unable to open", "full", "I/O"))
