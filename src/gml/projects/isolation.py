"""Code in a throw-away checkout: what to check out, and what a checkout does not bring along."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from gml.domain.errors import NotFoundError
from gml.git.objects import parse_commit
from gml.tracking.start import ENV_ACTIVE, ENV_JOURNAL, ENV_RUN_ID

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gml.workspace import Workspace

_FOREIGN: Final = (ENV_RUN_ID, ENV_ACTIVE, ENV_JOURNAL, "MLFLOW_RUN_ID", "GML_REPO")
_LFS_POINTER: Final = b"version https://git-lfs.github.com/spec/v1\n"


class Code(NamedTuple):
    """Code to check out.

    Attributes:
        commit: what HEAD is to be.
        tree: the files; where it is not the commit's, the difference is uncommitted.
    """

    commit: str
    tree: str


def code_of_revision(workspace: Workspace, revision: str) -> Code:
    """Return the code of a commit, tag or branch.

    Raises:
        NotFoundError: there is none of this name.
    """
    from gml.git.log import CommitLog

    commit = CommitLog(workspace.store).resolve(revision)
    return Code(commit, parse_commit(workspace.store.read(commit)[1]).tree)


def without_run(environ: Mapping[str, str]) -> dict[str, str]:
    """Return environment variables without those that make a process part of a run or repository."""
    return {name: value for name, value in environ.items() if name not in _FOREIGN}


def submodules(top: Path) -> list[str]:
    """Return the paths of the submodules that a checkout names, which are empty folders in it."""
    names = []
    with suppress(OSError):
        for line in (top / ".gitmodules").read_text("utf-8", "replace").splitlines():
            key, equals, value = line.partition("=")
            if equals and key.strip() == "path":
                names.append(value.strip())
    return names


def lfs_pointers(top: Path, limit: int = 10) -> list[str]:
    """Return files that are only pointers to content in Git LFS, at most `limit`."""
    found: list[str] = []
    for attributes in _attribute_files(top):
        with suppress(OSError):
            if "filter=lfs" not in attributes.read_text("utf-8", "replace"):
                continue
            for folder, folders, names in os.walk(attributes.parent):
                folders[:] = [name for name in folders if name != ".git"]
                for name in names:
                    path = Path(folder, name)
                    if path.is_symlink() or path.stat().st_size > 1024:
                        continue
                    if path.read_bytes().startswith(_LFS_POINTER):
                        found.append(path.relative_to(top).as_posix())
                        if len(found) >= limit:
                            return found
    return list(dict.fromkeys(found))


def _attribute_files(top: Path) -> Iterator[Path]:
    # Only at the top: where nested ones are used, the one at the top nearly always is there as well.
    if (top / ".gitattributes").is_file():
        yield top / ".gitattributes"


def check_inside(top: Path, path: Path, what: str) -> Path:
    """Return a path if it is inside a folder, links followed.

    Raises:
        NotFoundError: it leads out.
    """
    resolved = path.resolve()
    if not resolved.is_relative_to(top.resolve()):
        raise NotFoundError(f"{what} leads out of the project", hint="use a path inside of it")
    return resolved
