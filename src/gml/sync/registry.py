"""Exchanging the registry branch and its tags: forward only, nothing overwritten, nothing dropped."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from gml.domain.errors import RefMovedError
from gml.git.transport import Update
from gml.sync.moved import count_commits
from gml.sync.names import REGISTRY, TAGS
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
                "neither was moved"
            )


def _take_branch(workspace: Workspace, remote: Remote, seen: Seen, report: Report) -> None:
    store = workspace.store
    theirs, mine = seen.registry, store.ref(REGISTRY)
    if theirs is None or theirs == mine or (mine and store.is_ancestor(theirs, mine)):
        return
    if mine is not None and not store.is_ancestor(mine, theirs):
        merged = merge_registry(workspace, mine, theirs)
        if merged is None:
            ref = keep(store, remote.names, "registry", theirs)
            report.conflicts.append(
                f"the registry here and on {remote.name} have both moved on; theirs is kept as {ref}; "
                f"`git log --oneline --left-right {mine[:12]}...{theirs[:12]}` shows both sides"
            )
            return
        theirs = merged
    if store.head().branch == "gml/registry":
        report.notes.append(
            f"the registry of {remote.name} has moved on; gml/registry is checked out here: use `git pull`"
        )
        return
    with suppress(RefMovedError):
        store.update_ref(REGISTRY, theirs, expected=mine, message="pull")
        report.pulled.registry += count_commits(store, mine, theirs)


def merge_registry(workspace: Workspace, mine: str, theirs: str) -> str | None:
    """Return a registry commit that holds both sides, None where people have to decide."""
    del workspace, mine, theirs
    return None


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
    for name, oid in store.refs(TAGS).items():
        if name.removeprefix(TAGS) not in seen.tags:
            found.append(Update(name, oid, None))
    return found
