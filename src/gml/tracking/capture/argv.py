"""Params from a command line, so that `gml log -- python train.py --lr 0.1` needs no code."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from gml.domain.errors import NotFoundError, UsageError
from gml.tracking.capture.command import parse_command
from gml.tracking.capture.keys import MAX_VALUE, clean_key, clean_value, is_number

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_OVERRIDE = re.compile(r"(\+{0,2}([A-Za-z_][\w.\-/@: ]*))=(.*)", re.DOTALL)
_FALSE = frozenset({"false", "no", "off", "0"})
_TRUE = frozenset({"true", "yes", "on", "1"})


class _Setting(NamedTuple):
    """One place of a command line that sets a param.

    Attributes:
        name: as it is written, without dashes.
        start: position of its first word.
        end: position after its last word.
        head: what stands before the value in the first word where both share one (`--lr=`, `+lr=`), else
            the option's own word.
        glued: whether head and value share a word.
        values: none for a flag.
    """

    name: str
    start: int
    end: int
    head: str
    glued: bool
    values: list[str]


def params_from_argv(argv: list[str]) -> dict[str, str]:
    """Return the params that a command line sets, in order of appearance.

    Read are the arguments after the script, whatever runs it (`python -m`, `torchrun`, `mpirun`,
    `uv run`, `bash`, `env`...); of an unknown program all its arguments. Taken are:

    - `--key value`, `--key=value`, `-k value`, and `key=value`, `+key=value` in the way of hydra;
    - `--flag` as "true", also `--no-flag` under its own name `no-flag`;
    - several numbers after one option (`--layers 64 32`), and repeated options, joined with a comma.

    A negative number is a value, not an option. Nothing after a bare `--` is read. Values of keys that
    look like secrets are `***`, see `gml.tracking.capture.keys.looks_secret`.

    Example:
        >>> params_from_argv(["python", "train.py", "--lr", "0.1", "--amp", "model.depth=4"])
        {'lr': '0.1', 'amp': 'true', 'model.depth': '4'}
    """
    found: dict[str, list[str]] = {}
    for setting in _settings(parse_command(argv).arguments):
        key = clean_key(setting.name)
        if key is not None:
            # A flag has no value that could be a secret.
            values = [clean_value(key, value) for value in setting.values] if setting.values else ["true"]
            found.setdefault(key, []).extend(values)
    return {key: ",".join(values)[:MAX_VALUE] for key, values in found.items()}


def with_param(argv: Sequence[str], key: str, value: str) -> list[str]:
    """Return a command line that sets a param to another value, in the way in which it was set.

    A list of values (`--layers 64 32`) takes a comma-separated text; an option that is repeated keeps its
    place and its first form; a flag is kept for `true` and taken away for `false`.

    Raises:
        NotFoundError: the command line does not set this param.
        UsageError: it is a flag, and the value is neither true nor false.

    Example:
        >>> with_param(["python", "train.py", "--lr=0.1", "--layers", "64", "32"], "layers", "8,4")
        ['python', 'train.py', '--lr=0.1', '--layers', '8', '4']
    """
    words = list(argv)
    arguments = parse_command(words).arguments
    first = len(words) - len(arguments)
    # `env -S` hides words within a word: there the arguments are no words of the command line.
    plain = words[first:] == arguments
    spots = [s for s in _settings(arguments) if clean_key(s.name) == key] if plain else []
    if not spots:
        raise NotFoundError(f"the command line does not set {key!r}")
    for spot in reversed(spots[1:]):
        del arguments[spot.start : spot.end]
    spot = spots[0]
    arguments[spot.start : spot.end] = _written(spot, spots, value)
    return words[:first] + arguments


def _written(spot: _Setting, spots: list[_Setting], value: str) -> list[str]:
    if not spot.values:
        if value.lower() not in _TRUE | _FALSE:
            raise UsageError(f"{spot.head} is a flag, it cannot be {value!r}", hint="use true or false")
        return [spot.head] if value.lower() in _TRUE else []
    if len(spots) > 1:
        parts = [[f"{spot.head}{v}"] if spot.glued else [spot.head, v] for v in value.split(",")]
        return [word for part in parts for word in part]
    if spot.glued:
        return [f"{spot.head}{value}"]
    values = value.split(",")
    several = len(spot.values) > 1 or (is_number(spot.values[0]) and all(map(is_number, values)))
    return [spot.head, *(values if several else [value])]


def _settings(words: list[str]) -> Iterator[_Setting]:
    position = 0
    while position < len(words):
        word = words[position]
        start = position
        position += 1
        if word == "--":
            return
        if _is_option(word):
            name, equals, value = word.lstrip("-").partition("=")
            values = [value] if equals else _values_at(words, position)
            position += 0 if equals else len(values)
            head = word[: len(word) - len(value)] if equals else word
            yield _Setting(name, start, position, head, bool(equals), values)
        elif (match := _OVERRIDE.fullmatch(word)) is not None and "//" not in match[2]:
            yield _Setting(match[2], start, position, f"{match[1]}=", True, [match[3]])


def _is_option(word: str) -> bool:
    return len(word) > 1 and word.startswith("-") and not is_number(word)


def _values_at(words: list[str], position: int) -> list[str]:
    """Return the words that belong to an option: one, or as many as are numbers, or none."""
    if position >= len(words) or _is_option(words[position]) or words[position] == "--":
        return []
    if _OVERRIDE.fullmatch(words[position]) is not None:
        # `--amp model.depth=4`: a flag and an assignment, as every parser of such lines reads it.
        return []
    end = position + 1
    if is_number(words[position]):
        while end < len(words) and is_number(words[end]):
            end += 1
    return words[position:end]
