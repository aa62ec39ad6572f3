"""One exchange with a remote at a time, and what one that was killed has left behind."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from gml import fs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gml.sync.remotes import Remote
    from gml.workspace import Workspace

PATIENCE: Final = 600.0


@contextmanager
def alone(workspace: Workspace, remote: Remote) -> Iterator[None]:
    """Hold the lock of exchanges with a remote; lock files that a killed exchange left are removed.

    Raises:
        StorageError: another exchange goes on for ten minutes, or the lock cannot be made.
    """
    with fs.locked(workspace.state_dir / "push" / f"{remote.name}.exchange", timeout=PATIENCE):
        common = workspace.store.location.common_dir
        for place in (remote.names.seen, f"refs/remotes/{remote.name}/gml"):
            for path in (common / place).rglob("*.lock"):
                # Not ours if it goes away by itself: a plain `git fetch` of the user.
                fs.remove_stale(path)
        yield
