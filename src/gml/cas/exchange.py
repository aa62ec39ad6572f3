"""Copying stored files between a local store and a remote: what one side lacks, in parallel, in order.

Blobs and packs go first, then indexes, then recipes, so that whoever sees an index or a recipe on
either side sees all it needs. What was copied before a kill is found there and not copied again.
"""

from __future__ import annotations

import os
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from gml.cas.check import check_for
from gml.cas.names import Kind, parse_index, parse_name, stored_name
from gml.cas.port import CHUNK
from gml.cas.remote import Source
from gml.domain.errors import CorruptError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from gml.cas.port import NameStore, Stored
    from gml.cas.remote import Remote

T = TypeVar("T")

_ORDER: Final = (
    frozenset({Kind.BLOB, Kind.COMPRESSED, Kind.PACK}),
    frozenset({Kind.INDEX}),
    frozenset({Kind.RECIPE}),
)


def default_jobs() -> int:
    """Return how many transfers run at once where nobody says so."""
    return min(8, 4 * (os.cpu_count() or 1))


class Progress(Protocol):
    """Is told how a transfer goes on. Called from several threads."""

    def begin(self, what: str, files: int, size: int) -> None:
        """So many files and bytes are to be copied."""

    def advance(self, count: int) -> None:
        """So many more bytes have arrived."""

    def file_done(self) -> None:
        """One more file has arrived."""


class Quiet:
    """A `Progress` that says nothing."""

    def begin(self, what: str, files: int, size: int) -> None:
        """See `Progress.begin`."""

    def advance(self, count: int) -> None:
        """See `Progress.advance`."""

    def file_done(self) -> None:
        """See `Progress.file_done`."""


@dataclass(slots=True)
class Copied:
    """What a transfer did.

    Attributes:
        files: stored files that were copied.
        size: bytes that were copied.
        known: stored files that were there already.
        absent: digests of blobs that are not (wholly) where they were to be copied from.
        names: the stored files that both sides have now.
    """

    files: int = 0
    size: int = 0
    known: int = 0
    absent: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def add(self, other: Copied) -> None:
        """Add what another transfer did."""
        self.files += other.files
        self.size += other.size
        self.known += other.known
        self.absent += other.absent
        self.names += other.names


def needed_names(store: NameStore, digests: Iterable[str]) -> tuple[dict[str, Stored], list[str]]:
    """Return the stored files that blobs consist of, in order, and the blobs that are not (wholly) here."""
    names: dict[str, Stored] = {}
    absent = []
    for digest in dict.fromkeys(digests):
        try:
            for stored in store.names_of(digest):
                names.setdefault(stored.name, stored)
        except NotFoundError:
            absent.append(digest)
    return names, absent


def push(
    store: NameStore,
    remote: Remote,
    digests: Iterable[str],
    *,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Copied:
    """Copy what blobs consist of to a remote.

    Each stored file is checked before it is sent, so that damage here does not travel.

    Args:
        store: the local store.
        remote: where to.
        digests: of the blobs.
        jobs: files at once.
        progress: is told how it goes.

    Returns:
        What was done; `absent` names blobs that are not in the local store (nor looked for elsewhere).

    Raises:
        CorruptError: a stored file here is damaged; what was sent before stays.
        StorageError: the remote refuses or stays out of reach.
    """
    names, absent = needed_names(store, digests)
    there = remote.sizes(names)
    missing = [stored for stored in names.values() if not is_there(stored, there)]
    told = progress or Quiet()
    told.begin("push", len(missing), sum(stored.size for stored in missing))

    def copy(stored: Stored) -> None:
        _send(store, remote, stored, told)
        told.file_done()

    _in_order(missing, copy, jobs or default_jobs())
    size = sum(stored.size for stored in missing)
    return Copied(len(missing), size, len(names) - len(missing), absent, list(names))


def is_there(stored: Stored, there: Mapping[str, int]) -> bool:
    """Whether a remote with these sizes has a stored file; one of a wrong length counts as absent.

    Two writers may compress the same blob, or split the same file, in two ways: then any length is right.
    """
    size = there.get(stored.name)
    if parse_name(stored.name).kind in {Kind.COMPRESSED, Kind.RECIPE}:
        return size is not None
    return size == stored.size


def _send(store: NameStore, remote: Remote, stored: Stored, told: Progress) -> None:
    name = parse_name(stored.name)
    index = None
    if name.kind is Kind.PACK:
        with store.open_name(stored_name(Kind.INDEX, name.digest)) as file:
            index = file.read()
    check_stored(store, stored, index)
    source = Source(stored.size, lambda: store.open_name(stored.name), told.advance, index)
    remote.send(stored.name, source)


def check_stored(store: NameStore, stored: Stored, index: bytes | None = None) -> None:
    """Read a stored file and compare it with its name.

    Raises:
        CorruptError: it is damaged.
    """
    name = parse_name(stored.name)
    if name.kind is Kind.PACK and index is None:
        with store.open_name(stored_name(Kind.INDEX, name.digest)) as file:
            index = file.read()
    check = check_for(name, parse_index(name.digest, index) if index is not None else None)
    with store.open_name(stored.name) as file:
        while piece := file.read(CHUNK):
            check.update(piece)
    check.finish()


def _in_order(names: Iterable[Stored], copy: Callable[[Stored], None], jobs: int) -> None:
    waiting = list(names)
    for kinds in _ORDER:
        now = [stored for stored in waiting if parse_name(stored.name).kind in kinds]
        # Large ones first: the last file then does not keep all others waiting.
        in_parallel(sorted(now, key=lambda stored: -stored.size), copy, jobs)


def in_parallel(items: Sequence[T], work: Callable[[T], object], jobs: int) -> None:
    """Do something with each item, some at once; the first error ends it and is raised."""
    if len(items) <= 1 or jobs <= 1:
        for item in items:
            work(item)
        return
    with ThreadPoolExecutor(min(jobs, len(items)), thread_name_prefix="gml-copy") as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def corrupt_on(remote: Remote, name: str, error: CorruptError) -> CorruptError:
    """Return the error for a file of a remote that is not what its name promises."""
    return CorruptError(
        f"{name} in {remote.url} is damaged ({error.message})",
        hint="delete it there and push it again from a clone that has it",
    )
