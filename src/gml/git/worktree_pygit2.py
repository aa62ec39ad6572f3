"""The work tree seen through libgit2, for machines without a git binary.

libgit2 knows line-end conversion but no external filters; files that need one are left out.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any, Final

import pygit2

from gml.domain.errors import GmlError, RepositoryError
from gml.git.patches import tree_diff
from gml.git.port import MODE_EXECUTABLE, MODE_FILE, MODE_GITLINK, MODE_LINK
from gml.git.selection import Choice, Look, shown
from gml.git.trees import Change, edit, lookup

if TYPE_CHECKING:
    from pathlib import Path

    from gml.git.store import FileStore

_UNTRACKED: Final = 1 << 7
_DELETED: Final = 1 << 9
_IGNORED: Final = 1 << 14


class LibgitFiles:
    """The adapter over libgit2."""

    def __init__(self, store: FileStore, top: Path) -> None:
        self._store = store
        self._top = top
        try:
            self._repo: Any = pygit2.Repository(str(store.location.git_dir))
        except pygit2.GitError as exc:
            raise RepositoryError(
                f"libgit2 cannot read this work tree: {exc}", hint="install the git command"
            ) from exc

    def look(self) -> Look:
        """Ask libgit2 what differs."""
        look = Look()
        try:
            found = self._repo.status(untracked_files="all", ignored=False)
        except pygit2.GitError as exc:
            raise RepositoryError(f"cannot read the work tree: {exc}", hint="see `git status`") from exc
        head = self._head_tree()
        # libgit2 takes what a sparse checkout leaves away for deleted
        sparse = self._store.config("core.sparsecheckout") == "true"
        for path, flags in found.items():
            if flags & _IGNORED or not flags or (sparse and flags == _DELETED):
                continue
            if flags & _UNTRACKED and not flags & 31:
                (look.embedded if path.endswith("/") else look.untracked).append(path)
            elif self._is_submodule(head, path):
                if self._submodule_commit(path) != self._recorded(head, path):
                    look.moved_submodules.append(path)
                if self._submodule_is_dirty(path):
                    look.dirty_submodules.append(path)
            else:
                look.tracked.append(path)
                if flags & _UNTRACKED:
                    look.untracked.append(path)
        return look

    def _head_tree(self) -> str | None:
        return self._store.resolve("HEAD^{tree}")

    def _recorded(self, head: str | None, path: str) -> str | None:
        entry = lookup(self._store, head, path) if head else None
        return entry.oid if entry else None

    def _is_submodule(self, head: str | None, path: str) -> bool:
        entry = lookup(self._store, head, path) if head else None
        if entry is not None and entry.mode == MODE_GITLINK:
            return True
        return (self._top / path).is_dir() and (self._top / path / ".git").exists()

    def _submodule_commit(self, path: str) -> str | None:
        try:
            return str(pygit2.Repository(str(self._top / path)).head.target)
        except (pygit2.GitError, KeyError):
            return None

    def _submodule_is_dirty(self, path: str) -> bool:
        try:
            return bool(pygit2.Repository(str(self._top / path)).status(ignored=False))
        except pygit2.GitError:
            return False

    def build(self, head_tree: str | None, choice: Choice) -> str:
        """Write the chosen files and return the tree: HEAD's, with exactly these changes."""
        changes: dict[str, Change] = dict.fromkeys(choice.remove)
        for path in list(choice.take):
            try:
                taken = self._take(path, head_tree)
            except (OSError, pygit2.GitError, GmlError) as exc:
                choice.left_out[path] = f"unreadable: {exc}"
                taken = None
            if taken is not None:
                changes[path] = taken
                continue
            choice.left_out.setdefault(path, "needs a filter program, and so the git command")
            choice.take.remove(path)
            if path in choice.untracked:
                choice.untracked.remove(path)
        root, trees = edit(self._store, head_tree, changes, object_format=self._store.location.object_format)
        for kind, data in trees:
            self._store.write(kind, data)
        return root

    def _take(self, path: str, head_tree: str | None) -> Change:
        full = self._top / path
        info = full.lstat()
        if stat.S_ISDIR(info.st_mode):
            commit = self._submodule_commit(path)
            return (MODE_GITLINK, commit) if commit else None
        if stat.S_ISLNK(info.st_mode):
            data, mode = os.fsencode(full.readlink()), MODE_LINK
        else:
            filtered = self._filtered(path)
            if filtered is None:
                return None
            data, mode = filtered, self._mode(path, info.st_mode, head_tree)
        oid = self._store.write("blob", data)
        return mode, oid

    def _filtered(self, path: str) -> bytes | None:
        """Return a file's content as git stores it; None where that takes a program."""
        full = self._top / path
        if not path.isprintable() and path != shown(path):
            return full.read_bytes()  # pygit2 can not pass on a name that is not UTF-8
        program = self._repo.get_attr(path, "filter")
        if isinstance(program, str) and self._store.config(f"filter.{program}.clean"):
            return None
        filters = self._repo.load_filter_list(path, pygit2.enums.FilterMode.TO_ODB)
        return full.read_bytes() if filters is None else bytes(filters.apply_to_file(self._repo, path))

    def _mode(self, path: str, found: int, head_tree: str | None) -> int:
        if self._store.config("core.filemode") == "false":
            entry = lookup(self._store, head_tree, path) if head_tree else None
            return entry.mode if entry and entry.mode in {MODE_FILE, MODE_EXECUTABLE} else MODE_FILE
        return MODE_EXECUTABLE if found & stat.S_IXUSR else MODE_FILE

    def diff(self, old_tree: str | None, new_tree: str | None, max_bytes: int | None) -> str:
        """Compare two trees."""
        return tree_diff(self._store, old_tree, new_tree, max_bytes)
