"""Finding what a local store holds: loose blobs, blobs in packs, recipes."""

from __future__ import annotations

import errno
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gml.cas.catalog import Catalog
from gml.cas.compression import expand
from gml.cas.names import MAX_INDEX, Kind, parse_recipe, stored_name
from gml.cas.staging import Staging
from gml.domain.errors import CorruptError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from gml.cas.catalog import Place
    from gml.cas.names import Recipe
    from gml.cas.staging import Names

# What another user's file may have aged while we rely on it, where we may not refresh its age.
_UNTOUCHED: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Loose:
    """A blob that is a file of its own.

    Attributes:
        path: the file.
        length: its length.
        compressed: whether it is a zstd frame of the blob.
    """

    path: Path
    length: int
    compressed: bool


class Shelf:
    """The files of a local store; every method raises `OSError` as the system gives it.

    Args:
        root: the folder.
        cache: the folder of derived data.
    """

    def __init__(self, root: Path, cache: Path) -> None:
        self.root = root
        self.staging = Staging(root)
        self.catalog = Catalog(root / "packs", cache)

    def path(self, kind: Kind, digest: str) -> Path:
        """Return where a stored file is."""
        return self.root / stored_name(kind, digest)

    def loose(self, digest: str) -> Loose | None:
        """Return the file of its own that a blob is, if it is one."""
        for kind in (Kind.BLOB, Kind.COMPRESSED):
            path = self.path(kind, digest)
            length = size_of(path)
            if length is not None:
                return Loose(path, length, kind is Kind.COMPRESSED)
        return None

    def place(self, digest: str) -> Place | None:
        """Return where a blob is in a pack that is there, if there is one."""
        for place in self.catalog.find(digest):
            length = size_of(self.path(Kind.PACK, place.pack))
            if length is not None and length >= place.entry.offset + place.entry.length:
                return place
        return None

    def places(self, digests: Iterable[str]) -> dict[str, Place]:
        """Return where blobs are in packs; those that are in none are missing.

        Of each pack that is mentioned the length is looked at once.
        """
        lengths: dict[str, int] = {}
        found: dict[str, Place] = {}
        for digest, places in self.catalog.find_many(digests).items():
            for place in places:
                if place.pack not in lengths:
                    lengths[place.pack] = size_of(self.path(Kind.PACK, place.pack)) or -1
                if lengths[place.pack] >= place.entry.offset + place.entry.length:
                    found[digest] = place
                    break
        return found

    def recipe(self, digest: str) -> Recipe | None:
        """Return how a large file is put together, if it is one.

        Raises:
            CorruptError: the recipe is damaged.
        """
        try:
            data = read_text(self.path(Kind.RECIPE, digest))
        except FileNotFoundError:
            return None
        return parse_recipe(digest, data)

    def recipe_stamp(self, digest: str) -> str:
        """Return what tells one recipe file from another that replaced it."""
        facts = self.path(Kind.RECIPE, digest).stat()
        return f"{facts.st_dev}:{facts.st_ino}:{facts.st_size}:{facts.st_ctime_ns}"


class Reliance:
    """What a put finds in the store already and relies on instead of writing it again.

    Such a file gets the time of now, so that no `gml artifacts gc` that looks at it later takes it for
    old, and its name is synced with the others, because its writer may not have come this far.

    Args:
        shelf: the store.
        names: gets the names that are relied on.
        many: whether it is asked about many blobs, so that listing folders is cheaper than looking for
            each. What others store after that is not relied on, and stored again.
    """

    def __init__(self, shelf: Shelf, names: Names, *, many: bool = False) -> None:
        self._shelf = shelf
        self._names = names
        self._packs: dict[str, bool] = {}
        self._listed: dict[str, frozenset[str]] | None = {} if many else None

    def _may_have(self, folder: str, digest: str) -> bool:
        """Whether there may be a file of that digest in `sha256` or `recipes`."""
        if self._listed is None:
            return True
        key = f"{folder}/{digest[:2]}"
        known = self._listed.get(key)
        if known is None:
            try:
                names = os.listdir(self._shelf.root / key)  # noqa: PTH208 - names are wanted
            except (FileNotFoundError, NotADirectoryError):
                names = []
            known = self._listed[key] = frozenset(name[:64] for name in names)
        return digest in known

    def on_blobs(self, digests: Iterable[str]) -> dict[str, int]:
        """Return which blobs are in packs and can be relied on, with the length of each."""
        found: dict[str, int] = {}
        for digest, places in self._shelf.catalog.find_many(digests).items():
            for place in places:
                if self._on_pack(place.pack):
                    found[digest] = place.entry.size
                    break
        return found

    def on_recipe(self, digest: str) -> int | None:
        """Return the length of a large file that is completely here and can be relied on."""
        if not self._may_have("recipes", digest):
            return None
        try:
            recipe = self._shelf.recipe(digest)
        except CorruptError:
            return None
        if recipe is None or not refresh_age(self._shelf.path(Kind.RECIPE, digest)):
            return None
        chunks = dict(recipe.chunks)
        found = self.on_blobs(chunks)
        for chunk, size in chunks.items():
            if found.get(chunk) != size and self.on_loose(chunk) != size:
                return None
        self._names.add(self._shelf.path(Kind.RECIPE, digest))
        return recipe.size

    def on_loose(self, digest: str) -> int | None:
        """Return the length of a blob that is a file of its own and can be relied on."""
        if not self._may_have("sha256", digest):
            return None
        loose = self._shelf.loose(digest)
        if loose is None or not refresh_age(loose.path):
            return None
        self._names.add(loose.path)
        if not loose.compressed:
            return loose.length
        size = frame_size(loose.path)
        try:
            # A cut frame still says how long it should be.
            return None if size is None else len(expand(loose.path.read_bytes(), size))
        except CorruptError:
            return None

    def _on_pack(self, pack: str) -> bool:
        known = self._packs.get(pack)
        if known is None:
            known = self._packs[pack] = self._pack_is_whole(pack)
        return known

    def _pack_is_whole(self, pack: str) -> bool:
        entries_end = self._shelf.catalog.packs_length(pack)
        path = self._shelf.path(Kind.PACK, pack)
        index = self._shelf.path(Kind.INDEX, pack)
        if size_of(path) != entries_end or not (refresh_age(index) and refresh_age(path)):
            return False
        self._names.add(path)
        return True


def read_text(path: Path) -> bytes:
    """Return an index or a recipe.

    Raises:
        CorruptError: it is longer than any is.
    """
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size > MAX_INDEX:
            raise CorruptError(f"{path} is longer than {MAX_INDEX} bytes", hint="gml artifacts verify")
        return file.read()


def frame_size(path: Path) -> int | None:
    """Return how long the content of a compressed blob says that it is; None where it does not."""
    import zstandard

    with path.open("rb") as file:
        head = file.read(32)
    try:
        size: int = zstandard.frame_content_size(head)
    except zstandard.ZstdError:
        return None
    return size if size >= 0 else None


def size_of(path: Path) -> int | None:
    """Return the length of a file, None where there is none."""
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None


def refresh_age(path: Path) -> bool:
    """Give a file the time of now; say whether it is there and will not be taken for old."""
    try:
        os.utime(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        if error.errno == errno.EROFS:
            return True
        if error.errno in {errno.EPERM, errno.EACCES}:
            return time.time() - path.stat().st_mtime < _UNTOUCHED
        raise
    return True
