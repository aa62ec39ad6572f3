"""Looking for damage: every stored file is read and compared with what its name promises."""

from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gml.cas.check import check_for
from gml.cas.names import Kind, StoredName, parse_index, parse_name, stored_name
from gml.cas.port import CHUNK
from gml.cas.reading import Part, copy_out, locate, stored_bytes
from gml.domain.errors import CorruptError, FormatError, GmlError, NotFoundError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gml.cas.local import LocalStore
    from gml.cas.names import Entry
    from gml.cas.port import Stored


@dataclass(frozen=True, slots=True)
class Damage:
    """Something that is not what it should be.

    Attributes:
        name: the stored file.
        digest: the blob that cannot be read because of it; None where the whole pack is affected.
        text: what is wrong with it.
    """

    name: str
    digest: str | None
    text: str


def listed(store: LocalStore) -> list[Stored]:
    """Return the stored files that `scrub` reads: all but indexes, which are read with their packs."""
    return [
        stored
        for folder in ("sha256", "packs", "recipes")
        for stored in store.names(folder)
        if not stored.name.endswith(".idx")
    ]


def sample_of(files: list[Stored], share: float, seed: int | None = None) -> list[Stored]:
    """Return a random part of the files, at least one, with about this share of the bytes.

    Args:
        files: all files.
        share: more than 0, at most 1.
        seed: for the same choice again.
    """
    if share >= 1 or not files:
        return files
    shuffled = list(files)
    random.Random(seed).shuffle(shuffled)  # noqa: S311 - a sample, no secret
    total = sum(stored.size for stored in files)
    chosen: list[Stored] = []
    size = 0
    for stored in shuffled:
        if chosen and size >= share * total:
            break
        chosen.append(stored)
        size += stored.size
    return sorted(chosen, key=lambda stored: stored.name)


def scrub(
    store: LocalStore, files: list[Stored], progress: Callable[[int], object] | None = None
) -> Iterator[Damage]:
    """Read stored files and yield what is damaged, in no particular order.

    Args:
        store: the store.
        files: from `listed`.
        progress: called with the number of bytes of each file when it was read.
    """
    with ThreadPoolExecutor(max(2, os.cpu_count() or 1), "gml-verify") as pool:
        for stored, found in zip(files, pool.map(lambda file: list(_check(store, file)), files), strict=True):
            if progress is not None:
                progress(stored.size)
            yield from found


def _check(store: LocalStore, stored: Stored) -> Iterator[Damage]:
    name = parse_name(stored.name)
    try:
        if name.kind is Kind.PACK:
            yield from _check_pack(store, name)
        elif name.kind is Kind.RECIPE:
            _check_recipe(store, name.digest)
        else:
            check = check_for(name)
            with store.open_name(stored.name) as file:
                while piece := file.read(CHUNK):
                    check.update(piece)
            check.finish()
    except NotFoundError as error:
        # Deleted meanwhile, which is no damage, or a recipe lacks a chunk.
        if store.name_size(stored.name) is not None:
            yield Damage(stored.name, name.digest, error.message)
    except (CorruptError, FormatError, StorageError) as error:
        yield Damage(stored.name, name.digest, error.message)


def _check_recipe(store: LocalStore, digest: str) -> None:
    """Read a file as a whole, unless that was done with this recipe: its chunks are read with the packs."""
    located = locate(store.shelf, digest)
    stamp = store.shelf.recipe_stamp(digest)
    if not store.catalog.recipe_verified(digest, stamp):
        copy_out(located, None)
        store.catalog.remember_recipe(digest, stamp)


def _check_pack(store: LocalStore, name: StoredName) -> Iterator[Damage]:
    index = stored_name(Kind.INDEX, name.digest)
    try:
        entries = parse_index(name.digest, store.read_index(name.digest))
    except NotFoundError:
        # Not a part of the store before its index is there: a put that goes on, or was killed.
        return
    except GmlError as error:
        yield Damage(index, None, error.message)
        return
    end = entries[-1].offset + entries[-1].length if entries else 0
    size = store.name_size(name.name)
    if size is not None and size > end:
        yield Damage(name.name, None, f"{size - end} bytes follow what the index says")
    for entry in entries:
        text = _check_entry(store, name, entry)
        if text is not None:
            yield Damage(name.name, entry.digest, text)


def _check_entry(store: LocalStore, name: StoredName, entry: Entry) -> str | None:
    part = Part(store.root / name.name, entry.offset, entry.length, entry.size, entry.digest)
    kind = Kind.BLOB if entry.length == entry.size else Kind.COMPRESSED
    check = check_for(StoredName(name.name, kind, entry.digest))
    try:
        check.update(stored_bytes(part))
        check.finish()
    except CorruptError as error:
        return error.message
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None
