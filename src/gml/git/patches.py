"""Unified diffs between two trees in git's format, renames off, for machines without a git binary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gml.git.objects import raw
from gml.git.port import MODE_GITLINK, TreeEntry
from gml.git.trees import walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gml.git.port import TreeReader

_FORMAT_BITS: Final = 0o170000
_ESCAPES: Final = {7: "a", 8: "b", 9: "t", 10: "n", 11: "v", 12: "f", 13: "r", 34: '"', 92: "\\"}


def changes(store: TreeReader, old: str | None, new: str | None) -> Iterator[tuple[str, str]]:
    """Yield (status letter, path) between two trees: A added, D deleted, T other type, M modified."""
    for path, before, after in walk(store, old, new):
        if before is None:
            yield "A", path
        elif after is None:
            yield "D", path
        else:
            yield ("T" if (before.mode ^ after.mode) & _FORMAT_BITS else "M"), path


def quote(path: bytes) -> str:
    """Quote a path as git does by default: only where it holds unusual bytes."""
    if all(32 <= byte < 127 and byte not in {34, 92} for byte in path):
        return path.decode("ascii")
    return '"' + "".join(_quoted(byte) for byte in path) + '"'


def _quoted(byte: int) -> str:
    if byte in _ESCAPES:
        return "\\" + _ESCAPES[byte]
    return chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}"


def clip(diff: str, max_bytes: int | None) -> str:
    """Cut a diff at a line end and say so."""
    data = diff.encode("utf-8", "surrogateescape")
    if max_bytes is None or len(data) <= max_bytes:
        return diff
    kept = data[: data.rfind(b"\n", 0, max_bytes) + 1].decode("utf-8", "replace")
    return f"{kept}[diff cut: {max_bytes} bytes is the limit]\n"


def tree_diff(store: TreeReader, old: str | None, new: str | None, max_bytes: int | None = None) -> str:
    """Return the unified diff between two trees."""
    parts: list[str] = []
    size = 0
    for path, before, after in walk(store, old, new):
        # git shows a change of type as a deletion and a creation
        if before and after and (before.mode ^ after.mode) & _FORMAT_BITS:
            sides: list[tuple[TreeEntry | None, TreeEntry | None]] = [(before, None), (None, after)]
        else:
            sides = [(before, after)]
        for one, two in sides:
            parts.append(_file_diff(store, raw(path), one, two))
            size += len(parts[-1])
        if max_bytes is not None and size > max_bytes:
            break
    return clip("".join(parts), max_bytes)


def _file_diff(store: TreeReader, path: bytes, old: TreeEntry | None, new: TreeEntry | None) -> str:
    entry = old or new
    if entry is None:
        return ""
    name_a, name_b = quote(b"a/" + path), quote(b"b/" + path)
    zero = "0" * len(entry.oid)
    lines = [f"diff --git {name_a} {name_b}"]
    if old is None and new:
        lines.append(f"new file mode {new.mode:06o}")
    elif new is None and old:
        lines.append(f"deleted file mode {old.mode:06o}")
    elif old and new and old.mode != new.mode:
        lines += [f"old mode {old.mode:06o}", f"new mode {new.mode:06o}"]
    ids = (old.oid if old else zero, new.oid if new else zero)
    if ids[0] == ids[1]:
        return "\n".join(lines) + "\n"
    same_mode = f" {old.mode:06o}" if old and new and old.mode == new.mode else ""
    lines.append(f"index {ids[0]}..{ids[1]}{same_mode}")
    before, after = _content(store, old), _content(store, new)
    left, right = name_a if old else "/dev/null", name_b if new else "/dev/null"
    # git looks for a NUL byte in the first 8,000
    if b"\0" in before[:8000] or b"\0" in after[:8000]:
        lines.append(f"Binary files {left} and {right} differ")
        return "\n".join(lines) + "\n"
    hunks = _hunks(before, after)
    if hunks:
        lines += [f"--- {_tabbed(left)}", f"+++ {_tabbed(right)}"]
    return "\n".join(lines) + "\n" + hunks


def _tabbed(name: str) -> str:
    return name + "\t" if " " in name and not name.startswith('"') else name


def _content(store: TreeReader, entry: TreeEntry | None) -> bytes:
    if entry is None:
        return b""
    if entry.mode == MODE_GITLINK:
        return f"Subproject commit {entry.oid}\n".encode()
    return store.read(entry.oid)[1]


def _hunks(old: bytes, new: bytes) -> str:
    import pygit2

    patch: Any = pygit2.Patch.create_from(old, new)
    data: bytes = patch.data
    start = 0 if data.startswith(b"@@") else data.find(b"\n@@") + 1
    return data[start:].decode("utf-8", "backslashreplace") if b"@@" in data else ""
