"""Real git beside a store: what conformance suites judge with, and processes that race for a ref."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from gml.domain.errors import (
    RefMovedError,
)
from gml.git.objects import (
    format_commit,
    format_tree,
)
from gml.git.port import MODE_FILE, Commit, GitStore, Identity, TreeEntry

if TYPE_CHECKING:
    from collections.abc import Sequence


ADA: Final = Identity("Ada Lovelace", "ada@example.org")
LEDGER: Final = "refs/gml/ledger"
PROCESSES: Final = 8
UPDATES: Final = 20


def git(store: GitStore, *args: str, data: bytes | None = None, check: bool = True) -> bytes:
    """Run real git on the repository of a store and return its output."""
    done = subprocess.run(
        ["git", "--git-dir", str(store.location.git_dir), *args],
        env=git_environ(),
        input=data,
        capture_output=True,
        check=False,
    )
    assert not check or done.returncode == 0, (args, done.stderr)
    return done.stdout


def git_environ() -> dict[str, str]:
    """Return an environment for git that has no configuration but an identity."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "Ada",
        "GIT_AUTHOR_EMAIL": "ada@example.org",
        "GIT_COMMITTER_NAME": "Ada",
        "GIT_COMMITTER_EMAIL": "ada@example.org",
    }


def told(store: GitStore, *args: str, data: bytes | None = None) -> str:
    """Run real git and return its output as one stripped string."""
    return git(store, *args, data=data).decode("utf-8", "surrogateescape").strip()


def make_commit(
    store: GitStore, parents: Sequence[str] = (), text: str = "x", time: int = 1_700_000_000
) -> str:
    """Write a commit with one file and return its id."""
    blob = store.write("blob", text.encode())
    tree = store.write("tree", format_tree([TreeEntry("f", MODE_FILE, blob)]))
    return store.write(
        "commit", format_commit(Commit(tree, tuple(parents), ADA, time, ADA, time, f"{text}\n"))
    )


def fsck(store: GitStore) -> None:
    """Assert that `git fsck --strict` finds nothing wrong."""
    done = subprocess.run(
        ["git", "--git-dir", str(store.location.git_dir), "fsck", "--strict", "--full"],
        env=git_environ(),
        capture_output=True,
        text=True,
        check=False,
    )
    lines = (done.stdout + done.stderr).splitlines()
    assert done.returncode == 0, lines
    assert [line for line in lines if not line.startswith(("dangling ", "notice: ", "Checking "))] == []


def race(path: str, engine: str, worker: int, updates: int) -> None:
    """Append commits to the ledger by compare-and-swap; the body of one racing process."""
    from gml.git.discover import open_store

    store = open_store(path, environ=os.environ, engine=engine)
    for number in range(updates):
        while True:
            tip = store.ref(LEDGER)
            commit = make_commit(store, [tip] if tip else [], f"{worker}-{number}")
            try:
                store.update_ref(LEDGER, commit, expected=tip, message="race")
                break
            except RefMovedError:
                continue
    store.close()


def race_all(path: str, engine: str, workers: int, updates: int) -> int:
    """Fork racing processes and return how many failed."""
    children = []
    for worker in range(workers):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                race(path, engine, worker, updates)
                status = 0
            finally:
                os._exit(status)
        children.append(pid)
    return sum(1 for pid in children if os.waitpid(pid, 0)[1] != 0)


def start_race(store: GitStore, workers: int = PROCESSES, updates: int = UPDATES) -> subprocess.Popen[bytes]:
    """Start a process that forks the racers; it exits with the number of failed ones."""
    arguments = (str(store.location.git_dir), store.location.engine, workers, updates)
    code = f"import sys; from gml.testing.git_tools import race_all; sys.exit(race_all(*{arguments!r}))"
    return subprocess.Popen([sys.executable, "-c", code], env=git_environ(), stderr=subprocess.PIPE)
