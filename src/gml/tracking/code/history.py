"""A metric along the first parents of a branch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final

from gml.tracking.code.places import ELSEWHERE, LOST, UNKNOWN, Places, explain
from gml.tracking.code.values import BEST, combine, experiments_note, measure

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from gml.git.port import Commit
    from gml.tracking.code.values import Measured, Metric
    from gml.tracking.reader import Reader

COMMIT: Final = "commit"
DAY: Final = "day"
_BARS: Final = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Row:
    """One commit that has runs, or one day.

    Attributes:
        commit: its id; of a day the newest commit of that day that has runs.
        date: when it was committed, ISO text in the committer's zone; of a day only the date.
        author: name of the commit's author.
        subject: first line of its message.
        commits: how many commits with runs it stands for.
        runs: how many finished runs with the metric.
        dirty: how many of them had uncommitted changes.
        value: the metric.
        change: value minus the value of the row before, None in the first.
        run_id: the run that has the value; the best one where the value is a mean.
    """

    commit: str
    date: str
    author: str
    subject: str
    commits: int
    runs: int
    dirty: int
    value: float
    change: float | None
    run_id: str


@dataclass(slots=True)
class History:
    """A metric along a branch.

    Attributes:
        rows: oldest first.
        tip: newest commit of the branch.
        outside: how many runs are on commits that the branch's first parents do not have, by reason.
        notes: lines for people.
    """

    rows: list[Row]
    tip: str
    outside: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def metric_history(
    reader: Reader,
    metric: Metric,
    *,
    branch: str = "HEAD",
    by: str = COMMIT,
    how: str = BEST,
    experiments: Collection[str] | None = None,
) -> History:
    """Return a metric along the first-parent history of a branch, oldest commit first.

    Counted are finished runs. Runs with uncommitted changes count for the commit they are based on. Runs
    of commits that were rewritten, or whose code is that of a commit of the branch, count for that commit
    (see `gml.tracking.code.places`).

    Args:
        reader: the repository.
        metric: from `metric_of`.
        branch: any revision.
        by: COMMIT or DAY: what a row is.
        how: BEST, LAST or MEAN of the runs of a row.
        experiments: only runs of these experiment ids.

    Raises:
        NotFoundError: no such revision, or no run has the metric.
    """
    from gml.git.log import CommitLog

    log = CommitLog(reader.workspace.store)
    tip = log.resolve(branch)
    line = log.first_parents(tip)
    merged = log.reachable([tip])
    places = Places(log, line, merged, trees_first=True)
    measured = measure(reader, metric, experiments)
    at: dict[str, list[Measured]] = {}
    ways: Counter[str] = Counter()
    outside: Counter[str] = Counter()
    for run in measured:
        place = places.place(run.facts)
        ways[place.how] += 1
        if place.commit is not None:
            at.setdefault(place.commit, []).append(run)
        else:
            outside[_reason(place.how, run.facts.commit, merged)] += 1
    ways.pop(LOST, None)  # told in the line about runs outside
    newest_first = {run.facts.run_id: number for number, run in enumerate(measured)}
    groups: dict[str, list[tuple[str, Commit]]] = {}
    for oid in reversed(line):
        commit = log.commit(oid) if oid in at else None
        if commit is not None:
            groups.setdefault(_moment(commit)[:10] if by == DAY else oid, []).append((oid, commit))
    rows: list[Row] = []
    for key, commits in groups.items():
        runs = sorted((r for oid, _ in commits for r in at[oid]), key=lambda r: newest_first[r.facts.run_id])
        rows.append(_row(key if by == DAY else "", commits, runs, how, metric, rows))
    notes = [*explain(ways), *experiments_note(reader, measured, experiments)]
    return History(rows, tip, dict(outside), notes)


def _reason(how: str, commit: str | None, merged: Collection[str]) -> str:
    if how == ELSEWHERE:
        return "on merged branches" if commit in merged else "on other branches"
    return {LOST: "on commits of no branch here", UNKNOWN: "without a recorded commit"}[how]


def _moment(commit: Commit) -> str:
    zone = timezone(timedelta(minutes=commit.commit_offset))
    try:
        return datetime.fromtimestamp(commit.commit_time, zone).isoformat()
    except (ValueError, OverflowError, OSError):
        return "1970-01-01T00:00:00+00:00"  # git accepts times that no calendar has


def _row(
    day: str,
    commits: list[tuple[str, Commit]],
    runs: list[Measured],
    how: str,
    metric: Metric,
    before: list[Row],
) -> Row:
    oid, newest = commits[-1]
    value, shown = combine(runs, how, metric)
    return Row(
        commit=oid,
        date=day or _moment(newest),
        author=newest.author.name,
        subject=newest.message.partition("\n")[0],
        commits=len(commits),
        runs=len(runs),
        dirty=sum(1 for run in runs if run.facts.dirty),
        value=value,
        change=value - before[-1].value if before else None,
        run_id=shown.facts.run_id,
    )


def sparkline(values: Sequence[float], width: int = 60) -> str:
    """Return values as a line of bars; NaN and infinities are gaps.

    Args:
        values: oldest first.
        width: at most so many bars; each then stands for the last of several values.

    Example:
        >>> sparkline([0, 1, 2, 3, float("nan"), 7])
        '▁▂▃▄ █'
    """
    import math

    if len(values) > width:
        values = [values[(i + 1) * len(values) // width - 1] for i in range(width)]
    numbers = [v for v in values if math.isfinite(v)]
    if not numbers:
        return " " * len(values)
    low, high = min(numbers), max(numbers)
    # Halved, so that the span of the largest floats is no infinity.
    span = high / 2 - low / 2
    bars = []
    for value in values:
        if not math.isfinite(value):
            bars.append(" ")
        else:
            part = (value / 2 - low / 2) / span if span else 0.5
            bars.append(_BARS[min(7, int(part * 7 + 0.5))])
    return "".join(bars)


def as_json(history: History, metric: Metric) -> dict[str, Any]:
    """Return the documented shape of `gml history --json`."""
    from dataclasses import asdict

    return {
        "metric": metric.name,
        "higher_is_better": metric.higher,
        "tip": history.tip,
        "rows": [asdict(row) for row in history.rows],
        "outside": history.outside,
    }
