"""Logging to a remote without a clone: a private bare repository that holds only what is logged here.

`GML_REPO=https://host/team/repo.git gml log --push -- CMD` needs neither a work tree nor a git command.
The private ledger begins empty; a push unites it with the edge of the remote's (`gml.sync.edge`).
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
from gml.git.transport import public
from gml.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Mapping

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
