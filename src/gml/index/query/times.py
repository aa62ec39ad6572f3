"""Durations, dates and relative times. No clock: what "now" is comes in as milliseconds.

A date or time stands for all of the span that it names: `'2026-06-01'` is the whole day, `'...T12:00'`
the whole minute. `=` asks for a time inside the span, `<` for one before it, `>` for one after it,
`<=` and `>=` include it. So `start_time <= '2026-06-01'` and `BETWEEN ... AND '2026-06-01'` include what
ran on that day, which is what people mean.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Final

from gml.index.query.ast import Day, Moment, Relative, Span

DAY_MS: Final = 86_400_000
MINUTE_MS: Final = 60_000
SECOND_MS: Final = 1_000
_UNITS: Final = {
    "w": 7 * DAY_MS,
    "d": DAY_MS,
    "h": 3_600_000,
    "m": MINUTE_MS,
    "s": SECOND_MS,
    "ms": 1,
}
# A thousand years: beyond that it is a slip, and milliseconds still fit into 64 bits.
MAX_MS: Final = 365_250 * DAY_MS

_DURATION = re.compile(r"(?:[0-9]{1,15}(?:\.[0-9]{1,15})?(?:ms|[wdhms]))+")
_PART = re.compile(r"([0-9.]+)(ms|[wdhms])")
_AGO = re.compile(
    r"([0-9]{1,15})\s+(week|day|hour|hr|minute|min|second|sec)s?\s+ago|([0-9.]{1,31}(?:ms|[wdhms]))\s+ago",
    re.IGNORECASE,
)
_NAMES: Final = {"week": "w", "day": "d", "hour": "h", "hr": "h", "minute": "m", "min": "m"}
_WORDS: Final[dict[str, Moment]] = {"now": Relative(0), "today": Day(0), "yesterday": Day(-1)}
_WHEN = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,9}))?)?\s?(Z|[+-][0-9]{2}:?[0-9]{2})?)?",
    re.IGNORECASE,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_FIRST_MS = (date.min.toordinal() - _EPOCH_DAY) * DAY_MS
_LAST_MS = (date.max.toordinal() + 1 - _EPOCH_DAY) * DAY_MS


def parse_duration(text: str) -> int:
    """Return a duration in milliseconds.

    Raises:
        ValueError: it is none; the message says what one looks like.

    Example:
        >>> parse_duration("2h30m")
        9000000
    """
    if not _DURATION.fullmatch(text):
        raise ValueError("a duration looks like 500ms, 90s, 15m, 2h30m, 7d or 2w")
    total = sum(float(amount) * _UNITS[unit] for amount, unit in _PART.findall(text))
    if total > MAX_MS:
        raise ValueError("a duration is at most a thousand years")
    return round(total)


def format_duration(ms: int) -> str:
    """Return milliseconds, zero or more, as `parse_duration` reads them.

    Example:
        >>> format_duration(9_000_000)
        '2h30m'
    """
    out = ""
    for unit, size in _UNITS.items():
        amount, ms = divmod(ms, size)
        if amount:
            out += f"{amount}{unit}"
    return out or "0s"


def parse_time(text: str, *, ago: bool = False) -> Moment:
    """Return the moment that a text names, relative ones not yet resolved.

    Args:
        text: `now`, `today`, `yesterday`, `-36h`, `2 weeks ago`, `2026-06-01`, `2026-06-01T12:00`
            (UTC, or with an offset such as `+02:00`).
        ago: whether a bare duration is time ago, as in `--since 2w`.

    Raises:
        ValueError: it is none of these; the message says what a time looks like.

    Example:
        >>> parse_time("2 weeks ago")
        Relative(offset=-1209600000)
    """
    word = text.strip()
    if word.lower() in _WORDS:
        return _WORDS[word.lower()]
    if word.startswith("-") and _DURATION.fullmatch(word, 1):
        return Relative(-parse_duration(word[1:]))
    if _DURATION.fullmatch(word):
        if ago:
            return Relative(-parse_duration(word))
        raise ValueError(f"'{word[:40]}' is a duration; '-{word[:40]}' is the time so long ago")
    past = _AGO.fullmatch(word)
    if past is not None:
        if past[3] is not None:
            return Relative(-parse_duration(past[3].lower()))
        name = past[2].lower()
        return Relative(-parse_duration(past[1] + _NAMES.get(name, "s")))
    when = _WHEN.fullmatch(word)
    if when is None:
        raise ValueError(
            "a time looks like '2026-06-01', '2026-06-01T12:00', '2026-06-01T12:00+02:00', -36h, "
            "'2 weeks ago', now, today or yesterday"
        )
    return _span(when)


def _span(when: re.Match[str]) -> Span:
    year, month, day, hour, minute, second, fraction, offset = when.groups()
    try:
        start = (date(int(year), int(month), int(day)).toordinal() - _EPOCH_DAY) * DAY_MS
    except ValueError:
        raise ValueError(f"{year}-{month}-{day} is not in the calendar") from None
    length = DAY_MS
    if hour is not None:
        if int(hour) > 23 or int(minute) > 59 or int(second or 0) > 59:
            raise ValueError("hours go to 23, minutes and seconds to 59")
        start += (int(hour) * 60 + int(minute)) * MINUTE_MS + int(second or 0) * SECOND_MS
        length = MINUTE_MS if second is None else SECOND_MS
        if fraction is not None:
            start += int(f"{fraction:0<3}"[:3])
            length = 1
        if offset is not None and offset.upper() != "Z":
            hours, minutes = int(offset[1:3]), int(offset[-2:])
            if hours > 23 or minutes > 59:
                raise ValueError("an offset from UTC looks like +02:00")
            ahead = (hours * 60 + minutes) * MINUTE_MS
            start += ahead if offset[0] == "-" else -ahead
    if not _FIRST_MS <= start <= start + length <= _LAST_MS:
        raise ValueError("times lie in the years 1 to 9999")
    return Span(start, start + length)


def format_time(moment: Moment) -> str:
    """Return a moment as `parse_time` reads it.

    Example:
        >>> format_time(Span(0, 60_000))
        '1970-01-01T00:00'
    """
    if isinstance(moment, Relative):
        return "now" if moment.offset == 0 else f"-{format_duration(-moment.offset)}"
    if isinstance(moment, Day):
        return "today" if moment.days == 0 else "yesterday"
    when = (_EPOCH + timedelta(milliseconds=moment.start)).replace(tzinfo=None)
    length = moment.end - moment.start
    if length == DAY_MS and moment.start % DAY_MS == 0:
        return when.date().isoformat()
    precision = {MINUTE_MS: "minutes", SECOND_MS: "seconds"}.get(length, "milliseconds")
    return when.isoformat("T", precision)


def resolve(moment: Moment, now_ms: int) -> tuple[int, int]:
    """Return a moment as milliseconds: the first inside it, and the first after it.

    Example:
        >>> resolve(Day(-1), now_ms=3 * 86_400_000 + 5)
        (172800000, 259200000)
    """
    if isinstance(moment, Span):
        return moment.start, moment.end
    if isinstance(moment, Relative):
        return now_ms + moment.offset, now_ms + moment.offset + 1
    start = now_ms - now_ms % DAY_MS + moment.days * DAY_MS
    return start, start + DAY_MS
