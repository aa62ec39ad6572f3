"""`gml.runs(...)`: runs as a sequence that answers questions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

from gml.domain.errors import NotFoundError, UsageError
from gml.tracking import active
from gml.tracking.entities import Run, from_stored
from gml.tracking.reader import Reader
from gml.tracking.report.sections import champion_first, champion_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import pandas as pd

    from gml.domain.run import Run as StoredRun

_SHOWN = 20


class RunSet(Sequence[Run]):
    """Runs that a query found, in its order. The query runs when the runs are first needed, and once.

    Args:
        find: returns the reader and the runs.

    Example:
        >>> found = gml.runs("metrics.auc > 0.9")  # doctest: +SKIP
        >>> len(found), found.best("auc").run_id, found[:3].ids  # doctest: +SKIP
    """

    def __init__(self, find: Callable[[], tuple[Reader, list[StoredRun]]]) -> None:
        self._find = find
        self._found: tuple[Reader, list[StoredRun]] | None = None

    @property
    def reader(self) -> Reader:
        """What the runs were read with; all of them are of one moment."""
        return self._read()[0]

    @property
    def stored(self) -> list[StoredRun]:
        """The runs as the ledger keeps them."""
        return self._read()[1]

    def _read(self) -> tuple[Reader, list[StoredRun]]:
        if self._found is None:
            self._found = self._find()
        return self._found

    def __len__(self) -> int:
        return len(self.stored)

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> RunSet: ...
    def __getitem__(self, index: int | slice) -> Run | RunSet:
        if isinstance(index, slice):
            part = self.stored[index]
            return RunSet(lambda: (self.reader, part))
        return from_stored(self.stored[index])

    def __iter__(self) -> Iterator[Run]:
        return map(from_stored, self.stored)

    @property
    def ids(self) -> list[str]:
        """Ids of the runs, in order."""
        return [run.run_id for run in self.stored]

    def best(self, metric: str, *, higher: bool | None = None) -> Run:
        """Return the run with the best last value of a metric.

        Runs that lack the metric, or whose last value is NaN, are passed over; of equal ones the first is
        the best.

        Args:
            metric: its name, `metrics.` before it or not.
            higher: whether the greatest value is the best; None to tell from the name: of losses, errors,
                times, costs and sizes the least is.

        Raises:
            NotFoundError: no run has a value; names the metrics there are.
        """
        if not self.stored:
            raise NotFoundError("there is no best run: the query found none")
        key, ascending = champion_key(metric, self.stored)
        if higher is not None:
            ascending = not higher
        direction = "ASC" if ascending else "DESC"
        return from_stored(champion_first(self.stored, f"{key} {direction}")[0])

    def to_pandas(self) -> pd.DataFrame:
        """Return a row a run, in the columns of `gml.search_runs`."""
        from gml.index.frames import runs_frame

        return runs_frame(self.stored)

    def metric(self, key: str) -> pd.DataFrame:
        """Return every point of a metric of all runs that have it.

        Returns:
            A DataFrame with columns run_id, name, step, timestamp (milliseconds since the epoch) and
            value, runs in order, points by step, then time.

        Raises:
            NotFoundError: no run has it; names the metrics there are.
            CorruptError: stored points do not match their digest.
        """
        import numpy as np
        import pandas as pd

        from gml.tracking.report.curves import load

        key = champion_key(key, self.stored)[0]
        if self.stored and not any(key in run.metrics for run in self.stored):
            names = sorted({name for run in self.stored for name in run.metrics})
            raise NotFoundError(
                f"none of these runs has a metric {key!r}",
                hint=f"they have: {', '.join(names[:10]) or 'none'}",
            )
        parts = []
        for run in self.stored:
            columns = load(self.reader, run, [key]).get(key)
            if columns is not None:
                steps, times, values = columns
                facts: dict[str, Any] = {
                    "run_id": pd.Series([run.run_id] * len(steps), dtype=object),
                    "name": pd.Series([run.name] * len(steps), dtype=object),
                }
                parts.append(pd.DataFrame({**facts, "step": steps, "timestamp": times, "value": values}))
        if parts:
            return pd.concat(parts, ignore_index=True)
        nothing = np.empty(0, np.int64)
        none = pd.Series([], dtype=object)
        return pd.DataFrame(
            {"run_id": none, "name": none, "step": nothing, "timestamp": nothing, "value": np.empty(0)}
        )

    def __repr__(self) -> str:
        if self._found is None:
            return "<RunSet, not read yet>"
        some = ", ".join(run.name for run in self.stored[:3])
        return f"<RunSet of {len(self)} runs{': ' if some else ''}{some}{', ...' if len(self) > 3 else ''}>"

    def _repr_html_(self) -> str:
        """Return the table that notebooks show."""
        from gml.tracking.report.notebook import runs_table

        return runs_table(self.stored, _SHOWN)


def runs(
    query: str = "",
    *,
    experiment_names: Sequence[str] | None = None,
    experiment_ids: Sequence[str] | None = None,
    order_by: str | Sequence[str] | None = None,
    max_results: int | None = None,
    deleted: bool = False,
) -> RunSet:
    """Return the runs that match, newest first, of all experiments unless some are named.

    Args:
        query: see docs/queries.md; empty for all. Mistakes in it are found at once.
        experiment_names: only these experiments.
        experiment_ids: only these experiments, by id.
        order_by: such as `"metrics.auc DESC"`, or several, the most important first.
        max_results: at most so many; all by default.
        deleted: deleted runs instead.

    Raises:
        QueryError: the query or the order is malformed; names the position.
        UsageError: experiments are given by name and by id.
        NotFoundError: an experiment is not there (when the runs are first needed).

    Example:
        >>> gml.runs("metrics.auc > 0.9", order_by="metrics.auc DESC")[0].info.run_name  # doctest: +SKIP
        'forest'
    """
    from gml.index.query import parse, parse_order

    if experiment_names is not None and experiment_ids is not None:
        raise UsageError("runs takes experiment_ids or experiment_names, not both")
    orders = [order_by] if isinstance(order_by, str) else list(order_by or ())
    if query.strip():
        parse(query)
    parse_order(orders)

    def find() -> tuple[Reader, list[StoredRun]]:
        from gml.tracking.missing import experiment_ids as experiment_ids_of
        from gml.tracking.queries import ACTIVE_ONLY, DELETED_ONLY, select

        reader = Reader(active.workspace())
        wanted = None if experiment_ids is None else set(experiment_ids)
        if experiment_names is not None:
            wanted = experiment_ids_of(reader, experiment_names) or set()
        view = DELETED_ONLY if deleted else ACTIVE_ONLY
        return reader, select(reader, query, orders, wanted, view, max_results)

    return RunSet(find)


def gather(wanted: Iterable[Any]) -> tuple[Reader, list[StoredRun]]:
    """Return the reader and the stored runs that Python callers mean.

    Args:
        wanted: run ids, names and `@~1`, `Run` objects, RunSets, DataFrames of `search_runs`, or
            sequences of these, in any mixture.

    Raises:
        NotFoundError: a run is not there.
        AmbiguousError: a name fits several runs.
        UsageError: something else was given.
    """
    given = list(wanted)
    if len(given) == 1 and isinstance(given[0], RunSet):
        return given[0].reader, given[0].stored
    reader = Reader(active.workspace())
    found: dict[str, StoredRun] = {}
    for text in _names(given):
        run = reader.resolve(text)
        found.setdefault(run.run_id, run)
    return reader, list(found.values())


def _names(wanted: Iterable[Any]) -> Iterator[str]:
    for each in wanted:
        if isinstance(each, str):
            yield each
        elif isinstance(each, RunSet):
            yield from each.ids
        elif hasattr(each, "columns") and "run_id" in each.columns:
            yield from dict.fromkeys(map(str, each["run_id"]))
        elif isinstance(getattr(each, "run_id", None), str):
            yield each.run_id
        elif hasattr(each, "info") and isinstance(getattr(each.info, "run_id", None), str):
            yield each.info.run_id  # runs of MLflow's client
        elif isinstance(each, (list, tuple, set)) or type(each).__name__ in {"Series", "Index", "ndarray"}:
            yield from _names(each)
        elif isinstance(each, float) and math.isnan(each):
            continue
        else:
            raise UsageError(
                f"{type(each).__name__} is no run",
                hint="give run ids, runs, gml.runs(...) or the DataFrame of gml.search_runs",
            )
