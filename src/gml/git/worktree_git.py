"""The work tree seen through the git command, so that filters (LFS, line ends) and attributes work.

git may read the user's index but not write it: what is written goes through a copy in a temporary
directory, and optional locks, hooks and the file system monitor are off.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gml.domain.errors import InvalidValueError, RepositoryError, StorageError
from gml.git.objects import format_of, object_id, raw, text
from gml.git.patches import clip
from gml.git.selection import Choice, Look
from gml.git.trees import Change, edit, lookup, walk

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gml.git.store import FileStore

PATIENCE: Final = 300
_KEPT: Final = (
    "GIT_CONFIG",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_EXEC_PATH",
    "GIT_ATTR",
)
_QUIET: Final = (
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "core.splitIndex=false",
)
_DURABLE: Final = (
    "-c", "core.fsync=loose-object,pack,pack-metadata", "-c", "core.fsyncMethod=batch",
    "-c", "core.fsyncObjectFiles=true",
)  # fmt: skip


class GitCommand:
    """Runs git for one repository with a cleaned environment."""

    def __init__(self, git: str, store: FileStore) -> None:
        self._git = git
        self._place = store.location
        self._environ = {
            key: value
            for key, value in store.environ.items()
            if not key.startswith("GIT_") or key.startswith(_KEPT)
        }
        self._environ |= {
            "GIT_DIR": str(self._place.git_dir),
            "GIT_COMMON_DIR": str(self._place.common_dir),
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "LC_ALL": "C",
        }
        if self._place.worktree:
            self._environ["GIT_WORK_TREE"] = str(self._place.worktree)

    @property
    def environ(self) -> Mapping[str, str]:
        """The environment that git gets."""
        return self._environ

    def run(
        self,
        args: Sequence[str],
        data: bytes | None = None,
        environ: Mapping[str, str] | None = None,
        timeout: float | None = PATIENCE,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run git and return what it did, failures included."""
        try:
            return subprocess.run(
                [self._git, *_QUIET, *args],
                input=data,
                stdin=subprocess.DEVNULL if data is None else None,
                capture_output=True,
                check=False,
                cwd=self._place.worktree or self._place.git_dir,
                env={**self._environ, **(environ or {})},
                timeout=timeout,
            )
        except subprocess.TimeoutExpired as exc:
            raise RepositoryError(
                f"git {args[0]} did not finish in {timeout:g} s", hint="a filter program may be waiting"
            ) from exc
        except OSError as exc:
            raise RepositoryError(f"cannot run git: {exc.strerror}") from exc

    def output(
        self, args: Sequence[str], data: bytes | None = None, environ: Mapping[str, str] | None = None
    ) -> bytes:
        """Run git and return its output.

        Raises:
            RepositoryError: git failed; the message is its own.
        """
        done = self.run(args, data, environ)
        if done.returncode:
            raise RepositoryError(f"git {args[0]} failed: {reason(done.stderr)}", hint="see `git status`")
        return done.stdout


def reason(stderr: bytes) -> str:
    """Return the telling line of git's messages."""
    lines = [line for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("fatal:", "error:"))]
    return (told or lines or ["no message"])[0]


class GitFiles:
    """The adapter over C git."""

    def __init__(self, git: str, store: FileStore) -> None:
        self._store = store
        self._git = GitCommand(git, store)

    def look(self) -> Look:
        """Ask git what differs; one process."""
        out = self._git.output(
            [
                "status",
                "--porcelain=v2",
                "-z",
                "--untracked-files=all",
                "--ignore-submodules=none",
                "--no-renames",
            ]
        )
        look = Look()
        for line in out.split(b"\0"):
            kind = line[:2]
            if kind == b"? ":
                path = text(line[2:])
                (look.embedded if path.endswith("/") else look.untracked).append(path)
            elif kind in {b"1 ", b"u "}:
                fields = line.split(b" ", 8 if kind == b"1 " else 10)
                path, state = text(fields[-1]), fields[2]
                if state.startswith(b"S"):
                    _submodule(look, path, fields[1], state)
                else:
                    look.tracked.append(path)
        return look

    def build(self, head_tree: str | None, choice: Choice) -> str:
        """Write the chosen files and return the tree: HEAD's, with exactly these changes."""
        with tempfile.TemporaryDirectory(prefix="gml-index-") as directory:
            index = Path(directory) / "index"
            mine = self._store.location.git_dir / "index"
            try:
                # the date matters: git compares it with those of the files to see racy entries
                shutil.copy2(mine, index)
            except FileNotFoundError:
                pass
            except OSError as exc:
                raise StorageError(f"cannot copy the index: {exc.strerror}") from exc
            environ = {"GIT_INDEX_FILE": str(index)}
            self._add(sorted({*choice.take, *choice.remove}), environ, choice)
            done = self._git.run([*_DURABLE, "write-tree"], None, environ)
            if done.returncode:
                # an index that names missing objects, or the like: HEAD's state is still worth having
                raise RepositoryError(f"git write-tree failed: {reason(done.stderr)}", hint="see `git fsck`")
            return self._exactly(head_tree, done.stdout.decode().strip(), choice)

    def _add(self, paths: list[str], environ: Mapping[str, str], choice: Choice) -> None:
        """Put files into the copied index; halve on failure, so that one bad file costs only itself."""
        if not paths:
            return
        data = b"".join([raw(path) + b"\0" for path in paths])
        args = [*_DURABLE, "update-index", "--add", "--remove", "--replace", "-z", "--stdin"]
        done = self._git.run(args, data, environ)
        if not done.returncode:
            return
        if (
            b"No space left" in done.stderr
            or b"Read-only" in done.stderr
            or b"unable to write" in done.stderr
        ):
            raise StorageError(f"cannot write a code snapshot: {reason(done.stderr)}")
        if len(paths) == 1:
            choice.left_out[paths[0]] = f"git can not add it: {reason(done.stderr)}"
            choice.take = [path for path in choice.take if path != paths[0]]
            choice.untracked = [path for path in choice.untracked if path != paths[0]]
            return
        half = len(paths) // 2
        self._add(paths[:half], environ, choice)
        self._add(paths[half:], environ, choice)

    def _exactly(self, head_tree: str | None, written: str, choice: Choice) -> str:
        """Undo what the index holds beyond the choice, such as a staged secret, and finish removals."""
        wanted = {*choice.take, *choice.remove}
        repairs: dict[str, Change] = {}
        for path, before, _ in walk(self._store, head_tree, written):
            if path not in wanted:
                repairs[path] = (before.mode, before.oid) if before else None
        for path in choice.remove:
            entry = lookup(self._store, written, path)
            if entry is not None and not entry.is_tree:
                repairs[path] = None
        if not repairs:
            return written
        try:
            root, objects = edit(self._store, written, repairs)
        except InvalidValueError as exc:
            raise RepositoryError(f"cannot take a code snapshot: {exc.message}") from exc
        for kind, data in objects:
            self._store.write(kind, data)
        return root

    def diff(self, old_tree: str | None, new_tree: str | None, max_bytes: int | None) -> str:
        """Let git compare two trees."""
        empty = object_id("tree", b"", format_of(old_tree or new_tree or ""))
        out = self._git.output([
            "diff-tree", "-r", "-p", "--full-index", "--no-renames", "--no-ext-diff", "--no-textconv",
            "--no-color", "--no-relative", "--src-prefix=a/", "--dst-prefix=b/",
            old_tree or empty, new_tree or empty,
        ])  # fmt: skip
        limit = len(out) if max_bytes is None else max_bytes + 1
        return clip(out[:limit].decode("utf-8", "backslashreplace"), max_bytes)


def _submodule(look: Look, path: str, change: bytes, state: bytes) -> None:
    """Sort a submodule: `S<c><m><u>` tells new commit, modified content, untracked files."""
    if b"M" in state[2:3] or b"U" in state[3:4]:
        look.dirty_submodules.append(path)
    if b"C" in state[1:2] or change != b".M":
        look.moved_submodules.append(path)
