"""The user's commits as a history: ranges, first parents, and what rewritten commits share with originals.

Everything is computed from parents, never from dates: a wrong clock costs nothing and hides nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gml.domain.errors import GmlError, NotFoundError
from gml.git import patches
from gml.git.objects import parse_commit
from gml.git.revisions import peel

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from gml.git.port import Commit, GitStore

MAX_PATCH: Final = 4 * 1024 * 1024
_OWN_REFS: Final = ("refs/heads/gml/", "refs/tags/gml/")


@dataclass(frozen=True, slots=True)
class CommitRange:
    """The commits of a revision range.

    Attributes:
        commits: what the range holds, newest line first.
        tips: where it ends: the commits from which all of it can be reached.
    """

    commits: tuple[str, ...]
    tips: tuple[str, ...]


class CommitLog:
    """Commits of one repository, each read once. What is beyond a shallow edge counts as not there.

    Args:
        store: the repository.
    """

    def __init__(self, store: GitStore) -> None:
        self._store = store
        self._links: dict[str, tuple[str, tuple[str, ...]] | None] = {}
        self._reached: dict[tuple[str, ...], dict[str, None]] = {}

    # --- single commits -----------------------------------------------------------------------

    def links(self, oid: str) -> tuple[str, tuple[str, ...]] | None:
        """Return tree and parents of a commit, None when it is not in the repository."""
        try:
            return self._links[oid]
        except KeyError:
            found = self._links[oid] = self._read_links(oid)
            return found

    def _read_links(self, oid: str) -> tuple[str, tuple[str, ...]] | None:
        # The store looks for new packs when an object is missing, which is slow for thousands of them.
        if not self._store.contains(oid):
            return None
        kind, data = self._store.read(oid)
        if kind != "commit" or not data.startswith(b"tree "):
            return None
        tree, *rest = data[5:].partition(b"\nauthor ")[0].split(b"\nparent ")
        return tree.decode(), tuple(parent.decode() for parent in rest)

    def tree(self, oid: str) -> str | None:
        """Return the tree of a commit, None when the commit is not in the repository."""
        found = self.links(oid)
        return found[0] if found else None

    def parents(self, oid: str) -> tuple[str, ...]:
        """Return the parents of a commit that are in the repository."""
        found = self.links(oid)
        return tuple(p for p in found[1] if self.links(p)) if found else ()

    def commit(self, oid: str) -> Commit | None:
        """Return a whole commit, None when it is not in the repository."""
        return parse_commit(self._store.read(oid)[1]) if self.links(oid) else None

    def resolve(self, revision: str) -> str:
        """Return the commit that a revision means.

        Raises:
            NotFoundError: it means none.
            AmbiguousError: a short id fits several.
        """
        found = self._store.resolve(revision or "HEAD")
        commit = None
        if found is not None:
            try:
                commit = peel(self._store, found, "commit")
            except NotFoundError:
                commit = None
        if commit is None or self.links(commit) is None:
            raise NotFoundError(
                f"{revision or 'HEAD'!r} is no commit of this repository",
                hint="`git log` and `git branch -a` show what there is",
            )
        return commit

    # --- sets of commits ----------------------------------------------------------------------

    def reachable(self, tips: Iterable[str]) -> dict[str, None]:
        """Return the commits that can be reached from some commits, these included, as an ordered set."""
        key = tuple(sorted(set(tips)))
        known = self._reached.get(key)
        if known is not None:
            return known
        found: dict[str, None] = {}
        queue = list(key)
        while queue:
            oid = queue.pop()
            if oid in found:
                continue
            links = self.links(oid)
            if links is None:
                continue
            found[oid] = None
            queue.extend(reversed(links[1]))
        self._reached[key] = found
        return found

    def first_parents(self, tip: str, hidden: Collection[str] = ()) -> list[str]:
        """Return a commit and its first parents, newest first, up to the first that is in `hidden`."""
        found: list[str] = []
        oid: str | None = tip
        while oid is not None and oid not in hidden and self.links(oid) is not None:
            found.append(oid)
            oid = next(iter(self.parents(oid)), None)
        return found

    def merge_bases(self, a: str, b: str) -> list[str]:
        """Return the best common ancestors of two commits; none when their histories are unrelated."""
        common = self.reachable([a]).keys() & self.reachable([b]).keys()
        inner = {parent for oid in common for parent in self.parents(oid)}
        return sorted(common - inner)

    def range(self, text: str) -> CommitRange:
        """Return the commits that `A..B`, `A...B` or a single revision names; a missing side is HEAD.

        Raises:
            NotFoundError: a side means no commit.
        """
        left, symmetric, right = text.partition("...")
        if symmetric:
            a, b = self.resolve(left), self.resolve(right)
            ours, theirs = self.reachable([a]), self.reachable([b])
            both = [c for c in theirs if c not in ours] + [c for c in ours if c not in theirs]
            return CommitRange(tuple(both), (a, b))
        left, dots, right = text.partition("..")
        if not dots:
            tip = self.resolve(text)
            return CommitRange((tip,), (tip,))
        a, b = self.resolve(left), self.resolve(right)
        hidden = self.reachable([a])
        return CommitRange(tuple(c for c in self.reachable([b]) if c not in hidden), (b,))

    def topological(self, commits: Collection[str]) -> list[str]:
        """Return commits so that parents come before children."""
        found: dict[str, None] = {}
        for start in commits:
            stack: list[tuple[str, Iterator[str]]] = (
                [] if start in found else [(start, iter(self.parents(start)))]
            )
            while stack:
                oid, rest = stack[-1]
                step = next((p for p in rest if p in commits and p not in found), None)
                if step is None:
                    found[oid] = None
                    stack.pop()
                else:
                    stack.append((step, iter(self.parents(step))))
        return list(found)

    # --- refs ---------------------------------------------------------------------------------

    def live_tips(self) -> list[str]:
        """Return the commits of HEAD and of all branches, remote branches and tags that are not gml's own."""
        found = dict.fromkeys([self._store.head().commit or ""])
        for prefix in ("refs/heads/", "refs/remotes/", "refs/tags/"):
            for name, oid in self._store.refs(prefix).items():
                if name.startswith(_OWN_REFS):
                    continue
                try:
                    found[peel(self._store, oid, "commit") or ""] = None
                except GmlError:
                    continue  # a tag of what was never fetched
        return [oid for oid in found if oid]

    def branch_tips(self, name: str) -> tuple[str, list[str]]:
        """Return the short name of a branch, and the commits that it has here and on remotes.

        Args:
            name: `feature/x`, `origin/feature/x`, `refs/heads/feature/x`, or HEAD.
        """
        if name in {"HEAD", "@"}:
            name = self._store.head().branch or name
        short = name.removeprefix("refs/heads/").removeprefix("refs/remotes/")
        tips = dict.fromkeys([self._store.ref(f"refs/heads/{short}")])
        remotes = list(self._store.remotes())
        for remote in remotes:
            if short.startswith(f"{remote}/") and self._store.ref(f"refs/remotes/{short}"):
                short = short.removeprefix(f"{remote}/")
                tips[self._store.ref(f"refs/heads/{short}")] = None
        for remote in remotes:
            tips[self._store.ref(f"refs/remotes/{remote}/{short}")] = None
        return short, [oid for oid in tips if oid and self.links(oid)]

    def branches(self) -> list[str]:
        """Return the names of all branches, without those of gml."""
        names = [n for n in self._store.refs("refs/heads/") if not n.startswith(_OWN_REFS)]
        return [n.removeprefix("refs/heads/") for n in names]

    def main_line(self) -> str | None:
        """Return the name of the branch that others branch off: what the remote says, else main or master."""
        for name in self._store.refs("refs/remotes/"):
            if name.endswith("/HEAD"):
                target = _symbolic(self._store, name)
                if target:
                    return target.removeprefix(name.removesuffix("HEAD"))
        names = set(self.branches())
        for candidate in (self._store.config("init.defaultBranch"), "main", "master", "trunk", "develop"):
            if candidate in names:
                return candidate
        return None

    # --- rewritten commits --------------------------------------------------------------------

    def signature(self, oid: str) -> str | None:
        """Return what rebase, amend and cherry-pick keep of a commit: author, author time and subject."""
        commit = self.commit(oid)
        if commit is None:
            return None
        subject = commit.message.partition("\n")[0].strip()
        return f"{commit.author.name} <{commit.author.email}> {commit.author_time} {subject}"

    def patch_id(self, oid: str) -> str | None:
        """Return a digest of what a commit changes, whatever it is based on; like `git patch-id`.

        Counted are the lines added and removed in each file, without white space and positions. None for
        merges, for commits that change nothing or too much, and where objects are missing.
        """
        links = self.links(oid)
        if links is None or len(links[1]) > 1:
            return None
        before = self.tree(links[1][0]) if links[1] else None
        if links[1] and before is None:
            return None
        try:
            diff = patches.tree_diff(self._store, before, links[0], MAX_PATCH)
        except GmlError:
            return None
        if not diff or diff.endswith(f"[diff cut: {MAX_PATCH} bytes is the limit]\n"):
            return None
        digest = hashlib.sha256()
        index = ""
        for line in diff.splitlines():
            if line.startswith("index "):
                index = line
            elif line.startswith("Binary files "):
                digest.update(index.encode("utf-8", "replace"))
            elif line.startswith(("diff ", "+", "-", "new ", "deleted ", "old ")):
                digest.update("".join(line.split()).encode("utf-8", "surrogateescape") + b"\n")
        return digest.hexdigest()


def _symbolic(store: GitStore, name: str) -> str | None:
    """Return the ref that a symbolic ref names."""
    try:
        text = (store.location.common_dir / name).read_text("utf-8", "surrogateescape")
    except OSError:
        return None
    return text[5:].strip() if text.startswith("ref: ") else None
