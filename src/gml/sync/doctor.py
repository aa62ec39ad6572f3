"""What `gml doctor` checks beyond the runs themselves, and `gml doctor --repair`."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from gml.domain.errors import CorruptError, GmlError, NotFoundError
from gml.git import salvage, trees
from gml.git.objects import parse_commit
from gml.git.port import MODE_GITLINK
from gml.ledger import layout
from gml.ledger.unite import is_shallow
from gml.sync.names import REGISTRY
from gml.sync.push import is_partial
from gml.sync.remotes import names_of, open_remote
from gml.sync.seen import read_seen
from gml.sync.standing import standing
from gml.tracking.health import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gml.workspace import Workspace

_DAY: Final = 86_400
_STALE: Final = 600


def examine(workspace: Workspace, *, online: bool = False, deep: bool = False) -> Iterator[Finding]:
    """Yield what there is to say about refs, past states, locks, clocks, sharing and remotes.

    Args:
        workspace: the repository.
        online: also ask every remote.
        deep: let git look at every object, those of past states too.
    """
    yield from _refs(workspace)
    if deep and not is_partial(workspace):
        yield from _past(workspace)
    yield from _locks(workspace)
    yield from _clock(workspace)
    yield from _shared(workspace)
    yield from _hooks(workspace)
    yield from _remotes(workspace, online=online)


def _refs(workspace: Workspace) -> Iterator[Finding]:
    store, ledger = workspace.store, workspace.ledger
    for what, ref in (("code", ledger.code_ref), ("registry", REGISTRY)):
        tip = store.ref(ref)
        if tip is None:
            continue
        try:
            parse_commit(store.read(tip)[1])
        except (CorruptError, NotFoundError) as error:
            yield Finding("damage", what, f"{ref} cannot be read: {error}")
        else:
            yield Finding("ok", what, f"{ref} at {tip[:12]}")
    for name in store.refs(f"refs/{workspace.settings.namespace}/conflicts/"):
        yield Finding("note", "conflict", f"{name} keeps what a remote threw away or decided otherwise")
    if is_shallow(store):
        yield Finding("note", "history", "shallow: the ledger's older states are not here")
    if is_partial(workspace):
        yield Finding("note", "ledger", "only a part of the remote's runs is here")


def _past(workspace: Workspace) -> Iterator[Finding]:
    broken = salvage.check_history(workspace.store)
    newest = broken_objects(workspace) if broken else {}
    for oid in broken.objects:
        # The newest state is named run by run by others.
        if oid not in newest:
            yield Finding(
                "damage", "history", f"object {oid} of a past state cannot be read; `gml doctor --repair`"
            )
    for pack in broken.packs:
        yield Finding("damage", "pack", f"{pack.name} has a wrong checksum; `gml doctor --repair`")
    if not broken:
        yield Finding("ok", "history", "git finds every object of every past state")


def _locks(workspace: Workspace) -> Iterator[Finding]:
    common = workspace.store.location.common_dir
    refs = (workspace.ledger.ref, workspace.ledger.code_ref, REGISTRY)
    for path in (
        *(common / f"{ref}.lock" for ref in refs),
        common / "packed-refs.lock",
        common / "config.lock",
    ):
        try:
            age = time.time() - path.stat().st_mtime
        except OSError:
            continue
        if age > _STALE:
            yield Finding(
                "note", "lock", f"{path} is {int(age // 60)} minutes old: its owner died; delete it"
            )


def _clock(workspace: Workspace) -> Iterator[Finding]:
    tip = workspace.ledger.tip()
    if tip is None:
        return
    try:
        ahead = parse_commit(workspace.store.read(tip)[1]).commit_time - time.time()
    except GmlError:
        return
    if ahead > _DAY:
        yield Finding(
            "note", "clock", f"the ledger's newest commit is {int(ahead // _DAY)} days ahead of this clock; "
            "order does not depend on it, but one of the two clocks is wrong",
        )  # fmt: skip
    else:
        yield Finding("ok", "clock", "not behind the ledger")


def _shared(workspace: Workspace) -> Iterator[Finding]:
    store = workspace.store
    value = store.config("core.sharedRepository")
    if value is None or value.lower() in {"false", "umask", "0", "no"}:
        return
    state = workspace.state_dir
    for path in (state, workspace.journal_root):
        if path.is_dir() and not path.stat().st_mode & 0o020:
            yield Finding(
                "damage", "sharing", f"core.sharedRepository is {value}, but the group cannot write {path}; "
                f"its owner can: chmod -R g+rwX {path}",
            )  # fmt: skip
            return
    yield Finding("ok", "sharing", f"core.sharedRepository is {value}")


def _hooks(workspace: Workspace) -> Iterator[Finding]:
    place = workspace.store.config("core.hooksPath")
    folder = workspace.store.location.common_dir / (place or "hooks")
    names = [n for n in ("pre-push", "reference-transaction", "pre-receive") if (folder / n).is_file()]
    for name in names:
        runs = os.access(folder / name, os.X_OK)
        text = f"{folder / name}" + ("" if runs else " is not executable: git passes over it")
        yield Finding("ok" if runs else "note", "hook", text)


def _remotes(workspace: Workspace, *, online: bool) -> Iterator[Finding]:
    store = workspace.store
    for name, url in store.remotes().items():
        seen = read_seen(store, names_of(workspace, name))
        if online:
            try:
                remote = open_remote(workspace, name, unattended=True, timeout=60)
                there = remote.transport.refs([remote.names.ledger])
            except GmlError as error:
                yield Finding("note", f"remote {name}", str(error))
                continue
            tip = there.get(remote.names.ledger)
            state = "has no ledger yet" if tip is None else f"ledger at {tip[:12]}"
            fresh = "" if tip is None or tip == seen.ledger else "; `gml pull` takes in what is new"
            yield Finding("ok", f"remote {name}", f"{url}: {state}{fresh}")
        else:
            known = f"ledger seen at {seen.ledger[:12]}" if seen.ledger else "no ledger seen yet"
            yield Finding("ok", f"remote {name}", f"{url}: {known}")
    try:
        now = standing(workspace)
    except GmlError:
        return
    if now is not None and (now.ahead or now.behind):
        yield Finding(
            "note", "sharing", f"{len(now.ahead)} runs to push to {now.remote}, {len(now.behind)} to take in"
        )


# --- repair -------------------------------------------------------------------------------------


def broken_objects(workspace: Workspace, *, history: bool = False) -> dict[str, str]:
    """Return the objects of the ledger's and the code's newest state that cannot be read: id -> path.

    With `history`, also those that some past state of some ref needs.
    """
    found: dict[str, str] = {}
    store, ledger = workspace.store, workspace.ledger
    for ref in (ledger.ref, ledger.code_ref):
        tip = store.ref(ref)
        if tip is not None:
            _broken(workspace, tip, ref, found)
    if history:
        for oid in salvage.check_history(store).objects:
            found.setdefault(oid, "history")
    return found


def _broken(workspace: Workspace, oid: str, path: str, found: dict[str, str]) -> None:
    store = workspace.store
    try:
        kind, data = store.read(oid)
    except (CorruptError, NotFoundError):
        found[oid] = path
        return
    if kind == "commit":
        _broken(workspace, parse_commit(data).tree, path, found)
    elif kind == "tree":
        for entry in trees.entries(store, oid):
            if entry.mode != MODE_GITLINK:
                _broken(workspace, entry.oid, f"{path}/{entry.name}", found)


def repair(workspace: Workspace) -> Iterator[Finding]:
    """Set broken objects aside, bring back what is good of them, and fetch the rest from the remotes.

    Every step leaves a state from which the next try goes on, so it may be killed at any moment.
    """
    with workspace.ledger.writing():
        found = broken_objects(workspace, history=True)
        packs = salvage.check_history(workspace.store).packs
        place = workspace.state_dir / "quarantine"
        if not found and not packs:
            yield Finding("ok", "repair", "no object is broken")
            return
        for path in dict.fromkeys([*_holders(workspace, found), *packs]):
            salvage.set_aside(path, place)
            named = path.name if path.suffix else f"object {path.parent.name}{path.name}"
            yield Finding("note", "repair", f"{named} is damaged and was moved to {place}")
        _salvage(workspace, place)
        found = broken_objects(workspace, history=True)
    while found:
        before = set(found)
        for name in workspace.store.remotes():
            if not found:
                break
            try:
                open_remote(workspace, name, unattended=True).transport.fetch_objects(sorted(found))
            except GmlError as error:
                yield Finding("note", f"remote {name}", f"does not have all of it: {error}")
                _one_by_one(workspace, name, found)
            found = broken_objects(workspace, history=True)
        # A directory that came back may show that files below it are missing as well.
        if set(found) == before:
            break
    for oid, where in found.items():
        run = layout.run_of_path(where.removeprefix(f"{workspace.ledger.ref}/"))
        subject = f"run {run}" if run else where
        yield Finding("damage", subject, f"{where} (object {oid}) is on no remote either")
    if not found:
        yield Finding("ok", "repair", "everything is back")


def _holders(workspace: Workspace, found: dict[str, str]) -> list[Path]:
    """Return the files that claim to hold the broken objects."""
    return list(dict.fromkeys(path for oid in found for path in salvage.files_of(workspace.store, oid)))


def _salvage(workspace: Workspace, place: Path) -> None:
    """Bring back the good objects of every pack that was set aside, now or before a kill."""
    for pack in sorted(place.glob("*.pack")):
        salvage.unpack(workspace.store, pack)


def _one_by_one(workspace: Workspace, remote: str, found: dict[str, str]) -> None:
    """Fetch what a remote has where it does not have all."""
    way = open_remote(workspace, remote, unattended=True).transport
    for oid in found:
        try:
            way.fetch_objects([oid])
        except GmlError:
            continue
