"""What tests share that is no fixture: repositories, processes in them, and what a process said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path

from gml.workspace import Workspace

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


GML = Path(sysconfig.get_path("scripts")) / "gml"


@dataclass
class Done:
    """What the `gml` command said, and its exit code."""

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
