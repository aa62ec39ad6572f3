"""What each clone needs of a folder that several share, so that the sweep of one keeps it for the others.

A clone adds what it stores before the put is acknowledged, and says anew what it needs when it sweeps
itself. Pins of a clone that is no more can be deleted by hand.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gml.cas.transfer import make_directory, storage_errors
from gml.fs import locked, write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path


class Pins:
    """The pins of one clone in one folder.

    Args:
        root: the folder of the store.
        clone: gives the id of the clone.
    """

    def __init__(self, root: Path, clone: Callable[[], str]) -> None:
        self._folder = root / "pins"
        self._clone = clone

    @property
    def path(self) -> Path:
        """The file: one SHA-256 a line."""
        return self._folder / self._clone()

    def add(self, digests: Iterable[str]) -> None:
        """Say that this clone needs some blobs; durable when this returns.

        Raises:
            StorageError: it cannot be written.
        """
        data = "".join(f"{digest}\n" for digest in dict.fromkeys(digests)).encode()
        if not data:
            return
        path = self.path
        with storage_errors(f"write {path}"):
            make_directory(self._folder)
            with locked(self._lock(path)):
                descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
                try:
                    os.write(descriptor, data)
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)

    def length(self) -> int:
        """Return the present length of the file, for `replace`."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def replace(self, needed: Iterable[str], length: int) -> None:
        """Say anew what this clone needs.

        Args:
            needed: digests, as they were found after `length` was asked for.
            length: what was added to the file since then stays.

        Raises:
            StorageError: it cannot be written.
        """
        path = self.path
        with storage_errors(f"write {path}"):
            if not path.exists():
                return
            with locked(self._lock(path)):
                added = path.read_bytes()[length:]
                write_atomic(path, "".join(f"{digest}\n" for digest in sorted(needed)).encode() + added)

    def _lock(self, path: Path) -> Path:
        return path.with_name(f".{path.name}.lock")
