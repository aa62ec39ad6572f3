"""`gml gc`: pack the repository tightly, without removing anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gml.domain.errors import MissingPackageError, StorageError
from gml.git.maintenance import pack_all
from gml.ledger.unite import is_shallow

if TYPE_CHECKING:
    from pathlib import Path

    from gml.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Packed:
    """What packing did: bytes of git objects before and after, and runs in the ledger."""

    before: int
    after: int
    runs: int


def collect(workspace: Workspace) -> Packed:
    """Pack all objects into one pack with good deltas, under the writers' lock.

    Nothing is pruned: what no ref names is kept, as it may belong to a process that is about to name it.

    Raises:
        MissingPackageError: there is no git command.
        StorageError: git could not do it; the repository is as before.
    """
    objects = workspace.store.location.common_dir / "objects"
    before = size_of(objects)
    with workspace.ledger.writing():
        said = pack_all(workspace.store)
    if said is None:
        raise MissingPackageError("packing needs the git command", hint="install git")
    if said:
        raise StorageError(f"git could not pack the repository: {said}", hint="free space may be short")
    runs = sum(1 for _ in workspace.ledger.view().entries()) if not is_shallow(workspace.store) else 0
    return Packed(before, size_of(objects), runs)


def size_of(directory: Path) -> int:
    """Return the bytes that the files below a directory take."""
    total = 0
    for path in directory.rglob("*"):
        try:
            if path.is_file():
                total += path.stat().st_size
        except OSError:
            continue
    return total
