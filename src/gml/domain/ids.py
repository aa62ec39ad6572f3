"""Identifiers of runs, experiments and sessions.

Run ids are UUIDv7 (RFC 9562) written as 32 lowercase hexadecimal digits: the first 48 bits are
milliseconds since the epoch, so ids sort by creation and new runs touch only the newest directories
of the ledger. Nothing here reads a clock or a random source; the caller passes both in.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from gml.domain.errors import InvalidValueError

RUN_ID: Final = re.compile(r"[a-zA-Z0-9][\w-]{0,255}", re.ASCII)
EXPERIMENT_ID: Final = re.compile(r"[a-zA-Z0-9][\w-]{0,63}", re.ASCII)
DEFAULT_EXPERIMENT: Final = "Default"
DEFAULT_EXPERIMENT_ID: Final = "0"
SHORT_DIGITS: Final = 8

_HEX32 = re.compile(r"[0-9a-f]{32}")
_VERSION_AT = 12
_MAX_MS = (1 << 48) - 1


def new_run_id(now_ms: int, entropy: bytes, *, after: str | None = None) -> str:
    """Return a new run id that sorts after `after`, even where the clock was set back.

    Args:
        now_ms: milliseconds since the epoch.
        entropy: 10 random bytes.
        after: the newest id known, if there is one.

    Example:
        >>> new_run_id(0x0198_3C1F_2AB4, bytes(10))
        '01983c1f2ab470008000000000000000'
        >>> new_run_id(1, bytes(10), after="01983c1f2ab470008000000000000000")[:12]
        '01983c1f2ab5'
    """
    ms = max(0, min(now_ms, _MAX_MS))
    if after is not None and is_time_ordered(after):
        # However far the clocks are apart: order is never wall-clock time.
        ms = min(max(ms, id_time(after) + 1), _MAX_MS)
    tail = int.from_bytes(entropy[:10])
    rand_a = tail >> 68
    rand_b = tail & ((1 << 62) - 1)
    value = ms << 80 | 0x7 << 76 | rand_a << 64 | 0b10 << 62 | rand_b
    return f"{value:032x}"


def is_time_ordered(run_id: str) -> bool:
    """Whether the id carries its creation time (UUIDv7); imported ids often do not."""
    return _HEX32.fullmatch(run_id) is not None and run_id[_VERSION_AT] == "7"


def id_time(run_id: str) -> int:
    """Return the milliseconds since the epoch that a time-ordered id carries."""
    return int(run_id[:12], 16)


def check_run_id(run_id: str) -> str:
    """Return the id unchanged, or raise InvalidValueError when it can not be one."""
    if not isinstance(run_id, str) or not RUN_ID.fullmatch(run_id):
        raise InvalidValueError(
            f"{run_id!r} is not a run id",
            hint="run ids have letters, digits, _ and -, start with a letter or digit, at most 256",
        )
    return run_id


def short_id(run_id: str) -> str:
    """Return the digits that tell a run from others at a glance: the random end of its id."""
    return run_id[-SHORT_DIGITS:]


def experiment_id(name: str, attempt: int = 0) -> str:
    """Return the decimal id that an experiment name has in every clone.

    Args:
        name: the experiment's name; `Default` is always `0`.
        attempt: raised by one for each earlier id of that name whose experiment was renamed since.

    Example:
        >>> experiment_id("Default")
        '0'
        >>> experiment_id("churn") == experiment_id("churn")
        True
    """
    if name == DEFAULT_EXPERIMENT and attempt == 0:
        return DEFAULT_EXPERIMENT_ID
    text = name if attempt == 0 else f"{name}\n{attempt}"
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
    return str(10**17 + number % (9 * 10**17))
