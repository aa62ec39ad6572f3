"""A local store with remotes behind it: what is missing here is fetched when it is read."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol

from gml.cas.connect import local_folder
from gml.cas.evict import evict
from gml.cas.exchange import Copied, push
from gml.cas.local import LocalStore
from gml.cas.port import Blob
from gml.cas.pull import Source, pull
from gml.cas.remote import open_remote
from gml.domain.errors import GmlError, NotFoundError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from os import PathLike
    from pathlib import Path

    from gml.cas.exchange import Progress
    from gml.cas.pins import Pins
    from gml.cas.reading import Located
    from gml.cas.remote import Remote

log = logging.getLogger("gml")

_PATIENCE: Final = 60.0
"""Seconds for which a main store that was out of reach is not asked again: training goes on."""


class Place(Protocol):
    """Where a remote is."""

    @property
    def name(self) -> str:
        """How it is called here."""

    @property
    def url(self) -> str:
        """A folder or an fsspec URL."""

    @property
    def options(self) -> Mapping[str, Any]:
        """What its file system is given."""


class BackedStore(LocalStore):
    """A `LocalStore` that fetches what it lacks from remotes, and sends what it is given to the main one.

    What cannot be sent is kept here, with a warning, and `gml artifacts push` sends it later.

    Args:
        root: the local folder.
        cache: a folder for derived data; within `root` if there is none.
        places: the remotes that are asked, in order.
        main: the one that everything goes to as soon as it is put.
        limit: bytes up to which local copies of what a remote has are kept; None for all.
        pins: gives where this clone says what it needs of a folder that others sweep too, None for others.
    """

    def __init__(
        self,
        root: Path,
        cache: Path | None,
        places: Sequence[Place],
        main: Place | None = None,
        limit: int | None = None,
        pins: Callable[[Path], Pins | None] = lambda _root: None,
    ) -> None:
        super().__init__(root, cache, pins(root))
        self._pins_of = pins
        self.places = places
        self._limit = limit
        self._main = main
        self._cache_dir = cache or self.root / "cache"
        self._sources: dict[str, Source] = {}
        self._opening = threading.Lock()
        self._quiet_until = 0.0

    def source(self, place: Place, jobs: int | None = None) -> Source:
        """Return a remote as a place to fetch from; connected at the first call.

        Raises:
            StorageError: it cannot be reached.
        """
        with self._opening:
            if place.name not in self._sources:
                own = self._cache_dir / "remotes" / hashlib.sha256(place.url.encode()).hexdigest()[:16]
                remote = open_remote(place.url, place.options, jobs=jobs or 8, cache=own)
                self._sources[place.name] = Source(remote, self._cache_dir / "indexes", jobs)
            return self._sources[place.name]

    # --- fetching -----------------------------------------------------------------------------

    def fetch(
        self, digests: Iterable[str], place: Place, jobs: int | None = None, progress: Progress | None = None
    ) -> Copied:
        """Copy blobs from a remote here; see `gml.cas.pull.pull`."""
        done = pull(self.source(place, jobs), self, digests, progress=progress)
        self.catalog.remember_remote(place.url, done.names)
        if self._limit is not None:
            evict(self, self._limit, done.names)
        return done

    def send(
        self, digests: Iterable[str], place: Place, jobs: int | None = None, progress: Progress | None = None
    ) -> Copied:
        """Copy blobs from here to a remote; see `gml.cas.exchange.push`."""
        remote: Remote = self.source(place, jobs).remote
        digests = list(dict.fromkeys(digests))
        folder = local_folder(place.url)
        pins = self._pins_of(folder) if folder is not None else None
        if pins is not None:
            # Before the push: what is there already may be swept as soon as nobody needs it.
            pins.add(digests)
        done = push(self, remote, digests, jobs=jobs, progress=progress)
        self.catalog.remember_remote(place.url, done.names)
        if self._limit is not None:
            evict(self, self._limit, done.names)
        return done

    def _bring(self, digest: str, error: NotFoundError) -> None:
        """Fetch a blob from the first remote that has it.

        Raises:
            NotFoundError: none has it.
            StorageError: none has it, and one could not be asked.
        """
        trouble: GmlError | None = None
        for place in self.places:
            try:
                if not self.fetch([digest], place).absent:
                    return
            except StorageError as failed:
                trouble = failed
        if trouble is not None:
            raise StorageError(f"blob {digest[:12]} is not here, and {trouble.message}", hint=trouble.hint)
        names = ", ".join(place.name for place in self.places)
        raise NotFoundError(
            f"blob {digest[:12]} is neither in {self.root} nor in the remotes ({names})",
            hint="push it from the clone that has it: `gml artifacts push`",
        ) from error

    def open(self, digest: str) -> BinaryIO:
        """Return a verified readable file object; see `BlobStore.open`."""
        try:
            return super().open(digest)
        except NotFoundError as error:
            self._bring(digest, error)
        return super().open(digest)

    def read(self, digest: str) -> bytes:
        """Return the whole content, verified."""
        try:
            return super().read(digest)
        except NotFoundError as error:
            self._bring(digest, error)
        return super().read(digest)

    def _locate(self, digest: str) -> Located:
        located = super()._locate(digest)
        if self._limit is not None:
            self.catalog.note_use({part.path.relative_to(self.root).as_posix() for part in located.parts})
        return located

    def has_here(self, digest: str) -> bool:
        """Whether a blob is here, whatever the remotes have."""
        return super().contains(digest)

    def contains(self, digest: str) -> bool:
        """Whether a blob is here or in a remote."""
        return super().contains(digest) or any(self.source(place).has([digest]) for place in self.places)

    def get_file(self, digest: str, target: Path, progress: Callable[[int], object] | None = None) -> None:
        """Write a blob to a file; see `BlobStore.get_file`."""
        try:
            super().get_file(digest, target, progress)
        except NotFoundError as error:
            self._bring(digest, error)
            super().get_file(digest, target, progress)

    # --- sending ------------------------------------------------------------------------------

    def put_file(self, path: str | PathLike[str], progress: Callable[[int], object] | None = None) -> Blob:
        """Store the content of a file, here and in the main store."""
        blob = super().put_file(path, progress)
        self._pass_on([blob.digest])
        return blob

    def put_files(
        self, paths: Sequence[str | PathLike[str]], progress: Callable[[int], object] | None = None
    ) -> list[Blob | GmlError]:
        """Store the content of many files, here and in the main store."""
        blobs = super().put_files(paths, progress)
        self._pass_on([blob.digest for blob in blobs if isinstance(blob, Blob)])
        return blobs

    def put_stream(self, stream: BinaryIO) -> Blob:
        """Store the rest of a stream, here and in the main store."""
        blob = super().put_stream(stream)
        self._pass_on([blob.digest])
        return blob

    def _pass_on(self, digests: Sequence[str]) -> None:
        if self._main is None or not digests or time.monotonic() < self._quiet_until:
            return
        try:
            self.send(digests, self._main)
        except GmlError as error:
            self._quiet_until = time.monotonic() + _PATIENCE
            log.warning(
                "gml: %s; artifacts are kept in %s meanwhile, `gml artifacts push` sends them",
                error.message,
                self.root,
            )
