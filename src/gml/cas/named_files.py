"""A local store as the set of named files that it is: listing, reading, adopting, deleting, repacking."""

from __future__ import annotations

import hashlib
import io
import os
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO

from gml.cas.check import check_for
from gml.cas.names import (
    FOLDERS,
    Kind,
    StoredName,
    dump_index,
    is_name,
    parse_index,
    parse_name,
    stored_name,
)
from gml.cas.packs import PackWriter
from gml.cas.port import CHUNK, Stored
from gml.cas.reading import Part, locate, stored_bytes
from gml.cas.shelf import read_text, refresh_age, size_of
from gml.cas.staging import Names
from gml.cas.transfer import storage_errors, write_all
from gml.domain.errors import CorruptError, InvalidValueError, NotFoundError, UsageError
from gml.fs import fsync_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gml.cas.shelf import Shelf


class NamedFiles:
    """A `NameStore` in a folder.

    Attributes:
        root: the folder.
        shelf: what is in it, with derived data.
    """

    root: Path

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf

    def names(self, folder: str) -> Iterator[Stored]:
        """Yield all files of a folder; see `NameStore.names`."""
        if folder not in FOLDERS:
            raise UsageError(f"{folder!r} is no folder of a store", hint=f"use one of {', '.join(FOLDERS)}")
        for prefix in self._listed(self.root / folder):
            for entry in self._listed(self.root / folder / prefix):
                name = f"{folder}/{prefix}/{entry}"
                if not is_name(name):
                    continue
                with suppress(FileNotFoundError), storage_errors(f"list {self.root}"):
                    facts = (self.root / name).stat()
                    yield Stored(name, facts.st_size, facts.st_mtime)

    def name_size(self, name: str) -> int | None:
        """Return the length of a stored file, None where there is none."""
        parse_name(name)
        with storage_errors(f"read {self.root}"):
            return size_of(self.root / name)

    def open_name(self, name: str, offset: int = 0, length: int | None = None) -> BinaryIO:
        """Return a readable file object over a stored file; see `NameStore.open_name`."""
        parse_name(name)
        with storage_errors(f"read {self.root}"):
            try:
                file = (self.root / name).open("rb")
            except FileNotFoundError as error:
                raise NotFoundError(f"{name} is not in {self.root}") from error
            if not offset and length is None:
                return file
            with file:
                size = os.fstat(file.fileno()).st_size
                stop = size if length is None else min(size, offset + length)
                part = Part(self.root / name, offset, max(0, stop - offset), max(0, stop - offset), None)
                return io.BytesIO(stored_bytes(part))

    def adopt_name(self, name: str, stream: BinaryIO, index: bytes | None = None) -> int:
        """Store a file under its name, if its bytes are what the name promises; see `NameStore`."""
        parsed = parse_name(name)
        if parsed.kind is Kind.INDEX:
            raise InvalidValueError(f"{name} is stored together with its pack")
        target = self.root / name
        names = Names()
        entries = None
        if parsed.kind is Kind.PACK:
            if index is None:
                raise InvalidValueError(f"pack {parsed.digest[:12]} cannot be checked without its index")
            entries = parse_index(parsed.digest, index)
        with storage_errors(f"write {self.root}"):
            size = self._adopted_size(parsed, target, stream)
            if size is None:
                size = self._receive(parsed, target, stream, index)
            names.add(target)
            names.sync()
            if entries is not None and index is not None:
                self.shelf.staging.write(index, self.root / stored_name(Kind.INDEX, parsed.digest))
                names.add(target)
                names.sync()
                self.shelf.catalog.add_pack(parsed.digest, entries)
        return size

    def _adopted_size(self, parsed: StoredName, target: Path, stream: BinaryIO) -> int | None:
        """Return the length of a file that is there already and need not be received."""
        size = size_of(target)
        if size is None or parsed.kind is Kind.RECIPE:
            return None
        end = stream.seek(0, os.SEEK_END) if stream.seekable() else None
        if end is not None:
            stream.seek(0)
        if end == size and refresh_age(target):
            return size
        return None

    def _receive(self, parsed: StoredName, target: Path, stream: BinaryIO, index: bytes | None) -> int:
        entries = parse_index(parsed.digest, index) if index is not None else None
        check = check_for(parsed, entries)
        size = 0
        with self.shelf.staging.staged() as (path, out):
            while piece := stream.read(CHUNK):
                check.update(piece)
                write_all(out, piece)
                size += len(piece)
            check.finish()
            self.shelf.staging.publish(path, out, target)
        return size

    def delete_name(self, name: str) -> None:
        """Remove a stored file; of a pack the index goes first, with either name."""
        parsed = parse_name(name)
        with storage_errors(f"delete in {self.root}"):
            if parsed.kind in {Kind.PACK, Kind.INDEX}:
                index = self.root / stored_name(Kind.INDEX, parsed.digest)
                self._unlink(stored_name(Kind.INDEX, parsed.digest))
                with suppress(FileNotFoundError):
                    fsync_directory(index.parent)
                self._unlink(stored_name(Kind.PACK, parsed.digest))
                self.shelf.catalog.forget_pack(parsed.digest)
            else:
                self._unlink(name)

    def names_of(self, digest: str) -> list[Stored]:
        """Return the stored files that a blob needs, in the order in which they are to be copied."""
        with storage_errors(f"read {self.root}"):
            located = locate(self.shelf, digest)
            paths = list(dict.fromkeys(part.path for part in located.parts))
            names = []
            for path in paths:
                names.append(path)
                if path.parent.parent.name == "packs":
                    names.append(path.with_suffix(".idx"))
            if located.recipe:
                names.append(self.shelf.path(Kind.RECIPE, digest))
            return [
                Stored(str(path.relative_to(self.root).as_posix()), facts.st_size, facts.st_mtime)
                for path in names
                for facts in [path.stat()]
            ]

    def repack(self, pack: str, keep: Callable[[str], bool], *, drop_damaged: bool = False) -> int:
        """Replace a pack by one with only those blobs that are to be kept; see `copy_pack`.

        Returns:
            How many bytes that saves.
        """
        before = size_of(self.shelf.path(Kind.PACK, pack)) or 0
        dropped = [entry for entry in self.shelf.catalog.entries(pack) if not keep(entry.digest)]
        written = self.copy_pack(pack, keep, drop_damaged=drop_damaged)
        if dropped or written != before:
            self.delete_name(stored_name(Kind.PACK, pack))
        return before - written

    def copy_pack(self, pack: str, keep: Callable[[str], bool], *, drop_damaged: bool = False) -> int:
        """Write those blobs of a pack that are to be kept to a new one, each verified.

        Args:
            pack: the digits in its name.
            keep: says of a digest whether to keep it.
            drop_damaged: leave out what does not match its digest, so that a later put stores it again.

        Returns:
            How many bytes were written.

        Raises:
            CorruptError: a blob that is to be kept does not match its digest; nothing is changed.
        """
        place = self.shelf.path(Kind.PACK, pack)
        names = Names()
        with (
            storage_errors(f"repack in {self.root}"),
            PackWriter(self.shelf.staging, names, self.shelf.catalog.add_pack) as packs,
        ):
            for entry in self.shelf.catalog.entries(pack):
                if not keep(entry.digest):
                    continue
                data = stored_bytes(Part(place, entry.offset, entry.length, entry.size, entry.digest))
                kind = Kind.BLOB if entry.length == entry.size else Kind.COMPRESSED
                check = check_for(StoredName("", kind, entry.digest))
                try:
                    check.update(data)
                    check.finish()
                except CorruptError:
                    if drop_damaged:
                        continue
                    raise
                packs.add(entry.digest, data, entry.size)
            packs.finish()
            names.sync()
            return packs.written

    def rewrite_index(self, pack: str) -> bool:
        """Write the index of a pack anew from what was known before it was damaged, if that is enough."""
        data = dump_index(self.shelf.catalog.entries(pack))
        if hashlib.sha256(data).hexdigest() != pack:
            return False
        names = Names()
        index = self.shelf.path(Kind.INDEX, pack)
        with storage_errors(f"write {self.root}"):
            self.shelf.staging.write(data, index)
            names.add(index)
            names.sync()
        return True

    def read_index(self, pack: str) -> bytes:
        """Return the index of a pack.

        Raises:
            NotFoundError: it is not here.
            CorruptError: it is damaged.
        """
        with storage_errors(f"read {self.root}"):
            try:
                data = read_text(self.shelf.path(Kind.INDEX, pack))
            except FileNotFoundError as error:
                raise NotFoundError(f"pack {pack[:12]} is not in {self.root}") from error
        parse_index(pack, data)
        return data

    def _unlink(self, name: str) -> None:
        with suppress(FileNotFoundError, NotADirectoryError):
            (self.root / name).unlink()

    def _listed(self, folder: Path) -> list[str]:
        with storage_errors(f"list {self.root}"):
            try:
                return sorted(os.listdir(folder))  # noqa: PTH208 - names are wanted, not 100,000 Path objects
            except (FileNotFoundError, NotADirectoryError):
                return []
