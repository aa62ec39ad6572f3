import pytest
from hypothesis import given
from hypothesis import strategies as st

from gml.index.query.ast import Day, Relative, Span
from gml.index.query.times import MAX_MS, format_duration, format_time, parse_duration, parse_time, resolve

MINUTE = 60_000
DAY = 86_400_000


@pytest.mark.parametrize(
    ("text", "ms"),
    [("0s", 0), ("500ms", 500), ("90s", 90_000), ("15m", 900_000), ("2h30m", 9_000_000), ("1.5h", 5_400_000), ("7d", 7 * DAY), ("2w", 14 * DAY), ("1m1ms", 60_001)],
)  # fmt: skip
def test_durations(text, ms):
    assert parse_duration(text) == ms


@pytest.mark.parametrize(
    "text", ["", "90", "s", "1x", "1.s", "-1s", "1 s", "1h 2m", "9999999999w", "1" * 40 + "s", "٣s"]
)
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="a duration"):
        parse_duration(text)


@given(st.integers(0, MAX_MS))
def test_durations_are_written_as_they_are_read(ms):
    assert parse_duration(format_duration(ms)) == ms


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("now", Relative(0)), ("TODAY", Day(0)), (" yesterday ", Day(-1)), ("-36h", Relative(-36 * 60 * MINUTE)),
        ("2 weeks ago", Relative(-14 * DAY)), ("1 day ago", Relative(-DAY)), ("90 Minutes  ago", Relative(-90 * MINUTE)),
        ("5 min ago", Relative(-5 * MINUTE)), ("3 hrs ago", Relative(-180 * MINUTE)), ("10 secs ago", Relative(-10_000)), ("2w ago", Relative(-14 * DAY)),
        ("1970-01-01", Span(0, DAY)), ("1970-01-01T00:01", Span(MINUTE, 2 * MINUTE)), ("1970-01-01 00:00:07", Span(7000, 8000)),
        ("1970-01-01T00:00:07.5Z", Span(7500, 7501)), ("1970-01-01T00:00:00.0019", Span(1, 2)),
        ("1970-01-01T02:00+02:00", Span(0, MINUTE)), ("1969-12-31T22:30-0130", Span(0, MINUTE)),
    ],
)  # fmt: skip
def test_times(text, moment):
    assert parse_time(text) == moment
    assert parse_time(format_time(moment)) == moment


def test_a_bare_duration_is_time_ago_where_asked_for():
    assert parse_time("2w", ago=True) == Relative(-14 * DAY)
    with pytest.raises(ValueError, match="is a duration"):
        parse_time("2w")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("soon", "a time looks like"), ("2 months ago", "a time looks like"), ("2026-6-1", "a time looks like"), ("2026-02-30", "not in the calendar"),
        ("2026-13-01", "not in the calendar"), ("0000-01-01", "not in the calendar"), ("2026-01-01T24:00", "hours go to 23"), ("2026-01-01T10:60", "hours go to 23"),
        ("2026-01-01T10:00+25:00", "an offset"), ("0001-01-01T00:00+01:00", "years 1 to 9999"), ("9999-12-31T23:59-01:00", "years 1 to 9999"),
        ("-99999999999w", "a thousand years"), ("999999999999 weeks ago", "a thousand years"),
    ],
)  # fmt: skip
def test_what_is_no_time(text, says):
    with pytest.raises(ValueError, match=says):
        parse_time(text)


@given(st.text(max_size=20))
def test_any_text_is_a_time_or_a_value_error(text):
    try:
        moment = parse_time(text)
    except ValueError:
        return
    assert parse_time(format_time(moment)) == moment


@given(st.datetimes(), st.sampled_from(["minutes", "seconds", "milliseconds"]))
def test_iso_times(when, precision):
    text = when.isoformat("T", precision)
    assert format_time(parse_time(text)) == text


def test_resolving():
    now = 10 * DAY + 5
    assert resolve(Relative(-DAY), now) == (9 * DAY + 5, 9 * DAY + 6)
    assert resolve(Day(0), now) == (10 * DAY, 11 * DAY)
    assert resolve(Day(-1), now) == (9 * DAY, 10 * DAY)
    assert resolve(Span(1, 2), now) == (1, 2)
