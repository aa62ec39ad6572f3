"""Pull: fetch what a remote has, and unite it with what is here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gml.ledger.unite import is_shallow, unite_code, unite_ledger
from gml.sync import registry
from gml.sync.alone import alone
from gml.sync.moved import Moved, changed_runs, kept_code
from gml.sync.seen import Seen, keep, read_seen
from gml.sync.thin import pull_thin, read_thin

if TYPE_CHECKING:
    from gml.sync.remotes import Remote
    from gml.workspace import Workspace


@dataclass(slots=True)
class Report:
    """What an exchange did.

    Attributes:
        remote: name of the remote.
        url: its address without credentials.
        pulled: what came.
        pushed: what went.
        notes: things that the user should know, one line each.
        inbox: the ledger was left in this clone's inbox on the remote.
        rounds: how often a push was tried.
        conflicts: registry conflicts that people have to decide, one line each.
    """

    remote: str
    url: str
    pulled: Moved = field(default_factory=Moved)
    pushed: Moved = field(default_factory=Moved)
    notes: list[str] = field(default_factory=list)
    inbox: bool = False
    rounds: int = 0
    conflicts: list[str] = field(default_factory=list)


def pull(workspace: Workspace, remote: Remote, report: Report | None = None, *, fetch: bool = True) -> Report:
    """Fetch from a remote and unite its ledgers, code and registry with the local ones.

    Nothing that is here is lost, whatever the remote holds.

    Args:
        workspace: the repository.
        remote: where from.
        report: a report to add to.
        fetch: False takes in only what an earlier fetch (also a plain `git fetch`) brought.

    Raises:
        RemoteError: it cannot be reached.
        FormatError: the remote was written by a newer gml; nothing local was changed.
        StorageError: something could not be written.
    """
    report = report or Report(remote.name, remote.transport.url)
    with alone(workspace, remote):
        pull_alone(workspace, remote, report, fetch=fetch)
    return report


def pull_alone(workspace: Workspace, remote: Remote, report: Report, *, fetch: bool = True) -> None:
    """Pull while the lock of exchanges is held."""
    store = workspace.store
    part = read_thin(store)
    if part is not None:
        pull_thin(workspace, remote, part, report.pulled)
        return
    before = read_seen(store, remote.names)
    if fetch:
        remote.transport.fetch(remote.names.refspecs(), prune=True, depth=1 if is_shallow(store) else None)
        report.pulled.git_bytes += remote.transport.received
    after = read_seen(store, remote.names)
    _rewritten(workspace, remote, before, after, report)
    take_in(workspace, after.ledgers, after.codes, report.pulled)
    registry.take_in(workspace, remote, after, report)


def take_in(workspace: Workspace, ledgers: list[str], codes: list[str], moved: Moved) -> None:
    """Unite ledger and code commits with the local ones and count what is new."""
    store, ledger = workspace.store, workspace.ledger
    old_ledger, old_code = ledger.tip(), store.ref(ledger.code_ref)
    # Code first: a run that is there has its code.
    new_code = unite_code(ledger, codes)
    new_ledger = unite_ledger(ledger, ledgers)
    runs, experiments = changed_runs(store, old_ledger, new_ledger)
    moved.runs += len(runs)
    moved.experiments += len(experiments)
    moved.code += kept_code(store, old_code, new_code)


def _rewritten(workspace: Workspace, remote: Remote, before: Seen, after: Seen, report: Report) -> None:
    """Say and survive that the remote threw away history which it had shown before."""
    store = workspace.store
    if is_shallow(store):
        return
    pairs = (("ledger", before.ledger, after.ledger), ("code", before.code, after.code))
    for what, old, new in pairs:
        if old is None or old == new or (new is not None and store.is_ancestor(old, new)):
            continue
        local = workspace.ledger.tip() if what == "ledger" else store.ref(workspace.ledger.code_ref)
        kept = "all of it is still here"
        if local is None or not store.is_ancestor(old, local):
            kept = f"what it was is kept as {keep(store, remote.names, what, old)}"
            take_in(
                workspace, [old] if what == "ledger" else [], [old] if what == "code" else [], report.pulled
            )
        report.notes.append(
            f"the {what} on {remote.name} was {'removed' if new is None else 'rewritten'}: {kept}; "
            "`gml push` brings it back"
        )
