"""Writing to a journal without ever stopping the training.

`os.write` hands the bytes to the kernel, so they outlive the process however it dies; an fsync about
every second makes them outlive the machine. When the disk is full or failing, bytes wait in bounded
memory, the user is warned, and the next call tries again.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from pathlib import Path
from typing import Final

from gml.fs import OPEN_FLAGS

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
        self.quiet = False
        self._pending = bytearray()
        self._guard = threading.Lock()  # of what waits; the usual write needs none
        self._lost = 0
        self._retry_at = 0.0
        self._warn_at = 0.0

    def write(self, data: bytes) -> bool:
        """Append whole lines; False when they could not be kept on disk (yet), or the file is closed."""
        if self._pending:
            return self._write_later(data)
        try:
            written = os.write(self.fd, data)
        except OSError as error:
            if self.fd >= 0:
                with self._guard:
                    self._hold(data)
                    self._trouble(error)
            return False
        if written != len(data):
            with self._guard:
                # The rest of a torn line goes before what other threads have put there meanwhile.
                self._pending[:0] = data[written:]
                self._trouble(_full())
            return False
        self.dirty = True
        return True

    def _write_later(self, data: bytes) -> bool:
        with self._guard:
            room = time.monotonic() >= self._retry_at and self._drain()
            self._hold(data)
            return room and self._drain()

    def _hold(self, data: bytes) -> None:
        if len(self._pending) + len(data) <= MAX_PENDING:
            self._pending += data
        else:
            self._lost += data.count(b"\n")

    def _drain(self) -> bool:
        """Write what waits, as far as it goes."""
        if not self._pending:
            return True
        try:
            written = os.write(self.fd, self._pending)
        except OSError as error:
            self._trouble(error)
            return False
        self.dirty = True
        del self._pending[:written]
        if self._pending:
            self._trouble(_full())
            return False
        return True

    def _trouble(self, error: OSError) -> None:
        if self.fd < 0:
            return
        now = time.monotonic()
        self._retry_at = now + RETRY_EVERY
        if now >= self._warn_at and not self.quiet:
            self._warn_at = now + WARN_EVERY
            log.warning(
                "gml: cannot write %s (%s); training goes on, %d bytes wait in memory, %d lines given up; "
                "free some space and they are written",
                self.path,
                error.strerror or error,
                len(self._pending),
                self._lost,
            )

    def flush(self, data: bytes = b"") -> bool:
        """Try to write what waits, and `data` after it, at once."""
        with self._guard:
            self._drain()
            self._hold(data)
            return self._drain()

    @property
    def unwritten(self) -> int:
        """Bytes that wait in memory."""
        return len(self._pending)

    @property
    def given_up(self) -> int:
        """Lines that had no room in memory while the disk took nothing."""
        return self._lost

    def sync(self, *, anyway: bool = False) -> None:
        """Make what was written durable; trouble is logged, not raised.

        Args:
            anyway: also where another thread is about to do it: it may not have done it yet.
        """
        if self._pending:
            self.flush()
        # Once: another thread may close the file at any time.
        fd = self.fd
        if fd < 0 or not (self.dirty or anyway):
            return
        self.dirty = False
        try:
            os.fsync(fd)
        except OSError as error:
            if self.fd >= 0:
                log.warning("gml: cannot sync %s (%s)", self.path, error.strerror or error)

    def close(self) -> None:
        """Close the file; its lock goes with it, and so does what still waits."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)
        self._pending = bytearray()


class _Closed(Appender):
    """The file of a process that has left its run: takes nothing."""

    def __init__(self) -> None:
        self.path = Path(os.devnull)
        self.fd = -1
        self.dirty = False
        self._pending = bytearray()
        self._lost = 0


CLOSED: Final[Appender] = _Closed()


def _full() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
