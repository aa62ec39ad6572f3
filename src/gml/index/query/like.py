"""LIKE and ILIKE: `%` is any text, `_` any one character, nothing is an escape."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_CACHED: Final = 256


@lru_cache(maxsize=_CACHED)
def like(pattern: str, *, ignore_case: bool = False) -> Callable[[str], bool]:
    """Return the test of a LIKE pattern, or of an ILIKE pattern with `ignore_case`.

    ILIKE folds the case of pattern and text as Unicode has it. The text between two `%` has a fixed
    length, so the first place where it fits is the best one and nothing is ever tried twice: time is
    bounded by length of pattern x length of text, and is that of one search in practice.

    Example:
        >>> like("ris%_k")("risk"), like("RIS%", ignore_case=True)("risky")
        (False, True)
    """
    if ignore_case:
        folded = _compile(pattern.casefold())
        return lambda text: folded(text.casefold())
    return _compile(pattern)


def _compile(pattern: str) -> Callable[[str], bool]:
    pieces = pattern.split("%")
    searches = ["".join("." if c == "_" else re.escape(c) for c in piece) for piece in pieces]
    if len(pieces) == 1:
        whole = re.compile(searches[0], re.DOTALL)
        return lambda text: whole.fullmatch(text) is not None
    first = re.compile(searches[0], re.DOTALL)
    last = re.compile(searches[-1], re.DOTALL)
    tail = len(pieces[-1])
    middle = [re.compile(search, re.DOTALL) for search in searches[1:-1] if search]

    def test(text: str) -> bool:
        found = first.match(text)
        for piece in middle:
            if found is None:
                return False
            found = piece.search(text, found.end())
        if found is None:
            return False
        rest = len(text) - tail
        return rest >= found.end() and last.fullmatch(text, rest) is not None

    return test
