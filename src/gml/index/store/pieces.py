"""What statements are put together from: fragments of SQL with their parameters.

A fragment holds names of our tables, operators, question marks and whole numbers that we made. No text
of the user is ever in one: values and keys are parameters, always.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from gml.index.query import ast
from gml.index.query.fields import CONTEXT_TAG, lookup
from gml.index.store import schema
from gml.index.store.rows import finite_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_NANS: Final = ("nan", "+nan", "-nan")
NAN_TEXTS: Final = "('nan', '+nan', '-nan')"
_PARTS: Final = {
    "": "{0}.last",
    ast.LAST: "{0}.last",
    ast.MIN: "CASE WHEN {0}.count IS NULL THEN {0}.last ELSE {0}.min END",
    ast.MAX: "CASE WHEN {0}.count IS NULL THEN {0}.last ELSE {0}.max END",
    ast.COUNT: "coalesce({0}.count, 1)",
}
_COLUMNS: Final = {ast.CODE: "j.source", ast.ENV: "j.environment", ast.DATASET: "j.inputs"}
_MAX_INT: Final = (1 << 63) - 1


class NotCompilableError(Exception):
    """The query needs what is not in the index, or is too large for SQLite: evaluate it run by run."""


@dataclass(slots=True)
class Piece:
    """A part of a statement with its parameters in order of appearance."""

    sql: str
    parameters: list[Any] = field(default_factory=list)


class Values(NamedTuple):
    """The rows of a key: those of a table whose ids begin at `base`."""

    table: str
    base: int
    part: str = ""

    def value(self, alias: str) -> str:
        """Return the SQL of the value in a row; NULL is NaN in metrics."""
        return f"{alias}.value" if self.table == "text_rows" else _PARTS[self.part].format(alias)

    def of(self, alias: str, run: str = "r.rid") -> str:
        """Return the condition that a row belongs to a run."""
        return f"{alias}.id = {run} + {self.base}"

    def span(self, alias: str) -> str:
        """Return the condition that a row belongs to the key."""
        return f"{alias}.id BETWEEN {self.base} AND {self.base + schema.LAST_RID}"


def joined(word: str, pieces: Sequence[Piece]) -> Piece:
    """Return pieces with AND or OR between them, as a balanced tree: SQLite bounds the depth of one."""
    if len(pieces) == 1:
        return pieces[0]
    middle = len(pieces) // 2
    left, right = joined(word, pieces[:middle]), joined(word, pieces[middle:])
    return Piece(f"({left.sql}) {word} ({right.sql})", left.parameters + right.parameters)


def among(column: str, values: Iterable[str]) -> Piece:
    """Return the condition that a text column is one of some values."""
    listed = list(values)
    if len(listed) == 1:
        return Piece(f"{column} = ?", listed)
    # One JSON parameter: SQLite bounds the number of parameters, not the length of one.
    return Piece(f"{column} IN (SELECT value FROM json_each(?))", [orjson.dumps(listed).decode()])  # noqa: S608


def storable(text: str) -> bool:
    """Whether SQLite can take a text as a parameter: JSON never holds others, so nothing is equal to them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def bindable(number: float) -> float:
    """Return a number that SQLite can take and that compares the same with all that it can hold."""
    if isinstance(number, int) and not -_MAX_INT <= number <= _MAX_INT:
        return float(number) if abs(number) < 1 << 1000 else float("inf") * (1 if number > 0 else -1)
    return number


def json_column(where: ast.Field) -> str:
    """Return the column that holds the values of a `code.`, `env.` or data set field."""
    return _COLUMNS[where.entity]


def json_values(where: ast.Field) -> Callable[[str], list[str]]:
    """Return the function from such a column to the values of the field in it."""
    if where.entity == ast.DATASET:

        def datasets(text: str) -> list[str]:
            if where.key == "context":
                found = [(entry.get("tags") or {}).get(CONTEXT_TAG) for entry in orjson.loads(text)]
            else:
                found = [entry.get(where.key) for entry in orjson.loads(text)]
            return [value for value in found if isinstance(value, str)]

        return datasets

    def section(text: str) -> list[str]:
        value = lookup(orjson.loads(text), where.key)
        return value if isinstance(value, list) else [] if value is None else [value]

    return section


def json_once(where: ast.Field) -> Callable[[str], list[str]]:
    """Return `json_values` that remembers its last answer: an order asks for each text twice."""
    values = json_values(where)
    last: tuple[str, list[str]] = ("", [])

    def once(text: str) -> list[str]:
        nonlocal last
        if last[0] != text:
            last = (text, values(text))
        return last[1]

    return once


def json_group(values: Callable[[str], list[str]]) -> Callable[[str], int]:
    """Return the function from such a column to where the field stands in an order.

    0 for numbers, 1 for NaN, 2 for text, 3 for what has no place: missing and several values.
    """

    def group(text: str) -> int:
        found = values(text)
        if len(found) != 1:
            return 3
        if finite_number(found[0]) is not None:
            return 0
        return 1 if found[0].lower() in _NANS else 2

    return group


def json_rank(values: Callable[[str], list[str]]) -> Callable[[str], float | str | None]:
    """Return the function from such a column to the value of the field within its group."""

    def rank(text: str) -> float | str | None:
        found = values(text)
        if len(found) != 1 or found[0].lower() in _NANS:
            return None
        number = finite_number(found[0])
        return found[0] if number is None else number

    return rank
