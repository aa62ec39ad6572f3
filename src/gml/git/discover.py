"""Find the repository as git does, check that it may be used, and choose the engine once."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gml.domain.errors import RepositoryError
from gml.git.gitconfig import GitConfig, truth
from gml.git.port import Location

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gml.git.store import FileStore

_EXTENSIONS: Final = {
    "noop",
    "noop-v1",
    "objectformat",
    "partialclone",
    "preciousobjects",
    "worktreeconfig",
    "refstorage",
    "relativeworktrees",
    "compatobjectformat",
}


@dataclass(frozen=True, slots=True)
class _Found:
    """A git directory and what led to it: `link` is the `.git` file of a worktree or submodule."""

    git_dir: Path
    top: Path | None
    link: Path | None = None
    explicit: bool = False


def open_store(
    path: Path | str | None = None, *, environ: Mapping[str, str], engine: str | None = None
) -> FileStore:
    """Open the repository that holds a path.

    Args:
        path: a directory or file in the repository, or a git directory; None means the current
            directory, and then `GIT_DIR` decides if it is set.
        environ: the environment; nothing is read from the process behind the caller's back.
        engine: force `pygit2` or `dulwich`; by default the repository decides.

    Raises:
        RepositoryError: there is none, it belongs to somebody else, or no engine can serve it.
    """
    try:
        found = _find(path, environ)
        common_dir = _common_dir(found.git_dir, environ)
        _check_owner(found, environ)
    except OSError as exc:
        raise RepositoryError(
            f"cannot look for a repository at {path or '.'}: {exc.strerror}", hint="check permissions"
        ) from exc
    config = GitConfig(environ, found.git_dir, common_dir)
    object_format = _check_extensions(config, common_dir)
    chosen, why = _choose(object_format, engine)
    location = Location(
        common_dir=common_dir,
        git_dir=found.git_dir,
        worktree=_worktree(found, config, environ),
        object_format=object_format,
        engine=chosen,
        engine_reason=why,
    )
    objects = environ.get("GIT_OBJECT_DIRECTORY")
    alternates = [
        Path(p).absolute() for p in environ.get("GIT_ALTERNATE_OBJECT_DIRECTORIES", "").split(os.pathsep) if p
    ]
    if objects:
        # a hook in quarantine: new objects are there, the repository's own are named as alternate
        alternates.append(common_dir / "objects")
    return _engine(location.engine)(
        location, environ, objects_dir=Path(objects).absolute() if objects else None, alternates=alternates
    )


def _choose(object_format: str, wish: str | None) -> tuple[str, str]:
    """Choose the engine once, and say why."""
    if object_format == "sha256":
        if wish == "pygit2":
            raise RepositoryError("pygit2 does not read SHA-256 repositories", hint="leave the engine to gml")
        return "dulwich", "SHA-256 repository, which libgit2 does not read"
    return (wish, "asked for") if wish else ("pygit2", "SHA-1 repository: the fastest engine")


def _engine(name: str) -> type[FileStore]:
    if name == "dulwich":
        from gml.git.dulwich_engine import DulwichStore

        return DulwichStore
    from gml.git.pygit2_engine import Pygit2Store

    return Pygit2Store


def _find(path: Path | str | None, environ: Mapping[str, str]) -> _Found:
    given = environ.get("GIT_DIR") if path is None else None
    if given:
        git_dir = _follow_link(Path(given).absolute())
        if not _is_git_dir(git_dir, environ):
            raise RepositoryError(
                f"not a git repository: {given} (from GIT_DIR)", hint="unset GIT_DIR or correct it"
            )
        return _Found(git_dir, None, explicit=True)
    start = Path(path if path is not None else ".").absolute()
    start = Path(os.path.realpath(start))
    for directory in _upward(start if start.is_dir() else start.parent, environ):
        dot = directory / ".git"
        if dot.is_file():
            git_dir = _follow_link(dot)
            if not _is_git_dir(git_dir, environ):
                raise RepositoryError(
                    f"{dot} names {git_dir}, which is not a git directory", hint="`git worktree repair`"
                )
            return _Found(git_dir, directory, dot)
        if dot.is_dir() and _is_git_dir(dot, environ):
            return _Found(dot.resolve(), directory)
        if _is_git_dir(directory, environ):
            return _Found(directory, None)
    raise RepositoryError(
        f"not a git repository: {start}", hint="run `git init` here, or set GML_REPO to one"
    )


def _upward(start: Path, environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield directories from the start up: not past a ceiling, not into another file system."""
    ceilings = {
        Path(os.path.realpath(p))
        for p in environ.get("GIT_CEILING_DIRECTORIES", "").split(os.pathsep)
        if p.startswith("/")
    }
    across = truth(environ.get("GIT_DISCOVERY_ACROSS_FILESYSTEM"))
    try:
        device = start.stat().st_dev
    except OSError:
        raise RepositoryError(f"no such directory: {start}", hint="check the path") from None
    for directory in (start, *start.parents):
        if directory != start and directory in ceilings:
            return
        if not across and directory.stat().st_dev != device:
            return
        yield directory


def _follow_link(path: Path) -> Path:
    """Return the directory that a `.git` file names, or the path itself."""
    if not path.is_file():
        return path.resolve()
    try:
        line = path.read_text("utf-8", "surrogateescape").strip()
    except OSError as exc:
        raise RepositoryError(f"cannot read {path}: {exc.strerror}") from exc
    if not line.startswith("gitdir:"):
        raise RepositoryError(f"{path} is not a git file", hint="it should start with `gitdir:`")
    return (path.parent / line[7:].strip()).resolve()


def _is_git_dir(path: Path, environ: Mapping[str, str]) -> bool:
    """Apply git's own test: a HEAD that makes sense, objects and refs."""
    try:
        head = (path / "HEAD").read_bytes() if not (path / "HEAD").is_symlink() else b"ref: refs/"
    except OSError:
        return False
    if not re.match(rb"ref:\s*refs/|[0-9a-f]{40}", head):
        return False
    common = _common_dir(path, environ)
    objects = environ.get("GIT_OBJECT_DIRECTORY") or common / "objects"
    return Path(objects).is_dir() and (common / "refs").is_dir()


def _common_dir(git_dir: Path, environ: Mapping[str, str]) -> Path:
    given = environ.get("GIT_COMMON_DIR")
    if given:
        return Path(given).resolve()
    try:
        line = (git_dir / "commondir").read_text("utf-8", "surrogateescape").strip()
    except OSError:
        return git_dir
    return (git_dir / line).resolve()


def _worktree(found: _Found, config: GitConfig, environ: Mapping[str, str]) -> Path | None:
    given = environ.get("GIT_WORK_TREE")
    if given and found.explicit:
        return Path(given).resolve()
    if found.link and (found.git_dir / "commondir").exists():
        return found.top  # a linked worktree: core.worktree speaks of the main one
    configured = config.get("core.worktree")
    if configured:
        return (found.git_dir / configured).resolve()
    if config.boolean("core.bare"):
        return None
    cwd = Path.cwd() if found.explicit else None
    if cwd and not cwd.is_relative_to(found.git_dir):
        return cwd if truth(environ.get("GIT_IMPLICIT_WORK_TREE"), default=True) else None
    if found.top:
        return found.top
    if found.git_dir.name == ".git":
        return found.git_dir.parent
    link = found.git_dir / "gitdir"
    if link.is_file():
        return (found.git_dir / link.read_text("utf-8", "surrogateescape").strip()).resolve().parent
    return None


def _check_owner(found: _Found, environ: Mapping[str, str]) -> None:
    """Refuse other people's repositories unless `safe.directory` names them: config runs commands."""
    if found.explicit:
        return
    owners = {os.geteuid()}
    if os.geteuid() == 0 and environ.get("SUDO_UID", "").isdigit():
        owners.add(int(environ["SUDO_UID"]))
    places = [p for p in (found.link, found.top, found.git_dir) if p is not None]
    strange = next((p for p in places if p.lstat().st_uid not in owners), None)
    config = GitConfig(environ)
    place = found.top or found.git_dir
    if strange is not None and not _is_safe(place, config.get_all("safe.directory", protected=True), environ):
        raise RepositoryError(
            f"{place} belongs to another user ({strange} has uid {strange.lstat().st_uid})",
            hint=f"if you trust it: git config --global --add safe.directory {place}",
        )
    bare = found.top is None and found.git_dir.name != ".git"
    if bare and config.get("safe.barerepository") == "explicit":
        raise RepositoryError(
            f"{place} is bare and safe.bareRepository is `explicit`", hint="set GIT_DIR to it"
        )


def _is_safe(place: Path, values: list[str], environ: Mapping[str, str]) -> bool:
    safe = False
    for value in values:
        if not value:
            safe = False
            continue
        expanded = environ.get("HOME", "") + value[1:] if value.startswith("~/") else value
        if expanded == "*":
            safe = True
        elif expanded.endswith("/*"):
            safe = safe or str(place).startswith(os.path.realpath(expanded[:-2]).rstrip("/") + "/")
        else:
            safe = safe or str(place) == os.path.realpath(expanded)
    return safe


def _check_extensions(config: GitConfig, common_dir: Path) -> str:
    """Return the object format; refuse what would be read wrongly."""
    version = config.get("core.repositoryformatversion") or "0"
    if version not in {"0", "1"}:
        raise RepositoryError(
            f"{common_dir} has repository format {version}", hint="gml reads formats 0 and 1"
        )
    extensions = {key[11:]: value or "" for key, value in config.items() if key.startswith("extensions.")}
    unknown = sorted(extensions.keys() - _EXTENSIONS) if version == "1" else []
    if unknown:
        raise RepositoryError(f"{common_dir} uses extensions.{unknown[0]}, which gml does not know")
    if extensions.get("refstorage", "files").partition(":")[0] != "files":
        raise RepositoryError(
            f"{common_dir} uses extensions.refStorage={extensions['refstorage']}, which gml can not write",
            hint="run `git refs migrate --ref-format=files`",
        )
    object_format = extensions.get("objectformat", "sha1").lower() if version == "1" else "sha1"
    if object_format not in {"sha1", "sha256"}:
        raise RepositoryError(
            f"{common_dir} uses extensions.objectFormat={object_format}, which gml does not know"
        )
    return object_format
