"""Every test has a home of its own and real git repositories, which `git fsck --strict` must accept after it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from gml.tracking import active, fluent, source
from gml.tracking.journal import session as journal
from gml.workspace import Workspace

if TYPE_CHECKING:
    from pathlib import Path

# What surrounds a job and would make gml believe that it is a part of one.
FOREIGN = ("GIT_", "GML_", "MLFLOW_", "SLURM_", "OMPI_", "PMI", "TORCHELASTIC_")
FOREIGN_NAMES = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "PYTHONPATH", "EMAIL"}
IDENTITY = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
GIT_NOISE = ("dangling ", "notice: ", "Checking ", "warning in tag ")


@dataclass
class Repo:
    """A git repository, real git in it, and real Python processes in it.

    Attributes:
        path: top of the work tree, or the git directory of a bare repository.
        environ: what child processes get besides the environment of the test.
        damaged: the test broke the repository on purpose, so it is not checked.
    """

    path: Path
    environ: dict[str, str] = field(default_factory=dict)
    damaged: bool = False

    def env(self, **more: str) -> dict[str, str]:
        return {**os.environ, **self.environ, **more}

    def git(self, *args: str, data: str | None = None) -> str:
        done = subprocess.run(
            ["git", *IDENTITY, "-C", str(self.path), *args],
            env=self.env(),
            input=data,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (args, done.stderr)
        return done.stdout.rstrip("\n")

    def file(self, name: str, content: str | bytes = "") -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def commit(self, message: str = "change", **files: str) -> str:
        for name, content in files.items():
            self.file(name, content)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def workspace(self, **environ: str) -> Workspace:
        return Workspace.open(self.path, {**self.env(), **environ})

    def start(self, script: str, *args: object, **environ: str) -> subprocess.Popen[str]:
        """Start a Python process in the repository; warnings are errors in it as they are here."""
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-c", script, *map(str, args)],
            cwd=self.path,
            env=self.env(**environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def python(self, script: str, *args: object, **environ: str) -> str:
        """Run a Python process to its good end and return what it printed."""
        child = self.start(script, *args, **environ)
        out, err = child.communicate(timeout=100)
        assert child.returncode == 0, err
        return out.strip()

    def json(self, script: str, *args: object, **environ: str):
        return json.loads(self.python(script, *args, **environ))

    def fsck(self) -> None:
        done = subprocess.run(
            ["git", "-C", str(self.path), "fsck", "--strict", "--full"],
            env=self.env(),
            capture_output=True,
            text=True,
            check=False,
        )
        lines = (done.stdout + done.stderr).splitlines()
        assert done.returncode == 0, lines
        assert [line for line in lines if not line.startswith(GIT_NOISE)] == []


@pytest.fixture(autouse=True)
def _isolated(monkeypatch, tmp_path_factory):
    """A home without configuration, and nothing in the environment that gml or git would listen to."""
    for name in list(os.environ):
        if name.startswith(FOREIGN) or name in FOREIGN_NAMES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


@pytest.fixture
def make_repo(tmp_path):
    """Return a function that makes repositories; each is checked by `git fsck --strict` after the test."""
    made: list[Repo] = []

    def make(name: str = "repo", *args: str, commit: bool = True) -> Repo:
        repo = Repo(tmp_path / name)
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
