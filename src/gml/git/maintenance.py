"""Keep the object store small: loose objects are 17 times their packed size."""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

    from gml.git.store import FileStore

_SAMPLE: Final = "17"
_LOOSE: Final = re.compile("[0-9a-f]{38}|[0-9a-f]{62}")


def count_loose(common_dir: Path) -> int:
    """Estimate the number of loose objects as `git gc --auto` does: one of 256 directories is counted."""
    try:
        names = os.listdir(common_dir / "objects" / _SAMPLE)  # noqa: PTH208
    except OSError:
        return 0
    return 256 * sum(1 for name in names if _LOOSE.fullmatch(name))


def repack(store: FileStore) -> bool:
    """Move loose objects into one new pack; False if there is no git command or it failed.

    Nothing unreachable is pruned, so that objects of other processes that no ref names yet are safe.
    Call it under the writers' lock.
    """
    git = shutil.which("git", path=store.environ.get("PATH", os.defpath))
    if git is None:
        return False
    from gml.git.worktree_git import GitCommand

    args = ["-c", "core.fsync=pack,pack-metadata", "-c", "gc.auto=0", "repack", "-d", "-l", "-q"]
    return GitCommand(git, store).run(args).returncode == 0
