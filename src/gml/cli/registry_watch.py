"""`gml registry watch`: a command for each change of a stage."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gml.cli.registry_common import open_registry
from gml.domain.errors import NotFoundError, RemoteError, UsageError

if TYPE_CHECKING:
    from gml.registry.branch import Registry
    from gml.registry.watch import Turn


@click.command("watch")
@click.argument("model")
@click.argument("stage")
@click.option(
    "--exec", "command", required=True, metavar="CMD", help="Program and arguments; no shell reads it."
)
@click.option("--once", is_flag=True, help="Look once and end, with 1 where CMD failed.")
@click.option(
    "--interval", type=click.FloatRange(min=0.1), default=30.0, show_default=True, metavar="SECONDS",
    help="Time between two looks.",
)  # fmt: skip
@click.option(
    "--only-new", is_flag=True, help="The first time, do not run CMD for what the stage holds already."
)
@click.option(
    "--name",
    "follower",
    default="default",
    show_default=True,
    help="Who follows: each name has its own memory.",
)
@click.option(
    "--memory", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    help="Remember in DIR what was run, where clones are thrown away.",
)  # fmt: skip
@click.option(
    "--remote", metavar="NAME", help="Pull from this remote before each look (default: as gml pull)."
)
@click.option("--no-pull", is_flag=True, help="Look at what is here; something else fetches.")
def watch_command(
    model: str, stage: str, command: str, once: bool, interval: float, only_new: bool, follower: str,
    memory: Path | None, remote: str | None, no_pull: bool,
) -> None:  # fmt: skip
    """Run CMD once for each verified change of STAGE of MODEL, oldest first: for deployments.

    CMD gets the change in the variables GML_MODEL, GML_STAGE, GML_SEQ, GML_VERSION, GML_DIGEST, GML_BEFORE,
    GML_RUN and GML_COMMIT; GML_VERSION is empty when the stage was emptied. Where CMD fails the same change
    is tried again at the next look. Nothing runs when the registry is not in order or was rolled back: the
    command ends with 13.

    \b
    Example:
      gml registry watch churn Production --exec "./deploy.sh --blue"
    """
    from gml.registry.watch import check_watched, follow

    argv = shlex.split(command)
    if not argv:
        raise UsageError("--exec is empty")
    registry = open_registry()
    _refresh(registry, remote, pull=not no_pull)
    check_watched(registry, model, stage)
    failed: list[Turn] = []

    def run(turn: Turn) -> bool:
        held = f"v{turn.version}" if turn.version else "nothing"
        click.echo(f"{turn.stage} of {turn.model} holds {held} (turn {turn.seq})")
        try:
            code = subprocess.run(argv, env={**os.environ, **turn.variables()}, check=False).returncode
        except OSError as error:
            raise NotFoundError(f"{argv[0]} cannot be run ({error.strerror})") from None
        if code:
            failed.append(turn)
            click.echo(f"gml: {argv[0]} ended with {code}; it is tried again", err=True)
        return not code

    with suppress(KeyboardInterrupt):
        while True:
            follow(registry, model, stage, run, follower=follower, only_new=only_new, memory=memory)
            if once:
                break
            time.sleep(interval)
            _refresh(registry, remote, pull=not no_pull)
    if once and failed:
        raise click.exceptions.Exit(1)


def _refresh(registry: Registry, remote: str | None, *, pull: bool) -> None:
    """Pull; a remote that cannot be reached is said, and what is here is looked at."""
    if not pull or (remote is None and not registry.store.remotes()):
        return
    from gml.sync.pull import pull as pull_from
    from gml.sync.remotes import open_remote

    try:
        report = pull_from(registry.workspace, open_remote(registry.workspace, remote))
    except RemoteError as error:
        click.echo(f"gml: {error}", err=True)
        return
    for line in (*report.conflicts, *report.notes):
        click.echo(f"gml: {line}", err=True)
