"""`gml clone`: start on another machine."""

from __future__ import annotations

import os
import time
from pathlib import Path

import click

from gml.cli.common import json_option
from gml.cli.output import emit_json


@click.command("clone")
@click.argument("url")
@click.argument("directory", required=False)
@click.option("--runs-only", is_flag=True, help="Bring no branches, no code and no history of the ledger.")
@click.option(
    "--since", metavar="TIME", help="Bring only runs since then: 90d, 12w, a date. Implies --runs-only."
)
@click.option("--no-curves", is_flag=True, help="Leave out long metric histories. Implies --runs-only.")
@json_option
def clone_command(
    url: str, directory: str | None, runs_only: bool, since: str | None, no_curves: bool, as_json: bool
) -> None:
    """Clone the repository at URL with its runs, and let plain git carry them from then on.

    Artifacts in the artifact store are not brought; they are fetched when they are needed.

    \b
    Example:
      gml clone https://git.example.org/team/churn.git
      gml clone https://git.example.org/team/churn.git --runs-only --since 90d --no-curves
    """
    from gml.cli.sync import describe, report_json
    from gml.sync.clone import clone, directory_of
    from gml.sync.thin import Thin

    thin = Thin(_moment(since), curves=not no_curves) if since is not None or no_curves else None
    target = Path(directory or directory_of(url))
    workspace, report = clone(url, target, os.environ, runs_only=runs_only, thin=thin)
    if as_json:
        emit_json(report_json(report) | {"directory": str(target.absolute())})
        return
    click.echo(f"cloned  {report.url} into {workspace.store.location.worktree}")
    click.echo(f"pulled  {describe(report.pulled)}")


def _moment(text: str | None) -> int | None:
    """Return a time in milliseconds since the epoch: `90d` ago, or what queries accept."""
    if text is None:
        return None
    from gml.index.query.times import parse_time, resolve

    try:
        return resolve(parse_time(text, ago=True), int(time.time() * 1000))[0]
    except ValueError as error:
        raise click.BadParameter(f"--since {text!r}: {error}") from None
