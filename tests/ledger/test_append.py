"""Appending to the ledger: one commit a batch, by compare-and-swap under a lock, never back in time."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gml import fs
from gml.domain.errors import CorruptError, FormatError, NotFoundError, RefMovedError
from gml.domain.ids import new_run_id
from gml.domain.run import RECORD_FORMAT
from gml.git.port import Identity
from gml.ledger import layout
from gml.ledger.codec import decode, encode
from gml.ledger.ledger import Batch, Ledger

ADA = Identity("Ada", "ada@example.org")
IDS = [f"01983c{n:02x}2ab470008000000000000000" for n in range(8)]
LEDGER = "refs/gml/ledger"


def batch(run_id: str, **more: object) -> Batch:
    document = {"format": RECORD_FORMAT, "run_id": run_id, **more}
    return Batch({layout.record_path(run_id): encode(document)}, f"run {run_id}\n\nbody\n")


def test_commits_never_go_back_behind_their_parents(repo):
    for number, now in enumerate((5_000, 9_000, 10, 8_999, 9_001)):
        ledger = Ledger(repo.workspace().store, identity=ADA, clock=lambda now=now: now)
        ledger.append(lambda _, n=number: batch(IDS[n]))
    dates = repo.git("log", "--reverse", "--format=%ct %at", LEDGER).splitlines()
    assert dates == ["5000 5000", "9000 9000", "9000 9000", "9000 9000", "9001 9001"]


def test_code_that_was_committed_in_the_future_is_kept_with_its_date(repo):
    ledger = Ledger(repo.workspace().store, identity=ADA, clock=lambda: 1_000)
    head = repo.git("rev-parse", "HEAD")
    assert ledger.keep_code(head)
    assert not ledger.keep_code(head)
    assert repo.git("log", "-1", "--format=%ct", "refs/gml/code") == repo.git(
        "log", "-1", "--format=%ct", "HEAD"
    )
    repo.git("merge-base", "--is-ancestor", head, "refs/gml/code")


def test_an_empty_batch_and_one_that_changes_nothing_commit_nothing(repo):
    ledger = repo.workspace().ledger
    assert ledger.append(lambda _: Batch()) is None
    assert ledger.tip() is None
    tip = ledger.append(lambda _: batch(IDS[0]))
    assert ledger.append(lambda _: batch(IDS[0])) == tip == ledger.tip()


def test_a_batch_is_one_commit_with_author_and_message(repo):
    workspace = repo.workspace(GIT_AUTHOR_NAME="Bo", GIT_AUTHOR_EMAIL="bo@example.org")
    workspace.ledger.append(
        lambda _: Batch(batch(IDS[0]).changes | batch(IDS[1]).changes, "2 runs\n\nboth\n")
    )
    assert repo.git("log", "--format=%an %ae|%s|%b", LEDGER) == "Bo bo@example.org|2 runs|both\n".rstrip()
    names = repo.git("ls-tree", "-r", "--name-only", LEDGER).splitlines()
    assert names == sorted([layout.FORMAT_PATH, *map(layout.record_path, IDS[:2])])


def test_a_writer_on_another_machine_is_noticed_and_both_stay(repo):
    here, there = repo.workspace().ledger, repo.workspace()
    here.append(lambda _: batch(IDS[0]))
    seen = []

    def build(view):
        seen.append(view.commit)
        if len(seen) == 1:
            # Not under this machine's lock: like a push, or a shared disk without locks.
            other = Ledger(there.store, identity=ADA)
            other._lock = repo.path / "another-lock"
            other.append(lambda _: batch(IDS[1]))
        return batch(IDS[2])

    here.append(build)
    assert len(seen) == 2
    assert [e.run_id for e in here.view().entries()] == [IDS[2], IDS[1], IDS[0]]
    assert repo.git("rev-list", "--count", LEDGER) == "3"


def test_a_ref_that_never_stands_still_is_given_up_and_nothing_is_written(repo, monkeypatch):
    from gml.domain.errors import StorageError
    from gml.ledger import ledger as module

    workspace = repo.workspace()
    monkeypatch.setattr(module, "ATTEMPTS", 3)

    def moved(*args, **kwargs):
        raise RefMovedError("moved")

    monkeypatch.setattr(workspace.store, "update_ref", moved)
    with pytest.raises(StorageError, match="keeps moving: 3 attempts"):
        workspace.ledger.append(lambda _: batch(IDS[0]))
    assert workspace.ledger.tip() is None


def test_threads_append_one_after_the_other(repo):
    workspace = repo.workspace()
    ids = [new_run_id(1_000 + n, bytes([n] * 10)) for n in range(24)]

    def work(part: list[str]) -> None:
        for run_id in part:
            workspace.ledger.append(lambda _, run_id=run_id: batch(run_id))

    threads = [threading.Thread(target=work, args=(ids[n::4],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [e.run_id for e in workspace.ledger.view().entries()] == ids[::-1]
    assert repo.git("rev-list", "--count", LEDGER) == "24"


# --- locks --------------------------------------------------------------------------------------


def test_a_ref_lock_of_a_killed_writer_is_removed(repo, monkeypatch):
    monkeypatch.setattr(fs, "STALE_AFTER", 0.05)
    ledger = repo.workspace().ledger
    ledger.append(lambda _: batch(IDS[0]))
    lock = repo.path / ".git" / f"{LEDGER}.lock"
    lock.write_text("")
    ledger.append(lambda _: batch(IDS[1]))
    assert not lock.exists()
    assert len(list(ledger.view().entries())) == 2


def test_a_lock_that_somebody_is_at_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(fs, "STALE_AFTER", 60.0)
    lock = tmp_path / "ref.lock"
    assert not fs.remove_stale(lock)
    lock.write_text("")
    looked = threading.Event()
    identity = fs._identity

    def watched(path):
        found = identity(path)
        looked.set()
        return found

    monkeypatch.setattr(fs, "_identity", watched)

    def owner() -> None:
        looked.wait()
        lock.write_text("its new content")

    thread = threading.Thread(target=owner)
    thread.start()
    assert not fs.remove_stale(lock)
    thread.join()
    assert lock.exists()


# --- documents and views ------------------------------------------------------------------------

TEXT = st.text(st.characters(codec="utf-8"), max_size=5)
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(-1e300, 1e300) | TEXT
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(TEXT, VALUES, max_size=5))
def test_documents_come_back_as_they_were(document):
    data = encode(document)
    assert decode(data, "x") == document
    assert encode(decode(data, "x")) == data


@given(st.dictionaries(TEXT, st.dictionaries(TEXT, SCALARS, max_size=4), max_size=4), st.randoms())
def test_equal_documents_have_equal_bytes_with_a_line_for_each_entry(document, random):
    shuffled = [(key, random.sample(list(value.items()), len(value))) for key, value in document.items()]
    random.shuffle(shuffled)
    data = encode(document)
    assert encode({key: dict(items) for key, items in shuffled}) == data
    lines = 2 + sum(1 + (len(v) + 1 if v else 0) for v in document.values()) + (not document)
    assert data.count(b"\n") == lines


@given(st.binary(max_size=30))
def test_bytes_that_are_no_document_are_refused(data):
    try:
        found = decode(data, "here")
    except CorruptError as error:
        found = None
        said = str(error)
    assert isinstance(found, dict) or "here" in said


@pytest.mark.parametrize(
    ("stated", "error"),
    [("gml-run 2", FormatError), ("gml-edit 1", CorruptError), ("gml-run", CorruptError), ("", CorruptError)],
)
def test_documents_of_another_kind_or_a_newer_version_are_refused(stated, error):
    with pytest.raises(error, match="here"):
        decode(encode({"format": stated}), "here", "gml-run", 1)


def test_a_view_is_the_ledger_of_one_moment(repo):
    ledger = repo.workspace().ledger
    assert ledger.view().newest_id() is None
    assert list(ledger.view().runs()) == []
    first = ledger.append(lambda _: batch(IDS[0], name="first"))
    before = ledger.view()
    ledger.append(lambda _: batch(IDS[0], name="second", revision=2))
    ledger.append(lambda _: batch("imported-run"))
    assert before.run(IDS[0]).name == "first"
    assert ledger.view(first).run(IDS[0]).name == "first"
    now = ledger.view()
    assert now.run(IDS[0]).name == "second"
    assert now.newest_id() == IDS[0]
    assert [run.run_id for run in now.runs()] == [IDS[0], "imported-run"]
    assert now.match("imported-run") == ["imported-run"]
    assert now.match(IDS[0][:9]) == now.match(IDS[0][-6:]) == [IDS[0]]
    assert now.run(IDS[5]) is None
    with pytest.raises(NotFoundError):
        ledger.view("0" * 40)


@given(
    st.sampled_from([*IDS, "imported-run", "b3f1c0ffee0040008000000000000000"]),
    st.sampled_from(["git", "git:7-s"]),
)
def test_a_path_tells_whose_it_is(run_id, at):
    base = layout.run_base(run_id)
    document = f"{base}.json" if at == "git" else f"{base}/edits/7-s.json"
    for name in ("a.txt", "edits/x.json", "a/b.hist", "x.files/y"):
        path = layout.artifact_path(run_id, name, at)
        assert layout.owner_of_file(path) == (document, name)
        assert layout.run_of_path(path) == run_id
    history = document.removesuffix(".json") + ".hist"
    assert layout.owner_of_file(history) == (document, None)
    for path in (document, layout.FORMAT_PATH, "experiments/0.json", "experiments/0/edits/1-s.json"):
        assert layout.owner_of_file(path) is None
