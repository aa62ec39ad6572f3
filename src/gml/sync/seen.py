"""What was last seen of a remote, and keeping what it has thrown away."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gml.domain.errors import RefMovedError

if TYPE_CHECKING:
    from gml.git.store import FileStore
    from gml.sync.names import Names


@dataclass(frozen=True, slots=True)
class Seen:
    """The refs of a remote as last seen; ids of commits and tags."""

    ledger: str | None = None
    code: str | None = None
    registry: str | None = None
    inboxes: dict[str, str] = field(default_factory=dict)
    """Ref below `inbox/` (`<writer>/ledger`, `<writer>/code`) -> commit."""
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def ledgers(self) -> list[str]:
        """Every ledger that the remote holds: the shared one and those that wait in inboxes."""
        return self._all(self.ledger, "/ledger")

    @property
    def codes(self) -> list[str]:
        """Every code commit that the remote holds."""
        return self._all(self.code, "/code")

    def _all(self, shared: str | None, kind: str) -> list[str]:
        waiting = [oid for name, oid in self.inboxes.items() if name.endswith(kind)]
        return waiting if shared is None else [shared, *waiting]


def read_seen(store: FileStore, names: Names) -> Seen:
    """Return what was last seen of a remote."""
    refs = store.refs(names.seen)
    stem = len(names.seen)
    short = {name[stem:]: oid for name, oid in refs.items()}
    return Seen(
        ledger=short.get("ledger"),
        code=short.get("code"),
        registry=store.ref(names.seen_registry),
        inboxes={name[6:]: oid for name, oid in short.items() if name.startswith("inbox/")},
        tags={name[5:]: oid for name, oid in short.items() if name.startswith("tags/")},
    )


def set_seen(store: FileStore, names: Names, name: str, oid: str | None) -> None:
    """Note what a ref of the remote points at now; a fetch that goes on beside may know better."""
    local = names.seen_of(name)
    if local is None:
        return
    before = store.ref(local)
    with suppress(RefMovedError):
        if oid is None:
            if before is not None:
                store.delete_ref(local, expected=before)
        elif before != oid:
            store.update_ref(local, oid, expected=before, message="push")


def keep(store: FileStore, names: Names, what: str, oid: str) -> str:
    """Keep a commit that the remote no longer has under a ref of its own and return the ref's name."""
    ref = names.conflict(what, oid)
    if store.ref(ref) is None:
        with suppress(RefMovedError):
            store.update_ref(ref, oid, expected=None, message="no longer on the remote")
    return ref
