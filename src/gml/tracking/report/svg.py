"""Curves as SVG that needs no script, no font and no network."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Final

from gml.tracking.report.curves import thin
from gml.tracking.report.text import in_html, number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gml.ledger.history import Columns

WIDTH: Final = 460
HEIGHT: Final = 220
COLOURS: Final = 8
POINTS: Final = 400
HOVER: Final = 40
_HUGE: Final = sys.float_info.max
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 10, 10, 24


def chart(title: str, curves: Sequence[tuple[str, int, Columns]]) -> str:
    """Return one chart of a metric over its steps.

    Each curve is drawn through at most `POINTS` points, its extremes among them, with a gap where
    values are not finite; up to `HOVER` places show step and value under the pointer.

    Args:
        title: name of the metric.
        curves: (name of the run, number of its colour, columns sorted by step).
    """
    import numpy as np

    finite = [c[2][np.isfinite(c[2])] for _, _, c in curves]
    y = scale([v for values in finite if len(values) for v in (float(values.min()), float(values.max()))])
    x = scale([float(s) for _, _, c in curves if len(c[0]) for s in (c[0][0], c[0][-1])], whole=True)
    body = [_axes(x, y)]
    # The first run, which may be the champion, is drawn last, over the others.
    for name, colour, columns in reversed(curves):
        body.append(_curve(name, colour, columns, x, y))
    label = f'role="img" aria-label="{in_html(title, 200)}"'
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" {label}>{"".join(body)}</svg>'


class Axis:
    """A linear scale with round ticks.

    Attributes:
        low: value at its beginning.
        high: value at its end.
        ticks: values to be named.
    """

    def __init__(self, low: float, high: float, ticks: Sequence[float]) -> None:
        self.low = low
        self.high = high
        self.ticks = ticks

    def share(self, value: float) -> float:
        """Return where a value is, 0 at the beginning and 1 at the end."""
        # Halved, because the whole range of floats is wider than a float.
        reach = self.high / 2 - self.low / 2
        return (value / 2 - self.low / 2) / reach if reach > 0 else 0.5


def scale(values: Sequence[float], *, whole: bool = False) -> Axis:
    """Return the axis for values.

    Args:
        values: finite; none at all is an axis from 0 to 1.
        whole: ticks at whole numbers only, for steps.

    Example:
        >>> axis = scale([0.0, 0.93])
        >>> [round(tick, 2) for tick in axis.ticks]
        [0.0, 0.2, 0.4, 0.6, 0.8]
    """
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if low == high:
        # The neighbourhood of a constant, as wide as floats can tell apart.
        reach = 1.0 if whole else max(abs(low) * 0.1, 1e-300)
        low, high = max(low - reach, -_HUGE), min(high + reach, _HUGE)
    if not math.isfinite(high - low) or not high - low > 0:
        return Axis(low, high, (low, high))
    rough = (high - low) / 4.5
    power = 10.0 ** math.floor(math.log10(rough)) if rough > 1e-290 else 0.0
    if not power:
        return Axis(low, high, (low, high))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough)
    step = max(1.0, math.ceil(step)) if whole else step
    first = math.ceil(low / step)
    ticks = [tick * step for tick in range(first, first + 12) if tick * step <= high]
    return Axis(low, high, ticks or (low, high))


def _place(x: Axis, y: Axis, step: float, value: float) -> tuple[str, str]:
    across = _LEFT + x.share(step) * (WIDTH - _LEFT - _RIGHT)
    down = HEIGHT - _BOTTOM - y.share(value) * (HEIGHT - _TOP - _BOTTOM)
    return f"{across:.1f}", f"{down:.1f}"


def _axes(x: Axis, y: Axis) -> str:
    out = []
    for tick in y.ticks:
        _, down = _place(x, y, x.low, tick)
        out.append(f'<path class="grid" d="M{_LEFT} {down}H{WIDTH - _RIGHT}"/>')
        out.append(f'<text class="ylab" x="{_LEFT - 6}" y="{down}">{number(float(f"{tick:.10g}"))}</text>')
    for tick in x.ticks:
        across, _ = _place(x, y, tick, y.low)
        out.append(f'<text class="xlab" x="{across}" y="{HEIGHT - 8}">{_short(tick)}</text>')
    return "".join(out)


def _short(step: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(step) >= size:
            return f"{step / (1e3 if unit == 'k' else size):.6g}{unit}"
    return f"{step:g}"


def _curve(name: str, colour: int, columns: Columns, x: Axis, y: Axis) -> str:
    steps, _, values = columns
    kept = thin(values, POINTS)
    path: list[str] = []
    pen = "M"
    places = []
    for at in kept.tolist():
        value = float(values[at])
        if not math.isfinite(value):
            pen = "M"
            continue
        across, down = _place(x, y, float(steps[at]), value)
        path.append(f"{pen}{across} {down}")
        places.append((across, down, int(steps[at]), value))
        pen = "L"
    if len(places) == 1:
        path.append("h.1")  # a point of its own shows by its round cap
    who = in_html(name, 60)
    paint = f'class="c{colour % COLOURS}{" dash" if colour >= COLOURS else ""}"'
    out = [f'<g {paint}><path d="{"".join(path)}"><title>{who}</title></path>']
    every = max(1, -(-len(places) // HOVER))
    for across, down, step, value in places[::every]:
        hover = f"{who}: {number(value)} at step {step}"
        out.append(f'<circle cx="{across}" cy="{down}" r="4"><title>{hover}</title></circle>')
    return "".join(out) + "</g>"
