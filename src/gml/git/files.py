"""Durable files: what is written here is on the disk, name included, before the call returns."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from typing import TYPE_CHECKING

from gml.domain.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_WHY = {
    errno.ENOSPC: ("no space left on the disk", "free some space and try again"),
    errno.EDQUOT: ("the disk quota is used up", "free some space and try again"),
    errno.EROFS: ("the file system is read-only", "use a writable clone"),
    errno.EACCES: ("permission denied", "check who owns the repository"),
    errno.EPERM: ("permission denied", "check who owns the repository"),
    errno.EIO: ("input/output error", "check the disk"),
    errno.EMFILE: ("too many open files", "raise `ulimit -n`"),
}


def storage_error(exc: OSError, action: str) -> StorageError:
    """Turn an OSError into one clear line: what was tried, why it failed, what to do."""
    why, hint = _WHY.get(exc.errno or 0, (exc.strerror or str(exc), None))
    return StorageError(f"cannot {action}: {why}", hint=hint)


@contextlib.contextmanager
def storage(action: str) -> Iterator[None]:
    """Raise StorageError instead of OSError inside the block."""
    try:
        yield
    except OSError as exc:
        raise storage_error(exc, action) from exc


def fsync_dir(path: str | Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as exc:
        # some network file systems cannot sync directories and say so; their renames are synchronous
        if exc.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(fd)


def make_dirs(path: Path, shared: int = 0) -> None:
    """Create a directory with its parents, durably; existing ones are fine."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for directory in reversed(missing):
        with contextlib.suppress(FileExistsError):
            directory.mkdir()
            if shared:
                share(directory, shared)
            fsync_dir(directory.parent)


def share(path: str | Path, shared: int) -> None:
    """Widen permissions as `core.sharedRepository` asks: to the group, to all, or to given bits."""
    mode = os.stat(path).st_mode  # noqa: PTH116 - called with str on the hot path
    is_dir = mode & 0o170000 == 0o040000
    bits = shared & (0o777 if mode & 0o200 else 0o555)
    if is_dir:
        bits |= (bits & 0o444) >> 2 | 0o2000
    with contextlib.suppress(PermissionError):
        os.chmod(path, (mode & 0o7777) | bits)  # noqa: PTH101


def shared_bits(value: str | None) -> int:
    """Return the permission bits that a `core.sharedRepository` value adds; 0 for none."""
    word = (value or "").lower()
    if word in {"group", "true", "1", "yes", "on"}:
        return 0o660
    if word in {"all", "world", "everybody", "2"}:
        return 0o664
    if word.startswith("0") and len(word) > 1 and word.isdigit():
        return int(word, 8) & 0o666
    return 0


def write_all(fd: int, data: bytes) -> None:
    """Write all bytes to a descriptor."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def write_temp(directory: str | Path, prefix: str, data: bytes, mode: int = 0o444) -> str:
    """Write bytes to a new synced file with a unique name and return its path; no file on failure."""
    while True:
        path = os.path.join(directory, prefix + secrets.token_hex(6))  # noqa: PTH118 - hot path
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            break
        except FileExistsError:
            continue
    try:
        try:
            write_all(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(path)  # noqa: PTH108
        raise
    return path
