"""Letting plain git carry the refs of runs: the lines of git config that `gml init --remote` adds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gml.sync.remotes import choose, names_of

if TYPE_CHECKING:
    from gml.workspace import Workspace


def connect_remote(workspace: Workspace, remote: str, namespace: str | None = None) -> list[tuple[str, str]]:
    """Add the refspecs of a remote and return the lines that were added, none when all were there.

    Args:
        workspace: the repository.
        remote: name of a remote.
        namespace: what the remote calls the namespace, such as `heads/gml` where it takes only branches.

    Raises:
        NotFoundError: there is no such remote.
        StorageError: the configuration cannot be written.
    """
    name = choose(workspace, remote)
    if namespace is not None:
        workspace.store.set_config(f"gml.remote.{name}.namespace", namespace)
    added = []
    for key, value in names_of(workspace, name).config():
        if value not in workspace.store.config_values(key):
            workspace.store.add_config(key, value)
            added.append((key, value))
    return added
