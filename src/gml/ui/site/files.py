"""Files of runs in a site: which of them are copied, and how much in all."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final

from gml.domain.errors import GmlError
from gml.tracking.contents import open_artifact
from gml.ui.pages.artifact import media_type
from gml.ui.pages.run import kind_of
from gml.ui.site.links import copy_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gml.domain.run import Run
    from gml.tracking.reader import Reader
    from gml.ui.site.folder import Folder

INLINE: Final = 256 * 1024


class Copies:
    """Copies files by their digest, each once, until there are too many bytes.

    Args:
        reader: where runs are read.
        folder: where they go.
        known: those that are there already, with their sizes.
        largest: bytes of the largest file that is copied.
        total: bytes of all together.

    Attributes:
        left_out: number of files that are named on pages only.
    """

    def __init__(
        self, reader: Reader, folder: Folder, known: Mapping[str, int], *, largest: int, total: int
    ) -> None:
        self._reader = reader
        self._folder = folder
        self._largest, self._total = largest, total
        self.known = dict(known)
        self.used = sum(self.known.values())
        self.left_out = 0

    def add(self, run: Run) -> tuple[set[str], dict[str, str], list[str]]:
        """Copy files of a run.

        Returns:
            the digests that are there, data addresses of pictures that might hold script, by digest, and the
            names of the copies.
        """
        there: set[str] = set()
        pictures: dict[str, str] = {}
        names = []
        for path, facts in sorted(run.artifacts.items()):
            name = copy_name(path, facts.sha256)
            fits = facts.size <= self._largest and self.used + facts.size <= self._total
            script = path.lower().endswith(".svg") and facts.size <= INLINE
            if name not in self.known and not fits:
                self.left_out += 1
                continue
            if name not in self.known or script:
                data = read(self._reader, run, path)
                if data is None:
                    self.left_out += 1
                    continue
                if script:
                    pictures[facts.sha256] = data_address(path, data)
                if name not in self.known:
                    self._folder.write(name, data)
                    self.known[name] = facts.size
                    self.used += facts.size
            there.add(facts.sha256)
            names.append(name)
        return there, pictures, names


def read(reader: Reader, run: Run, path: str) -> bytes | None:
    """Return the bytes of a file, None where they are not here or damaged."""
    try:
        with open_artifact(reader, run, path) as file:
            return file.read()
    except GmlError:
        return None


def data_address(path: str, data: bytes) -> str:
    """Return bytes as an address that an image or a sound can have."""
    kind = media_type(path).partition(";")[0]
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def pictures_of(reader: Reader, runs: list[Run], most: int) -> dict[str, str]:
    """Return the images and sounds of runs as data addresses by digest, until they have too many bytes."""
    out: dict[str, str] = {}
    for run in runs:
        for path, facts in sorted(run.artifacts.items()):
            if kind_of(path, facts) not in {"image", "audio"} or facts.sha256 in out or facts.size > most:
                continue
            data = read(reader, run, path)
            if data is not None:
                out[facts.sha256] = data_address(path, data)
                most -= facts.size
    return out
