"""The data of a recorded run: is it here, and is it the same?"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

from gml.domain.errors import GmlError, NotFoundError
from gml.fs import storage_error
from gml.projects.rerun.needs import Need
from gml.tracking.datasets import from_file, from_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gml.cas import BlobStore
    from gml.domain.run import Run

_FICLONE = 0x40049409


class DataSource(NamedTuple):
    """A data set of a run that came from a file or folder.

    Attributes:
        name: what the run called it.
        path: as the run wrote it, relative to where it ran, or absolute.
        digest: recorded digest.
        sha256: SHA-256 of the file, empty where the digest is over the content in memory.
        folder: whether it was a folder.
    """

    name: str
    path: str
    digest: str
    sha256: str
    folder: bool


def data_sources(run: Run) -> tuple[list[DataSource], list[Need]]:
    """Return the data sets that came from local files, and notes about those that cannot be checked."""
    found: list[DataSource] = []
    notes: list[Need] = []
    for entry in run.inputs:
        name, digest = str(entry.get("name", "")), str(entry.get("digest", ""))
        kind = str(entry.get("source_type", ""))
        source, profile = _object(entry.get("source")), _object(entry.get("profile"))
        place = str(source.get("uri") or source.get("url") or "").removeprefix("file://")
        if kind == "local" and place:
            found.append(
                DataSource(name, place, digest, str(profile.get("sha256", "")), "num_files" in profile)
            )
        elif kind not in {"code", ""} and place:
            notes.append(Need("data", name, f"{place} is read where it is and was not checked"))
    return list(dict.fromkeys(found)), notes


def _object(text: Any) -> dict[str, Any]:
    try:
        value = json.loads(text) if isinstance(text, str) else text
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def bring_data(
    sources: Iterable[DataSource], cwd: Path, user_cwd: Path | None, blobs: BlobStore | None
) -> list[Need]:
    """Make sure that each file is where the command looks for it, and say what is missing or different.

    A file that is not part of the code is copied from the user's work tree (as a copy-on-write clone
    where the file system can) or taken out of the artifact store; files with absolute paths are read where
    they are.

    Args:
        sources: what the run read.
        cwd: where the command will run.
        user_cwd: the same folder in the user's work tree.
        blobs: the artifact store, None to leave it alone.
    """
    needs = []
    for source in sources:
        path = cwd / source.path
        if not path.exists() and not Path(source.path).is_absolute():
            _find(source, path, user_cwd, blobs)
        needs += _differences(source, path)
    return needs


def _find(source: DataSource, path: Path, user_cwd: Path | None, blobs: BlobStore | None) -> None:
    theirs = None if user_cwd is None else user_cwd / source.path
    if theirs is not None and theirs.exists():
        copy_tree(theirs, path)
    elif blobs is not None and source.sha256:
        with suppress(NotFoundError):
            blobs.get_file(source.sha256, path)


def _differences(source: DataSource, path: Path) -> list[Need]:
    if not path.exists():
        return [
            Need("data", source.name, f"{source.path} is not here (digest {source.digest})", blocking=True)
        ]
    if not source.sha256 and not source.folder:
        return []  # the digest is over what the script made of the file; the rerun computes it again
    try:
        now = (from_folder(path) if path.is_dir() else from_file(path)).digest
    except GmlError as error:
        return [Need("data", source.name, str(error), blocking=True)]
    if now == source.digest:
        return []
    changed = f"{source.path} has digest {now}, recorded was {source.digest}"
    return [Need("data", source.name, changed, blocking=True)]


def bring_paths(names: Iterable[str], cwd: Path, user_cwd: Path | None) -> list[Need]:
    """Copy further files or folders of the user's work tree; what is not there is returned."""
    needs = []
    for name in names:
        theirs = None if user_cwd is None else user_cwd / name
        if theirs is None or not theirs.exists():
            needs.append(Need("data", name, "is not in the work tree", blocking=True))
        else:
            copy_tree(theirs, cwd / name)
    return needs


def copy_tree(source: Path, target: Path) -> None:
    """Copy a file or folder; files share their blocks with the original where the file system can.

    Raises:
        StorageError: it cannot be read or written.
    """
    try:
        if source.is_dir():
            shutil.copytree(source, target, copy_function=_copy_file, dirs_exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            _copy_file(source, target)
    except OSError as error:
        raise storage_error(error, f"cannot copy {source} to {target}") from error
    except shutil.Error as error:
        raise storage_error(OSError(errno.EIO, str(error)[:200]), f"cannot copy {source}") from error


def _copy_file(source: str | Path, target: str | Path, **_: Any) -> str:
    if sys.platform == "linux":
        import fcntl

        with suppress(OSError), Path(source).open("rb") as old, Path(target).open("wb") as new:
            fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
            shutil.copystat(source, target)
            return str(target)
    return str(shutil.copy2(source, target))


def folder_in(top: Path, user_top: Path | None, cwd: str) -> tuple[Path, Path | None]:
    """Return a recorded working directory in the checkout and in the user's work tree."""
    if os.path.isabs(cwd):  # noqa: PTH117 - text of another machine
        return Path(cwd), Path(cwd)
    return top / cwd, None if user_top is None else user_top / cwd


def import_path(entries: Iterable[str], top: Path, user_top: Path | None) -> list[str]:
    """Return which folders of the checkout must be searched before the interpreter's own.

    A package that is installed in place (`pip install -e .`) is imported from the user's work tree, which
    is not the code that was recorded.

    Args:
        entries: the interpreter's import path.
        top: the checkout.
        user_top: the user's work tree.
    """
    if user_top is None:
        return []
    found = []
    for entry in entries:
        path = Path(entry)
        if path.is_relative_to(user_top) and (top / path.relative_to(user_top)).is_dir():
            found.append(str(top / path.relative_to(user_top)))
    return list(dict.fromkeys(found))


def editable_folders(packages_path: Iterable[str], user_top: Path | None) -> list[str]:
    """Return the import folders of projects installed in place below a folder, whatever finder they use."""
    if user_top is None:
        return []
    found = []
    for folder in packages_path:
        for place in Path(folder).glob("*.dist-info/direct_url.json") if folder else ():
            facts: Mapping[str, Any] = _object(place.read_text("utf-8", "replace"))
            url = str(facts.get("url", ""))
            if facts.get("dir_info", {}).get("editable") and url.startswith("file://"):
                project = Path(unquote(url.removeprefix("file://")))
                if project.is_relative_to(user_top):
                    found += [str(project / "src"), str(project)]
    return found
