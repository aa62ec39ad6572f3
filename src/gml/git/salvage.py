"""Getting at what is still good of a damaged object store."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from gml.fs import fsync_directory
from gml.git.loose import loose_path
from gml.git.revisions import in_index
from gml.git.worktree_git import GitCommand

if TYPE_CHECKING:
    from gml.git.store import FileStore


def files_of(store: FileStore, oid: str) -> list[Path]:
    """Return the files that hold an object: a loose one, and every pack whose index names it."""
    found = []
    for objects in store.objects_dirs():
        loose = Path(loose_path(objects, oid))
        if loose.exists():
            found.append(loose)
        found += [
            index.with_suffix(".pack")
            for index in sorted((objects / "pack").glob("*.idx"))
            if _names(index, oid)
        ]
    return found


def _names(index: Path, oid: str) -> bool:
    try:
        return oid in in_index(index, oid)
    except (OSError, ValueError, struct.error):
        return False


def set_aside(path: Path, place: Path) -> Path:
    """Move a loose object, or a pack with all that belongs to it, out of the object store."""
    place.mkdir(parents=True, exist_ok=True)
    if path.suffix != ".pack":
        target = place / f"{path.parent.name}{path.name}"
        path.rename(target)
        return target
    # The index first: without it nobody looks into the pack.
    for other in sorted(path.parent.glob(f"{path.stem}.*"), key=lambda p: p.suffix == ".pack"):
        other.rename(place / other.name)
    fsync_directory(place)
    fsync_directory(path.parent)
    return place / path.name


def unpack(store: FileStore, pack: Path) -> bool:
    """Bring back all good objects of a damaged pack as loose ones; False without a git command."""
    git = shutil.which("git", path=store.environ.get("PATH", os.defpath))
    if git is None:
        return False
    with pack.open("rb") as file:
        subprocess.run(
            [git, "-c", "core.fsync=loose-object", "unpack-objects", "-r", "-q"],
            stdin=file, capture_output=True, check=False, env=GitCommand(git, store).environ,
        )  # fmt: skip
    return True


def missing_in_history(store: FileStore) -> list[str]:
    """Return the objects that some ref needs, in any past state, and that are not here.

    Nothing without a git command, and nothing beyond a commit that is missing itself.
    """
    git = shutil.which("git", path=store.environ.get("PATH", os.defpath))
    if git is None:
        return []
    args = ["rev-list", "--objects", "--all", "--missing=print", "--no-object-names"]
    done = GitCommand(git, store).run(args, timeout=None)
    return [line[1:].decode() for line in done.stdout.splitlines() if line.startswith(b"?")]
