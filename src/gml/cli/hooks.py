"""`gml hooks`: installing the shims, and what they call."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from gml.cli.common import open_workspace


@click.group("hooks")
def hooks_command() -> None:
    """Install and run git hooks that guard the registry.

    \b
    Example:
      gml hooks install --server /srv/git/team.git
    """


@hooks_command.command("install")
@click.option(
    "--server", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="BARE",
    help="A bare repository on a server: its pushes are then judged.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Keep a hook that is there as NAME.before-gml; it runs first.")
def install(server: Path | None, force: bool) -> None:
    """Install the hooks: on a server the gate, in a clone an early warning before a push.

    \b
    Example:
      gml hooks install
    """
    from gml.git.discover import open_store
    from gml.registry.hooks import CLIENT, SERVER, harden
    from gml.registry.hooks import install as write

    store = open_workspace().store if server is None else open_store(server, environ=os.environ)
    for path in write(store, CLIENT if server is None else SERVER, force=force):
        click.echo(path)
    if server is not None:
        for key, value in harden(store).items():
            click.echo(f"{key} = {value}")


@hooks_command.command("run", context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("args", nargs=-1)
def run(name: str, args: tuple[str, ...]) -> None:
    """Run a hook as git does: `pre-receive`, `post-receive` or `pre-push`.

    \b
    Example:
      gml hooks run pre-receive < updates
    """
    from gml.registry.hooks import run as run_hook

    click.echo(run_hook(name, sys.stdin.read, os.environ, args), nl=False)
