"""The one store that these commands work on: the local one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gml.cas.local import LocalStore
from gml.domain.errors import UsageError

if TYPE_CHECKING:
    from gml.workspace import Workspace


def local_store(workspace: Workspace) -> LocalStore:
    """Return the store in a folder.

    Raises:
        UsageError: the artifact store is no folder of this machine.
    """
    store = workspace.blobs
    found = store if isinstance(store, LocalStore) else getattr(store, "local", None)
    if not isinstance(found, LocalStore):
        raise UsageError(
            f"the artifact store {store!r} is not a folder", hint="this command works on a local store"
        )
    return found
