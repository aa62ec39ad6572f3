"""`gml init`: prepare a repository."""

from __future__ import annotations

import click

from gml.cli.common import open_workspace


@click.command("init")
@click.option(
    "--experiment", metavar="NAME", help="Experiment of runs that name none (git config gml.experiment)."
)
@click.option(
    "--code", type=click.Choice(["snapshot", "patch", "none"]), help="What to keep of the code (gml.code)."
)
@click.option(
    "--remote",
    metavar="NAME",
    help="Let plain `git fetch` and `git push` carry runs to and from this remote.",
)
@click.option(
    "--remote-namespace", metavar="NAME", help="Namespace there: `heads/gml` where only branches are taken."
)
def init_command(
    experiment: str | None, code: str | None, remote: str | None, remote_namespace: str | None
) -> None:
    """Prepare the repository: create its ledger and say what gml will do. Optional.

    Nothing is changed but the ref refs/gml/ledger, the directory `gml` in the git directory and, with
    options, `gml.*` keys of the repository's git config. With `--remote`, lines are added to
    `remote.NAME.fetch` and `remote.NAME.push`, and shown.

    \b
    Example:
      gml init --experiment churn
      gml init --remote origin
    """
    from gml.ledger import layout
    from gml.ledger.ledger import Batch

    workspace = open_workspace()
    for key, value in (("gml.experiment", experiment), ("gml.code", code)):
        if value is not None:
            workspace.store.set_config(key, value)
    if workspace.ledger.tip() is None:
        workspace.ledger.append(
            lambda view: (
                Batch({layout.FORMAT_PATH: layout.FORMAT_FILE}, "start the ledger\n")
                if view.commit is None
                else Batch()
            )
        )
    added = []
    if remote is not None:
        from gml.sync.setup import connect_remote

        added = connect_remote(workspace, remote, remote_namespace)
    where = workspace.store.location
    click.echo(f"repository  {where.worktree or where.git_dir}")
    click.echo(f"ledger      {workspace.ledger.ref}")
    click.echo(f"artifacts   {workspace.settings.artifact_store or workspace.state_dir / 'cas'}")
    click.echo(f"author      {workspace.identity.name} <{workspace.identity.email}>")
    for key, value in added:
        click.echo(f"git config  {key} {value}")
    click.echo("next        gml log -- python train.py")
