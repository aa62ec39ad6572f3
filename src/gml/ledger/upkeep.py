"""Keeping the ledger's objects small.

Every commit to the ledger is one small pack: two fsyncs instead of one for each of its seven objects.
When some forty packs have gathered, git unites them geometrically, with deltas, so that their number
stays logarithmic and each object is rewritten a logarithmic number of times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gml.git import maintenance

if TYPE_CHECKING:
    from gml.git.store import FileStore

PACKS: Final = 40


def tidy(store: FileStore) -> bool:
    """Unite small packs if there are many; call it under the writers' lock.

    Returns:
        Whether something was packed. Never without a git command on PATH.
    """
    return maintenance.count_packs(store.location.common_dir) > PACKS and maintenance.roll_up(store)
