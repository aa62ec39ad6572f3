"""`gml exp`: experiments."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click

from gml.cli.common import json_option, open_reader, open_workspace
from gml.cli.log import pairs
from gml.cli.output import emit_json, table, timestamp
from gml.domain.errors import NotFoundError
from gml.domain.run import ACTIVE, DELETED

if TYPE_CHECKING:
    from typing import Any

    from gml.domain.experiment import Experiment
    from gml.tracking.reader import Reader


@click.group("exp")
def exp_command() -> None:
    """List and manage experiments.

    \b
    Example:
      gml exp ls
      gml exp create churn -t team=risk
    """


def _find(reader: Reader, wanted: str) -> Experiment:
    known = reader.experiments()
    for experiment in known:
        if wanted in {experiment.name, experiment.experiment_id}:
            return experiment
    from difflib import get_close_matches

    near = get_close_matches(wanted, [e.name for e in known], 1)
    hint = f"did you mean {near[0]!r}?" if near else "`gml exp ls` shows them"
    raise NotFoundError(f"no experiment is named {wanted!r}", hint=hint)


def _json(experiment: Experiment, runs: int) -> dict[str, Any]:
    return {
        "experiment_id": experiment.experiment_id,
        "name": experiment.name,
        "lifecycle_stage": experiment.lifecycle_stage,
        "creation_time": experiment.creation_time,
        "last_update_time": experiment.last_update_time,
        "tags": dict(experiment.tags),
        "runs": runs,
    }


@exp_command.command("ls")
@click.option("--deleted", is_flag=True, help="List deleted experiments instead.")
@json_option
def ls(deleted: bool, as_json: bool) -> None:
    """List experiments with their number of runs.

    \b
    Example:
      gml exp ls --json
    """
    reader = open_reader()
    counts = Counter(run.experiment_id for run in reader.runs())
    found = [e for e in reader.experiments() if (e.lifecycle_stage == DELETED) is deleted]
    if as_json:
        emit_json([_json(e, counts[e.experiment_id]) for e in found])
        return
    table(
        ["id", "name", "runs", "created", "tags"],
        [
            [
                e.experiment_id,
                e.name,
                str(counts[e.experiment_id]),
                timestamp(e.creation_time or None),
                " ".join(f"{k}={v}" for k, v in sorted(e.tags.items())),
            ]
            for e in found
        ],
        right=["runs"],
    )


@exp_command.command("create")
@click.argument("name")
@click.option("-t", "--tag", "tags", multiple=True, metavar="K=V", callback=pairs, help="Tag (repeatable).")
def create(name: str, tags: dict[str, str]) -> None:
    """Create an experiment (the first run in it would, too) and print its id.

    \b
    Example:
      gml exp create churn
    """
    from gml.tracking.edits import create_experiment

    click.echo(create_experiment(open_workspace(), name, tags))


@exp_command.command("show")
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show an experiment.

    \b
    Example:
      gml exp show churn
    """
    reader = open_reader()
    experiment = _find(reader, name)
    statuses = Counter(r.status for r in reader.runs() if r.experiment_id == experiment.experiment_id)
    total = sum(statuses.values())
    if as_json:
        emit_json(_json(experiment, total) | {"statuses": dict(statuses)})
        return
    click.echo(f"experiment  {experiment.name}\nid          {experiment.experiment_id}")
    click.echo(
        f"stage       {experiment.lifecycle_stage}\ncreated     {timestamp(experiment.creation_time or None)}"
    )
    detail = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()))
    click.echo(f"runs        {total}" + (f" ({detail})" if detail else ""))
    for key, value in sorted(experiment.tags.items()):
        click.echo(f"tag         {key}={value}")


@exp_command.command("rename")
@click.argument("name")
@click.argument("new_name")
def rename(name: str, new_name: str) -> None:
    """Give an experiment another name.

    \b
    Example:
      gml exp rename churn churn-2025
    """
    from gml.tracking.edits import edit_experiment

    reader = open_reader()
    edit_experiment(reader.workspace, _find(reader, name), {"name": new_name}, "rename")


@exp_command.command("rm")
@click.argument("name")
def rm(name: str) -> None:
    """Delete an experiment and its runs; `gml exp restore` brings both back.

    \b
    Example:
      gml exp rm churn
    """
    from gml.tracking.edits import delete_experiment

    reader = open_reader()
    experiment = _find(reader, name)
    if experiment.lifecycle_stage != ACTIVE:
        raise NotFoundError(f"experiment {name!r} is deleted already")
    runs = delete_experiment(reader.workspace, experiment)
    click.echo(f"deleted {experiment.name} with {len(runs)} runs; undo: gml exp restore {experiment.name}")


@exp_command.command("restore")
@click.argument("name")
def restore(name: str) -> None:
    """Bring a deleted experiment back with the runs that were deleted with it.

    \b
    Example:
      gml exp restore churn
    """
    from gml.tracking.edits import restore_experiment

    reader = open_reader()
    experiment = _find(reader, name)
    if experiment.lifecycle_stage == ACTIVE:
        raise NotFoundError(f"experiment {name!r} is not deleted")
    runs = restore_experiment(reader.workspace, experiment)
    click.echo(f"restored {experiment.name} with {len(runs)} runs")
