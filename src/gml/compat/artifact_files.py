"""Files below the artifact folders of a store on this machine."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final
from urllib.parse import unquote, urlsplit

from gml.compat.foreign import ForeignFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gml.compat.foreign import Losses

_SCHEME: Final = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+):")
LEAVES: Final = "links that lead out of the artifact folder"
REMOTE: Final = "runs whose files are in another store, which was not read"
MISSING: Final = "runs whose artifact folder is not here"
STRANGE: Final = "runs whose artifact folder is not named after them, which was not read"


def local_path(uri: str) -> Path | None:
    """Return the path of a `file:` URI or plain path, None for other schemes.

    Example:
        >>> local_path("file:///tmp/a%20b"), local_path("s3://bucket/x"), local_path("mlruns/0")
        (PosixPath('/tmp/a b'), None, PosixPath('mlruns/0'))
    """
    match = _SCHEME.match(uri)
    if match is None:
        return Path(uri)
    if match[1].lower() != "file":
        return Path(uri) if len(match[1]) == 1 else None
    return Path(unquote(urlsplit(uri).path))


def find_folder(run_id: str, uri: str, places: Sequence[Path], losses: Losses) -> Path | None:
    """Return the folder with a run's files.

    A store may have been moved since its URIs were written, so they are tried below each of `places` too.
    Only a folder that is named after the run is taken: a store that somebody sent must not be able to name
    any other folder of this machine.

    Args:
        run_id: of the run or logged model.
        uri: its artifact URI.
        places: folders that relative URIs and moved stores may be below.
        losses: counts what cannot be read.
    """
    named = local_path(uri)
    if named is None:
        losses.add(REMOTE, uri)
        return None
    if not uri:
        return None
    if named.name != "artifacts" or named.parent.name != run_id or ".." in named.parts:
        losses.add(STRANGE, uri)
        return None
    for place in places:
        # Without its beginning, which was another folder when the URI was written.
        for keep in (len(named.parts), 4, 3, 2):
            candidate = place.joinpath(*named.parts[-keep:])
            if candidate.is_dir():
                return candidate
    # A run without files has no folder: something is lost only where not even the root of all is here.
    depth = 3 if named.parts[-3:-2] == ("models",) else 2
    root = named.parents[min(depth, len(named.parents) - 1)]
    if not any(place.joinpath(root).is_dir() or place.joinpath(root.name).is_dir() for place in places):
        losses.add(MISSING, uri)
    return None


def walk(folder: Path, losses: Losses) -> Iterator[ForeignFile]:
    """Yield the files below a folder, sorted; links are followed only where they stay within it."""
    root = Path(os.path.realpath(folder))
    for top, folders, names in os.walk(folder):
        where = Path(top)
        folders.sort()
        for name in folders:
            if (where / name).is_symlink():
                losses.add(LEAVES, str(where / name))
        for name in sorted(names):
            path = where / name
            if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(root):
                losses.add(LEAVES, str(path))
                continue
            try:
                size = path.stat().st_size
            except OSError as error:
                losses.add("files that cannot be read", f"{path}: {error.strerror}")
                continue
            if path.is_file():
                yield ForeignFile(path.relative_to(folder).as_posix(), size, _opener(path))


def _opener(path: Path) -> Callable[[], BinaryIO]:
    return lambda: path.open("rb")


def fingerprint(folder: Path | None) -> list[object]:
    """Return something that changes when files below a folder change."""
    found: list[object] = []
    if folder is not None:
        for top, folders, names in os.walk(folder):
            folders.sort()
            for name in sorted(names):
                path = Path(top, name)
                try:
                    stat = path.lstat()
                except OSError:
                    continue
                found.append((os.path.relpath(path, folder), stat.st_size, stat.st_mtime_ns))
    return found
