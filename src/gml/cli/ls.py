"""`gml ls`: list runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from gml.cli.code_options import code_options, tell
from gml.cli.common import json_option, report_damage
from gml.cli.output import ago, duration, emit_json, is_terminal, run_json, table, timestamp
from gml.cli.run_columns import GAP, WIDEST, chosen, differing, every, fitting, titles
from gml.cli.watch import at_option, open_at, watch
from gml.domain.errors import UsageError
from gml.domain.ids import short_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gml.cli.run_columns import Column
    from gml.domain.run import Run
    from gml.tracking.code.selection import CodeSelection


@click.command("ls")
@click.argument("query", required=False, default="")
@click.option(
    "-x", "--experiment", "experiments", multiple=True, metavar="NAME", help="Only this experiment."
)
@click.option(
    "-n", "--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many runs."
)
@click.option("--sort", multiple=True, metavar="KEY", help="Sort by KEY, or -KEY for descending.")
@click.option(
    "--columns", metavar="KEYS", help="Columns: fields of a query, such as params.lr,metrics.loss.min,user."
)
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
    from gml.index.query import parse, parse_fields, parse_sort
    from gml.tracking.code.selection import select_runs
    from gml.tracking.missing import experiment_ids, missing_keys

    if watch_every is not None and (at is not None or as_csv or deleted or columns or sort or code):
        raise UsageError("--watch goes with QUERY, -x and --json only", hint="leave the other options out")
    if as_json and as_csv:
        raise UsageError("--json and --csv exclude each other")
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
    picked = chosen(reader, names, columns) if columns else None
    named += [field for field, _ in parse_fields(columns)] if columns else []
    tell(missing_keys(reader, named))
    more, runs = len(selected.runs) > limit, selected.runs[:limit]
    if as_json:
        emit_json([run_json(run, names.get(run.experiment_id, run.experiment_id)) for run in runs])
    elif as_csv:
        _print_csv(runs, names, picked)
    else:
        _print_table(runs, names, picked)
        if more and is_terminal():
            click.echo(f"  the newest {limit} are shown; --limit N shows more", err=True)
        if not runs and not query and not deleted and at is None and not code:
            click.echo("no runs yet; start one: gml log -- python train.py", err=True)
    report_damage(reader)


def _print_table(runs: Sequence[Run], names: dict[str, str], wanted: list[Column] | None) -> None:
    terminal = is_terminal()
    several = len({run.experiment_id for run in runs}) > 1
    heads = ["id", "name", *(["experiment"] if several else []), "status", "started", "took"]
    rows = []
    for run in runs:
        place = [names.get(run.experiment_id, run.experiment_id)] if several else []
        status = run.status + (" *" if run.source.get("dirty") else "")
        started = ago(run.start_time) if terminal else timestamp(run.start_time)
        rows.append([short_id(run.run_id), run.name, *place, status, started, duration(run.duration)])
    columns, left = differing(runs) if wanted is None else wanted, 0
    if terminal and wanted is None:
        widths = [max(len(head), *(len(row[at]) for row in rows), 0) for at, head in enumerate(heads)]
        columns, left = fitting(runs, columns, sum(min(WIDEST, width) + GAP for width in widths) - GAP)
    named = titles(columns)
    table(
        [*heads, *named],
        [[*row, *(column.cell(run) for column in columns)] for row, run in zip(rows, runs, strict=True)],
        right=[name for name, column in zip(named, columns, strict=True) if column.numeric],
        styles={"id": "yellow"},
        keep=["id", "status", "started", "took", *(named if wanted is not None else ())],
    )
    if terminal and any(run.source.get("dirty") for run in runs):
        click.echo("  * with uncommitted changes (kept with the run)", err=True)
    if left:
        many = "column" if left == 1 else "columns"
        click.echo(f"  no room for {left} {many}; --columns picks, --csv has all", err=True)


def _print_csv(runs: Sequence[Run], names: dict[str, str], wanted: list[Column] | None) -> None:
    import csv
    import sys

    columns = every(runs) if wanted is None else wanted
    out = csv.writer(sys.stdout, lineterminator="\n")
    fixed = ["run_id", "name", "experiment", "status", "start_time", "end_time"]
    out.writerow([*fixed, *(column.name for column in columns)])
    for run in runs:
        experiment = names.get(run.experiment_id, run.experiment_id)
        facts = [run.run_id, run.name, experiment, run.status, run.start_time, run.end_time]
        out.writerow([*facts, *(column.exact(run) for column in columns)])
