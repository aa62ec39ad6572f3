"""Streams in the shape that stores need them."""

from __future__ import annotations

import io
from itertools import chain
from typing import TYPE_CHECKING, BinaryIO

from gml.cas.port import CHUNK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def read_up_to(read: Callable[[int], bytes], limit: int) -> bytes:
    """Read until the end or until there are `limit` bytes or a few more."""
    pieces = []
    size = 0
    while size < limit and (piece := read(CHUNK)):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


class Joined:
    """What was read already, then the rest of a stream."""

    def __init__(self, head: bytes, read: Callable[[int], bytes]) -> None:
        self._kept = head
        self._at = 0
        self._read = read

    def readinto(self, view: memoryview) -> int:
        """Fill a buffer as far as possible and return how far, 0 at the end."""
        if self._at == len(self._kept):
            self._kept, self._at = self._read(min(len(view), CHUNK)), 0
        # Some streams give more than they were asked for.
        piece = memoryview(self._kept)[self._at : self._at + len(view)]
        self._at += len(piece)
        view[: len(piece)] = piece
        return len(piece)


def file_of(pieces: Iterator[bytes]) -> BinaryIO:
    """Return pieces as a file."""
    return io.BufferedReader(_Pieces(pieces), CHUNK)


def continued(head: bytes, rest: BinaryIO) -> BinaryIO:
    """Return what was read of a stream already, and then the rest of it, as one file."""
    return file_of(chain((head,), iter(lambda: rest.read(CHUNK), b"")))


class _Pieces(io.RawIOBase):
    """Pieces as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        super().__init__()
        self._pieces = pieces
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        if not self._rest:
            self._rest = next((piece for piece in self._pieces if piece), b"")
        piece = self._rest[: len(buffer)]
        self._rest = self._rest[len(piece) :]
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()
        super().close()
