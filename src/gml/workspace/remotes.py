"""Where artifacts are besides this clone: the main store and the named remotes of git config."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAIN: Final = "store"
"""Name of the remote that `gml.artifacts.store` is, where that is a URL."""

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_REMOTE: Final = re.compile(r"gml\.artifacts\.remote\.(.+)\.(url|options)")


@dataclass(frozen=True, slots=True)
class ArtifactRemote:
    """A place for artifacts.

    Attributes:
        name: how it is called here.
        url: a folder or an fsspec URL.
        options: what its file system is given besides, from the user's own configuration.
    """

    name: str
    url: str
    options: Mapping[str, Any] = field(default_factory=dict)


def is_url(store: str | None) -> bool:
    """Whether a setting of the main store is a URL that is not a folder of this machine.

    Example:
        >>> is_url("s3://bucket/prefix"), is_url("/data/store"), is_url("file:///data/store")
        (True, False, False)
    """
    return store is not None and "://" in store and not store.startswith(("file://", "local://"))


def local_root(store: str | None, default: Path) -> Path:
    """Return the folder of this machine that artifacts are kept in."""
    if store is None or is_url(store):
        return default
    from gml.cas.connect import local_folder

    return local_folder(store) or default


def read_remotes(
    pairs: Iterable[tuple[str, str | None]],
    protected: Iterable[tuple[str, str | None]],
    main: str | None,
    base: Path,
) -> dict[str, ArtifactRemote]:
    """Return the remotes that git config names; the main store first, where it is a URL.

    Args:
        pairs: all of the configuration.
        protected: what the user's own configuration and the environment say: credentials and whatever
            else goes to a file system comes from there only, never from a repository's files.
        main: `gml.artifacts.store`.
        base: what relative folders are relative to.

    Raises:
        UsageError: options are not a JSON object.
    """
    urls: dict[str, str] = {MAIN: main} if main is not None and is_url(main) else {}
    for key, value in pairs:
        match = _REMOTE.fullmatch(key)
        if match and match[2] == "url" and value and NAME.fullmatch(match[1]):
            urls[match[1]] = value
    options: dict[str, dict[str, Any]] = {}
    for key, value in protected:
        match = _REMOTE.fullmatch(key)
        if match and match[2] == "options":
            options[match[1]] = parse_options(key, value or "")
        elif key == "gml.artifacts.options":
            options[MAIN] = parse_options(key, value or "")
    return {
        name: ArtifactRemote(name, _absolute(url, base), options.get(name, {})) for name, url in urls.items()
    }


def parse_options(key: str, text: str) -> dict[str, Any]:
    """Return the options of a file system.

    Raises:
        UsageError: they are not a JSON object.
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise UsageError(f"{key} is not a JSON object", hint="""such as {"profile": "team"}""")
    return value


def _absolute(url: str, base: Path) -> str:
    if "://" in url:
        return url
    return str(base / Path(url).expanduser())


def choose(remotes: Mapping[str, ArtifactRemote], name: str | None, default: str | None) -> ArtifactRemote:
    """Return the remote that a user means.

    Args:
        remotes: all of them.
        name: what was asked for: a name, a URL or a folder; None for the usual one.
        default: `gml.artifacts.defaultRemote`.

    Raises:
        NotFoundError: there is no remote of that name.
        UsageError: nothing was asked for, and there is none, or more than one.
    """
    wanted = name or default
    if wanted is not None:
        if wanted in remotes:
            return remotes[wanted]
        if "://" in wanted or "/" in wanted:
            return ArtifactRemote(wanted, wanted)
        known = ", ".join(remotes) or "none"
        raise NotFoundError(
            f"there is no artifact remote {wanted!r} (known: {known})",
            hint=f"`gml config artifacts.remote.{wanted}.url URL` makes it",
        )
    if MAIN in remotes:
        return remotes[MAIN]
    if len(remotes) == 1:
        return next(iter(remotes.values()))
    if not remotes:
        raise UsageError(
            "there is no artifact remote",
            hint="name one: `gml config artifacts.remote.team.url s3://bucket/prefix`",
        )
    raise UsageError(
        f"there are several artifact remotes: {', '.join(remotes)}",
        hint="say --remote NAME, or `gml config artifacts.defaultRemote NAME`",
    )
