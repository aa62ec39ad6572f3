"""`gml blame`: since when the best run has a value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gml.cli.code_options import direction_options, guess_note, tell
from gml.cli.common import json_option, open_reader, report_damage
from gml.cli.output import ago, emit_json, is_terminal, number, table, timestamp
from gml.domain.errors import UsageError
from gml.domain.ids import short_id
from gml.tracking.missing import experiment_ids

if TYPE_CHECKING:
    from gml.tracking.code.blame import Step
    from gml.tracking.reader import Reader


@click.command("blame")
@click.argument("field")
@click.option("-x", "--experiment", metavar="NAME", help="The experiment; the latest run's by default.")
@click.option(
    "--metric", metavar="METRIC", help="What makes a run the best; the experiment's only metric by default."
)
@click.option("--latest", is_flag=True, help="Ask about the latest run, not about the best.")
@direction_options
@json_option
def blame_command(
    field: str,
    experiment: str | None,
    metric: str | None,
    latest: bool,
    higher: bool | None,
    as_json: bool,
) -> None:
    """Show since which run and commit the best run has its value of FIELD.

    Walks the runs of the experiment from that run to older ones, until one has another value. Where there
    are several metrics, and neither --metric nor the experiment's tag mlflow.experiment.primaryMetric.name
    says which one counts, it is about the latest run.

    \b
    Example:
      gml blame params.lr -x churn
      gml blame params.lr -x churn --metric auc
      gml blame params.lr --latest
    """
    from gml.tracking.code import blame as code_blame
    from gml.tracking.code.values import metric_of

    if metric and latest:
        raise UsageError("--metric and --latest exclude each other")
    reader = open_reader()
    asked = _experiment(reader, experiment)
    if not metric and not latest:
        metric = code_blame.usual_metric(reader, asked)
        if metric is None:
            tell(["about the latest run; --metric METRIC asks about the best"])
    wanted = metric_of(metric, higher) if metric else None
    found = code_blame.blame(reader, field, asked, wanted)
    if as_json:
        emit_json(code_blame.as_json(found))
    else:
        rows = [
            _row("best" if wanted else "latest", found.subject),
            _row("since", found.introduced),
            *([_row("before", found.before)] if found.before else []),
        ]
        table(["", "run", "name", found.field, "commit", "by", "started", "subject"], rows,
              styles={"run": "yellow"}, keep=["", "run", found.field, "commit"])  # fmt: skip
        if found.before is None:
            tell(
                [
                    f"all {found.runs} runs up to this one have the value"
                    if found.runs > 1
                    else "it is the first run"
                ]
            )
    tell(guess_note(wanted) if wanted else [])
    report_damage(reader)


def _experiment(reader: Reader, name: str | None) -> str:
    if name is not None:
        return next(iter(experiment_ids(reader, (name,)) or ()))
    return reader.resolve("@").experiment_id


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return (
        number(value)
        if isinstance(value, float)
        else ", ".join(value)
        if isinstance(value, list)
        else str(value)
    )


def _row(what: str, step: Step) -> list[str]:
    source = step.run.source
    commit = (source.get("commit") or "")[:10] + (" *" if source.get("dirty") else "")
    started = ago(step.run.start_time) if is_terminal() else timestamp(step.run.start_time)
    by = str(source.get("author") or step.run.user).partition(" <")[0]
    return [what, short_id(step.run.run_id), step.run.name, _text(step.value), commit, by,
            started, step.subject]  # fmt: skip
