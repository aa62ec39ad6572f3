"""Metric values: summaries that can be combined, and numbers that JSON cannot say."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple


class Point(NamedTuple):
    """One logged value. `timestamp` is in milliseconds since the epoch."""

    step: int
    timestamp: int
    value: float


def number_to_json(value: float) -> float | str:
    """Return a float as JSON can carry it: NaN and infinities become text, as in MLflow's REST API."""
    if value - value == 0.0:
        return value
    if value != value:  # noqa: PLR0124  (the definition of NaN)
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def number_from_json(value: Any) -> float:
    """Inverse of `number_to_json`."""
    return float(value)


def _order(step: int, timestamp: int, value: float) -> tuple[int, int, bool, float]:
    nan = math.isnan(value)
    return (step, timestamp, not nan, 0.0 if nan else value)


@dataclass(slots=True)
class MetricSummary:
    """What `gml ls` shows of a metric: its last value, extremes and number of points.

    "Last" is the value of the greatest (step, timestamp, value), as in MLflow. Extremes leave NaN
    out unless there is nothing else.
    """

    last: float
    step: int
    timestamp: int
    min: float
    max: float
    count: int

    @classmethod
    def first(cls, step: int, timestamp: int, value: float) -> MetricSummary:
        """Return the summary of a single point."""
        return cls(value, step, timestamp, value, value, 1)

    def add(self, step: int, timestamp: int, value: float) -> None:
        """Take one more point into account."""
        self.count += 1
        if step > self.step or (
            step == self.step
            and _order(step, timestamp, value) >= _order(self.step, self.timestamp, self.last)
        ):
            self.last, self.step, self.timestamp = value, step, timestamp
        if not value >= self.min:
            self.min = self.min if math.isnan(value) else value
        if not value <= self.max:
            self.max = self.max if math.isnan(value) else value

    def combine(self, other: MetricSummary) -> MetricSummary:
        """Return the summary of both sets of points together."""
        late = max(self, other, key=lambda s: _order(s.step, s.timestamp, s.last))
        lows = [x for x in (self.min, other.min) if not math.isnan(x)] or [math.nan]
        highs = [x for x in (self.max, other.max) if not math.isnan(x)] or [math.nan]
        return MetricSummary(
            late.last, late.step, late.timestamp, min(lows), max(highs), self.count + other.count
        )

    def to_json(self) -> dict[str, Any]:
        """Return the ledger's form; a single point needs neither extremes nor count."""
        out: dict[str, Any] = {
            "last": number_to_json(self.last),
            "step": self.step,
            "timestamp": self.timestamp,
        }
        if self.count != 1:
            out["count"] = self.count
            out["max"] = number_to_json(self.max)
            out["min"] = number_to_json(self.min)
        return out

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> MetricSummary:
        """Inverse of `to_json`."""
        last = data["last"]
        if last.__class__ is not float:
            last = float(last)
        if "count" not in data:
            return cls(last, data["step"], data["timestamp"], last, last, 1)
        return cls(
            last,
            data["step"],
            data["timestamp"],
            float(data.get("min", last)),
            float(data.get("max", last)),
            data.get("count", 1),
        )
