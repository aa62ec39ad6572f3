"""Blobs behind any fsspec URL, and the one place that chooses the class for a URL."""

from __future__ import annotations

import hashlib
import io
import os
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from gml.cas.connect import local_folder
from gml.cas.local import LocalStore
from gml.cas.names import Kind, stored_name
from gml.cas.port import SMALL, Blob, BlobStore
from gml.cas.pull import Ranges
from gml.cas.remote import Source, open_fsspec
from gml.cas.transfer import (
    SourceFile,
    copy_hashing,
    missing,
    put_each,
    receive_file,
    storage_errors,
    verified,
)
from gml.domain.errors import CorruptError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from gml.cas.retry import Retry
    from gml.domain.errors import GmlError


def open_store(url: str, storage_options: Mapping[str, Any] | None = None) -> BlobStore:
    """Return the store for a URL or path; nothing is read or written yet.

    Args:
        url: a folder (`/data/blobs`, `file:///data/blobs`) or any fsspec URL (`s3://bucket/prefix`).
        storage_options: passed to the fsspec file system; a local folder has none.

    Raises:
        UsageError: the URL is empty or its scheme is unknown.
        MissingPackageError: the scheme needs a package that is not installed.

    Example:
        >>> open_store("/data/blobs")
        LocalStore('/data/blobs')
    """
    folder = local_folder(url)
    return LocalStore(folder) if folder is not None else FsspecStore(url, storage_options)


class FsspecStore:
    """A `BlobStore` on an fsspec file system that keeps each blob as a file of its own.

    The digest is known before the first byte is sent, so content that is already there is not sent
    again; a stream is therefore kept in a temporary file first.

    Args:
        url: an fsspec URL such as `memory://blobs` or `s3://bucket/prefix`.
        storage_options: passed to the fsspec file system.
        retry: how patiently requests are repeated.

    Raises:
        UsageError: the scheme is unknown.
        MissingPackageError: the scheme needs a package that is not installed.
    """

    def __init__(
        self, url: str, storage_options: Mapping[str, Any] | None = None, *, retry: Retry | None = None
    ) -> None:
        self.url = url
        self.remote = open_fsspec(url, storage_options, retry=retry)

    def __repr__(self) -> str:
        return f"FsspecStore({self.url!r})"

    def put_file(self, path: str | os.PathLike[str]) -> Blob:
        """Store the content of a file; see `BlobStore.put_file`. It is read twice if it is new."""
        with SourceFile(path) as source:
            blob = copy_hashing(source.read, None)
            source.check(blob.size)
            if not self._has(blob):
                sent = Source(
                    blob.size,
                    lambda: _window(source.fileno(), blob.size),
                    check=lambda: source.check(blob.size),
                )
                self.remote.send(stored_name(Kind.BLOB, blob.digest), sent)
            return blob

    def put_files(
        self, paths: Sequence[str | os.PathLike[str]], progress: Callable[[int], object] | None = None
    ) -> list[Blob | GmlError]:
        """Store the content of many files; see `BlobStore.put_files`."""
        return put_each(self, paths, progress)

    def put_bytes(self, data: bytes) -> Blob:
        """Store bytes that are in memory."""
        blob = Blob(hashlib.sha256(data).hexdigest(), len(data))
        if not self._has(blob):
            self.remote.send(stored_name(Kind.BLOB, blob.digest), Source.of_bytes(data))
        return blob

    def put_stream(self, stream: BinaryIO) -> Blob:
        """Store everything from the position of a binary file object to its end."""
        import tempfile

        with storage_errors(f"keep a stream in {tempfile.gettempdir()}"), tempfile.TemporaryFile() as kept:
            blob = copy_hashing(stream.read, kept.write)
            kept.flush()
            if not self._has(blob):
                sent = Source(blob.size, lambda: _window(kept.fileno(), blob.size))
                self.remote.send(stored_name(Kind.BLOB, blob.digest), sent)
            return blob

    def open(self, digest: str) -> BinaryIO:
        """Return a verified readable file object; see `BlobStore.open`."""
        size = self.size(digest)
        ranges = Ranges(self.remote, stored_name(Kind.BLOB, digest), size)
        return verified(cast("BinaryIO", io.BufferedReader(ranges, SMALL)), digest, size, self.url)

    def read(self, digest: str) -> bytes:
        """Return the whole content, verified."""
        with self.open(digest) as file:
            return file.read()

    def get_file(self, digest: str, target: Path) -> None:
        """Write a blob to `target` by way of a temporary name; see `BlobStore.get_file`."""
        with self.open(digest) as source:
            receive_file(source, target)

    def contains(self, digest: str) -> bool:
        """Whether there is an object of this name."""
        return self.remote.size(stored_name(Kind.BLOB, digest)) is not None

    def size(self, digest: str) -> int:
        """Return the stored length in bytes."""
        size = self.remote.size(stored_name(Kind.BLOB, digest))
        if size is None:
            raise missing(digest, self.url)
        return size

    def delete(self, digest: str) -> None:
        """Remove a blob; one that is not here is no error."""
        self.remote.delete(stored_name(Kind.BLOB, digest))

    def digests(self) -> Iterator[str]:
        """Yield the digest of every stored object, sorted."""
        for name in sorted(name for name, _ in self.remote.names("sha256")):
            digest = name.rpartition("/")[2]
            if len(digest) == 64 and set(digest) <= set("0123456789abcdef") and name[7:9] == digest[:2]:
                yield digest

    def verify(self, digest: str) -> bool:
        """Read a whole object and say whether it matches its digest."""
        try:
            with self.open(digest) as file:
                copy_hashing(file.read, None)
        except CorruptError:
            return False
        return True

    def _has(self, blob: Blob) -> bool:
        return self.remote.size(stored_name(Kind.BLOB, blob.digest)) == blob.size


class _Window(io.RawIOBase):
    """A file object over an open descriptor with a position of its own; several may read at once."""

    def __init__(self, descriptor: int, size: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a position."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = start + offset
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Read some bytes; none at the end."""
        piece = os.pread(self._descriptor, len(buffer), self._position)
        buffer[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)


def _window(descriptor: int, size: int) -> BinaryIO:
    return cast("BinaryIO", io.BufferedReader(_Window(descriptor, size), SMALL))
