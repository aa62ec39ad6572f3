"""The port between gml and git: everything above this room sees only these names.

An engine stores and returns raw objects, moves refs by compare-and-swap, and answers a few
questions about the repository. It does not know what a run is. Objects are named by hexadecimal
ids (`str`), 40 digits in SHA-1 and 64 in SHA-256 repositories. Ref names are always full.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

Kind = Literal["blob", "tree", "commit", "tag"]

MODE_FILE = 0o100644
MODE_EXECUTABLE = 0o100755
MODE_LINK = 0o120000
MODE_TREE = 0o040000
MODE_GITLINK = 0o160000


@dataclass(frozen=True, slots=True)
class Location:
    """Where a repository is and which engine serves it.

    Attributes:
        common_dir: the directory that all worktrees share (`git rev-parse --git-common-dir`).
        git_dir: the directory of this worktree; equals `common_dir` for the main one.
        worktree: top of the checked-out files, None for a bare repository.
        object_format: `sha1` or `sha256`.
        engine: `pygit2` or `dulwich`.
        engine_reason: one line that says why this engine was chosen.
    """

    common_dir: Path
    git_dir: Path
    worktree: Path | None
    object_format: str
    engine: str
    engine_reason: str


@dataclass(frozen=True, slots=True)
class Head:
    """What HEAD points at: no commit before the first one, no branch when detached."""

    commit: str | None
    branch: str | None


@dataclass(frozen=True, slots=True)
class Identity:
    """Name and e-mail for commits."""

    name: str
    email: str


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One line of a tree object."""

    name: str
    mode: int
    oid: str

    @property
    def is_tree(self) -> bool:
        """Whether the entry is a directory."""
        return self.mode == MODE_TREE


@dataclass(frozen=True, slots=True)
class Commit:
    """The parts of a commit object that gml reads and writes.

    `author_time` and `commit_time` are seconds since the epoch; `author_offset` and `commit_offset`
    are minutes east of UTC. `extra` holds further headers (such as `gpgsig`) in order of appearance.
    """

    tree: str
    parents: tuple[str, ...]
    author: Identity
    author_time: int
    committer: Identity
    commit_time: int
    message: str
    author_offset: int = 0
    commit_offset: int = 0
    extra: tuple[tuple[str, str], ...] = field(default=())


@runtime_checkable
class GitStore(Protocol):
    """Objects, refs and configuration of one repository.

    All methods may be called from several threads. An engine never caches a ref, and sees objects
    that other processes wrote (loose or packed) without being told.
    """

    @property
    def location(self) -> Location:
        """Where the repository is."""

    def read(self, oid: str) -> tuple[Kind, bytes]:
        """Return kind and content of an object.

        Raises:
            NotFoundError: the object is not in the repository.
            CorruptError: it is there but cannot be decoded.
        """

    def contains(self, oid: str) -> bool:
        """Whether the object is in the repository."""

    def write(self, kind: Kind, data: bytes) -> str:
        """Store one object durably (fsync before return) and return its id. Storing twice is fine.

        Raises:
            StorageError: the disk is full, failing, or read-only.
        """

    def write_pack(self, objects: Sequence[tuple[Kind, bytes]]) -> list[str]:
        """Store many objects as one durable pack and return their ids, in order.

        The pack appears whole or not at all, and `git fsck --strict` and `git index-pack` accept it.
        """

    def ref(self, name: str) -> str | None:
        """Return the id a ref points at (symbolic refs followed), or None."""

    def refs(self, prefix: str) -> dict[str, str]:
        """Return all refs whose full name starts with `prefix`, sorted by name."""

    def update_ref(self, name: str, new: str, *, expected: str | None, message: str) -> None:
        """Point a ref at `new` if it still points at `expected` (None: must not exist), durably.

        Raises:
            RefMovedError: somebody else moved it; nothing was changed.
            StorageError: it could not be written.
        """

    def delete_ref(self, name: str, *, expected: str) -> None:
        """Delete a ref if it still points at `expected`; raises as `update_ref`."""

    def head(self) -> Head:
        """Return what HEAD points at."""

    def resolve(self, revision: str) -> str | None:
        """Return the object id that a git revision (`main~2`, `v1.0`, short id) means, or None."""

    def is_ancestor(self, ancestor: str, tip: str) -> bool:
        """Whether `ancestor` equals `tip` or can be reached from it."""

    def config(self, key: str) -> str | None:
        """Return the last value of a git config key over all levels, or None."""

    def set_config(self, key: str, value: str | None) -> None:
        """Set (or with None remove) a key in the repository's own config file."""

    def identity(self) -> Identity | None:
        """Return user.name and user.email (GIT_AUTHOR_* win) where both are known."""

    def remotes(self) -> dict[str, str]:
        """Return remote names and fetch URLs, credentials in URLs removed."""

    def close(self) -> None:
        """Release file handles. The store can not be used afterwards."""


class TreeReader(Protocol):
    """The part of `GitStore` that walks need."""

    def read(self, oid: str) -> tuple[Kind, bytes]:
        """See `GitStore.read`."""


@dataclass(frozen=True, slots=True)
class SnapshotRules:
    """What of a dirty work tree may go into a code snapshot.

    Attributes:
        max_file: bytes; larger untracked files are left out and listed.
        max_total: bytes of all untracked files together.
        max_files: number of untracked files.
        ignore: extra gitignore patterns of files never to take (from `.gmlignore` and built-in secrets).
    """

    max_file: int = 5 * 1024 * 1024
    max_total: int = 100 * 1024 * 1024
    max_files: int = 5_000
    ignore: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of the user's code at one moment.

    Attributes:
        commit: HEAD's commit, None before the first one.
        branch: HEAD's branch, None when detached.
        tree: id of the tree with all changes applied (equals HEAD's tree when clean), None in a bare
            repository without commits.
        dirty: whether tracked files differ from HEAD or untracked, not ignored files exist.
        changed: paths of tracked files that differ from HEAD (modified, added, deleted), sorted.
        untracked: untracked paths that were taken, sorted.
        left_out: path -> reason (`secret`, `too large`, `too many`, `unreadable`, `submodule`, ...).
        patch: unified diff between HEAD's tree and `tree`, only filled when it was asked for.
    """

    commit: str | None
    branch: str | None
    tree: str | None
    dirty: bool
    changed: tuple[str, ...] = ()
    untracked: tuple[str, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    patch: str | None = None


class WorkTree(Protocol):
    """Reads the user's files without touching work tree, index, HEAD, branches, stash or config."""

    def snapshot(self, rules: SnapshotRules, *, write: bool = True) -> Snapshot:
        """Capture the work tree. With `write=False` only look: `tree` is then HEAD's tree."""

    def diff(self, old_tree: str | None, new_tree: str | None, *, max_bytes: int | None = None) -> str:
        """Return the unified diff between two trees (None: empty tree), cut with a note past `max_bytes`."""

    def changes(self, old_tree: str | None, new_tree: str | None) -> Iterator[tuple[str, str]]:
        """Yield (status letter A/M/D/T, path) between two trees, sorted by path."""
