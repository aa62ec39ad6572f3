"""`gml artifacts diff`: which files differ between two runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from gml.cli.common import json_option, open_reader
from gml.cli.output import emit_json, size, table
from gml.domain.errors import UsageError
from gml.domain.ids import short_id

if TYPE_CHECKING:
    from gml.domain.run import Artifact
    from gml.tracking.storage.changes import Change


@click.command("diff")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B", default="@")
@click.argument("path", required=False)
@click.option("--html", "html", metavar="FILE", help="Write a page with text and images side by side.")
@json_option
def diff_command(a: str, b: str, path: str | None, html: str | None, as_json: bool) -> None:
    """Show the files that differ between runs A and B (the latest by default), or those below PATH.

    The page of --html works from disk; of what is only in a remote, the files that it shows are fetched.

    \b
    Example:
      gml artifacts diff @~1 @
      gml artifacts diff forest boost plots/ --html plots.html
    """
    from gml.tracking.storage.changes import changes

    if html is not None and as_json:
        raise UsageError("--html and --json exclude each other")
    reader = open_reader()
    first, second = reader.resolve(a), reader.resolve(b)
    found, same = changes(first, second, path or "")
    if html is not None:
        from gml.tracking.report.files import files_page

        _write(files_page(reader, first, second, found, same).encode(), html)
    elif as_json:
        emit_json({
            "a": first.run_id, "b": second.run_id, "equal": same,
            "changes": [_to_json(change) for change in found],
        })  # fmt: skip
    else:
        heads = [short_id(first.run_id), short_id(second.run_id)]
        table(["change", "path", *heads, "growth"], [_row(change) for change in found],
              right=[*heads, "growth"])  # fmt: skip
        click.echo(f"{same} files are equal", err=True)


def _write(data: bytes, html: str) -> None:
    from pathlib import Path

    from gml import fs

    if html == "-":
        sys.stdout.buffer.write(data)
        return
    fs.write_atomic(Path(html), data, durable=False)
    click.echo(f"wrote {html}", err=True)


def _row(change: Change) -> list[str]:
    path = change.path if change.old_path is None else f"{change.old_path} -> {change.path}"
    growth = f"{'+' if change.growth >= 0 else '-'}{size(abs(change.growth))}"
    return [change.kind, path, _size(change.before), _size(change.after), growth]


def _size(facts: Artifact | None) -> str:
    return "-" if facts is None else size(facts.size)


def _to_json(change: Change) -> dict[str, Any]:
    sides = {"before": change.before, "after": change.after}
    described = {
        side: None if facts is None else {"size": facts.size, "sha256": facts.sha256}
        for side, facts in sides.items()
    }
    return {"change": change.kind, "path": change.path, "old_path": change.old_path, **described}
