"""The composition root: finds the repository, reads configuration once, builds what works on it."""

from __future__ import annotations

import getpass
import hashlib
import os
import secrets
import socket
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING

from gml.git.discover import open_store
from gml.git.port import Identity
from gml.ledger.ledger import Ledger
from gml.workspace.settings import Settings, read_settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gml.cas.local import LocalStore
    from gml.cas.pins import Pins
    from gml.git.port import WorkTree
    from gml.git.store import FileStore
    from gml.workspace.remotes import ArtifactRemote


class Workspace:
    """One repository and everything gml keeps in it.

    Args:
        store: the opened repository.
        environ: environment variables, as read at start.
    """

    def __init__(self, store: FileStore, environ: Mapping[str, str]) -> None:
        self.store = store
        self.environ = environ
        self.settings: Settings = read_settings(store.config, environ)

    @classmethod
    def open(cls, path: str | Path | None = None, environ: Mapping[str, str] | None = None) -> Workspace:
        """Find the repository of a path, of GML_REPO, or of the current directory.

        Raises:
            RepositoryError: there is none, or it cannot be used.
            UsageError: a setting is malformed.
        """
        env = os.environ if environ is None else environ
        return cls(open_store(path or env.get("GML_REPO") or None, environ=env), env)

    @property
    def state_dir(self) -> Path:
        """Directory of everything gml keeps beside git's own files; shared by all worktrees."""
        return self.store.location.common_dir / "gml"

    @property
    def journal_root(self) -> Path:
        """Directory of the journals of live runs.

        A directory that the user chose may serve several repositories: each clone has its own part of it,
        so that no run is committed to another one's ledger.
        """
        chosen = self.settings.journal_dir
        return self.state_dir / "journal" if chosen is None else chosen / self._clone

    @cached_property
    def user(self) -> str:
        """Login name of whoever runs this process."""
        named = self.environ.get("GML_USER")
        if named:
            return named
        try:
            return getpass.getuser()
        except (OSError, KeyError):
            return f"uid-{os.getuid()}" if hasattr(os, "getuid") else "unknown"

    @cached_property
    def identity(self) -> Identity:
        """Author of ledger commits: git's identity, or login name and host where git has none."""
        return self.store.identity() or Identity(
            self.user, f"{self.user}@{socket.gethostname() or 'localhost'}"
        )

    @cached_property
    def ledger(self) -> Ledger:
        """The runs."""
        return Ledger(self.store, namespace=self.settings.namespace, identity=self.identity)

    @cached_property
    def artifact_remotes(self) -> dict[str, ArtifactRemote]:
        """Where artifacts are besides this clone, by name; the main store first, where it is a URL."""
        from gml.workspace.remotes import read_remotes

        where = self.store.location
        return read_remotes(
            self.store.config_items(),
            self.store.config_items(protected=True),
            self.settings.artifact_store,
            where.worktree or where.common_dir,
        )

    @cached_property
    def blobs(self) -> LocalStore:
        """The artifact store: files of this machine, backed by the remotes where there are some."""
        from gml.cas.backed import BackedStore
        from gml.cas.local import LocalStore
        from gml.workspace.remotes import MAIN, local_root

        root = local_root(self.settings.artifact_store, self.state_dir / "cas")
        cache = None if root == self.state_dir / "cas" else self.state_dir / "cas-cache"
        known = self.artifact_remotes
        if not known:
            return LocalStore(root, cache, self.pins(root))
        limit = self.settings.artifact_cache
        return BackedStore(root, cache, list(known.values()), known.get(MAIN), limit, self.pins)

    def pins(self, root: Path) -> Pins | None:
        """Return where this clone says what it needs of an artifact store; None for its own."""
        from gml.cas.pins import Pins

        own = root.absolute() == (self.state_dir / "cas").absolute()
        return None if own else Pins(root, lambda: self.writer_id)

    @cached_property
    def worktree(self) -> WorkTree:
        """The user's files, read only."""
        from gml.git.worktree import open_worktree

        return open_worktree(self.store)

    @cached_property
    def _clone(self) -> str:
        """The writer's id, or for a clone that cannot be written to and so has none its place."""
        written = self.writer_id
        if (self.state_dir / "writer").is_file():
            return written
        return hashlib.sha256(os.fsencode(self.store.location.common_dir)).hexdigest()[:16]

    @cached_property
    def writer_id(self) -> str:
        """Random id of this clone, 16 hexadecimal digits, made on first use."""
        path = self.state_dir / "writer"
        with suppress(OSError):
            known = path.read_text().strip()
            if len(known) == 16:
                return known
        made = secrets.token_hex(8)
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".writer-{made}")
            temporary.write_text(f"{made}\n")
            with suppress(FileExistsError):
                os.link(temporary, path)
            temporary.unlink()
            return path.read_text().strip() or made
        return made
