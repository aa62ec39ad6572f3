"""Choose the transport once: the git command where there is one, dulwich otherwise."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gml.git.store import FileStore
    from gml.git.transport import Transport


def connect(
    store: FileStore,
    remote: str,
    *,
    interactive: bool = False,
    timeout: float | None = None,
    engine: str | None = None,
) -> Transport:
    """Return the transport to a remote; nothing is sent yet.

    Args:
        store: the local repository.
        remote: name of a configured remote, or a URL.
        interactive: the user may be asked for a password on the terminal.
        timeout: seconds that one call may take, None for no limit (git command only).
        engine: force `git` or `dulwich`; by default the machine decides.
    """
    git = shutil.which("git", path=store.environ.get("PATH", os.defpath))
    if engine == "git" or (engine is None and git):
        from gml.git.transport_git import GitTransport

        return GitTransport(store, git or "git", remote, interactive=interactive, timeout=timeout)
    from gml.git.transport_dulwich import DulwichTransport

    return DulwichTransport(store, remote)
