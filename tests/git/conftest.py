"""Real repositories in temporary directories, isolated from the user's git configuration."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from gml.git.discover import open_store

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Repo:
    """A repository and a way to run real git in it."""

    path: Path
    environ: dict[str, str]
    bare: bool = False
    object_format: str = "sha1"
    extra: dict[str, str] = field(default_factory=dict)

    def git(
        self, *args: str, data: bytes | str | None = None, cwd: Path | None = None, check: bool = True
    ) -> str:
        return (
            self.raw(*args, data=data, cwd=cwd, check=check)
            .decode("utf-8", "surrogateescape")
            .removesuffix("\n")
        )

    def raw(
        self, *args: str, data: bytes | str | None = None, cwd: Path | None = None, check: bool = True
    ) -> bytes:
        if isinstance(data, str):
            data = data.encode("utf-8", "surrogateescape")
        done = subprocess.run(
            ["git", *args],
            cwd=cwd or self.path,
            env=self.environ,
            input=data,
            capture_output=True,
            check=False,
        )
        assert not check or done.returncode == 0, (args, done.stderr.decode(errors="replace"))
        return done.stdout

    def store(self, path: Path | None = None):
        return open_store(path or self.path, environ=self.environ)

    def file(self, name: str, content: str | bytes = "", mode: int | None = None) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        if mode is not None:
            path.chmod(mode)
        return path

    def commit(self, message: str = "change", **files: str) -> str:
        for name, content in files.items():
            self.file(name, content)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def fsck(self) -> None:
        done = subprocess.run(
            ["git", "fsck", "--strict", "--full"],
            cwd=self.path,
            env=self.environ,
            capture_output=True,
            check=False,
        )
        noise = ("dangling ", "notice: ", "Checking ")
        lines = (done.stdout + done.stderr).decode().splitlines()
        assert done.returncode == 0, lines
        assert [line for line in lines if not line.startswith(noise)] == []


def clean_environ(home: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "Ada",
        "GIT_AUTHOR_EMAIL": "ada@example.org",
        "GIT_COMMITTER_NAME": "Ada",
        "GIT_COMMITTER_EMAIL": "ada@example.org",
    }


@pytest.fixture(autouse=True)
def _isolated(monkeypatch, tmp_path_factory):
    """Keep libraries that look at the process environment away from the user's configuration."""
    home = tmp_path_factory.mktemp("home")
    for key in list(os.environ):
        if key.startswith("GIT_"):
            monkeypatch.delenv(key)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


@pytest.fixture
def make_repo(tmp_path):
    """Return a function that creates a repository."""
    (tmp_path / "home").mkdir()

    def make(name: str = "repo", *, bare: bool = False, object_format: str = "sha1") -> Repo:
        repo = Repo(tmp_path / name, clean_environ(tmp_path / "home"), bare, object_format)
        args = ["init", "-q", "-b", "main", f"--object-format={object_format}"]
        repo.git(*args, *(["--bare"] if bare else []), str(repo.path), cwd=tmp_path)
        return repo

    return make


@pytest.fixture
def repo(make_repo):
    return make_repo()
