"""What a sweep knows: its trials, wherever they were run, and which is the best."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gml.domain.run import FAILED, FINISHED
from gml.projects.sweep.trials import PRUNED, TAG_STATE, TAG_TRIAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gml.domain.run import Run
    from gml.projects.sweep.plan import SweepPlan

# Below so many finished trials nobody knows what is bad.
_PRUNE_AFTER: Final = 4


@dataclass(frozen=True, slots=True)
class Finished:
    """A trial that needs not be run any more.

    Attributes:
        number: from 0.
        run_id: its run.
        values: what was varied.
        result: last value of the metric, None where it failed, was pruned or logged none.
        state: `finished`, `failed` or `pruned`.
    """

    number: int
    run_id: str
    values: Mapping[str, str]
    result: float | None
    state: str


@dataclass(slots=True)
class Study:
    """The trials of a sweep that are done.

    Attributes:
        plan: what the sweep is to do.
        done: trials by number.
        curves: metric value by step, of each finished trial of this process.
    """

    plan: SweepPlan
    done: dict[int, Finished] = field(default_factory=dict)
    curves: list[dict[int, float]] = field(default_factory=list)

    def add(self, trial: Finished, curve: dict[int, float] | None = None) -> bool:
        """Take a trial in; returns whether it is the best so far."""
        best = self.best
        self.done[trial.number] = trial
        if trial.state == "finished" and curve:
            self.curves.append(curve)
        return trial.result is not None and (best is None or self.better(trial.result, best.result or 0.0))

    def better(self, one: float, other: float) -> bool:
        """Whether a value is better than another."""
        return one > other if self.plan.maximize else one < other

    @property
    def best(self) -> Finished | None:
        """The best trial, the earliest of equals; None where none has a result."""
        found: Finished | None = None
        for number in sorted(self.done):
            trial = self.done[number]
            if trial.result is None:
                continue
            if found is None or found.result is None or self.better(trial.result, found.result):
                found = trial
        return found

    def missing(self) -> list[int]:
        """Return the numbers of trials that have still to be run."""
        return [number for number in range(self.plan.trials) if number not in self.done]

    def is_hopeless(self, curve: Mapping[int, float]) -> bool:
        """Whether a running trial is worse than the median of the finished ones at its newest step."""
        if not curve or len(self.curves) < _PRUNE_AFTER:
            return False
        step = max(curve)
        others = [value for known in self.curves if (value := _at(known, step)) is not None]
        if len(others) < _PRUNE_AFTER:
            return False
        pick = max if self.plan.maximize else min
        reached = pick(
            (value for at, value in curve.items() if at <= step and not math.isnan(value)), default=math.nan
        )
        if math.isnan(reached):
            return True
        return self.better(statistics.median(others), reached)


def _at(curve: Mapping[int, float], step: int) -> float | None:
    """Return the value of a curve at a step or the last one before it."""
    before = [at for at in curve if at <= step]
    value = curve[max(before)] if before else math.nan
    return None if math.isnan(value) else value


def finished_trials(runs: Iterable[Run], plan: SweepPlan) -> list[Finished]:
    """Return which of a sweep's nested runs need not be run again.

    A run that was killed before it ended is none of them, unless the sweep itself stopped it.
    """
    found: dict[int, Finished] = {}
    for run in runs:
        number = run.tags.get(TAG_TRIAL, "")
        if not number.isdigit():
            continue
        values = {name: run.params[name] for name in plan.space if name in run.params}
        if run.tags.get(TAG_STATE) == PRUNED:
            state = PRUNED
        elif run.status == FINISHED:
            state = "finished"
        elif run.status == FAILED:
            state = "failed"
        else:
            continue
        summary = run.metrics.get(plan.metric) if state == "finished" else None
        result = None if summary is None or math.isnan(summary.last) else summary.last
        found[int(number)] = Finished(int(number), run.run_id, values, result, state)
    return [found[number] for number in sorted(found)]
