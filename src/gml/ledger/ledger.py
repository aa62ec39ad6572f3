"""Appending to the ledger: one commit for a batch of changes, by compare-and-swap under a lock."""

from __future__ import annotations

import logging
import random
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gml import fs
from gml.domain.errors import GmlError, RefMovedError, StorageError
from gml.git import trees
from gml.git.objects import format_commit, object_id, parse_commit
from gml.git.port import MODE_FILE, Commit, Identity
from gml.ledger import layout
from gml.ledger.upkeep import tidy
from gml.ledger.view import LedgerView

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from gml.git.port import Kind
    from gml.git.store import FileStore

log = logging.getLogger("gml")

ATTEMPTS: Final = 64


@dataclass(slots=True)
class Batch:
    """Changes that belong into one commit.

    Attributes:
        changes: ledger path -> bytes, or None to remove the file.
        message: commit message.
    """

    changes: dict[str, bytes | None] = field(default_factory=dict)
    message: str = ""


class Ledger:
    """The runs of one repository.

    Args:
        store: the repository.
        namespace: middle part of the refs, `gml` unless the host reserves it.
        identity: author of ledger commits.
        clock: seconds since the epoch; commits never go back behind their parents.
    """

    def __init__(
        self,
        store: FileStore,
        *,
        namespace: str = "gml",
        identity: Identity,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self.ref = f"refs/{namespace}/ledger"
        self.code_ref = f"refs/{namespace}/code"
        self._identity = identity
        self._clock = clock
        self._newest: tuple[str | None, str | None] = (None, None)
        self._lock = store.location.common_dir / "gml" / "ledger.lock"

    def tip(self) -> str | None:
        """Return the newest commit of the ledger, None before the first."""
        return self.store.ref(self.ref)

    def newest_id(self) -> str | None:
        """Return the greatest time-ordered run id, looked up once for each state of the ledger."""
        tip = self.tip()
        if tip is None or self._newest[0] != tip:
            self._newest = (tip, self.view(tip).newest_id())
        return self._newest[1]

    def view(self, commit: str | None = None) -> LedgerView:
        """Return the ledger as of a commit, or as it is now."""
        return LedgerView(self.store, commit or self.tip())

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """Hold the writers' lock of this machine.

        Raises:
            StorageError: the lock cannot be taken.
        """
        with fs.locked(self._lock):
            yield Writer(self)

    def append(self, build: Callable[[LedgerView], Batch]) -> str | None:
        """Take the lock and commit what `build` makes of the current state; see `Writer.commit`."""
        with self.writing() as writer:
            return writer.commit(build)

    def keep_code(self, commit: str) -> bool:
        """Keep a code commit alive on the code ref, whatever happens to the branches.

        Returns:
            Whether it had to be added.
        """
        path = f"kept/{commit[:2]}/{commit}"
        if self._kept(self.store.ref(self.code_ref), path):
            return False
        with self.writing() as writer:
            for _ in range(ATTEMPTS):
                tip = self.store.ref(self.code_ref)
                if self._kept(tip, path):
                    return False
                try:
                    writer.advance(
                        self.code_ref,
                        tip,
                        {path: b""},
                        f"keep {commit}\n",
                        parents=(commit,) if tip is None else (tip, commit),
                    )
                except RefMovedError:
                    continue
                return True
        raise StorageError(f"{self.code_ref} keeps moving", hint="try again")

    def _kept(self, tip: str | None, path: str) -> bool:
        if tip is None:
            return False
        tree = parse_commit(self.store.read(tip)[1]).tree
        return trees.lookup(self.store, tree, path) is not None


class Writer:
    """Commits to the ledger while its lock is held. Made by `Ledger.writing`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def commit(self, build: Callable[[LedgerView], Batch]) -> str | None:
        """Commit a batch durably and return the new tip.

        The lock keeps writers of this machine apart; a writer elsewhere (another machine on a shared
        disk, a push) is noticed by compare-and-swap, and `build` is called again on the new state.

        Args:
            build: makes the batch from the current state; an empty one commits nothing.

        Returns:
            The new commit, or None when there was nothing to commit.

        Raises:
            StorageError: it could not be written; the ledger is as before.
        """
        ledger = self._ledger
        for attempt in range(ATTEMPTS):
            view = ledger.view()
            batch = build(view)
            changes = dict(batch.changes)
            if not changes:
                return None
            if view.commit is None:
                changes[layout.FORMAT_PATH] = layout.FORMAT_FILE
            parents = () if view.commit is None else (view.commit,)
            try:
                return self.advance(ledger.ref, view.commit, changes, batch.message, parents=parents)
            except RefMovedError:
                time.sleep(random.uniform(0, 0.002 * (attempt + 1)))  # noqa: S311
        raise StorageError(f"{ledger.ref} keeps moving: {ATTEMPTS} attempts failed", hint="try again")

    def advance(
        self,
        ref: str,
        tip: str | None,
        changes: Mapping[str, bytes | None],
        message: str,
        *,
        parents: tuple[str, ...],
    ) -> str:
        """Write a commit with changes over the tree of `tip` and move `ref` from `tip` to it."""
        ledger = self._ledger
        store = ledger.store
        object_format = store.location.object_format
        tree, born = None, 0
        if tip is not None:
            before = parse_commit(store.read(tip)[1])
            tree = before.tree
        for parent in parents:
            born = max(born, parse_commit(store.read(parent)[1]).commit_time)
        objects: list[tuple[Kind, bytes]] = []
        edits: dict[str, tuple[int, str] | None] = {}
        for path, data in changes.items():
            if data is None:
                edits[path] = None
            else:
                objects.append(("blob", data))
                edits[path] = (MODE_FILE, object_id("blob", data, object_format))
        root, new_trees = trees.edit(store, tree, edits, object_format=object_format)
        if root == tree and tip is not None:
            return tip
        objects.extend(new_trees)
        now = max(int(ledger._clock()), born)  # noqa: SLF001
        who = ledger._identity  # noqa: SLF001
        commit = format_commit(
            Commit(
                root, parents, author=who, author_time=now, committer=who, commit_time=now, message=message
            )
        )
        objects.append(("commit", commit))
        new = store.write_pack(objects)[-1]
        # A writer that was killed while it moved the ref left git's lock file behind. No other writer of
        # ours is alive here: it would hold the writers' lock.
        fs.remove_stale(store.location.common_dir / f"{ref}.lock")
        store.update_ref(ref, new, expected=tip, message=message.split("\n", 1)[0])
        self._tidy()
        return new

    def _tidy(self) -> None:
        # The commit is made and durable; that packing failed is no reason to say otherwise.
        try:
            tidy(self._ledger.store)
        except (GmlError, OSError) as error:
            log.warning("gml: the repository could not be packed (%s)", error)
