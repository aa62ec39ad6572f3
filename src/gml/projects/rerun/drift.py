"""Comparing a rerun with its original: reproduced, drifted, or failed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import UsageError
from gml.projects.rerun.surroundings import compare_surroundings
from gml.tracking.compare import code_diff, data_sets
from gml.tracking.contents import environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gml.domain.metrics import MetricSummary
    from gml.domain.run import Run
    from gml.tracking.reader import Reader

REPRODUCED: Final = "reproduced"
DRIFTED: Final = "drifted"
FAILED: Final = "failed"
CHANGED: Final = "changed"
# What gml itself measures, and the output, which has times and paths in it.
_OWN_METRICS: Final = "system/"
_OWN_ARTIFACTS: Final = ("logs/", "code/changes.patch")


@dataclass(frozen=True, slots=True)
class Tolerances:
    """How far metrics may be from the original; by default not at all.

    Attributes:
        rules: pattern of the metric's name, bound, and whether it is relative; the last that fits counts.
    """

    rules: tuple[tuple[str, float, bool], ...] = ()

    @classmethod
    def parse(cls, texts: Sequence[str]) -> Tolerances:
        """Read `auc=0.01` (absolute), `loss=1%` (relative), `time*=inf` (never compared), `1e-6` (all).

        Raises:
            UsageError: a bound is no number, or negative.

        Example:
            >>> Tolerances.parse(["1%"]).fits("auc", 1.0, 1.005)
            True
        """
        rules = []
        for text in texts:
            name, equals, bound = text.rpartition("=")
            relative = bound.endswith("%")
            try:
                value = float(bound.removesuffix("%"))
            except ValueError:
                value = math.nan
            if not value >= 0 or (equals and not name):
                raise UsageError(f"{text!r} is no tolerance", hint="such as auc=0.01, loss=1% or 'time*=inf'")
            rules.append((name or "*", value / 100 if relative else value, relative))
        return cls(tuple(rules))

    def ignores(self, key: str) -> bool:
        """Whether a metric is not compared at all."""
        return self._bound(key)[0] == math.inf

    def _bound(self, key: str) -> tuple[float, bool]:
        return next(
            ((bound, relative) for name, bound, relative in reversed(self.rules) if fnmatchcase(key, name)),
            (0.0, False),
        )

    def fits(self, key: str, old: float, new: float) -> bool:
        """Whether a value is near enough to the original; NaN and infinities equal themselves."""
        bound, relative = self._bound(key)
        if old == new or (math.isnan(old) and math.isnan(new)) or bound == math.inf:
            return True
        return abs(new - old) <= bound * (abs(old) if relative else 1.0)


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in which a rerun is not its original.

    Attributes:
        part: `status`, `code`, `params`, `metrics`, `artifacts`, `data`, `environment` or `hardware`.
        key: the thing.
        old: as it was, None where it was not there.
        new: as it is.
        counts: whether it makes the rerun `drifted`.
    """

    part: str
    key: str
    old: Any
    new: Any
    counts: bool


@dataclass(slots=True)
class Report:
    """What came of a rerun.

    Attributes:
        original: id of the run that was run again.
        rerun: id of the new run.
        verdict: `reproduced`, `drifted` or `failed`; `changed` where params were changed on purpose.
        changes: params that were changed on purpose.
        equal: part -> how many things are equal in it.
        differences: everything else.
    """

    original: str
    rerun: str
    verdict: str
    changes: dict[str, str]
    equal: dict[str, int] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the documented shape of `gml rerun --json`."""
        return {
            "original": self.original,
            "rerun": self.rerun,
            "verdict": self.verdict,
            "set": dict(self.changes),
            "equal": dict(self.equal),
            "differences": [
                {"part": d.part, "key": d.key, "original": d.old, "rerun": d.new, "counts": d.counts}
                for d in self.differences
            ],
        }


def compare(
    reader: Reader,
    original: Run,
    rerun: Run,
    *,
    changes: Mapping[str, str],
    tolerances: Tolerances,
    exact: bool,
) -> Report:
    """Return how a rerun differs from its original.

    A difference of status, code, params, metrics or data counts, and a missing artifact. The bytes of
    artifacts count where `exact`: many formats have times in them. Environment and hardware are named and
    never count by themselves. `logs/` and `system/` metrics are not compared.

    Args:
        reader: has both runs.
        original: what was run again.
        rerun: what came out.
        changes: params that were changed on purpose: then differences are named and do not count.
        tolerances: how far metrics may be off.
        exact: demand equal digests of all artifacts.
    """
    report = Report(original.run_id, rerun.run_id, REPRODUCED, dict(changes))
    _status(report, original, rerun)
    _code(report, reader, original, rerun)
    _maps(report, "params", original.params, rerun.params, skip=changes)
    _metrics(report, original.metrics, rerun.metrics, tolerances)
    _artifacts(report, original, rerun, exact=exact)
    _data(report, original, rerun)
    needs = compare_surroundings(environment(reader, original), environment(reader, rerun))
    report.differences += [Difference(n.part, n.name, None, n.detail, counts=False) for n in needs]
    if changes:
        report.differences = [
            Difference(d.part, d.key, d.old, d.new, counts=False) for d in report.differences
        ]
    if _outcome(rerun) != _outcome(original) and rerun.status != "FINISHED":
        report.verdict = FAILED
    elif changes:
        report.verdict = CHANGED
    elif any(d.counts for d in report.differences):
        report.verdict = DRIFTED
    return report


def _outcome(run: Run) -> tuple[Any, ...]:
    # A script that started its run itself has no process section, and ended well if it says so.
    code = run.process.get("exit_code", 0 if run.status == "FINISHED" else None)
    return run.status, code, run.process.get("signal")


def _status(report: Report, original: Run, rerun: Run) -> None:
    old, new = _outcome(original), _outcome(rerun)
    if old == new:
        report.equal["status"] = 1
        return
    words = [" ".join(str(part) for part in outcome if part is not None) for outcome in (old, new)]
    report.differences.append(Difference("status", "status and exit code", words[0], words[1], counts=True))


def _code(report: Report, reader: Reader, original: Run, rerun: Run) -> None:
    old, new = original.source.get("tree"), rerun.source.get("tree")
    if old == new or old is None or new is None:
        report.equal["code"] = int(old == new and old is not None)
        return
    diff = code_diff(reader, original, rerun, patch=False)
    words = {"changed": ("", "changed"), "only_a": ("there", "not there"), "only_b": ("not there", "there")}
    found = [Difference("code", path, *words[side], counts=True) for side in words for path in diff[side]]
    report.differences += found or [Difference("code", "tree", old, new, counts=True)]


def _maps(
    report: Report, part: str, old: Mapping[str, Any], new: Mapping[str, Any], skip: Mapping[str, str]
) -> None:
    for key in sorted(old.keys() | new.keys()):
        if key in skip:
            continue
        if old.get(key) == new.get(key):
            report.equal[part] = report.equal.get(part, 0) + 1
        else:
            report.differences.append(Difference(part, key, old.get(key), new.get(key), counts=True))


def _metrics(
    report: Report, old: Mapping[str, MetricSummary], new: Mapping[str, MetricSummary], tolerances: Tolerances
) -> None:
    for key in sorted(old.keys() | new.keys()):
        if key.startswith(_OWN_METRICS) or tolerances.ignores(key):
            continue
        a, b = old.get(key), new.get(key)
        if a is None or b is None:
            values = None if a is None else a.last, None if b is None else b.last
            report.differences.append(Difference("metrics", key, *values, counts=True))
            continue
        for what, x, y in (("", a.last, b.last), ("min ", a.min, b.min), ("max ", a.max, b.max)):
            if not tolerances.fits(key, x, y):
                report.differences.append(Difference("metrics", f"{what}{key}", x, y, counts=True))
                break
        else:
            if a.count == b.count:
                report.equal["metrics"] = report.equal.get("metrics", 0) + 1
            else:
                report.differences.append(
                    Difference("metrics", f"points of {key}", a.count, b.count, counts=True)
                )


def _artifacts(report: Report, original: Run, rerun: Run, *, exact: bool) -> None:
    old = {k: v for k, v in original.artifacts.items() if not k.startswith(_OWN_ARTIFACTS)}
    new = {k: v for k, v in rerun.artifacts.items() if not k.startswith(_OWN_ARTIFACTS)}
    for name in sorted(old.keys() | new.keys()):
        a, b = old.get(name), new.get(name)
        if a is not None and b is not None and a.sha256 == b.sha256:
            report.equal["artifacts"] = report.equal.get("artifacts", 0) + 1
            continue
        digests = None if a is None else a.sha256, None if b is None else b.sha256
        counts = exact or b is None
        report.differences.append(Difference("artifacts", name, *digests, counts=counts))


def _data(report: Report, original: Run, rerun: Run) -> None:
    old = {name: facts["digest"] for name, facts in data_sets(original).items()}
    new = {name: facts["digest"] for name, facts in data_sets(rerun).items()}
    _maps(report, "data", old, new, skip={})
