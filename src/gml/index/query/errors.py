"""What is wrong with a query, where, and what was probably meant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gml.domain.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

CARET_WIDTH: Final = 72
_SHOWN: Final = 40


class QueryError(UsageError):
    """A query, or an order, that has no meaning.

    Args:
        message: what is wrong, one line, without a trailing full stop.
        text: the whole query.
        position: index into `text` of the character where it went wrong.
        hint: what to write instead.

    Example:
        >>> print(QueryError("unknown attribute 'stauts'", "stauts = 'x'", 0))
        unknown attribute 'stauts' (at character 1)
    """

    def __init__(self, message: str, text: str, position: int, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.text = text
        self.position = position

    def __str__(self) -> str:
        where = f"{self.message} (at character {self.position + 1})"
        return f"{where}; {self.hint}" if self.hint else where

    def caret(self, width: int = CARET_WIDTH) -> str:
        """Return two lines: the query, cut to about `width` columns, and a ^ below the place.

        Example:
            >>> print(QueryError("unknown attribute", "a = 1 AND stauts = 'x'", 10).caret())
            a = 1 AND stauts = 'x'
                      ^
        """
        start = 0
        end = len(self.text)
        if end > width:
            start = max(0, min(self.position - width // 2, end - width))
            end = min(end, start + width)
        before = ("..." if start else "") + _plain(self.text[start : self.position])
        after = _plain(self.text[self.position : end]) + ("..." if end < len(self.text) else "")
        return f"{before}{after}\n{' ' * _columns(before)}^"


def shown(text: str) -> str:
    """Return text as a message quotes it: on one line and not too long.

    Example:
        >>> shown("a" * 100) == repr("a" * 40) + "..."
        True
    """
    return repr(text) if len(text) <= _SHOWN else repr(text[:_SHOWN]) + "..."


def suggest(word: str, names: Iterable[str]) -> str | None:
    """Return the name that was probably meant, None where nothing is near.

    The parser cannot know which metrics, params and tags exist. Whoever runs a query can, and says so
    with this where a key of `Query.fields()` is in no run.

    Example:
        >>> suggest("metrics.acu", ["metrics.auc", "metrics.loss"])
        'metrics.auc'
    """
    from difflib import get_close_matches

    known = {name.lower(): name for name in names}
    near = get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return known[near[0]] if near else None


def did_you_mean(word: str, names: Iterable[str], otherwise: str | None = None) -> str | None:
    """Return the hint `did you mean 'x'?`, or another one where nothing is near."""
    near = suggest(word, names)
    return otherwise if near is None else f"did you mean {near!r}?"


def _plain(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


def _columns(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(c) else 1 + (east_asian_width(c) in "WF") for c in text)
