"""`gml log`: run a command as a tracked run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gml.cli.common import open_workspace
from gml.domain.errors import GmlError, UsageError

if TYPE_CHECKING:
    from gml.workspace import Workspace


def pairs(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Parse repeated `key=value` options."""
    out: dict[str, str] = {}
    for text in values:
        key, found, value = text.partition("=")
        if not found or not key:
            raise click.BadParameter(f"{text!r} is not key=value", ctx, param)
        if out.get(key, value) != value:
            raise click.BadParameter(f"{key!r} is given twice, as {out[key]!r} and {value!r}", ctx, param)
        out[key] = value
    return out


@click.command(
    "log",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.option("-x", "--experiment", metavar="NAME", help="Experiment, created where missing.")
@click.option("-n", "--name", metavar="NAME", help="Name of the run; made up by default.")
@click.option(
    "-p", "--param", "params", multiple=True, metavar="K=V", callback=pairs, help="Param (repeatable)."
)
@click.option("-t", "--tag", "tags", multiple=True, metavar="K=V", callback=pairs, help="Tag (repeatable).")
@click.option("-m", "--note", metavar="TEXT", help="Note about the run.")
@click.option(
    "-a",
    "--artifact",
    "artifacts",
    multiple=True,
    metavar="PATH",
    help="File, folder or glob to keep (repeatable).",
)
@click.option(
    "--metrics-file", multiple=True, metavar="PATH", help="JSON or JSON-lines file the command writes."
)
@click.option("--params-file", multiple=True, metavar="PATH", help="YAML or JSON file of params.")
@click.option(
    "--capture",
    multiple=True,
    metavar="REGEX",
    help="Metrics in the output: a regex with key and value, or `auto`.",
)
@click.option("--no-argv-params", is_flag=True, help="Do not take the command's own arguments as params.")
@click.option(
    "--no-auto-files", is_flag=True, help="Do not look at metrics.json, metrics.jsonl and params.yaml."
)
@click.option("--no-output", is_flag=True, help="Do not keep standard output and error as artifacts.")
@click.option(
    "--system", is_flag=False, flag_value=10.0, default=0.0, type=float, metavar="[SECONDS]",
    help="Sample CPU, memory and GPU use (needs gitml[system]).",
)  # fmt: skip
@click.option("--push", is_flag=True, help="Push when the command has ended, at most every 10 seconds.")
@click.option("-q", "--quiet", is_flag=True, help="Do not print the run's line at the end.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def log_command(
    experiment: str | None,
    name: str | None,
    params: dict[str, str],
    tags: dict[str, str],
    note: str | None,
    artifacts: tuple[str, ...],
    metrics_file: tuple[str, ...],
    params_file: tuple[str, ...],
    capture: tuple[str, ...],
    no_argv_params: bool,
    no_auto_files: bool,
    no_output: bool,
    system: float,
    push: bool,
    quiet: bool,
    command: tuple[str, ...],
) -> int:
    """Run COMMAND as a tracked run. Its output, signals and exit code pass through.

    Kept are: its arguments as params, code (uncommitted changes included), environment, output, and
    what the script itself logs with `import gml`.

    \b
    Example:
      gml log -x churn -p data=v3 -a model.bin -- python train.py --lr 0.1
      gml log --capture auto -- ./train.sh
      gml log --push -- python train.py
    """
    from gml.tracking.launch import Launch, run_command
    from gml.tracking.models.register import register_wished
    from gml.tracking.start import NewRun

    if command[0].startswith("-"):
        raise UsageError(
            f"gml log has no option {command[0]}", hint="the command goes behind --: gml log -- CMD"
        )
    new = NewRun(experiment=experiment, name=name, params=params, tags=tags, description=note)
    launch = Launch(
        command=command,
        new=new,
        argv_params=not no_argv_params,
        artifacts=artifacts,
        metrics_files=metrics_file,
        params_files=params_file,
        automatic_files=not no_auto_files,
        captures=capture,
        system=system,
        keep_output=not no_output,
    )
    workspace = open_workspace()
    outcome = run_command(workspace, launch)
    register_wished(workspace, outcome.run_id)
    if not quiet:
        from gml.cli.output import duration
        from gml.domain.ids import short_id

        took = duration(int(outcome.seconds * 1000))
        click.echo(f"gml: run {short_id(outcome.run_id)} {outcome.name} {outcome.status} in {took}", err=True)
    if push:
        _push(workspace, quiet=quiet)
    return outcome.exit_code


def _push(workspace: Workspace, *, quiet: bool) -> None:
    """Push what has ended; that it failed is said, and never changes the exit code of the command."""
    from gml.cli.sync import describe
    from gml.sync.soon import push_soon

    try:
        report = push_soon(workspace)
    except (GmlError, OSError) as error:
        click.echo(
            f"gml: not pushed: {error} (the run is kept in {workspace.store.location.common_dir})", err=True
        )
        return
    if not quiet and report is not None:
        where = "; it waits in this clone's inbox there" if report.inbox else ""
        click.echo(f"gml: pushed {describe(report.pushed)} to {report.url}{where}", err=True)
    for line in report.conflicts if report is not None else ():
        click.echo(f"gml: {line}", err=True)
