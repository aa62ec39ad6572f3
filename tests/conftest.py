"""Every test has a home of its own and real git repositories, which `git fsck --strict` must accept after it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

import warm
from gml.tracking import active, fluent, source
from gml.tracking.journal import session as journal

if TYPE_CHECKING:
    from pathlib import Path
from support import FOREIGN, FOREIGN_NAMES, GML, IDENTITY, Done, Repo

# Many examples where there is time for them: HYPOTHESIS_PROFILE=thorough, as `make test-heavy` does.
settings.register_profile("quick", max_examples=30, deadline=None)
settings.register_profile("thorough", max_examples=500, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.fixture(autouse=True)
def _isolated(monkeypatch, tmp_path_factory):
    """A home without configuration, and nothing in the environment that gml or git would listen to."""
    for name in list(os.environ):
        if name.startswith(FOREIGN) or name in FOREIGN_NAMES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


@pytest.fixture(scope="session")
def started(tmp_path_factory):
    """Return a repository with one commit to copy: five git processes fewer than making one."""
    repo = Repo(tmp_path_factory.mktemp("started") / "repo")
    # Without sample hooks, which are most of the files of a new repository.
    template = tmp_path_factory.mktemp("template")
    for name in ("hooks", "info"):
        (template / name).mkdir()
    environ = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    for name in [name for name in environ if name.startswith("GIT_") and "CONFIG" not in name]:
        del environ[name]
    environ |= {"GIT_TEMPLATE_DIR": str(template), "HOME": str(template)}
    repo.file("train.py", "print('training')\n")
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "start"]):
        subprocess.run(["git", *IDENTITY, "-C", str(repo.path), *command], env=environ, check=True)
    return repo.path


@pytest.fixture
def make_repo(tmp_path, started):
    """Return a function that makes repositories; each is checked by `git fsck --strict` after the test."""
    made: list[Repo] = []

    def make(name: str = "repo", *args: str, commit: bool = True) -> Repo:
        repo = Repo(tmp_path / name)
        if commit and not args:
            shutil.copytree(started, repo.path)
            # git's index knows inodes.
            repo.git("update-index", "-q", "--refresh")
        else:
            subprocess.run(["git", "init", "-q", "-b", "main", *args, str(repo.path)], check=True)
            if commit and "--bare" not in args:
                repo.commit("start", **{"train.py": "print('training')\n"})
        made.append(repo)
        return repo

    yield make
    for repo in made:
        if not repo.damaged and repo.path.exists():
            repo.fsck()


@pytest.fixture
def repo(make_repo):
    """Return a repository with one commit."""
    return make_repo()


@pytest.fixture
def start(repo):
    """Return a function that starts the installed `gml` command in the repository."""

    def run(
        *args: object, cwd: Path | None = None, streams=None, program: Path = GML, **environ: str
    ) -> subprocess.Popen[bytes]:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            [str(program), *map(str, args)],
            cwd=cwd or repo.path,
            env={**repo.env(**environ), "PATH": f"{GML.parent}:{os.environ['PATH']}"},
            **(pipes | (streams or {})),
        )

    return run


@pytest.fixture
def gml(start):
    """Return a function that runs `gml` as a process and, unless told otherwise, demands success."""

    def run(*args: object, code: int | None = 0, cwd: Path | None = None, **environ: str) -> Done:
        child = start(*args, cwd=cwd, program=warm.command(), **environ)
        out, err = child.communicate(timeout=100)
        done = Done(child.returncode, out.decode(), err.decode())
        assert code is None or done.code == code, done
        assert "Traceback" not in done.err, done.err
        return done

    return run


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Return a function that copies what a test needs first from a repository that is filled once a module.

    Only for what the tests of a module read or change on their own: each gets a copy with the same runs.
    """
    kept = tmp_path_factory.mktemp("prepared")

    def fill(repo: Repo, name: str, work):
        place, facts = kept / name, kept / f"{name}.json"
        if not facts.exists():
            result = work()
            shutil.copytree(repo.path, place, symlinks=True)
            facts.write_text(json.dumps(result))
            return result
        shutil.rmtree(repo.path)
        shutil.copytree(place, repo.path, symlinks=True)
        if (repo.path / ".git").is_dir():
            repo.git("update-index", "-q", "--refresh")
        return json.loads(facts.read_text())

    return fill


@pytest.fixture
def clone(tmp_path, make_repo):
    """Return a function that clones a repository with its ledger."""

    def make(origin: Repo, name: str) -> Repo:
        copy = make_repo(name, commit=False)
        copy.git("remote", "add", "origin", str(origin.path))
        copy.git("fetch", "-q", "origin", "+refs/gml/*:refs/gml/*", "refs/heads/*:refs/remotes/origin/*")
        return copy

    return make


@pytest.fixture
def api(repo, monkeypatch):
    """Return `gml` with the process inside `repo` and no run, experiment or repository chosen yet.

    After the test every run must be in the ledger.
    """
    import gml

    monkeypatch.chdir(repo.path)
    _forget(monkeypatch)
    yield gml
    while active.current() is not None:
        active.end(active.current(), "FINISHED")
    waiting = [path.name for path in journal.sessions(repo.workspace().journal_root)]
    assert waiting == []


def _forget(monkeypatch) -> None:
    active._workspaces.clear()
    source._captured.clear()
    for module, name, value in (
        (active, "_consumed", set()),
        (active, "_last", None),
        (active, "_uri", None),
        (fluent, "_experiment", None),
        (fluent, "_ordinal", 0),
    ):
        monkeypatch.setattr(module, name, value)
