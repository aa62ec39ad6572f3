"""Merging two ledger histories: a pure function of the two commits.

The merged tree is the union by path. A document that differs on both sides is joined by
`gml.domain.join`; of a history file or an artifact the one stays that the joined document means. The
merge commit has sorted parents, a fixed author and a date that follows from its parents, so two clones
that merge the same two ledgers make the very same commit.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from gml.domain.errors import CorruptError, NotFoundError
from gml.domain.join import join
from gml.git import trees
from gml.git.objects import format_commit, object_id, parse_commit
from gml.git.port import MODE_FILE, Commit, Identity, TreeEntry
from gml.ledger import layout
from gml.ledger.codec import decode, encode
from gml.ledger.view import LedgerView

if TYPE_CHECKING:
    from gml.domain.run import Document
    from gml.git.port import GitStore

MERGER: Final = Identity("gml", "gml@localhost")


def merge(store: GitStore, a: str, b: str) -> str:
    """Return the commit that holds both ledger histories, writing what is new.

    Fast-forwards where one history contains the other.

    Raises:
        FormatError: one side was written by a newer gml.
        CorruptError: a commit or directory is damaged.

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
    return _commit(store, (a, b), root, objects, "merge ledgers\n")


def merge_code(store: GitStore, a: str, b: str) -> str:
    """Return the commit that keeps everything that two code refs keep; as `merge`.

    Example:
        >>> merge_code(store, mine, theirs) == merge_code(store, theirs, mine)  # doctest: +SKIP
        True
    """
    if a == b or store.is_ancestor(b, a):
        return a
    if store.is_ancestor(a, b):
        return b
    roots = [parse_commit(store.read(side)[1]).tree for side in (a, b)]

    def resolve(_: str, one: TreeEntry, two: TreeEntry) -> trees.Resolution:
        chosen = max(one, two, key=lambda entry: (entry.is_tree, entry.mode, entry.oid))
        return chosen.mode, chosen.oid, None

    root, objects = trees.merge(store, roots[0], roots[1], resolve)
    return _commit(store, (a, b), root, objects, "merge code\n")


def _commit(
    store: GitStore, sides: tuple[str, str], root: str, objects: trees.NewObjects, message: str
) -> str:
    commits = [parse_commit(store.read(side)[1]) for side in sides]
    when = max(commit.commit_time for commit in commits)
    united = Commit(
        root, tuple(sorted(sides)), author=MERGER, author_time=when, committer=MERGER, commit_time=when,
        message=message,
    )  # fmt: skip
    return store.write_pack([*objects, ("commit", format_commit(united))])[-1]


def merge_trees(store: GitStore, a: str | None, b: str | None) -> tuple[str, trees.NewObjects]:
    """Return the union of two ledger trees and the objects that are new in it."""
    sides = _Sides(store, (a, b))

    def resolve(path: str, one: TreeEntry, two: TreeEntry) -> trees.Resolution:
        return _resolve(sides, path, one, two)

    return trees.merge(store, a, b, resolve)


class _Sides:
    """The two ledger trees of a merge, to look up what a differing file belongs to."""

    def __init__(self, store: GitStore, roots: tuple[str | None, str | None]) -> None:
        self.store = store
        self.roots = roots

    def read(self, oid: str) -> bytes | None:
        """Return a blob, None where it is damaged or missing."""
        try:
            return self.store.read(oid)[1]
        except (CorruptError, NotFoundError):
            return None

    def document(self, side: int, path: str) -> Document:
        """Return one side's document at a path, empty where it has none that can be read."""
        root = self.roots[side]
        entry = trees.lookup(self.store, root, path) if root is not None else None
        data = self.read(entry.oid) if entry is not None and not entry.is_tree else None
        try:
            return {} if data is None else decode(data, path)
        except CorruptError:
            return {}

    def manifest(self, document: Document) -> Document:
        """Return the artifacts of a document, those of a long manifest included."""
        known = dict(document.get("artifacts", {}))
        digest = document.get("artifact_manifest")
        if digest is None:
            return known
        path = layout.manifest_path(str(digest))
        return (self.document(0, path) or self.document(1, path)) | known


def _resolve(sides: _Sides, path: str, one: TreeEntry, two: TreeEntry) -> trees.Resolution:
    if one.is_tree or two.is_tree or one.mode != MODE_FILE or two.mode != MODE_FILE:
        chosen = max(one, two, key=lambda entry: (entry.is_tree, entry.mode == MODE_FILE, entry.oid))
        return chosen.mode, chosen.oid, None
    owner = layout.owner_of_file(path)
    if owner is not None:
        return MODE_FILE, _choose_file(sides, *owner, (one.oid, two.oid)), None
    if path.endswith(".json"):
        return _join_documents(sides, path, one, two)
    return MODE_FILE, max(one.oid, two.oid), None


def _choose_file(sides: _Sides, owner: str, artifact: str | None, oids: tuple[str, str]) -> str:
    """Return which of two files with one name stays: the one that the joined document means.

    A file that it does not mention is a leftover; then the side with the later revision decides.
    """
    contents = {oid: data for oid in oids if (data := sides.read(oid)) is not None}
    if len(contents) < 2:
        return next(iter(contents), max(oids))
    documents = [sides.document(side, owner) for side in (0, 1)]
    digests = {oid: hashlib.sha256(data).hexdigest() for oid, data in contents.items()}
    meant = _meant(sides, join(*documents), artifact)
    for oid, digest in digests.items():
        if digest in meant:
            return oid
    revisions = [document.get("revision", 0) for document in documents]
    if revisions[0] != revisions[1]:
        return oids[0] if revisions[0] > revisions[1] else oids[1]
    # The same order as `gml.domain.join.segment_order`.
    return max(oids, key=lambda oid: (len(contents[oid]), digests[oid]))


def _meant(sides: _Sides, document: Document, artifact: str | None) -> set[str]:
    if artifact is not None:
        facts = sides.manifest(document).get(artifact)
        return {str(facts.get("sha256"))} if isinstance(facts, dict) else set()
    return {str(s.get("sha256")) for s in document.get("hist", ()) if s.get("at") == "git"}


def _join_documents(sides: _Sides, path: str, one: TreeEntry, two: TreeEntry) -> trees.Resolution:
    readable = {}
    for entry in (one, two):
        data = sides.read(entry.oid)
        try:
            if data is not None:
                readable[entry.oid] = decode(data, path)
        except CorruptError:
            continue
    if len(readable) < 2:
        # A damaged side never wins over a sound one; two damaged sides keep a fixed one of them.
        oid = next(iter(readable), max(one.oid, two.oid))
        return MODE_FILE, oid, None
    united = encode(join(*readable.values()))
    oid = object_id("blob", united, sides.store.location.object_format)
    return MODE_FILE, oid, None if oid in readable else united
