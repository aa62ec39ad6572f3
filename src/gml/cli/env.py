"""`gml env`: the environment that a run was recorded with."""

from __future__ import annotations

from pathlib import Path

import click

from gml.cli.common import json_option, open_reader
from gml.cli.output import emit_json


@click.group("env")
def env_command() -> None:
    """Show or restore the environment of a run.

    \b
    Example:
      gml env show @
      gml env restore forest -o .venv
    """


@env_command.command("show")
@click.argument("wanted", metavar="RUN")
@json_option
def show(wanted: str, as_json: bool) -> None:
    """Print the packages of a run as a lock: a requirements file with every version.

    \b
    Example:
      gml env show @ > requirements.lock
      gml env show @ --json
    """
    from gml.projects.environments.recorded import lock_text, recorded_spec
    from gml.tracking.contents import environment

    reader = open_reader()
    run = reader.resolve(wanted)
    if as_json:
        emit_json(environment(reader, run))
    else:
        click.echo(lock_text(recorded_spec(reader, run)), nl=False)


@env_command.command("restore")
@click.argument("wanted", metavar="RUN")
@click.option(
    "-o", "--output", metavar="DIR", type=click.Path(path_type=Path),
    help="Where to build it; by default in gml's cache, where the next one finds it.",
)  # fmt: skip
@click.option(
    "--env-manager", metavar="TOOL", type=click.Choice(["uv", "virtualenv"]),
    help="uv or virtualenv; uv where it is installed.",
)  # fmt: skip
@click.option("--offline", is_flag=True, help="Do not ask any package index.")
def restore_command(wanted: str, output: Path | None, env_manager: str | None, offline: bool) -> None:
    """Build a virtual environment with the packages of a run, and print where it is.

    \b
    Example:
      gml env restore @ -o .venv
      gml env restore forest --env-manager virtualenv
    """
    from gml.projects.environments.recorded import restore

    reader = open_reader()
    run = reader.resolve(wanted)
    target = output.absolute() if output is not None else None
    built = restore(reader, run, target, tool=env_manager, offline=offline)
    click.echo(str(built.path))
