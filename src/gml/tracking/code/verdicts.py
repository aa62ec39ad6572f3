"""What a bisection is asked, what it learns of each commit, and what it finds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from gml.tracking.code.values import BEST

if TYPE_CHECKING:
    from collections.abc import Collection

    from gml.tracking.code.values import Measured, Metric

GOOD: Final = "good"
BAD: Final = "bad"
SKIPPED: Final = "skipped"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of one commit.

    Attributes:
        commit: the commit.
        verdict: GOOD, BAD or SKIPPED.
        value: the metric; None where it was skipped.
        executed: whether the command was run for it.
        reason: why it was skipped.
    """

    commit: str
    verdict: str
    value: float | None
    executed: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of running the command at a commit: runs with the metric, or why there are none."""

    runs: tuple[Measured, ...]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked.

    Attributes:
        good: revision known to be good.
        bad: revision known to be bad.
        metric: from `metric_of`; its direction counts only where `direction` says so or nothing else tells.
        direction: whether higher is better; None to tell from the values at good and bad.
        threshold: the worst value that is still good; None for the middle between good's and bad's.
        how: which of several runs of a commit counts: BEST, LAST or MEAN.
        everything: look at commits of merged branches too.
        experiments: only runs of these experiment ids.
    """

    good: str
    bad: str
    metric: Metric
    direction: bool | None = None
    threshold: float | None = None
    how: str = BEST
    everything: bool = False
    experiments: Collection[str] | None = None


@dataclass(slots=True)
class Outcome:
    """What was found.

    Attributes:
        first_bad: the commit that broke the metric; None while several are left.
        suspects: the commits of which one is it, parents first.
        missing: those of them without runs that were not judged.
        good: newest commit on the way that is known to be good; None where the range begins at the root.
        threshold: the worst value that counts as good.
        higher: whether higher is better.
        verdicts: what was looked at, in order.
        total: how many commits were in question at first.
        executed: how often the command ran.
        notes: lines for people.
    """

    first_bad: str | None
    suspects: list[str]
    missing: list[str]
    good: str | None
    threshold: float
    higher: bool
    verdicts: list[Verdict] = field(default_factory=list)
    total: int = 0
    executed: int = 0
    notes: list[str] = field(default_factory=list)


def as_json(found: Outcome, plan: Plan) -> dict[str, Any]:
    """Return the documented shape of `gml bisect --json`."""
    return {
        "metric": plan.metric.name,
        "higher_is_better": found.higher,
        "threshold": found.threshold,
        "first_bad": found.first_bad,
        "good": found.good,
        "suspects": found.suspects,
        "missing": found.missing,
        "total": found.total,
        "executed": found.executed,
        "verdicts": [asdict(verdict) for verdict in found.verdicts],
    }
