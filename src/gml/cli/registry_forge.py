"""`gml registry setup | judge`: pull requests on a forge."""

from __future__ import annotations

import os
from pathlib import Path

import click

from gml.cli.common import json_option
from gml.cli.output import emit_json
from gml.cli.registry_common import open_registry
from gml.domain.errors import GmlError

_FORGES = ["github", "gitlab", "gitea"]


@click.command("setup")
@click.argument("forge", type=click.Choice(_FORGES))
@click.option(
    "--into", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    help="Write below DIR instead of the top of the work tree.",
)  # fmt: skip
@click.option(
    "--owner", "owners", multiple=True, metavar="NAME", help="Owner of the workflow, for CODEOWNERS."
)
@click.option("--force", is_flag=True, help="Overwrite files that are there and differ.")
def setup_command(forge: str, into: Path | None, owners: tuple[str, ...], force: bool) -> None:
    """Write what a forge needs to judge pull requests into the registry; commit it to the default branch.

    A job that runs `gml registry judge` and makes the tags of merged changes, owners for it, the settings
    of the protected branch as a file, and a page that says what to click.

    \b
    Example:
      gml registry setup github --owner @acme/ml-admins
    """
    from gml.registry.setup import write_setup

    registry = open_registry()
    top = into or registry.store.location.worktree or Path()
    for path in write_setup(registry, forge, Path(top), owners=owners, force=force):
        click.echo(path)


@click.command("judge")
@click.argument("numbers", nargs=-1, type=click.IntRange(min=1), metavar="[NUMBER]...")
@click.option("--forge", type=click.Choice(_FORGES), required=True, help="What the job runs on.")
@click.option("--remote", default="origin", show_default=True, help="Remote of the clone.")
@click.option("--key", metavar="FILE", help="SSH key of the service whose word makes reviews count.")
@json_option
def judge_command(numbers: tuple[int, ...], forge: str, remote: str, key: str | None, as_json: bool) -> None:
    """Judge pull requests into the registry, all open ones by default: for a job of a forge.

    Reviews that count are recorded as signed statements on the branch of the pull request; then the
    status `gml registry` and a comment are set. Reads git objects only; no code of a pull request is run.
    Address and repository come from the variables that the forge sets, the token from GML_FORGE_TOKEN.

    \b
    Example:
      gml registry judge --forge github --key ~/service
    """
    from gml.registry.forge_api import Forge
    from gml.registry.pulls import judge_pull

    registry = open_registry()
    there = Forge.of(forge, os.environ)
    failed: GmlError | None = None
    rows = []
    for number in numbers or there.open_pulls(registry.branch.removeprefix("refs/heads/")):
        try:
            judged = judge_pull(registry, there, number, remote=remote, key=key)
        except GmlError as error:
            # One that cannot be judged holds nobody else up; without a status it cannot be merged.
            failed = error
            click.echo(f"gml: pull request {number}: {error}", err=True)
            continue
        rows.append({
            "number": judged.number, "head": judged.head, "state": judged.state, "text": judged.text,
            "recorded": list(judged.recorded),
        })  # fmt: skip
        if not as_json:
            click.echo(f"{number}  {judged.state}  {judged.text}")
    if as_json:
        emit_json(rows)
    if failed is not None:
        raise failed
