"""`gml gc`: pack the repository."""

from __future__ import annotations

import click

from gml.cli.common import json_option, open_workspace, recover
from gml.cli.output import emit_json, size


@click.command("gc")
@json_option
def gc_command(as_json: bool) -> None:
    """Pack all git objects tightly. Nothing is removed, and runs may go on meanwhile.

    Commits pack what gathers by themselves; this makes the repository as small as it gets.

    \b
    Example:
      gml gc
    """
    from dataclasses import asdict

    from gml.sync.upkeep import collect

    workspace = open_workspace()
    recover(workspace)
    done = collect(workspace)
    if as_json:
        emit_json(asdict(done))
        return
    click.echo(f"git objects  {size(done.before)} before, {size(done.after)} now")
    if done.runs:
        click.echo(f"runs         {done.runs}, {size(done.after // done.runs)} each with their code")
