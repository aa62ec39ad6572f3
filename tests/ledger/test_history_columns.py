"""Metric points come back bit for bit and exactly once, however they are stored."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gml.domain.errors import CorruptError, FormatError
from gml.domain.metrics import MetricSummary, Point, number_from_json, number_to_json
from gml.domain.run import RECORD_FORMAT, fold
from gml.ledger import history
from gml.ledger.history import MAGIC, HistoryBuilder, encode_block, read_blocks

INT64 = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([-(2**63), 2**63 - 1, 0, -1])
FLOATS = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from(
    [math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308]
)
POINTS = st.lists(st.tuples(INT64, INT64, FLOATS), min_size=1, max_size=40)


def bits(value: float) -> bytes:
    return b"nan" if math.isnan(value) else struct.pack("<d", value)


def block(key: str, points) -> bytes:
    steps, times, values = zip(*points, strict=True)
    return encode_block(key, np.array(steps, "<i8"), np.array(times, "<i8"), np.array(values, "<f8"))


@given(st.dictionaries(st.text(max_size=8), POINTS, max_size=3))
def test_columns_decode_to_the_very_points_that_were_encoded(keys):
    data = MAGIC + b"".join(block(key, points) for key, points in keys.items())
    decoded = {
        key: list(zip(*(column.tolist() for column in columns), strict=True))
        for key, columns in read_blocks(data, "test")
    }
    assert decoded.keys() == keys.keys()
    for key, points in keys.items():
        assert [(s, t, bits(v)) for s, t, v in decoded[key]] == [(s, t, bits(v)) for s, t, v in points]


@given(POINTS, POINTS)
def test_only_the_wanted_key_is_read(one, two):
    data = MAGIC + block("one", one) + block("two", two)
    (found,) = read_blocks(data, "test", ["two"])
    assert found[0] == "two"
    assert found[1][0].tolist() == [s for s, _, _ in two]


@given(POINTS, st.data())
def test_a_history_file_cut_anywhere_is_refused_and_never_read_as_something_else(points, data):
    whole = MAGIC + block("loss", points)
    cut = data.draw(st.integers(0, len(whole) - 1))
    try:
        read = list(read_blocks(whole[:cut], "test"))
    except CorruptError:
        return
    assert read == []
    assert cut == len(MAGIC)


def test_a_newer_history_format_is_refused_with_what_to_do():
    with pytest.raises(FormatError, match="upgrade"):
        list(read_blocks(b"gml-hist 2\n", "test"))


@given(FLOATS)
def test_numbers_pass_json_whatever_they_are(value):
    assert bits(number_from_json(number_to_json(value))) == bits(value)


LOGGED = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", "rare"]),
        st.integers(-3, 3) | INT64,
        st.integers(0, 3) | st.integers(0, 2**63 - 1),
        FLOATS,
    ),
    max_size=60,
)


class Sealed:
    """What an artifact store would keep, and the points of a document that a reader finds."""

    def __init__(self) -> None:
        self.files: list[bytes] = []

    def seal(self, data: bytes, points: int) -> dict[str, object]:
        self.files.append(data)
        return {"at": "memory", "index": len(self.files) - 1, "points": points}

    def read(self, builder: HistoryBuilder, key: str) -> list[Point]:
        inline, file, _ = builder.tail()
        document = {"format": RECORD_FORMAT, "metrics": builder.metrics_json(), "history": inline}
        run = fold("r", document, ())
        files = [self.files[s["index"]] for s in builder.segments] + ([file] if file is not None else [])
        points = []
        for data in files:
            for _, columns in read_blocks(data, "test", [key]):
                points += [Point(*row) for row in zip(*(c.tolist() for c in columns), strict=True)]
        for part in run.history:
            points += [Point(s, t, number_from_json(v)) for s, t, v in part.inline.get(key, ())]
        return points


@settings(deadline=None)
@given(LOGGED, st.integers(1, 12), st.integers(0, 6), st.integers(0, 9), st.sets(st.integers(0, 60)))
def test_a_history_builder_keeps_every_point_exactly_once(logged, seal, inline, total, reads):
    """Like a plain list, however small the limits and however often it is read or sealed in between."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "SEAL_POINTS", seal)
        patch.setattr(history, "INLINE_POINTS", inline)
        patch.setattr(history, "INLINE_TOTAL", total)
        sealed = Sealed()
        builder = HistoryBuilder(sealed.seal)
        plain: dict[str, list[Point]] = {}
        for number, (key, step, timestamp, value) in enumerate(logged):
            builder.add(key, value, timestamp, step)
            plain.setdefault(key, []).append(Point(step, timestamp, value))
            if number in reads:
                builder.tail()
                if number % 2:
                    builder.seal_all()
        assert builder.summaries.keys() == plain.keys()
        for key, points in plain.items():
            found = sealed.read(builder, key)
            assert sorted((s, t, bits(v)) for s, t, v in found) == sorted(
                (s, t, bits(v)) for s, t, v in points
            )
        assert sum(s["points"] for s in builder.segments) + builder.tail()[2] <= len(logged)


def naive_summary(points) -> tuple:
    last = max(points, key=lambda p: (p[0], p[1], not math.isnan(p[2]), 0 if math.isnan(p[2]) else p[2]))
    numbers = [p[2] for p in points if not math.isnan(p[2])] or [math.nan]
    return last[0], last[1], last[2], min(numbers), max(numbers), len(points)


def equal(a: tuple, b: tuple) -> bool:
    return len(a) == len(b) and all(x == y or (x != x and y != y) for x, y in zip(a, b, strict=True))


def parts(summary: MetricSummary) -> tuple:
    return summary.step, summary.timestamp, summary.last, summary.min, summary.max, summary.count


def summary_of(points) -> MetricSummary:
    summary = MetricSummary.first(*points[0])
    for point in points[1:]:
        summary.add(*point)
    return summary


SMALL = st.lists(st.tuples(st.integers(-2, 2), st.integers(0, 2), FLOATS), min_size=1, max_size=12)


@given(SMALL, st.randoms(use_true_random=False))
def test_last_is_the_greatest_step_then_time_then_value_in_any_order_of_logging(points, random):
    expected = naive_summary(points)
    random.shuffle(points)
    assert equal(parts(summary_of(points)), expected)


@given(SMALL, SMALL)
def test_summaries_combine_like_their_points(one, two):
    combined = summary_of(one).combine(summary_of(two))
    assert equal(parts(combined), naive_summary([*one, *two]))
    assert equal(parts(combined), parts(summary_of(two).combine(summary_of(one))))


@given(SMALL)
def test_summaries_survive_the_ledger(points):
    summary = summary_of(points)
    assert equal(parts(MetricSummary.from_json(summary.to_json())), parts(summary))
