"""Locks, atomic replacement and durable directories: the one module where systems differ.

POSIX uses `flock`, which the kernel releases when the process dies however it dies, and `fcntl` where a
network file system knows no `flock`. Windows uses
`msvcrt.locking` on one byte; that path is untested (docs/platforms.md).
"""

from __future__ import annotations

import errno
import os
import secrets
import sys
import time
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Final

from gml.domain.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    def _lock(fd: int, *, wait: bool) -> bool:
        os.lseek(fd, 1 << 30, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def unlock(fd: int) -> None:
        """Release a lock that `try_lock` gave."""
        with suppress(OSError):
            os.lseek(fd, 1 << 30, os.SEEK_SET)
            msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)

else:
    import fcntl
    import struct

    _BUSY: Final = frozenset((errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES))
    # What file systems say that know no flock: some NFS, Lustre and FUSE mounts.
    _NO_FLOCK: Final = frozenset((errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL))

    def _lock(fd: int, *, wait: bool) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if error.errno in _NO_FLOCK:
                return _lock_range(fd, wait=wait)
            if error.errno in _BUSY:
                return False
            raise
        return True

    def _range(kind: int) -> bytes:
        return struct.pack("@hhqqi", kind, os.SEEK_SET, 0, 0, 0)

    def _lock_range(fd: int, *, wait: bool) -> bool:
        """Lock by fcntl, of the open file where the system can, so that threads exclude each other too."""
        try:
            if sys.platform == "linux":
                command = fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK
                fcntl.fcntl(fd, command, _range(fcntl.F_WRLCK))
            else:
                fcntl.lockf(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if error.errno in _BUSY:
                return False
            raise
        return True

    def unlock(fd: int) -> None:
        """Release a lock that `try_lock` gave."""
        try:
            fcntl.flock(fd, fcntl.LOCK_UN)
        except OSError:
            with suppress(OSError):
                if sys.platform == "linux":
                    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _range(fcntl.F_UNLCK))
                else:
                    fcntl.lockf(fd, fcntl.LOCK_UN)


OPEN_FLAGS: Final = os.O_CLOEXEC if hasattr(os, "O_CLOEXEC") else getattr(os, "O_BINARY", 0)


def try_lock(fd: int) -> bool:
    """Take the exclusive lock of an open file if nobody else holds it."""
    return _lock(fd, wait=False)


def wait_lock(fd: int, timeout: float | None) -> bool:
    """Take the exclusive lock of an open file, waiting up to `timeout` seconds (None: for ever)."""
    if timeout is None:
        while not _lock(fd, wait=True):
            time.sleep(0.01)
        return True
    end = time.monotonic() + timeout
    pause = 0.0005
    while not _lock(fd, wait=False):
        if time.monotonic() >= end:
            return False
        time.sleep(pause)
        pause = min(pause * 2, 0.05)
    return True


@contextmanager
def locked(path: Path, *, timeout: float | None = 120.0) -> Iterator[None]:
    """Hold the exclusive lock of a lock file, created where missing and never removed.

    Raises:
        StorageError: the file cannot be created, or the lock stays taken for `timeout` seconds.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | OPEN_FLAGS, 0o666)
    except OSError as error:
        raise storage_error(error, f"cannot lock {path}") from error
    try:
        if not wait_lock(fd, timeout):
            raise StorageError(
                f"{path} has been locked by another process for {timeout:g} s",
                hint="`gml status` shows who writes",
            )
        try:
            yield
        finally:
            unlock(fd)
    finally:
        os.close(fd)


STALE_AFTER = 1.0
"""Seconds that a lock file of git must lie there untouched before `remove_stale` takes it away."""


def remove_stale(path: Path) -> bool:
    """Remove a lock file that nobody touches for a while: its owner was killed.

    Only for callers that hold a lock which a living owner of ours would hold as well. The patience is
    for others, such as a `git pack-refs`, which keep their lock files for a moment.

    Returns:
        Whether there was one.
    """
    seen = _identity(path)
    end = time.monotonic() + STALE_AFTER
    while seen is not None and time.monotonic() < end:
        time.sleep(0.01)
        if _identity(path) != seen:
            return False
    if seen is not None:
        with suppress(FileNotFoundError):
            path.unlink()
    return seen is not None


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return (facts.st_ino, facts.st_mtime_ns, facts.st_size)


def fsync_directory(path: Path | str) -> None:
    """Make the names in a directory durable; a no-op where the system has no such call."""
    if sys.platform == "win32":
        return
    fd = os.open(path, os.O_RDONLY | OPEN_FLAGS)
    try:
        os.fsync(fd)
    except OSError as error:
        # Some network and FUSE file systems refuse this and say so; there is nothing better to do.
        if error.errno not in {errno.EINVAL, errno.ENOTSUP, errno.EBADF}:
            raise
    finally:
        os.close(fd)


def write_atomic(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace a file's content so that readers see the old or the new bytes, never a part.

    Raises:
        StorageError: it could not be written; the old file is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
        if durable:
            fsync_directory(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise storage_error(error, f"cannot write {path}") from error


_REASONS: Final = {
    errno.ENOSPC: ("no space left on the disk", "free some space and try again"),
    errno.EDQUOT: ("the disk quota is used up", "free some space and try again"),
    errno.EROFS: ("the file system is read-only", "use a writable place"),
    errno.EACCES: ("permission denied", "check owner and permissions"),
    errno.EPERM: ("permission denied", "check owner and permissions"),
    errno.EIO: ("input/output error", "check the disk"),
    errno.EMFILE: ("too many open files", "raise `ulimit -n`"),
}


def storage_error(error: OSError, what: str) -> StorageError:
    """Return the one-line storage error for a failed system call.

    Args:
        error: what the system said.
        what: what was tried, such as `cannot write /tmp/x`.
    """
    reason, hint = _REASONS.get(
        error.errno or 0, (error.strerror or str(error) or type(error).__name__, None)
    )
    return StorageError(f"{what}: {reason}", hint=hint)


def write_stream(path: Path, source: IO[bytes]) -> None:
    """Write everything a binary file object gives to a file that appears only when it is whole.

    Raises:
        StorageError: it could not be written; errors of `source` pass through, and nothing appears.
    """
    # A short name of its own: the target's may already be as long as the file system allows.
    temporary = path.with_name(f".gml-{secrets.token_hex(8)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            while chunk := source.read(1 << 20):
                file.write(chunk)
        temporary.replace(path)
    except OSError as error:
        raise storage_error(error, f"cannot write {path}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
