"""Logging to a remote without a clone, without git on the PATH, and pushes that follow each other."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from gml.domain.errors import RemoteError
from gml.git.discover import open_store
from gml.ledger.view import LedgerView
from gml.sync import soon
from gml.sync.private import is_url, open_private
from gml.sync.pull import pull
from gml.sync.push import push
from gml.sync.remotes import open_remote
from gml.sync.soon import push_soon

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = "import gml\ngml.set_experiment('churn')\ngml.log_metric('auc', 0.9)\ngml.log_text('hello', 'notes.txt')\n"


@pytest.fixture
def bare(make_bare):
    return make_bare()


def names(bare) -> list[str]:
    store = open_store(bare, environ=os.environ)
    view = LedgerView(store, store.ref("refs/gml/ledger"))
    found = sorted(run.name for run in view.runs())
    store.close()
    return found


def job(where: Path, url: str, name: str, *options: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run `gml log --push` in an empty directory, as a container does."""
    where.mkdir(exist_ok=True)
    (where / "train.py").write_text(SCRIPT)
    return subprocess.run(
        [sys.executable, "-m", "gml", "log", "--push", "-x", "churn", "-n", name, *options, "--", sys.executable, "train.py"],
        cwd=where, env={**os.environ, "GML_REPO": url, "HOME": str(where), **environ},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture
def without_git(tmp_path):
    """A PATH with nothing on it but what a job needs: no git."""
    place = tmp_path / "bin"
    place.mkdir()
    for name in ("sh", "env", "ssh"):
        found = subprocess.run(["which", name], capture_output=True, text=True, check=False).stdout.strip()
        if found:
            (place / name).symlink_to(found)
    return str(place)


def let_time_pass(home) -> None:
    """Date the latest push back, so that the next one does not wait its ten seconds."""
    (mark,) = home.rglob("push/*.last")
    os.utime(mark, (0, 0))


@pytest.mark.parametrize("filters", [True, False], ids=["with filter", "without"])
def test_a_job_without_git_and_without_a_clone_pushes_its_run(
    http, server_root, bare, make_repo, tmp_path, without_git, filters
):
    subprocess.run(
        ["git", "-C", str(bare), "config", "uploadpack.allowFilter", str(filters).lower()], check=True
    )
    other = make_repo("other")
    other.git("remote", "add", "origin", str(bare))
    other.python(
        "import gml\ngml.set_experiment('churn')\nwith gml.start_run(run_name='before'): gml.log_text('x' * 9000, 'big.txt')"
    )
    push(other.workspace(), open_remote(other.workspace()))
    url = http.url(bare.relative_to(server_root))
    for name in ("one", "two"):
        done = job(tmp_path / "box", url, name, PATH=without_git, **http.environ)
        assert done.returncode == 0, done.stderr
        assert "pushed 1 run" in done.stderr, done.stderr
        let_time_pass(tmp_path / "box")
        assert http.environ["GML_TOKEN"] not in done.stderr
    assert names(bare) == ["before", "one", "two"]
    pull(other.workspace(), open_remote(other.workspace()))
    assert other.git("ls-tree", "-r", "--name-only", "refs/gml/ledger", "experiments/").count("\n") == 0
    assert other.git("rev-parse", "refs/gml/ledger") == subprocess.run(
        ["git", "-C", str(bare), "rev-parse", "refs/gml/ledger"], capture_output=True, text=True, check=True
    ).stdout.strip()  # fmt: skip


def test_a_job_in_inbox_mode_fetches_nothing(http, server_root, bare, tmp_path, without_git):
    url = http.url(bare.relative_to(server_root))
    done = job(tmp_path / "box", url, "one", PATH=without_git, GML_SYNC_MODE="inbox", **http.environ)
    assert "waits in this clone's inbox" in done.stderr
    refs = subprocess.run(
        ["git", "-C", str(bare), "for-each-ref", "--format=%(refname)"], capture_output=True, text=True, check=True
    ).stdout.split()  # fmt: skip
    assert len(refs) == 1
    assert refs[0].startswith("refs/gml/inbox/")


def test_the_same_with_a_git_command(http, server_root, bare, tmp_path):
    subprocess.run(["git", "-C", str(bare), "config", "uploadpack.allowFilter", "true"], check=True)
    url = http.url(bare.relative_to(server_root))
    for name in ("one", "two"):
        done = job(tmp_path / name, url, name, **http.environ)
        assert "pushed 1 run" in done.stderr, done.stderr
    assert names(bare) == ["one", "two"]


def test_a_remote_that_is_down_costs_the_push_and_nothing_else(tmp_path, without_git):
    import servers

    done = job(tmp_path / "box", f"http://127.0.0.1:{servers.free_port()}/x.git", "one", PATH=without_git)
    assert done.returncode == 0
    assert "not pushed" in done.stderr
    assert "cannot be reached" in done.stderr
    (kept,) = (tmp_path / "box/.cache/gml/remotes").glob("*.git")
    assert str(kept) in done.stderr
    assert names(kept) == ["one"]


def test_the_private_repository_is_made_once_and_where_it_can_be(tmp_path):
    url = "https://ada:secret@host/team/repo.git"
    first = open_private(url, {**os.environ, "GML_CACHE_DIR": str(tmp_path / "a")})
    again = open_private("https://host/team/repo.git", {**os.environ, "GML_CACHE_DIR": str(tmp_path / "a")})
    assert first.store.location.common_dir == again.store.location.common_dir
    assert first.store.remotes() == {"origin": "https://host/team/repo.git"}
    assert (first.store.location.common_dir / "config").stat().st_mode & 0o077 == 0
    elsewhere = open_private(url, {**os.environ, "HOME": "/proc/nowhere", "XDG_CACHE_HOME": ""})
    assert elsewhere.store.location.common_dir.is_dir()


@pytest.mark.parametrize(
    ("place", "remote"),
    [
        ("https://host/x.git", True), ("http://127.0.0.1:80/x", True), ("ssh://git@host/x", True), ("git@host:team/x.git", True),
        ("/srv/x", False), ("../x", False), ("C:\\x", False), ("gml:///x", False), (None, False),
    ],
)  # fmt: skip
def test_a_url_is_told_from_a_path(place, remote):
    assert is_url(place) is remote


# --- pushes that follow each other ------------------------------------------------------------


@pytest.fixture
def shared(repo, bare):
    repo.git("remote", "add", "origin", str(bare))
    return repo


def log(repo, name: str) -> None:
    repo.python(f"import gml\nwith gml.start_run(run_name={name!r}): pass", GML_CODE="none")


def test_a_second_push_waits_and_carries_what_came_meanwhile(shared, bare):
    waits = []

    def waiting(seconds: float) -> None:
        waits.append(seconds)
        log(shared, "meanwhile")

    log(shared, "one")
    assert push_soon(shared.workspace(), pause=waiting).pushed.runs == 1
    assert waits == []
    log(shared, "two")
    assert push_soon(shared.workspace(), pause=waiting).pushed.runs == 2
    assert len(waits) == 1
    assert 0 < waits[0] <= soon.INTERVAL
    assert push_soon(shared.workspace(), pause=waiting) is None
    assert names(bare) == ["meanwhile", "one", "two"]


def test_many_processes_that_end_together_make_few_pushes(shared, bare, monkeypatch):
    monkeypatch.setattr(soon, "INTERVAL", 1.0)
    log(shared, "first")
    push_soon(shared.workspace())
    for number in range(5):
        log(shared, f"run-{number}")
    reports = []
    threads = [
        threading.Thread(target=lambda: reports.append(push_soon(shared.workspace()))) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [report.pushed.runs for report in reports if report is not None] == [5]
    assert len(names(bare)) == 6


def test_a_clock_that_jumped_costs_one_interval(shared):
    mark = shared.path / ".git/gml/push/origin.last"
    mark.parent.mkdir(parents=True)
    mark.touch()
    os.utime(mark, (4_000_000_000, 4_000_000_000))
    waits = []
    log(shared, "one")
    push_soon(shared.workspace(), pause=waits.append)
    assert waits == [soon.INTERVAL]


def test_a_push_that_fails_leaves_everything_here(shared):
    log(shared, "one")
    shared.git("remote", "set-url", "origin", "/nowhere")
    with pytest.raises(RemoteError):
        push_soon(shared.workspace())
