"""Writing loose objects durably: temporary file, fsync, rename, fsync of the directory.

Both engines write through here: libgit2 syncs only by a switch that is global to the process (and so
would slow down other users of pygit2 in a training script), dulwich does not sync at all.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from typing import TYPE_CHECKING, cast

from gml.domain.errors import CorruptError
from gml.fs import fsync_directory, storage_error
from gml.git.files import share, storage, write_temp
from gml.git.objects import KINDS

if TYPE_CHECKING:
    from pathlib import Path

    from gml.git.port import Kind


def loose_path(objects_dir: str | Path, oid: str) -> str:
    """Return where a loose object lies."""
    return f"{objects_dir}/{oid[:2]}/{oid[2:]}"


def read_loose(objects_dir: str | Path, oid: str) -> tuple[Kind, bytes] | None:
    """Read a loose object without checking its id; None if there is none.

    Raises:
        CorruptError: the file is not a git object.
        StorageError: it can not be read.
    """
    try:
        with open(loose_path(objects_dir, oid), "rb") as file:  # noqa: PTH123 - hot path
            packed = file.read()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise storage_error(exc, f"cannot read object {oid}") from exc
    try:
        header, found, data = zlib.decompress(packed).partition(b"\0")
        kind, size = header.decode("ascii").split(" ")
    except (zlib.error, ValueError) as exc:
        raise CorruptError(f"object {oid} is damaged ({exc})", hint="fetch it from a clone") from exc
    if not found or kind not in KINDS or size != str(len(data)):
        raise CorruptError(f"object {oid} is damaged (bad header)", hint="fetch it from a clone")
    return cast("Kind", kind), data


def freshen(path: str) -> bool:
    """Make an existing loose object durable and give it today's date; False if there is none.

    The one who wrote it may have been plain git, which does not sync loose objects. The date keeps a
    `git gc` elsewhere from pruning it before our ref names it.
    """
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    with contextlib.suppress(PermissionError):
        os.utime(path)  # after the sync: the date alone is not worth a journal commit
    fsync_directory(os.path.dirname(path))  # noqa: PTH120 - hot path
    return True


def write_loose(objects_dir: str | Path, oid: str, kind: Kind, data: bytes, shared: int = 0) -> None:
    """Store one object as a loose file.

    Raises:
        StorageError: the disk is full, failing, or read-only.
    """
    path = loose_path(objects_dir, oid)
    directory = path[: -(len(oid) - 1)]
    packed = zlib.compress(b"%s %d\0" % (kind.encode(), len(data)) + data, 1)
    with storage(f"write to the repository at {objects_dir}"):
        temp = ""
        while not temp:
            try:
                temp = write_temp(directory, "tmp_obj_", packed)
            except FileNotFoundError:
                if not os.path.isdir(objects_dir):  # noqa: PTH112
                    raise
                with contextlib.suppress(FileExistsError):
                    os.mkdir(directory)  # noqa: PTH102
                    if shared:
                        share(directory, shared)
                fsync_directory(objects_dir)
        try:
            if shared:
                share(temp, shared)
            os.rename(temp, path)  # noqa: PTH104
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temp)  # noqa: PTH108
            raise
        fsync_directory(directory)
