"""Deleting what no run, version or journal needs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from gml.cas.connect import local_folder
from gml.cas.sweep import DEFAULT_GRACE, Sweep, sweep
from gml.domain.errors import InvalidValueError
from gml.tracking.storage.local import local_store
from gml.tracking.storage.needs import own_digests, pinned_digests

if TYPE_CHECKING:
    from gml.cas.local import LocalStore
    from gml.cas.pins import Pins
    from gml.workspace import Workspace

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def parse_duration(text: str) -> float:
    """Return the seconds that a text such as `14d`, `12h` or `90m` means.

    Raises:
        InvalidValueError: it is no duration.

    Example:
        >>> parse_duration("14d")
        1209600.0
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text.strip())
    if match is None:
        raise InvalidValueError(f"{text!r} is no duration", hint="use days, hours or minutes: 14d, 12h, 90m")
    return float(match[1]) * _UNITS[match[2]]


def collect(workspace: Workspace, *, grace: float = DEFAULT_GRACE, dry_run: bool = False) -> Sweep:
    """Delete what nothing needs and that is older than the grace period.

    Needed is what any state of any ledger or registry in this repository mentions (also what was
    fetched from others, and past states), what journals mention, and what clones have pinned.

    Args:
        workspace: the repository.
        grace: seconds.
        dry_run: only say what would be deleted.

    Raises:
        UsageError: the grace period is too short, or the store is no folder.
        GmlError: something of the history cannot be read; nothing is deleted then.
    """
    store = local_store(workspace)
    pins = [] if dry_run else _pins_of(workspace, store)
    lengths = [one.length() for one in pins]
    own = own_digests(workspace)
    for one, length in zip(pins, lengths, strict=True):
        one.replace(own, length)
    return sweep(store, own | pinned_digests(workspace), grace=grace, dry_run=dry_run)


def _pins_of(workspace: Workspace, store: LocalStore) -> list[Pins]:
    """Return the pins of this clone in every folder that it shares."""
    folders = [store.root, *(local_folder(place.url) for place in workspace.artifact_remotes.values())]
    found = [workspace.pins(folder) for folder in folders if folder is not None and folder.is_dir()]
    return [pins for pins in found if pins is not None]
