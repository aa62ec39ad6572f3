"""Curves of metrics: read in bulk, compared, thinned without losing extremes, drawn as text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    import numpy as np
    import numpy.typing as npt

    from gml.domain.metrics import MetricSummary
    from gml.domain.run import Run
    from gml.ledger.history import Columns
    from gml.tracking.reader import Reader

    Floats = npt.NDArray[np.float64]

BLOCKS: Final = "▁▂▃▄▅▆▇█"


def curve_keys(runs: Iterable[Run]) -> list[str]:
    """Return the metrics that have more than one point in some run, sorted, `system/...` last."""
    keys = {key for run in runs for key, summary in run.metrics.items() if summary.count > 1}
    return sorted(keys, key=lambda key: (key.startswith("system/"), key))


def load(reader: Reader, run: Run, keys: Collection[str] | None = None) -> dict[str, Columns]:
    """Return steps, timestamps (milliseconds since the epoch) and values of many metrics at once.

    Each is as `gml.tracking.contents.history` gives it, but every history file is read only once.

    Args:
        reader: where the run was read.
        run: the run.
        keys: those wanted, all by default; what the run lacks is left out.

    Raises:
        NotFoundError: a history file is not in the artifact store.
        CorruptError: one is missing from the ledger or does not match its digest.
    """
    import numpy as np

    from gml.ledger.history import read_blocks
    from gml.tracking.contents import _tidy, segment

    wanted = set(run.metrics) if keys is None else set(keys) & run.metrics.keys()
    parts: dict[str, list[Columns]] = {}
    for part in run.history if wanted else ():
        for described in part.segments:
            data = segment(reader, run, part.session, dict(described))
            for key, columns in read_blocks(data, f"history of run {run.run_id}", wanted):
                parts.setdefault(key, []).append(columns)
        for key in wanted & part.inline.keys():
            if part.inline[key]:
                steps, times, values = zip(*part.inline[key], strict=True)
                columns = np.array(steps, np.int64), np.array(times, np.int64), np.array(values, np.float64)
                parts.setdefault(key, []).append(columns)
    out = {}
    for key, several in parts.items():
        joined = several[0]
        if len(several) > 1:
            steps_, times_, values_ = (np.concatenate(column) for column in zip(*several, strict=True))
            joined = steps_, times_, values_
        out[key] = _tidy(*joined)
    return out


def facts(summary: MetricSummary) -> dict[str, Any]:
    """Return what a report says of a curve in numbers: `count`, `last`, `min` and `max`."""
    return {"count": summary.count, "last": summary.last, "min": summary.min, "max": summary.max}


def diff_curves(reader: Reader, a: Run, b: Run) -> dict[str, Any]:
    """Return which curves differ; metrics that have one point at most in both runs are not curves.

    Two curves are equal when they have the same steps and values, whenever they were logged.

    Returns:
        `changed` {key: [facts in a, facts in b]}, `only_a`, `only_b` {key: facts}, and `gap`
        {key: see `gap`} for the changed ones.

    Raises:
        NotFoundError: a history file is not in the artifact store.
        CorruptError: a history file is damaged.
    """
    keys = curve_keys((a, b))
    both = [key for key in keys if key in a.metrics and key in b.metrics]
    # Small files in git and points in the record cost little; what is alike by digest is not read.
    first, second = load(reader, a, both), load(reader, b, both)
    changed = [key for key in both if not _same(first.get(key), second.get(key))]
    return {
        "changed": {key: [facts(a.metrics[key]), facts(b.metrics[key])] for key in changed},
        "only_a": {key: facts(a.metrics[key]) for key in keys if key not in b.metrics},
        "only_b": {key: facts(b.metrics[key]) for key in keys if key not in a.metrics},
        "gap": {key: gap(first[key], second[key]) for key in changed if key in first and key in second},
    }


def _same(a: Columns | None, b: Columns | None) -> bool:
    import numpy as np

    if a is None or b is None:
        return a is b
    return bool(np.array_equal(a[0], b[0]) and np.array_equal(a[2], b[2], equal_nan=True))


def gap(a: Columns, b: Columns) -> dict[str, Any]:
    """Return how far two curves are apart at the steps that both have.

    Of several values at a step the last one counts; where one of the two is not finite, the step is
    shared but has no distance.

    Returns:
        `shared_steps`, and over those the greatest distance `max`, the first step it is found at
        `at_step`, and the mean distance `mean` (the area between the curves, a step being one wide,
        over the number of steps); None where there is no distance at all.

    Example:
        >>> import numpy as np
        >>> i, f = np.arange(3), np.array([1.0, 2.0, 3.0])
        >>> gap((i, i, f), (i, i, f + [0, 0, 6]))
        {'shared_steps': 3, 'max': 6.0, 'at_step': 2, 'mean': 2.0}
    """
    import numpy as np

    (steps, va), (other, vb) = _by_step(a), _by_step(b)
    if not np.array_equal(steps, other):
        steps, at_a, at_b = np.intersect1d(steps, other, assume_unique=True, return_indices=True)
        va, vb = va[at_a], vb[at_b]
    with np.errstate(invalid="ignore", over="ignore"):
        distance = np.abs(vb - va)
    known = np.isfinite(distance)
    out: dict[str, Any] = {"shared_steps": len(steps), "max": None, "at_step": None, "mean": None}
    if known.any():
        at = int(np.argmax(np.where(known, distance, -1.0)))
        out |= {"max": float(distance[at]), "at_step": int(steps[at]), "mean": float(distance[known].mean())}
    return out


def _by_step(columns: Columns) -> tuple[npt.NDArray[np.int64], Floats]:
    import numpy as np

    steps, _, values = columns
    last = np.ones(len(steps), bool)
    last[:-1] = steps[1:] != steps[:-1]
    return steps[last], values[last]


def thin(values: Floats, limit: int) -> npt.NDArray[np.int64]:
    """Return the indices of at most `limit` points that look like all of them when they are drawn.

    The first and the last point, and of each of equal stretches the least and the greatest value, so
    that no peak is lost; where values are not finite, one of them a stretch, so that gaps stay.

    Args:
        values: in the order in which they are drawn.
        limit: at least 8.

    Example:
        >>> import numpy as np
        >>> flat = np.zeros(100_000)
        >>> flat[777] = 9
        >>> kept = thin(flat, 100)
        >>> len(kept) <= 100, 777 in kept
        (True, True)
    """
    import numpy as np

    count = len(values)
    if count <= limit:
        return np.arange(count)
    finite = np.isfinite(values)
    buckets = max(1, (limit - 2) // (2 if finite.all() else 3))
    edges = np.linspace(0, count, buckets + 1).astype(np.int64)
    keep = {0, count - 1}
    low, high = np.where(finite, values, np.inf), np.where(finite, values, -np.inf)
    for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        part = finite[start:end]
        if part.any():
            keep.add(start + int(np.argmin(low[start:end])))
            keep.add(start + int(np.argmax(high[start:end])))
        if not part.all():
            keep.add(start + int(np.argmin(part)))
    return np.array(sorted(keep), np.int64)


def sparkline(values: Floats, width: int = 20, span: tuple[float, float] | None = None) -> str:
    """Return a curve as a line of blocks; `·` where there is no finite value.

    Args:
        values: in the order in which they are drawn; each character is the mean of a stretch.
        width: characters at most.
        span: values of the lowest and the highest block, those of the curve by default.

    Example:
        >>> import numpy as np
        >>> sparkline(np.array([0.0, 1, 2, 3, np.nan, 7]))
        '▁▂▃▄·█'
    """
    import numpy as np

    finite = values[np.isfinite(values)]
    if not len(values):
        return ""
    low, high = span if span is not None else (finite.min(), finite.max()) if len(finite) else (0.0, 0.0)
    out = []
    for part in np.array_split(values, min(width, len(values))):
        known = part[np.isfinite(part)]
        if not len(known):
            out.append("·")
            continue
        # Divided first, as the sum of huge values overflows; what rounding adds is clipped.
        with np.errstate(over="ignore"):
            mean = float(np.clip((known / len(known)).sum(), known.min(), known.max()))
        reach = high / 2 - low / 2
        share = (mean / 2 - low / 2) / reach if reach > 0 and math.isfinite(reach) else 0.0
        out.append(BLOCKS[min(7, max(0, int(share * 8)))])
    return "".join(out)
