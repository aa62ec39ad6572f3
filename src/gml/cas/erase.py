"""Deleting the bytes of one blob on purpose, and not those that other files share with it."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from gml.cas.exchange import push
from gml.cas.local import LocalStore
from gml.cas.names import MAX_INDEX, Kind, is_name, parse_name, parse_recipe, stored_name
from gml.cas.pull import Ranges
from gml.cas.shelf import read_text
from gml.domain.errors import CorruptError, FormatError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from gml.cas.names import Entry, Recipe
    from gml.cas.pull import Source


def erase(store: LocalStore, digest: str, kept: Collection[str] = ()) -> int:
    """Delete a blob of a local store and those of its chunks that nothing else needs.

    Args:
        store: the store.
        digest: the blob.
        kept: digests of other blobs that are needed.

    Returns:
        How many bytes of it stay, because other files have them as well.
    """
    store.catalog.refresh()
    recipe = store.shelf.recipe(digest)
    mine = _own_chunks(digest, recipe, files_of_chunks(store), kept)
    packs = {place.pack for chunk in mine for place in store.catalog.find(chunk)}
    # The recipe first: without it the chunks belong to nothing.
    store.delete(digest)
    for pack in packs:
        store.repack(pack, lambda blob: blob not in mine)
    for chunk in mine:
        for kind in (Kind.BLOB, Kind.COMPRESSED):
            store.delete_name(stored_name(kind, chunk))
    return _shared(recipe, mine)


def files_of_chunks(store: LocalStore) -> dict[str, set[str]]:
    """Return, for each chunk, the digests of the large files of a local store that need it."""
    names = [stored.name for stored in store.names("recipes")]
    return _needed_by(names, lambda name: read_text(store.root / name))


def erase_remote(source: Source, digest: str, kept: Collection[str] = ()) -> int:
    """Delete a blob of a remote as `erase` does here; a pack that is shared is written anew without it.

    Returns:
        How many bytes of it stay.

    Raises:
        StorageError: the remote refuses or cannot be reached.
    """
    remote = source.remote
    names = [name for name, _ in remote.names("recipes") if is_name(name)]
    own = stored_name(Kind.RECIPE, digest)
    recipe = None
    if own in names:
        with suppress(CorruptError, FormatError):
            recipe = parse_recipe(digest, remote.fetch(own, 0, MAX_INDEX))
    mine = _own_chunks(digest, recipe, _needed_by(names, lambda name: remote.fetch(name, 0, MAX_INDEX)), kept)
    gone = mine | {digest}
    remote.delete(own)
    for pack, entries in list(source.all_indexes()):
        if gone & {entry.digest for entry in entries}:
            _replace_pack(source, pack, entries, gone)
    for blob in gone:
        for kind in (Kind.BLOB, Kind.COMPRESSED):
            remote.delete(stored_name(kind, blob))
    return _shared(recipe, mine)


def files_of_remote_chunks(source: Source) -> dict[str, set[str]]:
    """Return, for each chunk, the digests of the large files of a remote that need it."""
    remote = source.remote
    names = [name for name, _ in remote.names("recipes") if is_name(name)]
    return _needed_by(names, lambda name: remote.fetch(name, 0, MAX_INDEX))


def _replace_pack(source: Source, pack: str, entries: list[Entry], gone: set[str]) -> None:
    remote = source.remote
    name = stored_name(Kind.PACK, pack)
    rest = [entry.digest for entry in entries if entry.digest not in gone]
    if rest:
        size = remote.size(name)
        if size is None:
            return
        with tempfile.TemporaryDirectory(prefix="gml-repack-") as folder:
            scratch = LocalStore(Path(folder))
            with Ranges(remote, name, size) as stream:
                scratch.adopt_name(name, stream, source.index_bytes(pack))  # type: ignore[arg-type]
            scratch.repack(pack, lambda blob: blob not in gone)
            push(scratch, remote, rest)
    # Its index first: without it the pack is no part of the store.
    remote.delete(f"{name}.idx")
    remote.delete(name)
    source.forget()


def _needed_by(names: Iterable[str], read: Callable[[str], bytes]) -> dict[str, set[str]]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for name in names:
        digest = parse_name(name).digest
        try:
            recipe = parse_recipe(digest, read(name))
        except (OSError, CorruptError, FormatError, NotFoundError):
            continue
        for chunk, _ in recipe.chunks:
            found[chunk].add(digest)
    return found


def _own_chunks(
    digest: str, recipe: Recipe | None, needed_by: dict[str, set[str]], kept: Collection[str]
) -> set[str]:
    """Return the chunks of a file that no other file needs."""
    if recipe is None:
        return set()
    others = set(kept)
    return {chunk for chunk, _ in recipe.chunks if needed_by[chunk] <= {digest} and chunk not in others}


def _shared(recipe: Recipe | None, mine: set[str]) -> int:
    chunks = dict(recipe.chunks) if recipe is not None else {}
    return sum(size for chunk, size in chunks.items() if chunk not in mine)
