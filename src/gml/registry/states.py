"""States of the registry in git, for the decision: trees read strictly, compared directory by directory."""

from __future__ import annotations

from itertools import pairwise
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
_CACHED: Final = 500_000
_LARGE: Final = 64
_RECENT: Final = 16

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
        self._bytes: dict[str, bytes] = {}
        self._entries = 0

    def load(self, oid: str) -> Directory:
        """Return a directory: name -> (mode, binary id).

        Raises:
            RefusedError: it is not a directory as git writes one: sorted, no name twice, known modes.
        """
        known = self._known.get(oid)
        return known if known is not None else self._keep(oid, _checked(oid, *self._raw(oid)))

    def difference(self, old: str, new: str) -> tuple[Directory, Directory, list[bytes]]:
        """Return two directories and the names of entries that differ, sorted.

        A large directory that follows from a known one is not taken apart again as a whole: only what lies
        between the bytes that both begin and end with.

        Raises:
            RefusedError: as `load`.
        """
        before = self.load(old)
        after = self._known.get(new)
        if after is None and len(before) >= _LARGE:
            data, width = self._raw(new)
            found = _spliced(before, self._raw(old)[0], data, width)
            if found is not None:
                return before, self._keep(new, found[0]), sorted(found[1])
        if after is None:
            after = self.load(new)
        return before, after, sorted({name for name, _ in before.items() ^ after.items()})

    def _raw(self, oid: str) -> tuple[bytes, int]:
        data = self._bytes.get(oid)
        if data is None:
            kind, data = self.read(oid)
            if kind != "tree":
                raise RefusedError("objects", f"{oid[:12]} is a {kind} where a directory belongs")
            if len(self._bytes) >= _RECENT:
                del self._bytes[next(iter(self._bytes))]
            self._bytes[oid] = data
        return data, len(oid) // 2

    def _keep(self, oid: str, found: Directory) -> Directory:
        self._entries += len(found)
        if self._entries > _CACHED:
            self._known.clear()
            self._entries = len(found)
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


def _checked(oid: str, data: bytes, width: int) -> Directory:
    """Take a directory apart and check its form."""
    try:
        entries = parse_raw_tree(data, width)
    except CorruptError as error:
        raise RefusedError("objects", error.message) from None
    keys = [name + b"/" if mode == _DIRECTORY else name for mode, name, _ in entries]
    found = {name: (mode, ident) for mode, name, ident in entries}
    if len(found) != len(entries) or keys != sorted(keys):
        raise RefusedError("objects", f"the directory {oid[:12]} is not sorted or has a name twice")
    if not _MODES.issuperset({mode for mode, _, _ in entries}):
        raise RefusedError("objects", f"the directory {oid[:12]} has entries of an unknown mode")
    return found


def _spliced(known: Directory, old: bytes, new: bytes, width: int) -> tuple[Directory, set[bytes]] | None:
    """Return the directory that `new` is, and the names that differ, from one that was checked as a whole.

    Returns:
        None where anything is unusual: then all of it is looked at.
    """
    mark = old[: old.find(b" ") + 1]
    # From the entry before the first difference to the one after the last, so that neighbours are compared.
    start = old.rfind(mark, 0, max(old.rfind(mark, 0, _common(old, new)), 0))
    tail = _common(old[::-1], new[::-1])
    end = old.find(mark, old.find(mark, len(old) - tail) + 1)
    if start < 0 or end <= start or end < len(old) - tail or len(new) - len(old) + end <= start:
        return None
    try:
        gone = parse_raw_tree(old[start:end], width)
        come = parse_raw_tree(new[start : len(new) - len(old) + end], width)
    except CorruptError:
        return None
    if min(len(gone), len(come)) < 2 or (gone[0], gone[-1]) != (come[0], come[-1]):
        return None
    keys = [name + b"/" if mode == _DIRECTORY else name for mode, name, _ in come]
    if any(known.get(name) != (mode, ident) for mode, name, ident in gone) or any(
        left >= right for left, right in pairwise(keys)
    ):
        return None
    found = dict(known)
    for _, name, _ in gone:
        del found[name]
    for mode, name, ident in come:
        if name in found or mode not in _MODES:
            return None
        found[name] = (mode, ident)
    changed = {name for _, name, _ in set(gone) ^ set(come)}
    return found, changed


def _common(old: bytes, new: bytes) -> int:
    """Return how many bytes two texts begin with in common."""
    low, high = 0, min(len(old), len(new))
    while low < high:
        middle = (low + high + 1) // 2
        if old[low:middle] == new[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


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
    before: Directory = {}
    after: Directory = {}
    if old and new:
        before, after, changed = directories.difference(old, new)
    else:
        before = directories.load(old) if old else {}
        after = directories.load(new) if new else {}
        changed = sorted({*before, *after})
    if new and prefix and not after:
        raise RefusedError("objects", f"{prefix!r:.100} is an empty directory")
    for name in changed:
        one, two = before.get(name), after.get(name)
        path = prefix + name.decode("utf-8", "surrogateescape")
        left = one[1].hex() if one is not None and one[0] == _DIRECTORY else None
        right = two[1].hex() if two is not None and two[0] == _DIRECTORY else None
        file_before = _file(directories, one) if left is None else None
        file_after = _file(directories, two) if right is None else None
        if file_before != file_after:
            yield Change(path, file_before, file_after)
        if left is not None or right is not None:
            yield from _walk(directories, left, right, f"{path}/")


def _file(directories: Directories, slot: Slot | None) -> File | None:
    if slot is None:
        return None
    oid = slot[1].hex()
    size = 0 if slot[0] == b"160000" else len(directories.read(oid)[1])
    return File(int(slot[0], 8), oid, size)
