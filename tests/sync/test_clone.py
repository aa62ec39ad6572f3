"""`gml clone`: whole, only runs, and thin ones that still push."""

from __future__ import annotations

import json
import os
import subprocess
import time

import pytest
from test_push_pull import gml, log, names, value

from gml.domain.errors import RemoteError, UsageError
from gml.git.discover import open_store
from gml.sync.clone import clone, directory_of
from gml.sync.pull import pull
from gml.sync.push import push
from gml.sync.remotes import open_remote
from gml.sync.thin import Thin, read_thin
from gml.tracking.reader import Reader

LEDGER = "refs/gml/ledger"
DAY = 86_400_000
FILL = """
import gml, sys, time
from gml.domain import ids
real = ids.new_run_id
import gml.tracking.start as start
gml.set_experiment("churn")
for name, days in (("old", 200), ("older", 100), ("new", 1)):
    start.new_run_id = lambda now, entropy, *, after=None, d=days: real(int(time.time() * 1000) - d * 86_400_000, entropy)
    with gml.start_run(run_name=name):
        for step in range(300):
            gml.log_metric("loss", 1 / (step + 1), step=step)
        gml.log_text("hello " + name, "notes.txt")
"""


@pytest.fixture
def bare(make_bare):
    made = make_bare()
    subprocess.run(["git", "-C", str(made), "config", "uploadpack.allowFilter", "true"], check=True)
    return made


@pytest.fixture
def origin(make_repo, bare):
    """Return a clone whose three runs are of different age, and pushed."""
    repo = make_repo("origin")
    repo.git("remote", "add", "origin", str(bare))
    repo.git("push", "-q", "origin", "main")
    repo.python(FILL)
    assert len(names(repo)) == 3
    push(repo.workspace(), open_remote(repo.workspace()))
    return repo


@pytest.fixture
def into(tmp_path, make_repo):
    """Return a function that clones with `gml clone` and returns the new repository."""
    made = []
    kind = type(make_repo("unused", commit=False))

    def run(url, *options: str, code: int = 0):
        target = tmp_path / f"clone-{len(made)}"
        done = subprocess.run(
            ["gml", "clone", str(url), str(target), *options],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        made.append(target)
        return kind(target) if not code else done.stderr

    return run


def exchange(repo, which=push):
    workspace = repo.workspace()
    return which(workspace, open_remote(workspace))


def test_a_whole_clone_has_code_and_runs_and_goes_on_by_plain_git(origin, bare, into):
    copy = into(bare)
    assert names(copy) == names(origin)
    assert (copy.path / "train.py").exists()
    log(copy, "mine")
    copy.git("push", "-q")
    assert value(bare) == copy.git("rev-parse", LEDGER)
    copy.fsck()


def test_only_runs_brings_no_code_and_no_history_and_pushes(origin, bare, into):
    copy = into(bare, "--runs-only")
    assert names(copy) == names(origin)
    assert copy.git("rev-list", "--count", LEDGER) == "1"
    assert copy.git("for-each-ref", "refs/remotes", "refs/heads", "refs/gml/code") == ""
    log(copy, "mine")
    assert exchange(copy).pushed.runs == 1
    exchange(origin, pull)
    assert "mine" in names(origin)
    log(origin, "theirs")
    exchange(origin)
    log(copy, "mine too")
    exchange(copy)
    exchange(origin, pull)
    assert sorted(names(origin)) == sorted(names(copy))
    assert origin.git("rev-list", "--count", LEDGER) > "5"
    copy.fsck()


@pytest.mark.parametrize("filters", [True, False], ids=["with filter", "without"])
def test_a_thin_clone_has_only_what_was_asked_for_and_pushes_without_dropping_the_rest(
    origin, bare, into, filters
):
    subprocess.run(
        ["git", "-C", str(bare), "config", "uploadpack.allowFilter", str(filters).lower()], check=True
    )
    copy = into(bare, "--since", "150d", "--no-curves")
    assert names(copy) == ["new", "older"]
    paths = copy.git("ls-tree", "-r", "--name-only", LEDGER)
    assert ".hist" not in paths
    reader = Reader(copy.workspace())
    assert reader.damaged == []
    run = next(run for run in reader.runs() if run.name == "new")
    assert run.metrics["loss"].last == pytest.approx(1 / 300)
    assert len(Reader(copy.workspace()).experiments()) == 2
    log(copy, "mine")
    gml(copy, "tag", run.run_id, "seen=yes")
    log(origin, "theirs")
    exchange(origin)
    assert exchange(copy).pushed.runs == 2
    exchange(origin, pull)
    assert names(origin) == ["mine", "new", "old", "older", "theirs"]
    whole = Reader(origin.workspace())
    assert whole.run(run.run_id).tags["seen"] == "yes"
    assert all(
        len(whole.history(r, "loss")[0]) == (300 if r.name in {"old", "older", "new"} else 1)
        for r in whole.runs()
    )
    assert exchange(copy, pull).pulled.runs == 1
    assert names(copy) == ["mine", "new", "older", "theirs"]
    assert exchange(copy).pushed.runs == 0
    assert value(bare) == origin.git("rev-parse", LEDGER)


def test_a_clone_over_http_without_git(origin, bare, http, server_root, tmp_path, monkeypatch):
    for key, text in http.environ.items():
        monkeypatch.setenv(key, text)
    url = http.url(bare.relative_to(server_root))
    for name, thin in (("a", None), ("b", Thin(int(time.time() * 1000) - 50 * DAY))):
        workspace, report = clone(url, tmp_path / name, {**os.environ, "PATH": ""}, runs_only=True, thin=thin)
        assert sorted(run.name for run in Reader(workspace).runs()) == (
            ["new"] if thin else ["new", "old", "older"]
        )
        assert report.pulled.runs == (1 if thin else 3)
        done = subprocess.run(
            ["git", "-C", str(tmp_path / name), "fsck", "--strict"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


def test_clones_that_fail_leave_nothing_behind(bare, into, tmp_path):
    assert "there is no repository" in into(tmp_path / "nowhere.git", code=12)
    assert "there is no repository" in into(tmp_path / "nowhere.git", "--runs-only", code=12)
    assert "is empty" in into(bare, "--runs-only", code=12)
    assert not (tmp_path / "clone-0").exists()
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        clone(str(bare), full, os.environ)
    assert (full / "mine.txt").read_text() == "mine"
    here = tmp_path / "here"
    here.mkdir()
    with pytest.raises(RemoteError):
        clone(str(tmp_path / "nowhere"), here, os.environ, runs_only=True)
    assert list(here.iterdir()) == []
    with pytest.raises(UsageError):
        directory_of("https://")


def test_times_are_checked(into, bare):
    assert "--since" in into(bare, "--since", "soon", code=2)


def test_a_remote_that_takes_only_branches_is_noticed(origin, bare, into):
    subprocess.run(["git", "-C", str(bare), "update-ref", "refs/heads/gml/ledger", LEDGER], check=True)
    subprocess.run(["git", "-C", str(bare), "update-ref", "-d", LEDGER], check=True)
    copy = into(bare, "--runs-only")
    assert copy.git("config", "gml.remote.origin.namespace") == "heads/gml"
    assert names(copy) == names(origin)


def test_json(origin, bare, tmp_path):
    done = subprocess.run(
        ["gml", "clone", str(bare), "x", "--runs-only", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout)
    assert told["pulled"]["runs"] == 3
    assert told["directory"] == str(tmp_path / "x")
    assert read_thin(open_store(tmp_path / "x", environ=os.environ)) is None
