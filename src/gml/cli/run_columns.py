"""The columns of `gml ls`: which there are, what stands in them, and how many have room."""

from __future__ import annotations

import shutil
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gml.cli.output import duration, number, timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gml.domain.run import Run
    from gml.tracking.reader import Reader

WIDEST: Final = 24
GAP: Final = 3


class Column(NamedTuple):
    """A column of the table of runs.

    Attributes:
        name: its full name, such as `metrics.loss.min`.
        short: the name without its section; empty where that says too little.
        numeric: whether it is aligned right.
        cell: a run's value for people.
        exact: a run's value for programs.
    """

    name: str
    short: str
    numeric: bool
    cell: Callable[[Run], str]
    exact: Callable[[Run], str]


def differing(runs: Sequence[Run]) -> list[Column]:
    """Return the params and metrics in which runs differ; all of them where there is only one run."""
    from gml.index.compare import varying

    if len(runs) == 1:
        return every(runs)
    return [*map(_param, varying(runs, "params")), *map(_metric, varying(runs, "metrics"))]


def every(runs: Sequence[Run]) -> list[Column]:
    """Return all params and metrics that any of the runs has, by name."""
    params = sorted({key for run in runs for key in run.params})
    metrics = sorted({key for run in runs for key in run.metrics})
    return [*map(_param, params), *map(_metric, metrics)]


def _param(key: str) -> Column:
    def cell(run: Run) -> str:
        return run.params.get(key, "")

    return Column(f"params.{key}", key, numeric=False, cell=cell, exact=cell)


def _metric(key: str) -> Column:
    def last(run: Run, write: Callable[[float], str]) -> str:
        summary = run.metrics.get(key)
        return "" if summary is None else write(summary.last)

    return Column(
        f"metrics.{key}",
        key,
        numeric=True,
        cell=lambda run: last(run, number),
        exact=lambda run: last(run, repr),
    )


def chosen(reader: Reader, names: Mapping[str, str], text: str) -> list[Column]:
    """Return the columns that `--columns` names: fields of the query language with commas between.

    Args:
        reader: the runs.
        names: of the experiments by id.
        text: such as `params.lr,metrics.loss.min,user,code.branch`.

    Raises:
        QueryError: a field is unknown.
    """
    from gml.index.query import parse_fields
    from gml.index.query.fields import DURATION, TIME, Context, getter, type_of

    def column(field: Any, written: str) -> Column:
        get = getter(field)
        kind = type_of(field)
        write = {TIME: lambda ms: timestamp(int(ms)), DURATION: lambda ms: duration(int(ms))}.get(kind)

        def value(run: Run) -> Any:
            return get(run, Context(names.get(run.experiment_id), reader.points_of))

        def cell(run: Run) -> str:
            found = value(run)
            return write(found) if write is not None and found is not None else _text(found, number)

        section, _, rest = written.partition(".")
        short = rest if section in {"params", "metrics", "param", "metric"} else ""
        numeric = field.entity == "metric" or kind == DURATION
        return Column(written, short.strip('`"'), numeric, cell, lambda run: _text(value(run), repr))

    return [column(field, written) for field, written in parse_fields(text)]


def _text(value: Any, write: Callable[[float], str]) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return write(value)
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


def titles(columns: Sequence[Column]) -> list[str]:
    """Return the headings: short names where they tell the columns apart."""
    shared = Counter(column.short for column in columns)
    return [c.short if c.short and shared[c.short] == 1 else c.name for c in columns]


def fitting(runs: Sequence[Run], columns: Sequence[Column], used: int) -> tuple[list[Column], int]:
    """Return the columns that the terminal has room for, params and metrics in turn, and the number left out.

    Args:
        runs: the rows.
        columns: wanted columns.
        used: width of the columns before them.
    """
    room = shutil.get_terminal_size().columns - used
    metrics = [column for column in columns if column.numeric]
    params = [column for column in columns if not column.numeric]
    turns = [column for pair in zip(metrics, params, strict=False) for column in pair]
    turns += metrics[len(params) :] + params[len(metrics) :]
    taken = set()
    for column in turns:
        if room <= GAP:
            break
        cells = (len(column.cell(run)) for run in runs)
        widest = max(
            len(column.short), *(width if column.numeric else min(WIDEST, width) for width in cells), 0
        )
        if widest + GAP <= room:
            taken.add(column.name)
            room -= widest + GAP
    kept = [column for column in columns if column.name in taken]
    return kept, len(columns) - len(kept)
