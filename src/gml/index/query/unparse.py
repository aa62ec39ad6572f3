"""From a `Query` back to text, in one canonical spelling."""

from __future__ import annotations

import math
import re
from typing import Final

from gml.index.query import ast
from gml.index.query.times import format_duration, format_time

_PLAIN = re.compile(r"[\w.\-/:]+")
_ENTITY: Final = {
    ast.METRIC: "metrics", ast.PARAM: "params", ast.TAG: "tags",
    ast.DATASET: "datasets", ast.CODE: "code", ast.ENV: "env",
}  # fmt: skip


def unparse(query: ast.Query) -> str:
    """Return a text that parses to the same query.

    Raises:
        ValueError: a text or key of a query that was built by hand cannot be written.

    Example:
        >>> from gml.index.query.parser import parse
        >>> unparse(parse('param.a=="x"and(not metric.b<.5 or run.status like "F%")'))
        "params.a = 'x' AND (NOT metrics.b < 0.5 OR status LIKE 'F%')"
    """
    return "" if query.expression is None else _expression(query.expression)


def unparse_field(field: ast.Field) -> str:
    """Return a field as a query names it.

    Example:
        >>> unparse_field(ast.Field(ast.METRIC, "val auc", "max", exact=True))
        'metrics.`val auc`.max'
    """
    if field.entity == ast.ATTRIBUTE:
        return field.key
    key = field.key
    plain = _PLAIN.fullmatch(key) is not None and not field.exact
    if field.entity == ast.METRIC and not field.part and field.step is None:
        head, _, tail = key.rpartition(".")
        plain = plain and not (head and tail in ast.PARTS)
    if not plain:
        key = f"`{key}`" if "`" not in key else _quoted(key, '"')
    part = f".{field.part}" if field.part else ""
    step = f"@step={field.step}" if field.step is not None else ""
    return f"{_ENTITY[field.entity]}.{key}{part}{step}"


def unparse_literal(value: ast.Literal) -> str:
    """Return a value as a query writes it."""
    match value:
        case ast.Text(text):
            return _quoted(text, "'") if _fits(text, "'") else _quoted(text, '"')
        case ast.Number(number):
            return "nan" if math.isnan(number) else repr(number)
        case ast.Boolean(flag):
            return "true" if flag else "false"
        case ast.Duration(ms):
            return format_duration(ms)
        case ast.Span():
            return f"'{format_time(value)}'"
        case _:
            return format_time(value)


def _expression(node: ast.Expression, within: type | None = None) -> str:
    if isinstance(node, ast.Or):
        text = " OR ".join([_expression(term, ast.Or) for term in node.terms])
        return text if within is None else f"({text})"
    if isinstance(node, ast.And):
        text = " AND ".join([_expression(term, ast.And) for term in node.terms])
        return text if within in {None, ast.Or} else f"({text})"
    if isinstance(node, ast.Not):
        return f"NOT {_expression(node.term, ast.Not)}"
    name = unparse_field(node.field)
    no = "NOT " if not isinstance(node, ast.Comparison) and node.negated else ""
    match node:
        case ast.Comparison():
            return f"{name} {node.op} {unparse_literal(node.value)}"
        case ast.Membership():
            return f"{name} {no}IN ({', '.join(unparse_literal(value) for value in node.values)})"
        case ast.Between():
            low, high = unparse_literal(node.low), unparse_literal(node.high)
            return f"{name} {no}BETWEEN {low} AND {high}"
        case _:
            return f"{name} IS {no}NULL"


def _fits(text: str, quote: str) -> bool:
    """Whether a text can stand between these quotes: only doubled ones are allowed inside."""
    return quote not in text.replace(quote * 2, "")


def _quoted(text: str, quote: str) -> str:
    if not _fits(text, quote):
        raise ValueError(f"a query cannot say {text!r:.80}: it has both kinds of quotes")
    return f"{quote}{text}{quote}"
