"""The engine for ordinary repositories: libgit2 reads objects, answers revisions and ancestry.

Importing pygit2 costs 78 ms, so only `gml.git.discover` imports this module, when it chose the engine.
Refs, configuration and writing are in `FileStore`: no global option of libgit2 is changed, because the
user's training script may use pygit2 too.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import pygit2

from gml.domain.errors import CorruptError, NotFoundError, RepositoryError
from gml.git.loose import loose_path
from gml.git.store import FileStore, damaged, missing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from gml.git.port import Kind, Location

_KINDS: Final[dict[int, Kind]] = {1: "commit", 2: "tree", 3: "blob", 4: "tag"}


class Pygit2Store(FileStore):
    """`GitStore` over libgit2's object database."""

    def __init__(
        self,
        location: Location,
        environ: Mapping[str, str],
        *,
        objects_dir: Path | None = None,
        alternates: Sequence[Path] = (),
    ) -> None:
        super().__init__(location, environ, objects_dir=objects_dir, alternates=alternates)
        self._dirs: list[str] = []
        self._complete = False
        self._odb = self._open_odb()

    def _open_odb(self) -> Any:
        # Only the packs: libgit2 never returns from reading a loose object that was cut short.
        odb = pygit2.Odb()
        try:
            self._dirs = [os.fspath(path) for path in self.objects_dirs()]
            packed = [path for path in self._dirs if os.path.isdir(f"{path}/pack")]  # noqa: PTH112
            for path in packed:
                odb.add_backend(pygit2.OdbBackendPack(path), 1)
            # libgit2 notices new packs, but not a directory of packs that came later.
            self._complete = len(packed) == len(self._dirs)
        except (pygit2.GitError, OSError) as exc:
            raise RepositoryError(f"cannot open the objects of {self._location.common_dir}: {exc}") from exc
        return odb

    def _forget(self) -> None:
        with self._lock:
            self._odb = self._open_odb()

    def read(self, oid: str) -> tuple[Kind, bytes]:
        """See `GitStore.read`."""
        if not self._is_id(oid):
            raise missing(oid)
        try:
            found = self._read_loose(oid, self._dirs)
        except CorruptError:
            # Git prefers a good copy in a pack, and so do we.
            try:
                return self._read_packed(oid)
            except NotFoundError:
                pass
            raise
        return found or self._read_packed(oid)

    def _read_packed(self, oid: str) -> tuple[Kind, bytes]:
        with self._lock:
            try:
                number, data = self._odb.read(oid)
            except (KeyError, ValueError, pygit2.GitError):
                # a pack that `git repack` removed after we had opened its index looks missing or damaged
                return self._read_again(oid)
        return _KINDS[number], data

    def _read_again(self, oid: str) -> tuple[Kind, bytes]:
        self._forget()
        try:
            number, data = self._odb.read(oid)
        except (KeyError, ValueError) as exc:
            # `git unpack-objects` may have made it loose while the packs were looked through.
            found = self._read_loose(oid, self._dirs)
            if found is None:
                raise missing(oid) from exc
            return found
        except pygit2.GitError as exc:
            raise damaged(oid, exc) from exc
        return _KINDS[number], data

    def close(self) -> None:
        """See `GitStore.close`."""
        with self._lock:
            self._odb = None

    def contains(self, oid: str) -> bool:
        """See `GitStore.contains`."""
        if not self._is_id(oid):
            return False
        with self._lock:
            if not self._complete:
                self._forget()
            if any(os.access(loose_path(path, oid), os.F_OK) for path in self._dirs):
                return True
            try:
                return bool(self._odb.exists(oid))
            except (pygit2.GitError, ValueError):
                return False
