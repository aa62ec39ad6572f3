"""Reading blobs of a local store: pieces in order, read ahead on all cores, never handed out unverified."""

from __future__ import annotations

import hashlib
import io
import os
from bisect import bisect_right
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from gml.cas.check import mismatch
from gml.cas.compression import Expander, expand
from gml.cas.names import Kind
from gml.cas.port import CHUNK
from gml.cas.shelf import frame_size
from gml.cas.transfer import missing, storage_errors, write_all
from gml.domain.errors import CorruptError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from pathlib import Path

    from gml.cas.shelf import Shelf

_EXTENT: Final = 2 << 20
_SYNC_EVERY: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive bytes of a blob and where they are.

    Attributes:
        path: the file that holds them.
        offset: where they begin in it.
        length: how many bytes they take there.
        size: how many they are; other than `length` where they are a zstd frame.
        digest: their SHA-256, where it is known.
    """

    path: Path
    offset: int
    length: int
    size: int
    digest: str | None


@dataclass(frozen=True, slots=True)
class Located:
    """A blob and where it is.

    Attributes:
        digest: its SHA-256.
        size: its length, -1 where only reading it tells.
        parts: its bytes, in order.
        recipe: whether it is put together from chunks.
    """

    digest: str
    size: int
    parts: tuple[Part, ...]
    recipe: bool = False


def locate(shelf: Shelf, digest: str) -> Located:
    """Return where a blob is.

    Raises:
        NotFoundError: it is not here, or a chunk of it is not.
        CorruptError: its recipe is damaged.
        OSError: from the storage.
    """
    found = _locate(shelf, digest)
    if found is None:
        # Somebody else may have written it since we last looked.
        shelf.catalog.refresh()
        found = _locate(shelf, digest)
    if found is None:
        raise missing(digest, str(shelf.root))
    return found


def _locate(shelf: Shelf, digest: str) -> Located | None:
    loose = shelf.loose(digest)
    if loose is not None:
        size = loose.length
        if loose.compressed:
            known = frame_size(loose.path)
            size = -1 if known is None else known
        return Located(digest, size, (Part(loose.path, 0, loose.length, size, digest),))
    place = shelf.place(digest)
    if place is not None:
        entry = place.entry
        path = shelf.path(Kind.PACK, place.pack)
        return Located(digest, entry.size, (Part(path, entry.offset, entry.length, entry.size, digest),))
    recipe = shelf.recipe(digest)
    if recipe is None:
        return None
    return Located(digest, recipe.size, tuple(_chunks(shelf, recipe.digest, recipe.chunks)), recipe=True)


def _chunks(shelf: Shelf, digest: str, chunks: tuple[tuple[str, int], ...]) -> Iterator[Part]:
    places = shelf.places(chunk for chunk, _ in chunks)
    if any(chunk not in places for chunk, _ in chunks):
        shelf.catalog.refresh()
        places = shelf.places(chunk for chunk, _ in chunks)
    for chunk, size in chunks:
        place = places.get(chunk)
        if place is not None:
            entry = place.entry
            found = Part(
                shelf.path(Kind.PACK, place.pack), entry.offset, entry.length, entry.size, entry.digest
            )
        else:
            loose = shelf.loose(chunk)
            if loose is None:
                raise NotFoundError(
                    f"a part of blob {digest[:12]} ({chunk[:12]}) is not in {shelf.root}",
                    hint="gml artifacts verify says which runs need it",
                )
            known = frame_size(loose.path) if loose.compressed else loose.length
            found = Part(loose.path, 0, loose.length, -1 if known is None else known, chunk)
        if found.size != size:
            raise mismatch(f"blob {digest[:12]}")
        yield found


def stored_bytes(part: Part) -> bytes:
    """Return the bytes of a part as they are stored; fewer where the file is shorter."""
    pieces = []
    done = 0
    descriptor = os.open(part.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while done < part.length and (piece := os.pread(descriptor, part.length - done, part.offset + done)):
            pieces.append(piece)
            done += len(piece)
    finally:
        os.close(descriptor)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def part_content(part: Part, *, check: bool) -> bytes:
    """Return the content of a part, expanded.

    Raises:
        CorruptError: it is shorter than it must be, is no frame, or (with `check`) does not match.
    """
    data = stored_bytes(part)
    label = f"blob {part.digest[:12]}" if part.digest else part.path.name
    if len(data) != part.length:
        raise mismatch(label)
    if part.length != part.size:
        try:
            data = expand(data, part.size)
        except CorruptError as error:
            raise mismatch(label) from error
    if check and part.digest and hashlib.sha256(data).hexdigest() != part.digest:
        raise mismatch(label)
    return data


def extents(parts: tuple[Part, ...]) -> list[Part]:
    """Return parts as reads of a good size: neighbours joined, long plain ones split."""
    joined: list[Part] = []
    for part in parts:
        plain = part.length == part.size
        last = joined[-1] if joined else None
        if (
            plain
            and last is not None
            and last.length == last.size
            and last.path == part.path
            and last.offset + last.length == part.offset
            and last.length + part.length <= _EXTENT
        ):
            length = last.length + part.length
            joined[-1] = Part(part.path, last.offset, length, length, None)
        elif plain and part.length > _EXTENT:
            for start in range(0, part.length, _EXTENT):
                length = min(_EXTENT, part.length - start)
                joined.append(Part(part.path, part.offset + start, length, length, None))
        else:
            joined.append(part)
    return joined


def contents(located: Located) -> Iterator[bytes]:
    """Yield the bytes of a blob in order, read ahead, not verified as a whole.

    Raises:
        CorruptError: something is shorter than it must be, or no frame.
        OSError: from the storage.
    """
    first = located.parts[0] if located.parts else None
    if first is not None and first.length != first.size and (first.size < 0 or first.size > 4 * _EXTENT):
        yield from _expanded(first)
        return
    reads = extents(located.parts)
    if len(reads) <= 1:
        # Threads cost more than a small file.
        for part in reads:
            yield part_content(part, check=False)
        return
    workers = max(2, os.cpu_count() or 1)
    pool = ThreadPoolExecutor(workers, "gml-read")
    waiting: deque[Future[bytes]] = deque()
    try:
        for part in reads:
            waiting.append(pool.submit(part_content, part, check=False))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _expanded(part: Part) -> Iterator[bytes]:
    """Yield the content of a compressed blob of unknown or large size, in bounded memory."""
    expander = Expander()
    with part.path.open("rb", buffering=0) as file:
        while data := file.read(CHUNK):
            try:
                yield from expander.feed(data)
            except CorruptError as error:
                raise mismatch(f"blob {part.path.stem[:12]}") from error
    if not expander.ended:
        raise mismatch(f"blob {part.path.stem[:12]}")


def copy_out(located: Located, out: io.FileIO | None, progress: Callable[[int], object] | None = None) -> int:
    """Write a blob to a file (or nowhere), hashing it on another core meanwhile.

    Returns:
        Its length.

    Raises:
        CorruptError: it does not match its digest; what was written is not to be used.
        OSError: from the storage.
    """
    sha = hashlib.sha256()
    size = 0
    synced = 0
    with ThreadPoolExecutor(1, "gml-sha") as hasher, ThreadPoolExecutor(1, "gml-sync") as syncer:
        waiting: deque[Future[None]] = deque()
        syncs: list[Future[None]] = []
        for piece in contents(located):
            waiting.append(hasher.submit(sha.update, piece))
            size += len(piece)
            if out is not None:
                write_all(out, piece)
                if size - synced >= _SYNC_EVERY:
                    synced = size
                    syncs.append(syncer.submit(os.fdatasync, out.fileno()))
            if len(waiting) > 3:
                waiting.popleft().result()
            if progress is not None:
                progress(len(piece))
    for sync in syncs:
        sync.result()
    if sha.hexdigest() != located.digest:
        raise _name_damage(located)
    return size


def _name_damage(located: Located) -> CorruptError:
    """Return the error for a blob that does not match, saying which part of it is damaged."""
    if len(located.parts) > 1:
        for part in located.parts:
            try:
                part_content(part, check=True)
            except CorruptError as error:
                return CorruptError(f"a part of blob {located.digest[:12]}: {error.message}", hint=error.hint)
    return mismatch(f"blob {located.digest[:12]}")


class ChunkReader(io.RawIOBase):
    """A blob made of chunks as a file that can be seeked; every chunk is verified when it is read.

    A recipe that was never read through is read and hashed as a whole before the first jump; when it
    is read in order, its last bytes are handed out only if all of them match the digest.

    Args:
        located: the blob.
        place: the store, for messages.
        verified: whether the recipe is known to give this blob.
        on_verified: called when that was found out.
    """

    def __init__(
        self, located: Located, place: str, *, verified: bool, on_verified: Callable[[], object]
    ) -> None:
        super().__init__()
        self._located = located
        self._place = place
        self._verified = verified
        self._on_verified = on_verified
        self._ends = list(accumulate(part.size for part in located.parts))
        self._sha = hashlib.sha256()
        self._hashed = 0
        self._position = 0
        self._current: tuple[int, bytes] = (-1, b"")

    def readable(self) -> bool:
        """Whether it can be read: yes."""
        return True

    def seekable(self) -> bool:
        """Whether it can be seeked: yes."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Change the position; nothing is read yet."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._located.size}[whence]
        if base + offset < 0:
            raise ValueError(f"negative seek position {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill a buffer with verified bytes, at most to the end of a chunk."""
        if self._position >= self._located.size or not len(buffer):
            return 0
        with storage_errors(f"read {self._place}"):
            if not self._verified and self._position != self._hashed:
                copy_out(self._located, None)
                self._trust()
            number = bisect_right(self._ends, self._position)
            if self._current[0] != number:
                self._current = (number, part_content(self._located.parts[number], check=True))
        data = self._current[1]
        start = self._position - (self._ends[number] - len(data))
        piece = data[start : start + len(buffer)]
        if not self._verified:
            self._sha.update(piece)
            self._hashed += len(piece)
            if self._hashed == self._located.size:
                if self._sha.hexdigest() != self._located.digest:
                    raise mismatch(f"blob {self._located.digest[:12]}")
                self._trust()
        buffer[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def _trust(self) -> None:
        self._verified = True
        self._on_verified()
