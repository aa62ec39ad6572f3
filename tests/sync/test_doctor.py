"""Status towards remotes, packing, and the doctor: what is damaged, and repairing it from a remote."""

from __future__ import annotations

import json
import os
import subprocess
import time

import pytest
from test_push_pull import exchange, gml, log, names

from gml.sync.doctor import broken_objects, examine, repair
from gml.sync.pull import pull
from gml.sync.standing import standing
from gml.sync.upkeep import collect
from gml.tracking.reader import Reader

LEDGER = "refs/gml/ledger"


@pytest.fixture
def pair(make_repo, make_bare):
    """Return two clones of one bare remote."""
    bare = make_bare()
    made = [make_repo("ada"), make_repo("bob")]
    for repo in made:
        repo.git("remote", "add", "origin", str(bare))
    return made


def test_status_says_what_is_not_pushed_and_not_taken_in(pair):
    ada, bob = pair
    log(ada, "a1")
    assert "origin: 1 runs to push; never fetched from" in gml(ada, "status")
    exchange(ada)
    assert "has the same runs" in gml(ada, "status")
    exchange(bob, pull)
    log(bob, "b1")
    exchange(bob)
    log(ada, "a2")
    ada.git("fetch", "-q", "origin", f"+{LEDGER}:refs/gml/remotes/origin/ledger")
    told = json.loads(gml(ada, "status", "--json"))["remote"]
    ids = {run.name: run.run_id for repo in pair for run in Reader(repo.workspace()).runs()}
    assert told["ahead"] != []
    assert ids["a2"] in told["ahead"]
    assert ids["b1"] in told["behind"]
    exchange(ada, pull)
    now = standing(ada.workspace())
    assert (now.ahead, now.behind) == ([ids["a2"]], [])


def test_a_repository_without_remote_has_no_standing(repo):
    assert standing(repo.workspace()) is None
    assert json.loads(gml(repo, "status", "--json"))["remote"] is None


def test_packing_makes_it_small_and_loses_nothing(repo):
    log(repo, *(f"run-{number}" for number in range(12)))
    loose = repo.git("hash-object", "-w", "--stdin", data="nobody names this")
    packed = collect(repo.workspace())
    assert packed.after < packed.before
    assert packed.runs == 12
    assert len(names(repo)) == 12
    assert repo.git("cat-file", "-p", loose) == "nobody names this"
    assert "12, " in gml(repo, "gc")


def run_blob(repo, name: str) -> tuple[str, str]:
    """Return id and object id of the record of a run."""
    run = next(run for run in Reader(repo.workspace()).runs() if run.name == name)
    return run.run_id, repo.workspace().ledger.view().entry(run.run_id).record


def damage(repo, oid: str, how: str) -> None:
    """Break an object where it is: make it loose first, or break the one pack that has everything."""
    git_dir = repo.path / ".git"
    if how == "pack":
        repo.git("repack", "-adq")
        (pack,) = (git_dir / "objects/pack").glob("*.pack")
        listed = repo.git("verify-pack", "-v", str(pack.with_suffix(".idx"))).splitlines()
        offset = next(int(line.split()[4]) for line in listed if line.startswith(oid))
        pack.chmod(0o644)
        data = bytearray(pack.read_bytes())
        data[offset + 12 : offset + 20] = b"\xff" * 8
        pack.write_bytes(data)
        return
    packs = git_dir / "objects/pack"
    for pack in packs.glob("*.pack"):
        moved = repo.path.parent / pack.name
        pack.rename(moved)
        for other in packs.glob(f"{pack.stem}.*"):
            other.unlink()
        with moved.open("rb") as file:
            subprocess.run(["git", "-C", str(repo.path), "unpack-objects", "-q"], stdin=file, check=True)
        moved.unlink()
    path = git_dir / "objects" / oid[:2] / oid[2:]
    path.chmod(0o644)
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(b"x" * 40)


@pytest.mark.parametrize("how", ["gone", "loose", "pack"])
def test_a_broken_record_is_named_and_comes_back_from_the_remote(pair, how):
    ada, _ = pair
    log(ada, "one", "two", "three")
    exchange(ada)
    run_id, oid = run_blob(ada, "two")
    damage(ada, oid, how)
    broken = set(broken_objects(ada.workspace()))
    # In a pack others may be stored as differences from it, and are then broken with it.
    assert broken == {oid} if how != "pack" else oid in broken
    assert run_id in gml(ada, "doctor", code=9)
    said = gml(ada, "doctor", "--repair")
    assert "everything is back" in said
    assert names(ada) == ["one", "three", "two"]
    assert "no object is broken" in gml(ada, "doctor", "--repair")
    assert json.loads(gml(ada, "doctor", "--json"))["sound"]
    if how != "gone":
        assert list((ada.path / ".git/gml/quarantine").iterdir())


def test_what_is_on_no_remote_is_named_and_the_rest_stays_readable(pair):
    ada, _ = pair
    log(ada, "one", "two")
    run_id, oid = run_blob(ada, "two")
    damage(ada, oid, "loose")
    said = gml(ada, "doctor", "--repair", code=9)
    assert f"run {run_id}" in said
    assert "on no remote either" in said
    assert names(ada) == ["one"]
    ada.damaged = True


def test_a_repair_that_was_killed_after_setting_aside_goes_on(pair, monkeypatch):
    from gml.git import salvage

    ada, _ = pair
    log(ada, "one", "two")
    exchange(ada)
    damage(ada, run_blob(ada, "two")[1], "pack")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(salvage, "unpack", killed)
        with pytest.raises(KeyboardInterrupt):
            list(repair(ada.workspace()))
    assert broken_objects(ada.workspace())
    assert [f.level for f in repair(ada.workspace())][-1] == "ok"
    assert names(ada) == ["one", "two"]


def said(repo, **options) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for finding in examine(repo.workspace(), **options):
        found.setdefault(finding.subject, []).append(f"{finding.level} {finding.text}")
    return found


def test_the_doctor_looks_at_remotes_locks_clock_and_hooks(pair):
    ada, bob = pair
    log(ada, "a1")
    assert "no ledger seen yet" in said(ada)["remote origin"][0]
    assert "has no ledger yet" in said(ada, online=True)["remote origin"][0]
    exchange(bob)
    exchange(ada)
    log(ada, "a2")
    found = said(ada, online=True)
    assert found["remote origin"][0].startswith("ok ")
    assert found["sharing"] == ["note 1 runs to push to origin, 0 to take in"]
    lock = ada.path / ".git/refs/gml/ledger.lock"
    lock.touch()
    os.utime(lock, (time.time() - 7200,) * 2)
    hook = ada.path / ".git/hooks/pre-push"
    hook.write_text("#!/bin/sh\n")
    ada.git("update-ref", "refs/gml/conflicts/origin/ledger-1", LEDGER)
    found = said(ada)
    assert "120 minutes old" in found["lock"][0]
    assert "not executable" in found["hook"][0]
    assert "conflict" in found
    lock.unlink()
    ada.git("remote", "set-url", "origin", "/nowhere")
    assert found["clock"] == ["ok not behind the ledger"]
    assert "no repository" in said(ada, online=True)["remote origin"][0]


def test_a_ledger_from_the_future_is_a_note_and_order_still_holds(pair):
    ada, bob = pair
    ahead = int(time.time()) + 10 * 365 * 86_400
    workspace = ada.workspace()
    workspace.ledger._clock = lambda: ahead
    from gml.ledger.ledger import Batch

    workspace.ledger.append(lambda _: Batch({"experiments/1.json": b"{}"}, "later\n"))
    log(ada, "a1")
    assert "36" in said(ada)["clock"][0]
    exchange(ada)
    log(bob, "b1")
    exchange(bob)
    exchange(ada, pull)
    log(ada, "a2")
    assert next(run.name for run in Reader(ada.workspace()).runs()) == "a2"
    assert sorted(names(ada)) == ["a1", "a2", "b1"]
