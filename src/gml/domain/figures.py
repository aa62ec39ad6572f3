"""Numbers, sizes and durations as people read them: the same in tables, reports and pages."""

from __future__ import annotations

import math


def number(value: float) -> str:
    """Return a metric value with five digits that count; whole numbers without a point.

    Example:
        >>> number(0.9100000001), number(12.0), number(float("nan"))
        ('0.91', '12', 'nan')
    """
    if math.isfinite(value) and float(value).is_integer() and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.5g}"


def duration(ms: int | None) -> str:
    """Return a length of time in milliseconds, cut to what counts; empty for None.

    Example:
        >>> duration(3_725_000), duration(850), duration(12_345), duration(None)
        ('1h02m', '0.8s', '12s', '')
    """
    if ms is None:
        return ""
    seconds = ms / 1000
    if seconds < 10:
        return f"{math.floor(seconds * 10) / 10:.1f}s"
    if seconds < 60:
        return f"{int(seconds)}s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours < 48 else f"{hours // 24}d{hours % 24:02d}h"


def size(count: int) -> str:
    """Return a number of bytes.

    Example:
        >>> size(512), size(1_500_000)
        ('512 B', '1.5 MB')
    """
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if value < 1000 or unit == "TB":
            break
    return f"{value:.1f} {unit}"
