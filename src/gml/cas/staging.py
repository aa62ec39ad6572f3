"""Writing stored files so that none is ever seen in part: stage, sync, rename."""

from __future__ import annotations

import io
import os
import secrets
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from gml.cas.transfer import make_directory, write_all
from gml.fs import fsync_directory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OBJECT_MODE: Final = 0o444


class Staging:
    """The folder `tmp/` of a store, and the way from there to a final name.

    Every method raises `OSError` as the system gives it; the store says what failed.

    Args:
        root: the folder of the store.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "tmp"
        self._ready: set[Path] = set()

    def open(self) -> tuple[Path, io.FileIO]:
        """Return a new file to write to, and its path."""
        self._make(self.folder)
        path = self.folder / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            return path, _create(path)
        except FileNotFoundError:
            # Somebody emptied the store under our feet.
            self._ready.clear()
            self._make(self.folder)
            return path, _create(path)

    @contextmanager
    def staged(self) -> Iterator[tuple[Path, io.FileIO]]:
        """Give a new file that is closed at the end, and removed unless it was renamed."""
        path, out = self.open()
        try:
            with out:
                yield path, out
        finally:
            with suppress(FileNotFoundError):
                path.unlink()

    def write(self, data: bytes, target: Path) -> None:
        """Write a whole file, synced, to its final name; the name itself is not yet durable."""
        with self.staged() as (path, out):
            write_all(out, data)
            self.publish(path, out, target)

    def publish(self, path: Path, out: io.FileIO, target: Path) -> None:
        """Sync a staged file and give it its final name; the name itself is not yet durable."""
        os.fchmod(out.fileno(), OBJECT_MODE)
        os.fsync(out.fileno())
        self._make(target.parent)
        try:
            path.replace(target)
        except FileNotFoundError:
            self._ready.discard(target.parent)
            self._make(target.parent)
            path.replace(target)

    def _make(self, folder: Path) -> None:
        if folder not in self._ready:
            make_directory(folder)
            self._ready.add(folder)


class Names:
    """Folders whose names are to be made durable at the end; may be used by several threads."""

    def __init__(self) -> None:
        self._folders: set[Path] = set()
        self._lock = threading.Lock()

    def add(self, path: Path) -> None:
        """Note that the name `path` matters."""
        with self._lock:
            self._folders.add(path.parent)

    def sync(self) -> None:
        """Make all noted names durable."""
        with self._lock:
            folders, self._folders = sorted(self._folders), set()
        for folder in folders:
            fsync_directory(folder)


def _create(path: Path) -> io.FileIO:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    return io.FileIO(descriptor, "wb")
