"""What both engines share: refs, configuration, writing, and the repository's facts.

An engine adds reading of objects, short ids, revisions and ancestry.
"""

from __future__ import annotations

import os
import re
import threading
from typing import TYPE_CHECKING

from gml.domain.errors import CorruptError, NotFoundError, StorageError
from gml.git import gitconfig, revisions
from gml.git.files import shared_bits
from gml.git.loose import freshen, loose_path, read_loose, write_loose
from gml.git.objects import hash_length, object_id
from gml.git.pack import write_pack
from gml.git.port import Head, Identity, Kind, Location
from gml.git.refs import RefFiles

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

_HEX = re.compile("[0-9a-f]+")
_CREDENTIALS = re.compile(r"^([a-z][a-z0-9+.-]*://)[^/@]*@", re.IGNORECASE)


class FileStore:
    """The part of `GitStore` that needs no git library.

    Args:
        location: where the repository is.
        environ: environment for configuration and identity.
        objects_dir: where new objects go, `<common dir>/objects` unless a hook runs in quarantine.
        alternates: further object directories from `GIT_ALTERNATE_OBJECT_DIRECTORIES`.
    """

    def __init__(
        self,
        location: Location,
        environ: Mapping[str, str],
        *,
        objects_dir: Path | None = None,
        alternates: Sequence[Path] = (),
    ) -> None:
        self._location = location
        self._environ = environ
        self._objects_dir = objects_dir or location.common_dir / "objects"
        self._alternates = tuple(alternates)
        self._config = gitconfig.GitConfig(environ, location.git_dir, location.common_dir)
        self._lock = threading.RLock()
        self._shared = shared_bits(self._config.get("core.sharedrepository"))
        self._refs = RefFiles(
            location.git_dir,
            location.common_dir,
            "0" * (2 * hash_length(location.object_format)),
            self._signer,
            (self._config.get("core.logallrefupdates") or ("true" if location.worktree else "false")).lower(),
            self._shared,
        )

    @property
    def location(self) -> Location:
        """Where the repository is."""
        return self._location

    @property
    def environ(self) -> Mapping[str, str]:
        """The environment that the store was opened with."""
        return self._environ

    # objects

    def read(self, oid: str) -> tuple[Kind, bytes]:
        """See `GitStore.read`."""
        raise NotImplementedError

    def contains(self, oid: str) -> bool:
        """See `GitStore.contains`."""
        raise NotImplementedError

    def objects_dirs(self) -> list[Path]:
        """Return the object directories, those of alternates too."""
        found: list[Path] = []
        queue = [self._objects_dir, *self._alternates]
        while queue:
            path = queue.pop(0)
            if path in found:
                continue
            found.append(path)
            try:
                lines = (path / "info" / "alternates").read_text("utf-8", "surrogateescape").splitlines()
            except OSError:
                continue
            queue += [path / line for line in lines if line and not line.startswith("#")]
        return found

    def _read_loose(self, oid: str, dirs: Iterable[str]) -> tuple[Kind, bytes] | None:
        """Read a loose object from the first of the directories that has it, checked; None if none has."""
        for path in dirs:
            # most objects are packed, and asking is cheaper than an exception
            if os.access(loose_path(path, oid), os.F_OK):
                found = read_loose(path, oid)
                if found is not None:
                    if object_id(*found, self._location.object_format) != oid:
                        raise damaged(oid, "its content does not match its id")
                    return found
        return None

    def _is_id(self, oid: str) -> bool:
        return len(oid) == len(self._refs.zero) and _HEX.fullmatch(oid) is not None

    def write(self, kind: Kind, data: bytes) -> str:
        """See `GitStore.write`."""
        oid = object_id(kind, data, self._location.object_format)
        if not freshen(loose_path(self._objects_dir, oid)):
            write_loose(self._objects_dir, oid, kind, data, self._shared)
        return oid

    def write_pack(self, objects: Sequence[tuple[Kind, bytes]]) -> list[str]:
        """See `GitStore.write_pack`."""
        # Engines notice a new pack when they miss an object, as they do those of other processes.
        return write_pack(self._objects_dir, objects, self._location.object_format, self._shared)

    # refs

    def ref(self, name: str) -> str | None:
        """See `GitStore.ref`."""
        return self._refs.resolve(name)[1]

    def refs(self, prefix: str) -> dict[str, str]:
        """See `GitStore.refs`."""
        return self._refs.list(prefix)

    def update_ref(self, name: str, new: str, *, expected: str | None, message: str) -> None:
        """See `GitStore.update_ref`."""
        if not self.contains(new):
            raise NotFoundError(f"{name} can not point at {new}: the object is not in the repository")
        self._refs.update(name, new, expected, message)

    def delete_ref(self, name: str, *, expected: str) -> None:
        """See `GitStore.delete_ref`."""
        self._refs.delete(name, expected)

    def break_lock(self, name: str) -> bool:
        """Remove `<ref>.lock`; only for callers that hold a lock of their own and so know it is stale."""
        return self._refs.break_lock(name)

    def head(self) -> Head:
        """See `GitStore.head`."""
        name, oid = self._refs.resolve("HEAD")
        return Head(oid, name.removeprefix("refs/heads/") if name != "HEAD" else None)

    def resolve(self, revision: str) -> str | None:
        """See `GitStore.resolve`."""
        return revisions.resolve(self, revision, self.objects_dirs())

    def is_ancestor(self, ancestor: str, tip: str) -> bool:
        """See `GitStore.is_ancestor`."""
        return revisions.is_ancestor(self, ancestor, tip)

    # configuration

    def config(self, key: str) -> str | None:
        """See `GitStore.config`."""
        return self._config.get(key)

    def set_config(self, key: str, value: str | None) -> None:
        """See `GitStore.set_config`."""
        gitconfig.set_value(self._location.common_dir / "config", key, value)

    def config_values(self, key: str) -> list[str]:
        """Return all values of a git config key over all levels, in order."""
        return self._config.get_all(key)

    def config_items(self, *, protected: bool = False) -> list[tuple[str, str | None]]:
        """Return all pairs of git config, weakest first; `protected` leaves out what the repository says."""
        return list(self._config.items(protected=protected))

    def add_config(self, key: str, value: str) -> None:
        """Give a key of the repository's own config file one more value."""
        gitconfig.set_value(self._location.common_dir / "config", key, value, add=True)

    def identity(self) -> Identity | None:
        """See `GitStore.identity`."""
        return self._identity("AUTHOR")

    def _identity(self, role: str) -> Identity | None:
        env = self._environ
        name = env.get(f"GIT_{role}_NAME") or self._role_config(role, "name")
        email = env.get(f"GIT_{role}_EMAIL") or self._role_config(role, "email") or env.get("EMAIL")
        return Identity(name, email) if name and email else None

    def _role_config(self, role: str, key: str) -> str | None:
        return self._config.get(f"{role.lower()}.{key}") or self._config.get(f"user.{key}")

    def _signer(self) -> str:
        identity = self._identity("COMMITTER") or self.identity() or Identity("gml", "gml@localhost")
        return re.sub(r"[\n\r\0]", " ", f"{identity.name} <{identity.email}>")

    def remotes(self) -> dict[str, str]:
        """See `GitStore.remotes`."""
        found: dict[str, str] = {}
        for key, value in self._config.items():
            if key.startswith("remote.") and key.endswith(".url") and value:
                # a remote may have several push URLs; the first is the one that fetch uses
                found.setdefault(key[7:-4], _CREDENTIALS.sub(r"\1", value))
        return dict(sorted(found.items()))

    def close(self) -> None:
        """See `GitStore.close`."""


def missing(oid: str) -> NotFoundError:
    """Return the error for an object that is not there."""
    return NotFoundError(
        f"object {oid} is not in the repository", hint="a shallow or partial clone may lack it"
    )


def damaged(oid: str, why: object) -> CorruptError:
    """Return the error for an object that can not be decoded."""
    return CorruptError(f"object {oid} is damaged ({why})", hint="run `git fsck`, then fetch it from a clone")


def unreadable(oid: str, why: object) -> StorageError:
    """Return the error for an object that the storage did not give out."""
    return StorageError(f"cannot read object {oid}: {why}")
