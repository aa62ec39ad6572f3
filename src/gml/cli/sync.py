"""`gml push`, `gml pull`, `gml sync` and `gml fold`: exchange with other repositories."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import click

from gml.cli.common import json_option, open_workspace, recover
from gml.cli.output import emit_json, size
from gml.domain.errors import ConflictError, GmlError

if TYPE_CHECKING:
    from gml.sync.moved import Moved
    from gml.sync.pull import Report

remote_argument = click.argument("remote", required=False)


def _seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Parse `30s`, `5m` or a number of seconds."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)?", value.strip())
    seconds = float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2] or "s"] if match else 0.0
    if seconds <= 0:
        raise click.BadParameter(f"{value!r} is not a time such as 30s or 5m", ctx, param)
    return seconds


@click.command("push")
@remote_argument
@click.option("--inbox", is_flag=True, help="Leave the ledger in this clone's own ref on the remote.")
@json_option
def push_command(remote: str | None, inbox: bool, as_json: bool) -> int:
    """Bring runs, their code, the registry and its tags to a REMOTE (`origin`, or gml.remote).

    Whatever the remote has got in the meantime is united with what is here. Nothing is overwritten.

    \b
    Example:
      gml push
      gml push backup --json
    """
    from gml.sync.push import push
    from gml.sync.remotes import open_remote

    workspace = open_workspace()
    recover(workspace)
    return show(
        push(workspace, open_remote(workspace, remote), inbox=inbox or None), "pushed", as_json=as_json
    )


@click.command("pull")
@remote_argument
@click.option("--local", is_flag=True, help="Take in only what `git fetch` has brought already.")
@json_option
def pull_command(remote: str | None, local: bool, as_json: bool) -> int:
    """Fetch runs, their code, the registry and its tags from a REMOTE and unite them with those here.

    \b
    Example:
      gml pull
      gml pull --local
    """
    from gml.sync.pull import pull
    from gml.sync.remotes import open_remote

    workspace = open_workspace()
    recover(workspace)
    return show(pull(workspace, open_remote(workspace, remote), fetch=not local), "pulled", as_json=as_json)


@click.command("sync")
@remote_argument
@click.option(
    "--watch", metavar="TIME", callback=_seconds, help="Go on: again every TIME (30s, 5m), until Ctrl-C."
)
@json_option
def sync_command(remote: str | None, watch: float | None, as_json: bool) -> int:
    """Pull from a REMOTE, then push to it.

    \b
    Example:
      gml sync
      gml sync --watch 30s
    """
    from gml.sync.pull import pull
    from gml.sync.push import push
    from gml.sync.remotes import open_remote

    workspace = open_workspace()
    code = 0
    while True:
        try:
            recover(workspace)
            there = open_remote(workspace, remote, unattended=watch is not None)
            report = push(workspace, there, pull(workspace, there))
        except GmlError as error:
            if watch is None:
                raise
            click.echo(f"gml: {' '.join(str(error).split())}; trying again in {watch:g} s", err=True)
        else:
            if watch is None or report.pulled or report.pushed or report.conflicts:
                code = show(report, "both", as_json=as_json)
        if watch is None:
            return code
        time.sleep(watch)


@click.command("fold")
@remote_argument
@json_option
def fold_command(remote: str | None, as_json: bool) -> int:
    """Unite the inboxes on a REMOTE with its ledger and remove them.

    Needed where clones push with `git config gml.sync.mode inbox`: one of them, or a job, folds now and then.
    Readers see runs in inboxes without it.

    \b
    Example:
      gml fold
    """
    from gml.sync.pull import pull
    from gml.sync.push import push
    from gml.sync.remotes import open_remote
    from gml.sync.seen import read_seen

    workspace = open_workspace()
    there = open_remote(workspace, remote)
    report = pull(workspace, there)
    waiting = {name.partition("/")[0] for name in read_seen(workspace.store, there.names).inboxes}
    push(workspace, there, report, inbox=False)
    left = {name.partition("/")[0] for name in read_seen(workspace.store, there.names).inboxes}
    if as_json:
        emit_json(report_json(report) | {"folded": sorted(waiting - left), "left": sorted(left)})
        return 0
    done = len(waiting - left)
    click.echo(f"folded  {done} inbox{'' if done == 1 else 'es'}" if waiting else "no inbox is waiting")
    return _conflicts(report)


def report_json(report: Report) -> dict[str, Any]:
    """Return a report in its documented JSON shape (docs/json.md)."""
    from dataclasses import asdict

    return asdict(report)


def show(report: Report, way: str, *, as_json: bool) -> int:
    """Print what an exchange did (`pulled`, `pushed` or `both`) and return the exit code."""
    if as_json:
        emit_json(report_json(report))
        return ConflictError.exit_code if report.conflicts else 0
    click.echo(f"remote  {report.remote}  {report.url}")
    if way in {"pulled", "both"} or report.pulled:
        click.echo(f"pulled  {describe(report.pulled)}")
    if way in {"pushed", "both"}:
        where = "; it waits in this clone's inbox there" if report.inbox else ""
        click.echo(f"pushed  {describe(report.pushed)}{where}")
    for note in report.notes:
        click.echo(f"note    {note}")
    return _conflicts(report)


def _conflicts(report: Report) -> int:
    for conflict in report.conflicts:
        click.echo(f"gml: {conflict}", err=True)
    return ConflictError.exit_code if report.conflicts else 0


def describe(moved: Moved) -> str:
    """Return what moved in words.

    Example:
        >>> from gml.sync.moved import Moved
        >>> describe(Moved(runs=2, code=1, git_bytes=4200)), describe(Moved())
        ('2 runs, 1 code commit, 4.2 kB of git objects', 'nothing new')
    """
    words = [
        f"{count} {word if count == 1 else many}"
        for count, word, many in (
            (moved.runs, "run", "runs"),
            (moved.experiments, "experiment", "experiments"),
            (moved.code, "code commit", "code commits"),
            (moved.registry, "registry commit", "registry commits"),
            (moved.tags, "tag", "tags"),
            (moved.proposals, "proposal", "proposals"),
        )
        if count
    ]
    if moved.artifacts:
        words.append(f"{moved.artifacts} artifacts ({size(moved.artifact_bytes)})")
    if words and moved.git_bytes:
        words.append(f"{size(moved.git_bytes)} of git objects")
    return ", ".join(words) or "nothing new"
