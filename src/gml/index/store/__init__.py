"""The disposable index: a SQLite file that answers queries fast and can be deleted at any time.

It is brought up to date by the two-tree walk between the ledger commit it has seen and today's, and is
never consulted for a write.
"""

from gml.index.store.database import RunIndex

__all__ = ["RunIndex"]
