"""Putting files: what is known is not read, small ones that come together are packed."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from gml.cas.compression import Compressor
from gml.cas.port import Blob
from gml.cas.shelf import Reliance
from gml.cas.streams import read_up_to
from gml.cas.transfer import SourceError, SourceFile
from gml.domain.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from gml.cas.packs import PackWriter
    from gml.cas.shelf import Shelf
    from gml.cas.staging import Names
    from gml.domain.errors import GmlError

LARGE: Final = 16 << 20
"""Bytes from which on a file is split into chunks."""

PACKED: Final = 1 << 20
"""Bytes up to which files that are put together go into packs."""

# Files whose facts and digests are looked up together, and their bytes that are in memory meanwhile.
_GROUP: Final = 128
_HELD: Final = 16 << 20


class FilePuts:
    """One put of some files.

    Args:
        shelf: the store.
        names: gets the names that are to be synced before anything is acknowledged.
        packs: where small files go, finished by the caller.
        put_small: stores bytes as a blob of its own.
        put_large: stores the rest of an open file in chunks.
        progress: called with the number of bytes that were read or are known.
    """

    def __init__(
        self,
        shelf: Shelf,
        names: Names,
        packs: PackWriter,
        put_small: Callable[[bytes], Blob],
        put_large: Callable[[SourceFile], Blob],
        progress: Callable[[int], object] | None,
    ) -> None:
        self._shelf = shelf
        self._names = names
        self._packs = packs
        self._put_small = put_small
        self._put_large = put_large
        self._progress = progress
        self._here: dict[str, int] = {}
        self._waiting: list[tuple[Blob, bytes]] = []
        self._held = 0
        self._compressor = Compressor()
        self.read: list[tuple[os.stat_result, str]] = []

    def put(self, paths: Sequence[str | os.PathLike[str]]) -> list[Blob | GmlError]:
        """Store files; returns for each what is stored, or what is wrong with it.

        What goes into packs is not stored before these are finished. `read` then has the facts and digest
        of each file that was read.
        """
        many = len(paths) > 1
        self._reliance = Reliance(self._shelf, self._names, many=many)
        done: list[Blob | GmlError] = []
        for start in range(0, len(paths), _GROUP):
            with ExitStack() as stack:
                opened: list[SourceFile | GmlError] = []
                for path in paths[start : start + _GROUP]:
                    try:
                        opened.append(stack.enter_context(SourceFile(path)))
                    except (NotFoundError, UsageError, SourceError) as error:
                        opened.append(error)
                sources = [source for source in opened if isinstance(source, SourceFile)]
                known = self._shelf.catalog.recall_files([source.facts for source in sources])
                for source in opened:
                    if isinstance(source, SourceFile):
                        facts = source.facts
                        done.append(self._one(source, known.get((facts.st_dev, facts.st_ino)), many=many))
                    else:
                        done.append(source)
        self._store_waiting()
        return done

    def _one(self, source: SourceFile, known: tuple[str, int] | None, *, many: bool) -> Blob | GmlError:
        if known is not None and self._rely(*known):
            self._tell(known[1])
            blob = Blob(*known)
        else:
            try:
                blob = self._new(source, many=many)
            except SourceError as error:
                return error
        self.read.append((source.facts, blob.digest))
        return blob

    def _new(self, source: SourceFile, *, many: bool) -> Blob:
        if source.facts.st_size >= LARGE:
            return self._put_large(source)
        data = read_up_to(source.read, LARGE)
        source.check(len(data))
        self._tell(len(data))
        if not many or len(data) > PACKED:
            return self._put_small(data)
        blob = Blob(hashlib.sha256(data).hexdigest(), len(data))
        if self._here.get(blob.digest) != blob.size:
            self._here[blob.digest] = blob.size
            self._waiting.append((blob, data))
            self._held += blob.size
            if self._held > _HELD or len(self._waiting) >= _GROUP:
                self._store_waiting()
        return blob

    def _store_waiting(self) -> None:
        waiting, self._waiting, self._held = self._waiting, [], 0
        if not waiting:
            return
        packed = self._reliance.on_blobs(blob.digest for blob, _ in waiting)
        for blob, data in waiting:
            if packed.get(blob.digest) != blob.size and not self._rely_unpacked(blob.digest, blob.size):
                self._packs.add(blob.digest, self._compressor.compress(data) or data, blob.size)

    def _rely(self, digest: str, size: int) -> bool:
        return self._reliance.on_blobs([digest]).get(digest) == size or self._rely_unpacked(digest, size)

    def _rely_unpacked(self, digest: str, size: int) -> bool:
        return self._reliance.on_loose(digest) == size or self._reliance.on_recipe(digest) == size

    def _tell(self, count: int) -> None:
        if self._progress is not None:
            self._progress(count)
