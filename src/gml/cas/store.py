"""Blobs behind any fsspec URL, and the one place that chooses the class for a URL."""

from __future__ import annotations

import hashlib
import io
import posixpath
import secrets
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import unquote, urlsplit

from gml.cas.local import LocalStore
from gml.cas.port import CHUNK, SMALL, Blob, BlobStore, relative_name
from gml.cas.transfer import (
    SourceFile,
    copy_hashing,
    missing,
    put_each,
    receive_file,
    storage_errors,
    verified,
)
from gml.domain.errors import CorruptError, GmlError, MissingPackageError, StorageError, UsageError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from gml.cas.transfer import Readable

# Here an upload becomes visible at once and as a whole, and a rename is a copy: write to the final
# name. Everywhere else (sftp, smb, memory, unknown) write to a temporary name and rename.
_OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss", "r2", "oci", "cos"})
_EXTRAS = {"s3": "gitml[s3]", "s3a": "gitml[s3]"}


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
    if not url:
        raise UsageError("the URL of the blob store is empty", hint="give a folder or an fsspec URL")
    if "://" not in url:
        return LocalStore(Path(url).expanduser())
    parts = urlsplit(url)
    if parts.scheme in {"file", "local"}:
        if parts.netloc not in {"", "localhost"}:
            raise UsageError(
                f"{url!r} names a host", hint="a local folder is file:///path, with three slashes"
            )
        return LocalStore(Path(unquote(parts.path)))
    return FsspecStore(url, storage_options)


class FsspecStore:
    """A `BlobStore` on an fsspec file system, with the same layout as a local one.

    The digest is known before the first byte is sent, so content that is already there is not sent
    again; a stream is therefore kept in a temporary file first. Listings are never trusted from
    fsspec's cache, because other machines write to the same place.

    Args:
        url: an fsspec URL such as `memory://blobs` or `s3://bucket/prefix`.
        storage_options: passed to the fsspec file system.

    Raises:
        UsageError: the scheme is unknown.
        MissingPackageError: the scheme needs a package that is not installed.
    """

    def __init__(self, url: str, storage_options: Mapping[str, Any] | None = None) -> None:
        from fsspec.core import url_to_fs

        self.url = url
        scheme = url.partition("://")[0]
        try:
            self._fs, root = url_to_fs(url, **(storage_options or {}))
        except ImportError as error:
            extra = _EXTRAS.get(scheme)
            hint = f"pip install '{extra}'" if extra else str(error)
            raise MissingPackageError(
                f"{scheme}:// needs a package that is not installed", hint=hint
            ) from error
        except ValueError as error:
            raise UsageError(f"cannot use {url!r} as a blob store: {error}") from error
        self._root = root.rstrip("/")
        self._direct = scheme in _OBJECT_STORES

    def __repr__(self) -> str:
        return f"FsspecStore({self.url!r})"

    def put_file(self, path: str | os.PathLike[str]) -> Blob:
        """Store the content of a file; see `BlobStore.put_file`. It is read twice if it is new."""
        with SourceFile(path) as source:
            blob = copy_hashing(source.read, None)
            source.check(blob.size)
            if not self._has(blob):
                source.rewind()
                self._upload(source, blob, str(path))
                source.check(blob.size)
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
            self._upload(io.BytesIO(data), blob, "the data")
        return blob

    def put_stream(self, stream: BinaryIO) -> Blob:
        """Store everything from the position of a binary file object to its end."""
        import tempfile

        with (
            storage_errors(f"keep a stream in {tempfile.gettempdir()}"),
            tempfile.SpooledTemporaryFile(max_size=SMALL) as kept,
        ):
            blob = copy_hashing(stream.read, kept.write)
            kept.seek(0)
            if not self._has(blob):
                self._upload(kept, blob, "the stream")
            return blob

    def open(self, digest: str) -> BinaryIO:
        """Return a verified readable file object; see `BlobStore.open`."""
        size = self.size(digest)
        source = io.BufferedReader(_RangeReader(self, digest, size), CHUNK)
        return verified(source, digest, size, self.url)

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
        return self._size_of(self._path(digest)) is not None

    def size(self, digest: str) -> int:
        """Return the stored length in bytes."""
        size = self._size_of(self._path(digest))
        if size is None:
            raise missing(digest, self.url)
        return size

    def delete(self, digest: str) -> None:
        """Remove a blob; one that is not here is no error."""
        path = self._path(digest)
        with self._errors("delete in"), suppress(FileNotFoundError):
            self._fs.rm_file(path)

    def digests(self) -> Iterator[str]:
        """Yield the digest of every stored object, sorted."""
        for prefix in self._names("sha256"):
            for name in self._names(f"sha256/{prefix}"):
                if name[:2] == prefix and len(name) == 64 and set(name) <= set("0123456789abcdef"):
                    yield name

    def verify(self, digest: str) -> bool:
        """Read a whole object and say whether it matches its digest."""
        try:
            with self.open(digest) as file:
                copy_hashing(file.read, None)
        except CorruptError:
            return False
        return True

    def fetch_range(self, digest: str, start: int, end: int) -> bytes:
        """Return bytes `start` to `end` (exclusive) of an object, not verified.

        Raises:
            NotFoundError: the blob is not here.
        """
        path = self._path(digest)
        with self._errors("read"):
            try:
                # Not fs.open: memory:// gives all readers one file object with one position, and a
                # range can be asked for again after a cut where a long answer cannot.
                return bytes(self._fs.cat_file(path, start=start, end=end))
            except FileNotFoundError as error:
                raise missing(digest, self.url) from error

    def _path(self, digest: str) -> str:
        return f"{self._root}/{relative_name(digest)}"

    def _names(self, folder: str) -> list[str]:
        path = f"{self._root}/{folder}"
        with self._errors("list"):
            self._fs.invalidate_cache(path)
            try:
                return sorted(
                    posixpath.basename(name.rstrip("/")) for name in self._fs.ls(path, detail=False)
                )
            except (FileNotFoundError, NotADirectoryError):
                return []

    def _size_of(self, path: str) -> int | None:
        with self._errors("read"):
            self._fs.invalidate_cache(posixpath.dirname(path))
            try:
                size = self._fs.size(path)
            except FileNotFoundError:
                return None
        return None if size is None else int(size)

    def _has(self, blob: Blob) -> bool:
        return self._size_of(self._path(blob.digest)) == blob.size

    def _upload(self, source: Readable, blob: Blob, what: str) -> None:
        """Send exactly `blob`; when the source turns out to be something else, nothing is visible."""
        target = self._path(blob.digest)
        with self._errors("write"):
            if self._direct:
                self._send(source, blob, target, what)
                return
            staged = posixpath.join(self._root, "tmp", secrets.token_hex(8))
            self._fs.makedirs(posixpath.dirname(staged), exist_ok=True)
            self._fs.makedirs(posixpath.dirname(target), exist_ok=True)
            try:
                self._send(source, blob, staged, what)
                self._fs.mv(staged, target)
            except BaseException:
                with suppress(OSError):
                    self._fs.rm_file(staged)
                raise

    def _send(self, source: Readable, blob: Blob, path: str, what: str) -> None:
        if blob.size <= SMALL:
            data = source.read(blob.size + 1)
            _check_sent(Blob(hashlib.sha256(data).hexdigest(), len(data)), blob, what)
            self._fs.pipe_file(path, data)
            return
        # With autocommit off, fsspec's object stores show the upload at commit and not before.
        out = self._fs.open(path, "wb", autocommit=not self._direct)
        try:
            _check_sent(copy_hashing(source.read, out.write), blob, what)
        except BaseException:
            # Closing would show what is there so far under its final name.
            with suppress(OSError, AttributeError, NotImplementedError):
                (out.discard if self._direct else out.close)()
            raise
        out.close()
        if self._direct:
            out.commit()

    @contextmanager
    def _errors(self, verb: str) -> Iterator[None]:
        """Name the store in every failure; file systems raise what their client library raises."""
        try:
            with storage_errors(f"{verb} {self.url}"):
                yield
        except GmlError:
            raise
        except Exception as error:
            raise StorageError(f"cannot {verb} {self.url}: {type(error).__name__}: {error}") from error


def _check_sent(sent: Blob, expected: Blob, what: str) -> None:
    if sent != expected:
        raise StorageError(
            f"{what} changed while it was read", hint="wait until it is completely written, then repeat"
        )


class _RangeReader(io.RawIOBase):
    """One object as a sequence of range requests."""

    def __init__(self, store: FsspecStore, digest: str, size: int) -> None:
        super().__init__()
        self._store = store
        self._digest = digest
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        end = min(self._position + len(buffer), self._size)
        if self._position >= end:
            return 0
        piece = self._store.fetch_range(self._digest, self._position, end)
        buffer[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)
