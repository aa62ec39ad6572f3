"""The shipped conformance suite over both engines and all kinds of repositories."""

from __future__ import annotations

import subprocess

import pytest

from gml.domain.errors import RefMovedError, StorageError
from gml.git import refs
from gml.git.discover import open_store
from gml.testing import git_store, git_tools
from gml.testing.git_store import FailingStore, GitStoreSuite
from gml.testing.git_tools import LEDGER, make_commit

CASES = {
    "pygit2": ("pygit2", "sha1", "plain"),
    "pygit2-bare": ("pygit2", "sha1", "bare"),
    "pygit2-worktree": ("pygit2", "sha1", "worktree"),
    "dulwich": ("dulwich", "sha1", "plain"),
    "dulwich-sha256": ("dulwich", "sha256", "bare"),
    "dulwich-sha256-worktree": ("dulwich", "sha256", "worktree"),
}


@pytest.fixture(params=CASES)
def store(request, make_repo):
    engine, object_format, kind = CASES[request.param]
    repo = make_repo(bare=kind == "bare", object_format=object_format)
    path = repo.path
    if kind == "worktree":
        # the suite starts from a repository without refs
        repo.commit()
        path = repo.path.parent / "linked"
        repo.git("worktree", "add", "-q", "--detach", str(path))
        repo.git("update-ref", "-d", "refs/heads/main")
        repo.git("symbolic-ref", "HEAD", "refs/heads/main", cwd=path)
    store = open_store(path, environ=repo.environ, engine=engine)
    assert store.location.engine == engine
    yield store
    store.close()


class TestEngines(GitStoreSuite):
    """Both engines."""


@pytest.fixture
def plain(repo):
    store = repo.store()
    yield store
    store.close()


def test_racing_with_real_git(plain, repo):
    """C git moves and packs the same ref meanwhile: nothing is lost, nobody crashes."""
    first = make_commit(plain)
    plain.update_ref(LEDGER, first, expected=None, message="x")
    with git_tools.start_race(plain, workers=3, updates=15) as racers:
        moved = 0
        while moved < 10 or racers.poll() is None:
            tip = repo.git("rev-parse", LEDGER)
            tree = repo.git("rev-parse", LEDGER + "^{tree}")
            new = repo.git("commit-tree", "-p", tip, "-m", f"git-{moved}", tree)
            if (
                subprocess.run(
                    ["git", "update-ref", LEDGER, new, tip],
                    cwd=repo.path,
                    env=repo.environ,
                    capture_output=True,
                    check=False,
                ).returncode
                == 0
            ):
                moved += 1
            subprocess.run(
                ["git", "pack-refs", "--all", "--prune"],
                cwd=repo.path,
                env=repo.environ,
                capture_output=True,
                check=False,
            )
        assert racers.wait(timeout=60) == 0, racers.stderr.read()
    assert repo.git("rev-list", "--count", LEDGER) == str(1 + 45 + moved)
    repo.fsck()


def test_a_lock_left_behind_is_named(plain, monkeypatch):
    monkeypatch.setattr(refs, "LOCK_SECONDS", 0.05)
    one = make_commit(plain)
    lock = plain.location.common_dir / (LEDGER + ".lock")
    lock.parent.mkdir(parents=True)
    lock.touch()
    with pytest.raises(StorageError, match=str(lock)):
        plain.update_ref(LEDGER, one, expected=None, message="x")
    assert lock.exists()
    assert plain.break_lock(LEDGER)
    assert not plain.break_lock(LEDGER)
    plain.update_ref(LEDGER, one, expected=None, message="x")


def test_alternates(make_repo):
    source = make_repo("source")
    source.commit(a="1")
    clone = make_repo("clone")
    clone.git("clone", "-q", "-s", str(source.path), str(clone.path / "c"))
    for engine in ("pygit2", "dulwich"):
        store = open_store(clone.path / "c", environ=clone.environ, engine=engine)
        assert store.read(store.head().commit)[0] == "commit"
        assert store.resolve(store.head().commit[:8]) == store.head().commit
        store.close()


def test_quarantine_of_a_hook(repo):
    """In pre-receive, new objects lie in a directory that only the environment names."""
    repo.commit(a="1")
    quarantine = repo.path / ".git" / "objects" / "incoming"
    quarantine.mkdir()
    environ = repo.environ | {
        "GIT_OBJECT_DIRECTORY": str(quarantine),
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(repo.path / ".git" / "objects"),
    }
    repo.environ = environ
    oid = repo.git("hash-object", "-w", "--stdin", data=b"pushed")
    for engine in ("pygit2", "dulwich"):
        store = open_store(repo.path, environ=environ, engine=engine)
        assert store.read(oid) == ("blob", b"pushed")
        assert store.read(store.head().commit)[0] == "commit"
        mine = store.write("blob", engine.encode())
        assert (quarantine / mine[:2] / mine[2:]).exists()
        store.close()


def test_shared_repository_permissions(make_repo):
    repo = make_repo()
    repo.git("config", "core.sharedRepository", "group")
    store = repo.store()
    one = make_commit(store)
    store.update_ref(LEDGER, one, expected=None, message="x")
    store.write_pack([("blob", b"p")])
    objects = repo.path / ".git" / "objects"
    assert (objects / one[:2]).stat().st_mode & 0o2070 == 0o2070
    assert (objects / one[:2] / one[2:]).stat().st_mode & 0o777 == 0o444
    assert (repo.path / ".git" / LEDGER).stat().st_mode & 0o660 == 0o660


def test_failing_store(plain):
    failing = FailingStore(
        plain, {"write": {2: StorageError("full")}, "update_ref": {1: RefMovedError("moved")}}
    )
    assert isinstance(failing, git_store.GitStore)
    one = failing.write("blob", b"1")
    with pytest.raises(StorageError):
        failing.write("blob", b"2")
    assert failing.write("blob", b"3")
    with pytest.raises(RefMovedError):
        failing.update_ref(LEDGER, one, expected=None, message="x")
    assert plain.ref(LEDGER) is None
    assert failing.calls == {"write": 3, "update_ref": 1}
    late = FailingStore(plain, {"update_ref": {1: StorageError("no answer")}}, after=True)
    with pytest.raises(StorageError):
        late.update_ref(LEDGER, one, expected=None, message="x")
    assert plain.ref(LEDGER) == one
