"""The store in a local folder: plain files that `sha256sum`, `cat` and `rsync` understand.

docs/format.md describes the folder.
"""

from __future__ import annotations

import hashlib
import io
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from gml.cas.bulk import LARGE, FilePuts
from gml.cas.check import mismatch
from gml.cas.compression import compress
from gml.cas.large import LargePut
from gml.cas.named_files import NamedFiles
from gml.cas.names import Kind, stored_name
from gml.cas.packs import PackWriter
from gml.cas.port import CHUNK, SMALL, Blob, check_digest
from gml.cas.reading import ChunkReader, contents, copy_out, locate
from gml.cas.shelf import Reliance, Shelf, size_of
from gml.cas.staging import Names
from gml.cas.streams import Joined, file_of, read_up_to
from gml.cas.transfer import receive, storage_errors, verified
from gml.domain.errors import CorruptError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from gml.cas.catalog import Catalog
    from gml.cas.pins import Pins
    from gml.cas.reading import Located
    from gml.domain.errors import GmlError

T = TypeVar("T")


class LocalStore(NamedFiles):
    """A `BlobStore` and a `NameStore` in a folder of a local or mounted file system.

    Args:
        root: the folder; it is made by the first put.
        cache: a folder on this machine for derived data; within `root` if there is none.
        pins: where this clone says what it needs of a folder that others sweep too; None for a folder of
            its own.

    Example:
        >>> store = LocalStore(Path("/tmp/blobs"))
        >>> store.read(store.put_bytes(b"hello").digest)
        b'hello'
    """

    def __init__(self, root: Path, cache: Path | None = None, pins: Pins | None = None) -> None:
        self.root = Path(root)
        self._pins = pins
        super().__init__(Shelf(self.root, cache or self.root / "cache"))

    def __repr__(self) -> str:
        return f"LocalStore({str(self.root)!r})"

    @property
    def catalog(self) -> Catalog:
        """Derived data: where the blobs of packs are, what remotes hold."""
        return self.shelf.catalog

    def put_file(self, path: str | os.PathLike[str], progress: Callable[[int], object] | None = None) -> Blob:
        """Store the content of a file; see `BlobStore.put_file`.

        A file that was stored before and has the same size, times and inode is not read again.
        """
        (done,) = self._put_files([path], progress)
        if isinstance(done, Blob):
            return done
        raise done

    def put_files(
        self, paths: Sequence[str | os.PathLike[str]], progress: Callable[[int], object] | None = None
    ) -> list[Blob | GmlError]:
        """Store the content of many files; see `BlobStore.put_files`."""
        return self._put_files(paths, progress)

    def put_bytes(self, data: bytes) -> Blob:
        """Store bytes that are in memory."""
        return self.put_stream(io.BytesIO(data))

    def put_stream(self, stream: BinaryIO) -> Blob:
        """Store everything from the position of a binary file object to its end.

        An error of the stream itself passes through here as an error of this store.
        """
        names = Names()
        with storage_errors(f"write {self.root}"):
            head = read_up_to(stream.read, LARGE)
            if len(head) < LARGE:
                blob = self._put_small(head, names)
            else:
                reader = Joined(head, stream.read)
                del head
                blob = self._put_large(reader.readinto, names, None, None)
            names.sync()
            self.pin([blob.digest])
            return blob

    def pin(self, digests: Iterable[str]) -> None:
        """Keep other clones that share the folder from sweeping some blobs."""
        if self._pins is not None:
            self._pins.add(digests)

    def open(self, digest: str) -> BinaryIO:
        """Return a verified readable file object; see `BlobStore.open`.

        A blob made of chunks can be seeked, however large it is.
        """
        return self._reading(digest, self._opened)

    def _opened(self, located: Located) -> BinaryIO:
        place = str(self.root)
        if 0 <= located.size <= SMALL:
            return io.BytesIO(_whole(located))
        part = located.parts[0]
        if located.recipe:
            return io.BufferedReader(self._chunk_reader(located), CHUNK)
        if part.length != part.size:
            return verified(file_of(contents(located)), located.digest, 1 << 62, place)
        file = part.path.open("rb", buffering=0)
        if part.offset == 0:
            return verified(file, located.digest, os.fstat(file.fileno()).st_size, place)
        file.close()
        return verified(file_of(contents(located)), located.digest, located.size, place)

    def read(self, digest: str) -> bytes:
        """Return the whole content, verified."""
        return self._reading(digest, _whole)

    def get_file(self, digest: str, target: Path, progress: Callable[[int], object] | None = None) -> None:
        """Write a blob to `target` by way of a temporary name; see `BlobStore.get_file`."""
        with storage_errors(f"read {self.root}"):
            located = self._locate(digest)

        def fill(out: io.FileIO) -> None:
            try:
                copy_out(located, out, progress)
            except FileNotFoundError:
                # A pack was written anew meanwhile.
                out.seek(0)
                out.truncate()
                self.catalog.refresh()
                copy_out(self._locate(digest), out)

        receive(fill, target)
        if located.recipe:
            self._trust_recipe(digest)

    def contains(self, digest: str) -> bool:
        """Whether there is a blob of this name; of a large file, whether its recipe is there."""
        check_digest(digest)
        with storage_errors(f"read {self.root}"):
            return self._has(digest) or self._has_after_refresh(digest)

    def has_here(self, digest: str) -> bool:
        """Whether a blob is in this folder; see `contains`."""
        return self.contains(digest)

    def size(self, digest: str) -> int:
        """Return the length of the content in bytes."""
        return self._reading(
            digest, lambda found: found.size if found.size >= 0 else sum(map(len, contents(found)))
        )

    def delete(self, digest: str) -> None:
        """Remove a blob; one that is not here is no error.

        The chunks of a large file stay until `gml artifacts gc`, other files may share them. A blob
        in a pack costs writing the rest of the pack again.
        """
        check_digest(digest)
        with storage_errors(f"delete in {self.root}"):
            for kind in (Kind.RECIPE, Kind.BLOB, Kind.COMPRESSED):
                self._unlink(stored_name(kind, digest))
            self.catalog.refresh()
            for place in self.catalog.find(digest):
                self.repack(place.pack, lambda kept: kept != digest)

    def digests(self) -> Iterator[str]:
        """Yield the digest of everything that can be read, sorted: files, and chunks in packs."""
        with storage_errors(f"list {self.root}"):
            self.catalog.refresh()
            found = set(self.catalog.digests())
        for folder in ("sha256", "recipes"):
            found.update(stored.name.rpartition("/")[2].removesuffix(".zst") for stored in self.names(folder))
        yield from sorted(found)

    def verify(self, digest: str) -> bool:
        """Read a whole blob and say whether it matches its digest."""
        try:
            self._reading(digest, lambda located: copy_out(located, None))
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
        with storage_errors(f"delete in {self.root}"), suppress(FileNotFoundError, NotADirectoryError):
            for path in (self.root / "tmp").iterdir():
                with suppress(FileNotFoundError):
                    if path.stat().st_mtime <= oldest:
                        path.unlink()
                        deleted += 1
        return deleted

    def _reading(self, digest: str, work: Callable[[Located], T]) -> T:
        """Do something with a blob; once more where a pack was written anew meanwhile."""
        with storage_errors(f"read {self.root}"):
            try:
                return work(self._locate(digest))
            except FileNotFoundError:
                self.catalog.refresh()
                return work(self._locate(digest))

    def _locate(self, digest: str) -> Located:
        check_digest(digest)
        return locate(self.shelf, digest)

    def _chunk_reader(self, located: Located) -> ChunkReader:
        digest = located.digest
        stamp = self.shelf.recipe_stamp(digest)
        return ChunkReader(
            located,
            str(self.root),
            verified=self.catalog.recipe_verified(digest, stamp),
            on_verified=lambda: self.catalog.remember_recipe(digest, stamp),
        )

    def _trust_recipe(self, digest: str) -> None:
        with suppress(OSError):
            self.catalog.remember_recipe(digest, self.shelf.recipe_stamp(digest))

    def _has(self, digest: str) -> bool:
        return (
            self.shelf.loose(digest) is not None
            or size_of(self.shelf.path(Kind.RECIPE, digest)) is not None
            or self.shelf.place(digest) is not None
        )

    def _has_after_refresh(self, digest: str) -> bool:
        self.catalog.refresh()
        return self.shelf.place(digest) is not None

    def _put_files(
        self, paths: Sequence[str | os.PathLike[str]], progress: Callable[[int], object] | None
    ) -> list[Blob | GmlError]:
        names = Names()
        since = time.time_ns()
        with storage_errors(f"write {self.root}"):
            self.catalog.refresh()
            with PackWriter(self.shelf.staging, names, self.catalog.add_pack) as packs:
                puts = FilePuts(
                    self.shelf,
                    names,
                    packs,
                    lambda data: self._put_small(data, names),
                    lambda source: self._put_large(
                        source.readinto, names, progress, source.check, source.facts.st_size
                    ),
                    progress,
                )
                done = puts.put(paths)
                packs.finish()
            names.sync()
            self.pin(blob.digest for blob in done if isinstance(blob, Blob))
            self.catalog.remember_files(puts.read, since)
        return done

    def _put_small(self, data: bytes, names: Names) -> Blob:
        """Store a blob as a file of its own."""
        digest = hashlib.sha256(data).hexdigest()
        reliance = Reliance(self.shelf, names)
        if len(data) not in {
            reliance.on_blobs([digest]).get(digest),
            reliance.on_loose(digest),
            reliance.on_recipe(digest),
        }:
            made = compress(data)
            kind = Kind.BLOB if made is None else Kind.COMPRESSED
            path = self.shelf.path(kind, digest)
            # Replacing is put-if-absent here: what is replaced has the same content, or is broken.
            self.shelf.staging.write(data if made is None else made, path)
            if made is not None:
                # A broken plain one would be found first.
                self._unlink(stored_name(Kind.BLOB, digest))
            names.add(path)
        return Blob(digest, len(data))

    def _put_large(
        self,
        readinto: Callable[[memoryview], int],
        names: Names,
        progress: Callable[[int], object] | None,
        check: Callable[[int], object] | None,
        size: int = 0,
    ) -> Blob:
        # Packs of its own: what was read of a file that turns out to have changed is thrown away.
        with PackWriter(self.shelf.staging, names, self.catalog.add_pack) as packs:
            return LargePut(self.shelf, names, packs, size).put(readinto, progress, check)


def _whole(located: Located) -> bytes:
    data = b"".join(contents(located))
    if hashlib.sha256(data).hexdigest() != located.digest:
        raise mismatch(f"blob {located.digest[:12]}")
    return data
