"""Refs in the files format: loose files, packed-refs, symbolic refs, reflogs; git's own locking rules.

Both engines move refs through here. libgit2 checks the expected value only when an existing ref is
moved, not when one is created, and neither library syncs by itself; git's protocol is small: take
`<ref>.lock` exclusively, compare, write, sync, rename.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gml.domain.errors import CorruptError, InvalidValueError, RefMovedError, StorageError
from gml.fs import fsync_directory, storage_error
from gml.git.files import make_dirs, share, storage, write_all, write_temp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOCK_SECONDS: Final = 10.0
_PER_WORKTREE: Final = ("refs/bisect/", "refs/worktree/", "refs/rewritten/")
_BAD_NAME: Final = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock/|\.lock$|\.$|/$|^/|^\.")
_HEX: Final = re.compile(rb"[0-9a-f]{40}([0-9a-f]{24})?")


def check_name(name: str) -> str:
    """Return a full ref name that git accepts.

    Raises:
        InvalidValueError: git would refuse it.
    """
    if _BAD_NAME.search(name) or not (name == "HEAD" or name.startswith("refs/")) or name == "refs/":
        raise InvalidValueError(f"{name!r} is not a valid full ref name", hint="such as refs/heads/main")
    return name


@dataclass(slots=True)
class _Lock:
    """A lock file that this process created."""

    fd: int
    path: Path
    committed: bool = False

    def commit(self, target: Path) -> None:
        """Make the lock file the file it guards."""
        self.path.rename(target)
        self.committed = True


@dataclass(frozen=True, slots=True)
class RefFiles:
    """The refs of one repository, as seen from one worktree.

    Attributes:
        git_dir: of this worktree.
        common_dir: shared by all worktrees.
        zero: the id that stands for "no object".
        signer: returns the `name <mail>` of reflog lines.
        log_all: value of `core.logAllRefUpdates`: `always`, `true` or `false`.
        shared: permission bits of `core.sharedRepository`.
    """

    git_dir: Path
    common_dir: Path
    zero: str
    signer: Callable[[], str]
    log_all: str = "true"
    shared: int = 0

    def base(self, name: str) -> Path:
        """Return the directory that holds a ref: some belong to the worktree, most to all."""
        own = not name.startswith("refs/") or name.startswith(_PER_WORKTREE)
        return self.git_dir if own else self.common_dir

    def read(self, name: str) -> str | None:
        """Return the raw value: an id, `ref: <name>`, or None."""
        path = self.base(name) / name
        for _ in range(5):
            try:
                data = path.read_bytes()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return self._packed(name)
            except OSError as exc:
                raise storage_error(exc, f"cannot read {name}") from exc
            if data.startswith(b"ref:"):
                return "ref: " + data[4:].strip().decode("utf-8", "surrogateescape")
            match = _HEX.match(data)
            if match:
                return match[0].decode()
            time.sleep(0.01)
        raise CorruptError(f"{path} does not hold an object id", hint="restore it from a clone, or delete it")

    def resolve(self, name: str) -> tuple[str, str | None]:
        """Follow symbolic refs; return the name of the last ref and its id (None when unborn)."""
        for _ in range(10):
            value = self.read(name)
            if value is None or not value.startswith("ref: "):
                return name, value
            name = value[5:]
            if _BAD_NAME.search(name):
                break
        raise CorruptError(f"{name} is a symbolic ref that leads nowhere", hint="run `git symbolic-ref`")

    def _packed_data(self) -> bytes:
        try:
            return (self.common_dir / "packed-refs").read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as exc:
            raise storage_error(exc, "cannot read packed-refs") from exc

    def _packed(self, name: str) -> str | None:
        data = self._packed_data()
        at = data.find(b" " + name.encode("utf-8", "surrogateescape") + b"\n")
        if at < 0:
            return None
        return data[data.rfind(b"\n", 0, at) + 1 : at].decode()

    def _packed_all(self) -> Iterator[tuple[str, str]]:
        for line in self._packed_data().splitlines():
            oid, _, name = line.partition(b" ")
            if name and not line.startswith((b"#", b"^")):
                yield name.decode("utf-8", "surrogateescape"), oid.decode()

    def list(self, prefix: str) -> dict[str, str]:
        """Return refs under a prefix with their ids, sorted; broken symbolic refs are left out."""
        found: dict[str, str | None] = {}
        bases = {self.common_dir: None, self.git_dir: None}
        for base in bases:
            # a prefix may end within a name: start at the last whole directory
            start = "refs/" if "refs/".startswith(prefix) else prefix[: prefix.rfind("/") + 1]
            for name in self._loose_names(base, start or "refs/"):
                if name.startswith(prefix) and self.base(name) == base:
                    found[name] = None
        for name in found:
            # read before the packed ones: a ref that is packed meanwhile is then seen there
            with contextlib.suppress(CorruptError):
                found[name] = self.resolve(name)[1]
        for name, oid in self._packed_all():
            if name.startswith(prefix) and not found.get(name):
                found[name] = oid
        return {name: oid for name, oid in sorted(found.items()) if oid}

    def _loose_names(self, base: Path, directory: str) -> Iterator[str]:
        try:
            with os.scandir(base / directory) as entries:
                children = list(entries)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as exc:
            raise storage_error(exc, f"cannot list {directory}") from exc
        for child in children:
            name = directory + child.name
            if child.is_dir():
                yield from self._loose_names(base, name + "/")
            elif not child.name.endswith(".lock") and not _BAD_NAME.search(name):
                yield name

    @contextlib.contextmanager
    def _lock(self, path: Path) -> Iterator[_Lock]:
        """Hold `<path>.lock`; it is removed afterwards unless the block committed it."""
        lock = path.with_name(path.name + ".lock")
        deadline = time.monotonic() + LOCK_SECONDS
        pause = 0.001
        while True:
            try:
                fd = os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
                break
            except FileNotFoundError:
                # git removes empty directories behind us, so this may take another round
                make_dirs(path.parent, self.shared)
            except (NotADirectoryError, FileExistsError) as exc:
                if not lock.exists() and not lock.parent.is_dir():
                    raise StorageError(f"cannot create {path}: a ref of a parent name exists") from exc
            if time.monotonic() > deadline:
                raise StorageError(
                    f"cannot lock {path.name}: {lock} exists for {LOCK_SECONDS:.0f} s",
                    hint="another git process is at work; delete the file if none is",
                )
            time.sleep(pause * random.random())  # noqa: S311
            pause = min(pause * 2, 0.05)
        held = _Lock(fd, lock)
        try:
            yield held
        finally:
            os.close(fd)
            # after the rename the name may already be the lock of the next process
            if not held.committed:
                with contextlib.suppress(FileNotFoundError):
                    lock.unlink()

    def update(self, name: str, new: str, expected: str | None, message: str) -> None:
        """Compare and swap; symbolic refs are followed, so that the branch moves and not its alias."""
        target = self.resolve(check_name(name))[0]
        check_name(target)
        path = self.base(target) / target
        if expected is None:
            self._check_room(target)  # before the lock, which would leave an empty directory behind
        with storage(f"update {name}"), self._lock(path) as lock:
            current = self._check(target, expected)
            if current == new:
                return
            if current is None:
                self._check_room(target)
            write_all(lock.fd, new.encode() + b"\n")
            if self.shared:
                share(lock.path, self.shared)
            os.fsync(lock.fd)
            self._log(target, current or self.zero, new, message)
            if path.is_dir():
                _remove_empty(path)
            lock.commit(path)
            fsync_directory(path.parent)

    def _check(self, name: str, expected: str | None) -> str | None:
        current = self.resolve(name)[1]
        if current != expected:
            raise RefMovedError(
                f"{name} is at {current or 'nothing'}, not at {expected or 'nothing'}",
                hint="read it again and retry",
            )
        return current

    def _check_room(self, name: str) -> None:
        """Refuse `a/b` beside a packed `a`, and `a` beside `a/b`: no file system could hold both."""
        parents = {name[:at] for at in range(len(name)) if name[at] == "/"}
        clash = next((parent for parent in sorted(parents) if self._packed(parent)), None)
        clash = clash or next(iter(self.list(name + "/")), None)
        if clash:
            raise StorageError(f"cannot create {name}: the ref {clash} is in the way")

    def _log(self, name: str, old: str, new: str, message: str) -> None:
        line = f"{old} {new} {self.signer()} {int(time.time())} +0000\t{' '.join(message.split())}\n"
        data = line.encode("utf-8", "surrogateescape")
        names = [name]
        head = self.read("HEAD") if name.startswith("refs/heads/") else None
        if head == f"ref: {name}":
            names.append("HEAD")
        for one in names:
            path = self.base(one) / "logs" / one
            usual = one == "HEAD" or one.startswith(("refs/heads/", "refs/remotes/", "refs/notes/"))
            if not path.exists():
                if not (self.log_all == "always" or (self.log_all == "true" and usual)):
                    continue
                make_dirs(path.parent, self.shared)
            with contextlib.suppress(IsADirectoryError), path.open("ab") as log:
                log.write(data)

    def delete(self, name: str, expected: str) -> None:
        """Delete if the value is the expected one: from packed-refs first, as readers ask there last."""
        check_name(name)
        path = self.base(name) / name
        with storage(f"delete {name}"), self._lock(path):
            self._check(name, expected)
            if self._packed(name):
                self._unpack(name)
            if path.is_dir():
                _remove_empty(path)
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
                fsync_directory(path.parent)
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                (self.base(name) / "logs" / name).unlink()
        _remove_empty_parents(path.parent, self.base(name) / "refs")

    def _unpack(self, name: str) -> None:
        """Rewrite packed-refs without one ref."""
        path = self.common_dir / "packed-refs"
        with self._lock(path) as lock:
            data = self._packed_data()
            needle = b" " + name.encode("utf-8", "surrogateescape") + b"\n"
            end = data.find(needle) + len(needle)
            if end < len(needle):
                return
            start = data.rfind(b"\n", 0, end - len(needle)) + 1
            if data[end : end + 1] == b"^":
                end = data.find(b"\n", end) + 1 or len(data)
            # the lock file must stay ours until the end: readers get the new list by a second rename
            temp = write_temp(self.common_dir, "packed-refs.new-", data[:start] + data[end:], 0o644)
            if self.shared:
                share(temp, self.shared)
            Path(temp).rename(lock.path)
            lock.commit(path)
            fsync_directory(self.common_dir)

    def break_lock(self, name: str) -> bool:
        """Remove the lock file of a ref; only for callers that know its owner is dead."""
        path = self.base(name) / (name + ".lock")
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
            return True
        return False


def _remove_empty(path: Path) -> None:
    """Remove a tree of empty directories that a deleted ref left where a ref shall be."""
    for directory, _, _ in os.walk(path, topdown=False):
        os.rmdir(directory)  # noqa: PTH106


def _remove_empty_parents(path: Path, stop: Path) -> None:
    """Remove directories that a deleted ref left empty, as git does; a race loses quietly."""
    while path.parent != stop and stop in path.parents:
        try:
            path.rmdir()
        except OSError:
            return
        path = path.parent
