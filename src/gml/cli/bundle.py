"""`gml bundle`: runs in a file, for machines without a network."""

from __future__ import annotations

from pathlib import Path

import click

from gml.cli.common import json_option, open_workspace, recover
from gml.cli.output import emit_json, size


@click.group("bundle")
def bundle_command() -> None:
    """Carry runs, code, registry and artifacts in one verified file.

    \b
    Example:
      gml bundle create out.gmlb --since last
      gml bundle apply out.gmlb
    """


@bundle_command.command("create")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--since", metavar="WHAT", help="`last`: what the last bundle did not have; or name a remote.")
@click.option("--no-bytes", is_flag=True, help="Leave out artifacts of the artifact store.")
@json_option
def create_command(file: Path, since: str | None, no_bytes: bool, as_json: bool) -> None:
    """Write FILE with everything, or with what is new.

    \b
    Example:
      gml bundle create all.gmlb
      gml bundle create new.gmlb --since last
    """
    from dataclasses import asdict

    from gml.sync.bundle import create

    workspace = open_workspace()
    recover(workspace)
    made = create(workspace, file, since=since, with_bytes=not no_bytes)
    if as_json:
        emit_json({"file": str(file)} | asdict(made))
        return
    click.echo(f"wrote   {file} ({size(made.size)})")
    click.echo(
        f"holds   {made.runs} run{'s' * (made.runs != 1)}, {made.blobs} artifact{'s' * (made.blobs != 1)}"
    )
    if made.left_out:
        click.echo(f"note    {made.left_out} artifacts are not on this machine and are left out")


@bundle_command.command("apply")
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def apply_command(file: Path, as_json: bool) -> int:
    """Check FILE and unite what it holds with what is here. Applying it twice does no harm.

    \b
    Example:
      gml bundle apply new.gmlb
    """
    from gml.cli.sync import show
    from gml.sync.bundle import apply

    workspace = open_workspace()
    recover(workspace)
    return show(apply(workspace, file), "pulled", as_json=as_json)
