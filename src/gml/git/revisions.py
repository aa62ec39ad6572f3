"""What a revision means, short ids, and ancestry: git's rules over any store, without a library."""

from __future__ import annotations

import heapq
import mmap
import re
import struct
from typing import TYPE_CHECKING, Final

from gml.domain.errors import AmbiguousError, NotFoundError
from gml.git.objects import parse_commit, parse_tag, text
from gml.git.trees import lookup

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from gml.git.port import GitStore, TreeReader

_SUFFIX: Final = re.compile(r"~(\d*)|\^\{(\w*)\}|\^(\d*)|@\{([^{}]*)\}|:(.*)", re.DOTALL)
_BASE: Final = re.compile(r"(.*?)(?=[~^:]|@\{|$)", re.DOTALL)
_RULES: Final = ("{}", "refs/{}", "refs/tags/{}", "refs/heads/{}", "refs/remotes/{}", "refs/remotes/{}/HEAD")
_UNSAFE: Final = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|//|^/|/$|\.lock$")
_LEFT, _RIGHT, _STALE = 1, 2, 4


def peel(store: TreeReader, oid: str, kind: str = "") -> str | None:
    """Follow tags (and a commit to its tree) until an object of a kind is found; "" means no tag."""
    while True:
        found, data = store.read(oid)
        if found == kind or (not kind and found != "tag"):
            return oid
        if found == "tag":
            oid = parse_tag(data).target
        elif found == "commit" and kind == "tree":
            return parse_commit(data).tree
        else:
            return None


def resolve(store: GitStore, revision: str, objects_dirs: Iterable[Path]) -> str | None:
    """Return the id a revision means, or None when it means nothing.

    Understood: ref names as git abbreviates them, ids and short ids, `@`, `~n`, `^n`, `^{kind}`, `^{}`,
    `@{n}`, `@{upstream}`, `rev:path` and the output of `git describe`.

    Raises:
        AmbiguousError: a short id fits several objects.
    """
    match = _BASE.match(revision)
    name = match[1] if match else ""
    rest = revision[len(name) :]
    if name == "@" or (not name and rest.startswith("@{")):
        name = "HEAD"
    if not name:
        return None
    ref, oid = _named(store, name)
    if oid is None:
        oid = _identified(store, name, list(objects_dirs))
    try:
        return _follow(store, ref, oid, rest)
    except NotFoundError:
        return None


def _named(store: GitStore, name: str) -> tuple[str, str | None]:
    if _UNSAFE.search(name) or re.fullmatch("[0-9a-f]{40}([0-9a-f]{24})?", name):
        return "", None
    for rule in _RULES:
        full = rule.format(name)
        if not full.startswith("refs/") and not re.fullmatch("[A-Z_]+", full):
            continue
        oid = store.ref(full)
        if oid:
            return full, oid
    return "", None


def _identified(store: GitStore, name: str, objects_dirs: list[Path]) -> str | None:
    described = re.fullmatch(r".+-g([0-9a-f]{4,64})", name)
    prefix = (described[1] if described else name).lower()
    if not re.fullmatch("[0-9a-f]{4,64}", prefix):
        return None
    if store.contains(prefix):
        return prefix
    found = short_ids(objects_dirs, prefix)
    if len(found) > 1:
        # like git: a commit is meant rather than a tree or blob that happens to start alike
        commits = {oid for oid in found if store.read(oid)[0] == "commit"}
        if len(commits) != 1:
            raise AmbiguousError(f"the short id {prefix} fits {len(found)} objects", hint="give more digits")
        found = commits
    return next(iter(found), None)


def _follow(store: GitStore, ref: str, oid: str | None, rest: str) -> str | None:
    """Apply the suffixes of a revision from left to right."""
    while oid and rest:
        match = _SUFFIX.match(rest)
        if match is None:
            return None
        back, kind, parent, at, path = match.groups()
        rest = rest[match.end() :]
        if path is not None:
            tree = peel(store, oid, "tree")
            entry = lookup(store, tree, path.strip("/")) if tree else None
            return entry.oid if entry else None
        if kind is not None:
            oid = peel(store, oid, "" if kind == "object" else kind)
        elif at is not None:
            oid = _at(store, ref, at)
        else:
            steps = [1] * (int(back) if back else 1) if back is not None else [int(parent) if parent else 1]
            for step in steps:
                oid = _parent(store, oid, step) if oid else None
    return oid


def _parent(store: GitStore, oid: str, number: int) -> str | None:
    commit = peel(store, oid, "commit")
    if commit is None or number == 0:
        return commit
    parents = parse_commit(store.read(commit)[1]).parents
    return parents[number - 1] if number <= len(parents) else None


def _at(store: GitStore, ref: str, what: str) -> str | None:
    """Answer `@{n}` from the reflog and `@{upstream}` from the configuration."""
    head = store.head()
    if ref == "HEAD" and head.branch and not what.isdigit():
        ref = "refs/heads/" + head.branch
    if what.lower() in {"u", "upstream"} and ref.startswith("refs/heads/"):
        branch = ref.removeprefix("refs/heads/")
        remote = store.config(f"branch.{branch}.remote")
        merge = store.config(f"branch.{branch}.merge")
        if not remote or not merge:
            return None
        return store.ref(
            merge if remote == "." else f"refs/remotes/{remote}/{merge.removeprefix('refs/heads/')}"
        )
    if not what.isdigit():
        return None
    base = store.location.common_dir if ref.startswith("refs/") else store.location.git_dir
    try:
        lines = (base / "logs" / ref).read_bytes().splitlines()
    except OSError:
        return None
    number = int(what)
    return text(lines[-1 - number].split(b" ", 2)[1]) if number < len(lines) else None


def short_ids(objects_dirs: Iterable[Path], prefix: str) -> set[str]:
    """Return the ids of all objects that start with some hexadecimal digits."""
    found: set[str] = set()
    for directory in objects_dirs:
        loose = directory / prefix[:2]
        if loose.is_dir():
            found.update(
                prefix[:2] + p.name
                for p in loose.iterdir()
                if p.name.startswith(prefix[2:]) and re.fullmatch("[0-9a-f]{38}|[0-9a-f]{62}", p.name)
            )
        for index in (directory / "pack").glob("*.idx"):
            try:
                found |= in_index(index, prefix)
            except (OSError, ValueError, struct.error):
                continue  # removed by a repack meanwhile: the new pack has its objects
    return found


def in_index(path: Path, prefix: str) -> set[str]:
    """Search one pack index (version 2) for ids with a prefix."""
    found: set[str] = set()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:8] != b"\xfftOc\0\0\0\2":
            return found
        first = int(prefix[:2], 16)
        counts = struct.unpack(">256L", data[8:1032])
        # per object: id, 4 bytes CRC, 4 bytes offset; two checksums at the end
        size = 32 if (len(data) - 1032 - 64) // max(counts[-1], 1) >= 40 else 20
        for number in range(counts[first - 1] if first else 0, counts[first]):
            oid = data[1032 + number * size : 1032 + (number + 1) * size].hex()
            if oid.startswith(prefix):
                found.add(oid)
    return found


def is_ancestor(store: TreeReader, ancestor: str, tip: str) -> bool:
    """Whether `ancestor` equals `tip` or is reachable from it.

    Both are walked newest first, and what both reach is not followed: the cost is the number of commits
    that are not common, not the length of history. Wrong dates cost time, never correctness.
    """
    if ancestor == tip:
        return True
    flags: dict[str, int] = {}
    known: dict[str, tuple[int, tuple[str, ...]]] = {}
    queue: list[tuple[int, str]] = []
    live: set[str] = set()
    waiting: set[str] = set()
    todo = [(tip, _LEFT), (ancestor, _RIGHT)]
    while True:
        for oid, bits in todo:
            before = flags.get(oid, 0)
            after = before | bits
            if after & 3 == 3:
                after |= _STALE
            if after == before:
                continue
            if oid == ancestor and after & _LEFT:
                return True
            flags[oid] = after
            if oid not in known:
                known[oid] = _commit_facts(store, oid)
            if oid not in waiting:
                waiting.add(oid)
                heapq.heappush(queue, (-known[oid][0], oid))
            if after & _STALE:
                live.discard(oid)
            else:
                live.add(oid)
        if not live:
            return False
        oid = heapq.heappop(queue)[1]
        waiting.discard(oid)
        live.discard(oid)
        todo = [(parent, flags[oid]) for parent in known[oid][1]]


def _commit_facts(store: TreeReader, oid: str) -> tuple[int, tuple[str, ...]]:
    try:
        kind, data = store.read(oid)
    except NotFoundError:
        return 0, ()  # beyond the edge of a shallow clone nothing is known
    if kind != "commit":
        return 0, ()
    commit = parse_commit(data)
    return commit.commit_time, commit.parents
