"""What was known then: the ledger commit of a moment, from the ledger's own history."""

from __future__ import annotations

import heapq
import logging
from typing import TYPE_CHECKING

from gml.domain.errors import CorruptError, NotFoundError, UsageError
from gml.git.objects import parse_commit
from gml.git.revisions import peel
from gml.index.query.times import parse_time, resolve
from gml.ledger.view import LedgerView

if TYPE_CHECKING:
    from gml.git.port import GitStore
    from gml.workspace import Workspace

log = logging.getLogger("gml")


def commit_at(workspace: Workspace, text: str, now_ms: int) -> str:
    """Return the ledger commit that `--at` means.

    A time (`2026-06-01`, `2026-06-01T12:00`, `'2 days ago'`, UTC unless it says otherwise) stands for the
    last ledger commit up to its end. Anything else is a revision of git that names a ledger commit, such
    as `gml/ledger~3` or an id. Where parts of the ledger that were merged later had both been written by
    then, the one with the latest date is taken, and a warning names the others.

    Args:
        workspace: the repository.
        text: what the user gave.
        now_ms: what relative times refer to, milliseconds since the epoch.

    Raises:
        NotFoundError: there was no ledger yet, or no such revision.
        UsageError: the revision is not a commit of a ledger.

    Example:
        >>> commit_at(workspace, "2026-06-01", now_ms)  # doctest: +SKIP
        '5d1f0c...'
    """
    try:
        moment = parse_time(text)
    except ValueError as error:
        return _revision(workspace, text, str(error))
    end = resolve(moment, now_ms)[1]
    tip = workspace.ledger.tip()
    heads = heads_at(workspace.store, tip, end) if tip is not None else []
    if not heads:
        raise NotFoundError(f"there was no ledger yet at {text}", hint="`gml ls` shows the runs of today")
    if len(heads) > 1:
        others = ", ".join(oid[:12] for oid in heads[1:4])
        log.warning(
            "gml: at %s the ledger had %d parts that were merged later; this is %s, --at shows also %s",
            text,
            len(heads),
            heads[0][:12],
            others,
        )
    return heads[0]


def _revision(workspace: Workspace, text: str, reason: str) -> str:
    found = workspace.store.resolve(text)
    commit = peel(workspace.store, found, "commit") if found is not None else None
    if commit is None:
        raise NotFoundError(f"--at {text!r} is neither a time nor a git revision", hint=reason)
    try:
        LedgerView(workspace.store, commit)
    except CorruptError:
        raise UsageError(
            f"--at {text!r} is a commit without a ledger",
            hint=f"{workspace.ledger.ref.removeprefix('refs/')}~1 is the one before the last",
        ) from None
    return commit


def heads_at(store: GitStore, tip: str, end_ms: int) -> list[str]:
    """Return the newest commits that are dated before a moment, the latest first.

    No commit of a ledger is dated before its parents, so that all that a result reaches is dated before
    the moment as well. In a history without merges there is one result at most.

    Args:
        store: the repository.
        tip: where to begin.
        end_ms: the first millisecond after the moment; commits have whole seconds.
    """
    heads: list[tuple[int, int, str]] = []
    first = parse_commit(store.read(tip)[1])
    queue = [(-first.commit_time, 0, tip, first.parents)]
    seen = {tip}
    while queue:
        # Children come before parents of the same second, because they are found before them.
        negative, order, oid, parents = heapq.heappop(queue)
        if -negative * 1000 < end_ms:
            heads.append((negative, order, oid))
            continue
        for parent in parents:
            if parent not in seen:
                seen.add(parent)
                older = parse_commit(store.read(parent)[1])
                heapq.heappush(queue, (-older.commit_time, len(seen), parent, older.parents))
    found = [oid for *_, oid in sorted(heads)]
    return [
        oid
        for oid in found
        if len(found) == 1 or not any(other != oid and store.is_ancestor(oid, other) for other in found)
    ]
