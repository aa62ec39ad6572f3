"""Working with the edge of a remote's ledger: its newest state, of which only directories are fetched.

Where the local ledger holds only a part of the remote's (`gml.sync.private`, `gml.sync.thin`), a push
puts this part over the remote's newest tree: what only the remote has stays as it is, unread.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from gml.domain.errors import RefMovedError
from gml.git import trees
from gml.git.objects import format_commit, parse_commit
from gml.git.port import Commit
from gml.git.transport import Refspec, Update
from gml.ledger import layout
from gml.ledger.merge import merge_trees
from gml.ledger.view import LedgerView
from gml.sync.moved import runs_between

if TYPE_CHECKING:
    from gml.git.store import FileStore
    from gml.sync.names import Names
    from gml.sync.remotes import Remote
    from gml.sync.seen import Seen
    from gml.workspace import Workspace


def tree_of(store: FileStore, commit: str) -> str:
    """Return the tree of a commit."""
    return parse_commit(store.read(commit)[1]).tree


def fetch_edge(workspace: Workspace, remote: Remote) -> str | None:
    """Fetch the newest state of the remote's ledger and return its commit, None where there is none.

    Brought are its directories, its format, and what it has differently from the local ledger.

    Raises:
        FormatError: it was written by a newer gml.
        RemoteError: the remote cannot be reached.
    """
    names, store = remote.names, workspace.store
    spec = Refspec(f"refs/{names.there}/ledger*", f"{names.seen}ledger*")
    remote.transport.fetch([spec], prune=True, depth=1, blobless=True)
    theirs = store.ref(f"{names.seen}ledger")
    if theirs is None:
        return None
    root, mine = tree_of(store, theirs), workspace.ledger.tip()
    format_file = trees.lookup(store, root, layout.FORMAT_PATH)
    wanted = [format_file.oid] if format_file is not None else []
    if mine is not None:
        wanted += _differing(store, tree_of(store, mine), root)
    bring(remote, store, wanted)
    LedgerView(store, theirs)
    return theirs


def bring(remote: Remote, store: FileStore, oids: list[str]) -> None:
    """Fetch the objects that are missing here."""
    missing = [oid for oid in dict.fromkeys(oids) if not store.contains(oid)]
    if missing:
        remote.transport.fetch_objects(missing)


def _differing(store: FileStore, mine: str, theirs: str) -> list[str]:
    """Return the remote's files that are here under the same name with other content."""
    ours = {entry.name: entry for entry in trees.entries(store, mine)}
    found = []
    for entry in trees.entries(store, theirs):
        own = ours.get(entry.name)
        if own is None or own.oid == entry.oid:
            continue
        if own.is_tree and entry.is_tree:
            found += _differing(store, own.oid, entry.oid)
        elif not entry.is_tree:
            found.append(entry.oid)
    return found


def update_over(workspace: Workspace, remote: Remote, seen: Seen) -> Update | None:
    """Return the update that puts the local ledger over the remote's, None where it has all of it.

    The new commit follows the remote's; the local ledger stays as it is.
    """
    store, mine = workspace.store, workspace.ledger.tip()
    if mine is None:
        return None
    if seen.ledger is None:
        return Update(remote.names.ledger, mine, None)
    base = parse_commit(store.read(seen.ledger)[1])
    own = parse_commit(store.read(mine)[1])
    root, objects = merge_trees(store, own.tree, base.tree)
    if root == base.tree:
        return None
    store.write_pack(objects)
    when = max(own.commit_time, base.commit_time)
    runs = sorted(runs_between(store, base.tree, root)[0])
    message = own.message if len(runs) == 1 else "\n".join([f"{len(runs)} runs", "", *runs[:1000], ""])
    commit = Commit(root, (seen.ledger,), own.author, when, workspace.identity, when, message)
    new = store.write("commit", format_commit(commit))
    return Update(remote.names.ledger, new, seen.ledger)


def pushed_ref(names: Names) -> str:
    """Return the ref that says up to where the local ledger is on the remote."""
    return f"{names.seen}pushed"


def note_pushed(store: FileStore, names: Names, tip: str) -> None:
    """Note that all of a local ledger commit is on the remote."""
    ref = pushed_ref(names)
    before = store.ref(ref)
    if before != tip:
        with suppress(RefMovedError):
            store.update_ref(ref, tip, expected=before, message="push")
