"""Exchanging the registry branch and its tags: forward only, nothing overwritten, nothing dropped."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from gml.domain.errors import RefMovedError
from gml.git.transport import Update
from gml.sync.moved import count_commits
from gml.sync.names import PROPOSALS, REGISTRY, TAGS
from gml.sync.replay import replay
from gml.sync.seen import keep

if TYPE_CHECKING:
    from gml.sync.pull import Report
    from gml.sync.remotes import Remote
    from gml.sync.seen import Seen
    from gml.workspace import Workspace


def take_in(workspace: Workspace, remote: Remote, seen: Seen, report: Report) -> None:
    """Move the local registry forward to the remote's, and make the tags that are missing here."""
    _take_branch(workspace, remote, seen, report)
    store = workspace.store
    here = store.refs(TAGS)
    for name, oid in seen.tags.items():
        local = here.get(TAGS + name)
        if local is None:
            with suppress(RefMovedError):
                store.update_ref(TAGS + name, oid, expected=None, message="pull")
                report.pulled.tags += 1
        elif local != oid:
            report.conflicts.append(
                f"tag gml/{name} is another one on {remote.name} ({oid[:12]}) than here ({local[:12]}); "
                f"neither was moved; `git tag -d gml/{name}` and a pull take theirs"
            )


def _take_branch(workspace: Workspace, remote: Remote, seen: Seen, report: Report) -> None:
    store = workspace.store
    theirs, mine = seen.registry, store.ref(REGISTRY)
    if theirs is None or theirs == mine or (mine and store.is_ancestor(theirs, mine)):
        return
    if store.head().branch == "gml/registry":
        report.notes.append(
            f"the registry of {remote.name} has moved on; gml/registry is checked out here: use `git pull`"
        )
        return
    if mine is not None and not store.is_ancestor(mine, theirs):
        done = replay(workspace, mine, theirs, remote.name)
        report.notes += done.renumbered
        if done.tip is None:
            ref = keep(store, remote.names, "registry", theirs)
            report.conflicts += done.conflicts
            report.conflicts.append(
                f"the registry here and on {remote.name} have both moved on; both stay, theirs as {ref}; "
                f"to take theirs: git branch -f gml/registry {ref}, then make again what is still wanted"
            )
        else:
            report.pulled.registry += count_commits(store, done.base, theirs)
        return
    with suppress(RefMovedError):
        store.update_ref(REGISTRY, theirs, expected=mine, message="pull")
        report.pulled.registry += count_commits(store, mine, theirs)


def updates(workspace: Workspace, remote: Remote, seen: Seen, report: Report) -> list[Update]:
    """Return what of the registry the remote lacks; a diverged branch is left for `take_in` to judge."""
    store = workspace.store
    found: list[Update] = []
    mine = store.ref(REGISTRY)
    if mine is not None and mine != seen.registry:
        if seen.registry is None or store.is_ancestor(seen.registry, mine):
            found.append(Update(REGISTRY, mine, seen.registry))
        elif not store.is_ancestor(mine, seen.registry) and not report.conflicts:
            take_in(workspace, remote, seen, report)
            mine = store.ref(REGISTRY)
            if mine is not None and store.is_ancestor(seen.registry, mine):
                found.append(Update(REGISTRY, mine, seen.registry))
    found += _proposals(workspace, remote, report)
    known = mine is not None and not report.conflicts
    for name, oid in store.refs(TAGS).items():
        # While people have to decide, numbers that may be taken stay here.
        if name.removeprefix(TAGS) not in seen.tags and (known or seen.registry is None):
            found.append(Update(name, oid, None))
    return found


def _proposals(workspace: Workspace, remote: Remote, report: Report) -> list[Update]:
    """Return the proposals and votes that the remote lacks; what is merged already does not come back."""
    store = workspace.store
    found: list[Update] = []
    tip = store.ref(REGISTRY)
    for name, oid in store.refs(PROPOSALS).items():
        local = remote.names.seen_of(name)
        there = store.ref(local) if local is not None else None
        if there == oid or (tip is not None and store.is_ancestor(oid, tip)):
            continue
        if there is None or store.is_ancestor(there, oid):
            found.append(Update(name, oid, there))
        elif not store.is_ancestor(oid, there):
            short = name.removeprefix("refs/heads/")
            report.conflicts.append(
                f"{short} has another commit on {remote.name} ({there[:12]}) than here ({oid[:12]}): "
                f"git branch -f {short} {there[:12]}, then approve again"
            )
    return found
