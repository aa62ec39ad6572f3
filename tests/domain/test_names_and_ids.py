"""Names within the limits, ids that sort by creation whatever the clock says."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gml.domain.errors import InvalidValueError
from gml.domain.ids import (
    check_run_id,
    experiment_id,
    id_time,
    is_time_ordered,
    new_run_id,
    short_id,
)
from gml.domain.names import (
    check_artifact_path,
    check_experiment_name,
    check_key,
    check_run_name,
    check_value,
    made_up_name,
)

ENTROPY = st.binary(min_size=10, max_size=10)
CLOCKS = st.integers(-1_000, (1 << 48) - 1_000)


@given(st.lists(st.tuples(CLOCKS, ENTROPY), min_size=2, max_size=8))
def test_ids_sort_in_the_order_in_which_they_were_made_however_the_clock_jumps(moments):
    ids = []
    for now, entropy in moments:
        ids.append(new_run_id(now, entropy, after=max(ids, default=None)))
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)


@given(CLOCKS, ENTROPY)
def test_an_id_is_a_uuid_of_version_7_with_its_time(now, entropy):
    run_id = new_run_id(now, entropy)
    assert re.fullmatch(r"[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}", run_id)
    assert is_time_ordered(run_id)
    assert id_time(run_id) == max(0, now)
    assert check_run_id(run_id) == run_id
    assert run_id.endswith(short_id(run_id))


def test_a_clock_ten_years_back_goes_on_after_the_newest_id():
    ten_years = 10 * 365 * 24 * 3600 * 1000
    newest = new_run_id(1_760_000_000_000, bytes(10))
    assert id_time(new_run_id(1_760_000_000_000 - ten_years, bytes(10), after=newest)) == id_time(newest) + 1


def test_a_foreign_id_does_not_stop_the_clock():
    assert id_time(new_run_id(77, bytes(10), after="zebra")) == 77


@pytest.mark.parametrize("text", ["", ".", "..", "a/b", "-a", "_a", "a b", "a\n", "é", "a" * 257])
def test_what_is_no_run_id_is_refused(text):
    with pytest.raises(InvalidValueError, match="not a run id"):
        check_run_id(text)


@given(st.text(min_size=1), st.integers(0, 5))
def test_experiment_ids_are_18_digits_that_follow_from_the_name(name, attempt):
    found = experiment_id(name, attempt)
    assert found == experiment_id(name, attempt)
    assert found == "0" if (name, attempt) == ("Default", 0) else re.fullmatch(r"[1-9][0-9]{17}", found)
    assert found != experiment_id(name, attempt + 1)


LEGAL = st.text(string.ascii_letters + string.digits + "_-.: é漢", min_size=1, max_size=12)


@given(st.lists(LEGAL.filter(lambda part: part not in {".", ".."}), min_size=1, max_size=3).map("/".join))
def test_plain_relative_paths_of_the_allowed_characters_are_keys(key):
    assert check_key(key, "metric") == key


@given(st.text(max_size=300))
def test_a_key_is_returned_unchanged_or_refused(key):
    try:
        checked = check_key(key, "param")
    except InvalidValueError:
        return
    assert checked == key
    assert 0 < len(key) <= 250
    assert re.fullmatch(r"[/\w.\- :]+", key)
    assert ".." not in key.split("/")


@given(st.text(max_size=40))
def test_an_artifact_path_stays_below_its_folder_and_can_be_written_down(path):
    try:
        check_artifact_path(path)
    except InvalidValueError:
        return
    assert not path.startswith("/")
    assert not {"", ".", ".."} & set(path.split("/"))
    assert path.encode().decode() == path
    assert not re.search(r"[\x00-\x1f\x7f\\]", path)


@pytest.mark.parametrize("check", [check_experiment_name, check_run_name, check_artifact_path])
@pytest.mark.parametrize("text", ["", "a\nb", "a\0b", "\ud800", "a" * 5000])
def test_names_that_not_every_tool_can_show_are_refused(check, text):
    with pytest.raises(InvalidValueError):
        check(text)


@pytest.mark.parametrize("value", [None, 3, ["a"], b"bytes"])
def test_names_are_text(value):
    for check in (check_experiment_name, check_run_name):
        with pytest.raises(InvalidValueError, match="text"):
            check(value)
    with pytest.raises(InvalidValueError, match="text"):
        check_key(value, "tag")


@pytest.mark.parametrize("value", [None, True, 0.1, [1, "a"], {"b": 2}, "ä"])
def test_values_are_kept_as_their_text(value):
    assert check_value(value, "param", 100) == str(value)


@given(ENTROPY, st.integers(0, 1 << 47))
def test_a_run_without_a_name_gets_the_same_one_everywhere(entropy, now):
    run_id = new_run_id(now, entropy)
    assert made_up_name(run_id) == made_up_name(run_id)
    assert check_run_name(made_up_name(run_id))
    assert check_run_name(made_up_name("an-imported_id"))
