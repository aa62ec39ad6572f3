"""Deleting the bytes of a file on purpose; a tombstone in the ledger stays and says why."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gml.cas.backed import BackedStore
from gml.cas.erase import erase, erase_remote
from gml.domain.errors import ConflictError, GmlError, InvalidValueError, StorageError, UsageError
from gml.domain.ids import short_id
from gml.domain.run import LINKED, SHREDDED
from gml.tracking.contents import artifact
from gml.tracking.edits import edit_runs
from gml.tracking.storage.local import local_store
from gml.tracking.storage.uses import uses

if TYPE_CHECKING:
    from gml.cas.backed import Place
    from gml.domain.run import Run
    from gml.tracking.reader import Reader


@dataclass(slots=True)
class Shredded:
    """What was deleted.

    Attributes:
        digest: SHA-256 of the file.
        size: its length.
        places: the runs and paths that have a tombstone now.
        shared: bytes of it that other files have as well, and that therefore stay.
        remotes: the remotes that it was deleted from.
        failed: those that it could not be deleted from, and why.
    """

    digest: str
    size: int
    places: list[tuple[str, str]] = field(default_factory=list)
    shared: int = 0
    remotes: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)


def shred(reader: Reader, run: Run, path: str, reason: str, *, everywhere: bool = False) -> Shredded:
    """Delete the bytes of a file of a run from the local store and the remotes, and record that.

    Done again after it failed in the middle, it goes on.

    Args:
        reader: the runs.
        run: the run.
        path: its file.
        reason: why, for whoever wants to read the file later.
        everywhere: also where other runs, or other paths, have the same bytes.

    Raises:
        NotFoundError: the run has no such file.
        UsageError: the file is in git, or not committed yet.
        ConflictError: other runs have the same bytes, and `everywhere` was not given.
        InvalidValueError: there is no reason.
    """
    if not reason.strip():
        raise InvalidValueError("shredding needs a reason", hint='--reason "..."')
    facts = artifact(run, path)
    if facts.at.startswith("git"):
        raise UsageError(
            f"{path} is in git, as a part of the history of {reader.workspace.ledger.ref}",
            hint="nothing short of rewriting that history in every clone removes it (git filter-repo)",
        )
    if facts.at == LINKED:
        raise UsageError(f"{path} is only linked", hint=f"its bytes are deleted where they are: {facts.url}")
    if facts.at not in {"cas", SHREDDED}:
        raise UsageError(f"{path} is not committed yet", hint="repeat it when the run has ended")
    store = local_store(reader.workspace)
    others = [
        use
        for use in uses(reader)
        if use.digest == facts.sha256 and (use.run.run_id, use.path) != (run.run_id, path)
    ]
    if others and not everywhere:
        shown = ", ".join(f"{short_id(use.run.run_id)} {use.path}" for use in others[:3])
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        raise ConflictError(
            f"the same bytes are also {shown}{more}", hint="--everywhere shreds them there too"
        )
    done = Shredded(facts.sha256, facts.size)
    # The tombstones first: a reader between the two is told why, and the runs do not claim what has gone.
    if facts.at == "cas":
        _bury(reader, run.run_id, path, facts.sha256, facts.size, reason)
        done.places.append((run.run_id, path))
    for use in others:
        _bury(reader, use.run.run_id, use.path, use.digest, use.size, reason)
        done.places.append((use.run.run_id, use.path))
    kept = {use.digest for use in uses(reader)} - {facts.sha256}
    done.shared = erase(store, facts.sha256, kept)
    if isinstance(store, BackedStore):
        for place in store.places:
            try:
                _check_presence(store, place)
                erase_remote(store.source(place), facts.sha256, kept)
            except GmlError as error:
                done.failed.append((place.name, error.message))
            else:
                done.remotes.append(place.name)
        if not done.failed:
            store.catalog.forget_remotes()
    return done


def _check_presence(store: BackedStore, place: Place) -> None:
    """Refuse to take an empty place, such as a share that is not mounted, for one where all is deleted.

    Raises:
        StorageError: nothing of what was sent there is there.
    """
    known = store.catalog.names_on(place.url)
    if known and not store.source(place).remote.sizes(known):
        raise StorageError("nothing of what was sent there is there; is it mounted?")


def _bury(reader: Reader, run_id: str, path: str, digest: str, size: int, reason: str) -> None:
    stone = {
        "at": SHREDDED,
        "sha256": digest,
        "size": size,
        "reason": reason.strip(),
        "by": reader.workspace.user,
        "time": int(time.time() * 1000),
    }
    edit_runs(reader.workspace, [run_id], {"artifacts": {path: stone}}, f"shred {path}")


def buried(reader: Reader) -> set[str]:
    """Return the digests that tombstones name and that no run has any more."""
    stones = {
        facts.sha256
        for run in reader.runs(deleted=True)
        for facts in run.artifacts.values()
        if facts.at == SHREDDED
    }
    return stones - {use.digest for use in uses(reader)} if stones else stones


def erase_buried(reader: Reader) -> list[str]:
    """Delete what was shredded in another clone and is still in this one; returns the digests."""
    store = local_store(reader.workspace)
    found = [digest for digest in sorted(buried(reader)) if store.has_here(digest)]
    if found:
        kept = {use.digest for use in uses(reader)}
        for digest in found:
            erase(store, digest, kept)
    return found
