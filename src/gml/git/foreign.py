"""Code of other repositories: a cache of clones, from which single trees are taken over.

A tree that is taken over gets a commit without parents, the same one on every machine, so that it can be kept
alive in the user's repository without the history that it comes from.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from gml.domain.errors import NotFoundError, RepositoryError, UsageError
from gml.fs import locked, storage_error
from gml.git.checkout import plain_environ
from gml.git.transport import public, trouble

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gml.git.store import FileStore

# No `ext::`, which runs any program.
PROTOCOLS: Final = "https:http:ssh:git:file"
_URL: Final = re.compile(r"(?:https?|ssh|git|file)://.+|[\w.-]+@[\w.-]+:.+", re.IGNORECASE)
_HEX: Final = re.compile(r"[0-9a-f]{4,64}")
_QUIET: Final = ("-c", "gc.auto=0", "-c", "maintenance.auto=false", "-c", "core.hooksPath=/dev/null")
_LOCK_SECONDS: Final = 600.0


class ForeignCode(NamedTuple):
    """Code of another repository.

    Attributes:
        url: where it comes from, without credentials.
        commit: its commit there.
        branch: the branch that was asked for, None for a tag, a commit or the default.
        snapshot: the commit without parents that has its tree.
    """

    url: str
    commit: str
    branch: str | None
    snapshot: str


def is_git_url(text: str) -> bool:
    """Whether a text is the URL of a git repository, not a path.

    Example:
        >>> is_git_url("git@github.com:team/project.git"), is_git_url("parts/trees")
        (True, False)
    """
    return _URL.fullmatch(text) is not None


class CloneCache:
    """Bare clones below a folder, one for each URL; safe to delete at any time.

    Args:
        folder: where they are.
        environ: environment variables, for git.
    """

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        git = shutil.which("git", path=environ.get("PATH", os.defpath))
        if git is None:
            raise RepositoryError("there is no git command, which projects of other repositories need")
        self._git = git
        self._folder = folder
        self._environ = plain_environ(environ) | {"GIT_ALLOW_PROTOCOL": PROTOCOLS, "GIT_TERMINAL_PROMPT": "0"}

    def fetch(self, url: str, version: str | None, store: FileStore) -> ForeignCode:
        """Bring the code of a version into the user's repository, as objects that no ref holds yet.

        Args:
            url: the other repository.
            version: commit, tag or branch; None for its default branch.
            store: the user's repository.

        Raises:
            UsageError: the URL or version starts with a dash or is none.
            NotFoundError: the other repository has no such version.
            RemoteError: it cannot be reached.
        """
        if not is_git_url(url) or url.startswith("-"):
            raise UsageError(f"{url!r} is no URL of a git repository", hint="https://, ssh:// or file://")
        if version is not None and (version.startswith("-") or any(c in version for c in " \n~^:\\?*[")):
            raise UsageError(f"{version!r} is no commit, tag or branch")
        name = hashlib.sha256(url.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        place = self._folder / f"{name}.git"
        with locked(self._folder / f"{name}.lock", timeout=_LOCK_SECONDS):
            self._make(place)
            commit, branch = self._update(place, url, version)
            snapshot = self._snapshot(place, url, commit)
            self._take(place, commit, snapshot, store)
        return ForeignCode(public(url), commit, branch, snapshot)

    def _make(self, place: Path) -> None:
        if (place / "HEAD").is_file():
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".new-", dir=self._folder) as top:
                made = Path(top, "clone.git")
                self._run("init", "-q", "--bare", str(made))
                made.replace(place)
        except OSError as error:
            raise storage_error(error, f"cannot make a clone in {self._folder}") from error

    def _update(self, place: Path, url: str, version: str | None) -> tuple[str, str | None]:
        done = self._call(
            "--git-dir", str(place), "fetch", "-q", "--prune", "--no-auto-gc", "--force", "--", url,
            "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*", "+HEAD:refs/gml/head",
        )  # fmt: skip
        failed = done.returncode != 0
        said = done.stderr.decode("utf-8", "replace")
        if failed and not (version and _HEX.fullmatch(version) and len(version) >= 40):
            raise trouble(url, said)
        if version is None:
            return self._commit(place, "refs/gml/head") or "", None
        for ref, branch in ((f"refs/tags/{version}", None), (f"refs/heads/{version}", version)):
            found = self._commit(place, ref)
            if found:
                return found, branch
        found = self._commit(place, version) if _HEX.fullmatch(version) else ""
        if not found and _HEX.fullmatch(version) and not failed:
            # On no branch and no tag: some servers give it all the same.
            self._call("--git-dir", str(place), "fetch", "-q", "--no-auto-gc", "--", url, version)
            found = self._commit(place, version)
        if not found:
            if failed:
                raise trouble(url, said)
            raise NotFoundError(
                f"{public(url)} has no commit, tag or branch {version!r}",
                hint="it may have been rewritten; see git ls-remote",
            )
        return found, None

    def _commit(self, place: Path, name: str) -> str:
        done = self._call("--git-dir", str(place), "rev-parse", "-q", "--verify", f"{name}^{{commit}}")
        return done.stdout.decode().strip() if done.returncode == 0 else ""

    def _snapshot(self, place: Path, url: str, commit: str) -> str:
        git_dir = ("--git-dir", str(place))
        when = self._run(*git_dir, "show", "-s", "--format=%ct", commit)
        identity = {
            f"GIT_{who}_{what}": value
            for who in ("AUTHOR", "COMMITTER")
            for what, value in (("NAME", "gml"), ("EMAIL", "gml@localhost"), ("DATE", f"{when} +0000"))
        }
        message = f"code of {public(url)} at {commit}"
        made = self._run(*git_dir, "commit-tree", f"{commit}^{{tree}}", "-m", message, more=identity)
        self._run(*git_dir, "update-ref", f"refs/gml/import/{commit}", made)
        return made

    def _take(self, place: Path, commit: str, snapshot: str, store: FileStore) -> None:
        if store.contains(snapshot):
            return
        user_dir = str(store.location.common_dir)
        quiet = ("-q", "--no-tags", "--no-write-fetch-head", "--no-auto-gc")
        self._run("--git-dir", user_dir, "fetch", *quiet, str(place), f"refs/gml/import/{commit}")

    def _call(self, *args: str, more: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [self._git, *_QUIET, *args], stdin=subprocess.DEVNULL, capture_output=True, check=False,
            env={**self._environ, **(more or {})},
        )  # fmt: skip

    def _run(self, *args: str, more: Mapping[str, str] | None = None) -> str:
        done = self._call(*args, more=more)
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise RepositoryError(f"git failed: {said[-1] if said else f'exit code {done.returncode}'}")
        return done.stdout.decode("utf-8", "surrogateescape").strip()
