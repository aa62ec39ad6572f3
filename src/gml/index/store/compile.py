"""From a query's tree to parameterised SQL. No text of the user ever becomes part of a statement.

SQL's NULL is the unknown of `gml.index.query.evaluate`, and SQL combines it in the same way, so every
condition becomes an expression that is 1, 0 or NULL. A condition on a metric, param or tag is looked up in
its own table; the first one that must hold leads the search. What SQL cannot say exactly (patterns,
NaN literals, JSON sections) is asked of the evaluator's own test functions, registered in SQLite.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson

from gml.index.query import ast
from gml.index.query.evaluate import any_of, test_of
from gml.index.query.fields import CONTEXT_TAG, MIXED, NUMBER, TEXT, lookup, type_of
from gml.index.query.times import resolve
from gml.index.store import schema

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Sequence

    from gml.index.query import Order, Query

_SQL_OPS: Final = {ast.EQ: "=", ast.NE: "!=", ast.LT: "<", ast.LE: "<=", ast.GT: ">", ast.GE: ">="}
_SECTIONS: Final = {ast.METRIC: schema.METRIC, ast.PARAM: schema.PARAM, ast.TAG: schema.TAG}
_ATTRIBUTES: Final = {
    "artifact_uri": "('gml:/runs/' || r.run_id || '/artifacts')",
    "duration": "max(0, r.end_time - r.start_time)",
    "experiment_name": "(SELECT name FROM experiments e WHERE e.experiment_id = r.experiment_id)",
}
_PARTS: Final = {"": "last", ast.LAST: "last", ast.MIN: "min", ast.MAX: "max", ast.COUNT: "count"}


class NotCompilableError(Exception):
    """The query needs what is not in the index, such as metric points."""


@dataclass(slots=True)
class Piece:
    """A part of a statement with its parameters in order of appearance."""

    sql: str
    parameters: list[Any] = field(default_factory=list)


@dataclass(slots=True)
class Statement:
    """A whole statement, and the test functions it calls by number."""

    sql: str
    parameters: list[Any]
    tests: list[Callable[[Any], bool | None]]


class Compiler:
    """Compiles one query for one state of the index.

    Args:
        connection: the index, for the numbers of keys.
        now_ms: what relative times refer to.
    """

    def __init__(self, connection: sqlite3.Connection, now_ms: int) -> None:
        self._connection = connection
        self._now = now_ms
        self.tests: list[Callable[[Any], bool | None]] = []

    def statement(
        self,
        query: Query | None,
        orders: Sequence[Order] = (),
        *,
        experiments: Iterable[str] | None = None,
        stages: Iterable[str] = ("active",),
        limit: int | None = None,
    ) -> Statement:
        """Return the statement that selects run_id, record and folder of the matching runs, in order.

        Raises:
            NotCompilableError: a naive evaluation has to do it.
        """
        if query is not None and query.needs_history:
            raise NotCompilableError
        where = [_in("r.lifecycle_stage", list(stages))]
        if experiments is not None:
            where.append(_in("r.experiment_id", list(experiments)))
        source = Piece("runs r")
        if query is not None and query.expression is not None:
            terms = query.expression.terms if isinstance(query.expression, ast.And) else (query.expression,)
            lead = next((term for term in terms if self._can_lead(term)), None)
            if lead is not None:
                source, condition = self._lead(lead)
                where.insert(0, condition)
            where.extend(self._expression(term) for term in terms if term is not lead)
        joins, order = self._order(orders)
        sql = f"SELECT r.run_id, r.record, r.folder FROM {source.sql}{joins.sql} WHERE "  # noqa: S608
        sql += " AND ".join(f"({piece.sql})" for piece in where)
        sql += f" ORDER BY {order.sql}"
        parameters = source.parameters + joins.parameters + [p for piece in where for p in piece.parameters]
        parameters += order.parameters
        if limit is not None:
            sql += " LIMIT ?"
            parameters.append(limit)
        return Statement(sql, parameters, self.tests)

    # --- conditions ---------------------------------------------------------------------------

    def _expression(self, node: ast.Expression) -> Piece:
        if isinstance(node, (ast.And, ast.Or)):
            word = " AND " if isinstance(node, ast.And) else " OR "
            parts = [self._expression(term) for term in node.terms]
            return Piece(word.join(f"({p.sql})" for p in parts), [x for p in parts for x in p.parameters])
        if isinstance(node, ast.Not):
            inner = self._expression(node.term)
            return Piece(f"NOT ({inner.sql})", inner.parameters)
        where = node.field
        if where.entity in _SECTIONS:
            return self._keyed(node)
        if isinstance(node, ast.IsNull):
            value = self._single(where)
            return Piece(f"{value.sql} IS {'NOT ' if node.negated else ''}NULL", value.parameters)
        if where.entity == ast.ATTRIBUTE:
            value = self._single(where)
            return self._condition(node, value.sql)
        return self._json_test(node)

    def _single(self, where: ast.Field) -> Piece:
        """Return the SQL of a single-valued field of the run."""
        if where.entity == ast.ATTRIBUTE:
            return Piece(_ATTRIBUTES.get(where.key, f"r.{where.key}"))
        number = self._register(_json_reader(where))
        column = {ast.CODE: "source", ast.ENV: "environment", ast.DATASET: "inputs"}[where.entity]
        return Piece(f"gml_test({number}, r.{column})")

    def _json_test(self, node: ast.Comparison | ast.Membership | ast.Between) -> Piece:
        find, test = _json_values(node.field), test_of(node, self._now)

        def of_json(text: str) -> bool | None:
            values = find(text)
            return any_of([test(value) for value in values]) if values else None

        column = {ast.CODE: "source", ast.ENV: "environment", ast.DATASET: "inputs"}[node.field.entity]
        return Piece(f"gml_test({self._register(of_json)}, r.{column})")

    def _keyed(self, node: ast.Comparison | ast.Membership | ast.Between | ast.IsNull) -> Piece:
        """Return a condition on a metric, param or tag as a look-up of its row."""
        keys = self._rows(node.field)
        if isinstance(node, ast.IsNull):
            found = " OR ".join(f"EXISTS (SELECT 1 FROM {table} v WHERE v.key_id = ? AND v.rid = r.rid)"  # noqa: S608
                                for table, _, _ in keys) or "0"  # fmt: skip
            ids = [key_id for _, key_id, _ in keys]
            return Piece(found if node.negated else f"NOT ({found})", ids)
        if not keys:
            return Piece("NULL")
        looked = []
        parameters: list[Any] = []
        for table, key_id, column in keys:
            condition = self._condition(node, f"v.{column}")
            looked.append(f"(SELECT {condition.sql} FROM {table} v WHERE v.key_id = ? AND v.rid = r.rid)")  # noqa: S608
            parameters += [*condition.parameters, key_id]
        if len(looked) == 1:
            return Piece(looked[0], parameters)
        # `metrics.loss.min`: a metric of that whole name goes before the part of another one.
        whole = keys[0]
        own = "EXISTS (SELECT 1 FROM metrics v WHERE v.key_id = ? AND v.rid = r.rid)"
        return Piece(f"CASE WHEN {own} THEN {looked[0]} ELSE {looked[1]} END", [whole[1], *parameters])

    def _rows(self, where: ast.Field) -> list[tuple[str, int, str]]:
        """Return (table, key number, column) of the rows that may hold a field, the first goes before."""
        section = _SECTIONS[where.entity]
        if where.entity != ast.METRIC:
            key_id = self._key_id(section, where.key)
            return [] if key_id is None else [("texts", key_id, "value")]
        out = []
        if where.part and not where.exact:
            whole = self._key_id(section, f"{where.key}.{where.part}")
            if whole is not None:
                out.append(("metrics", whole, "last"))
        key_id = self._key_id(section, where.key)
        if key_id is not None:
            out.append(("metrics", key_id, _PARTS[where.part]))
        return out

    def _key_id(self, section: int, key: str) -> int | None:
        row = self._connection.execute(
            "SELECT key_id FROM keys WHERE section = ? AND key = ?", (section, key)
        ).fetchone()
        return None if row is None else int(row[0])

    def _can_lead(self, node: ast.Expression) -> bool:
        if not isinstance(node, ast.Comparison) or node.field.entity not in _SECTIONS:
            return False
        return len(self._rows(node.field)) == 1

    def _lead(self, node: ast.Expression) -> tuple[Piece, Piece]:
        assert isinstance(node, ast.Comparison)  # noqa: S101 - `_can_lead` said so
        ((table, key_id, column),) = self._rows(node.field)
        condition = self._condition(node, f"d.{column}")
        # CROSS JOIN keeps SQLite from turning the order round.
        source = Piece(f"{table} d CROSS JOIN runs r ON r.rid = d.rid")
        return source, Piece(f"d.key_id = ? AND ({condition.sql})", [key_id, *condition.parameters])

    def _condition(self, node: ast.Comparison | ast.Membership | ast.Between, value: str) -> Piece:
        """Return a condition on a value that is there: 1, 0, or NULL for unknown."""
        kind = type_of(node.field)
        if isinstance(node, ast.Comparison):
            return self._comparison(node, kind, node.op, node.value, value)
        if isinstance(node, ast.Membership):
            parts = [self._comparison(node, kind, ast.EQ, literal, value) for literal in node.values]
            joined = Piece(" OR ".join(p.sql for p in parts), [x for p in parts for x in p.parameters])
        else:
            low = self._comparison(node, kind, ast.GE, node.low, value)
            high = self._comparison(node, kind, ast.LE, node.high, value)
            joined = Piece(f"{low.sql} AND {high.sql}", low.parameters + high.parameters)
        return (
            Piece(f"NOT ({joined.sql})", joined.parameters)
            if node.negated
            else Piece(f"({joined.sql})", joined.parameters)
        )

    def _comparison(self, node: Any, kind: str, op: str, literal: ast.Literal, value: str) -> Piece:
        sql = _SQL_OPS.get(op)
        if sql is None:
            return self._asked(node.field, op, literal, value)
        match literal:
            case ast.Text(text) if kind in {TEXT, MIXED} and _storable(text):
                return Piece(f"({value} {sql} ?)", [text])
            case ast.Number() if kind == NUMBER and not literal.is_nan:
                # NULL in a number column is NaN: unequal to every number, and nothing else.
                return Piece(f"coalesce({value} {sql} ?, {int(op == ast.NE)})", [literal.value])
            case ast.Number() if kind == MIXED and not literal.is_nan and value.endswith(".value"):
                alias = value.removesuffix(".value")
                unequal = int(op == ast.NE)
                otherwise = str(unequal) if op in {ast.EQ, ast.NE} else "NULL"
                return Piece(
                    f"CASE {alias}.kind WHEN {schema.NUMBER} THEN {alias}.num {sql} ? "
                    f"WHEN {schema.NAN} THEN {unequal} ELSE {otherwise} END",
                    [literal.value],
                )
            case ast.Boolean(flag) if node.field.key == "dirty" and node.field.entity == ast.ATTRIBUTE:
                return Piece(f"({value} {sql} ?)", [int(flag)])
            case ast.Duration(ms):
                return Piece(f"({value} {sql} ?)", [ms])
            case ast.Number(number) if kind not in {NUMBER, MIXED} and not literal.is_nan:
                return Piece(f"({value} {sql} ?)", [number])
            case ast.Span() | ast.Relative() | ast.Day():
                return _span(op, value, *resolve(literal, self._now))
            case _:
                return self._asked(node.field, op, literal, value)

    def _asked(self, where: ast.Field, op: str, literal: ast.Literal, value: str) -> Piece:
        """Return a condition that the evaluator's own test decides."""
        test = test_of(ast.Comparison(where, op, literal), self._now)
        if type_of(where) == NUMBER:
            asked = test
            return Piece(
                f"gml_test({self._register(lambda v: asked(float('nan') if v is None else v))}, {value})"
            )
        return Piece(f"gml_test({self._register(lambda v: None if v is None else test(v))}, {value})")

    def _register(self, test: Callable[[Any], Any]) -> int:
        self.tests.append(test)
        return len(self.tests) - 1

    # --- order --------------------------------------------------------------------------------

    def _order(self, orders: Sequence[Order]) -> tuple[Piece, Piece]:
        joins, terms = Piece(""), Piece("")
        parts: list[str] = []
        for number, order in enumerate(orders):
            where, direction = order.field, "DESC" if order.descending else "ASC"
            if where.entity in _SECTIONS and where.step is None:
                rows = self._rows(where)
                if len(rows) > 1:
                    raise NotCompilableError
                if not rows:
                    continue
                table, key_id, column = rows[0]
                alias = f"o{number}"
                joins.sql += f" LEFT JOIN {table} {alias} ON {alias}.key_id = ? AND {alias}.rid = r.rid"
                joins.parameters.append(key_id)
                if table == "metrics":
                    parts += [
                        f"({alias}.rid IS NULL) * 2 + ({alias}.rid IS NOT NULL AND {alias}.{column} IS NULL)",
                        f"{alias}.{column} {direction}",
                    ]
                else:
                    # Numbers, then NaN, then text, then missing.
                    group = (
                        f"CASE WHEN {alias}.rid IS NULL THEN 3 WHEN {alias}.kind = {schema.NUMBER} THEN 0 "
                        f"WHEN {alias}.kind = {schema.NAN} THEN 1 ELSE 2 END"
                    )
                    text = f"CASE WHEN {alias}.kind = 0 THEN {alias}.value END"
                    parts += [group, f"{alias}.num {direction}", f"{text} {direction}"]
            elif where.entity == ast.ATTRIBUTE:
                value = self._single(where).sql
                parts += [f"{value} IS NULL", f"{value} {direction}"]
            else:
                raise NotCompilableError
        if orders:
            parts += ["r.start_time DESC", "r.run_id DESC"]
        else:
            parts.append("r.position DESC")
        terms.sql = ", ".join(parts)
        return joins, terms


def _span(op: str, value: str, start: int, end: int) -> Piece:
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


def _in(column: str, values: list[str]) -> Piece:
    # One JSON parameter: SQLite bounds the number of parameters, not the length of one.
    return Piece(f"{column} IN (SELECT value FROM json_each(?))", [orjson.dumps(values).decode()])  # noqa: S608


def _storable(text: str) -> bool:
    return "\0" not in text and text.isprintable()


def _json_values(where: ast.Field) -> Callable[[str], list[str]]:
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


def _json_reader(where: ast.Field) -> Callable[[str], bool | None]:
    values = _json_values(where)
    return lambda text: True if values(text) else None
