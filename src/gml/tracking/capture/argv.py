"""Params from a command line, so that `gml log -- python train.py --lr 0.1` needs no code."""

from __future__ import annotations

import re

from gml.tracking.capture.command import parse_command
from gml.tracking.capture.keys import MAX_VALUE, clean_key, clean_value, is_number

_OVERRIDE = re.compile(r"\+{0,2}([A-Za-z_][\w.\-/@: ]*)=(.*)", re.DOTALL)


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
    words = parse_command(argv).arguments
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if word == "--":
            break
        if _is_option(word):
            name, equals, value = word.lstrip("-").partition("=")
            values = [value] if equals else _values_at(words, position)
            position += 0 if equals else len(values)
            _add(found, name, values)
        elif (match := _OVERRIDE.fullmatch(word)) is not None and "//" not in match[1]:
            _add(found, match[1], [match[2]])
    return {key: ",".join(values)[:MAX_VALUE] for key, values in found.items()}


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


def _add(found: dict[str, list[str]], name: str, values: list[str]) -> None:
    key = clean_key(name)
    if key is None:
        return
    # A flag has no value that could be a secret.
    fit = [clean_value(key, value) for value in values] if values else ["true"]
    found.setdefault(key, []).extend(fit)
