"""Clones that hold only a part of the ledger: runs since a time, with or without long curves.

The remote's newest directories are fetched without files; then the files of the wanted runs. They
become a ledger of their own, which is read like any other. What is logged or changed here is put over
the remote's ledger by a push (`gml.sync.edge`), so leaving out is never mistaken for deleting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gml import fs
from gml.domain.ids import id_time, is_time_ordered
from gml.git import trees
from gml.git.objects import format_commit, format_tree, object_id
from gml.git.port import Commit, TreeEntry
from gml.ledger.merge import MERGER, merge_trees
from gml.sync.edge import bring, fetch_edge, tree_of
from gml.sync.moved import changed_runs

if TYPE_CHECKING:
    from gml.git.store import FileStore
    from gml.sync.moved import Moved
    from gml.sync.remotes import Remote
    from gml.workspace import Workspace

SINCE: Final = "gml.thin.since"
CURVES: Final = "gml.thin.curves"
_RUN_DEPTH: Final = 4


@dataclass(frozen=True, slots=True)
class Thin:
    """What a thin clone holds.

    Attributes:
        since: milliseconds since the epoch; runs with older ids are left out. None for all.
        curves: whether long metric histories are brought.
    """

    since: int | None = None
    curves: bool = True


def read_thin(store: FileStore) -> Thin | None:
    """Return what a repository holds when it is a thin clone, None when it is not."""
    since, curves = store.config(SINCE), store.config(CURVES)
    if since is None and curves is None:
        return None
    return Thin(int(since) if since else None, curves != "false")


def write_thin(store: FileStore, thin: Thin) -> None:
    """Make a repository a thin clone."""
    if thin.since is not None:
        store.set_config(SINCE, str(thin.since))
    store.set_config(CURVES, "true" if thin.curves else "false")


def pull_thin(workspace: Workspace, remote: Remote, thin: Thin, moved: Moved) -> None:
    """Bring the newest state of the wanted runs and unite it with the local ledger.

    Raises:
        FormatError: the remote was written by a newer gml.
        RemoteError: the remote cannot be reached.
    """
    store, ledger = workspace.store, workspace.ledger
    theirs = fetch_edge(workspace, remote)
    moved.git_bytes += remote.transport.received
    if theirs is None:
        return
    part = _Part(store, thin)
    root = part.select(tree_of(store, theirs), "")
    if root is None:
        return
    bring(remote, store, part.files)
    moved.git_bytes += remote.transport.received
    store.write_pack(part.new)
    with ledger.writing():
        before = ledger.tip()
        mine = tree_of(store, before) if before is not None else None
        united, objects = merge_trees(store, mine, root)
        if united == mine:
            return
        when = int(store.read(theirs)[1].partition(b"\ncommitter ")[2].partition(b"\n")[0].split()[-2])
        commit = Commit(
            united, (before,) if before else (), MERGER, when, MERGER, when, f"part of {theirs}\n"
        )
        new = store.write_pack([*objects, ("commit", format_commit(commit))])[-1]
        fs.remove_stale(store.location.common_dir / f"{ledger.ref}.lock")
        store.update_ref(ledger.ref, new, expected=before, message="pull")
    runs, experiments = changed_runs(store, before, new)
    moved.runs += len(runs)
    moved.experiments += len(experiments)


class _Part:
    """Selects a part of a ledger tree; collects its files and the directories that are new for it."""

    def __init__(self, store: FileStore, thin: Thin) -> None:
        self._store = store
        self._curves = thin.curves
        # As many hexadecimal digits of an id as its directories and its time have.
        self._since = f"{thin.since:012x}" if thin.since is not None else ""
        self.files: list[str] = []
        self.new: trees.NewObjects = []

    def select(self, tree: str, path: str) -> str | None:
        """Return the id of the wanted part of a directory, None when nothing of it is wanted."""
        listed = trees.entries(self._store, tree)
        kept: list[TreeEntry] = []
        for entry in listed:
            where = f"{path}/{entry.name}" if path else entry.name
            if not self._wanted(where, entry.name):
                continue
            if entry.is_tree:
                below = self.select(entry.oid, where)
                if below is not None:
                    kept.append(TreeEntry(entry.name, entry.mode, below))
            else:
                self.files.append(entry.oid)
                kept.append(entry)
        if not kept:
            return None
        if kept == listed:
            return tree
        data = format_tree(kept)
        self.new.append(("tree", data))
        return object_id("tree", data, self._store.location.object_format)

    def _wanted(self, path: str, name: str) -> bool:
        if name.endswith(".hist") and not self._curves:
            return False
        if not self._since or not path.startswith("runs/"):
            return True
        parts = path.split("/")
        if len(parts) > _RUN_DEPTH:
            run = parts[_RUN_DEPTH].partition(".")[0]
            return not is_time_ordered(run) or id_time(run) >= int(self._since, 16)
        digits = "".join(parts[1:])
        return digits >= self._since[: len(digits)]
