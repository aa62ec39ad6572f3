"""Blobs in a local folder: plain files that `sha256sum`, `cp` and `rsync` understand.

sha256/ab/ab12...   the objects, read-only, each the exact content that its name promises
tmp/                what is being written; never read, safe to empty when nothing is running
"""

from __future__ import annotations

import io
import os
import secrets
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from gml.cas.port import Blob, check_digest, relative_name
from gml.cas.transfer import (
    SourceFile,
    copy_hashing,
    make_directory,
    missing,
    put_each,
    receive_file,
    storage_errors,
    verified,
    write_all,
)
from gml.domain.errors import CorruptError
from gml.fs import fsync_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gml.domain.errors import GmlError

_OBJECT_MODE = 0o444


class LocalStore:
    """A `BlobStore` in a folder of a local or mounted file system.

    Args:
        root: the folder; it is made by the first put.

    Example:
        >>> store = LocalStore(Path("/tmp/blobs"))
        >>> store.read(store.put_bytes(b"hello").digest)
        b'hello'
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self._objects = self.root / "sha256"
        self._staging = self.root / "tmp"
        self._ready = False

    def __repr__(self) -> str:
        return f"LocalStore({str(self.root)!r})"

    def put_file(self, path: str | os.PathLike[str]) -> Blob:
        """Store the content of a file; see `BlobStore.put_file`."""
        with SourceFile(path) as source:
            return self._put(source.read, lambda blob: source.check(blob.size))

    def put_files(
        self, paths: Sequence[str | os.PathLike[str]], progress: Callable[[int], object] | None = None
    ) -> list[Blob | GmlError]:
        """Store the content of many files; see `BlobStore.put_files`."""
        return put_each(self, paths, progress)

    def put_bytes(self, data: bytes) -> Blob:
        """Store bytes that are in memory."""
        return self.put_stream(io.BytesIO(data))

    def put_stream(self, stream: BinaryIO) -> Blob:
        """Store everything from the position of a binary file object to its end."""
        return self._put(stream.read, None)

    def open(self, digest: str) -> BinaryIO:
        """Return a verified readable file object; see `BlobStore.open`."""
        path = self._path(digest)
        with storage_errors(f"read {self.root}"):
            try:
                file = path.open("rb", buffering=0)
            except FileNotFoundError as error:
                raise missing(digest, str(self.root)) from error
            size = os.fstat(file.fileno()).st_size
        return verified(file, digest, size, str(self.root))

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
        path = self._path(digest)
        with storage_errors(f"read {self.root}"):
            return _size_of(path) is not None

    def size(self, digest: str) -> int:
        """Return the stored length in bytes."""
        path = self._path(digest)
        with storage_errors(f"read {self.root}"):
            size = _size_of(path)
        if size is None:
            raise missing(digest, str(self.root))
        return size

    def delete(self, digest: str) -> None:
        """Remove a blob; one that is not here is no error."""
        path = self._path(digest)
        with storage_errors(f"delete in {self.root}"), suppress(FileNotFoundError):
            path.unlink()

    def digests(self) -> Iterator[str]:
        """Yield the digest of every stored object, sorted."""
        for prefix in self._names(self._objects):
            for name in self._names(self._objects / prefix):
                # Whatever else lies here (an editor's backup, a file manager's index) is not ours.
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

    def sweep_staging(self, min_age_seconds: float = 86_400.0) -> int:
        """Delete what killed puts left in `tmp/`, if it was last written that long ago.

        Returns:
            how many files were deleted.
        """
        oldest = time.time() - min_age_seconds
        deleted = 0
        for name in self._names(self._staging):
            path = self._staging / name
            with storage_errors(f"delete in {self.root}"), suppress(FileNotFoundError):
                if path.stat().st_mtime <= oldest:
                    path.unlink()
                    deleted += 1
        return deleted

    def _path(self, digest: str) -> Path:
        return self.root / relative_name(digest)

    def _names(self, folder: Path) -> list[str]:
        with storage_errors(f"list {self.root}"):
            try:
                return sorted(os.listdir(folder))  # noqa: PTH208 - names are wanted, not 100,000 Path objects
            except (FileNotFoundError, NotADirectoryError):
                return []

    def _put(self, read: Callable[[int], bytes], check: Callable[[Blob], None] | None) -> Blob:
        """Stage, hash while writing, sync, rename.

        An OSError of the caller's own stream passes through here as an error of this store; only
        `SourceFile` knows how to say better what failed.
        """
        with storage_errors(f"write {self.root}"), self._staged() as (staged, out):
            blob = copy_hashing(read, lambda piece: write_all(out, piece))
            if check is not None:
                check(blob)
            target = self._path(check_digest(blob.digest))
            if _size_of(target) != blob.size:
                os.fchmod(out.fileno(), _OBJECT_MODE)
                os.fsync(out.fileno())
                target.parent.mkdir(parents=True, exist_ok=True)
                # Replacing is put-if-absent here: what is replaced has the same content, or is broken.
                staged.replace(target)
            # Also when the object was there: the writer that made it may not have come this far yet.
            fsync_directory(target.parent)
            fsync_directory(self._objects)
            return blob

    @contextmanager
    def _staged(self) -> Iterator[tuple[Path, io.FileIO]]:
        if not self._ready or not self._staging.is_dir():
            make_directory(self._staging)
            make_directory(self._objects)
            self._ready = True
        path = self._staging / f"{os.getpid()}-{secrets.token_hex(8)}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with io.FileIO(descriptor, "wb") as out:
                yield path, out
        finally:
            with suppress(FileNotFoundError):
                path.unlink()


def _size_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None
