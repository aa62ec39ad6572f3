"""The installed `gml` command as a real process, in several repositories."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest

from gml.cli import main
from gml.tracking import source

GML = Path(sysconfig.get_path("scripts")) / "gml"


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def start(repo):
    """Return a function that starts `gml` in a repository."""

    def run(*args: object, at=None, cwd: Path | None = None, **environ: str) -> subprocess.Popen[bytes]:
        place = at or repo
        path = environ.pop("PATH", os.environ["PATH"])
        return subprocess.Popen(
            [str(GML), *map(str, args)],
            cwd=cwd or place.path,
            env={**place.env(**environ), "PATH": f"{GML.parent}:{path}"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    return run


@pytest.fixture
def gml(repo, monkeypatch, capfd):
    """Return a function that runs the command line in this process and, unless told otherwise, demands success.

    A process of its own would cost a quarter of a second each time; what it starts are real processes.
    """
    logger = logging.getLogger("gml")
    handler = main._Lines()
    logger.addHandler(handler)

    def run(*args: object, code: int | None = 0, at=None, cwd: Path | None = None, **environ: str) -> Done:
        place = at or repo
        source._captured.clear()
        source._environment.clear()
        with monkeypatch.context() as patch:
            for name, value in {**place.environ, **environ}.items():
                patch.setenv(name, value)
            patch.setenv("PATH", f"{GML.parent}:{os.environ['PATH']}")
            patch.chdir(cwd or place.path)
            capfd.readouterr()
            result = main.run(list(map(str, args)))
            out, err = capfd.readouterr()
        done = Done(result, out, err)
        assert code is None or done.code == code, done
        return done

    yield run
    logger.removeHandler(handler)


@pytest.fixture
def untouched(repo):
    """Return a function that describes everything of the user's that gml must leave alone."""

    def look(place=repo) -> dict[str, object]:
        files = {
            str(path.relative_to(place.path)): path.read_bytes()
            for path in sorted(place.path.rglob("*"))
            if path.is_file() and ".git" not in path.parts
        }
        return {
            "files": files,
            "index": (place.path / ".git/index").read_bytes(),
            "head": place.git("rev-parse", "HEAD", "--symbolic-full-name", "HEAD"),
            "branches": place.git("for-each-ref", "refs/heads", "refs/stash"),
            "worktrees": place.git("worktree", "list", "--porcelain"),
            "config": (place.path / ".git/config").read_bytes(),
        }

    return look
