"""Fetching blobs from a remote into a local store: where each lies, and no more bytes than needed.

A blob is a file of its own, a part of a pack, or a recipe over such blobs. Of a pack of which most is
wanted the whole is fetched; otherwise the wanted ranges, which become files of their own here.
"""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Final

from gml.cas.exchange import Copied, Quiet, corrupt_on, default_jobs, in_parallel
from gml.cas.names import MAX_INDEX, Kind, is_name, parse_index, parse_name, parse_recipe, stored_name
from gml.cas.remote import PART
from gml.domain.errors import CorruptError, NotFoundError, StorageError
from gml.fs import write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future
    from pathlib import Path

    from gml.cas.exchange import Progress
    from gml.cas.names import Entry
    from gml.cas.port import NameStore
    from gml.cas.remote import Remote

_TRIES: Final = 3
# Ranges of a pack that are closer than this are asked for in one request.
_GAP: Final = 256 << 10
_RUN: Final = PART


@dataclass(frozen=True, slots=True)
class Piece:
    """A range of a pack that holds wanted blobs.

    Attributes:
        pack: the digits in the pack's name.
        entries: the wanted blobs, in order.
    """

    pack: str
    entries: tuple[Entry, ...]

    @property
    def start(self) -> int:
        """Offset of the first byte."""
        return self.entries[0].offset

    @property
    def end(self) -> int:
        """Offset after the last byte."""
        return self.entries[-1].offset + self.entries[-1].length


@dataclass(slots=True)
class Plan:
    """What has to be fetched.

    Attributes:
        files: name and size of files that are fetched whole.
        pieces: ranges of packs.
        recipes: content by digest; kept when everything else is here.
        known: how many of the blobs were here already.
        absent: digests of blobs that the remote does not have, or not wholly.
    """

    files: dict[str, int] = field(default_factory=dict)
    pieces: list[Piece] = field(default_factory=list)
    recipes: dict[str, bytes] = field(default_factory=dict)
    known: int = 0
    absent: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes to fetch."""
        return sum(self.files.values()) + sum(piece.end - piece.start for piece in self.pieces)

    @property
    def count(self) -> int:
        """Requests for files and ranges."""
        return len(self.files) + len(self.pieces) + len(self.recipes)


class Source:
    """A remote, as a place where blobs are looked for and fetched from.

    Args:
        remote: the remote.
        cache: folder where indexes of packs are kept, which never change.
        jobs: requests at once.
    """

    def __init__(self, remote: Remote, cache: Path, jobs: int | None = None) -> None:
        self.remote = remote
        self.jobs = jobs or default_jobs()
        self._cache = cache
        self._packs: set[str] | None = None
        self._pack_sizes: dict[str, int] = {}
        self._indexes: dict[str, list[Entry]] = {}
        self._looking = Lock()

    # --- where is it --------------------------------------------------------------------------

    def has(self, digests: Iterable[str]) -> set[str]:
        """Return those blobs that the remote has, packed ones included."""
        wanted = set(digests)
        found = self._single(wanted)
        rest = wanted - {parse_name(name).digest for name in found}
        return (wanted - rest) | set(self._locate(rest))

    def _single(self, digests: set[str]) -> dict[str, int]:
        """Return the files that each consist of one of these blobs, and recipes of them, with sizes."""
        kinds = (Kind.BLOB, Kind.COMPRESSED, Kind.RECIPE)
        return self.remote.sizes(stored_name(kind, digest) for digest in sorted(digests) for kind in kinds)

    def _locate(self, digests: set[str]) -> dict[str, tuple[str, Entry]]:
        """Return pack and entry of each of these blobs that lies in a pack."""
        found: dict[str, tuple[str, Entry]] = {}
        left = set(digests)
        if not left:
            return found
        for pack, entries in self.all_indexes():
            for entry in entries:
                if entry.digest in left:
                    found[entry.digest] = (pack, entry)
                    left.discard(entry.digest)
            if not left:
                break
        return found

    def packed(self, digests: Iterable[str]) -> set[str]:
        """Return those blobs that lie in a pack of the remote."""
        with self._looking:
            return set(self._locate(set(digests)))

    def forget(self) -> None:
        """Look again which packs there are, after some were written or deleted."""
        self._packs = None
        self._indexes.clear()

    def all_indexes(self) -> Iterator[tuple[str, list[Entry]]]:
        """Yield the digits of every pack in the remote, and what is in it."""
        if self._packs is None:
            listed = [(parse_name(name), size) for name, size in self.remote.names("packs") if is_name(name)]
            self._pack_sizes = {name.digest: size for name, size in listed if name.kind is Kind.PACK}
            indexed = {name.digest for name, _ in listed if name.kind is Kind.INDEX}
            self._packs = indexed & self._pack_sizes.keys()
        yield from self._indexes.items()
        rest = [pack for pack in self._packs if pack not in self._indexes]
        with ThreadPoolExecutor(self.jobs, thread_name_prefix="gml-index") as pool:
            for pack, entries in zip(rest, pool.map(self._index, rest), strict=True):
                self._indexes[pack] = entries
                yield pack, entries

    def _index(self, pack: str) -> list[Entry]:
        return parse_index(pack, self.index_bytes(pack))

    def index_bytes(self, pack: str) -> bytes:
        """Return the index of a pack, verified; from the cache where it has been read before.

        Raises:
            CorruptError: it is damaged.
        """
        kept = self._cache / f"{pack}.idx"
        try:
            data = kept.read_bytes()
            parse_index(pack, data)
        except (OSError, CorruptError):
            data = self._text(stored_name(Kind.INDEX, pack), partial(parse_index, pack))
            try:
                write_atomic(kept, data, durable=False)
            except StorageError:
                return data  # a full disk costs a cache, not the answer
        return data

    def _text(self, name: str, check: Callable[[bytes], object]) -> bytes:
        """Return a small file whole, once `check` accepts it."""
        for left in range(_TRIES - 1, -1, -1):
            data = self.remote.fetch(name, 0, MAX_INDEX)
            try:
                check(data)
            except CorruptError as error:
                if not left:
                    raise corrupt_on(self.remote, name, error) from error
            else:
                return data
        raise AssertionError

    # --- what has to come ---------------------------------------------------------------------

    def plan(self, store: NameStore, digests: Iterable[str]) -> Plan:
        """Return what has to be fetched so that these blobs are in a local store.

        Args:
            store: the local store.
            digests: of the blobs; those that are here cost nothing.
        """
        asked = set(digests)
        wanted = {digest for digest in asked if not _is_whole(store, digest)}
        plan = Plan(known=len(asked - wanted))
        if not wanted:
            return plan
        single = self._single(wanted)
        blobs: dict[str, set[str]] = {}  # blob -> the wanted digests that need it
        for digest in sorted(wanted):
            recipe = stored_name(Kind.RECIPE, digest)
            if _own_file(single, digest):
                blobs.setdefault(digest, set()).add(digest)
            elif recipe in single:
                text = self._text(recipe, partial(parse_recipe, digest))
                plan.recipes[digest] = text
                for chunk, _ in parse_recipe(digest, text).chunks:
                    blobs.setdefault(chunk, set()).add(digest)
            else:
                blobs.setdefault(digest, set()).add(digest)
        needed = {blob for blob in blobs if blob in wanted or not _is_whole(store, blob)}
        loose = {blob for blob in needed if _own_file(single, blob)}
        packed = self._locate(needed - loose)
        rest = needed - loose - packed.keys()
        # Chunks that an older or another writer keeps as files of their own.
        single.update(self._single(rest - wanted))
        loose |= {blob for blob in rest if _own_file(single, blob)}
        plan.files = {name: single[name] for blob in loose if (name := _own_file(single, blob))}
        self._plan_packs(plan, packed)
        for blob in rest - loose:
            plan.absent += sorted(blobs[blob])
        plan.absent = sorted(set(plan.absent))
        for digest in plan.absent:
            plan.recipes.pop(digest, None)
        return plan

    def _plan_packs(self, plan: Plan, packed: dict[str, tuple[str, Entry]]) -> None:
        by_pack: dict[str, list[Entry]] = {}
        for pack, entry in packed.values():
            by_pack.setdefault(pack, []).append(entry)
        for pack, entries in sorted(by_pack.items()):
            whole = self._pack_sizes[pack]
            if 2 * sum(entry.length for entry in entries) >= whole:
                plan.files[stored_name(Kind.PACK, pack)] = whole
            else:
                plan.pieces += _pieces(pack, entries)

    # --- fetching -----------------------------------------------------------------------------

    def fetch_file(self, store: NameStore, name: str, size: int, told: Progress) -> None:
        """Copy one stored file here, verified before it gets its name.

        Raises:
            CorruptError: it is damaged in the remote: three times the bytes were wrong.
        """
        index = None
        parsed = parse_name(name)
        if parsed.kind is Kind.PACK:
            index = self.index_bytes(parsed.digest)
        for left in range(_TRIES - 1, -1, -1):
            stream = Ranges(self.remote, name, size, told)
            try:
                with stream:
                    store.adopt_name(name, stream, index)  # type: ignore[arg-type]
            except CorruptError as error:
                told.advance(-stream.given)
                if not left:
                    raise corrupt_on(self.remote, name, error) from error
            else:
                return

    def fetch_piece(self, store: NameStore, piece: Piece, told: Progress) -> None:
        """Copy some blobs of a pack here, each as a file of its own."""
        name = stored_name(Kind.PACK, piece.pack)
        for left in range(_TRIES - 1, -1, -1):
            data = self.remote.fetch(name, piece.start, piece.end)
            try:
                for entry in piece.entries:
                    at = entry.offset - piece.start
                    kind = Kind.BLOB if entry.length == entry.size else Kind.COMPRESSED
                    part = io.BytesIO(data[at : at + entry.length])
                    store.adopt_name(stored_name(kind, entry.digest), part)
            except CorruptError as error:
                if not left:
                    raise corrupt_on(self.remote, name, error) from error
            else:
                told.advance(piece.end - piece.start)
                return


def pull(
    source: Source, store: NameStore, digests: Iterable[str], *, progress: Progress | None = None
) -> Copied:
    """Fetch blobs from a remote into a local store.

    Args:
        source: the remote.
        store: the local store.
        digests: of the blobs; those that are here already cost nothing.
        progress: is told how it goes.

    Returns:
        What was done; `absent` names blobs that the remote does not have (wholly).

    Raises:
        CorruptError: a file of the remote is damaged; nothing wrong is stored.
        StorageError: the remote stays out of reach, or the local disk refuses.
    """
    wanted = list(dict.fromkeys(digests))
    plan = source.plan(store, wanted)
    told = progress or Quiet()
    told.begin("pull", plan.count, plan.size)
    files = sorted(plan.files.items(), key=lambda item: -item[1])

    def copy(item: tuple[str, int] | Piece) -> None:
        if isinstance(item, Piece):
            source.fetch_piece(store, item, told)
        else:
            source.fetch_file(store, item[0], item[1], told)
        told.file_done()

    items: list[tuple[str, int] | Piece] = [*files, *plan.pieces]
    in_parallel(items, copy, source.jobs)
    for digest, text in plan.recipes.items():
        store.adopt_name(stored_name(Kind.RECIPE, digest), io.BytesIO(text))
        told.file_done()
    names = [*plan.files, *(stored_name(Kind.RECIPE, digest) for digest in plan.recipes)]
    names += [f"{name}.idx" for name in plan.files if parse_name(name).kind is Kind.PACK]
    return Copied(plan.count, plan.size, plan.known, plan.absent, names)


class Ranges(io.RawIOBase):
    """A file of a remote as a sequence of ranges, one of them asked for ahead.

    Each range is repeated by the remote where the connection breaks, so a long file is never begun anew.
    """

    def __init__(self, remote: Remote, name: str, size: int, told: Progress | None = None) -> None:
        super().__init__()
        self._remote = remote
        self._name = name
        self._size = size
        self._told = told
        self._asked = 0
        self._ahead: Future[bytes] | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="gml-ahead") if size > PART else None
        self._rest = memoryview(b"")
        self.given = 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Read some bytes; none at the end."""
        if not self._rest:
            self._rest = memoryview(self._next())
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def _next(self) -> bytes:
        start = self._asked
        if start >= self._size:
            return b""
        data = self._ahead.result() if self._ahead is not None else self._ask(start)
        self._ahead = None
        self._asked = start + len(data)
        if not data:
            # Shorter than the listing said; whoever checks the digest finds out.
            self._asked = self._size
            return b""
        if self._pool is not None and self._asked < self._size:
            self._ahead = self._pool.submit(self._ask, self._asked)
        self.given += len(data)
        if self._told is not None:
            self._told.advance(len(data))
        return data

    def _ask(self, start: int) -> bytes:
        return self._remote.fetch(self._name, start, min(start + PART, self._size))

    def close(self) -> None:
        """Give up what was asked for ahead."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        super().close()


def _pieces(pack: str, entries: list[Entry]) -> list[Piece]:
    """Group blobs of a pack that lie close to each other, in runs that fit into memory."""
    pieces = []
    run: list[Entry] = []
    for entry in sorted(entries, key=lambda entry: entry.offset):
        if run:
            gap = entry.offset - (run[-1].offset + run[-1].length)
            long = entry.offset + entry.length - run[0].offset > _RUN
            if gap > _GAP or long:
                pieces.append(Piece(pack, tuple(run)))
                run = []
        run.append(entry)
    if run:
        pieces.append(Piece(pack, tuple(run)))
    return pieces


def _own_file(single: dict[str, int], digest: str) -> str | None:
    for kind in (Kind.COMPRESSED, Kind.BLOB):
        name = stored_name(kind, digest)
        if name in single:
            return name
    return None


def _is_whole(store: NameStore, digest: str) -> bool:
    try:
        store.names_of(digest)
    except NotFoundError:
        return False
    return True
