"""The order of runs: `order_by` of the API and `--sort` of the command line.

Numbers come first, then NaN, then text, then runs without a value, in ascending and descending order
alike (as MLflow does for what it orders). Ties, and runs without any order, are newest first: start time
descending, then run id descending, since ids are time-ordered.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gml.index.query import ast, fields, tokens
from gml.index.query.errors import QueryError
from gml.index.query.fields import Context, NeedsHistoryError, getter, number_of, type_of
from gml.index.query.parser import Parser
from gml.index.query.unparse import unparse_field

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gml.domain.run import Run
    from gml.index.query.fields import History

MAX_KEYS: Final = 64
_EXAMPLE: Final = "an order looks like metrics.auc DESC"


@dataclass(frozen=True, slots=True)
class Order:
    """One key of an order."""

    field: ast.Field
    descending: bool = False


def parse_order(items: Iterable[str]) -> tuple[Order, ...]:
    """Return the order that `order_by` asks for.

    Args:
        items: `field [ASC|DESC]` each, the most important first.

    Raises:
        QueryError: a field is unknown or a data set, comes twice, or something follows it.

    Example:
        >>> parse_order(["metrics.auc DESC"])[0].descending
        True
    """
    return _distinct([(_read(Parser(text), text), text) for text in items])


def parse_sort(text: str) -> tuple[Order, ...]:
    """Return the order that `--sort` asks for: fields with commas between, `-` before one descends.

    Raises:
        QueryError: as in `parse_order`.

    Example:
        >>> [order.descending for order in parse_sort("-metrics.auc,start_time")]
        [True, False]
    """
    pairs: list[tuple[Order, str]] = []
    start = 0
    while True:
        signs = len(text) - len(text[start:].lstrip())
        descending = text[signs : signs + 1] == "-"
        begin = signs + (text[signs : signs + 1] in {"-", "+"})
        # What lies before is blanked, not cut: positions in messages are those of the whole text.
        parser = Parser(" " * begin + _until_comma(text, begin))
        pairs.append((_read(parser, text, descending=descending), text))
        if len(pairs) > MAX_KEYS:
            raise QueryError(f"an order has at most {MAX_KEYS} keys", text, start)
        start = parser.next.end + 1
        if start > len(text):
            return _distinct(pairs)


def parse_fields(text: str) -> list[tuple[ast.Field, str]]:
    """Return the fields that a list with commas between names, each with how it is written.

    Raises:
        QueryError: a field is unknown, or something follows it.

    Example:
        >>> [written for _, written in parse_fields("params.lr, `user`")]
        ['params.lr', '`user`']
    """
    found = []
    start = 0
    while start <= len(text):
        part = _until_comma(text, start)
        # What lies before is blanked, not cut: positions in messages are those of the whole text.
        parser = Parser(" " * start + part)
        try:
            field = parser.field()
            if parser.next.kind != tokens.END:
                raise parser.expected("a comma or the end", "such as params.lr,metrics.auc,user")
        except QueryError as error:
            raise QueryError(error.message, text, error.position, hint=error.hint) from None
        found.append((field, part.strip()))
        start += len(part) + 1
    return found


def sort_runs(
    runs: Iterable[Run],
    orders: Sequence[Order],
    *,
    experiment_names: Mapping[str, str] | None = None,
    history: History | None = None,
) -> list[Run]:
    """Return runs in an order; see the module for where NaN, text and missing values go.

    Args:
        runs: any runs.
        orders: from `parse_order` or `parse_sort`; none for newest first.
        experiment_names: by experiment id, for an order by experiment name; without it the name
            counts as missing.
        history: reads metric points, for an order by `metrics.loss@step=10`.

    Raises:
        QueryError: an order needs history and there is none.
    """
    out = sorted(runs, key=lambda run: (run.start_time, run.run_id), reverse=True)
    names = experiment_names or {}
    # Sorting is stable, so the least important key goes first.
    for order in reversed(orders):
        find = getter(order.field)
        try:
            values = [find(run, Context(names.get(run.experiment_id), history)) for run in out]
        except NeedsHistoryError:
            name = unparse_field(order.field)
            raise QueryError(
                f"{name} needs the history of metrics, which is not read here", name, 0
            ) from None
        out = _by_value(out, values, order)
    return out


def _by_value(runs: list[Run], values: list[Any], order: Order) -> list[Run]:
    mixed = type_of(order.field) == fields.MIXED
    groups: tuple[list[tuple[Any, Run]], ...] = ([], [], [], [])
    numbers, nans, texts, missing = groups
    for run, found in zip(runs, values, strict=True):
        value = found
        if isinstance(value, list):
            # Several values have no place in an order.
            value = value[0] if len(value) == 1 else None
        if mixed and value is not None:
            number = number_of(value)
            value = value if number is None else number
        if value is None:
            missing.append((value, run))
        elif isinstance(value, str):
            texts.append((value, run))
        elif math.isnan(value):
            nans.append((value, run))
        else:
            numbers.append((value, run))
    for group in (numbers, texts):
        group.sort(key=_value, reverse=order.descending)
    return [run for group in groups for _, run in group]


def _value(pair: tuple[Any, Run]) -> Any:
    return pair[0]


def _read(parser: Parser, text: str, *, descending: bool = False) -> Order:
    first = parser.next
    try:
        field = parser.field()
        if field.entity == ast.DATASET:
            raise parser.error("runs cannot be ordered by data sets: a run may have several", first, _EXAMPLE)
        if parser.accept("DESC"):
            descending = True
        elif parser.accept("ASC"):
            descending = False
        if parser.next.kind != tokens.END:
            hint = "missing values are always last" if parser.next.text.upper() == "NULLS" else _EXAMPLE
            raise parser.expected("ASC, DESC or the end of the order", hint)
    except QueryError as error:
        raise QueryError(error.message, text, error.position, hint=error.hint) from None
    return Order(field, descending)


def _until_comma(text: str, start: int) -> str:
    """Return a part of the text up to the next comma that is not in quotes."""
    quote = ""
    for position in range(start, len(text)):
        character = text[position]
        if quote:
            quote = "" if character == quote else quote
        elif character in "`\"'":
            quote = character
        elif character == ",":
            return text[start:position]
    return text[start:]


def _distinct(pairs: list[tuple[Order, str]]) -> tuple[Order, ...]:
    seen: set[ast.Field] = set()
    for order, text in pairs:
        if order.field in seen:
            raise QueryError(
                f"{unparse_field(order.field)} is in the order twice",
                text,
                order.field.position,
                hint="keep one",
            )
        seen.add(order.field)
    return tuple(order for order, _ in pairs)
