"""Writing packs: many blobs behind one another, with two syncs for all of them."""

from __future__ import annotations

import hashlib
import io
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

from gml.cas.names import Entry, Kind, dump_index, stored_name
from gml.fs import fsync_directory

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from pathlib import Path

    from gml.cas.staging import Names, Staging

PACK_TARGET: Final = 64 << 20
"""Bytes from which on a pack is closed: what a transfer repeats at most after a cut, and what one file of a
pack costs at most to fetch."""

_BUFFER: Final = 1 << 20
# Packs whose sync has not ended: more would only fill the memory of the system.
_UNSYNCED: Final = 3


class PackWriter:
    """Appends blobs to packs; nothing of it can be seen before `finish`, or before a pack is full.

    Args:
        staging: where to write.
        names: gets the names that are to be synced before anything is acknowledged.
        published: called with a pack and its entries after it is in place, from another thread.

    Example:
        >>> with PackWriter(staging, names, catalog.add_pack) as packs:
        ...     packs.add(digest, data, len(data))
        ...     packs.finish()
        >>> names.sync()
    """

    def __init__(
        self, staging: Staging, names: Names, published: Callable[[str, list[Entry]], object]
    ) -> None:
        self._staging = staging
        self._names = names
        self._published = published
        self._syncer = ThreadPoolExecutor(1, "gml-sync")
        self._waiting: list[Future[None]] = []
        self._path: Path | None = None
        self._out: io.BufferedWriter | None = None
        self._entries: list[Entry] = []
        self._end = 0
        self.written = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Throw away what is not finished."""
        self._syncer.shutdown(wait=True)
        if self._out is not None:
            _discard(self._path, self._out)

    def add(self, digest: str, data: bytes | memoryview, size: int) -> None:
        """Append a blob.

        Args:
            digest: its SHA-256.
            data: its bytes, or a zstd frame of them.
            size: its length.
        """
        if self._out is None:
            path, raw = self._staging.open()
            self._path, self._out = path, io.BufferedWriter(raw, _BUFFER)
        self._out.write(data)
        self._entries.append(Entry(digest, self._end, len(data), size))
        self._end += len(data)
        self.written += len(data)
        if self._end >= PACK_TARGET:
            self._close_pack()

    def finish(self) -> None:
        """Publish the last pack and wait until all are in place."""
        self._close_pack()
        while self._waiting:
            self._waiting.pop(0).result()

    def _close_pack(self) -> None:
        if self._out is None or self._path is None:
            return
        path, out, entries = self._path, self._out, self._entries
        self._path, self._out, self._entries, self._end = None, None, [], 0
        self._waiting.append(self._syncer.submit(self._publish, path, out, entries))
        while len(self._waiting) > _UNSYNCED:
            self._waiting.pop(0).result()

    def _publish(self, path: Path, out: io.BufferedWriter, entries: list[Entry]) -> None:
        try:
            out.flush()
            index = dump_index(entries)
            pack = hashlib.sha256(index).hexdigest()
            place = self._staging.root / stored_name(Kind.PACK, pack)
            self._staging.publish(path, out.raw, place)  # type: ignore[arg-type]
        except BaseException:
            _discard(path, out)
            raise
        out.close()
        # Whoever sees the index relies on the pack, so the pack's name comes first.
        fsync_directory(place.parent)
        self._staging.write(index, self._staging.root / stored_name(Kind.INDEX, pack))
        self._names.add(place)
        self._published(pack, entries)


def _discard(path: Path | None, out: io.BufferedWriter) -> None:
    with suppress(OSError):
        out.raw.close()
    with suppress(OSError, ValueError):
        out.close()
    if path is not None:
        with suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108 - quiet where it was renamed
