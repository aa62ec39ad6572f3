"""Metric points: pages of them, and even samples for charts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gml.service import pages
from gml.service.errors import MISSING, ServiceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gml.domain.run import Run
    from gml.ledger.history import Columns
    from gml.service.store import Store
    from gml.tracking.reader import Reader

MAX_RUNS: Final = 100
MAX_POINTS: Final = 25_000
MAX_SAMPLED: Final = 2_500

# step, timestamp, value
Point = tuple[int, int, float]


def _columns(store: Store, run_id: str, key: str) -> Columns:
    def question(reader: Reader, run: Run) -> Any:
        return reader.history(run, key) if key in run.metrics else _none()

    try:
        columns: Columns = store.with_points(run_id, question)
    except ServiceError as error:
        if error.code != MISSING:
            raise
        return _none()
    return columns


def _none() -> Columns:
    import numpy as np

    return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float64)


def points(
    store: Store, run_id: str, key: str, max_results: int | None = None, page_token: str | None = None
) -> tuple[list[Point], str | None]:
    """Return a metric's points in the order of time, then step, and the token of the next page.

    An unknown metric has none, and so has a run that is not there.

    Raises:
        ServiceError: the token is none.
    """
    import numpy as np

    offset = pages.decode(page_token)
    steps, times, values = _columns(store, run_id, key)
    order = np.lexsort((values, steps, times))
    token = None
    if max_results is not None and len(order) > offset + max_results:
        token = pages.encode(offset + max_results)
    picked = order[offset : None if max_results is None else offset + max_results]
    return _points((steps[picked], times[picked], values[picked])), token


def _points(columns: Columns) -> list[Point]:
    steps, times, values = columns
    return list(zip(steps.tolist(), times.tolist(), values.tolist(), strict=True))


def bulk(
    store: Store, run_ids: Sequence[str], key: str, max_results: int = MAX_POINTS
) -> list[tuple[str, Point]]:
    """Return the points of a metric of several runs, ordered by run id, then time."""
    out: list[tuple[str, Point]] = []
    for run_id in sorted(set(run_ids)):
        if len(out) >= max_results:
            break
        found, _ = points(store, run_id, key, max_results - len(out))
        out += [(run_id, point) for point in found]
    return out


def sample(
    store: Store, run_id: str, key: str, most: int, between: tuple[int, int] | None = None
) -> list[Point]:
    """Return at most so many points of a metric, evenly chosen in the order of steps; the last is among them.

    Args:
        store: the repository.
        run_id: whole id.
        key: the metric.
        most: at least 1.
        between: only steps from the first to the second, both included.
    """
    import numpy as np

    steps, times, values = _columns(store, run_id, key)
    if between is not None:
        inside = (steps >= between[0]) & (steps <= between[1])
        steps, times, values = steps[inside], times[inside], values[inside]
    count = len(steps)
    order = np.lexsort((values, times, steps))
    if count > most:
        # The first of each of `most` parts; where that does not divide, the earlier ones are longer by one.
        size, longer = divmod(count, most)
        heads = [i * size + min(i, longer) for i in range(most)]
        if heads[-1] != count - 1:
            heads[-1] = count - 1
        order = order[heads]
    return _points((steps[order], times[order], values[order]))


def envelope(store: Store, run_id: str, key: str, buckets: int) -> dict[str, list[Any]]:
    """Return a metric's curve in at most so many parts: first step, least, greatest and last value of each.

    NaN does not count, unless a part has nothing else.
    """
    import numpy as np

    steps, times, values = _columns(store, run_id, key)
    count = len(steps)
    out: dict[str, list[Any]] = {"step": [], "timestamp": [], "min": [], "max": [], "last": [], "count": []}
    if not count:
        return out
    edges = np.linspace(0, count, min(buckets, count) + 1).astype(int)
    for begin, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        part = values[begin:end]
        real = part[~np.isnan(part)]
        out["step"].append(int(steps[begin]))
        out["timestamp"].append(int(times[begin]))
        out["min"].append(float(real.min()) if len(real) else float("nan"))
        out["max"].append(float(real.max()) if len(real) else float("nan"))
        out["last"].append(float(part[-1]))
        out["count"].append(end - begin)
    return out
