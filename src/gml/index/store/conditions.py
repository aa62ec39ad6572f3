"""Conditions of a query as expressions of SQL that are 1, 0 or NULL.

SQL's NULL is the unknown of `gml.index.query.evaluate`, and SQL combines it in the same way. What SQL
cannot say exactly (patterns, NaN, JSON sections) is asked of the evaluator's own test functions, which
statements call by number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from gml.index.query import ast
from gml.index.query.evaluate import any_of, test_of
from gml.index.query.fields import MIXED, NUMBER, TEXT, type_of
from gml.index.query.times import resolve
from gml.index.store import schema
from gml.index.store.pieces import (
    NAN_TEXTS,
    Piece,
    Values,
    bindable,
    joined,
    json_column,
    json_values,
    storable,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from gml.index.query.evaluate import Test

SECTIONS: Final = {ast.METRIC: schema.METRIC, ast.PARAM: schema.PARAM, ast.TAG: schema.TAG}
_SQL_OPS: Final = {ast.EQ: "=", ast.NE: "!=", ast.LT: "<", ast.LE: "<=", ast.GT: ">", ast.GE: ">="}
_ATTRIBUTES: Final = {
    "artifact_uri": "('gml:/runs/' || r.run_id || '/artifacts')",
    "duration": "max(0, r.end_time - r.start_time)",
    "experiment_name": "(SELECT e.name FROM experiment_rows e WHERE e.experiment_id = r.experiment_id)",
}
# Longer lists are one question to the evaluator.
_LONGEST_LIST: Final = 8


class Conditions:
    """Compiles conditions for one state of the index.

    Args:
        connection: the index, for the numbers of keys.
        now_ms: what relative times refer to.
        place: joins the rows of a key to the statement and returns their alias.

    Attributes:
        functions: what `gml_call(number, value)` in the statement calls.
    """

    def __init__(self, connection: sqlite3.Connection, now_ms: int, place: Callable[[Values], str]) -> None:
        self._connection = connection
        self._place = place
        self._now = now_ms
        self._known: dict[tuple[int, str], int | None] = {}
        self.functions: list[Callable[[Any], Any]] = []

    def call(self, function: Callable[[Any], Any], value: str) -> Piece:
        """Return a call of a Python function on a value of the statement."""
        self.functions.append(function)
        return Piece(f"gml_call({len(self.functions) - 1}, {value})")

    def expression(self, node: ast.Expression) -> Piece:
        """Return a condition on the run `r` and its details `j`."""
        if isinstance(node, (ast.And, ast.Or)):
            word = "AND" if isinstance(node, ast.And) else "OR"
            return joined(word, [self.expression(term) for term in node.terms])
        if isinstance(node, ast.Not):
            inner = node.term
            if isinstance(inner, ast.Not):
                return self.expression(inner.term)
            piece = self.expression(inner)
            return Piece(f"NOT ({piece.sql})", piece.parameters)
        where = node.field
        if where.entity in SECTIONS:
            return self._keyed(node)
        if where.entity == ast.ATTRIBUTE:
            value = attribute(where.key)
            if isinstance(node, ast.IsNull):
                return Piece(f"{value} IS {'NOT ' if node.negated else ''}NULL")
            return self.condition(node, value)
        return self._json(node)

    def _json(self, node: ast.Comparison | ast.Membership | ast.Between | ast.IsNull) -> Piece:
        find = json_values(node.field)
        if isinstance(node, ast.IsNull):
            wanted = not node.negated
            return self.call(lambda text: (not find(text)) is wanted, json_column(node.field))
        test = test_of(node, self._now)
        return self.call(lambda text: any_of([test(v) for v in find(text)]), json_column(node.field))

    def _keyed(self, node: ast.Comparison | ast.Membership | ast.Between | ast.IsNull) -> Piece:
        """Return a condition on a metric, param or tag; its row is joined where the run has it."""
        places = [(each, self._place(each)) for each in self.rows(node.field)]
        if isinstance(node, ast.IsNull):
            found = " OR ".join(f"{alias}.id IS NOT NULL" for _, alias in places) or "0"
            return Piece(f"({found})" if node.negated else f"NOT ({found})")
        if not places:
            return Piece("NULL")
        # `metrics.loss.min`: a metric of that whole name goes before the part of another one.
        parts = [self.condition(node, each.value(alias), alias) for each, alias in places]
        cases = [
            f"WHEN {alias}.id IS NOT NULL THEN {part.sql}"
            for (_, alias), part in zip(places, parts, strict=True)
        ]
        return Piece(f"CASE {' '.join(cases)} END", [value for part in parts for value in part.parameters])

    def rows(self, where: ast.Field) -> list[Values]:
        """Return the rows that may hold a metric, param or tag; the first that a run has is meant."""
        section = SECTIONS[where.entity]
        table = "metric_rows" if where.entity == ast.METRIC else "text_rows"
        wanted = [(f"{where.key}.{where.part}", "")] if where.part and not where.exact else []
        wanted.append((where.key, where.part))
        out = []
        for key, part in wanted:
            key_id = self._key_id(section, key)
            if key_id is not None:
                out.append(Values(table, key_id << schema.SHIFT, part))
        return out

    def _key_id(self, section: int, key: str) -> int | None:
        if (section, key) not in self._known:
            row = None
            if storable(key):
                row = self._connection.execute(
                    "SELECT key_id FROM keys WHERE section = ? AND key = ?", (section, key)
                ).fetchone()
            self._known[section, key] = None if row is None else int(row[0])
        return self._known[section, key]

    def must_hold(self, node: ast.Comparison | ast.Membership | ast.Between, value: str, alias: str) -> Piece:
        """Return a condition that may say NULL where `condition` says 0: the run is left out anyhow."""
        if isinstance(node, ast.Comparison) and isinstance(node.value, ast.Number) and not node.value.is_nan:
            sql = _SQL_OPS.get(node.op)
            if sql is not None and node.op != ast.NE:
                number = f"{alias}.num" if type_of(node.field) == MIXED else value
                return Piece(f"{number} {sql} ?", [node.value.value])
        return self.condition(node, value, alias)

    def condition(
        self, node: ast.Comparison | ast.Membership | ast.Between, value: str, alias: str = ""
    ) -> Piece:
        """Return a condition on a value that is there: 1, 0, or NULL for unknown.

        Args:
            node: the condition.
            value: SQL of the value.
            alias: of the row of a param or tag, for its number.
        """
        kind = type_of(node.field)
        if isinstance(node, ast.Comparison):
            return self._comparison(node.field, node.op, node.value, value, alias)
        if isinstance(node, ast.Membership):
            texts = [
                each.value for each in node.values if isinstance(each, ast.Text) and storable(each.value)
            ]
            if len(texts) == len(node.values) > 1 and kind in {TEXT, MIXED}:
                piece = Piece(
                    f"{value} IN (SELECT value FROM json_each(?))",  # noqa: S608
                    [orjson.dumps(texts).decode()],
                )
            elif len(node.values) > _LONGEST_LIST:
                return self._asked(kind, test_of(node, self._now), value)
            else:
                equal = [self._comparison(node.field, ast.EQ, v, value, alias) for v in node.values]
                piece = joined("OR", equal)
        else:
            low = self._comparison(node.field, ast.GE, node.low, value, alias)
            piece = joined("AND", [low, self._comparison(node.field, ast.LE, node.high, value, alias)])
        return Piece(f"NOT ({piece.sql})" if node.negated else f"({piece.sql})", piece.parameters)

    def _comparison(self, where: ast.Field, op: str, literal: ast.Literal, value: str, alias: str) -> Piece:
        sql, kind = _SQL_OPS.get(op), type_of(where)
        if sql is not None:
            match literal:
                case ast.Text(text) if kind in {TEXT, MIXED} and storable(text):
                    return Piece(f"({value} {sql} ?)", [text])
                case ast.Number() if kind == NUMBER and not literal.is_nan:
                    # NULL in a number column is NaN: unequal to every number, and nothing else.
                    return Piece(f"coalesce({value} {sql} ?, {int(op == ast.NE)})", [literal.value])
                case ast.Number() if kind == MIXED and alias and not literal.is_nan:
                    return _mixed(op, sql, alias, literal.value)
                case ast.Boolean(flag) if where.entity == ast.ATTRIBUTE and where.key == "dirty":
                    return Piece(f"({value} {sql} ?)", [int(flag)])
                case ast.Duration(ms):
                    return Piece(f"({value} {sql} ?)", [bindable(ms)])
                case ast.Number(number) if kind not in {NUMBER, MIXED} and not literal.is_nan:
                    return Piece(f"({value} {sql} ?)", [bindable(number)])
                case ast.Span() | ast.Relative() | ast.Day():
                    return _span(op, value, *(bindable(end) for end in resolve(literal, self._now)))
                case _:
                    pass
        return self._asked(kind, test_of(ast.Comparison(where, op, literal), self._now), value)

    def _asked(self, kind: str, test: Test, value: str) -> Piece:
        """Return a condition that the evaluator's own test decides."""
        if kind == NUMBER:
            return self.call(lambda number: test(float("nan") if number is None else number), value)
        return self.call(lambda found: None if found is None else test(found), value)


def attribute(key: str) -> str:
    """Return the SQL of an attribute of the run `r`."""
    return _ATTRIBUTES.get(key, f"r.{key}")


def _mixed(op: str, sql: str, alias: str, number: float) -> Piece:
    """Compare a param or tag with a number: text that is none is unequal to it, and unknown otherwise."""
    unequal = int(op == ast.NE)
    if op in {ast.EQ, ast.NE}:
        return Piece(f"coalesce({alias}.num {sql} ?, {unequal})", [number])
    return Piece(
        f"CASE WHEN {alias}.num IS NOT NULL THEN {alias}.num {sql} ? "
        f"WHEN lower({alias}.value) IN {NAN_TEXTS} THEN 0 END",
        [number],
    )


def _span(op: str, value: str, start: float, end: float) -> Piece:
    match op:
        case ast.EQ:
            return Piece(f"({value} >= ? AND {value} < ?)", [start, end])
        case ast.NE:
            return Piece(f"({value} < ? OR {value} >= ?)", [start, end])
        case ast.LT:
            return Piece(f"({value} < ?)", [start])
        case ast.LE:
            return Piece(f"({value} < ?)", [end])
        case ast.GT:
            return Piece(f"({value} >= ?)", [end])
        case _:
            return Piece(f"({value} >= ?)", [start])
