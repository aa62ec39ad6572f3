"""Directories that follow from known ones are taken apart in part, and never otherwise than as a whole."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from gml.domain.errors import NotFoundError
from gml.git.objects import format_raw_tree, object_id
from gml.policy.errors import RefusedError
from gml.registry.states import Directories

MODES = st.sampled_from([b"40000", b"100644"])


class Trees:
    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put(self, data: bytes) -> str:
        oid = object_id("tree", data)
        self.objects[oid] = data
        return oid

    def read(self, oid: str):
        try:
            return "tree", self.objects[oid]
        except KeyError:
            raise NotFoundError(oid) from None


def entry(mode: bytes, name: str, seed: int = 0):
    return mode, name.encode(), hashlib.sha1(f"{name} {seed}".encode(), usedforsecurity=False).digest()


def outcome(call):
    try:
        return call()
    except RefusedError as error:
        return error.code


def same(trees: Trees, old: bytes, new: bytes) -> None:
    """What `difference` says is what two whole readings say."""
    one, two = trees.put(old), trees.put(new)

    def whole():
        before, after = Directories(trees).load(one), Directories(trees).load(two)
        return before, after, sorted(name for name, _ in {*before.items()} ^ {*after.items()})

    expected = outcome(whole)
    if isinstance(expected, tuple):
        expected = (*expected[:2], sorted(set(expected[2])))
    assert outcome(lambda: Directories(trees).difference(one, two)) == expected


@given(
    st.lists(st.integers(1, 4_000), min_size=70, max_size=120, unique=True), MODES,
    st.lists(st.tuples(st.sampled_from("aucx"), st.integers(1, 4_000), MODES), max_size=3),
)  # fmt: skip
def test_additions_changes_and_removals(numbers, mode, edits):
    found = {str(n): entry(mode, str(n)) for n in numbers}
    after = dict(found)
    for what, number, other in edits:
        if what == "x":
            after.pop(str(number), None)
        else:
            after[str(number)] = entry(other if what == "u" else mode, str(number), number)
    same(Trees(), format_raw_tree(found.values()), format_raw_tree(after.values()))


@given(st.integers(0, 3_000), st.binary(min_size=0, max_size=40), st.integers(0, 40))
def test_bytes_that_are_no_directory(at, fresh, gone):
    base = format_raw_tree([entry(b"100644", str(n)) for n in range(90)])
    same(Trees(), base, base[:at] + fresh + base[at + gone :])


def test_names_twice_and_out_of_order():
    rows = sorted([entry(b"40000", f"n{n:03}") for n in range(100)], key=lambda row: row[1] + b"/")

    def raw(entries):
        return b"".join(b"%s %s\0%s" % each for each in entries)

    good = raw(rows)
    for bad in (
        [*rows[:50], rows[50], *rows[50:]], [*rows[:50], rows[51], rows[50], *rows[52:]], [*rows, rows[3]],
        [entry(b"40000", "z"), *rows], [*rows[:20], entry(b"100644", "n020"), *rows[20:]],
        [*rows[:20], entry(b"100600", "n0195"), *rows[20:]], [*rows[:7], entry(b"40000", "n006x.", 1), *rows[7:]],
    ):  # fmt: skip
        same(Trees(), good, raw(bad))
