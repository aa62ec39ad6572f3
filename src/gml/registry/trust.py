"""What this user trusts: the first policy of each repository, and the newest state that was verified.

A file in the user's own configuration, never in the repository. The first policy that is seen is trusted
and shown (trust on first use), unless its digest was pinned before; another one later is refused, and so
is a branch that does not descend from the newest state seen.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gml.domain.errors import CorruptError
from gml.fs import locked, write_atomic

if TYPE_CHECKING:
    from gml.registry.branch import Registry

NO_POLICY = "none"


@dataclass(frozen=True, slots=True)
class Trust:
    """What is trusted of one repository.

    Attributes:
        root: SHA-256 of its first policy.
        tip: newest commit of the remote's branch that was verified, None before the first.
        pinned: whether the user named the digest, rather than the repository.
    """

    root: str
    tip: str | None = None
    pinned: bool = False


def trust_file(registry: Registry) -> Path:
    """Return where the user's trust is kept: `gml/trust.json` in the configuration directory."""
    environ = registry.workspace.environ
    config = environ.get("XDG_CONFIG_HOME")
    base = Path(config) if config else Path(environ.get("HOME") or Path.home()) / ".config"
    return base / "gml" / "trust.json"


def trust_key(registry: Registry) -> str:
    """Return what the repository is called there: the URL of its first remote, or its directory.

    Nothing that the repository says of itself: who exchanges its history could exchange that as well.
    """
    remotes = registry.store.remotes()
    return (
        remotes.get("origin") or next(iter(remotes.values()), None) or str(registry.store.location.common_dir)
    )


def _load(path: Path) -> dict[str, dict[str, object]]:
    try:
        data = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CorruptError(
            f"{path} cannot be read ({error})", hint="restore it, or remove it and pin again"
        ) from None
    if not isinstance(data, dict) or not all(isinstance(value, dict) for value in data.values()):
        raise CorruptError(f"{path} is not what gml wrote", hint="restore it, or remove it and pin again")
    return data


def read_trust(registry: Registry) -> Trust | None:
    """Return what is trusted of a repository, None before the first use.

    Raises:
        CorruptError: the file is damaged.
    """
    entry = _load(trust_file(registry)).get(trust_key(registry))
    if entry is None:
        return None
    tip = entry.get("tip")
    return Trust(str(entry.get("root")), str(tip) if tip else None, bool(entry.get("pinned")))


def write_trust(registry: Registry, trust: Trust) -> None:
    """Remember what is trusted of a repository."""
    path = trust_file(registry)
    with locked(path.with_name("trust.lock")):
        known = _load(path)
        known[trust_key(registry)] = asdict(trust)
        write_atomic(path, json.dumps(known, indent=1, sort_keys=True).encode() + b"\n")
