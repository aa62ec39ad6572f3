"""`gml artifacts push`, `pull` and `status`: artifacts between here and remotes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gml.cli.common import json_option, open_reader
from gml.cli.output import emit_json, size, table
from gml.cli.progress import transfer_progress
from gml.domain.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gml.cas.exchange import Copied
    from gml.tracking.reader import Reader

runs_argument = click.argument("runs", nargs=-1, metavar="[RUN|QUERY]...")
remote_option = click.option("--remote", metavar="NAME", help="Artifact remote, URL or folder.")
jobs_option = click.option("-j", "--jobs", type=click.IntRange(1, 64), help="Files at once.")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Show no progress.")


@click.command("push")
@runs_argument
@remote_option
@jobs_option
@quiet_option
@json_option
def push_command(
    runs: tuple[str, ...], remote: str | None, jobs: int | None, quiet: bool, as_json: bool
) -> int:
    """Copy artifacts of runs (all, if none is named) to a remote. What it has is not sent again.

    An interrupted push goes on where it was when it is repeated.

    \b
    Example:
      gml artifacts push
      gml artifacts push "metrics.auc > 0.9" --remote backup
    """
    from gml.tracking.remotes import push_artifacts, select_runs

    reader = open_reader()
    chosen, _ = select_runs(reader, runs)
    with transfer_progress(quiet=quiet) as progress:
        done = push_artifacts(reader.workspace, chosen, remote, jobs=jobs, progress=progress)
    return _report("pushed", done, as_json=as_json)


@click.command("pull")
@click.argument("runs", nargs=-1, metavar="[RUN|QUERY|models:/NAME/STAGE]...")
@remote_option
@jobs_option
@quiet_option
@json_option
def pull_command(
    runs: tuple[str, ...], remote: str | None, jobs: int | None, quiet: bool, as_json: bool
) -> int:
    """Fetch artifacts of runs (all, if none is named) or of registered models from the remotes.

    What is missing is also fetched one by one when it is read; this fetches it beforehand.

    \b
    Example:
      gml artifacts pull @
      gml artifacts pull "params.model = 'forest'" --jobs 16
    """
    from gml.tracking.remotes import digests_of, pull_artifacts, select_runs

    reader = open_reader()
    chosen, digests = select_runs(reader, runs, _registered(reader))
    with transfer_progress(quiet=quiet) as progress:
        done = pull_artifacts(
            reader.workspace, [*digests_of(chosen), *digests], remote, jobs=jobs, progress=progress
        )
    return _report("pulled", done, as_json=as_json)


def _registered(reader: Reader) -> Callable[[str], list[str]]:
    """Return what finds the digests of `models:/…`."""
    from gml.registry.artifacts import model_digests

    return lambda uri: model_digests(reader, uri)


def _report(verb: str, done: Copied, *, as_json: bool) -> int:
    if as_json:
        emit_json({"files": done.files, "bytes": done.size, "present": done.known, "absent": done.absent})
    elif done.files:
        click.echo(f"{verb} {done.files} files, {size(done.size)}")
    elif not done.absent:
        click.echo("everything is there already")
    if done.absent:
        click.echo(
            f"gml: {len(done.absent)} artifacts are neither here nor in the remote, such as"
            f" {done.absent[0][:12]}; `gml artifacts status` counts them",
            err=True,
        )
        return NotFoundError.exit_code
    return 0


@click.command("status")
@runs_argument
@remote_option
@json_option
def status_command(runs: tuple[str, ...], remote: str | None, as_json: bool) -> None:
    """Show which artifacts are only here, only in a remote, in both, or nowhere.

    \b
    Example:
      gml artifacts status
      gml artifacts status @ --remote backup
    """
    from gml.tracking.remotes import select_runs, whereabouts

    reader = open_reader()
    found = whereabouts(reader.workspace, select_runs(reader, runs)[0], remote)
    parts = {
        "only here": found.here,
        f"only in {found.remote.name}": found.there,
        "in both": found.both,
        "nowhere": found.nowhere,
    }
    if as_json:
        keys = ("here", "there", "both", "nowhere")
        emit_json(
            {"remote": found.remote.name, "url": found.remote.url}
            | {key: part.to_json() for key, part in zip(keys, parts.values(), strict=True)}
        )
        return
    table(
        ["where", "artifacts", "size", "runs"],
        [[name, str(part.blobs), size(part.size), str(len(part.runs))] for name, part in parts.items()],
        right=["artifacts", "size", "runs"],
    )
