"""Files of manifests as an fsspec file system, for libraries that open URLs: read only, verified."""

from __future__ import annotations

import io
import os
import tempfile
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from fsspec import AbstractFileSystem
from fsspec.implementations.dirfs import DirFileSystem

from gml.cas.port import CHUNK
from gml.domain.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping

_IN_MEMORY: Final = 64 << 20


class ManifestFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """Owners, such as runs, as folders of read-only files.

    A subclass says which files an owner has and opens them.
    """

    root_marker = ""

    @abstractmethod
    def files_of(self, owner: str) -> Mapping[str, tuple[int, str]]:
        """Return path -> size and SHA-256 of each file.

        Raises:
            NotFoundError: there is no such owner.
        """

    @abstractmethod
    def open_file(self, owner: str, path: str) -> BinaryIO:
        """Return a verified readable file object; it may be one that cannot be seeked."""

    @abstractmethod
    def owners(self) -> list[str]:
        """Return the owners that there are."""

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """List a folder, or a file as itself."""
        path = self._strip_protocol(path).strip("/")
        if not path:
            found = [{"name": owner, "size": 0, "type": "directory"} for owner in self.owners()]
        else:
            found = self._below(path)
        return found if detail else [entry["name"] for entry in found]

    def _below(self, path: str) -> list[dict[str, Any]]:
        owner, _, inner = path.partition("/")
        files = self._files(owner)
        if inner in files:
            return [self._entry(owner, inner, files)]
        prefix = f"{inner}/" if inner else ""
        found: dict[str, dict[str, Any]] = {}
        for name in files:
            if name.startswith(prefix):
                child, slash, _ = name[len(prefix) :].partition("/")
                if slash:
                    folder = f"{owner}/{prefix}{child}"
                    found[child] = {"name": folder, "size": 0, "type": "directory"}
                else:
                    found[child] = self._entry(owner, name, files)
        if not found and inner:
            raise FileNotFoundError(f"{owner} has no artifact {inner!r}")
        return [found[child] for child in sorted(found)]

    def _files(self, owner: str) -> Mapping[str, tuple[int, str]]:
        try:
            return self.files_of(owner)
        except NotFoundError as error:
            raise FileNotFoundError(str(error)) from error

    def _entry(self, owner: str, name: str, files: Mapping[str, tuple[int, str]]) -> dict[str, Any]:
        size, sha256 = files[name]
        return {"name": f"{owner}/{name}", "size": size, "type": "file", "sha256": sha256}

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Return name, size and type, of a file also its SHA-256."""
        path = self._strip_protocol(path).strip("/")
        owner, _sep, inner = path.partition("/")
        if not path:
            return {"name": "", "size": 0, "type": "directory"}
        files = self._files(owner)
        if inner in files:
            return self._entry(owner, inner, files)
        if not inner or any(name.startswith(f"{inner}/") for name in files):
            return {"name": path, "size": 0, "type": "directory"}
        raise FileNotFoundError(f"{owner} has no artifact {inner!r}")

    def ukey(self, path: str) -> str:
        """Return the SHA-256 of a file, by which caches know that it did not change."""
        return str(self.info(path).get("sha256"))

    def _open(self, path: str, mode: str = "rb", **_: Any) -> BinaryIO:
        if mode != "rb":
            raise OSError(f"{path} cannot be written: artifacts are added with gml.log_artifact")
        owner, _sep, inner = self._strip_protocol(path).strip("/").partition("/")
        files = self._files(owner)
        if inner not in files:
            if any(name.startswith(f"{inner}/") for name in files) or not inner:
                raise IsADirectoryError(path)
            raise FileNotFoundError(f"{owner} has no artifact {inner!r}")
        try:
            return seekable(self.open_file(owner, inner), files[inner][0])
        except NotFoundError as error:
            raise FileNotFoundError(str(error)) from error


def seekable(file: BinaryIO, size: int) -> BinaryIO:
    """Return a file that can be seeked: this one, or a copy of it, in memory if it is not too long."""
    if file.seekable():
        return file
    with file:
        if size <= _IN_MEMORY:
            return io.BytesIO(file.read())
        descriptor, name = tempfile.mkstemp(prefix="gml-")
        copy = os.fdopen(descriptor, "w+b")
        Path(name).unlink()
        try:
            while piece := file.read(CHUNK):
                copy.write(piece)
            copy.seek(0)
        except BaseException:
            copy.close()
            raise
        return copy


def below(system: AbstractFileSystem, folder: str) -> AbstractFileSystem:
    """Return the file system of one folder, in which paths are relative to it."""
    return DirFileSystem(folder, system)
