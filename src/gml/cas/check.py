"""Checking the bytes of a stored file while they arrive, before it gets its name."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Protocol

from gml.cas.compression import Expander
from gml.cas.names import MAX_INDEX, Kind, StoredName, parse_index, parse_recipe
from gml.domain.errors import CorruptError, InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gml.cas.names import Entry


class Check(Protocol):
    """Takes all bytes of a stored file in order and says at the end whether they are right."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Take the next bytes.

        Raises:
            CorruptError: they are wrong already.
        """

    def finish(self) -> None:
        """Say that this was all.

        Raises:
            CorruptError: it was not what the name promises.
        """


def check_for(name: StoredName, entries: Iterable[Entry] | None = None) -> Check:
    """Return a check of the bytes that belong to a name.

    Args:
        name: the stored file.
        entries: of a pack, what its index says.

    Raises:
        InvalidValueError: it is a pack, and `entries` is missing.

    Example:
        >>> check = check_for(parse_name(name))
        >>> for piece in pieces:
        ...     check.update(piece)
        >>> check.finish()
    """
    if name.kind is Kind.BLOB:
        return _BlobCheck(name.digest)
    if name.kind is Kind.COMPRESSED:
        return _CompressedCheck(name.digest)
    if name.kind is Kind.PACK:
        if entries is None:
            raise InvalidValueError(f"pack {name.digest[:12]} cannot be checked without its index")
        return _PackCheck(name.digest, iter(entries))
    return _TextCheck(name)


def mismatch(name: str) -> CorruptError:
    """Return the error for a stored file that is not what its name promises."""
    return CorruptError(f"{name} does not match its digest", hint="delete it and put or pull it again")


class _BlobCheck:
    def __init__(self, digest: str) -> None:
        self._digest = digest
        self._sha = hashlib.sha256()

    def update(self, data: bytes | memoryview, /) -> None:
        self._sha.update(data)

    def finish(self) -> None:
        if self._sha.hexdigest() != self._digest:
            raise mismatch(f"blob {self._digest[:12]}")


class _CompressedCheck:
    def __init__(self, digest: str) -> None:
        self._digest = digest
        self._sha = hashlib.sha256()
        self._expander = Expander()

    def update(self, data: bytes | memoryview, /) -> None:
        for piece in self._expander.feed(data):
            self._sha.update(piece)

    def finish(self) -> None:
        if not self._expander.ended or self._sha.hexdigest() != self._digest:
            raise mismatch(f"blob {self._digest[:12]}")


class _PackCheck:
    def __init__(self, pack: str, entries: Iterator[Entry]) -> None:
        self._pack = pack
        self._entries = entries
        self._inner: Check | None = None
        self._left = 0
        self._next()

    def _next(self) -> None:
        """Go on to the next entry; empty ones are over at once."""
        while self._left == 0:
            if self._inner is not None:
                self._inner.finish()
            entry = next(self._entries, None)
            if entry is None:
                self._inner = None
                return
            self._left = entry.length
            plain = entry.length == entry.size
            self._inner = _BlobCheck(entry.digest) if plain else _CompressedCheck(entry.digest)

    def update(self, data: bytes | memoryview, /) -> None:
        view = memoryview(data)
        while view:
            if self._inner is None:
                raise mismatch(f"pack {self._pack[:12]}")
            piece = view[: self._left]
            self._inner.update(piece)
            self._left -= len(piece)
            view = view[len(piece) :]
            self._next()

    def finish(self) -> None:
        if self._inner is not None:
            raise mismatch(f"pack {self._pack[:12]}")


class _TextCheck:
    """An index or a recipe: small, checked as a whole."""

    def __init__(self, name: StoredName) -> None:
        self._name = name
        self._data = bytearray()

    def update(self, data: bytes | memoryview, /) -> None:
        self._data += data
        if len(self._data) > MAX_INDEX:
            raise CorruptError(f"{self._name.name} is longer than {MAX_INDEX} bytes")

    def finish(self) -> None:
        if self._name.kind is Kind.INDEX:
            parse_index(self._name.digest, bytes(self._data))
        else:
            parse_recipe(self._name.digest, bytes(self._data))
