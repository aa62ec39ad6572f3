"""What most commands share: opening the repository, and recovering what a crash left."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Final

import click

from gml.domain.errors import GmlError

if TYPE_CHECKING:
    from gml.tracking.reader import Reader
    from gml.workspace import Workspace

SHOWN_FROM: Final = 5_000
"""Runs from which on it takes long enough to look at."""
BAR: Final = 24

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON with documented fields.")


def open_workspace() -> Workspace:
    """Open the repository of `-C`, GML_REPO or the current directory; for a URL, its private repository."""
    from gml.workspace import Workspace

    place = click.get_current_context().find_root().obj
    named = place or os.environ.get("GML_REPO")
    if named and ":" in named:
        from gml.sync.private import is_url, open_private

        if is_url(named):
            return open_private(named, os.environ)
    return Workspace.open(place)


def open_reader(workspace: Workspace | None = None) -> Reader:
    """Open the repository for reading, after committing the runs of dead processes."""
    from gml.tracking.reader import Reader

    space = workspace or open_workspace()
    recover(space)
    return with_bar(Reader(space))


def with_bar(reader: Reader) -> Reader:
    """Let a reader show, on a terminal, how far its index is; that takes seconds in a large repository."""
    total = 0

    def show(count: int) -> None:
        nonlocal total
        if count < SHOWN_FROM or not sys.stderr.isatty():
            return
        total = total or sum(1 for _ in reader.view.entries())
        full = BAR * count // max(total, count)
        if count < total:
            line = f"gml: indexing [{'#' * full}{'-' * (BAR - full)}] {count:,} of {total:,} runs"
        else:
            line = "\x1b[K"  # it goes when it is done
        click.echo(f"\r{line}", err=True, nl=False)

    reader.progress = show
    return reader


def recover(workspace: Workspace) -> list[str]:
    """Commit the runs of dead processes; a repository that cannot be written is read as it is."""
    from gml.tracking.commit import commit_sessions, unfinished

    if not unfinished(workspace):
        return []
    try:
        return commit_sessions(workspace)
    except (GmlError, OSError) as error:
        logging.getLogger("gml").warning("gml: interrupted runs wait for `gml recover` (%s)", error)
        return []


def report_damage(reader: Reader) -> None:
    """Say on standard error which runs could not be read."""
    for error in reader.damaged[:3]:
        click.echo(f"gml: {error}", err=True)
    if len(reader.damaged) > 3:
        click.echo(f"gml: {len(reader.damaged) - 3} more damaged runs; `gml doctor` names them", err=True)
