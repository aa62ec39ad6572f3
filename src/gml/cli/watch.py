"""Other times than now: `--at` reads the past; `gml ls --watch` follows running trainings.

They are redrawn in place on a terminal; elsewhere there is a line per change.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from gml.cli.output import STATUS_STYLES, _plain, duration, is_terminal, number, timestamp
from gml.domain.ids import short_id
from gml.tracking.report.live import Followed, Follower

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from rich.table import Table

    from gml.domain.run import Run
    from gml.tracking.reader import Reader

MAX_METRICS = 8


at_option = click.option(
    "--at", metavar="WHEN", help="What was known then: a day or time (UTC), or a commit of the ledger."
)


def open_at(at: str | None) -> Reader:
    """Open the repository for reading as it was then, or, without a time, as it is now.

    Raises:
        NotFoundError: there was no ledger then, or no such revision.
        UsageError: the revision is not a commit of a ledger.
    """
    from gml.cli.common import open_reader, open_workspace

    if at is None:
        return open_reader()
    from gml.tracking.reader import Reader as Past
    from gml.tracking.report.past import commit_at

    workspace = open_workspace()
    return Past(workspace, at=commit_at(workspace, at, int(time.time() * 1000)))


def watch(
    reader: Reader, seconds: float, query: str, experiments: Collection[str] | None, *, as_json: bool = False
) -> None:
    """Show running trainings until Ctrl-C, which is the way to leave and no error.

    Args:
        reader: of the present.
        seconds: between two looks.
        query: which runs to show, see docs/queries.md; empty for all.
        experiments: ids of the experiments to show, None for all.
        as_json: print an object per change instead, see docs/reports.md.

    Raises:
        QueryError: the query is malformed.
    """
    from gml.domain.run import ACTIVE
    from gml.index.query import parse
    from gml.tracking.reader import _Picker

    parsed = parse(query) if query.strip() else None

    def accepts(run: Run) -> bool:
        # Made anew each time: experiments appear, and relative times move.
        names = {e.experiment_id: e.name for e in reader.experiments()} if parsed is not None else {}
        return _Picker(parsed, names, int(time.time() * 1000), reader.history, experiments, (ACTIVE,))(run)

    follower = Follower(reader, accepts)
    with suppress(KeyboardInterrupt):
        if is_terminal() and not as_json:
            _redraw(follower, seconds)
        else:
            _print_changes(follower, seconds, as_json=as_json)


def _print_changes(follower: Follower, seconds: float, *, as_json: bool) -> None:
    while True:
        for each in reversed(follower.look()):
            if each.news or each.changed:
                click.echo(_json(each) if as_json else _line(each))
                # Whoever reads a pipe wants the line now.
                sys.stdout.flush()
        time.sleep(seconds)


def _line(each: Followed) -> str:
    run = each.run
    metrics = (
        f"{key}={number(run.metrics[key].last)}@{run.metrics[key].step}" for key in sorted(each.changed)
    )
    now = timestamp(int(time.time() * 1000))
    cells = (now, short_id(run.run_id), run.name, run.status, " ".join(metrics))
    return "\t".join(" ".join(cell.split()) for cell in cells)


def _json(each: Followed) -> str:
    run = each.run
    value: dict[str, Any] = {"run_id": run.run_id, "name": run.name, "status": run.status}
    value["metrics"] = {
        key: {"last": run.metrics[key].last, "step": run.metrics[key].step, "count": run.metrics[key].count}
        for key in sorted(each.changed)
    }
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)


def _redraw(follower: Follower, seconds: float) -> None:
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(highlight=False), auto_refresh=False, transient=False) as live:
        while True:
            live.update(_table(follower.look()), refresh=True)
            time.sleep(seconds)


def _table(followed: Sequence[Followed]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    keys = _columns(followed)
    caption = "Ctrl-C leaves" if followed else "nothing is running; waiting (Ctrl-C leaves)"
    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, caption=caption, caption_justify="left"
    )
    for name in ("id", "name", "status", "took", "step"):
        table.add_column(name, no_wrap=True, style="yellow" if name == "id" else None)
    for key in keys:
        table.add_column(key, justify="right", no_wrap=True)
    now = int(time.time() * 1000)
    for each in followed:
        run = each.run
        took = run.duration if run.end_time is not None else max(0, now - run.start_time)
        step = max((m.step for key, m in run.metrics.items() if key in keys), default=None)
        cells = [Text(short_id(run.run_id)), Text(" ".join(run.name.split()))]
        cells += [Text(run.status, style=STATUS_STYLES.get(run.status, "")), Text(duration(took))]
        cells.append(Text("" if step is None else str(step)))
        for key in keys:
            summary = run.metrics.get(key)
            style = "bold reverse" if key in each.changed and not each.news else ""
            cells.append(Text("" if summary is None else number(summary.last), style=style))
        table.add_row(*cells)
    return table


def _columns(followed: Sequence[Followed]) -> list[str]:
    """Return the metrics to show: those of most runs first, the machine's own last."""
    counts: dict[str, int] = {}
    for each in followed:
        for key in each.run.metrics:
            counts[key] = counts.get(key, 0) + 1
    ranked = sorted(counts, key=lambda key: (key.startswith("system/"), -counts[key], key))
    return ranked[:MAX_METRICS]
