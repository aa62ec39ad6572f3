"""From commits in git to steps of the decision: first parents between two tips, and what they merged."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from gml.domain.errors import GmlError
from gml.policy.errors import RefusedError
from gml.policy.view import MAX_CHANGES, MAX_SIDE, CommitFacts, Step
from gml.registry.states import Directories, GitTree, compare

if TYPE_CHECKING:
    from gml.git.port import TreeReader

_IDENT: Final = re.compile(rb"[^<>\n]* <([^<>\n]*)> (\d{1,12}) [+-]\d{4}")
_ID: Final = re.compile(rb"[0-9a-f]{40}([0-9a-f]{24})?")
_SIGNATURES: Final = (b"gpgsig", b"gpgsig-sha256")
_FIRST: Final = (b"tree", b"parent", b"author", b"committer")


class Parsed:
    """A commit object, taken apart strictly.

    Raises:
        RefusedError: its headers are not exactly those of git, in git's order.
    """

    __slots__ = ("author", "headers", "id", "parents", "payload", "signature", "time", "tree")

    def __init__(self, oid: str, data: bytes) -> None:
        head, blank, _ = data.partition(b"\n\n")
        if not blank or b"\0" in data:
            raise RefusedError("header", f"commit {oid[:12]} is malformed")
        headers = _headers(head, oid)
        count = sum(name == b"parent" for name, _ in headers)
        expected = [b"tree", *[b"parent"] * count, b"author", b"committer"]
        names = [name for name, _ in headers]
        if names[: len(expected)] != expected or any(name in _FIRST for name in names[len(expected) :]):
            raise RefusedError("header", f"commit {oid[:12]} has its headers twice or in another order")
        values = [value for _, value in headers]
        if not all(_ID.fullmatch(value) for value in values[: count + 1]):
            raise RefusedError("header", f"commit {oid[:12]} names something that is no object")
        author = _IDENT.fullmatch(values[count + 1])
        committer = _IDENT.fullmatch(values[count + 2])
        if author is None or committer is None:
            raise RefusedError("header", f"commit {oid[:12]} has a malformed author or committer")
        self.id = oid
        self.tree = values[0].decode()
        self.parents = tuple(value.decode() for value in values[1 : count + 1])
        self.author = author[1].decode("utf-8", "surrogateescape")
        self.time = int(committer[2])
        self.headers = tuple(name.decode("latin-1") for name in names)
        signatures = [value for name, value in headers if name in _SIGNATURES]
        self.signature = signatures[0].decode("latin-1") if len(signatures) == 1 else None
        self.payload = _without_signature(head) + data[len(head) :]


def _headers(head: bytes, oid: str) -> list[tuple[bytes, bytes]]:
    found: list[tuple[bytes, bytes]] = []
    for line in head.split(b"\n"):
        if line.startswith(b" ") and found:
            found[-1] = (found[-1][0], found[-1][1] + b"\n" + line[1:])
            continue
        name, blank, value = line.partition(b" ")
        if not blank:
            raise RefusedError("header", f"commit {oid[:12]} is malformed")
        found.append((name, value))
    return found


def _without_signature(head: bytes) -> bytes:
    kept, inside = [], False
    for line in head.split(b"\n"):
        inside = (inside and line.startswith(b" ")) or line.partition(b" ")[0] in _SIGNATURES
        if not inside:
            kept.append(line)
    return b"\n".join(kept)


class Chain:
    """Walks the branch in one repository.

    Args:
        store: reads objects.
    """

    def __init__(self, store: TreeReader) -> None:
        self.directories = Directories(store)
        self._parsed: dict[str, Parsed] = {}

    def commit(self, oid: str) -> Parsed:
        """Return a commit.

        Raises:
            RefusedError: it is not there, not a commit, or malformed.
        """
        known = self._parsed.get(oid)
        if known is None:
            kind, data = self.directories.read(oid)
            if kind != "commit":
                raise RefusedError("history", f"{oid[:12]} is a {kind}, not a commit")
            known = self._parsed[oid] = Parsed(oid, data)
        return known

    def tree(self, oid: str) -> GitTree:
        """Return the state after a commit."""
        return GitTree(self.directories, self.commit(oid).tree)

    def between(self, old: str | None, new: str, limit: int | None = None) -> list[str]:
        """Return the first-parent commits after `old` up to `new`, oldest first.

        Args:
            old: where to start, None for the first commit of all.
            new: where to end.
            limit: more commits than this are refused; None for no limit.

        Raises:
            RefusedError: `old` is not among the first parents of `new`.
        """
        found: list[str] = []
        at: str | None = new
        while at is not None and at != old:
            found.append(at)
            if limit is not None and len(found) > limit:
                raise RefusedError("size", f"more than {limit} commits at once")
            parents = self.commit(at).parents
            at = parents[0] if parents else None
        if at != old:
            raise RefusedError(
                "history", f"{new[:12]} does not follow {(old or 'nothing')[:12]} by first parents",
                hint="the branch is append only: fetch it, and make the change again on top of it",
            )  # fmt: skip
        return found[::-1]

    def steps(self, old: str | None, new: str, limit: int | None = None) -> list[Step]:
        """Return what the decision judges between two tips; raises as `between`."""
        return [self.step(oid) for oid in self.between(old, new, limit)]

    def step(self, oid: str) -> Step:
        """Return one commit of the branch with what it merged."""
        commit = self.commit(oid)
        facts = self._facts(commit)
        if len(commit.parents) < 2:
            return Step(facts, self.tree(oid))
        first, second = commit.parents[:2]
        side = tuple(self._facts(self.commit(each)) for each in self._side(first, second))
        return Step(facts, self.tree(oid), side, self.tree(second))

    def _facts(self, commit: Parsed) -> CommitFacts:
        before = self.commit(commit.parents[0]).tree if commit.parents else None
        return CommitFacts(
            id=commit.id,
            parents=len(commit.parents),
            author=commit.author,
            time=commit.time,
            headers=commit.headers,
            signature=commit.signature,
            payload=commit.payload,
            changes=tuple(compare(self.directories, before, commit.tree, MAX_CHANGES)),
        )

    def _side(self, first: str, second: str) -> list[str]:
        """Return the commits that a merge brings in: reachable from its second parent only."""
        found: list[str] = []
        queue = [second]
        while queue:
            oid = queue.pop()
            if oid in found or self._reaches(oid, first):
                continue
            found.append(oid)
            if len(found) > MAX_SIDE:
                raise RefusedError("size", f"more than {MAX_SIDE} commits are merged at once")
            parents = self.commit(oid).parents
            if not parents:
                raise RefusedError("history", f"{oid[:12]} starts a history of its own")
            queue += parents
        return found

    def _reaches(self, ancestor: str, tip: str) -> bool:
        """Whether a commit is an ancestor of the branch before the merge."""
        from gml.git.revisions import is_ancestor

        try:
            return is_ancestor(self.directories.store, ancestor, tip)
        except GmlError as error:
            raise RefusedError("history", f"the history cannot be walked: {error.message}") from error
