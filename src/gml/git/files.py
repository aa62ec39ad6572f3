"""Durable files: what is written here is on the disk, name included, before the call returns."""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import TYPE_CHECKING

from gml.fs import fsync_directory, storage_error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def storage(action: str) -> Iterator[None]:
    """Raise StorageError instead of OSError inside the block."""
    try:
        yield
    except OSError as exc:
        raise storage_error(exc, f"cannot {action}") from exc


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
            fsync_directory(directory.parent)


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
