"""The table of runs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import GmlError
from gml.domain.ids import short_id
from gml.domain.run import ACTIVE, DELETED
from gml.index.compare import varying
from gml.index.query import QueryError, parse, parse_sort, suggest
from gml.tracking.report.text import line, number
from gml.ui.source import experiment_names, page_of_runs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.datastructures import QueryParams

    from gml.domain.run import Run
    from gml.tracking.reader import Reader
    from gml.ui.links import Links

SIZES: Final = (50, 100, 200)
MAX_COLUMNS: Final = 60
MAX_PINS: Final = 20
SECTIONS: Final = {"params": "params", "metrics": "metrics", "tags": "tags"}
FIXED: Final = ("name", "experiment", "status", "started", "took", "user", "commit")
SORTABLE: Final = {
    "name": "attributes.run_name",
    "status": "attributes.status",
    "started": "attributes.start_time",
    "took": "attributes.duration",
    "user": "attributes.user_id",
}


@dataclass(frozen=True)
class Wanted:
    """What the address of the page asks for: it is the saved view.

    Attributes:
        query: text of the query.
        experiments: names or ids.
        sort: `-metrics.auc` and the like.
        columns: `params.lr`, `metrics.auc`; empty for those that differ.
        constants: also columns in which all runs are equal.
        deleted: the deleted runs instead.
        group: a param or tag to group the rows by.
        pins: runs that stay on top of every page.
        page: from 0.
        size: runs a page.
    """

    query: str = ""
    experiments: tuple[str, ...] = ()
    sort: str = ""
    columns: tuple[str, ...] = ()
    constants: bool = False
    deleted: bool = False
    group: str = ""
    pins: tuple[str, ...] = ()
    page: int = 0
    size: int = SIZES[0]

    @classmethod
    def of(cls, given: QueryParams) -> Wanted:
        """Read an address; what is not a number counts as not given."""
        page, size = (given.get(name, "") for name in ("page", "size"))
        columns = [name.strip() for text in given.getlist("cols") for name in text.split(",")]
        return cls(
            query=given.get("q", ""),
            experiments=tuple(name for name in given.getlist("x") if name),
            sort=given.get("sort", ""),
            columns=tuple(dict.fromkeys(filter(None, columns)))[:MAX_COLUMNS],
            constants=given.get("all") == "1",
            deleted=given.get("deleted") == "1",
            group=given.get("group", ""),
            pins=tuple(dict.fromkeys(filter(None, given.get("pin", "").split(","))))[:MAX_PINS],
            page=min(int(page), 1_000_000) if page.isdecimal() else 0,
            size=int(size) if size.isdecimal() and int(size) in SIZES else SIZES[0],
        )

    def pairs(self, **changes: Any) -> list[tuple[str, str]]:
        """Return what the address of this view says, with some parts changed."""
        new = replace(self, **changes)
        pairs = [("q", new.query), *(("x", name) for name in new.experiments), ("sort", new.sort)]
        pairs += [("cols", ",".join(new.columns)), ("all", "1" if new.constants else "")]
        pairs += [("deleted", "1" if new.deleted else ""), ("group", new.group), ("pin", ",".join(new.pins))]
        pairs += [
            ("page", str(new.page) if new.page else ""),
            ("size", "" if new.size == SIZES[0] else str(new.size)),
        ]
        return [(name, value) for name, value in pairs if value]


@dataclass
class Column:
    """One column: its title, what sorts by it, and how it is sorted now."""

    name: str
    title: str
    sort: str = ""
    now: str = ""
    numeric: bool = False


@dataclass
class Row:
    """One run in the table."""

    run: Run
    experiment: str
    cells: list[str] = field(default_factory=list)


@dataclass
class Table:
    """Everything the page shows."""

    wanted: Wanted
    columns: list[Column] = field(default_factory=list)
    groups: list[tuple[str, list[Row]]] = field(default_factory=list)
    more: bool = False
    total: int | None = None
    error: str = ""
    caret: str = ""
    experiments: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    title: str = ""
    first: int = 0
    newer: str = ""
    older: str = ""

    @property
    def rows(self) -> list[Row]:
        """All rows, in order."""
        return [row for _, rows in self.groups for row in rows]


def table(reader: Reader, wanted: Wanted, to: Links) -> Table:
    """Return the table for an address; a wrong query is told on the page."""
    names = experiment_names(reader)
    out = Table(wanted, experiments=sorted(names.values()))
    ids = {key for key, name in names.items() if key in wanted.experiments or name in wanted.experiments}
    stages = {DELETED if wanted.deleted else ACTIVE}
    try:
        query = parse(wanted.query) if wanted.query.strip() else None
        runs, out.more = page_of_runs(
            reader,
            query,
            parse_sort(wanted.sort) if wanted.sort.strip() else (),
            experiments=ids if wanted.experiments else None,
            stages=stages,
            offset=wanted.page * wanted.size,
            size=wanted.size,
        )
    except QueryError as error:
        out.error = f"{error.message}{f'; {error.hint}' if error.hint else ''}"
        out.caret = error.caret() if error.text == wanted.query else ""
        runs = []
    if not wanted.query.strip() and not out.error:
        out.total = _count(reader, ids if wanted.experiments else None, stages)
    _fill(out, runs, names, _pinned(reader, wanted))
    out.keys = _known_keys(reader, runs)
    out.damaged = [str(error) for error in reader.damaged[:5]]
    out.first = wanted.page * wanted.size
    if wanted.page:
        out.newer = to.view(wanted, page=wanted.page - 1)
    if out.more:
        out.older = to.view(wanted, page=wanted.page + 1)
    return out


def table_of(runs: Sequence[Run], names: Mapping[str, str]) -> Table:
    """Return the table of some runs, in their order.

    Args:
        runs: the rows.
        names: of experiments by id.
    """
    out = Table(Wanted())
    _fill(out, runs, names)
    return out


def _pinned(reader: Reader, wanted: Wanted) -> list[Run]:
    found = []
    for run_id in wanted.pins:
        try:
            run = reader.run(run_id)
        except GmlError:
            continue  # a run that has gone, or is damaged, is not pinned any more
        found += [run] if run is not None else []
    return found


def _fill(out: Table, runs: Sequence[Run], names: Mapping[str, str], pinned: Sequence[Run] = ()) -> None:
    everything = [*pinned, *(run for run in runs if run.run_id not in out.wanted.pins)]
    keys = _keys(everything, out.wanted)
    rows = [_row(run, names, keys) for run in everything]
    out.columns = _columns(keys, out.wanted, rows)
    out.groups = _grouped(rows[len(pinned) :], out.wanted.group)
    if pinned:
        out.groups.insert(0, ("pinned", rows[: len(pinned)]))


def _count(reader: Reader, experiments: set[str] | None, stages: set[str]) -> int:
    known = reader.index.counts()
    stored = sum(
        count
        for (experiment, stage), count in known.items()
        if stage in stages and (experiments is None or experiment in experiments)
    )
    fresh = sum(1 for run_id in reader.live if reader.view.entry(run_id) is None)
    return stored + (fresh if ACTIVE in stages and experiments is None else 0)


def _keys(runs: Sequence[Run], wanted: Wanted) -> list[tuple[str, str]]:
    if wanted.columns:
        keys = []
        for name in wanted.columns:
            section, _, key = name.partition(".")
            if section in SECTIONS and key:
                keys.append((section, key))
        return keys
    if wanted.constants:
        params = sorted({key for run in runs for key in run.params})
        metrics = sorted({key for run in runs for key in run.metrics})
    else:
        params, metrics = varying(runs, "params"), varying(runs, "metrics")
        if len(runs) == 1:
            params, metrics = sorted(runs[0].params), sorted(runs[0].metrics)
    half = MAX_COLUMNS // 4
    return [("params", key) for key in params[:half]] + [("metrics", key) for key in metrics[:half]]


def _columns(keys: Sequence[tuple[str, str]], wanted: Wanted, rows: Sequence[Row]) -> list[Column]:
    columns = [Column(name, name, SORTABLE.get(name, "")) for name in FIXED]
    if not wanted.constants and not wanted.columns and len(rows) > 1:
        # As everywhere: what is the same in all rows says nothing.
        same = {"experiment": {row.experiment for row in rows}, "user": {row.run.user for row in rows}}
        same["commit"] = {str(row.run.source.get("commit")) for row in rows}
        columns = [column for column in columns if len(same.get(column.name, "xx")) > 1]
    for section, key in keys:
        quoted = key if key.replace("_", "").replace("/", "").isalnum() else f"`{key}`"
        columns.append(Column(f"{section}.{key}", key, f"{section}.{quoted}", numeric=section == "metrics"))
    for column in columns:
        if column.sort and wanted.sort.lstrip("-") == column.sort:
            column.now = "descending" if wanted.sort.startswith("-") else "ascending"
    return columns


def next_sort(column: Column) -> str:
    """Return the order that a click on a column's head asks for.

    Example:
        >>> next_sort(Column("metrics.auc", "auc", "metrics.auc", numeric=True))
        '-metrics.auc'
    """
    if column.now == "descending":
        return column.sort
    return f"-{column.sort}" if column.now == "" or column.numeric else ""


def _row(run: Run, names: Mapping[str, str], keys: Sequence[tuple[str, str]]) -> Row:
    row = Row(run, names.get(run.experiment_id, run.experiment_id))
    for section, key in keys:
        if section == "metrics":
            summary = run.metrics.get(key)
            row.cells.append("" if summary is None else number(summary.last))
        else:
            values = run.params if section == "params" else run.tags
            row.cells.append(line(values.get(key, ""), 120))
    return row


def _grouped(rows: list[Row], group: str) -> list[tuple[str, list[Row]]]:
    section, _, key = group.partition(".")
    if section not in SECTIONS or section == "metrics" or not key:
        return [("", rows)] if rows else []
    out: dict[str, list[Row]] = {}
    for row in rows:
        values = row.run.params if section == "params" else row.run.tags
        out.setdefault(f"{key} = {line(values[key], 120)}" if key in values else f"without {key}", []).append(
            row
        )
    return list(out.items())


def _known_keys(reader: Reader, runs: Sequence[Run]) -> list[str]:
    """Return names to complete queries and columns with."""
    ids = [run.run_id for run in runs if run.run_id not in reader.live]
    params, metrics, tags = reader.index.keys_of(ids) if ids else ([], [], [])
    live = [run for run in runs if run.run_id in reader.live]
    found = {f"params.{key}" for key in params} | {f"metrics.{key}" for key in metrics}
    found |= {f"tags.{key}" for key in tags}
    found |= {f"params.{key}" for run in live for key in run.params}
    found |= {f"metrics.{key}" for run in live for key in run.metrics}
    return sorted(found)[:2_000]


def as_csv(reader: Reader, wanted: Wanted) -> str:
    """Return the page's runs as CSV, with full values.

    Raises:
        QueryError: the query is wrong.
    """
    import csv
    import io

    names = experiment_names(reader)
    ids = {key for key, name in names.items() if key in wanted.experiments or name in wanted.experiments}
    runs, _ = page_of_runs(
        reader,
        parse(wanted.query) if wanted.query.strip() else None,
        parse_sort(wanted.sort) if wanted.sort.strip() else (),
        experiments=ids if wanted.experiments else None,
        stages={DELETED if wanted.deleted else ACTIVE},
        offset=0,
        size=10_000,
    )
    keys = _keys(runs, replace(wanted, constants=True))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(["run_id", "name", "experiment", "status", "start_time", "end_time",
                     *(f"{section}.{key}" for section, key in keys)])  # fmt: skip
    for run in runs:
        experiment = names.get(run.experiment_id, run.experiment_id)
        fixed = [run.run_id, run.name, experiment, run.status, run.start_time, run.end_time]
        cells = []
        for section, key in keys:
            if section == "metrics":
                cells.append(repr(run.metrics[key].last) if key in run.metrics else "")
            else:
                cells.append((run.params if section == "params" else run.tags).get(key, ""))
        writer.writerow([_harmless(cell) for cell in [*fixed, *cells]])
    return out.getvalue()


def _harmless(cell: Any) -> Any:
    """Spreadsheets run what starts like a formula; a quote before it makes it text."""
    if isinstance(cell, str) and cell[:1] in {"=", "+", "-", "@", "\t", "\r"}:
        try:
            float(cell)
        except ValueError:
            return f"'{cell}"
    return cell


__all__ = ["Table", "Wanted", "as_csv", "next_sort", "short_id", "suggest", "table"]
