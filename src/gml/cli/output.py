"""Printing: tables that fit the terminal, plain tab-separated lines in a pipe, JSON."""

from __future__ import annotations

import json
import math
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from gml.domain.figures import duration, number, size

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from gml.domain.run import Run

__all__ = [
    "STATUS_STYLES",
    "ago",
    "duration",
    "emit_json",
    "heading",
    "is_terminal",
    "number",
    "run_json",
    "size",
    "table",
    "timestamp",
]

STATUS_STYLES = {
    "FINISHED": "green",
    "RUNNING": "cyan",
    "SCHEDULED": "cyan",
    "FAILED": "red",
    "KILLED": "yellow",
}


def is_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout.isatty()


def emit_json(value: Any) -> None:
    """Print a value as JSON; NaN and infinities become text, as everywhere in gml's formats."""
    click.echo(json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Sequence[str] = (),
    styles: dict[str, str] | None = None,
    keep: Sequence[str] = (),
) -> None:
    """Print a table.

    Args:
        columns: headings.
        rows: cells as text.
        right: headings of columns that are aligned right.
        styles: heading -> rich style.
        keep: headings of columns that are never cut.
    """
    if not is_terminal():
        click.echo("\t".join(columns))
        for row in rows:
            click.echo("\t".join(" ".join(cell.split()) for cell in row))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [[" ".join(cell.split()) for cell in row] for row in rows]
    whole = {*right, *keep}
    console = Console(highlight=False)
    widths = _widths(columns, cells, whole, console.width)
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name, width in zip(columns, widths, strict=True):
        grid.add_column(
            name,
            justify="right" if name in right else "left",
            style=(styles or {}).get(name),
            no_wrap=True,
            overflow="ellipsis",
            min_width=width,
            max_width=width,
        )
    for row in cells:
        grid.add_row(
            *(
                Text(cell, style=STATUS_STYLES.get(cell.split(" ")[0], "") if name == "status" else "")
                for name, cell in zip(columns, row, strict=True)
            )
        )
    # What may not be cut makes a line longer than the terminal, which wraps it.
    console.print(grid, width=max(console.width, sum(widths) + GAP * len(widths)), crop=False)


GAP = 3
LEAST = 8


def _widths(
    columns: Sequence[str], rows: Sequence[Sequence[str]], whole: Collection[str], room: int
) -> list[int]:
    """Return the widths of columns; those that may be cut give way, the widest first."""
    from rich.cells import cell_len

    natural = [
        max(cell_len(name), *(cell_len(row[at]) for row in rows), 0) for at, name in enumerate(columns)
    ]
    widths = list(natural)
    excess = sum(widths) + GAP * (len(widths) - 1) - room
    flexible = [at for at, name in enumerate(columns) if name not in whole and widths[at] > LEAST]
    while excess > 0 and flexible:
        widest = max(flexible, key=lambda at: widths[at])
        widths[widest] -= 1
        excess -= 1
        flexible = [at for at in flexible if widths[at] > LEAST]
    return widths


def heading(text: str) -> None:
    """Print a section heading."""
    click.echo(click.style(text, bold=True) if is_terminal() else text)


def ago(ms: int, now: float | None = None) -> str:
    """Return how long ago a time was.

    Example:
        >>> ago(0, now=7300)
        '2h ago'
    """
    seconds = max(0.0, (time.time() if now is None else now) - ms / 1000)
    for length, unit in ((86400 * 365, "y"), (86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= length:
            return f"{int(seconds // length)}{unit} ago"
    return f"{int(seconds)}s ago"


def timestamp(ms: int | None) -> str:
    """Return a time in the local zone as ISO text; empty for None."""
    if ms is None:
        return ""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ms / 1000))


def run_json(run: Run, experiment: str) -> dict[str, Any]:
    """Return a run in the documented JSON shape of `gml ls --json` (docs/json.md)."""
    from gml.tracking.contents import artifact_digest

    return {
        "run_id": run.run_id,
        "name": run.name,
        "experiment_id": run.experiment_id,
        "experiment": experiment,
        "status": run.status,
        "start_time": run.start_time,
        "end_time": run.end_time,
        "user": run.user,
        "lifecycle_stage": run.lifecycle_stage,
        "params": dict(run.params),
        "metrics": {key: summary.last for key, summary in run.metrics.items()},
        "tags": dict(run.tags),
        "source": dict(run.source),
        "artifact_digest": artifact_digest(run),
    }
