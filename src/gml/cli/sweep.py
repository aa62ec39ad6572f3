"""`gml sweep`: many runs with other values."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gml.cli.common import json_option, open_reader, open_workspace
from gml.cli.log import pairs
from gml.cli.output import emit_json, number, table
from gml.domain.errors import UsageError
from gml.domain.ids import short_id

if TYPE_CHECKING:
    from gml.projects.sweep.run import SweepResult
    from gml.projects.sweep.study import Finished

SHOWN = 10
EXIT_CODES = {"FINISHED": 0, "FAILED": 1, "KILLED": 130}


@click.command("sweep")
@click.argument("words", metavar="[FILE] [-- CMD...]", nargs=-1, type=click.UNPROCESSED)
@click.option("-P", "--param", "params", multiple=True, metavar="K=SPEC", callback=pairs,
              help="What to vary: 2..8, 0..1/0.1, log:1e-4..1e-1, a,b,c or a constant.")  # fmt: skip
@click.option("--project", metavar="DIR", help="Vary an entry point of this project instead of a command.")
@click.option("-e", "--entry-point", metavar="NAME", help="Entry point of the project; main by default.")
@click.option("--env-manager", type=click.Choice(["local", "uv", "virtualenv", "conda"]),
              help="How the project's environment is made.")  # fmt: skip
@click.option("--metric", metavar="NAME", help="Metric that is to be as good as possible.")
@click.option("--minimize/--maximize", "minimize", default=None,
              help="Whether less or more is better; more by default.")  # fmt: skip
@click.option("--trials", type=int, metavar="N", help="Number of trials; 20, or all of a grid.")
@click.option("-j", "--jobs", type=int, metavar="N", help="Trials at once; 1 by default.")
@click.option("--sampler", type=click.Choice(["tpe", "random", "grid"]),
              help="tpe where optuna is installed, else random.")  # fmt: skip
@click.option("--seed", type=int, metavar="N", help="Of the sampler; 0 by default.")
@click.option("--prune", is_flag=True, help="Stop trials that are worse than the median at the same step.")
@click.option("--capture", multiple=True, metavar="REGEX", help="Metrics in the output, as with `gml log`.")
@click.option("-x", "--experiment", metavar="NAME", help="Experiment, created where missing.")
@click.option("-n", "--name", metavar="NAME", help="Name of the sweep's run; made up by default.")
@click.option("--resume", metavar="RUN", help="Go on with a sweep that was stopped or killed.")
@click.option("-q", "--quiet", is_flag=True, help="Do not print a line for each trial.")
@json_option
def sweep_command(
    words: tuple[str, ...],
    params: dict[str, str],
    project: str | None,
    entry_point: str | None,
    env_manager: str | None,
    metric: str | None,
    minimize: bool | None,
    trials: int | None,
    jobs: int | None,
    sampler: str | None,
    seed: int | None,
    prune: bool,
    capture: tuple[str, ...],
    experiment: str | None,
    name: str | None,
    resume: str | None,
    quiet: bool,
    as_json: bool,
) -> int:
    """Run a command or a project many times with other values, nested in one run, and find the best.

    Values become options (`--lr 0.01`) or stand where the command has `{lr}`. Without a command the
    project in the current folder runs. A sweep that was stopped, or killed, goes on with --resume: what
    ended is kept.

    \b
    Example:
      gml sweep -P lr=log:1e-4..1e-1 -P depth=2..8 --metric auc --trials 50 --jobs 2 -- python train.py
      gml sweep sweep.yaml
      gml sweep --resume @ --trials 100
    """
    from gml.projects.sweep.plan import make_plan, read_sweep_file
    from gml.projects.sweep.run import start_sweep
    from gml.tracking.start import NewRun

    def progress(trial: Finished) -> None:
        if not quiet:
            result = trial.state if trial.result is None else f"{trial.result:.6g}"
            values = " ".join(f"{key}={value}" for key, value in trial.values.items())
            click.echo(f"gml: trial {trial.number} {short_id(trial.run_id)} {result} {values}", err=True)

    file, command = _split(words)
    data: dict[str, Any] = read_sweep_file(file) if file is not None else {}
    given = {
        "project": project,
        "entry_point": entry_point,
        "env_manager": env_manager,
        "metric": metric,
        "maximize": None if minimize is None else not minimize,
        "trials": trials,
        "jobs": jobs,
        "sampler": sampler,
        "seed": seed,
        "prune": prune or None,
        "capture": capture or None,
        "experiment": experiment,
        "name": name,
        "command": command or None,
    }
    data |= {key: value for key, value in given.items() if value is not None}
    data["parameters"] = {**data.get("parameters", {}), **params}
    at_once = int(data.get("jobs") or 1)
    if resume is not None:
        if words or params:
            raise UsageError(
                "--resume takes what the sweep was started with", hint="only --trials and --jobs change it"
            )
        result = _resume(resume, trials, at_once, progress)
    else:
        new = NewRun(experiment=data.get("experiment"), name=data.get("name"))
        result = start_sweep(open_workspace(), make_plan(data), new, at_once, progress)
    _print(result, as_json=as_json)
    return EXIT_CODES[result.status]


def _split(words: tuple[str, ...]) -> tuple[Path | None, list[str]]:
    """Return the sweep file, where the first word is one, and the command."""
    if words and words[0].endswith((".yaml", ".yml")):
        return Path(words[0]), list(words[1:])
    return None, list(words)


def _resume(wanted: str, trials: int | None, jobs: int, progress: Any) -> SweepResult:
    from dataclasses import replace

    from gml.projects.sweep.plan import plan_of_run
    from gml.projects.sweep.run import resume_sweep

    workspace = open_workspace()
    reader = open_reader(workspace)
    run = reader.resolve(wanted)
    plan = plan_of_run(reader, run)
    if trials is not None:
        plan = replace(plan, trials=trials)
    return resume_sweep(workspace, run, plan, jobs, progress)


def _print(result: SweepResult, *, as_json: bool) -> None:
    from gml.projects.sweep.run import table_of

    rows = table_of(result.study)
    best = result.study.best
    if as_json:
        emit_json({"run_id": result.run_id, "status": result.status, "metric": result.study.plan.metric,
                   "best": None if best is None else best.run_id, "trials": rows})  # fmt: skip
        return
    names = list(result.study.plan.space)
    table(
        ["trial", "run", result.study.plan.metric, *names],
        [
            [str(row["number"]), short_id(row["run_id"]),
             row["state"] if row["result"] is None else number(row["result"]),
             *(row["values"].get(name, "") for name in names)]
            for row in rows[:SHOWN]
        ],
        right=[result.study.plan.metric],
    )  # fmt: skip
    if len(rows) > SHOWN:
        click.echo(f"{len(rows) - SHOWN} more trials; gml show {short_id(result.run_id)} lists them")
    if result.status == "KILLED":
        click.echo(f"gml: stopped; gml sweep --resume {short_id(result.run_id)} goes on", err=True)
