"""The best run on each side of a branch: `gml diff --best METRIC A..B`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gml.domain.errors import NotFoundError, UsageError
from gml.tracking.code.places import Places, before_merge
from gml.tracking.code.values import BEST, combine, experiments_note, measure

if TYPE_CHECKING:
    from collections.abc import Collection

    from gml.domain.run import Run
    from gml.git.log import CommitLog
    from gml.tracking.code.values import Measured, Metric
    from gml.tracking.reader import Reader


@dataclass(slots=True)
class BestPair:
    """The best run of each side, and lines for people about how they were found."""

    a: Run
    b: Run
    notes: list[str] = field(default_factory=list)


def best_of_sides(
    reader: Reader, metric: Metric, sides: str, experiments: Collection[str] | None = None
) -> BestPair:
    """Return the best finished run on each side of `A..B`.

    Side B is what `git log A..B` lists, and what was recorded on the branch B on top of the merge base.
    Side A are the commits of A since the merge base, and the merge base. A branch that was merged into A by
    a merge commit is compared with A as it was before. Where side A has no runs, the newest first parent of A
    before it that has some stands in, which the notes say.

    Args:
        reader: the repository.
        metric: from `metric_of`.
        sides: `main..feature/x`; `...` means the same; a missing side is HEAD.
        experiments: only runs of these experiment ids.

    Raises:
        UsageError: there are no two sides.
        NotFoundError: a side is no commit or has no runs, or no run has the metric.
    """
    from gml.git.log import CommitLog

    if ".." not in sides:
        raise UsageError(f"{sides!r} has no two sides", hint="give a range, such as main..feature/x")
    left, _, right = sides.replace("...", "..").partition("..")
    left, right = left or "HEAD", right or "HEAD"
    log = CommitLog(reader.workspace.store)
    a, b = log.resolve(left), log.resolve(right)
    if b in log.reachable([a]):
        a = _before(log, a, b, left, right)
    measured = measure(reader, metric, experiments)
    notes = experiments_note(reader, measured, experiments)
    ours, theirs = log.reachable([a]), log.reachable([b])
    bases = log.merge_bases(a, b)
    common = log.reachable(bases)
    on_b = Places(
        log, [c for c in theirs if c not in ours], {**ours, **theirs}, branch=_branch(log, right, left)
    )
    on_a = Places(log, [*(c for c in ours if c not in common), *bases], {**ours, **theirs})
    shared = common.keys() - set(bases)
    side_b = [run for run in measured if run.facts.commit not in shared and on_b.place(run.facts).found]
    taken = {run.facts.run_id for run in side_b}
    side_a = [run for run in measured if run.facts.run_id not in taken and on_a.place(run.facts).found]
    if not side_b:
        raise NotFoundError(
            f"no finished run with {metric.name} belongs to {right} alone",
            hint=f"run one there, or see `gml ls --branch {right}`",
        )
    if not side_a:
        side_a, commit = _earlier(log, bases, measured, taken)
        if not side_a:
            raise NotFoundError(
                f"no finished run with {metric.name} belongs to {left} or its past", hint=f"run one on {left}"
            )
        notes.append(f"{left} has no such run since {right} branched off; its commit {commit[:10]} stands in")
    return BestPair(_best(reader, side_a, metric), _best(reader, side_b, metric), notes)


def _before(log: CommitLog, a: str, b: str, left: str, right: str) -> str:
    """Return A as it was before B was merged into it."""
    before = before_merge(log, b, a)
    if before is None:
        raise UsageError(
            f"{right} is part of {left} without a merge, so there is only one side",
            hint=f"name the commit of {left} to compare with, such as {left}~10..{right}",
        )
    return before


def _branch(log: CommitLog, right: str, left: str) -> str | None:
    """Return the name that side B's runs recorded, where B is a branch, not A's own or the main line."""
    short, tips = log.branch_tips(right)
    return short if tips and short not in {log.branch_tips(left)[0], log.main_line()} else None


def _earlier(
    log: CommitLog, bases: list[str], measured: list[Measured], taken: Collection[str]
) -> tuple[list[Measured], str]:
    at: dict[str, list[Measured]] = {}
    for run in measured:
        if run.facts.commit is not None and run.facts.run_id not in taken:
            at.setdefault(run.facts.commit, []).append(run)
    for base in bases:
        for commit in log.first_parents(base):
            if commit in at:
                return at[commit], commit
    return [], ""


def _best(reader: Reader, runs: list[Measured], metric: Metric) -> Run:
    run_id = combine(runs, BEST, metric)[1].facts.run_id
    found = reader.run(run_id)
    if found is None:
        raise NotFoundError(f"run {run_id} has gone")
    return found
