"""Merging two ledger histories: a pure function of the two commits.

The merged tree is the union by path; a path that differs on both sides is joined by
`gml.domain.join`. The merge commit has sorted parents, a fixed author and a date that follows from
its parents, so two clones that merge the same two ledgers make the very same commit.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from gml.domain.errors import CorruptError
from gml.domain.join import join
from gml.git import trees
from gml.git.objects import format_commit, object_id, parse_commit
from gml.git.port import MODE_FILE, Commit, Identity, TreeEntry
from gml.ledger.codec import decode, encode
from gml.ledger.ledger import write_objects
from gml.ledger.view import LedgerView

if TYPE_CHECKING:
    from gml.git.port import GitStore

MERGER: Final = Identity("gml", "gml@localhost")


def merge(store: GitStore, a: str, b: str) -> str:
    """Return the commit that holds both ledger histories, writing what is new.

    Fast-forwards where one history contains the other.

    Raises:
        FormatError: one side was written by a newer gml.
        CorruptError: a path that differs on both sides is damaged on both.

    Example:
        >>> merge(store, mine, theirs) == merge(store, theirs, mine)  # doctest: +SKIP
        True
    """
    if a == b or store.is_ancestor(b, a):
        return a
    if store.is_ancestor(a, b):
        return b
    views = LedgerView(store, a), LedgerView(store, b)
    root, objects = merge_trees(store, views[0].tree, views[1].tree)
    sides = [parse_commit(store.read(side)[1]) for side in (a, b)]
    when = max(side.commit_time for side in sides)
    commit = Commit(
        root, tuple(sorted((a, b))), author=MERGER, author_time=when, committer=MERGER, commit_time=when,
        message="merge ledgers\n",
    )  # fmt: skip
    return write_objects(store, [*objects, ("commit", format_commit(commit))])[-1]


def merge_trees(store: GitStore, a: str | None, b: str | None) -> tuple[str, trees.NewObjects]:
    """Return the union of two ledger trees and the objects that are new in it."""

    def resolve(path: str, one: TreeEntry, two: TreeEntry) -> trees.Resolution:
        return _resolve(store, path, one, two)

    return trees.merge(store, a, b, resolve)


def _resolve(store: GitStore, path: str, one: TreeEntry, two: TreeEntry) -> trees.Resolution:
    if one.is_tree or two.is_tree or one.mode != MODE_FILE or two.mode != MODE_FILE:
        chosen = max(one, two, key=lambda entry: (entry.is_tree, entry.mode == MODE_FILE, entry.oid))
        return chosen.mode, chosen.oid, None
    if path.endswith(".json"):
        return _join_documents(store, path, one, two)
    # History files: the same order as `gml.domain.join.segment_order`, so that record and file agree.
    contents = {entry.oid: store.read(entry.oid)[1] for entry in (one, two)}
    oid = max(contents, key=lambda o: (len(contents[o]), hashlib.sha256(contents[o]).hexdigest()))
    return MODE_FILE, oid, None


def _join_documents(store: GitStore, path: str, one: TreeEntry, two: TreeEntry) -> trees.Resolution:
    readable = {}
    for entry in (one, two):
        try:
            readable[entry.oid] = decode(store.read(entry.oid)[1], path)
        except CorruptError:
            continue
    if len(readable) < 2:
        # A damaged side never wins over a sound one; two damaged sides keep a fixed one of them.
        oid = next(iter(readable), max(one.oid, two.oid))
        return MODE_FILE, oid, None
    united = encode(join(*readable.values()))
    oid = object_id("blob", united, store.location.object_format)
    return MODE_FILE, oid, None if oid in readable else united
