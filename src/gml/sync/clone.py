"""`gml clone`: a repository with its runs, or only the runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gml.domain.errors import GmlError, MissingPackageError, RemoteError, UsageError
from gml.git.connect import connect
from gml.git.transport import public, trouble
from gml.sync.names import Names
from gml.sync.pull import Report, pull, take_in
from gml.sync.remotes import Remote, open_remote
from gml.sync.seen import read_seen
from gml.sync.setup import connect_remote
from gml.sync.thin import Thin, write_thin
from gml.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Mapping

_BRANCHES_ONLY: Final = "heads/gml"
_CONFIG: Final = """[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = false
\tlogallrefupdates = true
"""


def directory_of(url: str) -> str:
    """Return the directory that a clone of an address goes to when none is named, as git does.

    Example:
        >>> directory_of("https://host/team/churn.git"), directory_of("git@host:churn.git/")
        ('churn', 'churn')
    """
    name = re.split(r"[/:]", url.rstrip("/"))[-1].removesuffix(".git")
    if not name or name in {".", ".."}:
        raise UsageError(f"no directory follows from {url!r}", hint="name one behind the address")
    return name


def clone(
    url: str,
    directory: Path,
    environ: Mapping[str, str],
    *,
    runs_only: bool = False,
    thin: Thin | None = None,
) -> tuple[Workspace, Report]:
    """Clone a repository with its runs.

    Args:
        url: where from.
        directory: where to; it must be empty or not exist.
        environ: the environment.
        runs_only: bring no branches and no code, and of the ledger only its newest state.
        thin: bring only some runs; implies `runs_only`.

    Returns:
        The new repository and what came.

    Raises:
        UsageError: the directory is not empty.
        RemoteError: the remote cannot be reached.
        MissingPackageError: a full clone needs the git command.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UsageError(f"{directory} exists and is not empty", hint="name another directory")
    made = not directory.exists()
    try:
        if runs_only or thin is not None:
            return _runs(url, directory, environ, thin)
        return _whole(url, directory, environ)
    except (GmlError, OSError, KeyboardInterrupt):
        # Half a clone is of no use, and the next try needs the directory.
        for path in [directory] if made else list(directory.iterdir()) if directory.exists() else []:
            shutil.rmtree(path, ignore_errors=True)
        raise


def _whole(url: str, directory: Path, environ: Mapping[str, str]) -> tuple[Workspace, Report]:
    git = shutil.which("git", path=environ.get("PATH", os.defpath))
    if git is None:
        raise MissingPackageError(
            "a clone with its code needs the git command", hint="install git, or use --runs-only"
        )
    done = subprocess.run(
        [git, "clone", "--quiet", "--", url, str(directory)],
        env={key: value for key, value in environ.items() if key not in {"GIT_DIR", "GIT_WORK_TREE"}},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    if done.returncode:
        raise trouble(public(url), done.stderr.decode("utf-8", "replace"))
    workspace = Workspace.open(directory, environ)
    _namespace(workspace)
    connect_remote(workspace, "origin")
    return workspace, pull(workspace, open_remote(workspace, "origin"))


def _runs(
    url: str, directory: Path, environ: Mapping[str, str], thin: Thin | None
) -> tuple[Workspace, Report]:
    _create(directory)
    workspace = Workspace.open(directory, environ)
    address = str(Path(url).absolute()) if Path(url).exists() else url
    workspace.store.set_config("remote.origin.url", address)
    workspace.store.add_config("remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*")
    _namespace(workspace)
    remote = open_remote(workspace, "origin")
    if thin is not None:
        write_thin(workspace.store, thin)
        return workspace, pull(workspace, remote)
    connect_remote(workspace, "origin")
    return workspace, _newest(workspace, remote)


def _newest(workspace: Workspace, remote: Remote) -> Report:
    """Bring the newest state of ledger and inboxes, without their history and without code."""
    report = Report(remote.name, remote.transport.url)
    stem = f"refs/{remote.names.there}/"
    wanted = [
        spec for spec in remote.names.refspecs() if spec.source.startswith(stem) and "code" not in spec.source
    ]
    remote.transport.fetch(wanted, depth=1)
    report.pulled.git_bytes = remote.transport.received
    take_in(workspace, read_seen(workspace.store, remote.names).ledgers, [], report.pulled)
    return report


def _create(directory: Path) -> None:
    """Make an empty repository, as `git init` does; no git command is needed."""
    git_dir = directory / ".git"
    for name in ("objects/pack", "objects/info", "refs/heads", "refs/tags"):
        (git_dir / name).mkdir(parents=True)
    (git_dir / "HEAD").write_text("ref: refs/heads/main\n")
    (git_dir / "config").write_text(_CONFIG)


def _namespace(workspace: Workspace) -> None:
    """Find out what the remote calls the namespace: some hosts take only branches."""
    here = workspace.settings.namespace
    way = connect(workspace.store, "origin")
    found = way.refs([f"refs/{here}/", f"refs/{_BRANCHES_ONLY}/"])
    usual, other = Names("origin", here, here), Names("origin", here, _BRANCHES_ONLY)
    if usual.ledger in found:
        return
    if other.ledger in found:
        workspace.store.set_config("gml.remote.origin.namespace", _BRANCHES_ONLY)
    elif not found and not way.refs(["refs/"]):
        raise RemoteError(f"{way.url} is empty", hint="push something there first")
