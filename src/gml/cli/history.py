"""`gml history`: a metric along the history of the code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gml.cli.code_options import (
    direction_options,
    guess_note,
    tell,
    value_options,
)
from gml.cli.common import json_option, open_reader, report_damage
from gml.cli.output import emit_json, is_terminal, number, table
from gml.tracking.missing import experiment_ids

if TYPE_CHECKING:
    from gml.tracking.code.history import History, Row


@click.command("history")
@click.argument("metric")
@click.option(
    "-x", "--experiment", "experiments", multiple=True, metavar="NAME", help="Only this experiment."
)
@click.option(
    "--by", type=click.Choice(["commit", "day"]), default="commit", show_default=True, help="What a row is."
)
@value_options
@direction_options
@click.option(
    "--branch", default="HEAD", show_default=True, metavar="REV", help="Along the first parents of REV."
)
@click.option(
    "-n", "--limit", type=click.IntRange(1), default=50, show_default=True, help="The newest so many rows."
)
@click.option("--plot", is_flag=True, help="Also draw the values as a line of bars, oldest first.")
@json_option
def history_command(
    metric: str,
    experiments: tuple[str, ...],
    by: str,
    how: str,
    higher: bool | None,
    branch: str,
    limit: int,
    plot: bool,
    as_json: bool,
) -> None:
    """Show METRIC along the commits of a branch, oldest first: a row for each commit that has runs.

    Finished runs count; those with uncommitted changes (*) count for the commit they are based on.

    \b
    Example:
      gml history metrics.auc -x churn --plot
      gml history loss --by day --branch main --mean
    """
    from gml.tracking.code import history as code_history
    from gml.tracking.code.values import metric_of

    wanted = metric_of(metric, higher)
    reader = open_reader()
    found = code_history.metric_history(
        reader, wanted, branch=branch, by=by, how=how, experiments=experiment_ids(reader, experiments)
    )
    if as_json:
        emit_json(code_history.as_json(found, wanted))
    else:
        _print(found, by, limit)
        if plot and found.rows:
            values = [row.value for row in found.rows]
            click.echo(
                f"\n{wanted.name}  {code_history.sparkline(values)}"
                f"  {number(min(values))} .. {number(max(values))}"
            )
    tell([*found.notes, *_outside(found), *(guess_note(wanted) if how != "last" else [])])
    report_damage(reader)


def _print(found: History, by: str, limit: int) -> None:
    rows = found.rows[-limit:]
    if rows:
        first = ["day", "commits"] if by == "day" else ["commit", "date", "author"]
        last = ["runs", "value", "change"]
        table(
            [*first, *last, "subject"],
            [_cells(row, by) for row in rows],
            right=last,
            styles={"commit": "yellow"},
            keep=["commit", "day", "date", "runs", "value", "change"],
        )
    else:
        click.echo("no commit of this branch has such runs", err=True)
    if len(rows) < len(found.rows) and is_terminal():
        click.echo(f"  the newest {limit} rows are shown; --limit N shows more", err=True)


def _cells(row: Row, by: str) -> list[str]:
    runs = f"{row.runs}{' *' if row.dirty else ''}"
    change = "" if row.change is None else f"{row.change:+.4g}"
    head = [row.date, str(row.commits)] if by == "day" else [row.commit[:10], row.date[:10], row.author]
    return [*head, runs, number(row.value), change, row.subject]


def _outside(found: History) -> list[str]:
    if not found.outside:
        return []
    total = sum(found.outside.values())
    parts = ", ".join(f"{count} {why}" for why, count in sorted(found.outside.items()))
    return [f"not on this branch: {total} run{'s' * (total != 1)} ({parts})"]
