"""Deleting what nothing needs: safe beside writers, also those of other machines.

Who stores content that is there already gives its files the time of now before it relies on them, and
treats a file that it cannot touch as absent. Sweeping only takes files older than the grace period,
moves each one out of the way first, looks at its time again, and puts it back if it was touched
meanwhile. So of the two orders, touch before move puts the file back, and touch after move makes the
writer store it again. What a writer put and has not yet mentioned anywhere is younger than the grace.
"""

from __future__ import annotations

import os
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gml.cas.names import is_name, parse_name, parse_recipe
from gml.cas.shelf import read_text
from gml.cas.transfer import storage_errors
from gml.domain.errors import CorruptError, FormatError, GmlError, StorageError, UsageError
from gml.fs import fsync_directory, try_lock, unlock

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from gml.cas.local import LocalStore
    from gml.cas.port import Stored

DEFAULT_GRACE: Final = 14 * 86_400.0
LEAST_GRACE: Final = 3_600.0
"""Seconds below which a put that is still going on would be in danger."""

_WORTH_REPACKING: Final = 0.5


@dataclass(slots=True)
class Sweep:
    """What a sweep did, or would do.

    Attributes:
        kept: number of stored files that something needs.
        young: number of those that nothing needs yet and that are within the grace period.
        deleted: the stored files that nothing needs and that are older.
        repacked: packs of which most is needed no more, and which are written anew.
        freed: bytes.
        spared: names that were touched while they were being deleted.
        staging: number of left-overs of killed puts that were deleted.
        damaged: what could not be read and is therefore kept.
    """

    kept: int = 0
    young: int = 0
    deleted: list[Stored] = field(default_factory=list)
    repacked: list[str] = field(default_factory=list)
    freed: int = 0
    spared: list[str] = field(default_factory=list)
    staging: int = 0
    damaged: list[str] = field(default_factory=list)


def sweep(
    store: LocalStore, needed: Collection[str], *, grace: float = DEFAULT_GRACE, dry_run: bool = False
) -> Sweep:
    """Delete the stored files that nothing needs and that are older than the grace period.

    Args:
        store: the store.
        needed: digests of all that any run, version or journal of any clone refers to.
        grace: seconds; at least `LEAST_GRACE`.
        dry_run: only say what would be done.

    Raises:
        UsageError: the grace period is too short.
        StorageError: another sweep is going on, or the storage fails.
    """
    if grace < LEAST_GRACE:
        raise UsageError(
            f"a grace period of {grace:g} s is too short",
            hint=f"puts that go on need at least {LEAST_GRACE:g} s",
        )
    job = _Job(store, set(needed), time.time() - grace, dry_run=dry_run)
    if dry_run:
        return job.run()
    with storage_errors(f"lock {store.root}"):
        store.root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(store.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        if not try_lock(descriptor):
            raise StorageError(f"another gc of {store.root} is going on", hint="wait until it has ended")
        try:
            return job.run()
        finally:
            unlock(descriptor)
    finally:
        os.close(descriptor)


class _Job:
    def __init__(self, store: LocalStore, needed: set[str], cutoff: float, *, dry_run: bool) -> None:
        self._store = store
        self._needed = needed
        self._cutoff = cutoff
        self._dry_run = dry_run
        self._result = Sweep()

    def run(self) -> Sweep:
        self._empty_trash()
        with storage_errors(f"sweep {self._store.root}"):
            self._store.catalog.refresh()
            recipes = list(self._store.names("recipes"))
            self._take_chunks(recipes)
            doomed = [stored for stored in recipes if not self._is_needed(stored)]
            doomed += [stored for stored in self._store.names("sha256") if not self._is_needed(stored)]
            packs = list(self._packs())
            for stored in doomed:
                self._delete(stored)
            for index, pack in packs:
                self._consider_pack(index, pack)
        if not self._dry_run:
            self._result.staging = self._store.sweep_staging()
        return self._result

    def _is_young(self, stored: Stored) -> bool:
        return stored.time is None or stored.time > self._cutoff

    def _is_needed(self, stored: Stored) -> bool:
        """Say whether a recipe or a blob stays, and count it."""
        if parse_name(stored.name).digest in self._needed:
            self._result.kept += 1
            return True
        if self._is_young(stored):
            self._result.young += 1
            return True
        return False

    def _take_chunks(self, recipes: list[Stored]) -> None:
        """Add the chunks of the recipes that stay to what is needed.

        A recipe that cannot be read may be repaired one day: nothing that it could mean is known, so
        nothing is deleted from packs at all while there is one.
        """
        chunks: set[str] = set()
        for stored in recipes:
            digest = parse_name(stored.name).digest
            if digest not in self._needed and not self._is_young(stored):
                continue
            try:
                recipe = parse_recipe(digest, read_text(self._store.root / stored.name))
            except FileNotFoundError:
                continue
            except (CorruptError, FormatError):
                self._result.damaged.append(stored.name)
                continue
            chunks.update(chunk for chunk, _ in recipe.chunks)
        self._needed |= chunks

    def _packs(self) -> Iterator[tuple[Stored, Stored | None]]:
        listed = {stored.name: stored for stored in self._store.names("packs")}
        for name, stored in listed.items():
            if name.endswith(".idx"):
                yield stored, listed.get(name.removesuffix(".idx"))
            elif f"{name}.idx" not in listed and not self._is_young(stored):
                # A put that was killed between the pack and its index.
                self._delete(stored)

    def _consider_pack(self, index: Stored, pack: Stored | None) -> None:
        digest = parse_name(index.name).digest
        entries = self._store.catalog.entries(digest)
        live = sum(entry.length for entry in entries if entry.digest in self._needed)
        total = sum(entry.length for entry in entries)
        any_needed = any(entry.digest in self._needed for entry in entries)
        young = self._is_young(index) or (pack is not None and self._is_young(pack))
        if not entries or self._result.damaged:
            self._result.kept += 1
            if not entries:
                self._result.damaged.append(index.name)
        elif young:
            self._result.young += 1
        elif not any_needed:
            self._delete_pack(index, pack)
        elif pack is not None and live < _WORTH_REPACKING * total:
            self._repack(digest, index, pack, total - live)
        else:
            self._result.kept += 1

    def _repack(self, digest: str, index: Stored, pack: Stored, gain: int) -> None:
        if not self._dry_run:
            try:
                self._store.copy_pack(digest, self._needed.__contains__)
            except GmlError as error:
                self._result.kept += 1
                self._result.damaged.append(f"{pack.name}: {error.message}")
                return
            if not self._remove([index.name, pack.name]):
                return
            self._store.catalog.forget_pack(digest)
        self._result.repacked.append(pack.name)
        self._result.freed += gain

    def _delete(self, stored: Stored) -> None:
        if self._dry_run or self._remove([stored.name]):
            self._result.deleted.append(stored)
            self._result.freed += stored.size

    def _delete_pack(self, index: Stored, pack: Stored | None) -> None:
        found = [index] if pack is None else [index, pack]
        if not self._dry_run:
            if not self._remove([stored.name for stored in found]):
                return
            self._store.catalog.forget_pack(parse_name(index.name).digest)
        self._result.deleted += found
        self._result.freed += sum(stored.size for stored in found)

    def _remove(self, names: list[str]) -> bool:
        """Move files away, look at their times once more, and delete them; or put them back."""
        trash = self._store.root / "trash"
        trash.mkdir(exist_ok=True)
        moved: list[tuple[str, Path]] = []
        spared = False
        for name in names:
            folder, _, base = name.split("/")
            away = trash / f"{folder}-{secrets.token_hex(4)}-{base}"
            try:
                (self._store.root / name).rename(away)
            except FileNotFoundError:
                continue
            moved.append((name, away))
            if away.stat().st_mtime > self._cutoff:
                spared = True
                break
        for name, away in reversed(moved):
            if spared:
                away.rename(self._store.root / name)
            else:
                away.unlink()
        if spared:
            self._result.spared += names
            return False
        for parent in {(self._store.root / name).parent for name, _ in moved}:
            fsync_directory(parent)
        return True

    def _empty_trash(self) -> None:
        """Put back what a killed sweep had moved away; it is looked at again."""
        trash = self._store.root / "trash"
        with storage_errors(f"sweep {self._store.root}"), suppress(FileNotFoundError):
            for away in [] if self._dry_run else list(trash.iterdir()):
                folder, _, rest = away.name.partition("-")
                base = rest.partition("-")[2]
                target = self._store.root / folder / base[:2] / base
                if not is_name(f"{folder}/{base[:2]}/{base}") or target.exists():
                    away.unlink()
                else:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    away.rename(target)
