"""`gml tag`, `note`, `rename`, `rm`, `restore`: changes to runs that are recorded as commits."""

from __future__ import annotations

import click

from gml.cli.common import open_reader
from gml.domain.errors import InvalidValueError, UsageError
from gml.domain.ids import short_id


@click.command("tag")
@click.argument("run")
@click.argument("tags", nargs=-1, metavar="K=V...")
@click.option("-d", "--delete", "removed", multiple=True, metavar="KEY", help="Remove a tag (repeatable).")
def tag_command(run: str, tags: tuple[str, ...], removed: tuple[str, ...]) -> None:
    """Set tags of RUN, remove some, or print them.

    \b
    Example:
      gml tag @ team=risk reviewed=yes
      gml tag @ -d reviewed
    """
    from gml.tracking.edits import tag_runs

    reader = open_reader()
    found = reader.resolve(run)
    wanted = {}
    for text in tags:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"{text!r} is not key=value", hint="gml tag RUN key=value")
        wanted[key] = value
    if wanted or removed:
        tag_runs(reader.workspace, [found.run_id], wanted, removed)
        return
    for key, value in sorted(found.tags.items()):
        click.echo(f"{key}={value}")


@click.command("note")
@click.argument("run")
@click.argument("text", required=False)
def note_command(run: str, text: str | None) -> None:
    """Write a note about RUN, in the editor without TEXT; an empty TEXT removes it.

    \b
    Example:
      gml note @ "baseline with the cleaned data"
    """
    from gml.tracking.edits import note_run

    reader = open_reader()
    found = reader.resolve(run)
    if text is None:
        text = click.edit(found.description or "")
        if text is None:
            click.echo("the note was not changed", err=True)
            return
    note_run(reader.workspace, [found.run_id], text.strip())


@click.command("rename")
@click.argument("run")
@click.argument("name")
def rename_command(run: str, name: str) -> None:
    """Give RUN another name.

    \b
    Example:
      gml rename @ baseline
    """
    from gml.tracking.edits import rename_run

    reader = open_reader()
    rename_run(reader.workspace, [reader.resolve(run).run_id], name)


@click.command("rm")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
def rm_command(runs: tuple[str, ...]) -> None:
    """Delete runs: they leave all lists, stay in history, and `gml restore` brings them back.

    \b
    Example:
      gml rm @ 6f86c4d4
    """
    from gml.tracking.edits import delete_runs

    reader = open_reader()
    found = {run.run_id: run for run in map(reader.resolve, runs)}
    gone = [run_id for run_id, run in found.items() if run.lifecycle_stage == "deleted"]
    if gone:
        raise InvalidValueError(f"run {short_id(gone[0])} is deleted already")
    delete_runs(reader.workspace, list(found))
    for run in found.values():
        click.echo(f"deleted {short_id(run.run_id)} {run.name}; undo: gml restore {short_id(run.run_id)}")


@click.command("restore")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
def restore_command(runs: tuple[str, ...]) -> None:
    """Bring deleted runs back.

    \b
    Example:
      gml restore 6f86c4d4
    """
    from gml.tracking.edits import restore_runs

    reader = open_reader()
    found = {run.run_id: run for run in map(reader.resolve, runs)}
    waiting = [run_id for run_id, run in found.items() if run.lifecycle_stage == "deleted"]
    if waiting:
        restore_runs(reader.workspace, waiting)
    for run_id in waiting:
        click.echo(f"restored {short_id(run_id)} {found[run_id].name}")
