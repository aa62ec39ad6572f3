"""Writing to a journal without ever stopping the training.

`os.write` hands the bytes to the kernel, so they outlive the process however it dies; an fsync about
every second makes them outlive the machine. When the disk is full or failing, bytes wait in bounded
memory, the user is warned, and the next call tries again.
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Final

from gml.fs import OPEN_FLAGS

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger("gml")

MAX_PENDING: Final = 8 * 1024 * 1024
RETRY_EVERY: Final = 1.0
WARN_EVERY: Final = 60.0


class Appender:
    """An append-only file.

    Args:
        path: the file, created where missing.
        readable: open it for reading as well.
    """

    def __init__(self, path: Path, *, readable: bool = False) -> None:
        self.path = path
        mode = os.O_RDWR if readable else os.O_WRONLY
        self.fd = os.open(path, mode | os.O_CREAT | os.O_APPEND | OPEN_FLAGS, 0o666)
        self.dirty = False
        self._pending = b""
        self._lost = 0
        self._retry_at = 0.0
        self._warn_at = 0.0

    def write(self, data: bytes) -> bool:
        """Append bytes; False when they could not be kept on disk (yet), or the file is closed."""
        if self._pending:
            return self._write_pending(data)
        try:
            written = os.write(self.fd, data)
        except OSError as error:
            if self.fd >= 0:
                self._keep(data, error)
            return False
        if written != len(data):
            self._keep(data[written:], OSError(28, os.strerror(28)))
            return False
        self.dirty = True
        return True

    def _keep(self, data: bytes, error: OSError) -> None:
        room = MAX_PENDING - len(self._pending)
        if len(data) <= room:
            self._pending += data
        else:
            self._lost += data.count(b"\n")
        now = time.monotonic()
        self._retry_at = now + RETRY_EVERY
        if now >= self._warn_at:
            self._warn_at = now + WARN_EVERY
            log.warning(
                "gml: cannot write %s (%s); training goes on, %d bytes wait in memory, %d lines given up; "
                "free some space and they are written",
                self.path,
                error.strerror or error,
                len(self._pending),
                self._lost,
            )

    def _write_pending(self, data: bytes) -> bool:
        if time.monotonic() < self._retry_at:
            room = MAX_PENDING - len(self._pending)
            if len(data) <= room:
                self._pending += data
            else:
                self._lost += data.count(b"\n")
            return False
        return self.flush(data)

    def flush(self, data: bytes = b"") -> bool:
        """Try to write what waits, and `data` after it."""
        waiting, self._pending = self._pending + data, b""
        if not waiting:
            return True
        try:
            written = os.write(self.fd, waiting)
        except OSError as error:
            self._keep(waiting, error)
            return False
        self.dirty = True
        if written != len(waiting):
            self._keep(waiting[written:], OSError(28, os.strerror(28)))
            return False
        return True

    @property
    def unwritten(self) -> int:
        """Bytes that wait in memory."""
        return len(self._pending)

    def sync(self) -> None:
        """Make what was written durable; trouble is logged, not raised."""
        if self._pending:
            self.flush()
        if not self.dirty:
            return
        self.dirty = False
        try:
            os.fsync(self.fd)
        except OSError as error:
            log.warning("gml: cannot sync %s (%s)", self.path, error.strerror or error)

    def close(self) -> None:
        """Close the file; its lock goes with it."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)
