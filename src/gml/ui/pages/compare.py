"""Runs side by side."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import GmlError, UsageError
from gml.tracking.compare import code_diff
from gml.tracking.report.patch import split
from gml.tracking.report.sections import Report
from gml.tracking.report.text import shown
from gml.ui.pages.curves import keys_of
from gml.ui.pages.run import kind_of, natural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gml.domain.run import Run
    from gml.tracking.reader import Reader
    from gml.tracking.report.patch import FileDiff
    from gml.ui.links import Links

MOST: Final = 200
TABLE_RUNS: Final = 24
ROWS: Final = 400
SECTIONS: Final = ("params", "metrics", "tags", "inputs", "environment", "artifacts")


@dataclass
class Comparison:
    """Everything the page shows."""

    runs: Sequence[Run]
    tables: dict[str, list[tuple[str, list[str]]]] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    curve_keys: list[str] = field(default_factory=list)
    images: list[tuple[str, list[bool]]] = field(default_factory=list)
    pair: tuple[Run, Run] | None = None
    files: list[FileDiff] = field(default_factory=list)
    code_note: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def comparison(
    reader: Reader, ids: Sequence[str], to: Links, pair: tuple[str, str] | None = None
) -> Comparison:
    """Return the page for some runs, and the code of two of them.

    Raises:
        UsageError: there are none, or too many.
        NotFoundError: one of them does not exist.
    """
    wanted = list(dict.fromkeys(ids))
    check(wanted)
    runs = [reader.resolve(run_id) for run_id in wanted]
    out = Comparison(runs, curve_keys=keys_of(runs))
    _tables(reader, runs[:TABLE_RUNS], out)
    out.images = _images(runs[:TABLE_RUNS])
    out.values = values(runs, to)
    chosen = pair or ((runs[0].run_id, runs[1].run_id) if len(runs) > 1 else None)
    if chosen is not None:
        by_id = {run.run_id: run for run in runs}
        out.pair = by_id.get(chosen[0], runs[0]), by_id.get(chosen[1], runs[-1])
        try:
            found = code_diff(reader, *out.pair)
        except GmlError as error:
            out.problems.append(str(error))
        else:
            _code(found, out)
    return out


def check(ids: Sequence[str]) -> None:
    """Raise UsageError where there are no runs to compare, or too many."""
    if not ids:
        raise UsageError("no runs are chosen", hint="tick some in the table of runs and press Compare")
    if len(ids) > MOST:
        raise UsageError(f"{len(ids)} runs are chosen, at most {MOST} are compared at once")


def _code(found: dict[str, Any], out: Comparison) -> None:
    if found.get("patch") is None:
        out.code_note = "the code of one of them is not in this repository"
    elif not found["patch"]:
        out.code_note = "the same code"
    else:
        out.files = split(found["patch"])


def _tables(reader: Reader, runs: Sequence[Run], out: Comparison) -> None:
    report = Report(reader, runs, only=SECTIONS)
    try:
        tables = report.tables
    except GmlError as error:
        out.problems.append(str(error))
        return
    for name, rows in tables.items():
        kept = list(rows.items())[:ROWS]
        out.tables[name] = [(key, [shown(name, value) for value in each]) for key, each in kept]
        if len(rows) > ROWS:
            out.left_out[name] = len(rows) - ROWS


def _images(runs: Sequence[Run]) -> list[tuple[str, list[bool]]]:
    found = {path for run in runs for path, facts in run.artifacts.items() if kind_of(path, facts) == "image"}
    names = sorted(found, key=natural)
    return [(name, [name in run.artifacts for run in runs]) for name in names[:50]]


def values(runs: Sequence[Run], to: Links) -> dict[str, Any]:
    """Return params and last metrics for parallel coordinates, scatter and box plots.

    Returns:
        `runs` (id, name and address), `params` {key: text or None a run} and `metrics` {key: number or None a
        run} of the keys that differ.
    """
    import math

    params = sorted({key for run in runs for key in run.params})
    metrics = sorted({key for run in runs for key in run.metrics})
    out: dict[str, Any] = {
        "runs": [{"id": r.run_id, "name": r.name, "to": to.run(r.run_id)} for r in runs],
        "params": {},
        "metrics": {},
    }
    for key in params:
        column: list[Any] = [run.params.get(key) for run in runs]
        if len(set(column)) > 1:
            out["params"][key] = [None if value is None else value[:200] for value in column]
    for key in metrics:
        numbers = [run.metrics[key].last if key in run.metrics else None for run in runs]
        column = [value if value is not None and math.isfinite(value) else None for value in numbers]
        if len(set(column)) > 1:
            out["metrics"][key] = column
    return out
