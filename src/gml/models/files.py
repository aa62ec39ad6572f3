"""The exact bytes of a model: each file is hashed as it is read, and what was checked is what is loaded."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gml.domain.errors import CorruptError, InvalidValueError, NotFoundError
from gml.fs import OPEN_FLAGS, storage_error
from gml.models.mlmodel import NAME, MLmodel

Read = Callable[[str], bytes]

_NO_FOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)


@dataclass(frozen=True, slots=True)
class FileFacts:
    """SHA-256 and length of a file; the digest is empty as long as nobody has read it."""

    sha256: str
    size: int


class ModelFiles:
    """The files of one model, by their paths within it.

    A file is read once and kept until `release`, so that nobody can put another one in its place between
    the check and the load. Where digests are known, bytes that do not match are never handed out.

    Args:
        facts: path -> digest and size.
        read: returns the bytes of a path.
        origin: where they come from, for errors.
    """

    def __init__(self, facts: Mapping[str, FileFacts], read: Read, origin: str) -> None:
        for name in facts:
            _check_name(name, origin)
        self._facts = dict(sorted(facts.items()))
        self._read = read
        self._kept: dict[str, bytes] = {}
        self._copies: list[weakref.finalize[..., object]] = []
        self.origin = origin

    @classmethod
    def of_folder(
        cls, folder: str | os.PathLike[str], digests: Mapping[str, str] | None = None
    ) -> ModelFiles:
        """Take the files of a folder; symbolic links in it are refused.

        Args:
            folder: the folder that holds `MLmodel`.
            digests: path -> SHA-256 that each file must have; exactly these files.

        Raises:
            NotFoundError: there is no such folder.
            CorruptError: a file is missing, or one is there that should not be.
        """
        top = Path(folder)
        if not top.is_dir():
            raise NotFoundError(f"there is no model folder {top}")
        facts = {
            name: FileFacts((digests or {}).get(name, ""), size) for name, size in _walk(top, "", str(top))
        }
        if digests is not None and set(facts) != set(digests):
            odd = sorted(set(facts) ^ set(digests))
            raise CorruptError(f"{top} is not the model that was recorded: {', '.join(odd[:5])} differ")
        return cls(facts, lambda name: _read_plain(top / name), str(top))

    @property
    def names(self) -> list[str]:
        """All paths, sorted."""
        return list(self._facts)

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(one.size for one in self._facts.values())

    def __contains__(self, name: object) -> bool:
        return name in self._facts

    def below(self, folder: str) -> list[str]:
        """Return the paths below a folder, or the path itself if it is a file."""
        prefix = folder.strip("/")
        return [name for name in self._facts if name == prefix or name.startswith(f"{prefix}/")]

    def facts(self, name: str) -> FileFacts:
        """Return digest and size of a file, reading it if its digest is not known.

        Raises:
            NotFoundError: the model has no such file.
        """
        found = self._facts.get(name)
        if found is None:
            raise NotFoundError(f"the model {self.origin} has no file {name!r}")
        if not found.sha256:
            self.read(name)
        return self._facts[name]

    def read(self, name: str) -> bytes:
        """Return the bytes of a file: those that match its digest, the same at every call.

        Raises:
            NotFoundError: the model has no such file.
            CorruptError: it is not what was recorded, or changed since it was read first.
        """
        kept = self._kept.get(name)
        if kept is not None:
            return kept
        known = self._facts.get(name)
        if known is None:
            raise NotFoundError(f"the model {self.origin} has no file {name!r}")
        data = self._read(name)
        digest = hashlib.sha256(data).hexdigest()
        if known.sha256 and digest != known.sha256:
            raise CorruptError(
                f"{name} of the model {self.origin} does not match its digest",
                hint="it was changed or damaged; get it again",
            )
        self._facts[name] = FileFacts(digest, len(data))
        self._kept[name] = data
        return data

    def digest(self) -> str:
        """Return the model's digest: SHA-256 of the canonical JSON of path -> {sha256, size} of its files."""
        found = {}
        for name in self._facts:
            facts = self.facts(name)
            found[name] = {"sha256": facts.sha256, "size": facts.size}
        return manifest_digest(found)

    def verify(self) -> None:
        """Read every file once.

        Raises:
            CorruptError: one is not what was recorded.
        """
        for name in self._facts:
            self.read(name)

    def mlmodel(self) -> MLmodel:
        """Return what the file `MLmodel` says.

        Raises:
            NotFoundError: there is none.
            CorruptError: it is not one.
        """
        if NAME not in self._facts:
            raise NotFoundError(
                f"{self.origin} is not a model: it has no file MLmodel",
                hint="give the folder that log_model or save_model wrote",
            )
        return MLmodel.from_yaml(self.read(NAME), f"{NAME} of {self.origin}")

    def copy(self, below: str = "", *, owner: object | None = None) -> Path:
        """Write the verified bytes to a new private folder, for frameworks that read paths.

        Args:
            below: only this folder or file.
            owner: the copy is removed when this object goes; at the end of the process without one.

        Returns:
            The folder; what was asked for has its usual path in it.
        """
        top = Path(tempfile.mkdtemp(prefix="gml-model-"))
        names = self.below(below) if below else list(self._facts)
        try:
            for name in names:
                target = top / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(self.read(name))
        except OSError as error:
            shutil.rmtree(top, ignore_errors=True)
            raise storage_error(error, f"cannot copy the model to {top}") from error
        self._copies.append(weakref.finalize(owner or self, shutil.rmtree, top, ignore_errors=True))
        return top

    def release(self) -> None:
        """Forget the bytes that were read; digests stay known, so later reads must match them."""
        self._kept.clear()


def manifest_digest(files: Mapping[str, Mapping[str, object]]) -> str:
    """Return the digest of a model whose files are `path -> {sha256, size}` (docs/format.md)."""
    text = json.dumps(files, sort_keys=True, ensure_ascii=False, indent=1) + "\n"
    return hashlib.sha256(text.encode()).hexdigest()


def _check_name(name: str, origin: str) -> None:
    parts = name.split("/")
    if not name or name.startswith("/") or "\0" in name or any(part in {"", ".", ".."} for part in parts):
        raise InvalidValueError(f"the model {origin} has a file with the illegal path {name!r}")


def _walk(folder: Path, prefix: str, top: str) -> Iterator[tuple[str, int]]:
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise storage_error(error, f"cannot read {folder}") from error
    for entry in listed:
        name = f"{prefix}{entry.name}"
        if entry.is_symlink():
            raise InvalidValueError(
                f"{name} of the model {top} is a symbolic link", hint="put the file itself there"
            )
        if entry.is_dir():
            if entry.name != "__pycache__":
                yield from _walk(Path(entry.path), f"{name}/", top)
        elif entry.is_file():
            yield name, entry.stat().st_size
        else:
            raise InvalidValueError(f"{name} of the model {top} is not a regular file")


def _read_plain(path: Path) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | OPEN_FLAGS | _NO_FOLLOW)
    except FileNotFoundError:
        raise CorruptError(f"{path} has gone while the model was read") from None
    except OSError as error:
        raise storage_error(error, f"cannot read {path}") from error
    with os.fdopen(fd, "rb") as file, suppress(FileNotFoundError):
        return file.read()
    raise CorruptError(f"{path} has gone while the model was read")
