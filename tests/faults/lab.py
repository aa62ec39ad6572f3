"""Repositories to break, and counting what of the acknowledged is still there."""

from __future__ import annotations

import json
import os
import pickle
import select
import shutil
import signal
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


def check(repo: Path, row: Row, known: Known, what: str) -> None:
    """Recover, compare with what was acknowledged, and let git look at the repository."""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "gml", "-C", str(repo), "recover"], capture_output=True, text=True, check=False, timeout=300
    )  # fmt: skip
    if done.returncode:
        row.add(f"{what}: recover: {done.stderr[:300]}", "blocked")
    if time.monotonic() - begun > PATIENCE:
        row.add(f"{what}: recover took {time.monotonic() - begun:.0f} s", "blocked")
    for missing in find_lost(repo, known):
        row.add(f"{what}: {missing}")
    row.acknowledged += known.count
    fsck(repo, row, what)


@dataclass
class Known(kill_loop.Acknowledged):
    """What calls returned from, registered versions included."""

    versions: dict[tuple[str, int], str] = field(default_factory=dict)

    @property
    def count(self) -> int:
        parts = (self.points, self.params, self.files, self.ended, self.tags, self.versions)
        return sum(len(part) for part in parts)

    def note(self, said: list[list]) -> None:
        """Add what a worker's child said."""
        kinds = {"start", "end", "m", "p", "t", "a"}
        self.read([json.dumps(line).encode() + b"\n" for line in said if line[0] in kinds])
        for line in said:
            if line[0] == "v":
                self.versions[line[1], line[2]] = line[3]

    def durable(self) -> Known:
        """Return what a power cut must not take: runs that have ended, changes of them, versions."""
        ended = self.ended
        return Known(
            runs=set(ended),
            ended=set(ended),
            points={point for point in self.points if point[0] in ended},
            params={key: value for key, value in self.params.items() if key[0] in ended},
            tags={key: value for key, value in self.tags.items() if key[0] in ended},
            files={key: value for key, value in self.files.items() if key[0] in ended},
            versions=dict(self.versions),
        )


def find_lost(repo: Path, known: Known) -> list[str]:
    """Return what of the acknowledged is missing, seen by a process that has not seen the repository before."""
    done = subprocess.run(
        [sys.executable, str(HERE / "lab.py"), str(repo)], input=pickle.dumps(vars(known)), capture_output=True, check=False
    )  # fmt: skip
    if done.returncode:
        return [f"nothing can be read: {done.stderr.decode()[-300:]}"]
    return json.loads(done.stdout)


def lost_versions(repo: Path, known: Known) -> list[str]:
    """Return the acknowledged versions that the registry does not have, or has otherwise."""
    from gml.domain.errors import GmlError
    from gml.registry.branch import Registry
    from gml.workspace import Workspace

    if not known.versions:
        return []
    view = Registry(Workspace.open(repo)).view()
    missing = []
    for (model, number), run in known.versions.items():
        try:
            held = view.version(model, number).run
        except GmlError as error:
            held = error.message
        if held != run:
            missing.append(f"version {number} of {model}: {held}")
    return missing


class Worker:
    """A process that forks a child for each operation; see worker.py."""

    def __init__(self, repo: Path, **environ: str) -> None:
        self.repo = repo
        self.child = 0
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
        self.child = pid
        return pid

    def send_go(self) -> None:
        """Let the child begin and go on without waiting for it."""
        self._process.stdin.write(b"go\n")

    def go(self) -> tuple[list[list], int]:
        """Let the child begin; return what it said and its exit code (-9: it was killed)."""
        self.send_go()
        said = []
        while True:
            line = self.read()
            if line[0] == "done":
                return said, line[1]
            said.append(line)

    def listen(self, seconds: float) -> list[list]:
        """Return what the child says in the next seconds and what it had said already."""
        said = []
        end = time.monotonic() + seconds
        with suppress(TimeoutError):
            while True:
                said.append(self.read(max(0.0, end - time.monotonic())))
        return said

    @contextmanager
    def frozen(self):
        """Let the child stand still."""
        os.kill(self.child, signal.SIGSTOP)
        try:
            while Path(f"/proc/{self.child}/stat").read_text().rpartition(")")[2].split()[0] not in "TZ":
                time.sleep(0.001)
            yield
        finally:
            os.kill(self.child, signal.SIGCONT)

    def kill_child(self) -> list[list]:
        """Kill -9 the child and return what it had said."""
        # One that ended by itself has said why.
        with suppress(ProcessLookupError):
            os.kill(self.child, signal.SIGKILL)
        said = []
        while True:
            line = self.read()
            if line[0] == "done":
                return said
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
def strace(pid: int, call: str, fault: str):
    """Inject a fault into the calls of a process and its children from now on."""
    injection = f"inject={call}:{fault}"
    tracer = subprocess.Popen(
        ["strace", "-f", "-p", str(pid), "-o", "/dev/null", "-e", "signal=none", "-e", f"trace={call}", "-e", injection],
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


def mount(disk: Path, place: Path, *options: str) -> str:
    """Mount an image and return why that failed, empty when it did not."""
    place.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-o", ",".join(("loop", *options)), str(disk), str(place)], capture_output=True, text=True, check=False
    )  # fmt: skip
    return done.stderr.strip()[:200] if done.returncode else ""


def unmount(place: Path) -> None:
    end = time.monotonic() + PATIENCE
    while subprocess.run(["umount", str(place)], capture_output=True, check=False).returncode:
        if time.monotonic() > end:
            subprocess.run(["umount", "-l", str(place)], check=True)
            return
        time.sleep(0.05)


def image(disk: Path, place: Path, megabytes: int) -> str:
    """Make an ext4 file system in a file and mount it; return why that is not possible here."""
    if os.geteuid() != 0:
        return "only root may mount a file system"
    if shutil.which("mkfs.ext4") is None:
        return "no mkfs.ext4 on this machine"
    place.parent.mkdir(parents=True, exist_ok=True)
    with disk.open("wb") as file:
        file.truncate(megabytes << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(disk)], check=True)
    return mount(disk, place)


@contextmanager
def tmpfs(place: Path, size: str):
    """Mount a small file system in memory; yields why that is not possible, empty when it is."""
    place.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        yield done.stderr.strip() or "cannot mount"
        return
    try:
        yield ""
    finally:
        unmount(place)


if __name__ == "__main__":
    wanted = Known(**pickle.loads(sys.stdin.buffer.read()))
    print(json.dumps(kill_loop.lost(Path(sys.argv[1]), wanted) + lost_versions(Path(sys.argv[1]), wanted)))
