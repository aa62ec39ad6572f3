"""How far a repository and its remote are apart, as far as is known without asking the remote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gml.domain.errors import GmlError
from gml.sync.edge import pushed_ref, tree_of
from gml.sync.moved import changed_runs, runs_between
from gml.sync.push import is_partial
from gml.sync.remotes import choose, names_of
from gml.sync.seen import read_seen

if TYPE_CHECKING:
    from gml.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a repository stands towards a remote.

    Attributes:
        remote: its name.
        url: its address.
        known: whether it was ever fetched from or pushed to.
        ahead: runs here that the remote lacks or has in an older state.
        behind: runs there that are missing here or older, inboxes included.
    """

    remote: str
    url: str
    known: bool
    ahead: list[str]
    behind: list[str]


def standing(workspace: Workspace) -> Standing | None:
    """Return where the repository stands towards its usual remote, None when it has none."""
    store = workspace.store
    try:
        name = choose(workspace)
    except GmlError:
        return None
    names = names_of(workspace, name)
    seen, tip = read_seen(store, names), workspace.ledger.tip()
    url = store.remotes()[name]
    if is_partial(workspace):
        pushed = store.ref(pushed_ref(names))
        ahead, _ = changed_runs(store, pushed, tip)
        return Standing(name, url, pushed is not None, sorted(ahead), [])
    there = [oid for oid in seen.ledgers if store.contains(oid)]
    behind: set[str] = set()
    for other in there:
        behind |= _lacking(workspace, other, tip)
    ahead = (
        changed_runs(store, None, tip)[0]
        if not there
        else set.intersection(*(_lacking(workspace, tip, other) for other in there))
        if tip is not None
        else set()
    )
    return Standing(name, url, bool(seen.ledgers), sorted(ahead), sorted(behind))


def _lacking(workspace: Workspace, one: str | None, other: str | None) -> set[str]:
    """Return the runs of which `one` has something that `other` has not."""
    store = workspace.store
    if one is None or one == other:
        return set()
    if other is None:
        return changed_runs(store, None, one)[0]
    if store.is_ancestor(one, other):
        return set()
    if store.is_ancestor(other, one):
        return changed_runs(store, other, one)[0]
    # Both have moved on: what differs is in question on either side.
    return runs_between(store, tree_of(store, other), tree_of(store, one))[0]
