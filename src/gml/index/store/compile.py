"""From a query's tree to one parameterised statement. No text of the user ever becomes part of it.

The conditions that must all hold are joined: the rows of the first key lead, those of the others and of
the runs are found by number. The rest is an expression on the run. Where nothing leads and there is a limit,
the rows of the order's own key can: see `Compiler.statement`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from gml.index.query import ast
from gml.index.store.conditions import SECTIONS, Conditions, attribute
from gml.index.store.pieces import (
    NAN_TEXTS,
    NotCompilableError,
    Piece,
    Values,
    among,
    joined,
    json_column,
    json_group,
    json_once,
    json_rank,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Sequence

    from gml.index.query import Order, Query

__all__ = ["Compiler", "NotCompilableError", "Statement", "without_steps"]

# SQLite joins at most 64 tables; the rows of further keys are looked up one by one.
_MOST_KEYS: Final = 56
_LOOKED_UP: Final = re.compile(r"\bs([0-9]+)\.(\w+)")
_NEWEST: Final = "r.start_time DESC, r.run_id DESC"


@dataclass(slots=True)
class Statement:
    """A whole statement, and the functions that it calls by number."""

    sql: str
    parameters: list[Any]
    functions: list[Callable[[Any], Any]]


class Compiler:
    """Compiles one query for one state of the index.

    Args:
        connection: the index, for the numbers of keys.
        now_ms: what relative times refer to.
    """

    def __init__(self, connection: sqlite3.Connection, now_ms: int) -> None:
        self._conditions = Conditions(connection, now_ms, self._place)
        self._tables: list[str] = []
        self._optional: list[str] = []
        self._where: list[Piece] = []
        self._aliases: dict[Values, str] = {}
        self._looked_up: list[Values] = []

    def statement(
        self,
        query: Query | None,
        orders: Sequence[Order] = (),
        *,
        experiments: Iterable[str] | None = None,
        stages: Iterable[str] = ("active",),
        limit: int | None = None,
        driven: bool = False,
    ) -> Statement | None:
        """Return the statement that selects run id, record and folder of the matching runs, in order.

        Args:
            query: as for `RunIndex.search`, like all but the last.
            orders: see there.
            experiments: see there.
            stages: see there.
            limit: see there.
            driven: let the first key of the order lead, which leaves out the runs that lack it. They would
                come last: where this gives `limit` runs, they are the answer. None where it is not
                possible or another condition leads already.

        Raises:
            NotCompilableError: a naive evaluation has to do it.
        """
        if query is not None and query.needs_history:
            raise NotCompilableError
        terms: tuple[ast.Expression, ...] = ()
        if query is not None and query.expression is not None:
            terms = query.expression.terms if isinstance(query.expression, ast.And) else (query.expression,)
        leads = [term for term in terms if self._can_join(term)]
        # Rows of metrics are narrower and compared faster than those of texts.
        leads.sort(key=lambda term: term.field.entity != ast.METRIC)
        joined_fields = set(islice(dict.fromkeys(term.field for term in leads), _MOST_KEYS))
        leads = [term for term in leads if term.field in joined_fields]
        if driven:
            if leads or limit is None or not orders:
                return None
            first = orders[0].field
            rows = self._conditions.rows(first) if first.entity in SECTIONS and first.step is None else []
            if len(rows) != 1:
                return None
            self._join(rows[0])
        for term in leads:
            (rows,) = (self._conditions.rows(term.field),)
            alias = self._join(rows[0])
            self._where.append(self._conditions.must_hold(term, rows[0].value(alias), alias))
        self._run_table()
        self._where.append(among("r.lifecycle_stage", stages))
        if experiments is not None:
            self._where.append(among("r.experiment_id", experiments))
        rest = [self._conditions.expression(term) for term in terms if term not in leads]
        order = self._order(orders)
        if any("j." in piece.sql for piece in (*rest, order)):
            self._tables.append("CROSS JOIN details j")
            self._where.append(Piece("j.rid = r.rid"))
        where = joined("AND", [*self._where, *rest])
        sql = (
            f"SELECT r.rid, r.run_id FROM {' '.join([*self._tables, *self._optional])} "  # noqa: S608
            f"WHERE {where.sql} ORDER BY {order.sql}"
        )
        # Object ids are fetched of the answers only, not carried through the sort. A subquery keeps its
        # order where it has a limit, so it always has one: -1 is none.
        sql += " LIMIT ?"
        parameters = [*where.parameters, *order.parameters, -1 if limit is None else limit]
        sql = f"SELECT a.run_id, d.record, d.folder FROM ({sql}) a CROSS JOIN details d ON d.rid = a.rid"  # noqa: S608
        if self._looked_up:
            sql = _LOOKED_UP.sub(self._look_up, sql)
        return Statement(sql, parameters, self._conditions.functions)

    def _look_up(self, found: re.Match[str]) -> str:
        """Return what stands for a column of a row that could not be joined."""
        rows = self._looked_up[int(found[1])]
        return f"(SELECT s.{found[2]} FROM {rows.table} s WHERE {rows.of('s')})"  # noqa: S608

    def _can_join(self, node: ast.Expression) -> TypeGuard[ast.Comparison | ast.Membership | ast.Between]:
        """Whether a condition is on exactly one row, so that runs without that row cannot match."""
        if not isinstance(node, (ast.Comparison, ast.Membership, ast.Between)):
            return False
        return node.field.entity in SECTIONS and len(self._conditions.rows(node.field)) == 1

    def _join(self, rows: Values) -> str:
        """Take the rows of a key into the statement and return their alias."""
        place = Values(rows.table, rows.base)
        if place in self._aliases:
            return self._aliases[place]
        alias = f"v{len(self._aliases)}"
        if not self._aliases:
            self._tables.append(f"{rows.table} {alias}")
            self._where.append(Piece(rows.span(alias)))
        else:
            # CROSS JOIN keeps SQLite from turning the order round.
            first = next(iter(self._aliases))
            self._tables.append(f"CROSS JOIN {rows.table} {alias}")
            self._where.append(Piece(f"{alias}.id = v0.id + {rows.base - first.base}"))
        self._aliases[place] = alias
        return alias

    def _place(self, rows: Values) -> str:
        """Join the rows of a key where a run has one, and return their alias."""
        place = Values(rows.table, rows.base)
        alias = self._aliases.get(place)
        if alias is None:
            if len(self._aliases) >= _MOST_KEYS:
                alias = self._aliases[place] = f"s{len(self._looked_up)}"
                self._looked_up.append(place)
                return alias
            alias = self._aliases[place] = f"o{len(self._aliases)}"
            self._optional.append(f"LEFT JOIN {rows.table} {alias} ON {rows.of(alias)}")
        return alias

    def _run_table(self) -> None:
        if not self._aliases:
            self._tables.append("run_rows r")
            return
        self._tables.append("CROSS JOIN run_rows r")
        self._where.append(Piece(f"r.rid = v0.id - {next(iter(self._aliases)).base}"))

    # --- order --------------------------------------------------------------------------------

    def _order(self, orders: Sequence[Order]) -> Piece:
        """Return the terms of the order."""
        if not orders:
            return Piece("r.position DESC")
        terms: list[str] = []
        for order in orders:
            where, direction = order.field, "DESC" if order.descending else "ASC"
            if where.step is not None:
                raise NotCompilableError
            if where.entity in SECTIONS:
                terms += self._order_of_rows(self._conditions.rows(where), direction)
            elif where.entity == ast.ATTRIBUTE:
                value = attribute(where.key)
                terms += [f"{value} IS NULL", f"{value} {direction}"]
            else:
                column, values = json_column(where), json_once(where)
                group = self._conditions.call(json_group(values), column)
                rank = self._conditions.call(json_rank(values), column)
                terms += [group.sql, f"{rank.sql} {direction}"]
        return Piece(", ".join([*terms, _NEWEST]))

    def _order_of_rows(self, rows: list[Values], direction: str) -> list[str]:
        if not rows:
            return []
        aliases = [self._place(each) for each in rows]
        if rows[0].table == "text_rows":
            alias = aliases[0]
            nan = f"lower({alias}.value) IN {NAN_TEXTS}"
            # Numbers, then NaN, then text, then missing.
            group = (
                f"CASE WHEN {alias}.id IS NULL THEN 3 WHEN {alias}.num IS NOT NULL THEN 0 "
                f"WHEN {nan} THEN 1 ELSE 2 END"
            )
            text = f"CASE WHEN {alias}.num IS NULL AND NOT {nan} THEN {alias}.value END"
            return [group, f"{alias}.num {direction}", f"{text} {direction}"]
        missing = " AND ".join(f"{alias}.id IS NULL" for alias in aliases)
        value = rows[-1].value(aliases[-1])
        if len(rows) > 1:
            value = f"CASE WHEN {aliases[0]}.id IS NOT NULL THEN {aliases[0]}.last ELSE {value} END"
        return [f"CASE WHEN {missing} THEN 2 ELSE ({value}) IS NULL END", f"{value} {direction}"]


def without_steps(query: Query) -> Query:
    """Return a query that the index can answer and that matches all that `query` matches, and maybe more.

    Conditions on single steps of a metric are left out, or only ask whether the run has the metric.

    Example:
        >>> from gml.index.query import parse, unparse
        >>> unparse(without_steps(parse("metrics.a@step=1 > 2 and params.b = 'c'")))
        "metrics.a IS NOT NULL AND params.b = 'c'"
    """
    from gml.index.query import Query as Whole

    if query.expression is None:
        return query
    terms = query.expression.terms if isinstance(query.expression, ast.And) else (query.expression,)
    kept: list[ast.Expression] = []
    for term in terms:
        if not Whole(term).needs_history:
            kept.append(term)
        elif isinstance(term, (ast.Comparison, ast.Membership, ast.Between)):
            kept.append(ast.IsNull(ast.Field(ast.METRIC, term.field.key), negated=True))
    return Whole(ast.And(tuple(kept)) if len(kept) > 1 else kept[0] if kept else None)
