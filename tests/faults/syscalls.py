"""Death and failing storage at every system call that changes something.

Between two calls that change nothing on the disk there is nothing to see: a death at any of them leaves
the disk as one at the next call that does change something. So these are the calls that are visited.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from lab import Row, can_inject, check, fsck, git, kill_loop, new_repo, note, strace, worker

if TYPE_CHECKING:
    from pathlib import Path

CALLS = (
    "openat", "write", "pwrite64", "fsync", "fdatasync", "rename", "renameat2", "link", "linkat", "unlink", "unlinkat",
    "mkdir", "rmdir", "flock", "ftruncate", "chmod", "fchmod", "clone", "vfork", "execve",
)  # fmt: skip
FAILING = ("openat", "write", "pwrite64", "fsync", "rename", "link", "mkdir", "ftruncate")


def kill_everywhere(top: Path, operation: str, *, step: int = 1, calls=CALLS, most: int = 10_000) -> Row:
    """Kill an operation at its n-th call of each kind, for every n until it gets through."""
    row = Row(f"kill -9 at every {'' if step == 1 else f'{step}th '}changing system call of {operation}")
    row.skipped = can_inject()
    if row.skipped:
        return row
    repo = new_repo(top, remote=operation in {"push", "pull"})
    known = kill_loop.Acknowledged()
    number = 0
    with worker(repo) as process:
        note(known, process.do("log", 0)[0])
        for call in calls:
            nth = 1
            while nth < most:
                number += 1
                if operation in {"push", "pull", "gc"}:
                    note(known, process.do("log", number)[0])
                if operation == "pull":
                    _behind(repo)
                said, code = _killed(process, operation, number, f"inject={call}:signal=KILL:when={nth}")
                note(known, said)
                if code != -9 and not any(line[0] == "error" for line in said):
                    break
                row.trials += 1
                _goes_on(row, process, operation, f"{call} {nth}", said)
                nth += step
    check(repo, row, known, operation)
    if operation in {"push", "pull"}:
        fsck(top / "bare.git", row, "the remote")
    return row


def _behind(repo: Path) -> None:
    """Put everything on the remote and forget it here but for the ledger's beginning."""
    tip = git(repo, "rev-parse", "refs/gml/ledger")
    git(repo, "push", "-q", "origin", "+refs/gml/ledger:refs/gml/ledger")
    root = git(repo, "rev-list", "--max-parents=0", "refs/gml/ledger").splitlines()[0]
    git(repo, "update-ref", "refs/gml/ledger", root, tip)
    git(repo, "update-ref", "-d", "refs/gml/remotes/origin/ledger")


def _killed(process, operation: str, number: int, injection: str) -> tuple[list[list], int]:
    with strace(process.begin(operation, number), injection):
        return process.go()


def _goes_on(row: Row, process, operation: str, where: str, said: list[list]) -> None:
    """The next writer, and the operation itself, must get through at once."""
    row.acknowledged += sum(1 for line in said if line[0] in {"pushed", "pulled", "packed"})
    for again in ("recover", operation):
        try:
            lines, code = process.do(again, 999_999)
        except TimeoutError:
            row.add(f"{operation} at {where}: {again} does not end", "blocked")
            raise
        if code:
            row.add(f"{operation} at {where}: {again}: {json.dumps(lines)[:300]}", "blocked")


def fail_everywhere(top: Path, error: str, operation: str = "log", *, step: int = 1, calls=FAILING) -> Row:
    """Let the n-th call of each kind fail once, for every n until none is left."""
    row = Row(f"{error} at every {'' if step == 1 else f'{step}th '}call of {operation}")
    row.skipped = can_inject()
    if row.skipped:
        return row
    repo = new_repo(top, remote=operation == "push")
    known = kill_loop.Acknowledged()
    number = 0
    with worker(repo) as process:
        note(known, process.do("log", 0)[0])
        for call in calls:
            nth = 1
            while nth < 3_000:
                number += 1
                if operation == "push":
                    note(known, process.do("log", number)[0])
                clean = _clean(process, operation, number, call, nth, error, known, row)
                if clean:
                    break
                row.trials += 1
                nth += step
        process.do("recover", 0)
    check(repo, row, known, f"{operation} with {error}")
    return row


def _clean(process, operation, number, call, nth, error, known, row) -> bool:
    """Run one trial; True when the call was not reached any more."""
    counting = f"inject={call}:error={error}:when={nth}"
    with strace(process.begin(operation, number), counting):
        said, code = process.go()
    started = any(line[0] == "start" for line in said)
    failed = [line for line in said if line[0] == "error"]
    if operation == "log" and failed and started:
        row.add(f"{call} {nth}: training was told {failed[0][1:]}", "lost")
    # A run whose end met trouble is acknowledged as kept in its journal; the next writer commits it.
    note(known, [line for line in said if line[0] != "error"])
    lines, code_after = process.do("recover", 0)
    if code_after:
        row.add(f"{call} {nth}: recover: {lines}", "blocked")
    if operation == "push":
        after, code_push = process.do("push", 0)
        if code_push:
            row.add(f"{call} {nth}: push: {after}", "blocked")
    return not failed and code == 0 and nth > _count(process, operation, call)


_COUNTS: dict[tuple[str, str], int] = {}


def _count(process, operation: str, call: str) -> int:
    """Return how often an operation makes a call in one of its processes, counted once."""
    import subprocess
    import tempfile

    key = (operation, call)
    if key not in _COUNTS:
        with tempfile.NamedTemporaryFile() as out:
            pid = process.begin(operation, 888_888)
            tracer = subprocess.Popen(
                ["strace", "-ff", "-p", str(pid), "-o", out.name, "-e", f"trace={call}"],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            )  # fmt: skip
            tracer.stderr.readline()
            process.go()
            tracer.wait(20)
            tracer.stderr.close()
            from pathlib import Path

            files = list(Path(out.name).parent.glob(Path(out.name).name + ".*"))
            _COUNTS[key] = max((file.read_text().count(f"{call}(") for file in files), default=0)
            for file in files:
                file.unlink()
    return _COUNTS[key]
