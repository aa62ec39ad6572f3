"""The runs that the pages show, as of each request."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gml.domain.errors import NotFoundError
from gml.tracking.reader import Reader
from gml.tracking.report.live import refresh
from gml.ui.pages.curves import Cache

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gml.domain.run import Run
    from gml.index.query import Order, Query
    from gml.workspace import Workspace


class Source:
    """One repository, read by one request at a time.

    What live runs logged is read from where the last request stopped, so a page costs the same however
    long a training goes on.

    Args:
        workspace: the repository.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._lock = threading.Lock()
        self._reader: Reader | None = None
        self.curves = Cache()

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        """Give a reader that is up to date, to nobody else meanwhile."""
        with self._lock:
            reader = self._reader
            if reader is None:
                reader = self._reader = Reader(self.workspace)
            else:
                before = reader.view.commit
                refresh(reader)
                if reader.view.commit != before:
                    index = reader.__dict__.pop("index", None)
                    if index is not None:
                        index.close()
            reader.damaged.clear()
            yield reader


def now_ms() -> int:
    """Return milliseconds since the epoch."""
    return int(time.time() * 1000)


def page_of_runs(
    reader: Reader,
    query: Query | None,
    orders: Sequence[Order],
    *,
    experiments: set[str] | None,
    stages: set[str],
    offset: int,
    size: int,
) -> tuple[list[Run], bool]:
    """Return the runs of one page, and whether there are more after it.

    Only the records of the page are read, unless runs are live or the index cannot answer.

    Raises:
        QueryError: the query or order cannot be evaluated.
    """
    from gml.index.store.compile import NotCompilableError

    wanted = offset + size + 1
    steps = (query is not None and query.needs_history) or any(o.field.step is not None for o in orders)
    if not reader.live and not steps:
        try:
            entries = reader.index.search(
                query, orders, now_ms=now_ms(), experiments=experiments, stages=stages, limit=wanted
            )
        except NotCompilableError:
            pass
        else:
            runs = [reader.run(entry.run_id) for entry in entries[offset : offset + size]]
            return [run for run in runs if run is not None], len(entries) == wanted
    found = reader.search(
        query, orders, now_ms=now_ms(), experiments=experiments, stages=stages, limit=wanted
    )
    return found[offset : offset + size], len(found) == wanted


def experiment_names(reader: Reader) -> dict[str, str]:
    """Return the names of all experiments by id."""
    return {e.experiment_id: e.name for e in reader.experiments()}


def run_or_404(reader: Reader, run_id: str) -> Run:
    """Return a run by its whole id or what a user may type for it.

    Raises:
        NotFoundError: there is none.
        AmbiguousError: there are several.
    """
    if not run_id or len(run_id) > 256:
        raise NotFoundError("no run has such an id")
    return reader.resolve(run_id)
