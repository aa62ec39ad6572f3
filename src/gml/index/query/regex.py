r"""Regular expressions that run in time linear in the text, for `~` and `!~`.

Why an own one: Python's `re` backtracks, so `(a+)+$` on thirty characters never ends; SQLite has no
regex at all; google-re2 is sound, but its wheels came months after Python 3.13 and 3.14 did, which would
hold the whole package back for one operator. All that is needed is yes or no, without groups or
positions, and for that the textbook construction is short: the pattern becomes a nondeterministic
automaton (Thompson), whose sets of states are followed and remembered as the states of a deterministic
one, built only as far as the texts ask for it. A known step is one dictionary look-up; an unknown one
visits each instruction at most once. Hence at most `(len(text) + 1) * size` visits for any text, where
`size` is limited to `MAX_SIZE`; `Regex.visits` counts them, and a test holds the bound.

Syntax, as in Python: characters, `.` (anything but a newline), `[a-z]`, `[^a-z]`, `\d \w \s \D \W \S`,
`^ $ \b \B` (`^` and `$`: begin and end of the whole text), `a|b`, `( )`, `(?: )`, `* + ? {3} {2,} {2,5}`
and their lazy forms (which mean the same for yes or no), `\n \t \r \f \v \0 \xhh \uhhhh`, and `(?i)` at the
front to ignore case. A pattern is searched for: it matches anywhere unless `^` and `$` say otherwise.
Refused, because they cannot be linear or have no use here: backreferences, look-around, named and
atomic groups.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from gml.index.query.regex_syntax import (
    BOUNDARY,
    CHARACTER,
    END,
    MATCH,
    SPLIT,
    START,
    Instruction,
    compile_pattern,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

# About how many numbers the remembered states may hold in all: some megabytes.
MAX_REMEMBERED: Final = 200_000
_CACHED: Final = 64

# What lies on one side of a position in the text.
_EDGE: Final = 0
_WORD: Final = 1
_OTHER: Final = 2


class _State(dict[str, "_State"]):
    """A state of the deterministic automaton: the steps known so far, by character.

    Attributes:
        places: instructions to go on from, before looking at what comes next.
        before: what the previous character was.
        at_end: whether the text may end here; None while unknown.
    """

    __slots__ = ("at_end", "before", "places")

    def __init__(self, places: frozenset[int], before: int) -> None:
        super().__init__()
        self.places = places
        self.before = before
        self.at_end: bool | None = None


class Regex:
    """A compiled pattern. It may be used by several threads.

    Args:
        pattern: see the module for the syntax.

    Raises:
        RegexError: the pattern is malformed, refused or too large; has the offset.

    Attributes:
        size: instructions of the automaton.
        visits: instructions visited since it was made, a measure of work done.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self._program: list[Instruction] = compile_pattern(pattern)
        self.size = len(self._program)
        self.visits = 0
        self._known = 0
        self._states: dict[tuple[frozenset[int], int], _State] = {}
        self._accept = _State(frozenset(), _EDGE)
        self._start = self._state(frozenset((0,)), _EDGE)

    def search(self, text: str) -> bool:
        """Whether the pattern occurs in the text.

        Example:
            >>> Regex("^v[0-9]+$").search("v12")
            True
        """
        state = self._start
        accept = self._accept
        for character in text:
            following = state.get(character)
            if following is None:
                following = self._step(state, character)
            if following is accept:
                return True
            state = following
        if state.at_end is None:
            state.at_end = self._closure(state, _EDGE) is None
        return state.at_end

    def _state(self, places: frozenset[int], before: int) -> _State:
        key = (places, before)
        found = self._states.get(key)
        if found is None:
            found = self._states[key] = _State(places, before)
        return found

    def _step(self, state: _State, character: str) -> _State:
        """Work out where a character leads and remember it, in bounded memory."""
        kind = _WORD if character.isalnum() or character == "_" else _OTHER
        reached = self._closure(state, kind)
        if reached is None:
            following = self._accept
        else:
            program = self._program
            places = {place + 1 for place in reached if program[place].accepts(character)}
            # The search may begin at every position.
            following = self._state(frozenset(places | {0}), kind)
        self._known += 1 + len(following.places)
        if self._known > MAX_REMEMBERED:
            # Other threads may still walk the old states; they stay valid, only forgotten.
            self._known = 0
            self._states = {}
            self._start = self._state(frozenset((0,)), _EDGE)
            following = following if following is self._accept else self._fresh(following)
        else:
            state[character] = following
        return following

    def _fresh(self, state: _State) -> _State:
        return self._state(state.places, state.before)

    def _closure(self, state: _State, after: int) -> list[int] | None:
        """Return the character instructions reachable without reading; None if a match is among them."""
        program = self._program
        before = state.before
        seen = bytearray(len(program))
        pending: list[int] = []
        _push(pending, seen, state.places)
        reached: list[int] = []
        while pending:
            place = pending.pop()
            self.visits += 1
            instruction = program[place]
            kind = instruction.kind
            if kind == CHARACTER:
                reached.append(place)
            elif kind == MATCH:
                return None
            elif kind == SPLIT:
                _push(pending, seen, instruction.targets)
            elif kind == START:
                if before == _EDGE:
                    _push(pending, seen, (place + 1,))
            elif kind == END:
                if after == _EDGE:
                    _push(pending, seen, (place + 1,))
            elif ((before == _WORD) != (after == _WORD)) == (kind == BOUNDARY):
                _push(pending, seen, (place + 1,))
        return reached


def _push(pending: list[int], seen: bytearray, places: Iterable[int]) -> None:
    for place in places:
        if not seen[place]:
            seen[place] = 1
            pending.append(place)


@lru_cache(maxsize=_CACHED)
def compiled(pattern: str) -> Regex:
    """Return the regex of a pattern, kept with what it has learned about texts.

    Raises:
        RegexError: see `Regex`.
    """
    return Regex(pattern)
