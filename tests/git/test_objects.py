"""The codec against C git and dulwich."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest
from dulwich.objects import Commit as DulwichCommit
from dulwich.objects import Tree as DulwichTree
from hypothesis import given, settings
from hypothesis import strategies as st

from gml.domain.errors import CorruptError, InvalidValueError
from gml.git import objects
from gml.git.objects import (
    Tag,
    format_commit,
    format_tag,
    format_tree,
    object_id,
    parse_commit,
    parse_tag,
    parse_tree,
)
from gml.git.port import (
    MODE_EXECUTABLE,
    MODE_FILE,
    MODE_GITLINK,
    MODE_LINK,
    MODE_TREE,
    Commit,
    Identity,
    TreeEntry,
)

names = st.text(
    st.characters(blacklist_categories=("Cs",), blacklist_characters="\0/"), min_size=1, max_size=12
).filter(lambda n: n not in {".", ".."} and n.lower() != ".git")
modes = st.sampled_from([MODE_FILE, MODE_EXECUTABLE, MODE_LINK, MODE_TREE, MODE_GITLINK])


def ids(length):
    return st.binary(min_size=length, max_size=length).map(bytes.hex)


def tree_entries(length):
    return st.lists(st.builds(TreeEntry, names, modes, ids(length)), max_size=12, unique_by=lambda e: e.name)


@given(st.sampled_from([20, 32]).flatmap(lambda n: st.tuples(st.just(n), tree_entries(n))))
def test_tree_round_trip(case):
    length, entries = case
    data = format_tree(entries)
    parsed = parse_tree(data, length)
    assert sorted(parsed, key=lambda e: e.name) == sorted(entries, key=lambda e: e.name)
    assert format_tree(reversed(parsed)) == data


@given(tree_entries(20))
def test_tree_equals_dulwich(entries):
    tree = DulwichTree()
    for entry in entries:
        tree.add(entry.name.encode(), entry.mode, entry.oid.encode())
    assert format_tree(entries) == tree.as_raw_string()


@settings(max_examples=15, deadline=None)
@given(tree_entries(20).map(lambda es: [e for e in es if "\n" not in e.name]))
def test_tree_equals_c_git(tmp_path_factory, entries):
    repo = tmp_path_factory.getbasetemp() / "codec"
    if not repo.exists():
        subprocess.run(["git", "init", "-q", str(repo)], check=True)
    kinds = {MODE_TREE: "tree", MODE_GITLINK: "commit"}
    lines = "".join(f"{e.mode:06o} {kinds.get(e.mode, 'blob')} {e.oid}\t{e.name}\0" for e in entries)
    done = subprocess.run(
        ["git", "mktree", "-z", "--missing"], cwd=repo, input=lines.encode(), capture_output=True, check=True
    )
    assert done.stdout.decode().strip() == object_id("tree", format_tree(entries))


@given(st.binary(max_size=60))
def test_garbage_is_a_tree_or_an_error(data):
    try:
        entries = parse_tree(data)
    except CorruptError:
        return
    assert sum(len(e.name.encode("utf-8", "surrogateescape")) for e in entries) <= len(data)


words = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=20)
people = st.builds(Identity, words, words)
times = st.integers(0, 2**33)
offsets = st.integers(-14 * 60, 14 * 60)
commits = st.builds(
    Commit,
    tree=ids(20),
    parents=st.lists(ids(20), max_size=3).map(tuple),
    author=people,
    author_time=times,
    committer=people,
    commit_time=times,
    message=st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=60),
    author_offset=offsets,
    commit_offset=offsets,
    extra=st.lists(
        st.tuples(
            st.sampled_from(["gpgsig", "encoding", "mergetag"]),
            st.sampled_from(["a", "-----B\n\nx\n-----E", "two\nlines"]),
        ),
        max_size=2,
    ).map(tuple),
)


@given(commits)
def test_commit_round_trip(commit):
    data = format_commit(commit)
    parsed = parse_commit(data)
    assert format_commit(parsed) == data
    assert (parsed.tree, parsed.parents, parsed.message, parsed.extra) == (
        commit.tree,
        commit.parents,
        commit.message,
        commit.extra,
    )
    assert (parsed.author_time, parsed.author_offset) == (commit.author_time, commit.author_offset)
    assert (parsed.commit_time, parsed.commit_offset) == (commit.commit_time, commit.commit_offset)


@given(commits)
def test_commit_equals_dulwich(commit):
    # dulwich parses what a mergetag holds, and this one holds nonsense
    commit = replace(commit, extra=tuple(pair for pair in commit.extra if pair[0] != "mergetag"))
    other = DulwichCommit.from_string(format_commit(commit))
    assert other.tree.decode() == commit.tree
    assert [p.decode() for p in other.parents] == list(commit.parents)
    assert (other.author_time, other.commit_time) == (commit.author_time, commit.commit_time)
    assert other.message.decode() == commit.message


def test_signed_commit_survives(repo):
    repo.commit(a="1")
    data = repo.raw("cat-file", "commit", "HEAD")
    head, _, body = data.partition(b"\n\n")
    signed = head + b"\ngpgsig -----BEGIN\n \n abc\n -----END\n\n" + body
    assert format_commit(parse_commit(signed)) == signed
    assert parse_commit(signed).extra == (("gpgsig", "-----BEGIN\n\nabc\n-----END"),)


def test_old_encodings_survive():
    data = (
        b"tree "
        + b"a" * 40
        + b"\nauthor J\xf6rg <j@x> 1 +0100\ncommitter J\xf6rg <j@x> 1 +0100\nencoding latin1\n\nGr\xfc\xdfe\n"
    )
    assert format_commit(parse_commit(data)) == data


@pytest.mark.parametrize(
    "line", [b"no mail", b"a <b>", b"<b> 5 +0000", b"a <b> 5", b"a <b> x y", b"a <b <c>> 1 +0000"]
)
def test_odd_people_do_not_stop_reading(line):
    data = b"tree " + b"a" * 40 + b"\nauthor " + line + b"\ncommitter " + line + b"\n\nm"
    assert parse_commit(data).message == "m"


@pytest.mark.parametrize("data", [b"", b"author x", b"tree", b"garbage\n\nbody"])
def test_not_a_commit(data):
    with pytest.raises(CorruptError):
        parse_commit(data)


def test_tag_round_trip():
    tag = Tag("a" * 40, "commit", "gml/m/v1", Identity("Ada", "a@b"), 5, "text\n-----BEGIN PGP", -150)
    assert parse_tag(format_tag(tag)) == tag
    old = Tag("a" * 40, "commit", "v0.1", None, 0, "x\n")
    assert parse_tag(format_tag(old)) == old
    with pytest.raises(CorruptError):
        parse_tag(b"type commit\n\nx")


def test_nul_in_a_message_is_refused():
    me = Identity("a", "b")
    with pytest.raises(InvalidValueError):
        format_commit(Commit("a" * 40, (), me, 1, me, 1, "x\0y"))
    with pytest.raises(InvalidValueError):
        format_tag(Tag("a" * 40, "commit", "t", me, 1, "x\0y"))


def test_names_cannot_forge_headers(repo):
    store = repo.store()
    evil = Identity("Eve\nparent " + "0" * 40 + " <x>", "e@x>\n")
    tree = store.write("tree", b"")
    store.write("commit", format_commit(Commit(tree, (), evil, 1, evil, 1, "m\n")))
    repo.fsck()


def test_object_ids():
    assert object_id("blob", b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    assert objects.format_of(object_id("blob", b"", "sha256")) == "sha256"
