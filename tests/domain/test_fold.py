"""A run is its record with all edits applied in the order of their clocks, whatever order they arrived in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gml.domain.experiment import fold_experiment
from gml.domain.metrics import number_from_json, number_to_json
from gml.domain.run import EDIT_FORMAT, RECORD_FORMAT, fold

KEYS = st.sampled_from(["a", "b"])
ARTIFACT = st.fixed_dictionaries(
    {
        "at": st.sampled_from(["git", "cas"]),
        "sha256": st.sampled_from(["aa", "bb"]),
        "size": st.integers(0, 3),
    }
)
POINT = st.tuples(st.integers(-2, 2), st.integers(0, 2), st.floats(allow_nan=False))
SECTIONS = {
    "params": st.dictionaries(KEYS, st.sampled_from("xy")),
    "tags": st.dictionaries(KEYS, st.none() | st.sampled_from("xy")),
    "artifacts": st.dictionaries(KEYS, st.none() | ARTIFACT),
    "status": st.sampled_from(["RUNNING", "FINISHED", "FAILED"]),
    "end_time": st.none() | st.integers(0, 9),
    "name": st.sampled_from("nm"),
    "lifecycle_stage": st.sampled_from(["active", "deleted"]),
    "start_time": st.integers(0, 9),
    "points": st.dictionaries(KEYS, POINT),
}
PLAIN = st.fixed_dictionaries({}, optional=SECTIONS)
EDITS = st.lists(PLAIN, max_size=4)


def document(plain: dict, *, clock: int = 0) -> dict:
    out = {key: value for key, value in plain.items() if key != "points"}
    if plain.get("points"):
        out["metrics"] = {
            key: {"step": s, "timestamp": t, "last": number_to_json(v)}
            for key, (s, t, v) in plain["points"].items()
        }
    if clock:
        return out | {"format": EDIT_FORMAT, "clock": clock, "session": f"s{clock}"}
    return out | {"format": RECORD_FORMAT, "session": "s0"}


@given(PLAIN, EDITS, st.randoms(use_true_random=False))
def test_fold_does_not_depend_on_the_order_in_which_edits_arrive(record, plain, random):
    edits = [document(edit, clock=number) for number, edit in enumerate(plain, 1)]
    expected = fold("r", document(record), edits)
    random.shuffle(edits)
    assert fold("r", document(record), edits) == expected


@given(st.none() | PLAIN, EDITS)
def test_fold_equals_a_naive_model(record, plain):
    everything = [record or {}, *plain]
    run = fold(
        "r",
        document(record) if record is not None else None,
        [document(edit, clock=number) for number, edit in enumerate(plain, 1)],
    )
    params, tags, artifacts, points = {}, {}, {}, {}
    for one in everything:
        params = one.get("params", {}) | params
        tags |= one.get("tags", {})
        artifacts |= one.get("artifacts", {})
        for key, point in one.get("points", {}).items():
            points.setdefault(key, []).append(point)
    assert run.params == params
    assert run.tags == {key: value for key, value in tags.items() if value is not None}
    assert {name: a.to_json() for name, a in run.artifacts.items()} == {
        name: facts for name, facts in artifacts.items() if facts is not None
    }
    assert {key: (m.step, m.timestamp, m.last) for key, m in run.metrics.items()} == {
        key: max(found) for key, found in points.items()
    }
    assert {key: (m.count, m.min, m.max) for key, m in run.metrics.items()} == {
        key: (len(found), min(p[2] for p in found), max(p[2] for p in found)) for key, found in points.items()
    }
    for name, default in (
        ("status", "RUNNING"),
        ("lifecycle_stage", "active"),
        ("end_time", None),
        ("name", ""),
    ):
        said = [one[name] for one in everything if name in one]
        assert getattr(run, name) == (said[-1] if said else default)
    assert run.start_time == next((one["start_time"] for one in everything if "start_time" in one), 0)
    inline = [p for part in run.history for p in part.inline.get("a", [])]
    assert sorted((s, t, number_from_json(v)) for s, t, v in inline) == sorted(points.get("a", []))


@given(st.lists(st.tuples(st.integers(1, 3), st.sampled_from("xyz")), unique=True, max_size=5), st.data())
def test_two_edits_of_one_clock_apply_in_the_order_of_their_sessions_in_every_clone(stamps, data):
    edits = [
        {"format": EDIT_FORMAT, "clock": clock, "session": session, "tags": {"t": f"{clock}{session}"}}
        for clock, session in stamps
    ]
    arrived = data.draw(st.permutations(edits))
    tags = fold("r", {"format": RECORD_FORMAT}, arrived).tags
    assert tags == ({"t": "{}{}".format(*max(stamps))} if stamps else {})


@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "name": st.sampled_from("ab"),
                "lifecycle_stage": st.sampled_from(["active", "deleted"]),
                "tags": st.dictionaries(KEYS, st.none() | st.sampled_from("xy")),
                "time": st.integers(0, 9),
            },
        ),
        max_size=4,
    ),
    st.data(),
)
def test_an_experiment_is_folded_the_same_in_every_clone(changes, data):
    created = {"name": "first", "creation_time": 4, "tags": {"a": "x"}}
    edits = [change | {"clock": clock, "session": str(clock)} for clock, change in enumerate(changes, 1)]
    found = fold_experiment("1", created, data.draw(st.permutations(edits)))
    names = ["first", *(change["name"] for change in changes if "name" in change)]
    tags = {"a": "x"}
    for change in changes:
        tags |= change.get("tags", {})
    assert found.name == names[-1]
    assert found.tags == {key: value for key, value in tags.items() if value is not None}
    assert found.last_update_time == max([4, *(change.get("time", 0) for change in changes)])
    assert found.creation_time == 4
