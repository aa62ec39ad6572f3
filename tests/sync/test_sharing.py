"""Repositories that several users, work trees and file systems share, and remotes that cannot be written."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from inside import gml
from test_push_pull import exchange, log, names, value

from gml import fs
from gml.sync.pull import pull

LEDGER = "refs/gml/ledger"
GROUP = 54_321
RUN = """
import gml, sys
with gml.start_run(run_name=sys.argv[1]):
    gml.log_metric("loss", 1.0)
    gml.log_text("x" * 100_000, "big.txt")
"""


@pytest.fixture
def place():
    """Return a directory that every user of the machine may enter."""
    if os.geteuid() != 0:
        pytest.skip("only root can be two users")
    if shutil.which("setpriv") is None:
        pytest.skip("no setpriv on this machine")
    path = Path(tempfile.mkdtemp(prefix="gml-shared-"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


def as_user(uid: int, top: Path, *command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    home = top / f"home-{uid}"
    if not home.exists():
        home.mkdir()
        os.chown(home, uid, GROUP)
    environ = {
        "PATH": os.environ["PATH"], "HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1", "GML_CODE": "none",
        "EMAIL": f"user{uid}@example.org", "TMPDIR": str(home),
    }  # fmt: skip
    change = ("setpriv", f"--reuid={uid}", f"--regid={GROUP}", "--clear-groups", "--")
    return subprocess.run(
        [*change, *command], cwd=cwd or home, env=environ, umask=0o007, capture_output=True, text=True, check=False
    )  # fmt: skip


def test_two_users_of_a_group_in_one_repository(place):
    python = (sys.executable, "-c")
    if as_user(12_345, place, *python, "import gml").returncode:
        pytest.skip("other users may not run this Python")
    repo = place / "repo"
    repo.mkdir()
    os.chown(repo, 12_345, GROUP)
    repo.chmod(0o2770)
    made = as_user(12_345, place, "git", "init", "-q", "--shared=group", str(repo), cwd=place)
    assert made.returncode == 0, made.stderr
    gml = (sys.executable, "-m", "gml", "-C", str(repo))
    first = as_user(12_345, place, *python, RUN, "one", cwd=repo)
    assert (first.returncode, first.stderr) == (0, "")
    # git does not trust what belongs to somebody else; the line says what to do about it
    refused = as_user(12_346, place, *gml, "ls")
    assert refused.returncode != 0
    assert f"git config --global --add safe.directory {repo}" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    as_user(12_346, place, "git", "config", "--global", "--add", "safe.directory", str(repo))
    second = as_user(12_346, place, *python, RUN, "two", cwd=repo)
    assert (second.returncode, second.stderr) == (0, "")
    for uid, other in ((12_345, "two"), (12_346, "one")):
        for command in (("tag", other, f"by={uid}"), ("gc",), ("recover",)):
            done = as_user(uid, place, *gml, *command)
            assert (done.returncode, done.stderr) == (0, ""), (uid, command)
    listed = as_user(12_345, place, *gml, "ls")
    assert [line.split("\t")[1] for line in listed.stdout.splitlines()[1:]] == ["two", "one"]
    whole = as_user(12_346, place, "git", "-C", str(repo), "fsck", "--strict")
    assert whole.returncode == 0, whole.stderr


def test_a_lock_where_flock_is_not_to_be_had(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    path = tmp_path / "lock"
    with fs.locked(path):
        one = os.open(path, os.O_RDWR)
        try:
            # Another open file of this process, as another thread has it, and another process.
            assert not fs.try_lock(one)
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    two = os.open(path, os.O_RDWR)
                    code = 0 if not fs.try_lock(two) else 2
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        finally:
            os.close(one)
    again = os.open(path, os.O_RDWR)
    assert fs.try_lock(again)
    fs.unlock(again)
    os.close(again)


def test_work_trees_and_submodules_push_what_is_theirs(make_repo, make_bare):
    bare = make_bare()
    repo = make_repo("repo")
    repo.git("remote", "add", "origin", str(bare))
    tree = repo.path.parent / "tree"
    repo.git("worktree", "add", "-q", str(tree))
    log(repo, "here")
    other = type(repo)(tree)
    log(other, "there")
    assert "2 runs" in gml(other, "push")
    assert value(bare) == repo.git("rev-parse", LEDGER)
    outer = make_repo("outer")
    outer.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(repo.path), "inner")
    inner = type(repo)(outer.path / "inner")
    inner.git("remote", "set-url", "origin", str(bare))
    assert "2 runs" in gml(inner, "pull")
    log(inner, "inside")
    assert "1 run" in gml(inner, "push")
    exchange(repo, pull)
    assert names(repo) == ["here", "inside", "there"]
    assert outer.git("for-each-ref", "refs/gml") == ""


def test_a_shallow_clone_and_one_without_files_share_runs(make_repo, make_bare):
    bare = make_bare()
    subprocess.run(["git", "-C", str(bare), "config", "uploadpack.allowFilter", "true"], check=True)
    repo = make_repo("repo")
    repo.git("remote", "add", "origin", str(bare))
    log(repo, "one", "two")
    repo.git("push", "-q", "origin", "HEAD:refs/heads/main")
    exchange(repo)
    for name, option in (("shallow", "--depth=1"), ("partial", "--filter=blob:none")):
        path = repo.path.parent / name
        subprocess.run(["git", "clone", "-q", option, f"file://{bare}", str(path)], check=True)
        copy = type(repo)(path)
        assert "runs" in gml(copy, "pull")
        log(copy, f"of-{name}")
        assert "1 run" in gml(copy, "push")
        assert {"one", "two", f"of-{name}"} <= set(names(copy))
    assert "pulled  2 runs" in gml(repo, "pull")


@contextmanager
def mounted(path: Path, *options: str):
    done = subprocess.run(["mount", *options, str(path)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)


def test_remotes_that_cannot_be_written(make_repo, tmp_path):
    repo = make_repo("repo")
    log(repo, "one")
    disk = tmp_path / "disk"
    disk.mkdir()
    with mounted(disk, "-t", "tmpfs", "-o", "size=400k", "tmpfs"):
        bare = disk / "bare.git"
        subprocess.run(["git", "init", "-q", "--bare", "--template=", str(bare)], check=True)
        repo.git("remote", "add", "origin", str(bare))
        (disk / "filler").write_bytes(b"x" * (shutil.disk_usage(disk).free - 8_192))
        repo.python(RUN.replace('"x" * 100_000', "''.join(map(str, range(12_000)))"), "two", GML_CODE="none")
        said = gml(repo, "push", code=12)
        assert "its disk is full" in said
        assert len(said.splitlines()) == 1
        (disk / "filler").unlink()
        assert "2 runs" in gml(repo, "push")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        assert "pulled  nothing new" in gml(repo, "pull")
        log(repo, "three")
        said = gml(repo, "push", code=12)
        assert "it may not be written to" in said
        assert len(said.splitlines()) == 1
    assert names(repo) == ["one", "three", "two"]


def test_a_read_only_mirror_is_read(make_repo, make_bare, tmp_path):
    bare = make_bare()
    repo = make_repo("repo")
    repo.git("remote", "add", "origin", str(bare))
    log(repo, "one")
    exchange(repo)
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    with mounted(mirror, "-t", "tmpfs", "tmpfs"):
        subprocess.run(["git", "clone", "-q", "--mirror", str(bare), str(mirror / "m.git")], check=True)
        copy = type(repo)(mirror / "m.git")
        subprocess.run(["mount", "-o", "remount,ro", str(mirror)], check=True)
        assert names(copy) == ["one"]
        assert "one" in gml(copy, "ls")
        said = gml(copy, "tag", "one", "a=b", code=8)
        assert "the file system is read-only; use a writable place" in said.splitlines()[-1]
        assert stat.S_ISDIR((mirror / "m.git").stat().st_mode)
