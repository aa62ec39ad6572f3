"""One line a record: eight hexadecimal digits of CRC-32, a space, a JSON array, a newline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

import orjson

from gml.domain.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterable

FORMAT: Final = "gml-journal"
VERSION: Final = 1


def encode_line(event: list[Any]) -> bytes:
    """Return the line of one event."""
    body = orjson.dumps(event)
    return b"%08x %b\n" % (crc32(body), body)


def encode_lines(events: Iterable[list[Any]]) -> bytes:
    """Return the lines of several events, to be appended in one call."""
    return b"".join(map(encode_line, events))


def parse(data: bytes) -> tuple[list[list[Any]], int, int]:
    """Return the good events in `data`, the bytes consumed, and how many lines were damaged.

    A last line without newline is left for the next call (its writer may be at it, or died at it).
    A damaged line in between, such as the torn write of one process among several, is skipped.
    """
    end = data.rfind(b"\n") + 1
    good: list[bytes] = []
    bad = 0
    for line in data[:end].split(b"\n")[:-1]:
        body = line[9:]
        try:
            if int(line[:8], 16) == crc32(body) and line[8:9] == b" ":
                good.append(body)
                continue
        except ValueError:
            pass
        bad += 1
    if not good:
        return [], end, bad
    # One call of the C parser for the whole batch: four times the speed of one call a line.
    try:
        events = orjson.loads(b"[" + b",".join(good) + b"]")
    except orjson.JSONDecodeError:
        events = []
        for body in good:
            try:
                events.append(orjson.loads(body))
            except orjson.JSONDecodeError:
                bad += 1
    whole = [event for event in events if isinstance(event, list) and event]
    return whole, end, bad + len(events) - len(whole)


class NoHeaderError(FormatError):
    """The first line of a journal is missing or damaged; the rest may be sound."""


def check_header(event: list[Any], where: str) -> dict[str, Any]:
    """Return the facts in a journal's first line.

    Raises:
        NoHeaderError: it is not the first line of a journal.
        FormatError: written by a newer gml.
    """
    if len(event) < 3 or event[0] != FORMAT or not isinstance(event[2], dict):
        raise NoHeaderError(f"{where} does not begin with a journal header")
    if event[1] != VERSION:
        raise FormatError(
            f"{where} has journal format {event[1]}, this gml reads up to {VERSION}",
            hint="upgrade: pip install -U gitml",
        )
    facts: dict[str, Any] = event[2]
    return facts
