"""Merging ledgers is a pure function of both: any order, any grouping, nothing lost, files fit their documents."""

from __future__ import annotations

import hashlib
import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gml.domain.errors import FormatError
from gml.domain.join import canonical, join
from gml.domain.run import EDIT_FORMAT, RECORD_FORMAT
from gml.git import trees
from gml.git.objects import parse_commit
from gml.git.port import Identity
from gml.ledger import layout
from gml.ledger.codec import decode, encode
from gml.ledger.ledger import Batch, Ledger
from gml.ledger.merge import merge

ADA = Identity("Ada", "ada@example.org")
RUN = "01983c1f2ab470008000000000000000"
OTHER = "01983c1f2ab570008000000000000000"
FOREIGN = "b3f1c0ffee0040008000000000000000"
CONTENTS = (b"", b"a", b"bb", b'{"a": 1}', b"[1, 2]", b"\xff" * 9)
NUMBERS = itertools.count()


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def ledger_of(repo, namespace: str, changes: dict[str, bytes | None], clock: int = 1_000) -> str:
    """Commit changes to the ledger of that namespace and return the tip."""
    ledger = Ledger(repo.workspace().store, namespace=namespace, identity=ADA, clock=lambda: clock)
    return ledger.append(lambda _: Batch(changes, f"{namespace}\n")) or ledger.tip()


def files(store, commit: str) -> dict[str, bytes]:
    tree = parse_commit(store.read(commit)[1]).tree
    return {path: store.read(entry.oid)[1] for path, _, entry in trees.walk(store, None, tree)}


def states(path: str, base: str, steps) -> list[dict[str, bytes]]:
    """Return what one writer had in its ledger after each of its commits of one document."""
    edit = path.rpartition("/")[2].removesuffix(".json") if "/edits/" in path else ""
    run_id = base.rpartition("/")[2]
    held: dict[str, bytes] = {}
    out = []
    for revision, (tag, history, artifacts) in enumerate(steps, 1):
        document = {
            "format": EDIT_FORMAT if edit else RECORD_FORMAT,
            "revision": revision,
            "tags": {"t": tag},
            "artifacts": {
                name: {"at": f"git:{edit}" if edit else "git", "sha256": sha(data), "size": len(data)}
                for name, data in artifacts.items()
            },
        }
        if history is not None:
            document["hist"] = [{"at": "git", "points": 1, "sha256": sha(history), "size": len(history)}]
            held[path.removesuffix(".json") + ".hist"] = history
        for name, data in artifacts.items():
            held[layout.artifact_path(run_id, name, f"git:{edit}" if edit else "git")] = data
        held[path] = encode(document)
        out.append(dict(held))
    return out


STEPS = st.lists(
    st.tuples(
        st.sampled_from("xyz"),
        st.none() | st.sampled_from(CONTENTS),
        st.dictionaries(st.sampled_from(["m.json", "dir/w.bin"]), st.sampled_from(CONTENTS), max_size=2),
    ),
    min_size=1,
    max_size=3,
)


@st.composite
def three_ledgers(draw) -> list[dict[str, bytes]]:
    """Three clones that hold different prefixes of the same writers' documents; one run was written twice."""
    clones: list[dict[str, bytes]] = [{} for _ in range(3)]
    for run_id in (RUN, FOREIGN):
        base = layout.run_base(run_id)
        for path in (f"{base}.json", f"{base}/edits/000001-s1.json", f"{base}/edits/000001-s2.json"):
            written = states(path, base, draw(STEPS))
            for clone in clones:
                clone.update(([{}, *written])[draw(st.integers(0, len(written)))])
    base = layout.run_base(OTHER)
    for clone in clones:
        clone.update(states(f"{base}.json", base, draw(STEPS)[:1])[0])
    return clones


def check_files_fit(content: dict[str, bytes]) -> None:
    for path, data in content.items():
        if path == layout.FORMAT_PATH or layout.owner_of_file(path) is not None:
            continue
        document = decode(data, path)
        run_id = layout.run_of_path(path)
        for segment in document.get("hist", ()):
            assert sha(content[path.removesuffix(".json") + ".hist"]) == segment["sha256"], path
        for name, facts in document.get("artifacts", {}).items():
            assert sha(content[layout.artifact_path(run_id, name, facts["at"])]) == facts["sha256"], path


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sides=three_ledgers())
def test_merging_ledgers_is_commutative_associative_and_idempotent_and_loses_nothing(repo, sides):
    store = repo.workspace().store
    a, b, c = (ledger_of(repo, f"n{next(NUMBERS)}", side) for side in sides)
    ab = merge(store, a, b)
    assert ab == merge(store, b, a)
    assert merge(store, ab, a) == merge(store, b, ab) == merge(store, ab, ab) == ab
    all_ways = [merge(store, ab, c), merge(store, a, merge(store, b, c)), merge(store, merge(store, c, a), b)]
    contents = [files(store, commit) for commit in all_ways]
    assert contents[0] == contents[1] == contents[2]
    for side in sides:
        for path, data in side.items():
            assert path in contents[0]
            if layout.owner_of_file(path) is None:
                united = decode(contents[0][path], path)
                assert canonical(join(united, decode(data, path))) == canonical(united)
    check_files_fit(contents[0])


def test_the_smaller_history_file_of_a_later_revision_survives_a_merge_with_an_earlier_one(repo):
    """A checkpoint may move points to the artifact store, so that the later file is the shorter one."""
    base = layout.run_base(RUN)
    early, late = states(f"{base}.json", base, [("x", b"long history", {}), ("y", b"short", {})])
    a = ledger_of(repo, "a", early | {"only-a": b""})
    b = ledger_of(repo, "b", late | {"only-b": b""})
    store = repo.workspace().store
    merged = files(store, merge(store, a, b))
    assert merged[f"{base}.hist"] == b"short"
    assert {"only-a", "only-b"} <= merged.keys()


def test_an_artifact_that_was_logged_again_keeps_its_later_content_byte_for_byte(repo):
    base = layout.run_base(RUN)
    early, late = states(
        f"{base}.json",
        base,
        [("x", None, {"m.json": b'{"epoch": 10}'}), ("y", None, {"m.json": b'{"done":1}'})],
    )
    store = repo.workspace().store
    a, b = ledger_of(repo, "a", early | {"only-a": b""}), ledger_of(repo, "b", late)
    assert files(store, merge(store, a, b))[f"{base}/artifacts/m.json"] == b'{"done":1}'


def test_artifacts_of_a_long_manifest_follow_it(repo):
    base = layout.run_base(RUN)
    sides = []
    for revision, content in ((1, b"longer content"), (2, b"short")):
        manifest = encode({"big.txt": {"at": "git", "sha256": sha(content), "size": len(content)}})
        document = {"format": RECORD_FORMAT, "revision": revision, "artifact_manifest": sha(manifest)}
        sides.append(
            {
                f"{base}.json": encode(document),
                f"{base}/artifacts/big.txt": content,
                layout.manifest_path(sha(manifest)): manifest,
            }
        )
    store = repo.workspace().store
    a, b = ledger_of(repo, "a", sides[0]), ledger_of(repo, "b", sides[1])
    merged = merge(store, a, b)
    assert files(store, merged)[f"{base}/artifacts/big.txt"] == b"short"
    view = Ledger(store, identity=ADA).view(merged)
    assert view.run(RUN).artifacts["big.txt"].sha256 == sha(b"short")


def test_a_damaged_document_never_wins_over_a_sound_one(repo):
    path = layout.record_path(RUN)
    sound = encode({"format": RECORD_FORMAT, "revision": 1})
    store = repo.workspace().store
    a, b = ledger_of(repo, "a", {path: b"{broken" * 99}), ledger_of(repo, "b", {path: sound})
    assert files(store, merge(store, a, b))[path] == sound
    assert merge(store, a, b) == merge(store, b, a)


def test_one_history_inside_the_other_is_fast_forwarded(repo):
    store = repo.workspace().store
    old = ledger_of(repo, "a", {layout.record_path(RUN): encode({"format": RECORD_FORMAT})})
    new = ledger_of(repo, "a", {layout.record_path(OTHER): encode({"format": RECORD_FORMAT})})
    assert merge(store, old, new) == merge(store, new, old) == new


def test_a_merge_is_dated_as_its_latest_parent_whatever_the_clock_says(repo):
    store = repo.workspace().store
    a = ledger_of(repo, "a", {layout.record_path(RUN): encode({"format": RECORD_FORMAT})}, clock=5_000)
    b = ledger_of(repo, "b", {layout.record_path(OTHER): encode({"format": RECORD_FORMAT})}, clock=9_000)
    commit = parse_commit(store.read(merge(store, a, b))[1])
    assert (commit.commit_time, commit.author_time) == (9_000, 9_000)
    assert commit.parents == tuple(sorted((a, b)))


@pytest.mark.parametrize("swap", [False, True])
def test_a_ledger_of_a_newer_gml_is_not_merged(repo, swap):
    store = repo.workspace().store
    mine = ledger_of(repo, "a", {layout.record_path(RUN): encode({"format": RECORD_FORMAT})})
    newer = ledger_of(repo, "b", {layout.record_path(RUN): b"{}"})
    newer = ledger_of(repo, "b", {layout.FORMAT_PATH: b"gml-ledger 2\n"})
    with pytest.raises(FormatError, match="upgrade"):
        merge(store, *((newer, mine) if swap else (mine, newer)))
