"""The engine for SHA-256 repositories, which libgit2 refuses: dulwich reads the packs.

Loose objects are read here, because dulwich does not check their content against their id.
"""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Final

from dulwich.object_format import get_object_format
from dulwich.object_store import DiskObjectStore
from dulwich.objects import ObjectID

from gml.domain.errors import CorruptError
from gml.git.objects import object_id
from gml.git.store import FileStore, damaged, missing, unreadable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from gml.git.port import Kind, Location

_KINDS: Final[dict[int, Kind]] = {1: "commit", 2: "tree", 3: "blob", 4: "tag"}


class DulwichStore(FileStore):
    """`GitStore` over dulwich's pack reader."""

    def __init__(
        self,
        location: Location,
        environ: Mapping[str, str],
        *,
        objects_dir: Path | None = None,
        alternates: Sequence[Path] = (),
    ) -> None:
        super().__init__(location, environ, objects_dir=objects_dir, alternates=alternates)
        self._packs = self._open_packs()
        # dulwich complains on stderr about stores that are still open when the interpreter ends
        weakref.finalize(self, _close_all, self._packs)

    def _open_packs(self) -> list[DiskObjectStore]:
        form = get_object_format(self._location.object_format)
        return [DiskObjectStore(path, object_format=form) for path in self.objects_dirs()]

    def _forget(self) -> None:
        with self._lock:
            self.close()
            self._packs[:] = self._open_packs()

    def read(self, oid: str) -> tuple[Kind, bytes]:
        """See `GitStore.read`."""
        if not self._is_id(oid):
            raise missing(oid)
        damage: CorruptError | None = None
        for attempt in (1, 2):
            for store in self._packs:
                try:
                    found = self._read_loose(oid, [os.fspath(store.path)])
                except CorruptError as exc:
                    # Git prefers a good copy in a pack, and so do we.
                    found, damage = None, exc
                # dulwich itself would take a loose object without the end of its checksum.
                if found is None and (damage is None or store.contains_packed(ObjectID(oid.encode()))):
                    found = self._read_packed(store, oid, last=attempt == 2)
                if found is None:
                    continue
                if object_id(*found, self._location.object_format) != oid:
                    raise damaged(oid, "its content does not match its id")
                return found
            if attempt == 1:
                self._forget()
        raise damage or missing(oid)

    def _read_packed(self, store: DiskObjectStore, oid: str, *, last: bool) -> tuple[Kind, bytes] | None:
        with self._lock:
            try:
                number, data = store.get_raw(ObjectID(oid.encode()))
            except KeyError:
                return None
            except OSError as exc:
                # a pack that `git repack` removed under us: the second attempt looks at the new ones
                if last:
                    raise unreadable(oid, exc) from exc
                return None
            except Exception as exc:
                # bad data shows as zlib.error, ValueError, AssertionError or dulwich's own: no common root
                if last:
                    raise damaged(oid, exc) from exc
                return None
        return _KINDS[number], data

    def contains(self, oid: str) -> bool:
        """See `GitStore.contains`."""
        if not self._is_id(oid):
            return False
        with self._lock:
            name = ObjectID(oid.encode())
            return any(name in store for store in self._packs)

    def close(self) -> None:
        """See `GitStore.close`."""
        _close_all(self._packs)


def _close_all(stores: list[DiskObjectStore]) -> None:
    for store in stores:
        store.close()
