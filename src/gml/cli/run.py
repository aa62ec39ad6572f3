"""`gml run`: run a project."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gml.cli.common import open_workspace
from gml.cli.log import pairs
from gml.cli.output import duration
from gml.cli.rerun import confirm
from gml.domain.errors import UsageError
from gml.domain.ids import short_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from gml.projects.mlproject.run import ProjectRun, ReadyProject
    from gml.tracking.launch.command import Outcome
    from gml.workspace import Workspace


@click.command("run")
@click.argument("uri", metavar="URI")
@click.option("-e", "--entry-point", default="main", show_default=True, metavar="NAME",
              help="Entry point, or a .py, .sh or .R file of the project.")  # fmt: skip
@click.option("-v", "--version", metavar="REV", help="Commit, tag or branch.")
@click.option("-P", "--param-list", "params", multiple=True, metavar="K=V", callback=pairs,
              help="Parameter (repeatable).")  # fmt: skip
@click.option(
    "-x", "--experiment-name", "experiment", metavar="NAME", help="Experiment, created where missing."
)
@click.option("-n", "--run-name", "name", metavar="NAME", help="Name of the run; made up by default.")
@click.option("-t", "--tag", "tags", multiple=True, metavar="K=V", callback=pairs, help="Tag (repeatable).")
@click.option(
    "--env-manager", type=click.Choice(["local", "uv", "virtualenv", "conda", "docker"]),
    help="How the environment is made; by default what the project asks for, with uv where it is installed.",
)  # fmt: skip
@click.option("-A", "--docker-args", "docker_options", multiple=True, metavar="K[=V]",
              help="Option of `docker run` (repeatable).")  # fmt: skip
@click.option("--storage-dir", type=click.Path(path_type=Path), metavar="DIR",
              help="Where remote files of path parameters go; a temporary directory by default.")  # fmt: skip
@click.option("--isolated", is_flag=True, help="Run a local folder in a throw-away checkout.")
@click.option("--keep", type=click.Path(path_type=Path), metavar="DIR", help="Keep the checkout there.")
@click.option("--offline", is_flag=True, help="Do not ask any package index.")
@click.option("--trust", is_flag=True, help="Run code that is not in this repository.")
@click.option("--force", is_flag=True, help="Run steps of a pipeline although nothing has changed.")
@click.option("--graph", is_flag=True, help="Only show the steps and what would happen to each.")
@click.option("--dry-run", is_flag=True, help="Only print the command.")
@click.option("-q", "--quiet", is_flag=True, help="Do not print the run's line at the end.")
@click.option("--backend", default="local", show_default=True, metavar="NAME",
              help="Where it runs: local, slurm, or one that a package adds.")  # fmt: skip
@click.option("--backend-config", metavar="FILE|JSON", help="Options of the backend, such as sbatch's.")
@click.option("--wait", is_flag=True, help="Wait until the backend has run it.")
@click.option("--submitted-to", hidden=True, help="The backend that runs this.")
@click.option("--run-id", hidden=True, help="Id of the run, chosen by whoever submitted it.")
def run_command(
    uri: str,
    entry_point: str,
    version: str | None,
    params: dict[str, str],
    experiment: str | None,
    name: str | None,
    tags: dict[str, str],
    env_manager: str | None,
    docker_options: tuple[str, ...],
    storage_dir: Path | None,
    isolated: bool,
    keep: Path | None,
    offline: bool,
    trust: bool,
    force: bool,
    graph: bool,
    dry_run: bool,
    backend: str,
    backend_config: str | None,
    wait: bool,
    submitted_to: str | None,
    quiet: bool,
    run_id: str | None,
) -> int:
    """Run an entry point of a project: a folder, or a git repository, perhaps with #subdirectory.

    The project is described by its MLproject file, as MLflow defines it. A folder runs where it is; a
    version of it, or of another repository, in a temporary checkout. Code that is not in this repository
    needs --trust. What an entry point needs runs before it, unless nothing has changed since a recorded run.

    \b
    Example:
      gml run . -P alpha=0.5
      gml run https://host/team/project.git#subdir -v v1.2 -e train -P lr=0.01 --trust
      gml run . -e train.py -P epochs=3 --env-manager local
      gml run . -e evaluate --graph
      gml run . --backend slurm --backend-config '{"partition": "gpu", "gres": "gpu:1"}' --wait
    """
    from gml.projects.mlproject.run import ProjectRun, run_located, shown
    from gml.projects.pipeline.run import open_pipeline
    from gml.tracking.start import NewRun

    wish = ProjectRun(
        uri=uri,
        entry_point=entry_point,
        version=version,
        parameters=params,
        new=NewRun(experiment=experiment, name=name, tags=tags, run_id=run_id),
        env_manager=env_manager,
        storage=storage_dir.absolute() if storage_dir is not None else None,
        docker_options=_options(docker_options),
        isolated=isolated,
        keep=keep.absolute() if keep is not None else None,
        offline=offline,
        backend=submitted_to or backend,
    )

    def consent(what: str, where: str) -> None:
        confirm(what, f"entry point {entry_point} of {where}", trust=trust)

    def before(ready: ReadyProject) -> None:
        if not quiet:
            click.echo(f"gml: {shown(ready.argv)}", err=True)

    def told(step: str, note: str, ready: ReadyProject | None) -> None:
        if not quiet:
            click.echo(f"gml: {step}: {note}", err=True)
        if ready is not None:
            before(ready)

    def ended(outcome: Outcome) -> None:
        if not quiet:
            took = duration(int(outcome.seconds * 1000))
            who = f"{short_id(outcome.run_id)} {outcome.name}"
            click.echo(f"gml: run {who} {outcome.status} in {took}", err=True)

    workspace = open_workspace()
    if dry_run:
        from gml.projects.mlproject.dry import dry_command

        click.echo(shown(dry_command(workspace, wish, consent)))
        return 0
    if backend != "local":
        return _submit(workspace, wish, consent, backend_config, wait=wait, quiet=quiet)
    if backend_config is not None or wait:
        raise UsageError("--backend-config and --wait go with --backend", hint="--backend slurm")
    with open_pipeline(workspace, wish, consent, told, ended, force=force) as pipeline:
        if graph:
            click.echo("\n".join(pipeline.graph()))
            return 0
        if not pipeline.is_plain:
            return pipeline.run()
        outcome = run_located(pipeline.place, wish, before)
    ended(outcome)
    return outcome.exit_code


def _submit(
    workspace: Workspace,
    wish: ProjectRun,
    consent: Callable[[str, str], None],
    config: str | None,
    *,
    wait: bool,
    quiet: bool,
) -> int:
    from gml.projects.backends import submit as backends

    options = backends.read_options(config) if config is not None else {}
    done = backends.submit(workspace, wish, options, consent)
    if not quiet:
        what = f"run {short_id(done.run_id)} is job {done.job} of {wish.backend}"
        click.echo(f"gml: {what}; it prints to {done.output}", err=True)
    return backends.wait(workspace, done, wish.backend) if wait else 0


def _options(texts: tuple[str, ...]) -> dict[str, str]:
    return {key: value for key, _, value in (text.partition("=") for text in texts)}
