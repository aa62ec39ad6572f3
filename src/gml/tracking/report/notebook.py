"""What notebooks show of runs: small tables, all text of the user escaped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gml.domain.ids import short_id
from gml.index.compare import varying
from gml.tracking.report.text import in_html, moment, number, took

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gml.domain.run import Run

_COLUMNS = 6


def runs_table(runs: Sequence[Run], limit: int) -> str:
    """Return an HTML table of the first runs, with the params and metrics in which they differ."""
    some = runs[:limit]
    params = varying(some, "params")[:_COLUMNS]
    metrics = varying(some, "metrics")[:_COLUMNS]
    heads = ["id", "name", "status", "started", "took", *params, *metrics]
    out = ["<table><thead><tr>", *(f"<th>{in_html(head, 60)}</th>" for head in heads), "</tr></thead><tbody>"]
    for run in some:
        cells = [short_id(run.run_id), run.name, run.status, moment(run.start_time), took(run.duration)]
        cells += [run.params.get(key, "") for key in params]
        cells += [number(run.metrics[key].last) if key in run.metrics else "" for key in metrics]
        out += ["<tr>", *(f"<td>{in_html(cell, 60)}</td>" for cell in cells), "</tr>"]
    more = f"; the first {len(some)} are shown" if len(some) < len(runs) else ""
    return "".join(out) + f"</tbody></table><p>{len(runs):,} run{'s' * (len(runs) != 1)}{more}</p>"
