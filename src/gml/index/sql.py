"""`gml sql`: questions in SQL over documented views, which cannot change anything or run for ever.

SQLite itself refuses what is not asked for by name: an authorizer allows SELECT on the views and a list of
functions, for everything else the statement is not even prepared. docs/sql.md documents the views.
"""

from __future__ import annotations

import re
import sqlite3
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import orjson

from gml.domain.errors import GmlError, UsageError
from gml.index.store import views

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from gml.domain.run import Run
    from gml.index.store import RunIndex
    from gml.ledger.history import Columns

TIMEOUT: Final = 60.0
POINTS_A_CHUNK: Final = 10_000
# Texts and blobs that a query may make, such as by replace() and group_concat().
LONGEST_VALUE: Final = 64 * 1024 * 1024
_STEPS: Final = 20_000
_FETCHED: Final = 256
_KEPT: Final = 4

# Everything that computes from its arguments alone; nothing that reads files, loads code, makes bytes of any
# size, or tells about the database.
FUNCTIONS: Final = frozenset([
    "->", "->>", "abs", "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "avg", "ceil",
    "ceiling", "char", "coalesce", "cos", "cosh", "count", "cume_dist", "date", "datetime", "degrees",
    "dense_rank", "exp", "first_value", "floor", "format", "glob", "group_concat", "hex", "ifnull",
    "iif", "instr", "json", "json_array", "json_array_length", "json_extract", "json_group_array",
    "json_group_object", "json_object", "json_quote", "json_type", "json_valid", "julianday", "lag",
    "last_value", "lead", "length", "like", "likelihood", "likely", "ln", "log", "log10", "log2",
    "lower", "ltrim", "max", "min", "mod", "nth_value", "ntile", "nullif", "percent_rank", "pi", "pow",
    "power", "printf", "quote", "radians", "rank", "replace", "round", "row_number", "rtrim", "sign",
    "sin", "sinh", "sqrt", "strftime", "substr", "substring", "sum", "tan", "tanh", "time", "total",
    "trim", "trunc", "typeof", "unicode", "unixepoch", "unlikely", "upper",
])  # fmt: skip
_OURS: Final = frozenset(["gml_point", "gml_chunks", "gml_chunk", "gml_artifacts", "gml_commit"])
_TABLES: Final = frozenset(["json_each", "json_tree"])
_HINT: Final = "docs/sql.md describes the views"


class Sources:
    """What views read when a query gets to it.

    Args:
        points: (run id, metric) -> steps, timestamps and values.
        artifacts: run id -> path, size in bytes, SHA-256 and place of its files.
        commit: id of a code commit -> time (milliseconds), author, e-mail, subject and parents; None
            where the commit is not in the repository.
    """

    def __init__(
        self,
        points: Callable[[str, str], Columns],
        artifacts: Callable[[str], Iterable[tuple[str, int, str, str]]],
        commit: Callable[[str], tuple[int, str, str, str, str] | None],
    ) -> None:
        self.points = points
        self.artifacts = artifacts
        self.commit = commit


class SqlSession:
    """A connection to the index for one query at a time.

    Args:
        index: the open index; it is this session's from now on.
        sources: what is not in the index.
        live: runs that are not, or not as they are now, in the ledger.
        experiments: names of experiments by id.
        timeout: seconds that a query may take.
    """

    def __init__(
        self,
        index: RunIndex,
        sources: Sources,
        *,
        live: Iterable[Run] = (),
        experiments: dict[str, str] | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        self._connection = connection = index.connection
        self._sources = sources
        self._timeout = timeout
        self._end = 0.0
        self._failure: GmlError | None = None
        self._points: dict[tuple[str, str], tuple[list[Any], ...]] = {}
        views.create(connection, live, experiments)
        for name, arguments, function in (
            ("gml_point", 4, self._point),
            ("gml_chunks", 2, self._chunks),
            ("gml_chunk", 3, self._chunk),
            ("gml_artifacts", 1, self._artifacts),
            ("gml_commit", 1, self._commit),
        ):
            connection.create_function(name, arguments, self._guarded(function), deterministic=True)
        # SQLite prepares a table-valued function once, with statements of its own.
        for name in _TABLES:
            connection.execute(f"SELECT 1 FROM {name}('[]')")  # noqa: S608
        # From one state of the index, whatever other processes do meanwhile.
        connection.execute("BEGIN")
        connection.execute("PRAGMA query_only = ON")
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
        connection.set_progress_handler(self._late, _STEPS)
        connection.set_authorizer(_authorize)

    def query(self, text: str) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
        """Run one SELECT and return the names of its columns, and its rows as they are found.

        Raises:
            UsageError: it is not a single SELECT on the views, it takes too long, or its values are too
                large; also while rows are read.
            GmlError: metric points that it asks for cannot be read.

        Example:
            >>> columns, rows = session.query("SELECT count(*) AS n FROM runs")  # doctest: +SKIP
        """
        self._end = time.monotonic() + self._timeout
        self._failure = None
        cursor = self._connection.cursor()
        try:
            cursor.execute(text)
            first = cursor.fetchmany(_FETCHED)
        except (sqlite3.Error, sqlite3.Warning, ValueError, MemoryError) as error:
            raise self._error(error, text) from None
        if cursor.description is None:
            raise UsageError("there is no SELECT", hint=_HINT)
        return [column[0] for column in cursor.description], self._rows(cursor, first, text)

    def _rows(self, cursor: sqlite3.Cursor, rows: list[Any], text: str) -> Iterator[tuple[Any, ...]]:
        while rows:
            yield from rows
            try:
                rows = cursor.fetchmany(_FETCHED)
            except (sqlite3.Error, MemoryError) as error:
                raise self._error(error, text) from None

    def _late(self) -> int:
        return int(time.monotonic() > self._end)

    def _error(self, error: Exception, text: str) -> GmlError:
        """Return what a user can understand of what SQLite said."""
        if self._failure is not None:
            return self._failure
        said = str(error)
        if "interrupted" in said:
            return UsageError(
                f"the query took more than {self._timeout:g} s", hint="--timeout gives it longer"
            )
        if isinstance(error, (sqlite3.DataError, MemoryError)) or "too big" in said:
            return UsageError("the query makes a value that is too large", hint="select less at once")
        if isinstance(error, UnicodeEncodeError):
            return UsageError("the query is not text that UTF-8 can encode")
        if "one statement" in said:
            return UsageError("a query is one SELECT, without others after it", hint=_HINT)
        for pattern, explain in _EXPLAINED:
            match = re.search(pattern, said)
            if match:
                return explain(match, text)
        return UsageError(f"SQL: {said}", hint=_HINT)

    # --- what views read ----------------------------------------------------------------------

    def _guarded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Keep the error of a function: SQLite would only say that there was one."""

        def guarded(*arguments: Any) -> Any:
            if time.monotonic() > self._end:
                self._failure = UsageError(
                    f"the query took more than {self._timeout:g} s", hint="--timeout gives it longer"
                )
                raise self._failure
            try:
                return function(*arguments)
            except GmlError as error:
                self._failure = error
                raise

        return guarded

    def _columns(self, run_id: str, key: str) -> tuple[list[Any], ...]:
        found = self._points.get((run_id, key))
        if found is None:
            while len(self._points) >= _KEPT:
                del self._points[next(iter(self._points))]
            found = tuple(column.tolist() for column in self._sources.points(run_id, key))
            self._points[run_id, key] = found
        return found

    def _chunks(self, run_id: str, key: str) -> str:
        return orjson.dumps(list(range(0, len(self._columns(run_id, key)[0]), POINTS_A_CHUNK))).decode()

    def _chunk(self, run_id: str, key: str, start: int) -> str:
        # Only its length matters: the values go through `_point`, bit by bit as they were logged.
        count = min(POINTS_A_CHUNK, len(self._columns(run_id, key)[0]) - start)
        return f"[{','.join('0' * count)}]"

    def _point(self, run_id: str, key: str, place: int, column: int) -> Any:
        return self._columns(run_id, key)[column][place]

    def _artifacts(self, run_id: str) -> str:
        files = {path: facts for path, *facts in self._sources.artifacts(run_id)}
        return orjson.dumps(files).decode()

    def _commit(self, commit: str) -> str:
        return orjson.dumps(self._sources.commit(commit) or ()).decode()


def _authorize(
    action: int, first: str | None, second: str | None, database: str | None, view: str | None
) -> int:
    """Say what a statement may do; `view` is the view of ours whose text asks, None for the user's own."""
    inside = view in views.COLUMNS
    match action:
        case sqlite3.SQLITE_SELECT | sqlite3.SQLITE_RECURSIVE:
            return sqlite3.SQLITE_OK
        case sqlite3.SQLITE_READ if inside or first in views.COLUMNS or first in _TABLES:
            return sqlite3.SQLITE_OK
        case sqlite3.SQLITE_READ if not second and (database is None or first in views.INNER):
            # A `WITH` of the query, or that a view's table has rows: SQLite does not say for which view.
            return sqlite3.SQLITE_OK
        case sqlite3.SQLITE_FUNCTION if (second or "").lower() in FUNCTIONS or (inside and second in _OURS):
            return sqlite3.SQLITE_OK
        case _:
            return sqlite3.SQLITE_DENY


def _near(word: str, known: Iterable[str], otherwise: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(word.rpartition(".")[2].lower(), list(known), 1)
    return f"did you mean {near[0]!r}?" if near else otherwise


def _no_column(match: re.Match[str], text: str) -> GmlError:
    used = [name for name in views.COLUMNS if re.search(rf"\b{name}\b", text, re.IGNORECASE)]
    columns = dict.fromkeys(c for name in used or views.COLUMNS for c in views.COLUMNS[name])
    listed = "; ".join(f"{name} has {', '.join(views.COLUMNS[name])}" for name in used[:1])
    return UsageError(f"there is no column {match[1]}", hint=_near(match[1], columns, listed or _HINT))


def _no_table(match: re.Match[str], _text: str) -> GmlError:
    name = match[1].rpartition(".")[2]
    return UsageError(
        f"there is no view {name!r}",
        hint=_near(name, views.COLUMNS, f"the views are {', '.join(views.COLUMNS)}"),
    )


def _no_function(match: re.Match[str], _text: str) -> GmlError:
    return UsageError(f"the function {match[1]} is not available", hint=_near(match[1], FUNCTIONS, _HINT))


_EXPLAINED: Final[tuple[tuple[str, Callable[[re.Match[str], str], GmlError]], ...]] = (
    (r"no such column: (.+)", _no_column),
    (r"no such table: (.+)", _no_table),
    (r"access to (?:\w+\.)*?(\w+)\.\w* is prohibited", _no_table),
    (r"(?:no such function|not authorized to use function): (.+)", _no_function),
    (r"not authorized|cannot VACUUM|attempt to write|cannot modify|may not be", lambda *_: UsageError(
        "gml sql only reads: a query is one SELECT on the views", hint=_HINT)),
    (r'near "(.*)": syntax error', lambda match, text: UsageError(
        f"the SQL has an error near {match[1]!r}{_place(match[1], text)}", hint=_HINT)),
    (r"incomplete input", lambda _match, _text: UsageError("the SQL ends in the middle", hint=_HINT)),
)  # fmt: skip


def _place(word: str, text: str) -> str:
    found = [match.start() for match in re.finditer(re.escape(word), text)]
    return f" (at character {found[0] + 1})" if len(found) == 1 else ""


def plain(value: Any) -> Any:
    """Return a value of a row as JSON and CSV can say it: bytes as hexadecimal text."""
    with suppress(AttributeError):
        return value.hex() if isinstance(value, bytes) else value
    return value
