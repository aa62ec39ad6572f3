"""Looking for damage in a remote: every file of it is fetched and compared with what its name promises."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from gml.cas.check import check_for
from gml.cas.names import (
    MAX_INDEX,
    Kind,
    StoredName,
    is_name,
    parse_index,
    parse_name,
    parse_recipe,
    stored_name,
)
from gml.cas.port import CHUNK, Stored
from gml.cas.pull import Ranges
from gml.cas.scrub import Damage
from gml.domain.errors import CorruptError, FormatError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gml.cas.pull import Source


class RemoteScrub:
    """One verification of a remote.

    Args:
        source: the remote.

    Attributes:
        files: everything to be read, indexes left out: they are read with their packs.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._remote = source.remote
        self._sizes = {name: size for name, size in self._remote.names() if is_name(name)}
        self.files = [
            Stored(name, size) for name, size in sorted(self._sizes.items()) if not name.endswith(".idx")
        ]

    def has_name(self, name: str) -> bool:
        """Whether the remote has a stored file."""
        return name in self._sizes

    def scrub(self, files: list[Stored], progress: Callable[[int], object] | None = None) -> Iterator[Damage]:
        """Read stored files and yield what is damaged, in no particular order.

        Args:
            files: all or some of `files`.
            progress: called with the number of bytes of each file when it was read.

        Raises:
            StorageError: the remote refuses or cannot be reached.
        """
        with ThreadPoolExecutor(self._source.jobs, "gml-verify") as pool:
            found = pool.map(lambda file: list(self._check(file)), files)
            for stored, damages in zip(files, found, strict=True):
                if progress is not None:
                    progress(stored.size)
                yield from damages

    def _check(self, stored: Stored) -> Iterator[Damage]:
        name = parse_name(stored.name)
        try:
            if name.kind is Kind.PACK:
                yield from self._check_pack(name, stored.size)
            elif name.kind is Kind.RECIPE:
                yield from self._check_recipe(name)
            else:
                check = check_for(name)
                with Ranges(self._remote, stored.name, stored.size) as file:
                    while piece := file.read(CHUNK):
                        check.update(piece)
                check.finish()
        except NotFoundError:
            return  # deleted meanwhile
        except (CorruptError, FormatError) as error:
            yield Damage(stored.name, name.digest, error.message)

    def _check_pack(self, name: StoredName, size: int) -> Iterator[Damage]:
        index = stored_name(Kind.INDEX, name.digest)
        if index not in self._sizes:
            return  # no part of the store before its index is there
        try:
            entries = parse_index(name.digest, self._remote.fetch(index, 0, MAX_INDEX))
        except (CorruptError, FormatError) as error:
            yield Damage(index, None, error.message)
            return
        end = entries[-1].offset + entries[-1].length if entries else 0
        if size > end:
            yield Damage(name.name, None, f"{size - end} bytes follow what the index says")
        with io.BufferedReader(Ranges(self._remote, name.name, size), CHUNK) as file:
            for entry in entries:
                kind = Kind.BLOB if entry.length == entry.size else Kind.COMPRESSED
                check = check_for(StoredName(name.name, kind, entry.digest))
                try:
                    check.update(file.read(entry.length))
                    check.finish()
                except CorruptError as error:
                    yield Damage(name.name, entry.digest, error.message)

    def _check_recipe(self, name: StoredName) -> Iterator[Damage]:
        recipe = parse_recipe(name.digest, self._remote.fetch(name.name, 0, MAX_INDEX))
        chunks = {chunk for chunk, _ in recipe.chunks}
        loose = {
            chunk
            for chunk in chunks
            if stored_name(Kind.BLOB, chunk) in self._sizes
            or stored_name(Kind.COMPRESSED, chunk) in self._sizes
        }
        rest = chunks - loose
        absent = rest - self._source.packed(rest)
        if absent:
            yield Damage(name.name, name.digest, f"{len(absent)} of its {len(chunks)} chunks are not there")
