"""A folder as a remote: on a disk, or a share that is mounted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gml.cas.local import LocalStore
from gml.cas.names import FOLDERS, Kind, parse_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from gml.cas.remote import Source


class FolderRemote:
    """A `Remote` in a folder. What it is sent is checked against its name before it gets it.

    Args:
        root: the folder; it is made by the first file.
        cache: a folder on this machine for derived data; within `root` if there is none.
    """

    def __init__(self, root: Path, cache: Path | None = None) -> None:
        self.url = str(root)
        self._store = LocalStore(root, cache)

    def __repr__(self) -> str:
        return f"FolderRemote({self.url!r})"

    def names(self, folder: str = "") -> Iterator[tuple[str, int]]:
        """Yield name and size of each stored file below a folder."""
        for one in [folder] if folder else FOLDERS:
            for stored in self._store.names(one):
                yield stored.name, stored.size

    def size(self, name: str) -> int | None:
        """Return the size of a file, None when it is not there."""
        return self._store.name_size(name)

    def sizes(self, names: Iterable[str]) -> dict[str, int]:
        """Return the size of each of these files that is there."""
        found = {name: self._store.name_size(name) for name in names}
        return {name: size for name, size in found.items() if size is not None}

    def send(self, name: str, source: Source) -> None:
        """Store a file whole, verified, synced to the disk."""
        if parse_name(name).kind is not Kind.INDEX or self.size(name) != source.size:
            with source.open() as file:
                self._store.adopt_name(name, file, source.index)
        source.sent(source.size)

    def fetch(self, name: str, start: int, end: int) -> bytes:
        """Return bytes `start` to `end` of a file, not verified."""
        pieces = []
        with self._store.open_name(name, start, end - start) as file:
            while piece := file.read(end - start):
                pieces.append(piece)
        return b"".join(pieces)

    def delete(self, name: str) -> None:
        """Remove a file; one that is not there is no error."""
        self._store.delete_name(name)
