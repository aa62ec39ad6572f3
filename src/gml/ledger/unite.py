"""Taking another clone's ledger and code refs into ours: under the writers' lock, never losing a side."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from gml import fs
from gml.domain.errors import GmlError, RefMovedError, StorageError
from gml.git.objects import parse_commit
from gml.ledger.ledger import ATTEMPTS
from gml.ledger.merge import merge, merge_code, merge_trees
from gml.ledger.upkeep import tidy
from gml.ledger.view import LedgerView

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gml.git.port import GitStore
    from gml.ledger.ledger import Ledger


def unite_ledger(ledger: Ledger, others: Iterable[str]) -> str | None:
    """Merge ledger commits into the local ledger and return its tip, None when there is nothing at all.

    Raises:
        FormatError: one of them was written by a newer gml; nothing was changed.
        StorageError: it could not be written; the ledger is as before.
    """
    wanted = list(others)
    ledger.view()
    for other in wanted:
        LedgerView(ledger.store, other)
    return _unite(ledger, ledger.ref, wanted, _merge_ledgers)


def unite_code(ledger: Ledger, others: Iterable[str]) -> str | None:
    """Merge code commits into the local code ref and return its tip; as `unite_ledger`."""
    return _unite(ledger, ledger.code_ref, list(others), merge_code)


def _merge_ledgers(store: GitStore, mine: str, theirs: str) -> str:
    # Beyond the edge of a shallow repository ancestry is unknown; a side that has everything is newer.
    if is_shallow(store) and not store.is_ancestor(theirs, mine):
        trees = [parse_commit(store.read(side)[1]).tree for side in (mine, theirs)]
        if merge_trees(store, trees[0], trees[1])[0] == trees[1]:
            return theirs
    return merge(store, mine, theirs)


def is_shallow(store: GitStore) -> bool:
    """Whether the repository lacks the older part of some history."""
    return (store.location.common_dir / "shallow").exists()


def _unite(
    ledger: Ledger, ref: str, others: list[str], combine: Callable[[GitStore, str, str], str]
) -> str | None:
    store = ledger.store
    tip = store.ref(ref)
    if all(other == tip for other in others):
        return tip
    with ledger.writing():
        for _ in range(ATTEMPTS):
            before = store.ref(ref)
            tip = before
            for other in others:
                tip = other if tip is None else combine(store, tip, other)
            if tip is None or tip == before:
                return tip
            # As in `Writer.advance`: who held git's lock file died, or would hold our lock.
            fs.remove_stale(store.location.common_dir / f"{ref}.lock")
            try:
                store.update_ref(ref, tip, expected=before, message="unite")
            except RefMovedError:
                continue
            with suppress(GmlError, OSError):
                tidy(store)
            return tip
    raise StorageError(f"{ref} keeps moving", hint="try again")
