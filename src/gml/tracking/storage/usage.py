"""Who uses the space of the artifact store, and what sharing and compression save."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gml.cas.names import Kind, parse_name, parse_recipe
from gml.cas.shelf import read_text
from gml.domain.errors import CorruptError, FormatError
from gml.tracking.storage.local import local_store
from gml.tracking.storage.uses import uses

if TYPE_CHECKING:
    from gml.cas.local import LocalStore
    from gml.domain.run import Run
    from gml.tracking.reader import Reader


@dataclass(slots=True)
class RunUsage:
    """What one run has in the store.

    Attributes:
        run: the run.
        files: number of its files.
        size: their bytes.
        alone: stored bytes that would be free if this run needed nothing.
    """

    run: Run
    files: int = 0
    size: int = 0
    alone: int = 0


@dataclass(slots=True)
class Usage:
    """What the store has.

    Attributes:
        stored: bytes of all stored files.
        objects: number of stored files.
        files: number of files of runs.
        size: bytes of these files, as if each were stored by itself.
        distinct: bytes of the different ones among them.
        unshared: bytes of their different chunks, before compression.
        needed: stored bytes of these chunks.
        runs: by run id.
    """

    stored: int = 0
    objects: int = 0
    files: int = 0
    size: int = 0
    distinct: int = 0
    unshared: int = 0
    needed: int = 0
    runs: dict[str, RunUsage] = field(default_factory=dict)


def usage(reader: Reader) -> Usage:
    """Return what the runs have in the local store, as they are now, deleted ones included.

    Raises:
        UsageError: the store is no folder.
        StorageError: it cannot be read.
    """
    store = local_store(reader.workspace)
    store.catalog.refresh()
    found = Usage()
    lengths: dict[str, tuple[int, int]] = {}
    recipes: dict[str, tuple[tuple[str, int], ...]] = {}
    for folder in ("sha256", "packs", "recipes"):
        for stored in store.names(folder):
            found.stored += stored.size
            found.objects += 1
            name = parse_name(stored.name)
            if name.kind in {Kind.BLOB, Kind.COMPRESSED}:
                lengths[name.digest] = (stored.size, stored.size)
            elif name.kind is Kind.RECIPE:
                recipes[name.digest] = _chunks(store, stored.name)
    for pack in store.catalog.packs():
        for entry in store.catalog.entries(pack):
            lengths.setdefault(entry.digest, (entry.length, entry.size))
    owners: defaultdict[str, set[str]] = defaultdict(set)
    sizes: dict[str, int] = {}
    for use in uses(reader):
        mine = found.runs.setdefault(use.run.run_id, RunUsage(use.run))
        mine.files += 1
        mine.size += use.size
        sizes[use.digest] = use.size
        for chunk, size in recipes.get(use.digest, ((use.digest, use.size),)):
            owners[chunk].add(use.run.run_id)
            if chunk in lengths:
                lengths[chunk] = (lengths[chunk][0], size)
    found.files = sum(run.files for run in found.runs.values())
    found.size = sum(run.size for run in found.runs.values())
    found.distinct = sum(sizes.values())
    for chunk, runs in owners.items():
        length, size = lengths.get(chunk, (0, 0))
        found.unshared += size
        found.needed += length
        if len(runs) == 1:
            found.runs[next(iter(runs))].alone += length
    return found


def _chunks(store: LocalStore, name: str) -> tuple[tuple[str, int], ...]:
    try:
        return parse_recipe(parse_name(name).digest, read_text(store.root / name)).chunks
    except (OSError, CorruptError, FormatError):
        return ()
