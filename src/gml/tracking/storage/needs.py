"""Which blobs are needed: everything that any state of the ledger, the registry or a journal mentions.

Marking is conservative. Every word of 64 hexadecimal digits in a JSON document counts, in every commit
that any ref of gml can reach, and so it does in journals and pins. So documents of formats that this
version does not know, such as those of a newer gml, keep what they mention too.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from gml.git.log import CommitLog
from gml.git.objects import hash_length, parse_raw_tree
from gml.git.port import MODE_TREE
from gml.git.revisions import peel
from gml.tracking.journal import session as journal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gml.workspace import Workspace

_DIGEST: Final = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


def needed_digests(workspace: Workspace) -> set[str]:
    """Return the digests of everything that has to be kept.

    Raises:
        GmlError: some of it cannot be read, so it is not known what it needs.
    """
    return own_digests(workspace) | pinned_digests(workspace)


def pinned_digests(workspace: Workspace) -> set[str]:
    """Return the digests that clones have pinned in the store."""
    found: set[str] = set()
    for path in _pins(workspace):
        with suppress(FileNotFoundError):
            _take(found, path.read_bytes())
    return found


def own_digests(workspace: Workspace) -> set[str]:
    """Return the digests of everything that this clone itself needs; see `needed_digests`."""
    found: set[str] = set()
    # Journals before the ledger: a run that is committed meanwhile is then in at least one of them.
    for path in _journals(workspace):
        with suppress(FileNotFoundError):
            _take(found, path.read_bytes())
    for data in _documents(workspace):
        _take(found, data)
    return found


def _take(found: set[str], data: bytes) -> None:
    found.update(match.decode() for match in _DIGEST.findall(data))


def refs_of_gml(workspace: Workspace) -> dict[str, str]:
    """Return all refs that hold documents of gml: ledgers and registries, our own and fetched ones."""
    middle = f"/{workspace.settings.namespace}/"
    return {
        name: tip
        for name, tip in workspace.store.refs("refs/").items()
        if middle in name and not (name.endswith("/code") and name.startswith(f"refs{middle}"))
    }


def _documents(workspace: Workspace) -> Iterator[bytes]:
    """Yield every JSON document in any commit that a ref of gml can reach, each content once."""
    store = workspace.store
    history = CommitLog(store)
    tips = [peel(store, tip, "commit") for tip in refs_of_gml(workspace).values()]
    width = hash_length(store.location.object_format)
    seen: set[bytes] = set()
    waiting = []
    for commit in history.reachable(tip for tip in tips if tip is not None):
        tree = history.tree(commit)
        if tree is not None:
            waiting.append(bytes.fromhex(tree))
    while waiting:
        tree_id = waiting.pop()
        if tree_id in seen:
            continue
        seen.add(tree_id)
        for mode, name, oid in parse_raw_tree(store.read(tree_id.hex())[1], width):
            if int(mode, 8) == MODE_TREE:
                waiting.append(oid)
            elif name.endswith(b".json") and oid not in seen:
                seen.add(oid)
                yield store.read(oid.hex())[1]


def _journals(workspace: Workspace) -> Iterator[Path]:
    """Yield the files of journals that may mention blobs, also of runs that are being made or folded."""
    root = workspace.journal_root
    if root.is_dir():
        for folder in sorted(root.iterdir()):
            if (folder / journal.SHARED).is_file():
                yield folder / journal.SHARED


def _pins(workspace: Workspace) -> Iterator[Path]:
    """Yield the files in which clones say what they need."""
    root = getattr(workspace.blobs, "root", None)
    for folder in (workspace.state_dir / "pins", root / "pins" if root is not None else None):
        if folder is not None and folder.is_dir():
            yield from sorted(path for path in folder.iterdir() if path.is_file())
