"""Putting large files: read, hash, cut, compress and write at the same time, in bounded memory."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gml.cas.chunking import MAX_CHUNK, MIN_CHUNK, Cutter
from gml.cas.compression import compress
from gml.cas.names import MAX_INDEX, Kind, dump_recipe
from gml.cas.port import Blob
from gml.cas.shelf import Reliance, refresh_age
from gml.domain.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from gml.cas.packs import PackWriter
    from gml.cas.shelf import Shelf
    from gml.cas.staging import Names

_READ: Final = 4 << 20
_BUFFERS: Final = 3
# Chunks that one task hashes: few enough that both cores have work from each buffer.
_BATCH: Final = 4
# Chunks of a recipe that can be read again: a line has at most 73 bytes.
_MOST: Final = MAX_INDEX // 80
_LARGEST_FACTOR: Final = 64


def chunk_factor(size: int) -> int:
    """Return by how much the chunks of a file must be larger than usual, so that its recipe can be read.

    Example:
        >>> chunk_factor(100 << 30), chunk_factor(1 << 40)
        (1, 16)
    """
    factor = 1
    while size > _MOST * MIN_CHUNK * factor and factor < _LARGEST_FACTOR:
        factor *= 2
    return factor


@dataclass(slots=True)
class _Chunk:
    digest: str
    size: int
    stored: bytes | memoryview | None


@dataclass(slots=True)
class _Piece:
    """A buffer whose chunks are being hashed."""

    buffer: bytearray
    whole: Future[None]
    batches: list[Future[list[_Chunk]]] = field(default_factory=list)


class LargePut:
    """One put of a large file.

    Args:
        shelf: the store.
        names: gets the names that are to be synced before the put is acknowledged.
        packs: where new chunks go; finished by this put.
        size: length of the file, as far as it is known.
    """

    def __init__(self, shelf: Shelf, names: Names, packs: PackWriter, size: int = 0) -> None:
        self._shelf = shelf
        self._names = names
        self._packs = packs
        self._reliance = Reliance(shelf, names)
        self._whole = hashlib.sha256()
        self._chunks: list[tuple[str, int]] = []
        self._here: set[str] = set()
        self._factor = chunk_factor(size)
        self._free = [bytearray(_READ + MAX_CHUNK * self._factor) for _ in range(_BUFFERS)]
        self._pending: deque[_Piece] = deque()

    def put(
        self,
        readinto: Callable[[memoryview], int],
        progress: Callable[[int], object] | None,
        check: Callable[[int], object] | None,
    ) -> Blob:
        """Store everything that `readinto` gives.

        The names are not yet durable; nothing may be acknowledged before `Names.sync`.

        Args:
            readinto: fills a buffer as far as it can and says how far, 0 at the end.
            progress: called with the number of bytes after each read.
            check: called at the end with the number of all bytes, before anything can be found.

        Raises:
            OSError: from the storage.
        """
        workers = max(2, os.cpu_count() or 1)
        with ThreadPoolExecutor(1, "gml-sha") as whole, ThreadPoolExecutor(workers, "gml-chunk") as pool:
            try:
                size = self._read(readinto, progress, whole, pool)
            except BaseException:
                whole.shutdown(wait=False, cancel_futures=True)
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        if check is not None:
            check(size)
        digest = self._whole.hexdigest()
        self._packs.finish()
        self._publish(digest, size)
        return Blob(digest, size)

    def _read(
        self,
        readinto: Callable[[memoryview], int],
        progress: Callable[[int], object] | None,
        whole: ThreadPoolExecutor,
        pool: ThreadPoolExecutor,
    ) -> int:
        cutter = Cutter(self._factor)
        carry = b""
        size = 0
        final = False
        while not final:
            if not self._free:
                self._complete()
            buffer = self._free.pop()
            buffer[: len(carry)] = carry
            with memoryview(buffer) as view:
                count = _fill(readinto, view[len(carry) : len(carry) + _READ], progress)
            end = len(carry) + count
            final = count < _READ
            size += count
            data = memoryview(buffer)[:end]
            piece = _Piece(buffer, whole.submit(self._whole.update, data[len(carry) :]))
            ends = cutter.cuts(data, final=final)
            starts = [0, *ends[:-1]]
            for at in range(0, len(ends), _BATCH):
                bounds = list(zip(starts[at : at + _BATCH], ends[at : at + _BATCH], strict=True))
                piece.batches.append(pool.submit(self._digest, data, bounds))
            carry = bytes(data[ends[-1] if ends else 0 :])
            self._pending.append(piece)
        while self._pending:
            self._complete()
        return size

    def _digest(self, data: memoryview, bounds: list[tuple[int, int]]) -> list[_Chunk]:
        """Hash chunks, and compress those that are new."""
        views = [data[start:end] for start, end in bounds]
        digests = [hashlib.sha256(view).hexdigest() for view in views]
        known = self._reliance.on_blobs(digest for digest in digests if digest not in self._here)
        chunks = []
        for digest, view in zip(digests, views, strict=True):
            if digest in self._here or known.get(digest) == len(view):
                chunks.append(_Chunk(digest, len(view), None))
            else:
                chunks.append(_Chunk(digest, len(view), compress(view) or view))
        return chunks

    def _complete(self) -> None:
        """Write the new chunks of the oldest buffer, and take it back."""
        piece = self._pending.popleft()
        for batch in piece.batches:
            for chunk in batch.result():
                if len(self._chunks) == _MOST:
                    raise StorageError(
                        "a file has too many parts to be stored", hint="store it as several files"
                    )
                self._chunks.append((chunk.digest, chunk.size))
                if chunk.stored is not None and chunk.digest not in self._here:
                    self._here.add(chunk.digest)
                    self._packs.add(chunk.digest, chunk.stored, chunk.size)
        piece.whole.result()
        self._free.append(piece.buffer)

    def _publish(self, digest: str, size: int) -> None:
        path = self._shelf.path(Kind.RECIPE, digest)
        if self._reliance.on_recipe(digest) != size:
            self._names.sync()
            self._shelf.staging.write(dump_recipe(size, self._chunks), path)
        loose = self._shelf.loose(digest)
        if loose is not None and not loose.compressed and loose.length != size:
            # It would be found before the recipe.
            loose.path.unlink(missing_ok=True)
        self._names.add(path)
        refresh_age(path)
        self._shelf.catalog.remember_recipe(digest, self._shelf.recipe_stamp(digest))


def _fill(
    readinto: Callable[[memoryview], int], view: memoryview, progress: Callable[[int], object] | None
) -> int:
    """Read until a buffer is full or the source ends; return how far."""
    done = 0
    while done < len(view):
        count = readinto(view[done:])
        if not count:
            break
        done += count
        if progress is not None:
            progress(count)
    return done
