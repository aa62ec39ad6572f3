"""`gml status` and `gml recover`."""

from __future__ import annotations

from dataclasses import asdict

import click

from gml.cli.common import json_option, open_workspace
from gml.cli.output import ago, emit_json, number
from gml.domain.ids import short_id


@click.command("status")
@json_option
def status_command(as_json: bool) -> None:
    """Show what runs here, what was interrupted, the latest run, and what is not pushed. Changes nothing.

    \b
    Example:
      gml status
    """
    from gml.sync.standing import standing
    from gml.tracking.health import status

    workspace = open_workspace()
    now = status(workspace)
    there = standing(workspace)
    if as_json:
        emit_json(
            {
                "running": [run.run_id for run in now.running],
                "interrupted": now.interrupted,
                "latest": now.latest.run_id if now.latest else None,
                "remote": asdict(there) if there else None,
            }
        )
        return
    for run in now.running:
        last = "  ".join(f"{k}={number(m.last)}" for k, m in sorted(run.metrics.items())[:4])
        click.echo(
            f"running      {short_id(run.run_id)} {run.name}, started {ago(run.start_time)}  {last}".rstrip()
        )
    for run_id in now.interrupted:
        click.echo(f"interrupted  {short_id(run_id)}; `gml recover` commits it")
    if now.latest is not None:
        run = now.latest
        click.echo(
            f"latest       {short_id(run.run_id)} {run.name} {run.status}, started {ago(run.start_time)}"
        )
    else:
        click.echo("no runs yet; start one: gml log -- python train.py")
    if there is not None:
        ahead, behind = len(there.ahead), len(there.behind)
        if not there.known:
            text = f"{ahead} runs to push; never fetched from" if ahead else "never fetched from"
        elif ahead or behind:
            text = f"{ahead} runs to push, {behind} to take in"
        else:
            text = "has the same runs, as far as is known"
        click.echo(f"remote       {there.remote}: {text}")


@click.command("recover")
@json_option
def recover_command(as_json: bool) -> None:
    """Commit the runs whose process died or could not commit. Safe to interrupt and to repeat.

    \b
    Example:
      gml recover
    """
    from gml.tracking.commit import commit_sessions
    from gml.tracking.journal.session import sweep

    workspace = open_workspace()
    recovered = commit_sessions(workspace, salvage=True)
    sweep(workspace.journal_root)
    if as_json:
        emit_json({"recovered": recovered})
    elif recovered:
        for run_id in recovered:
            click.echo(f"recovered {short_id(run_id)}")
    else:
        click.echo("nothing to recover")
