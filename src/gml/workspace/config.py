"""Every setting there is in git config, what it may be, and changing it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from gml.domain.errors import NotFoundError, RepositoryError, UsageError
from gml.git.discover import open_store
from gml.git.gitconfig import GitConfig, normal_key, set_value, user_file
from gml.workspace.remotes import NAME, is_url, parse_options
from gml.workspace.settings import CODE_MODES, SYNC_MODES, parse_size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gml.git.store import FileStore


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of git config that gml reads.

    Attributes:
        key: as it is written; `<name>` stands for any name.
        kind: `text`, `choice`, `size`, `seconds`, `count`, `store`, `name` or `options`.
        text: what it is for.
        default: what counts where it is not set.
        choices: of a `choice`.
        user_only: it is read from the user's own configuration only, never from a repository's.
    """

    key: str
    kind: str
    text: str
    default: str = ""
    choices: tuple[str, ...] = ()
    user_only: bool = False


SETTINGS: Final = (
    Setting("gml.namespace", "text", "Middle part of the names of gml's refs.", "gml"),
    Setting("gml.experiment", "text", "Experiment of runs that name none.", "Default"),
    Setting("gml.code", "choice", "What is kept of the code of a run.", "snapshot", CODE_MODES),
    Setting("gml.checkpoint", "seconds", "Seconds between commits of a run that goes on; 0: only at its end.",
            "600"),
    Setting("gml.inlineLimit", "size", "Size up to which an artifact goes into git.", "64k"),
    Setting("gml.remote", "text", "Git remote that `gml push` and `gml pull` mean.", "origin"),
    Setting("gml.sync.mode", "choice", "Whether to push the shared ledger, or a ref of this clone.", "direct",
            SYNC_MODES),
    Setting("gml.signingKey", "text", "SSH key that signs approvals.", "user.signingKey"),
    Setting("gml.artifacts.store", "store", "Where artifacts are kept: a folder or a URL.",
            "gml/cas in the git directory"),
    Setting("gml.artifacts.options", "options", "Given to the file system of that URL: a JSON object.",
            user_only=True),
    Setting("gml.artifacts.cacheSize", "size", "Size up to which artifacts that a remote has stay here.",
            "unlimited"),
    Setting("gml.artifacts.jobs", "count", "Files that are transferred at once.",
            "4 for each core, at most 8"),
    Setting("gml.artifacts.defaultRemote", "name", "Remote that `gml artifacts push` and `pull` mean.",
            "the only one"),
    Setting("gml.artifacts.links", "text", "URLs below which links of others are followed (blanks between).",
            user_only=True),
    Setting("gml.artifacts.remote.<name>.url", "store", "A further place for artifacts: a folder or a URL."),
    Setting("gml.artifacts.remote.<name>.options", "options",
            "Given to the file system of that remote: a JSON object.", user_only=True),
)  # fmt: skip


def find_setting(key: str) -> tuple[Setting, str]:
    """Return a setting and its full key; `artifacts.store` is enough for `gml.artifacts.store`.

    Raises:
        UsageError: gml has no such setting; names the nearest.
    """
    full = key if key.lower().startswith("gml.") else f"gml.{key}"
    for setting in SETTINGS:
        pattern = re.escape(setting.key).replace("<name>", f"({NAME.pattern})")
        match = re.fullmatch(pattern, full, re.IGNORECASE)
        if match:
            return setting, setting.key.replace("<name>", match[1]) if match.groups() else setting.key
    near = get_close_matches(full, [setting.key for setting in SETTINGS], 1)
    hint = f"did you mean {near[0]}?" if near else "`gml config` lists all settings"
    raise UsageError(f"gml has no setting {full!r}", hint=hint)


def check_setting(setting: Setting, key: str, value: str, base: Path) -> str:
    """Return a value as it is to be stored.

    Args:
        setting: what it is for.
        key: its full key.
        value: what the user gave.
        base: what a relative folder is relative to.

    Raises:
        UsageError: the setting cannot have this value.
    """
    if "\n" in value or "\0" in value:
        raise UsageError(f"{key} cannot have several lines")
    match setting.kind:
        case "choice":
            if value not in setting.choices:
                raise UsageError(
                    f"{key} cannot be {value!r}", hint=f"use one of {', '.join(setting.choices)}"
                )
        case "size":
            return str(parse_size(key, value))
        case "seconds" | "count":
            least = 1 if setting.kind == "count" else 0
            if not value.isascii() or not value.isdigit() or not least <= int(value) <= 10**9:
                raise UsageError(f"{key} cannot be {value!r}", hint=f"give a whole number from {least}")
        case "name":
            if not NAME.fullmatch(value):
                raise UsageError(f"{key} cannot be {value!r}", hint="give the name of a remote")
        case "options":
            parse_options(key, value)
        case "store":
            return _check_store(key, value, base)
        case _:
            if not value.strip():
                raise UsageError(f"{key} cannot be empty", hint=f"`gml config --unset {key}` removes it")
    return value


def _check_store(key: str, value: str, base: Path) -> str:
    if not value.strip():
        raise UsageError(f"{key} cannot be empty", hint=f"`gml config --unset {key}` removes it")
    if not is_url(value):
        return value if "://" in value else str((base / Path(value).expanduser()).resolve())
    parts = urlsplit(value)
    if parts.password:
        raise UsageError(
            f"{key} must not contain a password",
            hint="use the service's own profile, key file or environment, or the options of the remote",
        )
    from gml.cas.connect import check_scheme

    check_scheme(value)
    return value


@dataclass(frozen=True, slots=True)
class Value:
    """What a setting is at the moment.

    Attributes:
        key: the full key.
        value: the value.
        setting: what it is for; None for a key below `gml.` that gml does not know.
    """

    key: str
    value: str
    setting: Setting | None


class Config:
    """The settings of a repository, or of the user where there is no repository.

    Args:
        environ: environment variables.
        store: the repository.
    """

    def __init__(self, environ: Mapping[str, str], store: FileStore | None = None) -> None:
        self._environ = environ
        self._store = store
        where = store.location if store is not None else None
        self._config = GitConfig(
            environ,
            where.git_dir if where is not None else None,
            where.common_dir if where is not None else None,
        )

    @classmethod
    def open(cls, path: str | Path | None, environ: Mapping[str, str]) -> Config:
        """Return the settings of the repository at a path, of GML_REPO or here; else the user's."""
        try:
            store = open_store(path or environ.get("GML_REPO") or None, environ=environ)
        except RepositoryError:
            return cls(environ)
        return cls(environ, store)

    def get(self, key: str) -> str | None:
        """Return the value of a setting, None where it is not set.

        Raises:
            UsageError: gml has no such setting.
        """
        setting, full = find_setting(key)
        values = self._config.get_all(full, protected=setting.user_only)
        return values[-1] if values else None

    def set(self, key: str, value: str, *, base: Path, user: bool = False) -> str:
        """Set a setting in the repository's configuration, or in the user's; return what was stored.

        Raises:
            UsageError: gml has no such setting, or it cannot have this value.
            StorageError: the file cannot be written.
        """
        setting, full = find_setting(key)
        stored = check_setting(setting, full, value, base)
        self._write(full, stored, user=user or setting.user_only)
        return stored

    def unset(self, key: str, *, user: bool = False) -> None:
        """Remove a setting.

        Raises:
            NotFoundError: it is not set there.
            UsageError: gml has no such setting.
        """
        setting, full = find_setting(key)
        user = user or setting.user_only
        path = user_file(self._environ) if user else self._repository_file()
        own = GitConfig({"GIT_CONFIG_GLOBAL": str(path), "GIT_CONFIG_NOSYSTEM": "1"})
        if own.get(full) is None:
            raise NotFoundError(f"{full} is not set in {path}", hint="`gml config` lists what is set")
        set_value(path, full, None)

    def values(self) -> list[Value]:
        """Return all settings that are set, the last value of each, sorted by key."""
        user = dict(self._config.items(protected=True))
        found = {key: value for key, value in self._config.items() if key.startswith("gml.")}
        out = []
        for key, value in sorted(found.items()):
            setting, full = _known(key)
            if setting is not None and setting.user_only:
                if key not in user:
                    continue
                value = user[key]  # noqa: PLW2901 - what the repository says does not count
            out.append(Value(full, "true" if value is None else value, setting))
        return out

    def _write(self, key: str, value: str, *, user: bool) -> None:
        path = user_file(self._environ) if user else self._repository_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        set_value(path, key, value)

    def _repository_file(self) -> Path:
        if self._store is None:
            raise UsageError("there is no repository here", hint="say --global for your own configuration")
        return self._store.location.common_dir / "config"


def _known(key: str) -> tuple[Setting | None, str]:
    for setting in SETTINGS:
        pattern = re.escape(normal_key(setting.key)).replace("<name>", f"({NAME.pattern})")
        match = re.fullmatch(pattern, key)
        if match:
            return setting, setting.key.replace("<name>", match[1]) if match.groups() else setting.key
    return None, key
