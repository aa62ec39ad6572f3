"""Which commit broke a metric: recorded runs first, then runs of a command, as few as possible."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from gml.domain.errors import GmlError, NotFoundError, UsageError
from gml.tracking.code.suspects import Suspects, suspects_between
from gml.tracking.code.values import combine, measure
from gml.tracking.code.verdicts import BAD, GOOD, SKIPPED, Attempt, Outcome, Plan, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from gml.git.log import CommitLog
    from gml.tracking.code.values import Measured
    from gml.tracking.reader import Reader


def bisect(
    reader: Reader,
    plan: Plan,
    *,
    execute: Callable[[str], Attempt] | None = None,
    report: Callable[[Verdict, int], None] | None = None,
) -> Outcome:
    """Find the first commit at which a metric is bad.

    A recorded run counts for a commit when the code that ran is exactly the commit's (the same tree):
    clean runs, also of other commits with the same content, and dirty runs that were committed as they
    were. Only finished runs count. NaN is bad.

    Args:
        reader: the repository.
        plan: what is asked.
        execute: runs the command at a commit; None to use recorded runs only.
        report: called with every verdict and the number of suspects left.

    Raises:
        NotFoundError: a revision does not exist, or good or bad has no value and there is no command.
        UsageError: good and bad contradict each other or the threshold.
    """
    return _Search(reader, plan, execute, report).run()


class _Search:
    def __init__(
        self,
        reader: Reader,
        plan: Plan,
        execute: Callable[[str], Attempt] | None,
        report: Callable[[Verdict, int], None] | None,
    ) -> None:
        from gml.git.log import CommitLog

        self.plan = plan
        self.execute = execute
        self.report = report
        self.log: CommitLog = CommitLog(reader.workspace.store)
        self.recorded = self._recorded(reader)
        self.higher = plan.metric.higher
        self.threshold = math.nan
        self.verdicts: list[Verdict] = []
        self.executed: dict[str, Attempt] = {}
        self.notes: list[str] = []

    def _recorded(self, reader: Reader) -> dict[str, list[Measured]]:
        """Return the runs that count, by the tree of their code."""
        try:
            runs = measure(reader, self.plan.metric, self.plan.experiments)
        except NotFoundError:
            if self.execute is None:
                raise
            runs = []
        found: dict[str, list[Measured]] = {}
        for run in runs:
            tree = run.facts.exact_tree(self.log)
            if tree is not None:
                found.setdefault(tree, []).append(run)
        return found

    def run(self) -> Outcome:
        plan = self.plan
        good, bad = self.log.resolve(plan.good), self.log.resolve(plan.bad)
        suspects, base = suspects_between(self.log, good, bad, everything=plan.everything)
        total = len(suspects.commits)
        self._calibrate(good, bad)
        if base is not None:
            self._check_base(base)
        missing: list[str] = []
        while len(suspects.commits) > 1 and (choice := suspects.open()):
            known = [c for c in choice if self.runs_at(c)]
            if known:
                self._judge(suspects, suspects.pick(known))
            elif self.execute is not None:
                self._judge(suspects, suspects.pick(choice))
            else:
                missing = choice
                break
        first = suspects.bad if len(suspects.commits) == 1 else None
        if first is not None:
            self._contradictions(first)
        return Outcome(
            first, suspects.commits, missing, suspects.good, self.threshold, self.higher, self.verdicts,
            total, len(self.executed), self.notes,
        )  # fmt: skip

    def runs_at(self, commit: str) -> list[Measured]:
        """Return the recorded runs of exactly this code, newest first."""
        return self.recorded.get(self.log.tree(commit) or "", [])

    def value(self, commit: str) -> float | None:
        """Return the value at a commit, recorded or from a run just made; None where there is none."""
        runs = self.runs_at(commit)
        if not runs and commit in self.executed:
            runs = list(self.executed[commit].runs)
        return (
            combine(runs, self.plan.how, replace(self.plan.metric, higher=self.higher))[0] if runs else None
        )

    def _obtain(self, commit: str) -> float | None:
        value = self.value(commit)
        if value is None and self.execute is not None and commit not in self.executed:
            self.executed[commit] = self.execute(commit)
            value = self.value(commit)
        return value

    # --- what is good -------------------------------------------------------------------------

    def _calibrate(self, good: str, bad: str) -> None:
        """Settle direction and threshold, from the values at good and bad where the user did not say."""
        plan = self.plan
        needed = plan.threshold is None
        values = [self._obtain(c) if needed else self.value(c) for c in (good, bad)]
        for name, commit, value in zip(("good", "bad"), (good, bad), values, strict=True):
            if value is None and needed:
                raise self._no_value(name, commit)
        self.higher = self._direction(values)
        # The best of several runs depends on the direction, which is known only now.
        at_good, at_bad = self.value(good), self.value(bad)
        if plan.threshold is not None:
            self.threshold = plan.threshold
        elif at_good is not None and at_bad is not None:
            self.threshold = self._middle(at_good, at_bad)
        for name, commit, value in (("good", good, at_good), ("bad", bad, at_bad)):
            if value is None:
                continue
            found = GOOD if self.is_good(value) else BAD
            self._add(Verdict(commit, found, value, commit in self.executed), None)
            if found != name:
                side = "lower" if self.higher else "higher"
                raise UsageError(
                    f"--{name} {getattr(plan, name)} is {found}: {plan.metric.name} is {value:.6g} there, and"
                    f" {side} than {self.threshold:.6g} is bad",
                    hint="check --good, --bad, --threshold and --higher or --lower",
                )

    def _direction(self, values: list[float | None]) -> bool:
        if self.plan.direction is not None:
            return self.plan.direction
        a, b = values
        if a is None or b is None or math.isnan(a) or math.isnan(b) or a == b:
            return self.plan.metric.higher
        return a > b

    def _middle(self, good: float, bad: float) -> float:
        name = self.plan.metric.name
        if math.isnan(good):
            raise UsageError(
                f"{name} is NaN at --good {self.plan.good}", hint="name a commit where it is a number"
            )
        if good == bad:
            raise UsageError(
                f"{name} is {good:.6g} at both --good and --bad",
                hint="name commits that differ, or give --threshold",
            )
        if math.isnan(bad):
            return -math.inf if self.higher else math.inf
        if math.isinf(good) or math.isinf(bad):
            return bad if math.isinf(good) else good
        return good / 2 + bad / 2

    def is_good(self, value: float) -> bool:
        """Whether a value is good; the threshold itself is, NaN is not."""
        return value >= self.threshold if self.higher else value <= self.threshold

    def _no_value(self, name: str, commit: str) -> GmlError:
        where = f"--{name} {getattr(self.plan, name)} ({commit[:10]})"
        metric = self.plan.metric.name
        if commit in self.executed:
            return NotFoundError(f"no value of {metric} at {where}: {self.executed[commit].reason}")
        return NotFoundError(
            f"no finished clean run of {where} has {metric}",
            hint="run it there, give --threshold, or --run 'gml log -- COMMAND'",
        )

    def _check_base(self, base: str) -> None:
        """Where good is on another line, what both lines have in common has to be good."""
        value = self._obtain(base)
        if value is None:
            self.notes.append(
                f"{self.plan.good} is no ancestor of {self.plan.bad};"
                f" their merge base {base[:10]} is taken as good"
            )
        elif self.is_good(value):
            self._add(Verdict(base, GOOD, value, base in self.executed), None)
        else:
            raise UsageError(
                f"the merge base {base[:10]} of good and bad is bad already ({value:.6g}): the metric was"
                f" fixed on the way to {self.plan.good}, not broken on the way to {self.plan.bad}",
                hint="name an older commit as --good",
            )

    # --- judging ------------------------------------------------------------------------------

    def _judge(self, suspects: Suspects, commit: str) -> None:
        value = self._obtain(commit)
        executed = commit in self.executed
        if value is None:
            suspects.skipped.add(commit)
            self._add(Verdict(commit, SKIPPED, None, executed, self.executed[commit].reason), suspects)
            return
        good = self.is_good(value)
        suspects.note(commit, good=good)
        self._add(Verdict(commit, GOOD if good else BAD, value, executed), suspects)

    def _add(self, verdict: Verdict, suspects: Suspects | None) -> None:
        self.verdicts.append(verdict)
        if self.report is not None:
            self.report(verdict, len(suspects.commits) if suspects is not None else 0)

    def _contradictions(self, first: str) -> None:
        """Say where recorded runs do not fit one change from good to bad."""
        good, bad = self.log.resolve(self.plan.good), self.log.resolve(self.plan.bad)
        hidden = self.log.reachable([good])
        inside = [c for c in self.log.first_parents(bad, hidden) if self.runs_at(c)]
        if first not in (line := self.log.first_parents(bad, hidden)):
            return
        place = line.index(first)
        wrong = 0
        for commit in inside:
            value = self.value(commit)
            late = line.index(commit) <= place
            wrong += value is not None and self.is_good(value) == late
        if wrong:
            self.notes.append(
                f"recorded values of {wrong} commits do not fit:"
                " the metric changed more than once, or is noisy"
            )
