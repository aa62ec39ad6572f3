"""Cutting: chunks are the file, depend on content only, and follow the rule of docs/format.md."""

import random
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gml.cas.chunking import MAX_CHUNK, MIN_CHUNK, Cutter
from gml.cas.large import chunk_factor
from gml.cas.names import MAX_INDEX

KEYS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93)


def random_bytes(size, seed=0):
    return np.random.default_rng(seed).bytes(size)


def table(rows, seed=0):
    draw = random.Random(seed)
    return b"".join(b"%d,%.3f,red,%d\n" % (row, draw.random(), draw.randrange(9)) for row in range(rows))


def zeros_and_ones(rows, seed=0):
    draw = random.Random(seed)
    return b"".join(b",".join(b"%d" % draw.randrange(2) for _ in range(8)) + b"\n" for _ in range(rows))


@cache
def content(kind):
    return CONTENTS[kind]()


CONTENTS = {
    "random": lambda: random_bytes(6_000_000),
    "table": lambda: table(250_000),
    "zeros and ones": lambda: zeros_and_ones(150_000),
    "weights": lambda: np.random.default_rng(3).standard_normal(1_500_000).astype("<f4").tobytes(),
    "sparse": lambda: (np.random.default_rng(4).random(1_000_000) < 0.01).astype("<f4").tobytes(),
}


def chunks(data):
    ends = Cutter().cuts(data, final=True)
    starts = [0, *ends[:-1]] if ends else []
    return [data[start:end] for start, end in zip(starts, ends, strict=True)]


def rule(data):
    """Return where the first chunk ends, by the words of docs/format.md."""

    def back(values, i):
        return values[i] if i >= 0 else 0

    m = [157 * byte % 256 for byte in data]
    u = [(m[i] + back(m, i - 3)) % 256 for i in range(len(m))]
    v = [u[i] ^ back(u, i - 7) for i in range(len(m))]
    mix = [(v[i] + back(v, i - 13)) % 256 for i in range(len(m))]

    def total(p):
        words = [int.from_bytes(data[p - 31 + 8 * n : p - 23 + 8 * n], "little") for n in range(4)]
        return sum(word * key for word, key in zip(words, KEYS, strict=True)) % (1 << 64)

    window = range(MIN_CHUNK - 1, min(MAX_CHUNK, len(data)))
    for p in window:
        if mix[p] == 91 and total(p) >> 55 == 0:
            return p + 1
    if len(data) < MAX_CHUNK:
        return len(data)
    if len(set(data[MIN_CHUNK - 1 : MAX_CHUNK])) == 1:
        return MAX_CHUNK
    greatest = max(mix[p] for p in window)
    return max((p for p in window if mix[p] == greatest), key=lambda p: (total(p), p)) + 1


@pytest.mark.parametrize("kind", CONTENTS)
def test_the_rule_is_the_one_in_the_documentation(kind):
    data = content(kind)[:MAX_CHUNK]
    assert len(chunks(data)[0]) == rule(data)


@pytest.mark.parametrize("kind", CONTENTS)
def test_chunks_are_the_file_and_within_bounds(kind):
    data = content(kind)
    found = chunks(data)
    assert b"".join(found) == data
    assert all(MIN_CHUNK <= len(chunk) <= MAX_CHUNK for chunk in found[:-1])


@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("at", [0.0, 0.31, 0.9])
def test_an_insertion_costs_a_few_chunks(kind, at):
    data = content(kind)
    place = int(len(data) * at)
    changed = data[:place] + b"inserted" + data[place:]
    before = set(chunks(data))
    new = sum(len(chunk) for chunk in chunks(changed) if chunk not in before)
    assert 0 < new <= 4 * MAX_CHUNK
    assert new < len(data) * 0.8


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 2_500_000), min_size=1, max_size=6), st.integers(0, 3))
def test_pieces_of_a_stream_are_cut_as_the_whole(sizes, seed):
    data = random_bytes(sum(sizes), seed) if seed else bytes(sum(sizes))
    cutter = Cutter()
    found, carry, at = [], b"", 0
    for number, size in enumerate(sizes):
        piece = carry + data[at : at + size]
        at += size
        ends = cutter.cuts(piece, final=number == len(sizes) - 1)
        starts = [0, *ends[:-1]] if ends else []
        found += [piece[start:end] for start, end in zip(starts, ends, strict=True)]
        carry = piece[ends[-1] if ends else 0 :]
    assert found == chunks(data)
    assert carry == b""


def test_very_large_files_have_larger_chunks():
    data = np.random.default_rng(3).bytes(40 << 20)
    ends = [0, *Cutter(8).cuts(data, final=True)]
    lengths = [after - before for before, after in pairwise(ends)]
    assert all(8 * MIN_CHUNK <= length <= 8 * MAX_CHUNK for length in lengths[:-1])
    assert sum(lengths) == len(data)
    for size in (1 << 30, 120 << 30, 1 << 40, 5 << 40):
        assert size // (MIN_CHUNK * chunk_factor(size)) * 73 < MAX_INDEX


@pytest.mark.parametrize("size", [0, 1, 23, 31, 32, MIN_CHUNK - 1, MIN_CHUNK, MIN_CHUNK + 1, MAX_CHUNK])
def test_short_files(size):
    for data in (bytes(size), random_bytes(size, 5)):
        assert b"".join(chunks(data)) == data
    assert Cutter().cuts(bytes(min(size, MAX_CHUNK - 1)), final=False) == []
