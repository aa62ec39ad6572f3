"""Which remote is meant, and the way to it."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gml.domain.errors import NotFoundError, UsageError
from gml.git.connect import connect
from gml.sync.names import Names

if TYPE_CHECKING:
    from gml.git.transport import Transport
    from gml.workspace import Workspace

_URL = re.compile(r"[a-z][a-z0-9+.-]*://|[^/]+@[^/]+:|[./~]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Remote:
    """A remote and how its refs are called."""

    name: str
    names: Names
    transport: Transport


def choose(workspace: Workspace, wanted: str | None = None) -> str:
    """Return the name of the remote that is meant: the one named, `gml.remote`, `origin`, or the only one.

    Raises:
        UsageError: there is none, or it is not clear which one.
        NotFoundError: there is no remote of this name.
    """
    known = workspace.store.remotes()
    wanted = wanted or workspace.settings.remote
    if wanted is not None:
        if wanted not in known:
            more = f"; there is {', '.join(sorted(known))}" if known else ""
            hint = f"git remote add NAME {wanted}" if _URL.match(wanted) else f"git remote add {wanted} URL"
            raise NotFoundError(f"there is no remote {wanted!r}{more}", hint=hint)
        return wanted
    if "origin" in known or len(known) == 1:
        return "origin" if "origin" in known else next(iter(known))
    if not known:
        raise UsageError("this repository has no remote", hint="git remote add origin URL")
    raise UsageError(
        f"there are several remotes ({', '.join(sorted(known))})",
        hint="name one, or set git config gml.remote",
    )


def names_of(workspace: Workspace, remote: str) -> Names:
    """Return how a remote's refs are called, there and here."""
    here = workspace.settings.namespace
    return Names(remote, here, workspace.store.config(f"gml.remote.{remote}.namespace") or here)


def open_remote(
    workspace: Workspace, wanted: str | None = None, *, unattended: bool = False, timeout: float | None = None
) -> Remote:
    """Return the remote that is meant; nothing is sent yet.

    Args:
        workspace: the repository.
        wanted: its name, None for the usual one.
        unattended: never ask for a password, though there may be a terminal.
        timeout: seconds that one exchange may take.
    """
    name = choose(workspace, wanted)
    interactive = not unattended and sys.stdin is not None and sys.stdin.isatty()
    way = connect(workspace.store, name, interactive=interactive, timeout=timeout)
    return Remote(name, names_of(workspace, name), way)
