"""ONNX files read as far as safety needs: which other files a model wants to read.

The protocol buffer encoding is walked by field numbers of onnx.proto; no onnx package is needed, so that
the check runs before any of its code does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# message -> field number -> message in it
_NESTED: Final[dict[str, dict[int, str]]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_EXTERNAL_DATA: Final = 13
_MAX_DEPTH: Final = 64


class WireError(ValueError):
    """Bytes that are not a protocol buffer."""


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise WireError
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _fields(data: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        start = at
        if kind == _VARINT:
            _, at = _varint(data, at)
        elif kind == _FIXED64:
            at += 8
        elif kind == _FIXED32:
            at += 4
        elif kind == _BYTES:
            length, start = _varint(data, at)
            at = start + length
        else:
            raise WireError
        if number == 0 or at > len(data):
            raise WireError
        yield number, kind, data[start:at]


def looks_like_model(data: bytes) -> bool:
    """Whether bytes are an ONNX model: a protocol buffer with a version and a graph."""
    seen = set()
    try:
        for number, kind, value in _fields(memoryview(data)):
            if number > 50 or (number in {7, 8} and kind != _BYTES) or (number == 1 and kind != _VARINT):
                return False
            if number == 7:
                next(_fields(value), None)
            seen.add(number)
    except WireError:
        return False
    return {1, 7} <= seen


def external_locations(data: bytes) -> list[str]:
    """Return the locations of external data that any tensor of a model names.

    Raises:
        WireError: the bytes are not an ONNX model, or too deeply nested.
    """
    return sorted(set(_external(memoryview(data), "model", 0)))


def _external(data: memoryview, message: str, depth: int) -> Iterator[str]:
    if depth > _MAX_DEPTH:
        raise WireError
    nested = _NESTED[message]
    for number, kind, value in _fields(data):
        if kind != _BYTES:
            continue
        if message == "tensor" and number == _EXTERNAL_DATA:
            entry = {n: bytes(v).decode("utf-8", "replace") for n, k, v in _fields(value) if k == _BYTES}
            if entry.get(1) == "location":
                yield entry.get(2, "")
        elif number in nested:
            yield from _external(value, nested[number], depth + 1)
