"""What of a dirty work tree goes into a snapshot: secrets never, big data not, code first."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from gml.git.port import SnapshotRules

SECRET_NAMES: Final = (
    ".env", ".env.*", "*.env", ".envrc", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx",
    "*.ppk", "*.asc.key", "*.gpg.key", "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", ".netrc", "_netrc",
    ".pypirc", ".npmrc", ".yarnrc.yml", ".git-credentials", ".pgpass", ".my.cnf", ".htpasswd", ".vault-token",
    ".vault_pass*", ".databrickscfg", ".boto", ".s3cfg", "credentials.json", "client_secret*.json",
    "service-account*.json", "service_account*.json", "application_default_credentials.json", "kaggle.json",
    "secrets.json", "secrets.y*ml", "secrets.toml", "terraform.tfvars", "*.tfstate", "*.tfstate.backup",
)  # fmt: skip
SECRET_PATHS: Final = (
    ".aws/credentials", ".aws/config", ".ssh/*", ".gnupg/*", ".kube/config", ".docker/config.json",
    ".config/gcloud/*", ".azure/*", ".huggingface/token",
)  # fmt: skip
HARMLESS_NAMES: Final = (
    ".env*.example", ".env*.sample", ".env*.template", ".env.dist", ".env.defaults", "example.env", "*.pub",
)  # fmt: skip
LISTED_PER_REASON: Final = 50


def _rule(patterns: Iterable[str], prefix: str = "") -> re.Pattern[str]:
    return re.compile("|".join(prefix + fnmatch.translate(p) for p in patterns), re.IGNORECASE)


_NAMES: Final = _rule(SECRET_NAMES)
_PATHS: Final = _rule(SECRET_PATHS, "(?:.*/)?")
_HARMLESS: Final = _rule(HARMLESS_NAMES)


def is_secret(path: str) -> bool:
    """Whether a file of this name usually holds credentials.

    >>> is_secret("deploy/.env.production"), is_secret(".env.example"), is_secret("train.py")
    (True, False, False)
    """
    name = path.rpartition("/")[2]
    if _HARMLESS.match(name):
        return False
    return bool(_NAMES.match(name) or _PATHS.match(path))


@dataclass(slots=True)
class Look:
    """What an adapter saw in the work tree, before any rule.

    Attributes:
        tracked: paths of HEAD or index that differ between HEAD, index and work tree.
        untracked: files that git neither tracks nor ignores.
        embedded: untracked directories that are repositories of their own.
        moved_submodules: submodules that have another commit checked out.
        dirty_submodules: submodules with changes inside.
    """

    tracked: list[str] = field(default_factory=list)
    untracked: list[str] = field(default_factory=list)
    embedded: list[str] = field(default_factory=list)
    moved_submodules: list[str] = field(default_factory=list)
    dirty_submodules: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Choice:
    """What of a `Look` to take.

    Attributes:
        take: existing files, tracked and untracked, whose content goes into the snapshot.
        remove: tracked files that are gone.
        untracked: the untracked ones among `take`.
        left_out: path -> reason.
        dirty: whether anything differs from HEAD that is not ignored.
    """

    take: list[str] = field(default_factory=list)
    remove: list[str] = field(default_factory=list)
    untracked: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    dirty: bool = False


class _Ignore:
    """The patterns of `.gmlignore` and of the rules."""

    def __init__(self, top: Path, rules: SnapshotRules) -> None:
        self._file = self._spec(_lines(top / ".gmlignore"))
        self._rules = self._spec(rules.ignore)

    @staticmethod
    def _spec(lines: Iterable[str]) -> Any:
        kept = [line for line in lines if line.strip() and not line.startswith("#")]
        if not kept:
            return None
        import pathspec

        return pathspec.GitIgnoreSpec.from_lines(kept)

    def reason(self, path: str) -> str | None:
        if is_secret(path):
            return "secret"
        if self._file is not None and self._file.match_file(path):
            return "ignored by .gmlignore"
        if self._rules is not None and self._rules.match_file(path):
            return "ignored"
        return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return []


def choose(top: Path, look: Look, rules: SnapshotRules) -> Choice:
    """Apply secrets, ignore patterns and limits to what an adapter saw."""
    ignore = _Ignore(top, rules)
    choice = Choice()
    for path in look.tracked:
        _choose_tracked(os.path.join(top, path), path, ignore, choice)  # noqa: PTH118
    choice.dirty = bool(look.tracked or look.moved_submodules or look.dirty_submodules or look.embedded)
    _choose_untracked(top, look.untracked, rules, ignore, choice)
    for path in look.moved_submodules:
        choice.take.append(path)
    for path in look.dirty_submodules:
        choice.left_out[path] = "submodule"
    for path in look.embedded:
        choice.left_out[path.rstrip("/")] = "embedded repository"
    return choice


def _choose_tracked(full: str, path: str, ignore: _Ignore, choice: Choice) -> None:
    try:
        mode = os.lstat(full).st_mode
    except (FileNotFoundError, NotADirectoryError):
        choice.remove.append(path)
        return
    except OSError:
        choice.left_out[path] = "unreadable"
        return
    if stat.S_ISDIR(mode):
        choice.remove.append(path)
    elif reason := ignore.reason(path) or _unfit(full, mode):
        choice.left_out[path] = reason
    else:
        choice.take.append(path)


def _unfit(full: str, mode: int) -> str | None:
    if stat.S_ISLNK(mode):
        return None
    if not stat.S_ISREG(mode):
        return "not a regular file"
    return None if os.access(full, os.R_OK) else "unreadable"


def _choose_untracked(
    top: Path, paths: list[str], rules: SnapshotRules, ignore: _Ignore, choice: Choice
) -> None:
    sized: list[tuple[int, str]] = []
    for path in paths:
        full = os.path.join(top, path)  # noqa: PTH118
        reason = ignore.reason(path)
        if not reason:
            try:
                info = os.lstat(full)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError:
                reason = "unreadable"
            else:
                reason = _unfit(full, info.st_mode)
                if not reason:
                    sized.append((info.st_size, path))
        if reason:
            choice.left_out[path] = reason
        choice.dirty = choice.dirty or not (reason or "").startswith("ignored")
    total = 0
    # small files first: a folder of data must not push the code out of the budget
    for number, (size, path) in enumerate(sorted(sized)):
        if size > rules.max_file:
            choice.left_out[path] = "too large"
        elif number >= rules.max_files:
            choice.left_out[path] = "too many"
        elif total + size > rules.max_total:
            choice.left_out[path] = "too large in total"
        else:
            total += size
            choice.untracked.append(path)
    choice.untracked.sort()
    choice.take += choice.untracked


def shown(path: str) -> str:
    """Make a path safe for JSON and terminals: bytes that are not UTF-8 are escaped."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def summarize(left_out: dict[str, str]) -> dict[str, str]:
    """Keep a record readable: many files with one reason are listed by their top directory."""
    counts = Counter(left_out.values())
    kept: dict[str, str] = {}
    groups: Counter[tuple[str, str]] = Counter()
    for path, reason in sorted(left_out.items()):
        top, slash, _ = path.partition("/")
        if counts[reason] <= LISTED_PER_REASON:
            kept[shown(path)] = reason
        else:
            groups[top + "/" if slash else "", reason] += 1
    for (top, reason), number in groups.items():
        kept[f"{shown(top) or './'} ({number} files)"] = reason
    return kept
