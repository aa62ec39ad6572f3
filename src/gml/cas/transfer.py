"""Moving bytes with their digest: hashing copies, a verifying reader, storage errors in one line."""

from __future__ import annotations

import hashlib
import io
import os
import secrets
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, Self

from gml.cas.port import CHUNK, SMALL, Blob
from gml.domain.errors import CorruptError, GmlError, NotFoundError, StorageError, UsageError
from gml.fs import fsync_directory, storage_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gml.cas.port import BlobStore


class Readable(Protocol):
    """The one method of a source of bytes that is needed here."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, none at the end."""


@contextmanager
def storage_errors(doing: str) -> Iterator[None]:
    """Turn an `OSError` into one clear line; `doing` completes "cannot ...".

    Example:
        >>> with storage_errors("write /mnt/blobs"):
        ...     raise OSError(errno.ENOSPC, "No space left on device")
        Traceback (most recent call last):
        gml.domain.errors.StorageError: cannot write /mnt/blobs: no space left on the disk; ...
    """
    try:
        yield
    except OSError as error:
        raise storage_error(error, f"cannot {doing}") from error


def corrupt(digest: str, place: str) -> CorruptError:
    """Build the error for content that does not match its digest."""
    return CorruptError(
        f"blob {digest[:12]} in {place} does not match its digest",
        hint="delete the object and put or pull it again",
    )


def missing(digest: str, place: str) -> NotFoundError:
    """Build the error for a blob that is not in a store."""
    return NotFoundError(
        f"blob {digest[:12]} is not in {place}", hint="gml pull fetches artifacts of a remote"
    )


def copy_hashing(read: Callable[[int], bytes], write: Callable[[bytes], object] | None) -> Blob:
    """Read to the end, hand every piece to `write` (if any), and return what went through."""
    sha = hashlib.sha256()
    size = 0
    while piece := read(CHUNK):
        sha.update(piece)
        size += len(piece)
        if write is not None:
            write(piece)
    return Blob(sha.hexdigest(), size)


class SourceError(StorageError):
    """A file that was to be stored cannot be read, or changed meanwhile; the store itself is fine."""


def put_each(
    store: BlobStore, paths: Sequence[str | os.PathLike[str]], progress: Callable[[int], object] | None
) -> list[Blob | GmlError]:
    """Put files one by one; see `BlobStore.put_files`."""
    done: list[Blob | GmlError] = []
    for path in paths:
        try:
            blob = store.put_file(path)
        except (NotFoundError, UsageError, SourceError) as error:
            done.append(error)
            continue
        done.append(blob)
        if progress is not None:
            progress(blob.size)
    return done


class SourceFile:
    """A regular file opened for a put, which can tell whether it changed while it was read.

    Attributes:
        path: where it is.
        facts: what the system said of it when it was opened.

    Raises:
        NotFoundError: there is no such file.
        UsageError: it is not a regular file.
        StorageError: it cannot be opened or read, or it changed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path
        try:
            # Without O_NONBLOCK a named pipe would wait here for a writer.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self.facts = os.fstat(descriptor)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFoundError(f"cannot store {path}: there is no such file") from error
        except OSError as error:
            raise self._failed(error) from error
        if not stat.S_ISREG(self.facts.st_mode):
            os.close(descriptor)
            raise UsageError(f"cannot store {self.path}: it is not a regular file")
        self._file = io.FileIO(descriptor, "rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, none at the end."""
        try:
            return self._file.read(size)
        except OSError as error:
            raise self._failed(error) from error

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill a buffer as far as possible and return how far, 0 at the end."""
        try:
            return self._file.readinto(buffer)
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> SourceError:
        told = storage_error(error, f"cannot read {self.path}")
        return SourceError(told.message, hint=told.hint)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._file.fileno()

    def rewind(self) -> None:
        """Go back to the first byte."""
        self._file.seek(0)

    def check(self, size: int) -> None:
        """Raise unless exactly `size` bytes were there from opening until now, untouched."""
        try:
            now = os.fstat(self._file.fileno())
        except OSError as error:
            raise self._failed(error) from error
        before = self.facts
        if (now.st_size, now.st_mtime_ns, size) != (before.st_size, before.st_mtime_ns, before.st_size):
            raise SourceError(
                f"{self.path} changed while it was read ({before.st_size} bytes before, {now.st_size} after)",
                hint="wait until it is completely written, or write to another name and rename it",
            )


class _VerifyingReader(io.RawIOBase):
    """Hashes what passes through; the read that reaches the end raises on a mismatch."""

    def __init__(self, source: BinaryIO, digest: str, size: int, place: str) -> None:
        super().__init__()
        self._source = source
        self._digest = digest
        self._size = size
        self._place = place
        self._sha = hashlib.sha256()
        self._seen = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        with storage_errors(f"read {self._place}"):
            piece = self._source.read(len(buffer))
        self._sha.update(piece)
        self._seen += len(piece)
        # At the announced size as well as at the end: the last good-looking piece is never handed
        # out of a bad object, although many readers stop at the size and never ask for the end.
        ended = not piece and len(buffer) > 0
        if (ended or self._seen >= self._size) and self._sha.hexdigest() != self._digest:
            raise corrupt(self._digest, self._place)
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        if not self.closed:
            self._source.close()
        super().close()


def verified(source: BinaryIO, digest: str, size: int, place: str) -> BinaryIO:
    """Return a file object over `source` that hands out only what matches `digest`.

    Args:
        source: positioned at the first byte; closed together with the result, or at once if small.
        digest: what the content must hash to.
        size: the announced length in bytes; decides whether to verify now or while reading.
        place: the store, for messages.

    Raises:
        CorruptError: a small content does not match.
    """
    if size > SMALL:
        return io.BufferedReader(_VerifyingReader(source, digest, size, place), CHUNK)
    with source, storage_errors(f"read {place}"):
        # One byte more than announced is enough to tell an object that grew.
        data = _read_up_to(source, size + 1)
    if hashlib.sha256(data).hexdigest() != digest:
        raise corrupt(digest, place)
    return io.BytesIO(data)


def _read_up_to(source: Readable, limit: int) -> bytes:
    pieces = []
    while limit > 0 and (piece := source.read(limit)):
        pieces.append(piece)
        limit -= len(piece)
    return b"".join(pieces)


def make_directory(path: Path) -> None:
    """Make a folder and its missing parents, so that they survive a power cut.

    The two folders above are synced also when nothing is missing: another process may have made
    them a moment ago and not have come that far.
    """
    made = [path, path.parent]
    while not made[-1].exists():
        made.append(made[-1].parent)
    path.mkdir(parents=True, exist_ok=True)
    for folder in made[1:]:
        fsync_directory(folder)


def receive_file(source: BinaryIO, target: Path) -> None:
    """Write `source`, which verifies itself at its end, to `target`; see `receive`."""
    receive(lambda out: copy_hashing(source.read, lambda piece: write_all(out, piece)), target)


def receive(fill: Callable[[io.FileIO], object], target: Path) -> None:
    """Make a file by way of a temporary name, so that it appears only when it is whole and synced.

    Args:
        fill: writes the content and raises if it is not right.
        target: the final name; what is there is replaced, or left as it was on any error.

    Raises:
        StorageError: the target cannot be written.
    """
    target = Path(target)
    # A short name of its own: the target's may already be as long as the file system allows.
    partial = target.with_name(f".gml-{secrets.token_hex(8)}.part")
    with storage_errors(f"write {target}"):
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            with io.FileIO(descriptor, "wb") as out:
                fill(out)
                os.fsync(out.fileno())
            partial.replace(target)
        except BaseException:
            with suppress(FileNotFoundError):
                partial.unlink()
            raise
        fsync_directory(target.parent)


def write_all(out: io.FileIO, data: bytes) -> None:
    """Write everything: one `write` to an unbuffered file may take only a part."""
    done = out.write(data)
    if done == len(data):
        return
    rest = memoryview(data)
    while done < len(data):
        done += out.write(rest[done:])
