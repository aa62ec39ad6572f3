"""Pushing as jobs end: however many do, a remote sees at most one push in ten seconds from one clone."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from gml import fs
from gml.sync.edge import pushed_ref
from gml.sync.push import push
from gml.sync.remotes import open_remote
from gml.sync.seen import read_seen

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gml.sync.pull import Report
    from gml.sync.remotes import Remote
    from gml.workspace import Workspace

INTERVAL: Final = 10.0
PATIENCE: Final = 120.0


def push_soon(
    workspace: Workspace, wanted: str | None = None, *, pause: Callable[[float], None] = time.sleep
) -> Report | None:
    """Push what has been committed, or wait for another process of this machine that does.

    Whoever holds the push lock waits until ten seconds have passed since the latest push and sends
    everything that has been committed by then; those who waited for the lock mostly find their runs gone.

    Returns:
        The report of this process's push, None when another one carried everything.

    Raises:
        RemoteError: the push failed; everything is still here.
        StorageError: the lock stayed taken.
    """
    remote = open_remote(workspace, wanted, unattended=True, timeout=PATIENCE)
    state = workspace.state_dir / "push"
    mark = state / f"{remote.name}.last"
    wanted_tip = workspace.ledger.tip()
    with fs.locked(state / f"{remote.name}.lock", timeout=4 * PATIENCE):
        if _is_there(workspace, remote, wanted_tip):
            return None
        wait = _wait(mark)
        if wait > 0:
            pause(wait)
        try:
            return push(workspace, remote)
        finally:
            with suppress(OSError):
                mark.touch()


def _wait(mark: Path) -> float:
    """Return the seconds to wait; the clock only paces, so one that jumped costs one interval at most."""
    try:
        since = time.time() - mark.stat().st_mtime
    except OSError:
        return 0.0
    return min(INTERVAL, max(0.0, INTERVAL - since)) if since >= 0 else INTERVAL


def _is_there(workspace: Workspace, remote: Remote, tip: str | None) -> bool:
    if tip is None:
        return True
    store = workspace.store
    known = [*read_seen(store, remote.names).ledgers, store.ref(pushed_ref(remote.names))]
    return any(there is not None and store.is_ancestor(tip, there) for there in known)
