"""Editing, walking and merging trees against plain dictionaries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gml.domain.errors import CorruptError, InvalidValueError
from gml.git import trees
from gml.git.objects import object_id
from gml.git.port import MODE_EXECUTABLE, MODE_FILE, MODE_TREE, TreeEntry

EMPTY = object_id("tree", b"")


class Memory:
    """Objects in a dictionary that counts reads."""

    def __init__(self):
        self.objects = {EMPTY: ("tree", b"")}
        self.reads = 0

    def read(self, oid):
        self.reads += 1
        return self.objects[oid]

    def write(self, kind, data):
        oid = object_id(kind, data)
        self.objects[oid] = (kind, data)
        return oid

    def build(self, model):
        """Write a tree from path -> content."""
        changes = {path: (MODE_FILE, self.write("blob", text)) for path, text in model.items()}
        root, new = trees.edit(self, None, changes)
        for kind, data in new:
            self.write(kind, data)
        return root

    def content(self, tree):
        """Return path -> content, naively."""
        out = {}
        for entry in trees.entries(self, tree):
            if entry.is_tree:
                inner = self.content(entry.oid)
                assert inner, "an empty directory was left"
                out |= {f"{entry.name}/{path}": text for path, text in inner.items()}
            else:
                out[entry.name] = self.objects[entry.oid][1]
        return out


# few names, so that paths meet; "a", "a.b" and "a0" sort around "a/"
parts = st.sampled_from(["a", "a.b", "a0", "b", "ä"])
paths = st.lists(parts, min_size=1, max_size=3).map("/".join)
contents = st.sampled_from([b"1", b"2", b"3"])


def consistent(model):
    """Keep paths that do not lie under another path of the model."""
    out = {}
    for path, text in sorted(model.items()):
        if not any(path.startswith(other + "/") for other in out):
            out[path] = text
    return out


models = st.dictionaries(paths, contents, max_size=10).map(consistent)
edits = st.dictionaries(paths, contents | st.none(), max_size=8)


def naive_edit(model, changes):
    out = dict(model)
    for path in sorted(changes, key=lambda p: (changes[p] is not None, p)):
        text = changes[path]
        for other in list(out):
            if (
                other == path
                or other.startswith(path + "/")
                or (text is not None and path.startswith(other + "/"))
            ):
                del out[other]
        if text is not None:
            out[path] = text
    return out


@given(models, edits)
def test_edit_equals_dictionary(model, changes):
    adds = [p for p, t in changes.items() if t is not None]
    store = Memory()
    root = store.build(model)
    plan = {p: (MODE_FILE, store.write("blob", t)) if t else None for p, t in changes.items()}
    if any(b.startswith(a + "/") for a in adds for b in adds):
        with pytest.raises(InvalidValueError):
            trees.edit(store, root, plan)
        return
    new_root, new = trees.edit(store, root, plan)
    for kind, data in new:
        store.write(kind, data)
    assert store.content(new_root) == naive_edit(model, changes)
    assert new_root == (store.build(naive_edit(model, changes)) or EMPTY)


@given(models, models)
def test_walk_equals_dictionary(one, two):
    store = Memory()
    old, new = store.build(one), store.build(two)
    found = list(trees.walk(store, old, new))
    paths = [path.encode() for path, _, _ in found]
    assert paths == sorted(paths)
    want = {p: (one.get(p), two.get(p)) for p in {*one, *two} if one.get(p) != two.get(p)}
    got = {}
    for path, before, after in found:
        earlier = got.get(path, (None, None))
        got[path] = (
            store.objects[before.oid][1] if before else earlier[0],
            store.objects[after.oid][1] if after else earlier[1],
        )
    assert got == want
    assert list(trees.walk(store, old, old)) == []
    assert {p for p, _, _ in trees.walk(store, None, new)} == set(two)
    assert {p for p, _, _ in trees.walk(store, new, None)} == set(two)


def smaller(store):
    """A commutative rule: a directory wins over a file, otherwise the smaller id."""

    def resolve(path, a, b):
        winner = (a if a.is_tree else b) if a.is_tree != b.is_tree else min(a, b, key=lambda e: e.oid)
        return winner.mode, winner.oid, None

    return resolve


def united(store, a, b):
    root, new = trees.merge(store, a, b, smaller(store))
    for kind, data in new:
        store.write(kind, data)
    return root


@given(models, models, models)
def test_merge_laws(one, two, three):
    store = Memory()
    a, b, c = store.build(one), store.build(two), store.build(three)
    ab = united(store, a, b)
    assert ab == united(store, b, a)
    assert united(store, ab, c) == united(store, a, united(store, b, c))
    assert united(store, a, a) == a
    assert united(store, ab, b) == ab
    held = store.content(ab)
    for path in {*one, *two}:
        if not any(p.startswith(path + "/") for p in held):
            assert path in held


def test_merge_takes_new_content():
    store = Memory()
    a, b = store.build({"d/x": b"1", "only/a": b"a"}), store.build({"d/x": b"2", "only2/b": b"b"})
    asked = []

    def resolve(path, one, two):
        asked.append((path, one, two))
        return MODE_EXECUTABLE, object_id("blob", b"both"), b"both"

    root, new = trees.merge(store, a, b, resolve)
    for kind, data in new:
        store.write(kind, data)
    assert [path for path, _, _ in asked] == ["d/x"]
    assert store.content(root) == {"d/x": b"both", "only/a": b"a", "only2/b": b"b"}
    assert trees.lookup(store, root, "d/x").mode == MODE_EXECUTABLE
    assert [kind for kind, _ in new] == ["blob", "tree", "tree"]


def test_merge_with_nothing():
    store = Memory()
    a = store.build({"x": b"1"})
    assert trees.merge(store, a, None, smaller(store)) == (a, [])
    assert trees.merge(store, None, a, smaller(store)) == (a, [])
    with pytest.raises(InvalidValueError):
        trees.merge(store, None, None, smaller(store))


def test_only_differing_directories_are_read():
    store = Memory()
    big = store.build({f"runs/{i // 100:02d}/{i:04d}.json": b"1" for i in range(5000)})
    blob = store.write("blob", b"new")
    store.reads = 0
    root, new = trees.edit(store, big, {"runs/49/new.json": (MODE_FILE, blob)})
    assert store.reads == 3
    assert len(new) == 3
    for kind, data in new:
        store.write(kind, data)
    store.reads = 0
    assert [path for path, _, _ in trees.walk(store, big, root)] == ["runs/49/new.json"]
    assert store.reads == 6
    store.reads = 0
    assert trees.merge(store, big, root, smaller(store)) == (root, [])
    assert store.reads == 6


def test_lookup_and_entries():
    store = Memory()
    root = store.build({"a/b/c": b"1", "x": b"2"})
    assert store.objects[trees.lookup(store, root, "a/b/c").oid][1] == b"1"
    assert trees.lookup(store, root, "a").is_tree
    assert trees.lookup(store, root, "") == TreeEntry("", MODE_TREE, root)
    for nothing in ("nope", "x/y", "a/b/c/d", "a/b/d"):
        assert trees.lookup(store, root, nothing) is None
    assert [e.name for e in trees.entries(store, root)] == ["a", "x"]
    with pytest.raises(CorruptError):
        trees.entries(store, trees.lookup(store, root, "x").oid)
    with pytest.raises(CorruptError):
        list(trees.walk(store, trees.lookup(store, root, "x").oid, root))


@pytest.mark.parametrize(
    "path", ["", "/a", "a/", "a//b", ".", "../a", "a/../b", ".git/config", "a/.GIT", "nul\0"]
)
def test_paths_git_cannot_store(path):
    with pytest.raises(InvalidValueError):
        trees.edit(Memory(), None, {path: (MODE_FILE, "0" * 40)})


def test_edit_whole_directories():
    store = Memory()
    root = store.build({"a/x": b"1", "b/y": b"2"})
    sub = trees.lookup(store, root, "a").oid
    moved, new = trees.edit(store, root, {"c/deep": (MODE_TREE, sub), "a": None})
    for kind, data in new:
        store.write(kind, data)
    assert store.content(moved) == {"b/y": b"2", "c/deep/x": b"1"}
    assert trees.edit(store, root, {"nothing/here": None, "a/x/y": None}) == (root, [])
    assert trees.edit(store, None, {}, object_format="sha256")[0] == object_id("tree", b"", "sha256")
