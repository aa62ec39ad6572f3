"""What differs among any number of runs, as plain tables, and which run is the champion."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import NotFoundError, UsageError
from gml.domain.names import lower_is_better
from gml.tracking.compare import CODE_FACTS, SECTIONS, code_diff, data_sets, environment_facts
from gml.tracking.report.curves import curve_keys, facts, load

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gml.domain.run import Run
    from gml.ledger.history import Columns
    from gml.tracking.reader import Reader

    Rows = dict[str, list[Any]]

# `code` makes two tables: facts, and the files that differ from those of the first run.
FILES: Final = "files"


@dataclass
class Report:
    """Runs side by side; everything is computed when it is first asked for.

    Attributes:
        reader: where the runs were read.
        runs: two or more, the champion first.
        only: sections wanted, all where it is empty.
        everything: also rows in which all runs are equal.
        champion: what the first run is the best in, such as `metrics.auc`; empty where it was merely first.
        command: what makes this report, to be named where something is left out.
        patches: show the code's diff, not only the names of files.
    """

    reader: Reader
    runs: Sequence[Run]
    only: tuple[str, ...] = ()
    everything: bool = False
    champion: str = ""
    command: str = "gml diff"
    patches: bool = True
    _points: dict[str, dict[str, Columns]] = field(default_factory=dict)

    def wants(self, section: str) -> bool:
        """Whether a section is part of the report."""
        return not self.only or section in self.only or (section == FILES and "code" in self.only)

    @cached_property
    def tables(self) -> dict[str, Rows]:
        """{section: {key: one value a run}} in the order of `SECTIONS`; None where a run lacks the key."""
        makers: dict[str, Callable[[], Rows]] = {
            "params": lambda: _side_by_side([run.params for run in self.runs]),
            "metrics": lambda: _side_by_side(
                [{key: m.last for key, m in run.metrics.items()} for run in self.runs]
            ),
            "tags": lambda: _side_by_side([run.tags for run in self.runs]),
            "code": lambda: _side_by_side([_code_facts(run) for run in self.runs]),
            FILES: self._files,
            "environment": lambda: _side_by_side([environment_facts(self.reader, r) for r in self.runs]),
            "artifacts": lambda: _side_by_side([_artifacts(run) for run in self.runs]),
            "inputs": lambda: _side_by_side([data_sets(run) for run in self.runs]),
            "curves": self._curve_facts,
        }
        found = {name: make() for name, make in makers.items() if self.wants(name)}
        if self.everything:
            return found
        return {
            name: {key: values for key, values in rows.items() if varies(values)}
            for name, rows in found.items()
        }

    def _curve_facts(self) -> Rows:
        keys = curve_keys(self.runs)
        maps = [{k: facts(run.metrics[k]) for k in keys if k in run.metrics} for run in self.runs]
        rows = _side_by_side(maps)
        return {key: rows[key] for key in keys}

    def _files(self) -> Rows:
        """Files that differ from the first run's: the letter of the change a run, "" where it has none."""
        letters = []
        for run in self.runs[1:]:
            found = code_diff(self.reader, self.runs[0], run, patch=False)
            letters.append(found["changed"] | found["only_a"] | found["only_b"])
        paths = sorted({path for each in letters for path in each})
        return {path: ["", *(each.get(path, "") for each in letters)] for path in paths}

    @cached_property
    def codes(self) -> list[dict[str, Any]]:
        """How the code of each run after the first differs from the first one's, see `code_diff`."""
        return [code_diff(self.reader, self.runs[0], run) for run in self.runs[1:]]

    def points(self, run: Run) -> dict[str, Columns]:
        """Return the points of all curves of a run, read once."""
        if run.run_id not in self._points:
            self._points[run.run_id] = load(self.reader, run, curve_keys([run]))
        return self._points[run.run_id]

    def to_json(self) -> dict[str, Any]:
        """Return the documented shape of `gml diff A B C --json` (docs/reports.md)."""
        return {"runs": [run.run_id for run in self.runs], **self.tables}


def _side_by_side(maps: Sequence[Mapping[str, Any]]) -> Rows:
    keys = sorted({key for each in maps for key in each})
    return {key: [each.get(key) for each in maps] for key in keys}


def varies(values: Sequence[Any]) -> bool:
    """Whether the values of a row differ; NaN equals NaN.

    Example:
        >>> varies([1.0, 1.0]), varies(["1", None]), varies([float("nan")] * 2)
        (False, True, False)
    """
    return any(not _equal(values[0], value) for value in values[1:])


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b):
        return True
    return bool(a == b)


def _code_facts(run: Run) -> dict[str, Any]:
    wanted = (*CODE_FACTS, "tree")
    return {key: run.source[key] for key in wanted if run.source.get(key) is not None}


def _artifacts(run: Run) -> dict[str, dict[str, Any]]:
    return {path: {"sha256": each.sha256, "size": each.size} for path, each in run.artifacts.items()}


def champion_first(runs: Sequence[Run], wanted: str) -> list[Run]:
    """Return the runs with the best one first, the others in their order.

    Args:
        runs: at least one.
        wanted: a metric, `metrics.` before it or not; `ASC` after it says that the least value is the
            best, `DESC` that the greatest is, and otherwise its name tells. Runs that lack it, or have NaN,
            are never the best; of equal ones the first is.

    Raises:
        NotFoundError: no run has such a metric; names those they have.
        UsageError: it is not a metric.

    Example:
        >>> champion_first(runs, "metrics.loss ASC")[0].name  # doctest: +SKIP
        'forest'
    """
    key, ascending = champion_key(wanted, runs)
    sign = -1.0 if ascending else 1.0
    scores = [run.metrics[key].last * sign if key in run.metrics else math.nan for run in runs]
    known = [at for at, score in enumerate(scores) if not math.isnan(score)]
    if not known:
        names = sorted({name for run in runs for name in run.metrics})
        raise NotFoundError(
            f"none of these runs has a metric {key!r} to find the champion by",
            hint=f"they have: {', '.join(names[:10]) or 'none'}",
        )
    best = max(known, key=lambda at: scores[at])
    return [runs[best], *(run for at, run in enumerate(runs) if at != best)]


def champion_key(wanted: str, runs: Sequence[Run] = ()) -> tuple[str, bool]:
    """Return the metric that is meant, and whether less of it is better.

    Args:
        wanted: as in `champion_first`.
        runs: a metric that one of them has under the very name is that metric, whatever its name says.

    Raises:
        UsageError: it is not a metric.

    Example:
        >>> champion_key("metrics.loss"), champion_key("auc"), champion_key("time DESC")
        (('loss', True), ('auc', False), ('time', False))
    """
    if any(wanted in run.metrics for run in runs):
        return wanted, lower_is_better(wanted)
    key, _, direction = wanted.strip().rpartition(" ")
    if direction.upper() not in {"ASC", "DESC"} or not key:
        key = wanted.strip()
        direction = "ASC" if lower_is_better(key) else "DESC"
    section, dot, name = key.strip().partition(".")
    if dot and section in {"params", "tags", "param", "tag"}:
        raise UsageError(f"the champion is found by a metric, not by {key!r}", hint="such as metrics.auc")
    key = name if dot and section in {"metrics", "metric"} else key.strip()
    if not key:
        raise UsageError("the champion is found by a metric", hint="such as metrics.auc")
    return key, direction.upper() == "ASC"


__all__ = ["FILES", "SECTIONS", "Report", "champion_first", "champion_key", "varies"]
