"""Where a project is: a folder, or a version of a git repository."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gml.domain.errors import GmlError, NotFoundError, RepositoryError, UsageError
from gml.git.checkout import throw_away_checkout
from gml.git.foreign import CloneCache, is_git_url
from gml.git.objects import parse_commit
from gml.projects.environments.build import cache_folder
from gml.projects.isolation import check_inside, code_of_revision, without_run
from gml.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


@dataclass(frozen=True, slots=True)
class Located:
    """A project that is on this disk.

    Attributes:
        workspace: of the repository whose files these are; runs go to its ledger.
        folder: of the project.
        facts: what the `source` section says about where it is from.
        isolated: whether it is a throw-away checkout.
        user_folder: the same folder in the user's work tree, None where there is none.
    """

    workspace: Workspace
    folder: Path
    facts: Mapping[str, Any] = field(default_factory=dict)
    isolated: bool = False
    user_folder: Path | None = None


def split_uri(uri: str) -> tuple[str, str]:
    """Return location and subdirectory of a project's URI.

    Raises:
        UsageError: the URI starts with a dash, or the subdirectory leads out.

    Example:
        >>> split_uri("https://host/team/project.git#parts/trees")
        ('https://host/team/project.git', 'parts/trees')
    """
    location, _, sub = uri.partition("#")
    if not location or location.startswith("-"):
        raise UsageError(f"{uri!r} is no project", hint="name a folder or the URL of a git repository")
    if sub.startswith(("/", "-")) or ".." in Path(sub).parts:
        raise UsageError(f"the subdirectory {sub!r} leads out of the project")
    return location.removeprefix("git+"), sub


@contextmanager
def located(
    workspace: Workspace,
    uri: str,
    version: str | None,
    *,
    isolated: bool,
    keep: Path | None,
    consent: Callable[[str, str], None],
) -> Iterator[Located]:
    """Give the project of a URI.

    A folder is used as it is, unless a version or isolation is asked for. Code of a git repository is
    checked out in a temporary directory; its tree is kept alive in the user's repository.

    Args:
        workspace: of the current repository.
        uri: folder or git URL, perhaps with `#subdirectory`.
        version: commit, tag or branch.
        isolated: also check a folder out.
        keep: where the checkout is to stay.
        consent: called with what is foreign about the code, and where it is from; raises to refuse.

    Raises:
        NotFoundError: there is no such folder, repository or version.
        RemoteError: the repository cannot be reached.
    """
    location, sub = split_uri(uri)
    if is_git_url(location) and not _is_folder(location):
        with _from_git(workspace, location, sub, version, keep, consent) as found:
            yield found
        return
    folder = Path(location.removeprefix("file://")).absolute()
    if not folder.is_dir():
        raise NotFoundError(
            f"there is no project {location!r}", hint="name a folder or the URL of a git repository"
        )
    inside = check_inside(folder, folder / sub, f"the subdirectory {sub!r}") if sub else folder
    space = _workspace_of(workspace, inside)
    if version is None and not isolated:
        yield Located(space, inside, user_folder=inside)
        return
    with _from_commit(space, inside, version, keep) as found:
        yield found


def _is_folder(location: str) -> bool:
    """Whether a `file://` URL names a plain folder and not a repository."""
    if not location.startswith("file://"):
        return False
    path = Path(location.removeprefix("file://"))
    return path.is_dir() and not (path / ".git").exists() and not (path / "HEAD").is_file()


def _workspace_of(workspace: Workspace, folder: Path) -> Workspace:
    """Return the repository that a folder is in; the current one where it is in none."""
    top = workspace.store.location.worktree
    if top is not None and folder.resolve().is_relative_to(top.resolve()):
        return workspace
    try:
        return Workspace.open(folder, {k: v for k, v in workspace.environ.items() if k != "GML_REPO"})
    except RepositoryError:
        return workspace


@contextmanager
def _from_commit(space: Workspace, folder: Path, version: str | None, keep: Path | None) -> Iterator[Located]:
    from gml.git.port import SnapshotRules

    top = space.store.location.worktree
    if top is None or not folder.resolve().is_relative_to(top.resolve()):
        raise NotFoundError(f"{folder} is in no git repository, so it has no versions")
    below = folder.resolve().relative_to(top.resolve())
    if version is not None:
        code = code_of_revision(space, version)
        commit, tree = code.commit, code.tree
    else:
        snapshot = space.worktree.snapshot(SnapshotRules())
        if snapshot.commit is None or snapshot.tree is None:
            raise NotFoundError(f"{top} has no commit yet", hint="commit something first")
        commit, tree = snapshot.commit, snapshot.tree
    with throw_away_checkout(space.store) as checkout:
        place = checkout.place(commit, tree)
        try:
            there = place / below
            if not there.is_dir():
                raise NotFoundError(f"{version} has no folder {below.as_posix()!r}")
            yield Located(_open(space, place), there, isolated=True, user_folder=folder)
        finally:
            if keep is not None:
                checkout.keep(keep)


@contextmanager
def _from_git(
    workspace: Workspace,
    url: str,
    sub: str,
    version: str | None,
    keep: Path | None,
    consent: Callable[[str, str], None],
) -> Iterator[Located]:
    cache = CloneCache(cache_folder(workspace.environ) / "projects", workspace.environ)
    code = cache.fetch(url, version, workspace.store)
    if not _is_known(workspace, code.commit):
        consent(f"the code at {code.url}, commit {code.commit[:12]}, is not in this repository", code.url)
    workspace.ledger.keep_code(code.snapshot)
    tree = parse_commit(workspace.store.read(code.snapshot)[1]).tree
    facts = {
        "commit": code.commit,
        "remote": code.url,
        "branch": code.branch,
        "snapshot": code.snapshot,
        "tree": tree,
        "dirty": False,
    }
    with throw_away_checkout(workspace.store) as checkout:
        place = checkout.place(code.snapshot, tree)
        try:
            folder = check_inside(place, place / sub, f"the subdirectory {sub!r}")
            if not folder.is_dir():
                raise NotFoundError(f"{code.url} has no folder {sub!r}")
            yield Located(_open(workspace, place), folder, facts, isolated=True)
        finally:
            if keep is not None:
                checkout.keep(keep)


def _is_known(workspace: Workspace, commit: str) -> bool:
    """Whether a commit is on a branch of the user's own."""
    from gml.git.log import CommitLog

    log = CommitLog(workspace.store)
    try:
        tips = list(workspace.store.refs("refs/heads/").values())
        return workspace.store.contains(commit) and commit in log.reachable(tips)
    except GmlError:
        return False


def _open(workspace: Workspace, top: Path) -> Workspace:
    return Workspace.open(top, without_run(workspace.environ))
