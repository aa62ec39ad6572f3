"""`gml bisect`: which commit broke a metric."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gml.cli.code_options import direction_options, tell, value_options
from gml.cli.common import json_option, open_reader, open_workspace, report_damage
from gml.cli.output import emit_json, number
from gml.tracking.missing import experiment_ids

if TYPE_CHECKING:
    from gml.tracking.code.verdicts import Outcome, Plan, Verdict
    from gml.tracking.reader import Reader

SHOWN = 12


@click.command("bisect")
@click.argument("metric")
@click.option("--good", required=True, metavar="REV", help="A commit where the metric was good.")
@click.option("--bad", default="HEAD", show_default=True, metavar="REV", help="A commit where it is bad.")
@click.option(
    "--threshold", type=float, metavar="X", help="The worst good value; by default midway between both."
)
@direction_options
@value_options
@click.option(
    "--run", "command", metavar="COMMAND", help="Run COMMAND for commits without runs; it records a run."
)
@click.option(
    "--all", "everything", is_flag=True, help="Also commits of merged branches, not only first parents."
)
@click.option(
    "-x", "--experiment", "experiments", multiple=True, metavar="NAME", help="Only this experiment."
)
@json_option
def bisect_command(
    metric: str,
    good: str,
    bad: str,
    threshold: float | None,
    higher: bool | None,
    how: str,
    command: str | None,
    everything: bool,
    experiments: tuple[str, ...],
    as_json: bool,
) -> int:
    """Find the commit between --good and --bad that broke METRIC.

    Recorded runs of exactly a commit's code are used first. With --run, the command is run for commits that
    have none, in a throw-away work tree and not in a shell; a failing one skips the commit. Exit code 1:
    several commits are left.

    \b
    Example:
      gml bisect metrics.auc --good v1.2 --bad main
      gml bisect auc --good v1.2 --threshold 0.9 --run 'gml log -x churn -- python train.py'
    """
    from gml.tracking.code import verdicts
    from gml.tracking.code.bisect import bisect
    from gml.tracking.code.execute import commit_runner, split_command
    from gml.tracking.code.values import metric_of

    wanted = metric_of(metric, higher)
    argv = split_command(command) if command is not None else None
    workspace = open_workspace()
    reader = open_reader(workspace)
    ids = experiment_ids(reader, experiments) if not argv else _known(reader, experiments)
    plan = verdicts.Plan(good, bad, wanted, higher, threshold, how, everything, ids)
    if argv is None:
        found = bisect(reader, plan)
    else:
        with commit_runner(workspace, argv, wanted, lambda: open_reader(workspace), ids) as execute:
            found = bisect(reader, plan, execute=execute, report=_progress)
    if as_json:
        emit_json(verdicts.as_json(found, plan))
    else:
        _print(reader, found, plan)
    tell(found.notes)
    report_damage(reader)
    return 0 if found.first_bad else 1


def _known(reader: Reader, experiments: tuple[str, ...]) -> set[str] | None:
    """Return experiment ids, those of experiments that the command has yet to create included."""
    if not experiments:
        return None
    names = {e.name: e.experiment_id for e in reader.experiments()}
    return {names.get(name) or reader.view.id_for_name(name) for name in experiments}


def _progress(verdict: Verdict, left: int) -> None:
    value = f" ({number(verdict.value)})" if verdict.value is not None else f": {verdict.reason}"
    source = "run now" if verdict.executed else "recorded"
    more = f", {left} commit{'s' * (left > 1)} left" if left else ""
    click.echo(f"gml: {verdict.commit[:10]} {verdict.verdict}{value}, {source}{more}", err=True)


def _print(reader: Reader, found: Outcome, plan: Plan) -> None:
    from gml.git.log import CommitLog

    log = CommitLog(reader.workspace.store)

    def line(oid: str) -> str:
        commit = log.commit(oid)
        if commit is None:
            return oid[:10]
        return f"{oid[:10]} {commit.author.name}: " + commit.message.partition("\n")[0]

    values = {verdict.commit: verdict.value for verdict in found.verdicts if verdict.value is not None}
    if found.first_bad is not None:
        click.echo(f"first bad commit: {line(found.first_bad)}")
    else:
        click.echo(
            f"{len(found.suspects)} of {found.total} commits are left; the first bad one is among them"
        )
        shown = (
            found.suspects
            if len(found.suspects) <= SHOWN
            else [*found.suspects[: SHOWN - 1], found.suspects[-1]]
        )
        skipped = {v.commit for v in found.verdicts if v.verdict == "skipped"}
        for oid in shown:
            why = "skipped" if oid in skipped else "bad" if oid == found.suspects[-1] else "no runs"
            if oid == shown[-1] and len(shown) < len(found.suspects):
                click.echo(f"  ... {len(found.suspects) - len(shown)} more")
            click.echo(f"  {line(oid)} [{why}]")
        if found.missing:
            count = len(found.missing)
            tell([f"{count} commits have no finished clean run; --run 'gml log -- COMMAND' fills in"])
    before = f"  {plan.metric.name} {number(values[found.good])}" if found.good in values else ""
    if found.good is not None:
        click.echo(f"good before it:   {line(found.good)}{before}")
    bad = found.suspects[-1]
    if bad in values:
        sign = "<" if found.higher else ">"
        value, limit = number(values[bad]), number(found.threshold)
        if value == limit:
            value, limit = repr(values[bad]), repr(found.threshold)
        click.echo(f"{plan.metric.name} there: {value} (bad is {sign} {limit})")
    recorded = sum(1 for v in found.verdicts if not v.executed)
    click.echo(f"looked at {recorded} recorded and {found.executed} new of {found.total} commits")
