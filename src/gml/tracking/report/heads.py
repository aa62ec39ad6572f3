"""What the Markdown and the page of a comparison say in the same words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from gml.tracking.report.sections import champion_key
from gml.tracking.report.text import number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gml.tracking.report.patch import FileDiff
    from gml.tracking.report.sections import Report

# Sections in their order.
TITLES: Final = {
    "metrics": "Metrics",
    "curves": "Curves",
    "params": "Params",
    "inputs": "Data",
    "environment": "Environment",
    "code": "Code",
    "files": "Files that differ",
    "artifacts": "Artifacts",
    "tags": "Tags",
}
_CHANGES: Final = {"M": "changed", "T": "changed", "A": "added", "D": "removed"}


class Champion(NamedTuple):
    """Why the first run is the champion: its metric, whether `least` or `greatest`, and the value."""

    key: str
    what: str
    score: str


def champion(report: Report) -> Champion | None:
    """Return why the first run comes first, None where nobody asked for a champion."""
    if not report.champion:
        return None
    key, ascending = champion_key(report.champion, report.runs)
    return Champion(key, "least" if ascending else "greatest", number(report.runs[0].metrics[key].last))


def equal_sections(report: Report, names: Sequence[str] = tuple(TITLES)) -> str:
    """Return the titles of the sections in which all runs are the same."""
    same = [TITLES[n] for n in names if n in report.tables and not report.tables[n] and n != "files"]
    return ", ".join(same).lower()


def file_change(letter: object) -> str:
    """Return the word for a letter of the section `files`.

    Example:
        >>> file_change("A"), file_change(None)
        ('added', '-')
    """
    return _CHANGES.get(str(letter), "-")


def patch_stat(files: Sequence[FileDiff]) -> str:
    """Return how much a patch changes, such as `2 files, +10 -3`."""
    added, removed = sum(f.added for f in files), sum(f.removed for f in files)
    return f"{len(files)} {'file' if len(files) == 1 else 'files'}, +{added} -{removed}"
