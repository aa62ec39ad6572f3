"""Searching runs with MLflow's grammar, on gml's index."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Final

from gml.domain.run import ACTIVE, DELETED
from gml.index.query import Order, Query, ast, matches, sort_runs
from gml.service import filters, limits, pages
from gml.service.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from gml.domain.run import Run
    from gml.service.store import Store
    from gml.tracking.reader import Reader

MAX_RESULTS: Final = 50_000
STAGES: Final = {"ACTIVE_ONLY": (ACTIVE,), "DELETED_ONLY": (DELETED,), "ALL": (ACTIVE, DELETED)}
_ENTITIES: Final = {
    filters.METRIC: ast.METRIC,
    filters.PARAM: ast.PARAM,
    filters.TAG: ast.TAG,
    filters.ATTRIBUTE: ast.ATTRIBUTE,
    filters.DATASET: ast.DATASET,
}
_RUN_OF_URI = re.compile(r"(?:.*/)?([^/]+)/artifacts")
# MLflow's order of what is equal otherwise.
_TIES: Final = (
    Order(ast.Field(ast.ATTRIBUTE, "start_time"), descending=True),
    Order(ast.Field(ast.ATTRIBUTE, "run_id")),
)


def runs(
    store: Store,
    experiment_ids: Sequence[str],
    filter_string: str = "",
    view_type: str = "ACTIVE_ONLY",
    max_results: int = 1_000,
    order_by: Sequence[str] = (),
    page_token: str | None = None,
) -> tuple[list[Run], str | None]:
    """Return the runs that match, newest first, and the token of the next page.

    Args:
        store: the repository.
        experiment_ids: only runs of these; none has no runs.
        filter_string: MLflow's grammar.
        view_type: ACTIVE_ONLY, DELETED_ONLY or ALL.
        max_results: at most so many a page.
        order_by: `field [ASC|DESC]` each.
        page_token: from the page before.

    Raises:
        ServiceError: the filter, the order or the page is not legal.
    """
    check_size(max_results, MAX_RESULTS)
    clauses = filters.parse_filter(filter_string, filters.RUNS)
    orders = _orders(filters.parse_orders(order_by, filters.RUNS))
    filters.check_operators(clauses, filters.RUNS)
    query = _query(clauses)
    offset = pages.decode(page_token)
    wanted = {limits.experiment_id(each) for each in experiment_ids}
    if not wanted:
        return [], None
    stages = STAGES.get(view_type, STAGES["ACTIVE_ONLY"])
    found = select(store, query, orders, wanted, stages, offset, max_results + 1)
    token = pages.encode(offset + max_results) if len(found) > max_results else None
    return found[:max_results], token


def check_size(size: int, most: int) -> None:
    """Refuse a page of no or of too many results."""
    if size < 1:
        raise ServiceError(
            f"Invalid value {size} for parameter 'max_results' supplied. It must be a positive integer"
        )
    if size > most:
        raise ServiceError(
            f"Invalid value {size} for parameter 'max_results' supplied. It must be at most {most}"
        )


def select(
    store: Store,
    query: Query | None,
    orders: Sequence[Order],
    experiments: Collection[str] | None,
    stages: Collection[str],
    offset: int,
    size: int,
) -> list[Run]:
    """Return a slice of the runs that match, in order; ties are newest first.

    Raises:
        ServiceError: the repository cannot be read.
    """
    with store.reading() as reader:
        return _select(store, reader, query, orders, experiments, stages, offset, size)


def _select(
    store: Store,
    reader: Reader,
    query: Query | None,
    orders: Sequence[Order],
    experiments: Collection[str] | None,
    stages: Collection[str],
    offset: int,
    size: int,
) -> list[Run]:
    from gml.index.store.compile import NotCompilableError

    now = int(time.time() * 1000)
    upto = offset + size
    given = {order.field.key for order in orders if order.field.entity == ast.ATTRIBUTE}
    order = [*orders, *(tie for tie in _TIES if tie.field.key not in given)]
    live = []
    for run_id in reader.live:
        run = reader.run(run_id)
        if run is None or run.lifecycle_stage not in stages:
            continue
        if experiments is not None and run.experiment_id not in experiments:
            continue
        if query is None or matches(query, run, experiment_name=None, now_ms=now):
            live.append(run)
    try:
        entries = reader.index.search(
            query, order, now_ms=now, experiments=experiments, stages=stages, limit=upto + len(reader.live)
        )
    except NotCompilableError:
        found = reader.search(query, order, now_ms=now, experiments=experiments, stages=stages, limit=upto)
        return found[offset:]
    entries = [entry for entry in entries if entry.run_id not in reader.live]
    if not live:
        return [store.load(reader, entry) for entry in entries[offset:upto]]
    known = [store.load(reader, entry) for entry in entries[:upto]]
    return sort_runs([*known, *live], order)[offset:upto]


def _query(clauses: Sequence[filters.Clause]) -> Query | None:
    terms = tuple(_term(clause) for clause in clauses)
    if not terms:
        return None
    return Query(terms[0] if len(terms) == 1 else ast.And(terms))


def _term(clause: filters.Clause) -> ast.Expression:
    key, value = clause.key, clause.value
    if clause.entity == filters.ATTRIBUTE and key == "artifact_uri":
        # Every way to write where a run's files are ends in its id.
        uri = _RUN_OF_URI.fullmatch(value) if isinstance(value, str) and clause.op in {"=", "!="} else None
        key, value = ("run_id", uri.group(1)) if uri else (key, value)
    field = ast.Field(_ENTITIES[clause.entity], key, exact=True)
    match clause.op:
        case "IS NULL" | "IS NOT NULL":
            return ast.IsNull(field, negated=clause.op == "IS NOT NULL")
        case "IN" | "NOT IN":
            return ast.Membership(
                field, tuple(ast.Text(each) for each in value), negated=clause.op == "NOT IN"
            )
        case _:
            literal: Any = ast.Text(value) if isinstance(value, str) else ast.Number(float(value))
            return ast.Comparison(field, clause.op, literal)


def _orders(orders: Sequence[filters.Order]) -> list[Order]:
    out = []
    for order in orders:
        if order.entity == filters.DATASET:
            raise ServiceError(f"Invalid identifier type '{order.entity}'")
        out.append(
            Order(ast.Field(_ENTITIES[order.entity], order.key, exact=True), descending=not order.ascending)
        )
    return out


def datasets(store: Store, experiment_ids: Sequence[str]) -> list[dict[str, str | None]]:
    """Return the data sets that runs of some experiments read: experiment, name, digest and context each."""
    wanted = {limits.experiment_id(each) for each in experiment_ids}
    query = Query(ast.IsNull(ast.Field(ast.DATASET, "name"), negated=True))
    found: dict[tuple[str, str, str, str | None], None] = {}
    for run in select(store, query, (), wanted, (ACTIVE, DELETED), 0, MAX_RESULTS):
        for entry in run.inputs:
            context = (entry.get("tags") or {}).get("mlflow.data.context")
            found[run.experiment_id, str(entry.get("name")), str(entry.get("digest")), context] = None
    return [{"experiment_id": e, "name": n, "digest": d, "context": c} for e, n, d, c in list(found)[:1_000]]
