"""`gml config`: settings in git config."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gml.cli.common import json_option
from gml.cli.output import emit_json, table
from gml.domain.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from gml.workspace.config import Config


@click.command("config")
@click.argument("key", required=False)
@click.argument("value", required=False)
@click.option("--unset", is_flag=True, help="Remove KEY.")
@click.option("--global", "user", is_flag=True, help="Your own configuration, for all repositories.")
@click.option("--all", "everything", is_flag=True, help="List every setting there is, with its meaning.")
@json_option
def config_command(
    key: str | None, value: str | None, unset: bool, user: bool, everything: bool, as_json: bool
) -> None:
    """Show what is set, show KEY, or set KEY to VALUE.

    Settings are keys of git config below `gml.`; `artifacts.store` means `gml.artifacts.store`. What
    a storage service is given besides its URL (options) is kept in your own configuration only.

    \b
    Example:
      gml config artifacts.store s3://team-models/gml
      gml config artifacts.remote.backup.url sftp://host/srv/gml
      gml config --unset artifacts.store
    """
    from gml.workspace.config import Config

    config = Config.open(click.get_current_context().find_root().obj, os.environ)
    if everything:
        _list_all(config, as_json=as_json)
    elif key is None:
        _list(config, as_json=as_json)
    elif unset:
        if value is not None:
            raise UsageError("--unset takes no VALUE")
        config.unset(key, user=user)
    elif value is not None:
        config.set(key, value, base=Path.cwd(), user=user)
    else:
        found = config.get(key)
        if found is None:
            raise NotFoundError(f"{key} is not set", hint="`gml config --all` shows what counts instead")
        if as_json:
            emit_json({"key": key, "value": found})
        else:
            click.echo(found)


def _list(config: Config, *, as_json: bool) -> None:
    values = config.values()
    if as_json:
        emit_json({item.key: item.value for item in values})
        return
    table(["key", "value"], [[item.key, item.value] for item in values], keep=["key"])
    for item in values:
        if item.setting is None:
            click.echo(f"gml: {item.key} is not a setting of gml", err=True)


def _list_all(config: Config, *, as_json: bool) -> None:
    from gml.workspace.config import SETTINGS

    now = {item.key: item.value for item in config.values()}
    if as_json:
        emit_json(
            [
                {
                    "key": s.key, "value": now.get(s.key), "default": s.default, "kind": s.kind,
                    "choices": list(s.choices), "user_only": s.user_only, "text": s.text,
                }
                for s in SETTINGS
            ]
        )  # fmt: skip
        return
    rows = [[s.key, now.get(s.key, ""), s.default, s.text] for s in SETTINGS]
    table(["key", "value", "default", "meaning"], rows, keep=["key"])
