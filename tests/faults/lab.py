"""Repositories to break, and counting what of the acknowledged is still there."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tracking"))

import kill_loop  # noqa: E402

PATIENCE = 60.0


@dataclass
class Row:
    """A line of the table."""

    fault: str
    trials: int = 0
    acknowledged: int = 0
    lost: int = 0
    corrupt: int = 0
    blocked: int = 0
    skipped: str = ""
    details: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not (self.lost or self.corrupt or self.blocked)

    def add(self, what: str, kind: str = "lost") -> None:
        setattr(self, kind, getattr(self, kind) + 1)
        self.details.append(f"{kind}: {what}")


def git(repo: Path, *args: str, check: bool = True) -> str:
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    done = subprocess.run(
        ["git", *identity, "-C", str(repo), *args], capture_output=True, text=True, check=False
    )
    assert not check or done.returncode == 0, (args, done.stderr)
    return done.stdout.strip()


def new_repo(top: Path, *, remote: bool = False) -> Path:
    top.mkdir(parents=True, exist_ok=True)
    repo = top / "repo"
    subprocess.run(["git", "init", "-q", "-b", "main", str(repo)], check=True)
    git(repo, "commit", "-q", "--allow-empty", "-m", "start")
    git(repo, "config", "gml.code", "none")
    if remote:
        subprocess.run(["git", "init", "-q", "--bare", str(top / "bare.git")], check=True)
        git(repo, "remote", "add", "origin", str(top / "bare.git"))
    return repo


def fsck(repo: Path, row: Row, what: str) -> None:
    done = subprocess.run(
        ["git", "-C", str(repo), "fsck", "--strict"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        row.add(f"{what}: {done.stdout[:200]} {done.stderr[:200]}", "corrupt")


def check(repo: Path, row: Row, known: kill_loop.Acknowledged, what: str) -> None:
    """Recover, compare with what was acknowledged, and let git look at the repository."""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "gml", "-C", str(repo), "recover"], capture_output=True, text=True, check=False, timeout=300
    )  # fmt: skip
    if done.returncode:
        row.add(f"{what}: recover: {done.stderr[:300]}", "blocked")
    if time.monotonic() - begun > PATIENCE:
        row.add(f"{what}: recover took {time.monotonic() - begun:.0f} s", "blocked")
    for missing in kill_loop.lost(repo, known):
        row.add(f"{what}: {missing}")
    row.acknowledged += (
        len(known.points) + len(known.params) + len(known.files) + len(known.ended) + len(known.tags)
    )
    fsck(repo, row, what)


class Worker:
    """A process that forks a child for each operation; see worker.py."""

    def __init__(self, repo: Path, **environ: str) -> None:
        self.repo = repo
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py")],
            cwd=repo, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
            stderr=subprocess.DEVNULL, env={**os.environ, **environ},
        )  # fmt: skip
        self._rest = b""
        assert self.read()[0] == "ready"

    def read(self, patience: float = PATIENCE) -> list:
        while b"\n" not in self._rest:
            if not select.select([self._process.stdout], [], [], patience)[0]:
                raise TimeoutError
            chunk = os.read(self._process.stdout.fileno(), 65536)
            if not chunk:
                raise EOFError
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)

    def begin(self, operation: str, number: int) -> int:
        """Fork the child of an operation and return its process id; it waits for `go`."""
        self._process.stdin.write(f"{operation} {number}\n".encode())
        kind, pid = self.read()
        assert kind == "pid"
        return pid

    def go(self) -> tuple[list[list], int]:
        """Let the child begin; return what it said and its exit code (-9: it was killed)."""
        self._process.stdin.write(b"go\n")
        said = []
        while True:
            line = self.read()
            if line[0] == "done":
                return said, line[1]
            said.append(line)

    def do(self, operation: str, number: int = 0) -> tuple[list[list], int]:
        self.begin(operation, number)
        return self.go()

    def close(self) -> None:
        with suppress(OSError):
            self._process.stdin.close()
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


@contextmanager
def worker(repo: Path, **environ: str):
    made = Worker(repo, **environ)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def strace(pid: int, injection: str):
    """Inject a fault into a process and its children from now on."""
    tracer = subprocess.Popen(
        ["strace", "-f", "-p", str(pid), "-o", "/dev/null", "-e", injection],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        line = tracer.stderr.readline().decode()
        if "attached" not in line:
            raise RuntimeError(f"strace: {line.strip()}")
        yield
    finally:
        # It ends with the processes that it follows.
        try:
            tracer.wait(20)
        except subprocess.TimeoutExpired:
            tracer.kill()
            tracer.wait()
        tracer.stderr.close()


def can_inject() -> str:
    """Return why faults cannot be injected into system calls here, empty if they can."""
    if shutil.which("strace") is None:
        return "no strace on this machine"
    done = subprocess.run(
        ["strace", "-f", "-o", "/dev/null", "-e", "inject=write:signal=KILL:when=1", "sh", "-c", "echo a"],
        capture_output=True, check=False,
    )  # fmt: skip
    return "" if done.returncode in {-9, 137} else "strace may not trace processes here"


def note(known: kill_loop.Acknowledged, said: list[list]) -> None:
    """Add what a child said to what was acknowledged."""
    kinds = {"start", "end", "m", "p", "t", "a"}
    known.read([json.dumps(line).encode() + b"\n" for line in said if line[0] in kinds])
