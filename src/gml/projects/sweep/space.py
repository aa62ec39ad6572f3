"""What a sweep varies: ranges, choices and constants, written in one short line each."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import InvalidValueError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

_NUMBER: Final = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_RANGE: Final = re.compile(
    rf"(?P<log>log:)?(?P<low>{_NUMBER})\.\.(?P<high>{_NUMBER})(?:/(?P<step>{_NUMBER}))?"
)
_MAX_GRID: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several texts."""

    options: tuple[str, ...]

    def draw(self, random: Random) -> str:
        """Return one of them."""
        return random.choice(self.options)

    def grid(self) -> list[str]:
        """Return all of them."""
        return list(self.options)


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` to `high`, both included.

    Attributes:
        low: least.
        high: greatest.
        whole: only whole numbers.
        log: evenly spread on a logarithmic scale.
        step: distance between values, None for any.
    """

    low: float
    high: float
    whole: bool
    log: bool = False
    step: float | None = None

    def draw(self, random: Random) -> str:
        """Return a number as text."""
        if self.log:
            value = math.exp(random.uniform(math.log(self.low), math.log(self.high)))
            value = min(max(value, self.low), self.high)
            return str(round(value)) if self.whole else repr(value)
        if self.step is not None or self.whole:
            step = self.step or 1
            return self._text(self.low + step * random.randint(0, self._count(step) - 1))
        return repr(random.uniform(self.low, self.high))

    def grid(self) -> list[str]:
        """Return all numbers.

        Raises:
            UsageError: there are infinitely many.
        """
        step = self.step or (1 if self.whole and not self.log else None)
        if step is None:
            raise UsageError(
                f"a grid needs single values, not all of {self.low:g}..{self.high:g}",
                hint="write a step, such as 0..1/0.1, or a list",
            )
        return [self._text(self.low + step * number) for number in range(self._count(step))]

    def _count(self, step: float) -> int:
        return math.floor((self.high - self.low) / step + 1e-9) + 1

    def _text(self, value: float) -> str:
        return str(round(value)) if self.whole else repr(round(value, 12))


Dimension = Choice | Range


def parse_dimension(spec: Any, name: str) -> Dimension:
    """Read one dimension.

    `2..8` and `0.1..1` are ranges (whole numbers where both ends are), `log:1e-4..1e-1` one on a logarithmic
    scale, `0..1/0.25` one with a step; `a,b,c` and lists are choices; anything else is a constant.

    Raises:
        InvalidValueError: the ends are not in order, or a logarithmic range starts at or below 0.

    Example:
        >>> parse_dimension("2..8", "depth")
        Range(low=2.0, high=8.0, whole=True, log=False, step=None)
    """
    if isinstance(spec, list):
        if not spec or any(isinstance(item, (dict, list)) for item in spec):
            raise InvalidValueError(f"{name}: a list of single values was expected")
        return Choice(tuple(map(_text, spec)))
    text = _text(spec)
    match = _RANGE.fullmatch(text.strip())
    if match is None:
        if ".." in text:
            raise InvalidValueError(
                f"{name}: {text!r} is no range", hint="such as 2..8, log:1e-4..1e-1 or 0..1/0.1"
            )
        return Choice(tuple(part.strip() for part in text.split(",")) if "," in text else (text,))
    low, high = float(match["low"]), float(match["high"])
    step = float(match["step"]) if match["step"] else None
    log = match["log"] is not None
    if not low <= high or not math.isfinite(high - low):
        raise InvalidValueError(f"{name}: {text!r} does not go up")
    if log and (low <= 0 or step is not None):
        raise InvalidValueError(f"{name}: a logarithmic range starts above 0 and has no step")
    if step is not None and (step <= 0 or (high - low) / step > _MAX_GRID):
        raise InvalidValueError(f"{name}: {match['step']} is no step for {text!r}")
    whole = all(
        re.fullmatch(r"[+-]?\d+", part) for part in (match["low"], match["high"], match["step"] or "1")
    )
    return Range(low, high, whole, log, step)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def parse_space(specs: Mapping[str, Any]) -> dict[str, Dimension]:
    """Read all dimensions by name.

    Raises:
        InvalidValueError: one is malformed.
    """
    return {str(name): parse_dimension(spec, str(name)) for name, spec in specs.items()}


def grid_size(space: Mapping[str, Dimension]) -> int:
    """Return the number of points of a grid.

    Raises:
        UsageError: there are infinitely many, or more than a million.
    """
    size = 1
    for dimension in space.values():
        size *= len(dimension.grid())
    if size > _MAX_GRID:
        raise UsageError(f"the grid has {size} points", hint="use fewer values, or --sampler random")
    return size
