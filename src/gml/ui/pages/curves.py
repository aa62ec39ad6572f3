"""Curves for the charts: thinned without losing extremes, NaN and infinities as JSON can say them."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from gml.domain.errors import GmlError
from gml.tracking.report.curves import curve_keys, load, thin

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from gml.domain.run import Run
    from gml.ledger.history import Columns
    from gml.tracking.reader import Reader

Curve: TypeAlias = dict[str, list[Any]]

POINTS: Final = 1_000
FEW: Final = 200
DENSE: Final = 2
BANDS: Final = 8
MAX_KEYS: Final = 60


def keys_of(runs: Iterable[Run], wanted: Sequence[str] = ()) -> list[str]:
    """Return the metrics to draw: those wanted, or all that have more than one point somewhere."""
    known = curve_keys(runs)
    return [key for key in known if key in set(wanted)] if wanted else known


def curve(columns: Columns, points: int = POINTS, *, bands: bool = True) -> Curve:
    """Return a curve of at most so many points as `{step, time, value}`; None where it is not finite.

    A curve of far more points is told by the mean, the least and the greatest of each stretch: see `band`.
    """
    steps, times, values = columns
    if bands and len(values) > DENSE * points:
        return band(columns, points)
    kept = thin(values, max(8, points))
    return {
        "step": steps[kept].tolist(),
        "time": times[kept].tolist(),
        "value": [value if math.isfinite(value) else None for value in values[kept].tolist()],
    }


def band(columns: Columns, points: int) -> Curve:
    """Return `{step, time, value, low, high}`: mean, least and greatest of as many stretches as points.

    Stretches have the same number of points; step and time are those of the last one of each. A stretch
    without a finite value is a gap.
    """
    import numpy as np

    steps, times, values = columns
    edges = np.linspace(0, len(values), points + 1).astype(np.int64)
    starts, ends = edges[:-1], edges[1:] - 1
    finite = np.isfinite(values)
    count = np.add.reduceat(finite.astype(np.int64), starts)
    # Divided before they are added, so that numbers near the greatest do not overflow.
    share = np.where(finite, values, 0.0) / np.repeat(np.maximum(count, 1), np.diff(edges))
    mean = np.add.reduceat(share, starts)
    low = np.minimum.reduceat(np.where(finite, values, np.inf), starts)
    high = np.maximum.reduceat(np.where(finite, values, -np.inf), starts)

    def told(column: Any) -> list[Any]:
        return [value if some else None for value, some in zip(column.tolist(), count.tolist(), strict=True)]

    return {
        "step": steps[ends].tolist(),
        "time": times[ends].tolist(),
        "value": told(mean),
        "low": told(low),
        "high": told(high),
    }


def curves(
    reader: Reader,
    runs: Sequence[Run],
    keys: Collection[str],
    points: int = POINTS,
    cache: Cache | None = None,
) -> dict[str, dict[str, Curve]]:
    """Return {metric: {run id: curve}}; with more than a few runs without bands, which would hide each other.

    Args:
        reader: where the runs were read.
        runs: the runs.
        keys: metrics.
        points: of each curve, at most.
        cache: where curves of runs that have ended are kept.

    Raises:
        NotFoundError: points are not in the artifact store.
        CorruptError: points are damaged.
    """
    out: dict[str, dict[str, Curve]] = {key: {} for key in keys}
    bands = len(runs) <= BANDS
    for run in runs:
        wanted = [key for key in keys if key in run.metrics]
        mark = (run.run_id, points, bands, tuple((key, run.metrics[key].count) for key in wanted))
        found = cache.get(mark) if cache is not None and not run.live else None
        if found is None:
            loaded = load(reader, run, wanted)
            found = {key: curve(columns, points, bands=bands) for key, columns in loaded.items()}
            if cache is not None and not run.live:
                cache.put(mark, found)
        for key, one in found.items():
            out[key][run.run_id] = one
    return out


class Cache:
    """Curves as they were thinned, of the runs that were looked at last.

    Args:
        most: numbers that are kept, about 30 bytes each.
    """

    def __init__(self, most: int = 4_000_000) -> None:
        self._most = most
        self._held = 0
        self._known: OrderedDict[Any, tuple[int, dict[str, Curve]]] = OrderedDict()

    def get(self, mark: Any) -> dict[str, Curve] | None:
        """Return what was put under a mark."""
        found = self._known.get(mark)
        if found is None:
            return None
        self._known.move_to_end(mark)
        return found[1]

    def put(self, mark: Any, found: dict[str, Curve]) -> None:
        """Keep curves, and forget those that were not asked for longest."""
        size = sum(len(column) for one in found.values() for column in one.values())
        self._known[mark] = size, found
        self._held += size
        while self._held > self._most and self._known:
            _, (gone, _) = self._known.popitem(last=False)
            self._held -= gone


def brief(
    reader: Reader, run: Run, keys: Collection[str], problems: list[str], points: int = FEW
) -> dict[str, Any]:
    """Return what pages without a server know of a run: name, start, params, last metrics and curves.

    Args:
        reader: where the run was read.
        run: the run.
        keys: metrics to draw.
        problems: gets what could not be read.
        points: of each curve; values have six digits, which is more than a screen shows.
    """
    drawn: dict[str, Any] = {}
    try:
        found = load(reader, run, list(keys)[:MAX_KEYS])
    except GmlError as error:
        problems.append(str(error))
    else:
        for key, columns in found.items():
            one = curve(columns, points)
            for part in ("value", "low", "high"):
                if part in one:
                    one[part] = [None if value is None else float(f"{value:.6g}") for value in one[part]]
            one["time"] = [time - run.start_time for time in one["time"]]
            drawn[key] = one
    last = {key: summary.last for key, summary in run.metrics.items()}
    return {
        "name": run.name,
        "start": run.start_time,
        "params": {key: value[:200] for key, value in sorted(run.params.items())},
        "metrics": {key: value if math.isfinite(value) else None for key, value in sorted(last.items())},
        "curves": drawn,
    }


def spark(values: Sequence[float | None], width: int = 120, height: int = 24) -> str:
    """Return the `d` of an SVG path that draws a curve in a box.

    Example:
        >>> spark([0, 1], 10, 10)
        'M0 9.0L10 1.0'
    """
    numbers = [value for value in values if value is not None]
    if len(numbers) < 2:
        return ""
    low, high = min(numbers), max(numbers)
    span = high / 2 - low / 2
    out, pen = [], "M"
    for at, value in enumerate(values):
        if value is None:
            pen = "M"
            continue
        part = (value / 2 - low / 2) / span if span else 0.5
        x = round(at * width / (len(values) - 1), 1)
        out.append(f"{pen}{x:g} {height - 1 - part * (height - 2):.1f}")
        pen = "L"
    return "".join(out)
