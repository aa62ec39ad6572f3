"""The smaller pages: experiments, a metric along the code, and what a search finds."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gml.domain.run import ACTIVE
from gml.tracking.report.curves import curve_keys
from gml.ui.pages.curves import spark

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gml.domain.experiment import Experiment
    from gml.tracking.code.history import History
    from gml.tracking.reader import Reader
    from gml.ui.links import Links


def experiments(reader: Reader) -> list[tuple[Experiment, int]]:
    """Return the active experiments by name with their numbers of active runs."""
    counts = reader.index.counts()
    found = [e for e in reader.experiments() if e.lifecycle_stage == ACTIVE]
    fresh: dict[str, int] = {}
    for run_id, session in reader.live.items():
        if reader.view.entry(run_id) is None:
            key = str(session.fold.header.get("experiment_id", "0"))
            fresh[key] = fresh.get(key, 0) + 1
    rows = [
        (e, counts.get((e.experiment_id, ACTIVE), 0) + fresh.get(e.experiment_id, 0))
        for e in sorted(found, key=lambda e: e.name)
    ]
    return [(e, count) for e, count in rows if count or e.name != "Default"]


@dataclass
class Along:
    """A metric along the commits of a branch."""

    metric: str
    branch: str
    metrics: list[str] = field(default_factory=list)
    found: History | None = None
    spark: str = ""
    dots: str = ""
    low: float | None = None
    high: float | None = None
    error: str = ""


def along_the_code(
    reader: Reader,
    metric: str,
    branch: str,
    experiments: Sequence[str] = (),
    known: list[str] | None = None,
) -> Along:
    """Return the page of a metric's history; what is wrong with the choice is told on it.

    Args:
        reader: where runs are read.
        metric: the first of those known where it is empty.
        branch: HEAD where it is empty.
        experiments: only runs of these, by name.
        known: metrics to choose from, where the caller has them.
    """
    from gml.domain.errors import GmlError
    from gml.tracking.code.history import metric_history
    from gml.tracking.code.values import metric_of

    out = Along(metric, branch or "HEAD", known_metrics(reader) if known is None else known)
    if not metric:
        out.metric = out.metrics[0] if out.metrics else ""
    if not out.metric:
        return out
    try:
        wanted = metric_of(out.metric, None)
        ids = {e.experiment_id for e in reader.experiments() if e.name in experiments} or None
        out.found = metric_history(
            reader, wanted, branch=out.branch, by="commit", how="best", experiments=ids
        )
    except GmlError as error:
        out.error = str(error)
        return out
    values = [row.value if row.value - row.value == 0 else None for row in out.found.rows]
    out.spark = spark(values, 900, 120)
    # A line of no length with round ends is a dot, however the picture is stretched.
    out.dots = re.sub(r"[ML]([\d.]+ [\d.]+)", r"M\1h0", out.spark)
    finite = [value for value in values if value is not None]
    out.low, out.high = min(finite, default=None), max(finite, default=None)
    return out


def known_metrics(reader: Reader) -> list[str]:
    """Return the metrics of the newest runs, those with one value before curves' names of systems."""
    from itertools import islice

    runs = list(islice(reader.runs(), 200))
    system = set(curve_keys(runs))
    keys = {key for run in runs for key in run.metrics}
    return sorted(keys, key=lambda key: (key.startswith("system/"), key in system and "/" in key, key))


def search(reader: Reader, text: str, to: Links, limit: int = 12) -> list[dict[str, Any]]:
    """Return what a few typed letters may mean: runs by id or name, experiments, pages."""
    wanted = text.strip().lower()
    out = [
        {"kind": "page", "title": name, "note": "", "to": address}
        for _, address, name in to.pages()
        if wanted in name.lower()
    ]
    if not wanted:
        return out
    for experiment, count in experiments(reader):
        if wanted in experiment.name.lower():
            address = to.experiment(experiment.experiment_id, experiment.name)
            told = {"kind": "experiment", "title": experiment.name, "note": f"{count} runs", "to": address}
            out.append(told)
    from itertools import islice

    for run in islice(reader.runs(), 2_000):
        if wanted in run.name.lower() or run.run_id.startswith(wanted) or run.run_id.endswith(wanted):
            out.append(
                {
                    "kind": "run",
                    "title": run.name,
                    "note": f"{run.run_id[-8:]} {run.status}",
                    "to": to.run(run.run_id),
                }
            )
            if len(out) >= limit:
                break
    return out[:limit]
