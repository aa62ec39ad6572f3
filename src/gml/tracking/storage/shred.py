"""Deleting the bytes of a file on purpose; a tombstone in the ledger stays and says why."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gml.cas.names import Kind, stored_name
from gml.domain.errors import ConflictError, InvalidValueError, UsageError
from gml.domain.ids import short_id
from gml.domain.run import SHREDDED
from gml.tracking.contents import artifact
from gml.tracking.edits import edit_runs
from gml.tracking.storage.local import local_store
from gml.tracking.storage.uses import files_of_chunks, uses

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gml.cas.local import LocalStore
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
    """

    digest: str
    size: int
    places: list[tuple[str, str]] = field(default_factory=list)
    shared: int = 0


def shred(reader: Reader, run: Run, path: str, reason: str, *, everywhere: bool = False) -> Shredded:
    """Delete the bytes of a file of a run from the local store, and record that.

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
    done.shared = erase(store, facts.sha256, {use.digest for use in uses(reader)} - {facts.sha256})
    return done


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


def erase(store: LocalStore, digest: str, kept: Iterable[str] = ()) -> int:
    """Delete a blob and those of its chunks that nothing else needs.

    Args:
        store: the store.
        digest: the blob.
        kept: digests of other blobs that are needed.

    Returns:
        How many bytes of it stay, because other files have them as well.
    """
    store.catalog.refresh()
    recipe = store.shelf.recipe(digest)
    sizes = dict(recipe.chunks) if recipe is not None else {}
    needed_by = files_of_chunks(store)
    needed = set(kept)
    mine = {chunk for chunk in sizes if needed_by[chunk] == {digest} and chunk not in needed}
    packs = {place.pack for chunk in mine for place in store.catalog.find(chunk)}
    # The recipe first: without it the chunks belong to nothing.
    store.delete(digest)
    for pack in packs:
        store.repack(pack, lambda blob: blob not in mine)
    for chunk in mine:
        for kind in (Kind.BLOB, Kind.COMPRESSED):
            store.delete_name(stored_name(kind, chunk))
    return sum(size for chunk, size in sizes.items() if chunk not in mine)


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
    found = [digest for digest in sorted(buried(reader)) if store.contains(digest)]
    if found:
        kept = {use.digest for use in uses(reader)}
        for digest in found:
            erase(store, digest, kept)
    return found
