"""The user's files as a snapshot: looked at, never touched."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Protocol

from gml.git import patches
from gml.git.objects import format_commit, parse_commit
from gml.git.port import Commit, Head, Identity, Snapshot, SnapshotRules
from gml.git.selection import Choice, Look, choose, shown, summarize

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gml.git.port import GitStore, WorkTree
    from gml.git.store import FileStore


class _Adapter(Protocol):
    def look(self) -> Look: ...
    def build(self, head_tree: str | None, choice: Choice) -> str: ...
    def diff(self, old_tree: str | None, new_tree: str | None, max_bytes: int | None) -> str: ...


def open_worktree(store: FileStore) -> WorkTree:
    """Return the work tree of a repository; of a bare one, a work tree that is always clean.

    The git command on the PATH of the store's environment is used if there is one, libgit2 otherwise.

    Raises:
        RepositoryError: there is no git command and libgit2 can not read the repository.
    """
    top = store.location.worktree
    git = shutil.which("git", path=store.environ.get("PATH", os.defpath))
    adapter: _Adapter | None = None
    if git:
        from gml.git.worktree_git import GitFiles

        adapter = GitFiles(git, store)
    elif top:
        from gml.git.worktree_pygit2 import LibgitFiles

        adapter = LibgitFiles(store, top)
    return Files(store, adapter, top)


class Files:
    """`WorkTree` over one of the adapters; see `open_worktree`."""

    def __init__(self, store: FileStore, adapter: _Adapter | None, top: Path | None) -> None:
        self._store = store
        self._adapter = adapter
        self._top = top

    def snapshot(self, rules: SnapshotRules, *, write: bool = True) -> Snapshot:
        """See `WorkTree.snapshot`."""
        for _ in range(5):
            head = self._store.head()
            look = self._adapter.look() if self._adapter and self._top else Look()
            if self._store.head() == head:
                break  # otherwise somebody committed meanwhile: what we saw belongs to no commit
        tree = parse_commit(self._store.read(head.commit)[1]).tree if head.commit else None
        if self._adapter is None or self._top is None:
            return Snapshot(head.commit, head.branch, tree, dirty=False)
        choice = choose(self._top, look, rules)
        if write and (choice.take or choice.remove):
            tree = self._adapter.build(tree, choice)
        elif write and tree is None:
            tree = self._store.write("tree", b"")
        return _snapshot(head, tree, look, choice)

    def diff(self, old_tree: str | None, new_tree: str | None, *, max_bytes: int | None = None) -> str:
        """See `WorkTree.diff`."""
        if old_tree == new_tree:
            return ""
        if self._adapter is None:
            return patches.tree_diff(self._store, old_tree, new_tree, max_bytes)
        return self._adapter.diff(old_tree, new_tree, max_bytes)

    def changes(self, old_tree: str | None, new_tree: str | None) -> Iterator[tuple[str, str]]:
        """See `WorkTree.changes`."""
        return patches.changes(self._store, old_tree, new_tree)


def _snapshot(head: Head, tree: str | None, look: Look, choice: Choice) -> Snapshot:
    changed = {*look.tracked, *look.moved_submodules, *look.dirty_submodules}
    return Snapshot(
        commit=head.commit,
        branch=head.branch,
        tree=tree,
        dirty=choice.dirty,
        changed=tuple(sorted(map(shown, changed))),
        untracked=tuple(sorted(map(shown, choice.untracked))),
        left_out=summarize(choice.left_out),
    )


def snapshot_commit(store: GitStore, snapshot: Snapshot, identity: Identity, time: int, message: str) -> str:
    """Write the commit that holds a snapshot's tree, on top of HEAD's commit, and return its id.

    A snapshot whose tree is HEAD's own needs none: HEAD's commit is returned. The date is never before
    the parent's, because back-dated commits make fetches slow.

    Args:
        store: where to write.
        snapshot: taken with `write=True`.
        identity: author and committer.
        time: seconds since the epoch.
        message: full commit message.
    """
    parents: tuple[str, ...] = ()
    if snapshot.commit is not None:
        parent = parse_commit(store.read(snapshot.commit)[1])
        if snapshot.tree in {None, parent.tree}:
            return snapshot.commit
        parents = (snapshot.commit,)
        time = max(time, parent.commit_time)
    tree = snapshot.tree or store.write("tree", b"")
    commit = Commit(tree, parents, identity, time, identity, time, message)
    return store.write("commit", format_commit(commit))
