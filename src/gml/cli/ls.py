"""`gml ls`: list runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from gml.cli.code_options import code_options, tell
from gml.cli.common import json_option, report_damage
from gml.cli.output import ago, duration, emit_json, is_terminal, number, run_json, table, timestamp
from gml.cli.watch import at_option, open_at, watch
from gml.domain.errors import UsageError
from gml.domain.ids import short_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gml.domain.run import Run
    from gml.index.query.ast import Field
    from gml.tracking.code.selection import CodeSelection

FIXED = ("id", "name", "status", "started", "took")


@click.command("ls")
@click.argument("query", required=False, default="")
@click.option(
    "-x", "--experiment", "experiments", multiple=True, metavar="NAME", help="Only this experiment."
)
@click.option(
    "-n", "--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many runs."
)
@click.option("--sort", multiple=True, metavar="KEY", help="Sort by KEY, or -KEY for descending.")
@click.option("--columns", metavar="KEYS", help="Columns, such as params.lr,metrics.auc.")
@click.option("--deleted", is_flag=True, help="List deleted runs instead.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@at_option
@click.option(
    "--watch", "watch_every", is_flag=False, flag_value=2.0, type=click.FloatRange(0.05), metavar="[SECONDS]",
    help="Follow running trainings until Ctrl-C, every 2 seconds by default.",
)  # fmt: skip
@code_options
@json_option
def ls_command(
    query: str,
    code: CodeSelection,
    experiments: tuple[str, ...],
    limit: int,
    sort: tuple[str, ...],
    columns: str | None,
    deleted: bool,
    as_csv: bool,
    at: str | None,
    watch_every: float | None,
    as_json: bool,
) -> None:
    """List runs, newest first, with the params and metrics in which they differ.

    QUERY selects runs, see docs/queries.md.

    \b
    Example:
      gml ls
      gml ls "metrics.auc > 0.9 and params.model = 'rf'" --sort -metrics.auc
      gml ls --at 2026-06-01
      gml ls --branch feature/x --since 2w --touching model.py
      gml ls -x churn --watch
    """
    from gml.domain.run import ACTIVE, DELETED
    from gml.index.query import parse, parse_sort
    from gml.tracking.code.selection import select_runs
    from gml.tracking.missing import experiment_ids, missing_keys

    if watch_every is not None and (at is not None or as_csv or deleted or columns or sort or code):
        raise UsageError("--watch goes with QUERY, -x and --json only", hint="leave the other options out")
    reader = open_at(at)
    names = {e.experiment_id: e.name for e in reader.experiments()}
    wanted = experiment_ids(reader, experiments)
    if watch_every is not None:
        watch(reader, watch_every, query, wanted, as_json=as_json)
        return
    parsed = parse(query) if query.strip() else None
    orders = parse_sort(",".join(sort)) if sort else ()
    selected = select_runs(
        reader,
        code,
        parsed,
        orders,
        now_ms=int(time.time() * 1000),
        experiments=wanted,
        stages={DELETED if deleted else ACTIVE},
        limit=limit + 1,
    )
    tell(selected.notes)
    named = [*(parsed.fields() if parsed else ()), *(order.field for order in orders)]
    tell(missing_keys(reader, [*named, *_fields(columns)]))
    more, runs = len(selected.runs) > limit, selected.runs[:limit]
    if as_json:
        emit_json([run_json(run, names.get(run.experiment_id, run.experiment_id)) for run in runs])
    elif as_csv:
        _print_csv(runs, names, columns)
    else:
        _print_table(runs, names, columns)
        if more and is_terminal():
            click.echo(f"  the newest {limit} are shown; --limit N shows more", err=True)
        if not runs and not query and not deleted and at is None and not code:
            click.echo("no runs yet; start one: gml log -- python train.py", err=True)
    report_damage(reader)


def _keys(runs: Sequence[Run], columns: str | None) -> list[tuple[str, str]]:
    """Return (section, key) of the columns after the fixed ones."""
    if columns is None:
        from gml.index.compare import varying

        params = [("params", key) for key in varying(runs, "params")]
        return params + [("metrics", key) for key in varying(runs, "metrics")]
    keys = []
    for name in filter(None, (part.strip() for part in columns.split(","))):
        section, _, key = name.partition(".")
        section = {"param": "params", "metric": "metrics", "tag": "tags"}.get(section, section)
        if section not in {"params", "metrics", "tags"} or not key:
            raise UsageError(f"column {name!r} is not known", hint="use params.KEY, metrics.KEY or tags.KEY")
        keys.append((section, key))
    return keys


def _fields(columns: str | None) -> list[Field]:
    """Return the columns that were asked for as fields of a query."""
    from gml.index.query import ast

    entities = {"params": ast.PARAM, "metrics": ast.METRIC, "tags": ast.TAG}
    return [ast.Field(entities[section], key) for section, key in _keys((), columns)] if columns else []


def _cell(run: Run, section: str, key: str, *, exact: bool = False) -> str:
    if section == "metrics":
        summary = run.metrics.get(key)
        if summary is None:
            return ""
        return repr(summary.last) if exact else number(summary.last)
    values = run.params if section == "params" else run.tags
    return values.get(key, "")


def _print_table(runs: Sequence[Run], names: dict[str, str], columns: str | None) -> None:
    keys = _keys(runs, columns)
    terminal = is_terminal()
    if terminal and columns is None:
        keys = _fit(runs, keys)
    show_experiment = len({run.experiment_id for run in runs}) > 1
    clean = {("params", k): k for s, k in keys if s == "params"} | {
        ("metrics", k): k for s, k in keys if s == "metrics"
    }
    shared = {k for _, k in keys if sum(1 for _, other in keys if other == k) > 1}
    titles = [f"{s}.{k}" if k in shared or (s, k) not in clean else k for s, k in keys]
    heads = ["id", "name", *(["experiment"] if show_experiment else []), "status", "started", "took", *titles]
    rows = []
    for run in runs:
        row = [short_id(run.run_id), run.name]
        if show_experiment:
            row.append(names.get(run.experiment_id, run.experiment_id))
        status = run.status + (" *" if run.source.get("dirty") else "")
        row += [
            status,
            ago(run.start_time) if terminal else timestamp(run.start_time),
            duration(run.duration),
        ]
        rows.append([*row, *(_cell(run, s, k) for s, k in keys)])
    table(heads, rows, right=[t for t, (s, _) in zip(titles, keys, strict=True) if s == "metrics"],
          styles={"id": "yellow"}, keep=["id", "status", "started", "took"])  # fmt: skip
    if terminal and any(run.source.get("dirty") for run in runs):
        click.echo("  * with uncommitted changes (kept with the run)", err=True)


def _fit(runs: Sequence[Run], keys: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return as many columns as the terminal has room for, params and metrics in turn."""
    import shutil

    room = shutil.get_terminal_size().columns - 62
    params = [k for k in keys if k[0] == "params"]
    metrics = [k for k in keys if k[0] == "metrics"]
    turns = [k for pair in zip(metrics, params, strict=False) for k in pair]
    turns += metrics[len(params) :] + params[len(metrics) :]
    chosen = []
    for section, key in turns:
        width = max(len(key), *(min(24, len(_cell(run, section, key))) for run in runs)) + 2
        if width <= room:
            chosen.append((section, key))
            room -= width
    return [k for k in keys if k in chosen]


def _print_csv(runs: Sequence[Run], names: dict[str, str], columns: str | None) -> None:
    import csv
    import sys

    keys = _keys(runs, columns) if columns is not None else _all_keys(runs)
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(
        ["run_id", "name", "experiment", "status", "start_time", "end_time", *(f"{s}.{k}" for s, k in keys)]
    )
    for run in runs:
        experiment = names.get(run.experiment_id, run.experiment_id)
        fixed = [run.run_id, run.name, experiment, run.status, run.start_time, run.end_time]
        out.writerow([*fixed, *(_cell(run, s, k, exact=True) for s, k in keys)])


def _all_keys(runs: Sequence[Run]) -> list[tuple[str, str]]:
    params = sorted({key for run in runs for key in run.params})
    metrics = sorted({key for run in runs for key in run.metrics})
    return [("params", key) for key in params] + [("metrics", key) for key in metrics]
