"""Logging to a remote without a clone: a private bare repository that holds only what is logged here.

`GML_REPO=https://host/team/repo.git gml log --push -- CMD` needs neither a work tree nor a git command.
The private ledger begins empty; a push unites it with the remote's, of which only the directories are
fetched where the server allows that (`uploadpack.allowFilter`), the newest state otherwise.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gml import fs
from gml.git import trees
from gml.git.objects import parse_commit
from gml.git.transport import Refspec, Update, public
from gml.ledger import layout
from gml.ledger.merge import merge
from gml.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gml.git.store import FileStore
    from gml.sync.remotes import Remote
    from gml.sync.seen import Seen

MARK: Final = "gml.private"
_URL: Final = re.compile(r"(?:https?|ssh|git)://|[\w.-]+@[\w.-]+:(?!//)", re.IGNORECASE)
_CONFIG: Final = """[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = true
[remote "origin"]
\turl = {url}
[gml]
\tprivate = true
"""


def is_url(place: str | None) -> bool:
    """Whether a value of GML_REPO means a remote instead of a directory.

    Example:
        >>> is_url("https://host/team/repo.git"), is_url("git@host:team/repo.git"), is_url("/srv/repo")
        (True, True, False)
    """
    return place is not None and _URL.match(place) is not None


def open_private(url: str, environ: Mapping[str, str]) -> Workspace:
    """Return the private repository for a remote, made on first use.

    It lives in the user's cache directory (GML_CACHE_DIR, XDG_CACHE_HOME), or in the system's temporary
    directory where that cannot be written, and is the same one for all jobs of a user on a machine.

    Raises:
        StorageError: neither can be written.
    """
    name = hashlib.sha256(public(url).encode()).hexdigest()[:16]
    last: OSError | None = None
    for top in _places(environ):
        path = top / f"{name}.git"
        try:
            if not path.is_dir():
                _create(path, url)
        except OSError as error:
            last = error
            continue
        return Workspace.open(path, {key: value for key, value in environ.items() if key != "GML_REPO"})
    raise fs.storage_error(last or OSError(), "cannot keep a private repository")


def is_private(workspace: Workspace) -> bool:
    """Whether a repository is one that `open_private` made."""
    return workspace.store.config(MARK) == "true"


def _places(environ: Mapping[str, str]) -> list[Path]:
    cache = environ.get("GML_CACHE_DIR")
    if cache:
        return [Path(cache).expanduser() / "remotes"]
    home = Path(environ.get("XDG_CACHE_HOME") or Path(environ.get("HOME") or "~").expanduser() / ".cache")
    user = os.getuid() if hasattr(os, "getuid") else 0
    return [home / "gml" / "remotes", Path(tempfile.gettempdir()) / f"gml-{user}" / "remotes"]


def _create(path: Path, url: str) -> None:
    """Make a bare repository; it appears whole, and of two processes one wins."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    for name in ("objects/pack", "objects/info", "refs/heads", "refs/tags"):
        (temporary / name).mkdir(parents=True)
    (temporary / "HEAD").write_text("ref: refs/heads/main\n")
    (temporary / "config").write_text(_CONFIG.format(url=url))
    (temporary / "config").chmod(0o600)
    try:
        temporary.rename(path)
    except OSError:
        shutil.rmtree(temporary)
        if not path.is_dir():
            raise
    with suppress(OSError):
        fs.fsync_directory(path.parent)


def fetch_edge(workspace: Workspace, remote: Remote) -> None:
    """Fetch the newest state of the remote's ledger: its directories, and the few files a push needs."""
    names = remote.names
    spec = Refspec(f"refs/{names.there}/ledger*", f"{names.seen}ledger*")
    remote.transport.fetch([spec], prune=True, depth=1, blobless=True)
    theirs = workspace.store.ref(f"{names.seen}ledger")
    if theirs is None:
        return
    wanted = _needed(workspace.store, workspace.ledger.tip(), theirs)
    missing = [oid for oid in wanted if not workspace.store.contains(oid)]
    if missing:
        remote.transport.fetch_objects(missing)


def _needed(store: FileStore, mine: str | None, theirs: str) -> list[str]:
    """Return the blobs of the remote that uniting reads: its format, and what both sides have differently."""
    root = parse_commit(store.read(theirs)[1]).tree
    own = parse_commit(store.read(mine)[1]).tree if mine is not None else None
    format_file = trees.lookup(store, root, layout.FORMAT_PATH)
    found = [format_file.oid] if format_file is not None else []
    if own is not None:
        found += _differing(store, own, root)
    return found


def _differing(store: FileStore, mine: str, theirs: str) -> list[str]:
    ours = {entry.name: entry for entry in trees.entries(store, mine)}
    found = []
    for entry in trees.entries(store, theirs):
        own = ours.get(entry.name)
        if own is None or own.oid == entry.oid:
            continue
        if own.is_tree and entry.is_tree:
            found += _differing(store, own.oid, entry.oid)
        elif not entry.is_tree:
            found.append(entry.oid)
    return found


def ledger_update(workspace: Workspace, remote: Remote, seen: Seen) -> Update | None:
    """Return the update that unites the private ledger with the remote's, None where it has all of it.

    The private ledger itself stays small: it is not moved to the united one.
    """
    store, mine = workspace.store, workspace.ledger.tip()
    if mine is None or (seen.ledger is not None and store.is_ancestor(mine, seen.ledger)):
        return None
    new = mine if seen.ledger is None else merge(store, mine, seen.ledger)
    return Update(remote.names.ledger, new, seen.ledger)
