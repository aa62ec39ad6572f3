"""From the text of a regular expression to the program that `gml.index.query.regex` follows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    Accepts: TypeAlias = Callable[[str], bool]

MAX_SIZE: Final = 1_000
MAX_GROUPS: Final = 50
MAX_REPEAT: Final = 1_000

CHARACTER: Final = 0
MATCH: Final = 1
SPLIT: Final = 2
START: Final = 3
END: Final = 4
BOUNDARY: Final = 5
NO_BOUNDARY: Final = 6

_SIMPLE: Final = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "0": "\0", "a": "\a"}
_ASSERTIONS: Final = {"b": BOUNDARY, "B": NO_BOUNDARY, "A": START, "Z": END}
_COUNTS = re.compile(r"\{(?=[0-9,])([0-9]{0,9})(?:(,)([0-9]{0,9}))?\}")
_HEX: Final = {"x": 2, "u": 4}


class RegexError(ValueError):
    """A pattern that is malformed, too large, or not linear.

    Attributes:
        offset: index into the pattern.
    """

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


def _never(_: str) -> bool:
    return False


class Instruction(NamedTuple):
    """One step of the program; all but SPLIT and MATCH go on to the next.

    Attributes:
        kind: CHARACTER, MATCH, SPLIT, or what has to hold at a position.
        accepts: of a CHARACTER, which ones.
        targets: of a SPLIT, where to go on.
    """

    kind: int
    accepts: Accepts = _never
    targets: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Leaf:
    instruction: Instruction


@dataclass(frozen=True, slots=True)
class _Sequence:
    items: tuple[_Node, ...]


@dataclass(frozen=True, slots=True)
class _Choice:
    items: tuple[_Node, ...]


@dataclass(frozen=True, slots=True)
class _Repeat:
    item: _Node
    low: int
    high: int | None
    offset: int


_Node: TypeAlias = _Leaf | _Sequence | _Choice | _Repeat


def compile_pattern(pattern: str) -> list[Instruction]:
    """Return the program of a pattern; its last instruction is MATCH.

    Raises:
        RegexError: it is malformed, uses what is not offered, or is larger than `MAX_SIZE`.

    Example:
        >>> len(compile_pattern("ab?"))
        4
    """
    parser = _Parser(pattern)
    writer = _Writer()
    writer.write(parser.parse())
    return [*writer.program, Instruction(MATCH)]


class _Writer:
    def __init__(self) -> None:
        self.program: list[Instruction] = []
        self._visits = 0

    def write(self, node: _Node, offset: int = 0) -> None:
        self._visits += 1
        # Repeats of nothing write nothing, so the visits are counted as well.
        if len(self.program) > MAX_SIZE or self._visits > 10 * MAX_SIZE:
            raise RegexError(
                f"this pattern is too large: counts multiply, {MAX_SIZE} steps are the limit", offset
            )
        if isinstance(node, _Leaf):
            self.program.append(node.instruction)
        elif isinstance(node, _Sequence):
            for item in node.items:
                self.write(item, offset)
        elif isinstance(node, _Choice):
            self._choice(node, offset)
        else:
            for _ in range(node.low):
                self.write(node.item, node.offset)
            if node.high is None:
                self._star(node)
            else:
                for _ in range(node.high - node.low):
                    self._option(node)

    def _split(self) -> int:
        self.program.append(Instruction(SPLIT))
        return len(self.program) - 1

    def _point(self, place: int, *targets: int) -> None:
        self.program[place] = Instruction(SPLIT, targets=targets)

    def _choice(self, node: _Choice, offset: int) -> None:
        head = self._split()
        starts: list[int] = []
        ends: list[int] = []
        for item in node.items:
            starts.append(len(self.program))
            self.write(item, offset)
            ends.append(self._split())
        self._point(head, *starts)
        for place in ends:
            self._point(place, len(self.program))

    def _star(self, node: _Repeat) -> None:
        head = self._split()
        self.write(node.item, node.offset)
        back = self._split()
        self._point(back, head)
        self._point(head, head + 1, back + 1)

    def _option(self, node: _Repeat) -> None:
        head = self._split()
        self.write(node.item, node.offset)
        self._point(head, head + 1, len(self.program))


class _Parser:
    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0
        self.ignore_case = False
        if pattern.startswith("(?i)"):
            self.ignore_case = True
            self.at = 4

    def parse(self) -> _Node:
        node = self._choice(0)
        if self.at < len(self.pattern):
            raise RegexError("this ) closes nothing", self.at)
        return node

    def _peek(self) -> str:
        return self.pattern[self.at : self.at + 1]

    def _choice(self, depth: int) -> _Node:
        choices: list[_Node] = []
        items: list[_Node] = []
        while (character := self._peek()) not in {"", ")"}:
            if character == "|":
                self.at += 1
                choices.append(_Sequence(tuple(items)))
                items = []
            else:
                items.append(self._repeated(self._item(depth)))
        choices.append(_Sequence(tuple(items)))
        return choices[0] if len(choices) == 1 else _Choice(tuple(choices))

    def _repeated(self, item: _Node) -> _Node:
        offset = self.at
        character = self._peek()
        counts = _COUNTS.match(self.pattern, offset) if character == "{" else None
        if counts is not None:
            low = int(counts[1] or 0)
            high = low if counts[2] is None else int(counts[3]) if counts[3] else None
            if max(low, high or 0) > MAX_REPEAT or (high is not None and high < low):
                raise RegexError(f"a count is at most {MAX_REPEAT}, the smaller one first", offset)
            self.at = counts.end()
        elif character and character in "*+?":
            low, high = {"*": (0, None), "+": (1, None), "?": (0, 1)}[character]
            self.at += 1
        else:
            return item
        if self._peek() == "?":
            self.at += 1
        following = self._peek()
        if following and (following in "*+?" or _COUNTS.match(self.pattern, self.at)):
            raise RegexError("a repeat cannot be repeated; put it into ( )", self.at)
        return _Repeat(item, low, high, offset)

    def _item(self, depth: int) -> _Node:
        offset = self.at
        character = self.pattern[offset]
        self.at += 1
        if character == "(":
            return self._group(depth, offset)
        if character == "[":
            return self._leaf(self._class(offset))
        if character == "\\":
            return self._escaped(offset)
        if character in "*+?" or (character == "{" and _COUNTS.match(self.pattern, offset)):
            raise RegexError("there is nothing to repeat", offset)
        if character == "^":
            return _Leaf(Instruction(START))
        if character == "$":
            return _Leaf(Instruction(END))
        if character == ".":
            return self._leaf(lambda c: c != "\n")
        return self._leaf(character.__eq__)

    def _leaf(self, accepts: Accepts) -> _Leaf:
        if not self.ignore_case:
            return _Leaf(Instruction(CHARACTER, accepts))
        return _Leaf(Instruction(CHARACTER, lambda c: any(map(accepts, _forms(c)))))

    def _group(self, depth: int, offset: int) -> _Node:
        if depth == MAX_GROUPS:
            raise RegexError(f"groups may be nested {MAX_GROUPS} deep", offset)
        if self._peek() == "?":
            if not self.pattern.startswith("?:", self.at):
                raise RegexError("only ( ), (?: ) and a leading (?i) are offered", offset)
            self.at += 2
        node = self._choice(depth + 1)
        if self._peek() != ")":
            raise RegexError("this ( is never closed", offset)
        self.at += 1
        return node

    def _escaped(self, offset: int) -> _Node:
        letter = self._peek()
        if letter and letter in _ASSERTIONS:
            self.at += 1
            return _Leaf(Instruction(_ASSERTIONS[letter]))
        accepts = self._category()
        return self._leaf(accepts if accepts is not None else self._escape(offset).__eq__)

    def _category(self) -> Accepts | None:
        """Read the letter of a backslash and a category such as `d`; None when it is something else."""
        letter = self._peek()
        test = {"d": str.isdecimal, "w": _is_word, "s": str.isspace}.get(letter.lower())
        if test is None:
            return None
        self.at += 1
        return test if letter.islower() else lambda c: not test(c)

    def _escape(self, offset: int) -> str:
        """Read what follows a backslash and stands for one character."""
        letter = self._peek()
        self.at += 1
        if letter in _HEX:
            digits = self.pattern[self.at : self.at + _HEX[letter]]
            if len(digits) < _HEX[letter] or not re.fullmatch(r"[0-9a-fA-F]+", digits):
                raise RegexError(f"\\{letter} needs {_HEX[letter]} hexadecimal digits", offset)
            self.at += len(digits)
            return chr(int(digits, 16))
        if letter in _SIMPLE:
            return _SIMPLE[letter]
        if not letter:
            raise RegexError("the pattern ends in a backslash", offset)
        if letter.isdigit():
            raise RegexError("backreferences cannot be matched in linear time", offset)
        if letter.isalpha():
            raise RegexError(f"\\{letter} is not offered", offset)
        return letter

    def _class(self, offset: int) -> Accepts:
        negated = self._peek() == "^"
        self.at += negated
        tests: list[Accepts] = []
        ranges: list[tuple[str, str]] = []
        first = self.at
        while (character := self._peek()) != "]" or self.at == first:
            if not character:
                raise RegexError("this [ is never closed", offset)
            low = self._class_item(tests)
            if self._peek() == "-" and self.pattern[self.at + 1 : self.at + 2] not in {"", "]"}:
                start = self.at
                self.at += 1
                high = self._class_item(tests)
                if low is None or high is None or high < low:
                    raise RegexError("a range goes from a lower to a higher character", start)
                ranges.append((low, high))
            elif low is not None:
                ranges.append((low, low))
        self.at += 1
        return _class_test(tuple(ranges), tuple(tests), negated=negated, ignore_case=self.ignore_case)

    def _class_item(self, tests: list[Accepts]) -> str | None:
        offset = self.at
        character = self.pattern[offset]
        self.at += 1
        if character != "\\":
            return character
        category = self._category()
        if category is not None:
            tests.append(category)
            return None
        if self._peek() == "b":
            raise RegexError("\\b has no place in [ ]", offset)
        return self._escape(offset)


def _class_test(
    ranges: tuple[tuple[str, str], ...], tests: tuple[Accepts, ...], *, negated: bool, ignore_case: bool
) -> Accepts:
    def inside(character: str) -> bool:
        return any(low <= character <= high for low, high in ranges) or any(t(character) for t in tests)

    if not negated:
        return inside
    if ignore_case:
        # All forms must be outside; `_leaf` would be content with one.
        return lambda c: not any(map(inside, _forms(c)))
    return lambda c: not inside(c)


def _forms(character: str) -> tuple[str, ...]:
    # The upper case of some letters is two; those have no other form here.
    return (character, *(form for form in (character.lower(), character.upper()) if len(form) == 1))


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"
