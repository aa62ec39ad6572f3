"""Getting at what is still good of a damaged object store."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gml.domain.errors import CorruptError, NotFoundError
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


@dataclass(frozen=True, slots=True)
class Broken:
    """What `git fsck` found.

    Attributes:
        objects: ids of objects that some ref needs, in any past state, and that cannot be read.
        packs: pack files whose checksum is wrong.
    """

    objects: list[str] = field(default_factory=list)
    packs: list[Path] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether anything is broken."""
        return bool(self.objects or self.packs)


_SIGNS: Final = re.compile(r"missing|corrupt|mismatch|unable|invalid|broken|bad|could not|failed")
_ID: Final = re.compile(r"(?<![0-9a-f])(?:[0-9a-f]{64}|[0-9a-f]{40})(?![0-9a-f])")
_LOOSE: Final = re.compile(r"objects/([0-9a-f]{2})/([0-9a-f]{38,62})")
_PACK: Final = re.compile(r"(pack-[0-9a-f]+)\.(?:pack|idx)")


def check_history(store: FileStore) -> Broken:
    """Let git look at every object; nothing is found without a git command."""
    git = shutil.which("git", path=store.environ.get("PATH", os.defpath))
    if git is None:
        return Broken()
    done = GitCommand(git, store).run(["fsck", "--full", "--no-dangling", "--no-progress"], timeout=None)
    if not done.returncode:
        return Broken()
    said = (done.stdout + done.stderr).decode("utf-8", "replace")
    lines = [line for line in said.splitlines() if _SIGNS.search(line)]
    ids = {oid for line in lines for oid in _ID.findall(line)}
    ids |= {"".join(parts) for line in lines for parts in _LOOSE.findall(line)}
    names = {name for line in lines if "mismatch" in line for name in _PACK.findall(line)}
    packs = [pack for objects in store.objects_dirs() for pack in (objects / "pack").glob("*.pack")]
    return Broken(
        sorted(oid for oid in ids if not _readable(store, oid)),
        [pack for pack in packs if pack.stem in names],
    )


def _readable(store: FileStore, oid: str) -> bool:
    try:
        store.read(oid)
    except (CorruptError, NotFoundError):
        return False
    return True
