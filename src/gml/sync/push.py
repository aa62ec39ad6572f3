"""Push: bytes, then objects, then refs, each guarded by a lease; a race is merged, never won by force."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from gml.domain.errors import RemoteError
from gml.git.transport import LOCKED, Outcome, Refspec, Update, trouble
from gml.ledger.unite import unite_code, unite_ledger
from gml.sync import edge, private, registry
from gml.sync.alone import alone
from gml.sync.moved import changed_runs, count_commits, kept_code
from gml.sync.names import PROPOSALS, REGISTRY, TAGS
from gml.sync.pull import Report, pull_alone
from gml.sync.seen import Seen, read_seen, set_seen
from gml.sync.thin import read_thin

if TYPE_CHECKING:
    from collections.abc import Callable

    from gml.sync.remotes import Remote
    from gml.workspace import Workspace

ROUNDS: Final = 3


def push(
    workspace: Workspace,
    remote: Remote,
    report: Report | None = None,
    *,
    inbox: bool | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> Report:
    """Bring everything that a remote lacks to it.

    The first try sends at once, with a lease on what was last seen. When somebody was faster, their
    ledger is fetched and united with ours, and the next try follows after a random pause. After three
    tries the ledger goes into this clone's inbox on the remote, where nobody else writes; whoever pushes
    or folds next unites it.

    Args:
        workspace: the repository.
        remote: where to.
        report: a report to add to.
        inbox: use the inbox at once; None does what `gml.sync.mode` says.
        pause: waits between tries.

    Raises:
        RemoteError: it cannot be reached, or refused; the line has its words.
        FormatError: the remote was written by a newer gml.
    """
    report = report or Report(remote.name, remote.transport.url)
    with alone(workspace, remote):
        if is_partial(workspace):
            _push_part(workspace, remote, report, pause)
        else:
            direct = workspace.settings.sync_mode != "inbox" if inbox is None else not inbox
            _push_whole(workspace, remote, report, pause, direct=direct)
    return report


def _push_whole(
    workspace: Workspace, remote: Remote, report: Report, pause: Callable[[float], None], *, direct: bool
) -> None:
    seen = read_seen(workspace.store, remote.names)
    if seen == Seen():
        pull_alone(workspace, remote, report)
        seen = read_seen(workspace.store, remote.names)
    for number in range(ROUNDS if direct else 0):
        report.rounds += 1
        if number:
            pause(random.uniform(0.05, 0.4) * (2 ** (number - 1)))  # noqa: S311
            seen = read_seen(workspace.store, remote.names)
        if _send(workspace, remote, _updates(workspace, remote, seen, report), seen, report):
            return
        pull_alone(workspace, remote, report)
    _to_inbox(workspace, remote, report, pause)


def is_partial(workspace: Workspace) -> bool:
    """Whether the local ledger holds only a part of what there is."""
    return private.is_private(workspace) or read_thin(workspace.store) is not None


def _updates(workspace: Workspace, remote: Remote, seen: Seen, report: Report) -> list[Update]:
    """Return what has to move on the remote, united with what was seen of it."""
    store, ledger, names = workspace.store, workspace.ledger, remote.names
    out: list[Update] = []
    code = store.ref(ledger.code_ref)
    if code is not None and code != seen.code:
        code = unite_code(ledger, seen.codes)
    if code is not None and code != seen.code:
        out.append(Update(names.code, code, seen.code))
    tip = ledger.tip()
    if tip is not None and tip != seen.ledger:
        tip = unite_ledger(ledger, seen.ledgers)
    if tip is not None and tip != seen.ledger:
        out.append(Update(names.ledger, tip, seen.ledger))
    return out + registry.updates(workspace, remote, seen, report)


def _send(workspace: Workspace, remote: Remote, updates: list[Update], seen: Seen, report: Report) -> bool:
    """Push updates and note what became of them; False when one was stale and another round may help.

    Raises:
        RemoteError: the remote refused one of them.
    """
    updates, outcomes = _in_order(remote, updates, report)
    for update, outcome in zip(updates, outcomes, strict=True):
        if outcome.state == "ok":
            set_seen(workspace.store, remote.names, update.name, update.new)
            _count(workspace, update, seen, report)
        elif LOCKED in outcome.message:
            note = (
                f"{update.name} on {remote.name} is locked, perhaps by a process that died there: "
                f"then delete {update.name}.lock in that repository"
            )
            report.notes += [note] if note not in report.notes else []
        elif outcome.state == "stale" and update.name.startswith(TAGS):
            report.conflicts.append(f"{update.name} is another one on {remote.name}; neither was moved")
    bad = next((o for o in outcomes if o.state not in {"ok", "stale"}), None)
    if bad is not None:
        raise refusal(remote, bad)
    if any(o.state == "stale" and not o.name.startswith(TAGS) for o in outcomes):
        return False
    _empty_inboxes(workspace, remote, seen)
    return True


def _in_order(remote: Remote, updates: list[Update], report: Report) -> tuple[list[Update], list[Outcome]]:
    """Push updates, tags after the branch they belong to: a number that is taken must not become visible."""
    moves = any(update.name == REGISTRY for update in updates)
    later = [update for update in updates if moves and update.name.startswith(TAGS)]
    sent = [update for update in updates if update not in later]
    outcomes: list[Outcome] = []
    for part in (list(sent), later):
        if not part or (part is later and any(o.name == REGISTRY and o.state != "ok" for o in outcomes)):
            continue
        outcomes += _settled(remote, part, remote.transport.push(part))
        report.pushed.git_bytes += remote.transport.sent
        sent += part if part is later else []
    return sent, outcomes


def _empty_inboxes(workspace: Workspace, remote: Remote, seen: Seen) -> None:
    """Remove the inbox refs that the remote's ledger and code contain by now.

    One that moved since is left; one that is gone already is fine.
    """
    store, names = workspace.store, remote.names
    now = read_seen(store, names)
    there = {"ledger": now.ledger, "code": now.code}
    removals = []
    for name, oid in seen.inboxes.items():
        writer, _, what = name.rpartition("/")
        tip = there.get(what)
        if tip is not None and store.is_ancestor(oid, tip):
            removals.append(Update(names.inbox(writer, what), None, oid))
    for update, outcome in zip(removals, remote.transport.push(removals), strict=True):
        if outcome.state in {"ok", "stale"}:
            set_seen(store, names, update.name, None)


def _settled(remote: Remote, updates: list[Update], outcomes: list[Outcome]) -> list[Outcome]:
    """Look again where the outcome is unknown: the update may have arrived though its answer did not."""
    if all(outcome.state != "unknown" for outcome in outcomes):
        return outcomes
    there = remote.transport.refs([update.name for update in updates])
    settled = []
    for update, outcome in zip(updates, outcomes, strict=True):
        now = there.get(update.name)
        if outcome.state != "unknown":
            settled.append(outcome)
        elif now == update.new:
            settled.append(Outcome(update.name, "ok"))
        elif now != update.expected:
            settled.append(Outcome(update.name, "stale", "somebody else moved it"))
        else:
            settled.append(Outcome(update.name, "failed", outcome.message or "the connection broke"))
    return settled


def refusal(remote: Remote, outcome: Outcome) -> RemoteError:
    """Return the error for an update that a remote did not take."""
    where = f"{remote.name} ({remote.transport.url})"
    if outcome.state == "protected":
        return RemoteError(
            f"{where} takes no ref {outcome.name} ({outcome.message})",
            hint=f"where only branches are taken: git config gml.remote.{remote.name}.namespace heads/gml",
        )
    if outcome.state == "refused":
        return RemoteError(
            f"{where} refused {outcome.name}: {outcome.message}", hint="nothing was changed there"
        )
    told = trouble(remote.transport.url, outcome.message.removeprefix(f"{remote.transport.url}: "))
    return RemoteError(told.message, hint=f"{outcome.name} was not moved; {told.hint}")


def _count(workspace: Workspace, update: Update, seen: Seen, report: Report) -> None:
    store, moved = workspace.store, report.pushed
    if update.name.endswith("/ledger"):
        runs, experiments = changed_runs(store, seen.ledger, update.new)
        moved.runs += len(runs)
        moved.experiments += len(experiments)
    elif update.name.endswith("/code"):
        moved.code += kept_code(store, seen.code, update.new)
    elif update.name.startswith(PROPOSALS):
        moved.proposals += 1
    elif update.name == REGISTRY:
        moved.registry += count_commits(store, seen.registry, update.new)
    elif update.name.startswith(TAGS):
        moved.tags += 1


def _look(workspace: Workspace, remote: Remote, report: Report) -> None:
    """Learn what is on the remote now."""
    if not private.is_private(workspace):
        pull_alone(workspace, remote, report)
        return
    inbox = f"inbox/{workspace.writer_id}/"
    spec = Refspec(f"refs/{remote.names.there}/{inbox}*", f"{remote.names.seen}{inbox}*")
    remote.transport.fetch([spec], prune=True)


def _push_part(workspace: Workspace, remote: Remote, report: Report, pause: Callable[[float], None]) -> None:
    """Put a ledger that is only a part over the remote's, of which the edge is fetched; or use the inbox."""
    store = workspace.store
    # The ledger of a thin clone says nothing about what it leaves out: only a push over the remote's fits.
    inbox = private.is_private(workspace)
    for number in range(0 if inbox and workspace.settings.sync_mode == "inbox" else ROUNDS):
        report.rounds += 1
        if number:
            pause(random.uniform(0.05, 0.4) * (2 ** (number - 1)))  # noqa: S311
        tip = workspace.ledger.tip()
        edge.fetch_edge(workspace, remote)
        report.pulled.git_bytes += remote.transport.received
        seen = read_seen(store, remote.names)
        update = edge.update_over(workspace, remote, seen)
        if tip is None or update is None or _send(workspace, remote, [update], seen, report):
            if tip is not None:
                edge.note_pushed(store, remote.names, tip)
            return
    if not inbox:
        raise RemoteError(
            f"{remote.name} ({remote.transport.url}) keeps moving; {report.rounds} tries failed",
            hint="push again",
        )
    _to_inbox(workspace, remote, report, pause)


def _to_inbox(workspace: Workspace, remote: Remote, report: Report, pause: Callable[[float], None]) -> None:
    """Leave ledger and code in this clone's own refs on the remote, where nobody races."""
    store, ledger, names = workspace.store, workspace.ledger, remote.names
    writer = workspace.writer_id
    for number in range(ROUNDS):
        report.rounds += 1
        seen = read_seen(store, names)
        updates = []
        for what, tip, known in (
            ("code", store.ref(ledger.code_ref), seen.codes),
            ("ledger", ledger.tip(), seen.ledgers),
        ):
            if tip is not None and tip not in known:
                updates.append(Update(names.inbox(writer, what), tip, seen.inboxes.get(f"{writer}/{what}")))
        outcomes = _settled(remote, updates, remote.transport.push(updates))
        report.pushed.git_bytes += remote.transport.sent
        bad = next((o for o in outcomes if o.state not in {"ok", "stale"}), None)
        for update, outcome in zip(updates, outcomes, strict=True):
            if outcome.state == "ok":
                set_seen(store, names, update.name, update.new)
                report.inbox = True
                before = update.expected or (seen.ledger if update.name.endswith("/ledger") else seen.code)
                _count(workspace, update, replace(seen, ledger=before, code=before), report)
        if bad is not None:
            raise refusal(remote, bad)
        if all(o.state == "ok" for o in outcomes):
            return
        # Somebody has united the inbox and removed it; the lease must be on what is there now.
        pause(random.uniform(0.05, 0.4) * (2**number))  # noqa: S311
        _look(workspace, remote, report)
    raise RemoteError(
        f"{remote.name} ({remote.transport.url}) keeps moving; {report.rounds} tries failed",
        hint="push again",
    )
