"""States of the registry in git, for the decision: trees read strictly, compared directory by directory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gml.domain.errors import CorruptError, GmlError
from gml.git.objects import object_id, parse_raw_tree
from gml.policy.errors import RefusedError
from gml.policy.view import Change, File

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gml.git.port import Kind, TreeReader

_DIRECTORY: Final = b"40000"
_MODES: Final = frozenset((b"40000", b"100644", b"100755", b"120000", b"160000", b"100664"))
_CACHED: Final = 4_096

Slot = tuple[bytes, bytes]
Directory = dict[bytes, Slot]


class Overlay:
    """Objects that are not written yet, over a store that has the others."""

    def __init__(self, store: TreeReader, objects: Mapping[str, tuple[Kind, bytes]]) -> None:
        self._store = store
        self._objects = objects

    def read(self, oid: str) -> tuple[Kind, bytes]:
        """See `GitStore.read`."""
        return self._objects.get(oid) or self._store.read(oid)


def overlay(store: TreeReader, objects: list[tuple[Kind, bytes]], object_format: str) -> Overlay:
    """Return a store that also has some objects."""
    return Overlay(store, {object_id(kind, data, object_format): (kind, data) for kind, data in objects})


class Directories:
    """Reads directories once; shared by all states of one walk."""

    def __init__(self, store: TreeReader) -> None:
        self.store = store
        self._known: dict[str, Directory] = {}

    def load(self, oid: str) -> Directory:
        """Return a directory: name -> (mode, binary id).

        Raises:
            RefusedError: it is not a directory as git writes one: sorted, no name twice, known modes.
        """
        known = self._known.get(oid)
        if known is not None:
            return known
        kind, data = self.read(oid)
        if kind != "tree":
            raise RefusedError("objects", f"{oid[:12]} is a {kind} where a directory belongs")
        try:
            entries = parse_raw_tree(data, len(oid) // 2)
        except CorruptError as error:
            raise RefusedError("objects", error.message) from None
        keys = [name + b"/" if mode == _DIRECTORY else name for mode, name, _ in entries]
        found = {name: (mode, ident) for mode, name, ident in entries}
        if len(found) != len(entries) or keys != sorted(keys):
            raise RefusedError("objects", f"the directory {oid[:12]} is not sorted or has a name twice")
        if not _MODES.issuperset({mode for mode, _, _ in entries}):
            raise RefusedError("objects", f"the directory {oid[:12]} has entries of an unknown mode")
        if len(self._known) >= _CACHED:
            self._known.clear()
        self._known[oid] = found
        return found

    def read(self, oid: str) -> tuple[Kind, bytes]:
        """Return an object.

        Raises:
            RefusedError: it is not there, or damaged.
        """
        try:
            return self.store.read(oid)
        except GmlError as error:
            raise RefusedError("objects", f"an object cannot be seen: {error.message}") from error


class GitTree:
    """One state: `gml.policy.view.Tree` over the objects of a repository."""

    def __init__(self, directories: Directories, root: str) -> None:
        self.root = root
        self._directories = directories

    def _find(self, path: str) -> Slot | None:
        *parents, last = path.encode("utf-8", "surrogateescape").split(b"/")
        here = self._directories.load(self.root)
        for part in parents:
            slot = here.get(part)
            if slot is None or slot[0] != _DIRECTORY:
                return None
            here = self._directories.load(slot[1].hex())
        return here.get(last)

    def read(self, path: str) -> bytes | None:
        """See `Tree.read`."""
        slot = self._find(path)
        if slot is None or slot[0] == _DIRECTORY:
            return None
        return self._directories.read(slot[1].hex())[1]

    def oid(self, path: str) -> str | None:
        """See `Tree.oid`."""
        slot = self._find(path)
        return None if slot is None or slot[0] == _DIRECTORY else slot[1].hex()

    def names(self, path: str) -> tuple[str, ...]:
        """See `Tree.names`."""
        slot = self._find(path)
        if slot is None or slot[0] != _DIRECTORY:
            return ()
        loaded = self._directories.load(slot[1].hex())
        return tuple(name.decode("utf-8", "surrogateescape") for name in loaded)

    def directory(self, path: str) -> str | None:
        """Return the id of a directory, None where there is none."""
        slot = self._find(path)
        return slot[1].hex() if slot is not None and slot[0] == _DIRECTORY else None


def compare(directories: Directories, old: str | None, new: str | None, limit: int) -> list[Change]:
    """Return what differs between two trees, path by path.

    Args:
        directories: reads them.
        old: id of the tree before, None for nothing.
        new: id of the tree after, None for nothing.
        limit: more changes than this are refused.

    Raises:
        RefusedError: there are more, or an object cannot be read.
    """
    found: list[Change] = []
    for change in _walk(directories, old, new, ""):
        found.append(change)
        if len(found) > limit:
            raise RefusedError("size", f"one commit changes more than {limit} files")
    return found


def _walk(directories: Directories, old: str | None, new: str | None, prefix: str) -> Iterator[Change]:
    if old == new:
        return
    before = directories.load(old) if old else {}
    after = directories.load(new) if new else {}
    for name in sorted({name for name, _ in before.items() ^ after.items()}):
        one, two = before.get(name), after.get(name)
        path = prefix + name.decode("utf-8", "surrogateescape")
        left = one[1].hex() if one is not None and one[0] == _DIRECTORY else None
        right = two[1].hex() if two is not None and two[0] == _DIRECTORY else None
        file_before = _file(directories, one) if left is None else None
        file_after = _file(directories, two) if right is None else None
        if file_before != file_after:
            yield Change(path, file_before, file_after)
        if left is not None or right is not None:
            if right is not None and not directories.load(right):
                raise RefusedError("objects", f"{path!r:.100} is an empty directory")
            yield from _walk(directories, left, right, f"{path}/")


def _file(directories: Directories, slot: Slot | None) -> File | None:
    if slot is None:
        return None
    oid = slot[1].hex()
    size = 0 if slot[0] == b"160000" else len(directories.read(oid)[1])
    return File(int(slot[0], 8), oid, size)
