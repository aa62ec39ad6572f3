"""Values of a metric by run, and one value for several runs."""

from __future__ import annotations

import math
import re
import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gml.domain.errors import NotFoundError, UsageError
from gml.domain.names import lower_is_better
from gml.domain.run import ACTIVE, FINISHED
from gml.tracking.code.facts import Facts, read_facts

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from gml.domain.run import Run
    from gml.index.query.ast import Field
    from gml.tracking.reader import Reader

BEST: Final = "best"
LAST: Final = "last"
MEAN: Final = "mean"

_ORDER: Final = re.compile(r"(.*\S)\s+(ASC|DESC)", re.IGNORECASE | re.DOTALL)
_KEY: Final = re.compile(r"[A-Za-z_][\w./-]*")
# Of a single point the index has only the last value.
_COLUMN: Final = {
    "": "last",
    "last": "last",
    "min": "iif(count IS NULL, last, min)",
    "max": "iif(count IS NULL, last, max)",
    "count": "coalesce(count, 1)",
}


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric, and which way it is better.

    Attributes:
        field: what is looked at: a metric, or its min, max or count.
        name: how it is written, `metrics.auc`.
        higher: whether a higher value is better.
        guessed: whether nobody said so and the name decided.
    """

    field: Field
    name: str
    higher: bool
    guessed: bool

    def better(self, a: float, b: float) -> bool:
        """Whether a is better than b; NaN is worse than everything."""
        if math.isnan(a) or math.isnan(b):
            return math.isnan(b) and not math.isnan(a)
        return a > b if self.higher else a < b


@dataclass(frozen=True, slots=True)
class Measured:
    """A finished run and its value of the metric."""

    facts: Facts
    value: float


def metric_of(text: str, higher: bool | None = None) -> Metric:
    """Return the metric that a user names.

    Args:
        text: `metrics.auc`, `auc`, `metrics.loss.min`; quoted and backticked keys as in queries. `ASC` after
            it says that lower is better, `DESC` that higher is, as in orders.
        higher: whether higher is better; None to tell from the name: losses, errors, times, costs and
            sizes are better when lower, everything else when higher.

    Raises:
        UsageError: it is no metric.
        QueryError: it is malformed.

    Example:
        >>> metric_of("val_loss").higher, metric_of("metrics.auc").higher
        (False, True)
    """
    from gml.index.query import ast, parse_sort, unparse_field

    match = _ORDER.fullmatch(text)
    if match is not None:
        text, higher = match[1], match[2].upper() == "DESC" if higher is None else higher
    head = text.partition(".")[0].strip()
    if head in {"metric", "metrics"}:
        orders = parse_sort(text)
        field = orders[0].field
        if len(orders) > 1 or orders[0].descending:
            raise UsageError(f"{text!r} is not one metric", hint="such as metrics.auc")
    elif head in {"param", "params", "tag", "tags", "attribute", "attributes"} or not text:
        raise UsageError(f"{text!r} is not a metric", hint="such as metrics.auc")
    elif _KEY.fullmatch(text):
        field = parse_sort(f"metrics.{text}")[0].field
    else:
        field = ast.Field(ast.METRIC, text, exact=True)
    if field.entity != ast.METRIC or field.step is not None:
        raise UsageError(
            f"{text!r} is not the value of a metric", hint="such as metrics.auc or metrics.loss.min"
        )
    guess = not lower_is_better(field.key)
    return Metric(field, unparse_field(field), guess if higher is None else higher, higher is None)


def measure(reader: Reader, metric: Metric, experiments: Collection[str] | None = None) -> list[Measured]:
    """Return all finished, not deleted runs that have the metric, newest first.

    Raises:
        NotFoundError: no run at all has it.
    """
    from gml.index.query.fields import Context, getter

    facts = read_facts(reader, experiments)
    values = None if reader.past else _indexed(reader, metric.field)
    find = getter(metric.field)
    if values is None:
        runs: Iterable[Run] = reader.runs()
        values = {}
    else:
        runs = [run for run_id in reader.live if (run := reader.run(run_id)) is not None]
    for run in runs:
        values.pop(run.run_id, None)
        value = find(run, Context()) if run.status == FINISHED and not run.live else None
        if value is not None:
            values[run.run_id] = float(value)
    found = [Measured(f, values[run_id]) for run_id, f in facts.items() if run_id in values]
    if not found:
        raise _unknown(reader, metric, experiments)
    return found


def _indexed(reader: Reader, field: Field) -> dict[str, float] | None:
    """Return the values of all finished runs from the index; None where the index cannot say."""
    try:
        values = _column(reader, field.key, field.part)
        if field.part and not field.exact:
            # A metric whose own name ends like that goes first, as in queries.
            values |= _column(reader, f"{field.key}.{field.part}", "")
    except sqlite3.Error:
        return None
    return values


def _column(reader: Reader, key: str, part: str) -> dict[str, float]:
    from gml.index.store import schema

    connection = reader.index.connection
    found = connection.execute(
        "SELECT key_id FROM keys WHERE section = ? AND key = ?", (schema.METRIC, key)
    ).fetchone()
    if found is None:
        return {}
    first = found[0] << schema.SHIFT
    rows = connection.execute(
        f"SELECT run_id, {_COLUMN[part]} FROM metric_rows m JOIN run_rows r ON r.rid = m.id - ?"  # noqa: S608
        " WHERE m.id BETWEEN ? AND ? AND status = ? AND lifecycle_stage = ?",
        (first, first, first + schema.LAST_RID, FINISHED, ACTIVE),
    )
    return {run_id: math.nan if value is None else float(value) for run_id, value in rows}


def _unknown(reader: Reader, metric: Metric, experiments: Collection[str] | None) -> NotFoundError:
    from difflib import get_close_matches

    from gml.index.store.schema import METRIC

    keys: list[str] = []
    if not reader.past:
        with suppress(sqlite3.Error):
            rows = reader.index.connection.execute("SELECT key FROM keys WHERE section = ?", (METRIC,))
            keys = [key for (key,) in rows]
    near = get_close_matches(metric.field.key, [k for k in keys if k != metric.field.key], 1)
    where = "of these experiments " if experiments is not None else ""
    hint = f"did you mean metrics.{near[0]}?" if near else "`gml ls` shows runs and metrics"
    return NotFoundError(f"no finished run {where}has {metric.name}", hint=hint)


def combine(runs: Sequence[Measured], how: str, metric: Metric) -> tuple[float, Measured]:
    """Return one value for runs (newest first, at least one), and the run that it is or that stands for it.

    Args:
        runs: the runs, newest first.
        how: BEST, LAST (of the newest run) or MEAN (NaN left out).
        metric: says what is better.
    """
    best = runs[0]
    for run in runs[1:]:
        if metric.better(run.value, best.value):
            best = run
    if how == LAST:
        return runs[0].value, runs[0]
    if how == MEAN:
        numbers = [run.value for run in runs if not math.isnan(run.value)]
        return (math.fsum(numbers) / len(numbers) if numbers else math.nan), best
    return best.value, best


def experiments_note(
    reader: Reader, runs: Sequence[Measured], experiments: Collection[str] | None
) -> list[str]:
    """Return the line that says that several experiments are mixed, if they are."""
    mixed = {run.facts.experiment_id for run in runs}
    if experiments is not None or len(mixed) < 2:
        return []
    names = {e.experiment_id: e.name for e in reader.experiments()}
    shown = ", ".join(sorted(names.get(i, i) for i in mixed)[:4])
    return [f"runs of {len(mixed)} experiments are taken together ({shown}); -x NAME picks one"]
