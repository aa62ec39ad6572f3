"""What most commands share: opening the repository, and recovering what a crash left."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

import click

from gml.domain.errors import GmlError

if TYPE_CHECKING:
    from gml.tracking.reader import Reader
    from gml.workspace import Workspace

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
    return Reader(space, progress=_index_progress)


def _index_progress(count: int) -> None:
    """Show that the index is being built, which takes seconds in a large repository."""
    if count >= 10_000 and sys.stderr.isatty():
        click.echo(f"\rgml: indexing, {count} runs", err=True, nl=False)


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
