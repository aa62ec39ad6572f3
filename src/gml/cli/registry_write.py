"""`gml registry register` and the commands that say something about models and versions."""

from __future__ import annotations

import click

from gml.cli.common import json_option
from gml.cli.output import emit_json
from gml.cli.registry_common import VERSION, key_option, open_registry, version_json
from gml.domain.errors import UsageError


@click.command("register")
@click.argument("model")
@click.option("--run", "run", default="@", show_default=True, help="The run whose files are registered.")
@click.option("--path", default="", help="Folder or file among its artifacts; all of them by default.")
@click.option("-d", "--description", default="", help="What is special about this version.")
@key_option
@json_option
def register_command(
    model: str, run: str, path: str, description: str, key: str | None, as_json: bool
) -> None:
    """Register files of a run as the next version of MODEL, and tag it.

    \b
    Example:
      gml registry register churn --run @ --path model -d "forest, 2026 data"
    """
    from gml.cli.common import open_reader
    from gml.registry.register import register

    registry = open_registry()
    found = open_reader(registry.workspace).resolve(run)
    made = register(registry, model, found.run_id, path, description, key=key)
    if as_json:
        emit_json(
            version_json(registry.view(made.commit), made.version) | {"commit": made.commit, "tag": made.tag}
        )
        return
    version = made.version
    click.echo(f"{version.model} v{version.version}  {version.files} files, digest {version.digest[:16]}")


@click.command("alias")
@click.argument("model")
@click.argument("alias")
@click.argument("version", type=VERSION, required=False)
@click.option("--delete", is_flag=True, help="Remove the alias.")
def alias_command(model: str, alias: str, version: int | None, delete: bool) -> None:
    """Point ALIAS of MODEL at VERSION; `models:/MODEL@ALIAS` then means it.

    \b
    Example:
      gml registry alias churn champion 4
    """
    from gml.registry.meta import set_alias

    if (version is None) is not delete:
        raise UsageError("say either a version or --delete")
    set_alias(open_registry(), model, alias, version)


@click.command("tag")
@click.argument("model")
@click.argument("pairs", nargs=-1, required=True, metavar="K=V...")
@click.option("--version", "number", type=VERSION, help="Tag this version instead of the model.")
def tag_command(model: str, pairs: tuple[str, ...], number: int | None) -> None:
    """Set tags of MODEL or of one of its versions; `K=` removes one.

    \b
    Example:
      gml registry tag churn --version 4 reviewed=yes
    """
    from gml.registry.meta import set_tags

    tags: dict[str, str | None] = {}
    for pair in pairs:
        key, found, value = pair.partition("=")
        if not found or not key:
            raise UsageError(f"{pair!r} is not K=V")
        tags[key] = value or None
    set_tags(open_registry(), model, tags, number)


@click.command("describe")
@click.argument("model")
@click.argument("text")
@click.option("--version", "number", type=VERSION, help="Describe this version instead of the model.")
def describe_command(model: str, text: str, number: int | None) -> None:
    """Set the description of MODEL or of one of its versions.

    \b
    Example:
      gml registry describe churn "who will leave within a month"
    """
    from gml.registry.meta import describe

    describe(open_registry(), model, text, number)


@click.command("rename")
@click.argument("model")
@click.argument("new")
def rename_command(model: str, new: str) -> None:
    """Give MODEL the further name NEW; the old one goes on to work.

    \b
    Example:
      gml registry rename churn customer-churn
    """
    from gml.registry.meta import rename

    rename(open_registry(), model, new)


def _status(model: str, number: int, status: str | None, reason: str) -> None:
    from gml.registry.meta import set_status

    set_status(open_registry(), model, number, status, reason)


@click.command("archive")
@click.argument("model")
@click.argument("version", type=VERSION)
@click.option("-m", "--reason", default="", help="Why.")
def archive_command(model: str, version: int, reason: str) -> None:
    """Mark VERSION of MODEL as not to be promoted any more; it can still be loaded.

    \b
    Example:
      gml registry archive churn 2 -m "trained on old data"
    """
    _status(model, version, "archived", reason)


@click.command("delete-version")
@click.argument("model")
@click.argument("version", type=VERSION)
@click.option("-m", "--reason", default="", help="Why.")
def delete_version_command(model: str, version: int, reason: str) -> None:
    """Mark VERSION of MODEL as deleted: it is not loaded any more, its record and number stay.

    \b
    Example:
      gml registry delete-version churn 2 -m "leaked test data"
    """
    _status(model, version, "deleted", reason)


@click.command("restore-version")
@click.argument("model")
@click.argument("version", type=VERSION)
def restore_version_command(model: str, version: int) -> None:
    """Take back an archive or delete-version.

    \b
    Example:
      gml registry restore-version churn 2
    """
    _status(model, version, None, "")
