"""Keeping a local store that has remotes behind it below a size: what was not used for longest goes first."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from gml.cas.names import FOLDERS, Kind, parse_name
from gml.cas.transfer import storage_errors

if TYPE_CHECKING:
    from collections.abc import Collection

    from gml.cas.local import LocalStore


def evict(store: LocalStore, limit: int, spare: Collection[str] = ()) -> list[str]:
    """Delete local copies until the store has at most `limit` bytes.

    Only what a remote was seen to hold is deleted; what exists here alone stays, however much it is.
    Recipes stay too: they are small, and tell what to fetch.

    Args:
        store: the local store.
        limit: bytes.
        spare: stored names to keep, such as those that were fetched just now.

    Returns:
        The names that were deleted, packs without their indexes.

    Raises:
        StorageError: the store cannot be read or written.
    """
    sizes = {stored.name: stored.size for folder in FOLDERS for stored in store.names(folder)}
    total = sum(sizes.values())
    if total <= limit:
        return []
    on_remotes = store.catalog.on_remotes()
    evicted = []
    for _, name in sorted(_candidates(store, sizes, on_remotes - set(spare))):
        if total <= limit:
            break
        store.delete_name(name)
        total -= sizes[name] + sizes.get(f"{name}.idx", 0)
        evicted.append(name)
    store.catalog.forget_uses(evicted)
    return evicted


def _candidates(store: LocalStore, sizes: dict[str, int], known: set[str]) -> list[tuple[int, str]]:
    """Return when each file that may go was used last: read, as far as that was noted, or stored."""
    found = []
    uses = store.catalog.uses()
    for name in sizes:
        kind = parse_name(name).kind
        if kind not in {Kind.BLOB, Kind.COMPRESSED, Kind.PACK} or name not in known:
            continue
        if kind is Kind.PACK and f"{name}.idx" not in known:
            continue
        with suppress(FileNotFoundError), storage_errors(f"read {store.root}"):
            stored = (store.root / name).stat().st_mtime_ns
            found.append((max(stored, uses.get(name, 0)), name))
    return found
