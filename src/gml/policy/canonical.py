"""Canonical JSON: one spelling of each document, so that a digest and a signature mean one thing.

Sorted keys, one a line, indented by one blank, UTF-8, a newline at the end; no floats. Whoever reads
writes the value again and compares: duplicate keys, other spellings of a number or a text, blanks and
reordered keys all differ.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Final, NoReturn

from gml.policy.errors import RefusedError

MAX_BYTES: Final = 64 * 1024
MAX_DEPTH: Final = 8
MAX_INT: Final = 1 << 53
_TEXTS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_WORDS: Final = {None: "null", True: "true", False: "false"}
_text: Final = json.encoder.encode_basestring
_BRACKETS: Final = re.compile(rb"[\[\]{}]")


def encode(value: dict[str, Any]) -> bytes:
    r"""Return the canonical bytes of a document.

    Example:
        >>> encode({"b": 1, "a": "x"})
        b'{\n "a": "x",\n "b": 1\n}\n'
    """
    return (_write(value, "\n ") + "\n").encode()


def _write(value: Any, line: str) -> str:
    """Return the text of a value; `line` starts the next line within it.

    The standard library writes indented JSON several times slower, and each document that is read is written.
    """
    if isinstance(value, str):
        return _text(value)
    if value is None or value is True or value is False:
        return _WORDS[value]
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, dict):
        if not value:
            return "{}"
        parts = [f"{_text(key)}: {_write(value[key], line + ' ')}" for key in sorted(value)]
        return "{" + line + f",{line}".join(parts) + line[:-1] + "}"
    if isinstance(value, (list, tuple)):
        if not value:
            return "[]"
        return "[" + line + f",{line}".join(_write(item, line + " ") for item in value) + line[:-1] + "]"
    raise TypeError(f"{type(value).__name__} has no canonical form")


def digest(data: bytes) -> str:
    """Return the SHA-256 of some bytes, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def decode(data: bytes, where: str) -> dict[str, Any]:
    """Return the document that canonical bytes are.

    Args:
        data: the file.
        where: its path, for messages.

    Raises:
        RefusedError: too large, too deep, not JSON, or not in canonical form.
    """
    if len(data) > MAX_BYTES:
        raise RefusedError("size", f"{where} has {len(data)} bytes, the limit is {MAX_BYTES}")
    if _depth(data) > MAX_DEPTH:
        raise RefusedError("json", f"{where} is nested deeper than {MAX_DEPTH} levels")

    try:
        value = _DECODER.decode(data.decode("utf-8"))
    except _NumberError as error:
        raise RefusedError("json", f"{where} has {error}") from None
    except ValueError as error:
        raise RefusedError("json", f"{where} is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise RefusedError("json", f"{where} is not a JSON object")
    try:
        same = encode(value) == data
    except UnicodeEncodeError:
        same = False
    if not same:
        raise RefusedError("json", f"{where} is not in canonical form (duplicate keys, order or spelling)")
    return value


class _NumberError(ValueError):
    """A number that no record may have."""


def _refuse(token: str) -> NoReturn:
    raise _NumberError(f"the number {token[:20]}, only whole numbers are allowed")


def _whole(token: str) -> int:
    if len(token) > 17 or not -MAX_INT <= (number := int(token)) <= MAX_INT:
        raise _NumberError(f"a number of {len(token)} digits")
    return number


# One for all: making a decoder takes as long as reading a record.
_DECODER: Final = json.JSONDecoder(parse_float=_refuse, parse_constant=_refuse, parse_int=_whole)


def _depth(data: bytes) -> int:
    """Return how deep brackets are nested at most, without parsing: the parser would recurse."""
    count = data.count(b"{") + data.count(b"[")
    if count <= MAX_DEPTH:
        return count
    level = deepest = 0
    for bracket in _BRACKETS.findall(_TEXTS.sub(b"", data)):
        level += 1 if bracket in {b"{", b"["} else -1
        deepest = max(deepest, level)
    return deepest
