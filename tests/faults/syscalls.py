"""Death and failing storage at every system call that changes something.

Between two calls that change nothing on the disk there is nothing to see: a death at any of them leaves
the disk as one at the next call that does change something. So these are the calls that are visited.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

from lab import Known, Row, can_inject, check, fsck, git, new_repo, strace, worker

CALLS = (
    "openat", "write", "pwrite64", "fsync", "fdatasync", "rename", "renameat2", "link", "linkat", "unlink", "unlinkat",
    "mkdir", "rmdir", "flock", "ftruncate", "chmod", "fchmod", "clone", "vfork", "execve",
)  # fmt: skip
FAILING = ("openat", "write", "pwrite64", "fsync", "rename", "link", "mkdir", "ftruncate", "unlink")
REMOTE = {"push", "pull"}
MOST = 5_000


def every(step: int) -> str:
    return "every" if step == 1 else f"every {step}th"


def kill_everywhere(top: Path, operation: str, *, step: int = 1, calls=CALLS, times: int = 1) -> Row:
    """Kill an operation at its n-th call of each kind, for every n until it gets through."""
    twice = ", twice" if times > 1 else ""
    row = Row(f"kill -9 at {every(step)} changing system call of {operation}{twice}")
    row.skipped = can_inject()
    if row.skipped:
        return row
    repo = new_repo(top, remote=operation in REMOTE)
    known = Known()
    number = 0
    with worker(repo) as process:
        known.note(process.do("log", 0)[0])
        for call in calls:
            nth = 1
            while nth < MOST:
                number += 1
                _prepare(repo, process, operation, number, known)
                deaths = 0
                for _ in range(times):
                    with strace(process.begin(operation, number), call, f"signal=KILL:when={nth}"):
                        said, code = process.go()
                    known.note(said)
                    deaths += code == -9 or any(line[0] == "error" for line in said)
                if not deaths:
                    break
                row.trials += 1
                _goes_on(row, process, operation, f"{call} {nth}", said)
                nth += step
    check(repo, row, known, operation)
    if operation in REMOTE:
        fsck(top / "bare.git", row, "the remote")
    return row


def _prepare(repo: Path, process, operation: str, number: int, known: Known) -> None:
    """Give an operation something to do."""
    if operation == "recover":
        known.note(process.do("abandon", number)[0])
    elif operation in {"push", "pull", "gc"}:
        known.note(process.do("log", number)[0])
    if operation == "pull":
        _behind(repo)


def _behind(repo: Path) -> None:
    """Put everything on the remote and forget it here but for the ledger's beginning."""
    tip = git(repo, "rev-parse", "refs/gml/ledger")
    git(repo, "push", "-q", "origin", "+refs/gml/ledger:refs/gml/ledger")
    root = git(repo, "rev-list", "--max-parents=0", "refs/gml/ledger").splitlines()[0]
    git(repo, "update-ref", "refs/gml/ledger", root, tip)
    git(repo, "update-ref", "-d", "refs/gml/remotes/origin/ledger")


def _goes_on(row: Row, process, operation: str, where: str, said: list[list]) -> None:
    """The next writer, and the operation itself, must get through at once."""
    row.acknowledged += sum(1 for line in said if line[0] in {"pushed", "pulled", "packed"})
    for again in dict.fromkeys(("recover", operation)):
        try:
            lines, code = process.do(again, 999_999)
        except TimeoutError:
            row.add(f"{operation} at {where}: {again} does not end", "blocked")
            raise
        if code:
            row.add(f"{operation} at {where}: {again}: {json.dumps(lines)[:300]}", "blocked")


def fail_everywhere(top: Path, error: str, operation: str = "log", *, step: int = 1, calls=FAILING) -> Row:
    """Let the n-th call of each kind fail once, for every n until none is left."""
    row = Row(f"{error} at {every(step)} changing system call of {operation}")
    row.skipped = can_inject()
    if row.skipped:
        return row
    repo = new_repo(top, remote=operation in REMOTE)
    known = Known()
    number = 0
    with worker(repo) as process:
        known.note(process.do("log", 0)[0])
        for call in calls:
            nth, count = 1, _count(repo, process, operation, call, known)
            while nth <= count:
                number += 1
                _prepare(repo, process, operation, number, known)
                with strace(process.begin(operation, number), call, f"error={error}:when={nth}"):
                    said, _ = process.go()
                row.trials += 1
                _judge(row, process, operation, f"{call} {nth}", said, known)
                nth += step
    check(repo, row, known, f"{operation} with {error}")
    return row


def _judge(row: Row, process, operation: str, where: str, said: list[list], known: Known) -> None:
    known.note(said)
    failed = [line[1:] for line in said if line[0] == "error"]
    began = any(line[0] == "began" for line in said)
    if operation == "log" and failed and began:
        row.add(f"{where}: the training was told {failed[0]}", "blocked")
    for again in dict.fromkeys(("recover", operation)):
        lines, code = process.do(again, 999_999)
        if code:
            row.add(f"{operation} at {where}: {again}: {json.dumps(lines)[:300]}", "blocked")


def _count(repo: Path, process, operation: str, call: str, known: Known) -> int:
    """Return how often an operation makes a call in that of its processes which makes it most often."""
    _prepare(repo, process, operation, 888_888, known)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "calls")
        pid = process.begin(operation, 888_888)
        tracer = subprocess.Popen(
            ["strace", "-ff", "-p", str(pid), "-o", str(out), "-e", "signal=none", "-e", f"trace={call}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        tracer.stderr.readline()
        process.go()
        tracer.wait(60)
        tracer.stderr.close()
        return max((file.read_text().count(f"{call}(") for file in Path(folder).iterdir()), default=0)
