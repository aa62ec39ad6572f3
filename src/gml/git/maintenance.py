"""Keep the object store small: loose objects are 17 times their packed size."""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

    from gml.git.store import FileStore
    from gml.git.worktree_git import GitCommand

_SAMPLE: Final = "17"
_DURABLE: Final = ("-c", "core.fsync=pack,pack-metadata")
_LOOSE: Final = re.compile("[0-9a-f]{38}|[0-9a-f]{62}")


def count_loose(common_dir: Path) -> int:
    """Estimate the number of loose objects as `git gc --auto` does: one of 256 directories is counted."""
    try:
        names = os.listdir(common_dir / "objects" / _SAMPLE)  # noqa: PTH208
    except OSError:
        return 0
    return 256 * sum(1 for name in names if _LOOSE.fullmatch(name))


def count_packs(common_dir: Path) -> int:
    """Return the number of packs that git may unite: not those kept on purpose or of a partial clone."""
    try:
        names = set(os.listdir(common_dir / "objects" / "pack"))  # noqa: PTH208
    except OSError:
        return 0
    packs = (name.removesuffix(".pack") for name in names if name.endswith(".pack"))
    return sum(1 for stem in packs if not {f"{stem}.keep", f"{stem}.promisor"} & names)


def roll_up(store: FileStore) -> bool:
    """Unite small packs so that their number stays logarithmic; False without a git command."""
    git = _command(store)
    if git is None:
        return False
    return (
        git.run([*_DURABLE, "-c", "gc.auto=0", "repack", "-d", "-l", "-q", "--geometric=2"]).returncode == 0
    )


def repack(store: FileStore) -> bool:
    """Move all reachable loose objects into one new pack; False without a git command or if it failed.

    Nothing unreachable is pruned, so that objects of other processes that no ref names yet are safe.
    Call it under the writers' lock.
    """
    git = _command(store)
    if git is None:
        return False
    return git.run([*_DURABLE, "-c", "gc.auto=0", "repack", "-d", "-l", "-q"]).returncode == 0


def _command(store: FileStore) -> GitCommand | None:
    git = shutil.which("git", path=store.environ.get("PATH", os.defpath))
    if git is None:
        return None
    from gml.git.worktree_git import GitCommand

    return GitCommand(git, store)


def pack_all(store: FileStore) -> str | None:
    """Pack everything into one pack with good deltas; unreachable objects are kept.

    Call it under the writers' lock.

    Returns:
        Empty when it is done, git's words when it failed, None without a git command.
    """
    git = _command(store)
    if git is None:
        return None
    from gml.git.worktree_git import reason

    done = git.run([
        *_DURABLE, "-c", "gc.auto=0", "-c", "pack.threads=0",
        "repack", "-a", "-d", "-k", "-l", "-q", "--window=50", "--depth=50",
    ], timeout=None)  # fmt: skip
    return reason(done.stderr) if done.returncode else ""
