"""What is known of the code of every run, read without loading the runs."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, NamedTuple

from gml.domain.run import ACTIVE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from typing import Any

    from gml.domain.run import Run
    from gml.git.log import CommitLog
    from gml.tracking.reader import Reader

_COLUMNS = """SELECT run_id, experiment_id, user_id, start_time, source->>'$.commit', source->>'$.branch',
 dirty, source->>'$.tree', source->>'$.author' FROM run_rows JOIN details USING (rid)"""


class Facts(NamedTuple):
    """The code of one run.

    Attributes:
        run_id: the run.
        experiment_id: its experiment.
        user: who started it.
        start_time: milliseconds since the epoch.
        commit: HEAD's commit when it started, None without commits and for most imported runs.
        branch: HEAD's branch, None when detached.
        dirty: whether there were uncommitted changes, None where nobody knows.
        tree: the tree of the code as it ran, uncommitted changes included; None where it was not kept.
        author: git's identity of whoever ran it.
    """

    run_id: str
    experiment_id: str
    user: str
    start_time: int
    commit: str | None
    branch: str | None
    dirty: bool | None
    tree: str | None
    author: str

    def exact_tree(self, log: CommitLog) -> str | None:
        """Return the tree of the code as it ran, from the commit where a clean run has none itself."""
        if self.tree is None and self.commit is not None and not self.dirty:
            return log.tree(self.commit)
        return self.tree


def read_facts(
    reader: Reader, experiments: Collection[str] | None = None, stages: Collection[str] = (ACTIVE,)
) -> dict[str, Facts]:
    """Return the facts of all runs by id, newest first.

    Args:
        reader: the repository.
        experiments: only these experiment ids.
        stages: only these life-cycle stages.
    """
    found = None if reader.past else _indexed(reader, experiments, stages)
    if found is None:
        return {run.run_id: facts_of(run) for run in _scan(reader.runs(deleted=True), experiments, stages)}
    live = [run for run_id in reader.live if (run := reader.run(run_id)) is not None]
    for run in sorted(_scan(live, experiments, stages), key=lambda r: r.run_id):
        found = {run.run_id: facts_of(run)} | found
    return found


def _indexed(
    reader: Reader, experiments: Collection[str] | None, stages: Collection[str]
) -> dict[str, Facts] | None:
    """Return the facts of all runs but live ones from the index; None where the index cannot say."""
    conditions, values = [f"lifecycle_stage IN ({', '.join('?' * len(stages))})"], [*stages]
    if experiments is not None:
        conditions.append(f"experiment_id IN ({', '.join('?' * len(experiments))})")
        values += experiments
    statement = f"{_COLUMNS} WHERE {' AND '.join(conditions)} ORDER BY position DESC"
    try:
        rows = reader.index.connection.execute(statement, values).fetchall()
    except sqlite3.Error:
        return None
    return {
        row[0]: Facts._make((*row[:6], None if row[6] is None else bool(row[6]), row[7], row[8] or ""))
        for row in rows
        if row[0] not in reader.live
    }


def _scan(runs: Iterable[Run], experiments: Collection[str] | None, stages: Collection[str]) -> Iterator[Run]:
    for run in runs:
        if run.lifecycle_stage in stages and (experiments is None or run.experiment_id in experiments):
            yield run


def facts_of(run: Run) -> Facts:
    """Return the facts of a loaded run."""
    source: Mapping[str, Any] = run.source
    dirty = source.get("dirty")
    return Facts(
        run.run_id,
        run.experiment_id,
        run.user,
        run.start_time,
        source.get("commit"),
        source.get("branch"),
        dirty if isinstance(dirty, bool) else None,
        source.get("tree"),
        source.get("author") or "",
    )
