"""`join` is a semilattice: two clones that merge in any order and grouping end with the same document."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gml.domain.join import canonical, join

KEYS = st.sampled_from(["a", "b", "c"])
SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, -0.0, 1e300, "", "x", "é"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
DIGESTS = st.sampled_from(["aa", "bb"])
ARTIFACT = st.fixed_dictionaries(
    {"at": st.sampled_from(["git", "cas"]), "sha256": DIGESTS, "size": st.integers(0, 2)}
)
SUMMARY = st.fixed_dictionaries(
    {"last": st.floats(0, 2), "step": st.integers(0, 2), "count": st.integers(1, 3)}
)
SEALED = st.fixed_dictionaries({"at": st.just("cas"), "sha256": DIGESTS, "size": st.integers(0, 2)})
IN_GIT = st.fixed_dictionaries({"at": st.just("git"), "sha256": DIGESTS, "size": st.integers(0, 2)})
SEGMENTS = st.tuples(st.lists(SEALED, max_size=2), st.lists(IN_GIT, max_size=1)).map(lambda s: [*s[0], *s[1]])
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "revision": st.integers(0, 2),
        "name": VALUES,
        "tags": st.dictionaries(KEYS, SCALARS, max_size=3),
        "params": st.dictionaries(KEYS, st.sampled_from("xyz"), max_size=3),
        "artifacts": st.dictionaries(KEYS, st.none() | ARTIFACT, max_size=3),
        "metrics": st.dictionaries(KEYS, SUMMARY, max_size=3),
        "hist": SEGMENTS,
        "inputs": st.lists(VALUES, max_size=3),
        "source": VALUES,
    },
)


def same(a, b) -> bool:
    return canonical(a) == canonical(b)


@given(DOCUMENTS, DOCUMENTS)
def test_join_is_commutative(a, b):
    assert same(join(a, b), join(b, a))


@given(DOCUMENTS, DOCUMENTS, DOCUMENTS)
def test_join_is_associative(a, b, c):
    assert same(join(a, join(b, c)), join(join(a, b), c))


@given(DOCUMENTS, DOCUMENTS)
def test_join_is_idempotent_and_absorbs_what_it_joined(a, b):
    assert same(join(a, a), a)
    united = join(a, b)
    assert same(join(united, a), united)
    assert same(join(united, b), united)


@given(DOCUMENTS, DOCUMENTS)
def test_join_leaves_its_arguments_as_they_were(a, b):
    before = canonical(a), canonical(b)
    join(a, b)
    assert (canonical(a), canonical(b)) == before


@given(DOCUMENTS, DOCUMENTS)
def test_a_later_revision_wins_whole_because_it_contains_the_earlier_ones(a, b):
    later = {**b, "revision": 9}
    assert same(join(a, later), later)


@given(DOCUMENTS, DOCUMENTS)
def test_at_equal_revisions_no_key_of_any_map_is_lost(a, b):
    a, b = {**a, "revision": 1}, {**b, "revision": 1}
    united = join(a, b)
    assert united.keys() == a.keys() | b.keys()
    for section in ("tags", "params", "artifacts", "metrics"):
        assert united.get(section, {}).keys() == a.get(section, {}).keys() | b.get(section, {}).keys()


@given(st.dictionaries(KEYS, ARTIFACT), st.dictionaries(KEYS, ARTIFACT))
def test_an_artifact_of_the_join_is_one_of_the_two_and_never_a_mixture(a, b):
    united = join({"artifacts": a}, {"artifacts": b})["artifacts"]
    for name, facts in united.items():
        assert facts in [side[name] for side in (a, b) if name in side]


@given(SEGMENTS, SEGMENTS)
def test_of_history_files_with_one_name_only_one_is_referenced(a, b):
    united = join({"hist": a}, {"hist": b})["hist"]
    assert len([s for s in united if s["at"] == "git"]) <= 1
    for segment in [*a, *b]:
        assert segment in united or segment["at"] == "git"


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ({"tags": {"x": None}}, {"tags": {"x": "1"}}, {"tags": {"x": "1"}}),
        ({"name": "a"}, {"name": "b"}, {"name": "b"}),
        ({"inputs": [1]}, {"inputs": [2]}, {"inputs": [1, 2]}),
        ({"x": 1}, {"x": "1"}, {"x": "1"}),
        ({"x": [1]}, {"x": {"y": 1}}, {"x": {"y": 1}}),
        (
            {"hist": [{"at": "git", "size": 9, "sha256": "a"}, {"at": "cas", "sha256": "c"}]},
            {"hist": [{"at": "git", "size": 8, "sha256": "b"}]},
            {"hist": [{"at": "cas", "sha256": "c"}, {"at": "git", "size": 9, "sha256": "a"}]},
        ),
    ],
)
def test_join_of_single_values(a, b, expected):
    assert join(a, b) == join(b, a) == expected
