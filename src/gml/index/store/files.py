"""The index's file: opening it, and who may throw it away.

SQLite names the files beside a database by its path. A process that unlinks a damaged index while another
has it open would later lose the new one's log to the old one's closing. So whoever uses the file holds a
shared lock beside it, and it is only removed under the exclusive one.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import time
from typing import TYPE_CHECKING, Final

from gml.fs import OPEN_FLAGS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUSY_SECONDS: Final = 120.0
PATIENCE: Final = 5.0
_SUFFIXES: Final = ("", "-wal", "-shm", "-journal")


class Guard:
    """The shared lock on an index file, held for as long as it is used.

    Args:
        path: the index file; the lock file stands beside it and is never removed.

    Raises:
        OSError: the directory cannot be written.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._fd = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | OPEN_FLAGS, 0o666)
        self._share()
        self.seen = self._identity()

    def _share(self) -> None:
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(self._fd, fcntl.LOCK_SH)

    def _exclude(self) -> bool:
        if sys.platform == "win32":
            return True  # an open file cannot be removed there
        import fcntl

        end = time.monotonic() + PATIENCE
        while True:
            # Given up first: two that wait for each other's shared lock would wait for ever.
            fcntl.flock(self._fd, fcntl.LOCK_UN)
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() > end:
                    self._share()
                    return False
                time.sleep(0.02)
            else:
                return True

    def _identity(self) -> tuple[int, int] | None:
        try:
            facts = self._path.stat()
        except OSError:
            return None
        return facts.st_dev, facts.st_ino

    def discard(self) -> bool:
        """Remove the file that was there when this lock was taken; our connections to it are closed.

        Returns:
            False where others use it, or it cannot be removed.
        """
        if not self._exclude():
            return False
        try:
            # Another process may have been faster: its new file is not the one that we found damaged.
            if self._identity() == self.seen:
                for suffix in _SUFFIXES:
                    self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        except OSError:
            return False
        finally:
            self._share()
            self.seen = self._identity()
        return True

    def close(self) -> None:
        """Release the lock."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def connect(path: Path) -> sqlite3.Connection:
    """Open an index file for reading and writing.

    Raises:
        sqlite3.Error: it is damaged, locked, or cannot be written.
    """
    _share(path)
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        _wal(connection)
        # Derived data: what a power cut damages is made anew.
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA mmap_size = 1073741824")
        tune(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _share(path: Path) -> None:
    """Let the group write the index where it may write its directory: SQLite itself never does."""
    if sys.platform == "win32":
        return
    with contextlib.suppress(OSError):
        group = path.parent.stat().st_mode & 0o060
        if group & 0o020:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | OPEN_FLAGS, 0o666)
            try:
                mode = os.fstat(fd).st_mode & 0o777
                if mode | group != mode:
                    os.fchmod(fd, mode | group)
            finally:
                os.close(fd)


def _wal(connection: sqlite3.Connection) -> None:
    """Turn on the write-ahead log; SQLite does not wait for others where this is the change."""
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.01)
        else:
            return


def tune(connection: sqlite3.Connection) -> None:
    """Give a connection room: 64 MB of pages."""
    connection.execute("PRAGMA cache_size = -65536")


def private(path: Path) -> sqlite3.Connection:
    """Return a private database, filled with what can be read of an index that cannot be written.

    It lives in a temporary file as far as it does not fit into its cache, and in memory where there is
    no room for one.

    Raises:
        sqlite3.Error: there is no room for it at all.
    """
    connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("PRAGMA synchronous = OFF")
    tune(connection)
    with contextlib.suppress(sqlite3.Error, OSError):
        log = path.with_name(f"{path.name}-wal")
        if path.is_file() and not (log.exists() and log.stat().st_size):
            # `immutable`: without it SQLite wants to write beside the file. Nothing is in the log, and
            # what tears while it is copied is found when it is used.
            uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
            with contextlib.closing(sqlite3.connect(uri, uri=True)) as source:
                source.backup(connection)
    return connection


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Write all or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
