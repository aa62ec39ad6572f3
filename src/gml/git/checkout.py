"""A throw-away work tree: other commits are checked out beside the user's files, never over them.

It is a linked worktree in a temporary directory with a detached HEAD, so what runs in it sees the same
repository. Hooks are off. Nothing of the user's work tree, index, HEAD, branches or configuration changes.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gml.domain.errors import RepositoryError
from gml.git.worktree_git import reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gml.git.store import FileStore

PREFIX: Final = "gml-throwaway-"
_NAME = re.compile(PREFIX + r"(\d+)-[0-9a-f]{8}")
_VERBS: Final = frozenset({"worktree", "checkout", "clean", "read-tree", "reset", "apply"})
_OFF: Final = (
    "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "submodule.recurse=false",
    "-c", "advice.detachedHead=false", "-c", "gc.auto=0", "-c", "checkout.workers=0",
)  # fmt: skip


class Checkout:
    """A detached work tree in a temporary directory. Made by `throw_away_checkout`."""

    def __init__(self, git: str, store: FileStore, path: Path) -> None:
        self._git = git
        self._common_dir = store.location.common_dir
        self._environ = plain_environ(store.environ)
        self.path = path
        self._made = False
        self._kept = False

    def switch(self, commit: str) -> Path:
        """Check a commit out, exactly: what an earlier commit's command left behind is removed.

        Raises:
            RepositoryError: git could not check it out.
        """
        if not self._made:
            self._made = True
            self._run("--git-dir", str(self._common_dir), "worktree", "add", "-q", "--detach",
                      str(self.path), commit)  # fmt: skip
        else:
            here = ("-C", str(self.path))
            self._run(*here, "checkout", "-q", "--force", "--detach", commit)
            self._run(*here, "clean", "-ffdxq")
        return self.path

    def place(self, commit: str, tree: str) -> Path:
        """Check a tree out, with HEAD on a commit: what differs between them is uncommitted there.

        To be called once, instead of `switch`.

        Raises:
            RepositoryError: git could not check it out.
        """
        self._made = True
        self._run("--git-dir", str(self._common_dir), "worktree", "add", "-q", "--detach",
                  "--no-checkout", str(self.path), commit)  # fmt: skip
        here = ("-C", str(self.path))
        self._run(*here, "read-tree", "-u", "--reset", tree)
        self._run(*here, "reset", "-q", "--mixed")
        return self.path

    def apply(self, patch: Path) -> None:
        """Apply a patch file to the checked-out files, and to nothing else.

        Raises:
            RepositoryError: it does not fit.
        """
        self._run("-C", str(self.path), "apply", "--whitespace=nowarn", str(patch))

    def keep(self, target: Path) -> Path:
        """Move the work tree to a place of the user's, where it stays; `git worktree remove` ends it.

        Raises:
            RepositoryError: git could not move it, such as over existing files.
        """
        self._run("--git-dir", str(self._common_dir), "worktree", "move", str(self.path), str(target))
        self._kept = True
        return target

    def _run(self, *args: str) -> None:
        done = subprocess.run(
            [self._git, *_OFF, *args],
            stdin=subprocess.DEVNULL, capture_output=True, check=False, env=self._environ,
            cwd=self._common_dir, start_new_session=True,
        )  # fmt: skip
        if done.returncode:
            verb = next((a for a in args if a in _VERBS), "")
            raise RepositoryError(f"git {verb} failed: {reason(done.stderr)}", hint="see `git worktree list`")

    def remove(self) -> None:
        """Remove the work tree and what git knows of it."""
        shutil.rmtree(self.path.parent, ignore_errors=True)
        if not self._kept:
            _forget(self._common_dir, self.path.name)


def plain_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which git finds the repository by itself (hooks set GIT_DIR and the like)."""
    kept = ("GIT_CONFIG", "GIT_EXEC_PATH", "GIT_AUTHOR_", "GIT_COMMITTER_", "GIT_SSH", "GIT_TERMINAL_PROMPT")
    return {k: v for k, v in environ.items() if not k.startswith("GIT_") or k.startswith(kept)}


@contextmanager
def throw_away_checkout(store: FileStore) -> Iterator[Checkout]:
    """Give a work tree that is gone afterwards, also after Ctrl-C, SIGTERM and SIGHUP.

    What a killed process left is removed by the next call.

    Raises:
        RepositoryError: there is no git command.
    """
    git = shutil.which("git", path=store.environ.get("PATH", os.defpath))
    if git is None:
        raise RepositoryError("there is no git command, which checking out other commits needs")
    _sweep(store.location.common_dir)
    top = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
    checkout = Checkout(git, store, top / f"{PREFIX}{os.getpid()}-{secrets.token_hex(4)}")
    with _ended_by_signals():
        try:
            yield checkout
        finally:
            with _uninterrupted():
                checkout.remove()


def _forget(common_dir: Path, name: str) -> None:
    # As `git worktree remove` does; `git worktree prune` would also remove entries of the user's.
    shutil.rmtree(common_dir / "worktrees" / name, ignore_errors=True)
    with suppress(OSError):
        (common_dir / "worktrees").rmdir()


def _sweep(common_dir: Path) -> None:
    """Remove the work trees of processes that were killed."""
    with suppress(OSError):
        for entry in (common_dir / "worktrees").iterdir():
            match = _NAME.fullmatch(entry.name)
            if match is None or _alive(int(match[1])):
                continue
            place = Path((entry / "gitdir").read_text("utf-8", "surrogateescape").strip()).parent
            # Only what is on this machine: the process may live on another one.
            if place.name == entry.name and place.parent.name.startswith(PREFIX) and place.is_dir():
                shutil.rmtree(place.parent, ignore_errors=True)
                _forget(common_dir, entry.name)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the stack like Ctrl-C does."""

    def end(number: int, frame: object) -> None:  # noqa: ARG001
        raise KeyboardInterrupt

    with _handlers(end, ("SIGTERM", "SIGHUP")):
        yield


@contextmanager
def _uninterrupted() -> Iterator[None]:
    with _handlers(signal.SIG_IGN, ("SIGINT", "SIGTERM", "SIGHUP")):
        yield


@contextmanager
def _handlers(handler: signal._HANDLER, names: tuple[str, ...]) -> Iterator[None]:
    before: dict[int, signal._HANDLER] = {}
    if threading.current_thread() is threading.main_thread():
        for name in names:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
