"""The installed `gml` command as a real process."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest

GML = Path(sysconfig.get_path("scripts")) / "gml"


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def rows(self) -> list[dict[str, str]]:
        """The tab-separated table that a pipe gets, as dictionaries."""
        head, *lines = [line.split("\t") for line in self.out.rstrip("\n").split("\n")]
        return [dict(zip(head, line, strict=True)) for line in lines]


@pytest.fixture
def start(repo):
    """Return a function that starts `gml` in the repository."""

    def run(*args: object, cwd: Path | None = None, **environ: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [str(GML), *map(str, args)],
            cwd=cwd or repo.path,
            env={**repo.env(**environ), "PATH": f"{GML.parent}:{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    return run


@pytest.fixture
def gml(start):
    """Return a function that runs `gml` and, unless told otherwise, demands success."""

    def run(*args: object, code: int | None = 0, cwd: Path | None = None, **environ: str) -> Done:
        child = start(*args, cwd=cwd, **environ)
        out, err = child.communicate(timeout=100)
        done = Done(child.returncode, out.decode(), err.decode())
        assert code is None or done.code == code, done
        assert "Traceback" not in done.err, done.err
        return done

    return run
