"""Which objects a push has to send: those of new commits that the commits known there do not have.

Only directories that differ from those of a parent are read, so the cost follows what is new.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gml.domain.errors import NotFoundError
from gml.git.objects import TREE_MODES, parse_commit, parse_raw_tree
from gml.git.port import MODE_GITLINK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gml.git.port import GitStore


def new_commits(store: GitStore, tips: Iterable[str], known: Iterable[str]) -> list[str]:
    """Return the commits that `tips` reach and `known` do not, parents first; tags are left out.

    Beyond the edge of a shallow repository nothing is sent: the other side has it.
    """
    seen = _ancestors_until(store, tips, known)
    done: set[str] = set()
    order: list[str] = []
    for start in seen:
        stack = [(start, False)]
        while stack:
            oid, ready = stack.pop()
            if ready:
                order.append(oid)
            elif oid not in done:
                done.add(oid)
                stack.append((oid, True))
                stack += [(parent, False) for parent in seen[oid] if parent in seen and parent not in done]
    return order


def _ancestors_until(
    store: GitStore, tips: Iterable[str], known: Iterable[str]
) -> dict[str, tuple[str, ...]]:
    """Walk both sides newest first; what `known` reach is not followed further than needed."""
    import heapq

    parents: dict[str, tuple[str, ...]] = {}
    times: dict[str, int] = {}
    ours: set[str] = set()
    theirs: set[str] = set()
    queue: list[tuple[int, str]] = []

    def visit(oid: str, side: set[str]) -> None:
        if oid in side:
            return
        side.add(oid)
        if oid not in parents:
            try:
                kind, data = store.read(oid)
            except NotFoundError:
                side.discard(oid)
                theirs.add(oid)
                return
            if kind == "tag":
                side.discard(oid)
                visit(data.partition(b"\n")[0].removeprefix(b"object ").decode(), side)
                return
            if kind != "commit":
                side.discard(oid)
                return
            commit = parse_commit(data)
            parents[oid], times[oid] = commit.parents, commit.commit_time
        heapq.heappush(queue, (-times[oid], oid))

    for oid in known:
        visit(oid, theirs)
    for oid in tips:
        visit(oid, ours)
    while any(oid not in theirs for _, oid in queue):
        oid = heapq.heappop(queue)[1]
        side = theirs if oid in theirs else ours
        for parent in parents[oid]:
            visit(parent, side)
    return {oid: parents[oid] for oid in ours - theirs}


def objects(store: GitStore, tips: Iterable[str], known: Iterable[str]) -> Iterator[str]:
    """Yield the ids of all objects that a receiver which has `known` needs for `tips`."""
    wanted, there = list(tips), list(known)
    sent: set[str] = set()
    for oid in wanted:
        kind, data = store.read(oid)
        while kind == "tag" and oid not in sent and oid not in there:
            sent.add(oid)
            yield oid
            oid = data.partition(b"\n")[0].removeprefix(b"object ").decode()  # noqa: PLW2901
            kind, data = store.read(oid)
        if kind in {"tree", "blob"}:
            yield from _tree_objects(store, oid, (), sent) if kind == "tree" else _once(oid, sent)
    for oid in new_commits(store, wanted, there):
        commit = parse_commit(store.read(oid)[1])
        bases = [parse_commit(store.read(p)[1]).tree for p in commit.parents if store.contains(p)]
        yield from _once(oid, sent)
        yield from _tree_objects(store, commit.tree, bases, sent)


def _once(oid: str, sent: set[str]) -> Iterator[str]:
    if oid not in sent:
        sent.add(oid)
        yield oid


def _tree_objects(store: GitStore, tree: str, bases: Iterable[str], sent: set[str]) -> Iterator[str]:
    """Yield what a tree holds and none of the trees at the same place in `bases`."""
    there = tuple(bases)
    if tree in there or tree in sent:
        return
    sent.add(tree)
    yield tree
    size = len(tree) // 2
    levels = [{name: oid for _, name, oid in parse_raw_tree(store.read(base)[1], size)} for base in there]
    for mode, name, raw_id in parse_raw_tree(store.read(tree)[1], size):
        if int(mode, 8) == MODE_GITLINK or any(level.get(name) == raw_id for level in levels):
            continue
        oid = raw_id.hex()
        if mode in TREE_MODES:
            below = [level[name].hex() for level in levels if name in level]
            below = [b for b in below if store.contains(b) and store.read(b)[0] == "tree"]
            yield from _tree_objects(store, oid, below, sent)
        else:
            yield from _once(oid, sent)
