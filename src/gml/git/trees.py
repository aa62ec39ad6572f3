"""Trees as data: look up, edit, compare and unite them, reading only the directories that differ.

New objects are returned, not written: ids follow from content, so the caller may write them loose or
as one pack. Children come before the trees that name them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gml.domain.errors import CorruptError, InvalidValueError
from gml.git.objects import (
    TREE_MODES,
    RawEntry,
    format_of,
    format_raw_tree,
    object_id,
    parse_raw_tree,
    parse_tree,
    raw,
    text,
)
from gml.git.port import MODE_TREE, Kind, TreeEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from gml.git.port import TreeReader

NewObjects = list[tuple[Kind, bytes]]
Change = tuple[int, str] | None
"""(mode, id) of what a path shall hold, or None to remove it."""
Difference = tuple[str, TreeEntry | None, TreeEntry | None]
Resolution = tuple[int, str, bytes | None]
"""(mode, id, content of the blob if it is new)."""
Resolver = "Callable[[str, TreeEntry, TreeEntry], Resolution]"

_Slot = tuple[bytes, bytes]
_Plan = dict[bytes, "tuple[int, str] | _Plan | None"]
_TREE: Final = b"40000"
_FRESH: Final = b""


def _load(store: TreeReader, oid: str) -> dict[bytes, _Slot]:
    kind, data = store.read(oid)
    if kind != "tree":
        raise CorruptError(f"{oid} is a {kind} where a tree belongs", hint="run `git fsck`")
    return {name: (mode, ident) for mode, name, ident in parse_raw_tree(data, len(oid) // 2)}


def _entry(name: bytes, slot: _Slot) -> TreeEntry:
    return TreeEntry(text(name), int(slot[0], 8), slot[1].hex())


def _join(prefix: bytes, name: bytes) -> bytes:
    return prefix + b"/" + name if prefix else name


def entries(store: TreeReader, tree: str) -> list[TreeEntry]:
    """Return the entries of one tree in git's order.

    Raises:
        CorruptError: the object is not a tree.
    """
    kind, data = store.read(tree)
    if kind != "tree":
        raise CorruptError(f"{tree} is a {kind} where a tree belongs", hint="run `git fsck`")
    return parse_tree(data, len(tree) // 2)


def lookup(store: TreeReader, tree: str, path: str) -> TreeEntry | None:
    """Return the entry at a path, or None; the empty path means the tree itself."""
    found = TreeEntry("", MODE_TREE, tree)
    for part in path.split("/") if path else ():
        if not found.is_tree:
            return None
        slot = _load(store, found.oid).get(raw(part))
        if slot is None:
            return None
        found = _entry(raw(part), slot)
    return found


def split_path(path: str) -> list[bytes]:
    """Split a path into components that git accepts in a tree.

    Raises:
        InvalidValueError: it is empty, absolute, or has a component such as `..` or `.git`.
    """
    parts = raw(path).split(b"/")
    for part in parts:
        if part in {b"", b".", b".."} or b"\0" in part or part.lower() == b".git":
            raise InvalidValueError(f"{path!r} is not a path that git can store")
    return parts


def _plan(changes: Mapping[str, Change]) -> _Plan:
    """Turn paths into nested dictionaries; a removed file may make room for a directory."""
    root: _Plan = {}
    for path in sorted(changes):
        *parents, last = split_path(path)
        level = root
        for part in parents:
            below = level.get(part)
            if not isinstance(below, dict):
                if part in level and changes[path] is None:
                    break  # removed or replaced as a whole already
                if below is not None:
                    raise InvalidValueError(f"{path!r} would lie under a file of the same change")
                # below a removal the new path starts with an empty directory
                below = level[part] = {_FRESH: None} if part in level else {}
            level = below
        else:
            level[last] = changes[path]
    return root


def edit(
    store: TreeReader,
    tree: str | None,
    changes: Mapping[str, Change],
    *,
    object_format: str | None = None,
) -> tuple[str, NewObjects]:
    """Apply changes to a tree, rewriting only the directories they touch.

    Args:
        store: where directories are read from.
        tree: root to start from, None for the empty tree.
        changes: path -> (mode, id), or None to remove the path. A tree mode puts in a whole directory;
            removing a directory removes all of it. Removing what does not exist is fine.
        object_format: needed only when neither `tree` nor `changes` hold an id; `sha1` by default.

    Returns:
        The new root id and the new tree objects, children first. A directory that loses its last entry
        disappears; an empty root is the empty tree.

    Raises:
        InvalidValueError: a path can not be stored, or two paths contradict each other.
    """
    sample = tree or next((change[1] for change in changes.values() if change), "")
    algorithm = format_of(sample) if sample else object_format or "sha1"
    new: NewObjects = []
    root = _edit_level(store, tree, _plan(changes), algorithm, new)
    if root is None:
        new.append(("tree", b""))
        root = object_id("tree", b"", algorithm)
    return root, new


def _edit_level(
    store: TreeReader, tree: str | None, plan: _Plan, algorithm: str, new: NewObjects
) -> str | None:
    """Edit one directory; None when it ends up empty."""
    fresh = plan.pop(_FRESH, True) is None
    held = _load(store, tree) if tree and not fresh else {}
    changed = fresh
    for name, change in plan.items():
        before = held.get(name)
        after: _Slot | None
        if isinstance(change, dict):
            inner = before[1].hex() if before and before[0] in TREE_MODES else None
            oid = _edit_level(store, inner, change, algorithm, new)
            if oid is not None:
                after = (_TREE, bytes.fromhex(oid))
            else:
                # a plan of removals below a file must leave the file alone
                after = before if before and inner is None else None
        else:
            after = (b"%o" % change[0], bytes.fromhex(change[1])) if change else None
        if after == before:
            continue
        changed = True
        if after is None:
            del held[name]
        else:
            held[name] = after
    if not held:
        return None
    if not changed and tree:
        return tree
    return _store(((mode, name, oid) for name, (mode, oid) in held.items()), algorithm, new)


def _store(items: Iterator[RawEntry], algorithm: str, new: NewObjects) -> str:
    data = format_raw_tree(items)
    new.append(("tree", data))
    return object_id("tree", data, algorithm)


def walk(store: TreeReader, old: str | None, new: str | None, prefix: str = "") -> Iterator[Difference]:
    """Yield (path, old entry, new entry) for every file that differs between two trees.

    Only directories with different ids are read. Files, links and submodules are yielded, directories
    are not; a missing side is None. The order is git's path order. `prefix` is put before the paths.
    """
    if old != new:
        yield from _walk_level(store, old, new, raw(prefix.strip("/")))


def _walk_level(store: TreeReader, old: str | None, new: str | None, prefix: bytes) -> Iterator[Difference]:
    before = _load(store, old) if old else {}
    after = _load(store, new) if new else {}
    steps: list[tuple[bytes, bytes, _Slot | None, _Slot | None]] = []
    for name in {name for name, _ in before.items() ^ after.items()}:
        one, two = before.get(name), after.get(name)
        if one and two and (one[0] in TREE_MODES) != (two[0] in TREE_MODES):
            # a file that became a directory: the two sides sort at different places
            steps += [(_sort_key(name, one), name, one, None), (_sort_key(name, two), name, None, two)]
        else:
            slot = one or two
            assert slot is not None  # noqa: S101 - the name came from one of the sides
            steps.append((_sort_key(name, slot), name, one, two))
    steps.sort(key=lambda step: step[0])
    for _, name, one, two in steps:
        path = _join(prefix, name)
        if (one or two or (b"",))[0] in TREE_MODES:
            left, right = one and one[1].hex(), two and two[1].hex()
            if left != right:
                yield from _walk_level(store, left, right, path)
        else:
            yield text(path), one and _entry(name, one), two and _entry(name, two)


def _sort_key(name: bytes, slot: _Slot) -> bytes:
    return name + b"/" if slot[0] in TREE_MODES else name


def merge(
    store: TreeReader,
    a: str | None,
    b: str | None,
    resolve: Callable[[str, TreeEntry, TreeEntry], Resolution],
) -> tuple[str, NewObjects]:
    """Unite two trees by path, without a base: nothing that one side has is lost.

    What only one side has is taken whole and unread, equal ids are skipped. Everything else goes to
    `resolve(path, entry_a, entry_b)`, which answers with (mode, id, content if the blob is new); it is
    also asked where a file meets a directory, and then picks one of the two entries. If `resolve` is
    commutative, so is the merge.

    Returns:
        The root id and the new objects, children first; none when the result equals one side.
    """
    if a == b or a is None or b is None:
        only = a or b
        if only is None:
            raise InvalidValueError("nothing to merge: both trees are missing")
        return only, []
    new: NewObjects = []
    return _merge_level(store, (a, b), resolve, b"", new), new


def _merge_level(
    store: TreeReader,
    sides: tuple[str, str],
    resolve: Callable[[str, TreeEntry, TreeEntry], Resolution],
    prefix: bytes,
    new: NewObjects,
) -> str:
    left, right = _load(store, sides[0]), _load(store, sides[1])
    united = {**right, **left}
    for name in sorted(left.keys() & right.keys()):
        one, two = left[name], right[name]
        if one == two:
            continue
        path = _join(prefix, name)
        if one[0] in TREE_MODES and two[0] in TREE_MODES:
            oid = _merge_level(store, (one[1].hex(), two[1].hex()), resolve, path, new)
            united[name] = (_TREE, bytes.fromhex(oid))
            continue
        mode, oid, content = resolve(text(path), _entry(name, one), _entry(name, two))
        if content is not None:
            new.append(("blob", content))
        united[name] = (b"%o" % mode, bytes.fromhex(oid))
    data = format_raw_tree((mode, name, ident) for name, (mode, ident) in united.items())
    root = object_id("tree", data, format_of(sides[0]))
    if root not in sides:
        new.append(("tree", data))
    return root
