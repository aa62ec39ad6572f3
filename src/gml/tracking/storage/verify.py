"""Finding damage of the artifact store, and the runs that suffer from it."""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gml.cas.backed import BackedStore
from gml.cas.erase import files_of_chunks, files_of_remote_chunks
from gml.cas.names import Kind, parse_name, stored_name
from gml.cas.scrub import Damage, listed, sample_of, scrub
from gml.cas.scrub_remote import RemoteScrub
from gml.domain.errors import InvalidValueError, StorageError
from gml.tracking.remotes import backed_store, remote_of
from gml.tracking.storage.local import local_store
from gml.tracking.storage.uses import uses

if TYPE_CHECKING:
    from collections.abc import Callable

    from gml.cas.local import LocalStore
    from gml.tracking.reader import Reader
    from gml.tracking.storage.uses import Use

log = logging.getLogger("gml")


@dataclass(slots=True)
class Verdict:
    """What a verification found.

    Attributes:
        files: number of stored files that were read.
        size: their bytes.
        total: number of stored files there are.
        damaged: each damage, with the files of runs that need what is damaged.
        absent: files of runs whose blobs are neither in the store nor in a remote.
        repaired: names of damaged files that were taken out of the store, so that a put or pull brings
            them back.
    """

    files: int = 0
    size: int = 0
    total: int = 0
    damaged: list[tuple[Damage, list[Use]]] = field(default_factory=list)
    absent: list[Use] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)


def parse_share(text: str) -> float:
    """Return the share that `5%` or `0.05` means.

    Raises:
        InvalidValueError: it is no share of more than 0 and at most 1.
    """
    try:
        share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise InvalidValueError(f"{text!r} is no share", hint="use a percentage such as 5%")
    return share


def verify(
    reader: Reader,
    *,
    share: float = 1.0,
    seed: int | None = None,
    repair: bool = False,
    begin: Callable[[int, int], Callable[[int], object]] | None = None,
) -> Verdict:
    """Read the artifact store and compare everything with its digest.

    Args:
        reader: the runs.
        share: how much of the store to read, a random sample where it is less than 1.
        seed: for the same sample again.
        repair: take what is damaged out of the store, so that it can be put or pulled again.
        begin: called with the number of files and bytes that will be read; what it returns is called with the
            bytes of each file after it was read.

    Raises:
        StorageError: the store cannot be read at all.
    """
    store = local_store(reader.workspace)
    store.catalog.refresh()
    every = listed(store)
    files = sample_of(every, share, seed)
    verdict = Verdict(len(files), sum(stored.size for stored in files), len(every))
    damages = list(scrub(store, files, begin(verdict.files, verdict.size) if begin is not None else None))
    by_digest: defaultdict[str, list[Use]] = defaultdict(list)
    for use in uses(reader):
        by_digest[use.digest].append(use)
    absent = [digest for digest in by_digest if not store.has_here(digest)]
    elsewhere = _elsewhere(store, absent) if absent else set()
    verdict.absent = [use for digest in absent if digest not in elsewhere for use in by_digest[digest]]
    if damages:
        chunks = files_of_chunks(store)
        verdict.damaged = [
            (damage, _victims(store, damage, chunks, by_digest))
            for damage in sorted(damages, key=lambda damage: (damage.name, damage.digest or ""))
        ]
        if repair:
            verdict.repaired = sorted({damage.name for damage in damages})
            for name in verdict.repaired:
                _take_out(store, name)
    return verdict


def verify_remote(
    reader: Reader,
    remote: str | None = None,
    *,
    share: float = 1.0,
    seed: int | None = None,
    repair: bool = False,
    begin: Callable[[int, int], Callable[[int], object]] | None = None,
) -> Verdict:
    """Fetch what a remote has and compare everything with its digest; nothing is kept.

    What was sent there and is there no more counts as damage.

    Args:
        reader: the runs.
        remote: name, URL or folder; None for the usual one.
        share: how much of it to read, a random sample where it is less than 1.
        seed: for the same sample again.
        repair: delete there what is damaged, so that a push from a clone that has it sends it again.
        begin: see `verify`.

    Raises:
        UsageError: there is no remote, or more than one to choose from.
        StorageError: the remote refuses or cannot be reached.
    """
    place = remote_of(reader.workspace, remote)
    store = backed_store(reader.workspace, place)
    source = store.source(place, reader.workspace.settings.artifact_jobs)
    scrub = RemoteScrub(source)
    files = sample_of(scrub.files, share, seed)
    verdict = Verdict(len(files), sum(stored.size for stored in files), len(scrub.files))
    damages = list(scrub.scrub(files, begin(verdict.files, verdict.size) if begin is not None else None))
    damages += [
        Damage(
            name,
            None if parse_name(name).kind is Kind.PACK else parse_name(name).digest,
            "was sent and is gone",
        )
        for name in store.catalog.names_on(place.url)
        if not name.endswith(".idx") and not scrub.has_name(name)
    ]
    if not damages:
        return verdict
    by_digest: defaultdict[str, list[Use]] = defaultdict(list)
    for use in uses(reader):
        by_digest[use.digest].append(use)
    chunks = files_of_remote_chunks(source)
    in_packs = {pack: {entry.digest for entry in entries} for pack, entries in source.all_indexes()}
    for damage in sorted(damages, key=lambda damage: (damage.name, damage.digest or "")):
        pack = parse_name(damage.name).digest
        blobs = {damage.digest} if damage.digest is not None else in_packs.get(pack, set())
        needing = blobs.union(*(chunks.get(blob, set()) for blob in blobs))
        verdict.damaged.append((damage, [use for one in sorted(needing) for use in by_digest.get(one, [])]))
    if repair:
        verdict.repaired = sorted({damage.name for damage in damages if scrub.has_name(damage.name)})
        for name in verdict.repaired:
            parsed = parse_name(name)
            if parsed.kind in {Kind.PACK, Kind.INDEX}:
                source.remote.delete(stored_name(Kind.INDEX, parsed.digest))
                source.remote.delete(stored_name(Kind.PACK, parsed.digest))
            else:
                source.remote.delete(name)
        store.catalog.forget_remotes()
    return verdict


def _elsewhere(store: LocalStore, digests: list[str]) -> set[str]:
    """Return which blobs are in a remote; of one that cannot be asked it is not known that it lacks them."""
    found: set[str] = set()
    if not isinstance(store, BackedStore):
        return found
    for place in store.places:
        try:
            found |= store.source(place).has(digests)
        except StorageError as error:
            log.warning("gml: %s; what is not here may be there", error.message)
            return set(digests)
    return found


def _victims(
    store: LocalStore,
    damage: Damage,
    chunks: dict[str, set[str]],
    by_digest: defaultdict[str, list[Use]],
) -> list[Use]:
    if damage.digest is not None:
        blobs = {damage.digest}
    else:
        pack = parse_name(damage.name).digest
        blobs = {entry.digest for entry in store.catalog.entries(pack)}
    files = blobs.union(*(chunks.get(blob, set()) for blob in blobs))
    return [use for digest in sorted(files) for use in by_digest.get(digest, [])]


def _take_out(store: LocalStore, name: str) -> None:
    parsed = parse_name(name)
    if parsed.kind is Kind.PACK and store.catalog.entries(parsed.digest):
        store.repack(parsed.digest, lambda _: True, drop_damaged=True)
    elif parsed.kind is Kind.INDEX:
        if not store.rewrite_index(parsed.digest):
            store.delete_name(stored_name(Kind.PACK, parsed.digest))
    else:
        store.delete_name(name)
