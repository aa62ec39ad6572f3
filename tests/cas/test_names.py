"""Names, indexes, recipes and the checks of arriving files: what is damaged is never taken for good."""

import hashlib
import os

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from gml.cas.check import check_for
from gml.cas.compression import compress, expand
from gml.cas.names import (
    Entry,
    Kind,
    dump_index,
    dump_recipe,
    is_name,
    parse_index,
    parse_name,
    parse_recipe,
    stored_name,
)
from gml.domain.errors import CorruptError, FormatError, InvalidValueError

digests = st.binary(max_size=8).map(lambda data: hashlib.sha256(data).hexdigest())
chunk_lists = st.lists(st.tuples(digests, st.integers(0, 1 << 40)), max_size=20)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def pack_of(blobs):
    """Return a pack, its index and its id; every second blob is compressed."""
    data, entries = b"", []
    for number, blob in enumerate(blobs):
        stored = zstandard.compress(blob) if number % 2 else blob
        entries.append(Entry(sha256(blob), len(data), len(stored), len(blob)))
        data += stored
    index = dump_index(entries)
    return data, index, sha256(index)


@pytest.mark.parametrize("kind", Kind)
def test_names_come_back(kind):
    digest = sha256(b"x")
    name = parse_name(stored_name(kind, digest))
    assert (name.kind, name.digest) == (kind, digest)
    assert is_name(name.name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "sha256",
        "sha256/ab",
        "sha256/ab/" + "cd" * 32,
        "sha256/ab/" + "ab" * 32 + ".idx",
        "packs/ab/" + "ab" * 32 + ".zst",
        "recipes/ab/" + "ab" * 32 + ".idx",
        "other/ab/" + "ab" * 32,
        "/sha256/ab/" + "ab" * 32,
        "sha256/ab/../ab/" + "ab" * 32,
        "sha256/AB/" + "AB" * 32,
        "sha256/ab/" + "ab" * 32 + "\n",
        "sha256/ab/" + "ab" * 31 + "a",
    ],
)
def test_other_names_are_refused(name):
    assert not is_name(name)
    with pytest.raises(InvalidValueError):
        parse_name(name)


@given(chunk_lists)
def test_recipes_come_back(chunks):
    size = sum(length for _, length in chunks)
    recipe = parse_recipe("ab" * 32, dump_recipe(size, chunks))
    assert (recipe.size, list(recipe.chunks)) == (size, chunks)


@given(chunk_lists, st.data())
def test_a_damaged_recipe_is_found(chunks, data):
    good = dump_recipe(sum(length for _, length in chunks), chunks)
    at = data.draw(st.integers(0, len(good) - 1))
    flipped = good[:at] + bytes([good[at] ^ (1 << data.draw(st.integers(0, 7)))]) + good[at + 1 :]
    for bad in (good[:at], flipped, good + b"\n"):
        with pytest.raises(CorruptError):
            parse_recipe("ab" * 32, bad)


def test_a_recipe_whose_sizes_do_not_add_up_is_refused():
    with pytest.raises(CorruptError):
        parse_recipe("ab" * 32, dump_recipe(3, [("ab" * 32, 2)]))


def test_newer_formats_are_named():
    body = b"gml-recipe 2 0\n"
    with pytest.raises(FormatError):
        parse_recipe("ab" * 32, body + f"end {sha256(body)}\n".encode())
    index = b"gml-pack 2\n"
    with pytest.raises(FormatError):
        parse_index(sha256(index), index)


def test_an_index_with_gaps_or_words_is_refused():
    for entries in ([Entry("ab" * 32, 1, 1, 1)], [Entry("ab" * 32, 0, 2, 2), Entry("cd" * 32, 1, 1, 1)]):
        index = dump_index(entries)
        with pytest.raises(CorruptError, match="malformed"):
            parse_index(sha256(index), index)
    with pytest.raises(CorruptError, match="does not match"):
        parse_index("ab" * 32, dump_index([]))


@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(1, 7))
def test_a_pack_is_checked_in_any_pieces(blobs, step):
    data, index, pack = pack_of(blobs)
    entries = parse_index(pack, index)
    check = check_for(parse_name(stored_name(Kind.PACK, pack)), entries)
    for at in range(0, len(data), step):
        check.update(data[at : at + step])
    check.finish()
    text = check_for(parse_name(stored_name(Kind.INDEX, pack)))
    text.update(index)
    text.finish()


def arrives(name, data, entries=None):
    check = check_for(parse_name(name), entries)
    check.update(data)
    check.finish()


@pytest.mark.parametrize("damage", ["flipped", "cut", "grown", "empty"])
@pytest.mark.parametrize("kind", Kind)
def test_what_arrives_damaged_is_refused(kind, damage):
    blobs = [b"a" * 1000, b"b" * 3000, os.urandom(500)]
    pack, index, name = pack_of(blobs)
    whole = b"".join(blobs)
    digest, good = {
        Kind.BLOB: (sha256(whole), whole),
        Kind.COMPRESSED: (sha256(whole), zstandard.compress(whole)),
        Kind.PACK: (name, pack),
        Kind.INDEX: (name, index),
        Kind.RECIPE: (sha256(whole), dump_recipe(len(whole), [(sha256(blob), len(blob)) for blob in blobs])),
    }[kind]
    entries = parse_index(name, index)
    arrives(stored_name(kind, digest), good, entries)
    bad = {"cut": good[:-1], "grown": good + b"x", "empty": b""}
    for at in range(0, len(good), 97):
        bad["flipped"] = good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :]
        with pytest.raises(CorruptError):
            arrives(stored_name(kind, digest), bad[damage], entries)


def test_a_pack_needs_its_index():
    with pytest.raises(InvalidValueError, match="without its index"):
        check_for(parse_name(stored_name(Kind.PACK, "ab" * 32)))


@pytest.mark.parametrize("size", [256, 100_000, 3_000_000])
def test_compression_comes_back_where_it_pays(size):
    text = (b"0.25,0.5,red\n" * (size // 13 + 1))[:size]
    made = compress(text)
    assert made is not None
    assert len(made) < size // 2
    assert expand(made, size) == text
    assert compress(os.urandom(size)) is None
    for wrong in (size - 1, size + 1):
        with pytest.raises(CorruptError):
            expand(made, wrong)
    for bad in (made[:-1], made + b"x", b"", b"nonsense"):
        with pytest.raises(CorruptError):
            expand(bad, size)


def test_little_is_not_compressed():
    assert compress(b"a" * 100) is None
    assert compress(b"") is None


def test_a_frame_that_claims_much_is_refused_before_memory_is_taken():
    bomb = zstandard.compress(bytes(50_000_000))
    with pytest.raises(CorruptError, match="another size"):
        expand(bomb, 1000)
