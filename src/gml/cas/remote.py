"""A remote: the named files of a store under any fsspec URL, sent and read one whole file at a time.

A remote knows nothing of blobs, packs or recipes. It promises that a file appears under its name only
when it is whole and is what was sent, and it repeats by itself what may succeed at the second try.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import posixpath
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol, TypeVar

from gml.cas.connect import connect, local_folder
from gml.cas.names import FOLDERS
from gml.cas.retry import Retry
from gml.cas.trouble import DamagedError, explain, storage_trouble
from gml.domain.errors import GmlError, NotFoundError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

T = TypeVar("T")

PART: Final = 8 << 20
"""Bytes that are sent or asked for in one request at most."""

OBJECT_STORES: Final = frozenset({"gs", "gcs", "abfs", "abfss", "az", "oss", "oci", "cos"})
"""Here an upload becomes visible at once and as a whole, and a rename is a copy."""

_FEW: Final = 8
_SMALL_STORE: Final = 2_000


@dataclass(frozen=True, slots=True)
class Source:
    """The bytes of a file that is to be sent, which may have to be read again.

    Attributes:
        size: bytes.
        open: gives a binary file object at the first byte; the caller closes it.
        sent: told each number of bytes that have arrived.
        index: of a pack, the content of its index, for a remote that checks what it stores.
        check: called when all bytes were read and before anybody can see them; raises if they changed.
    """

    size: int
    open: Callable[[], BinaryIO]
    sent: Callable[[int], object] = field(default=lambda _count: None)
    index: bytes | None = None
    check: Callable[[], object] = field(default=lambda: None)

    @classmethod
    def of_bytes(cls, data: bytes) -> Source:
        """Return a source over bytes in memory."""
        return cls(len(data), lambda: io.BytesIO(data))


class Remote(Protocol):
    """Named files. All methods may be called from several threads at once.

    Each raises `StorageError` in one clear line where the storage refuses or stays out of reach.
    """

    url: str

    def names(self, folder: str = "") -> Iterator[tuple[str, int]]:
        """Yield name and size of each file below `sha256`, `packs` or `recipes`, or all of them."""

    def size(self, name: str) -> int | None:
        """Return the size of a file, None when it is not there."""

    def sizes(self, names: Iterable[str]) -> dict[str, int]:
        """Return the size of each of these files that is there, with as few requests as possible."""

    def send(self, name: str, source: Source) -> None:
        """Store a file whole, verified; one of that name and content may be there already.

        Raises:
            StorageError: nothing is visible under the name, or what was there before.
        """

    def fetch(self, name: str, start: int, end: int) -> bytes:
        """Return bytes `start` to `end` (exclusive); fewer where the file ends before.

        They are what the service sent, not verified.

        Raises:
            NotFoundError: there is no such file.
        """

    def delete(self, name: str) -> None:
        """Remove a file; one that is not there is no error."""


def open_remote(
    url: str,
    options: Mapping[str, Any] | None = None,
    *,
    retry: Retry | None = None,
    jobs: int = 8,
    cache: Path | None = None,
) -> Remote:
    """Return the remote of a folder or an fsspec URL.

    Args:
        url: such as `/mnt/share/gml`, `s3://bucket/prefix`, `sftp://host/path`, `webdavs://host/path`.
        options: for the file system (`storage_options`).
        retry: how patiently requests are repeated.
        jobs: requests at once that the connection should allow.
        cache: a folder on this machine for derived data about a folder that is shared.

    Raises:
        UsageError: the scheme is unknown.
        MissingPackageError: the scheme needs a package that is not installed.
        StorageError: the host cannot be reached.
    """
    folder = local_folder(url)
    if folder is not None:
        from gml.cas.folder import FolderRemote

        return FolderRemote(folder, cache)
    return open_fsspec(url, options, retry=retry, jobs=jobs)


def open_fsspec(
    url: str, options: Mapping[str, Any] | None = None, *, retry: Retry | None = None, jobs: int = 8
) -> FsspecRemote:
    """Return the remote of an fsspec URL; see `open_remote`."""
    scheme = url.partition("://")[0]
    if scheme in {"s3", "s3a"}:
        from gml.cas.s3 import S3Remote

        return S3Remote(url, options, retry=retry, jobs=jobs)
    kind = ObjectRemote if scheme in OBJECT_STORES else FsspecRemote
    return kind(url, options, retry=retry, jobs=jobs)


class FsspecRemote:
    """A `Remote` that needs nothing but the interface of fsspec.

    A file is written under `tmp/`, read back and compared, and only then gets its name.

    Args:
        url: any fsspec URL.
        options: for the file system.
        retry: how patiently requests are repeated.
        jobs: requests at once that the connection should allow.
    """

    def __init__(
        self,
        url: str,
        options: Mapping[str, Any] | None = None,
        *,
        retry: Retry | None = None,
        jobs: int = 8,
    ) -> None:
        self.url = url
        self.jobs = jobs
        self.retry = retry or Retry()
        self._options = dict(options or {})
        self._lock = threading.Lock()
        self._made: set[str] = set()
        self._system, self.root = self._connected()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    @property
    def system(self) -> Any:
        """The file system, connected again after the connection broke."""
        with self._lock:
            if self._system is None:
                self._system, self.root = self._connected()
            return self._system

    def _connected(self) -> tuple[Any, str]:
        with self._errors("open"):
            return connect(self.url, self._options, self.jobs)

    def path(self, name: str) -> str:
        """Return where a file lies within the file system."""
        return f"{self.root}/{name}" if name else self.root

    def attempt(self, verb: str, work: Callable[[], T]) -> T:
        """Do something with retries and one clear line at the end.

        Args:
            verb: completes "cannot ... URL".
            work: what to do.
        """

        def once() -> T:
            try:
                return work()
            except GmlError:
                raise
            except Exception as error:
                if explain(error).kind == "network":
                    self._disconnect()
                raise

        with self._errors(verb):
            return self.retry.call(once)

    def _disconnect(self) -> None:
        """Forget the connection, unless its client (over HTTP) opens another by itself."""
        with self._lock:
            if self._system is not None and not getattr(self._system, "async_impl", False):
                self._system = None

    @contextmanager
    def _errors(self, verb: str) -> Iterator[None]:
        try:
            yield
        except GmlError:
            raise
        except Exception as error:
            raise storage_trouble(error, f"cannot {verb} {self.url}") from error

    # --- reading ------------------------------------------------------------------------------

    def names(self, folder: str = "") -> Iterator[tuple[str, int]]:
        """Yield name and size of each file below a folder; see `Remote.names`."""
        if not folder:
            for one in FOLDERS:
                yield from self.names(one)
            return
        for name, size, is_folder in self.attempt("list", lambda: self._children(folder)):
            below = f"{folder}/{name}"
            if is_folder:
                yield from self.names(below)
            else:
                yield below, size

    def _children(self, folder: str) -> list[tuple[str, int, bool]]:
        system, path = self.system, self.path(folder)
        # Other machines write to the same place: what fsspec remembers of a listing is never right.
        system.invalidate_cache(path)
        try:
            found = system.ls(path, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        children = []
        for entry in found:
            name = posixpath.basename(str(entry["name"]).rstrip("/"))
            children.append((name, int(entry.get("size") or 0), entry.get("type") == "directory"))
        return children

    def size(self, name: str) -> int | None:
        """Return the size of a file, None when it is not there."""
        return self.attempt("read", lambda: self._size(self.path(name)))

    def _size(self, path: str) -> int | None:
        system = self.system
        system.invalidate_cache(posixpath.dirname(path))
        try:
            facts = system.info(path)
        except FileNotFoundError:
            return None
        return int(facts["size"]) if facts.get("type") == "file" else None

    def sizes(self, names: Iterable[str]) -> dict[str, int]:
        """Return the size of each of these files that is there.

        Files that lie together are listed together; a small store is listed as a whole.
        """
        wanted = set(names)
        if len(wanted) <= _FEW:
            return self._sizes_each(sorted(wanted))
        listing = self.names()
        found = dict(itertools.islice(listing, _SMALL_STORE))
        if next(listing, None) is None:
            return {name: found[name] for name in wanted & found.keys()}
        folders: dict[str, list[str]] = {}
        for name in wanted - found.keys():
            folders.setdefault(posixpath.dirname(name), []).append(name)
        single = [name for group in folders.values() if len(group) <= _FEW for name in group]
        found.update(self._sizes_each(single))
        with ThreadPoolExecutor(self.jobs, thread_name_prefix="gml-list") as pool:
            crowded = [folder for folder, group in folders.items() if len(group) > _FEW]
            for listed in pool.map(lambda folder: list(self.names(folder)), crowded):
                found.update(listed)
        return {name: found[name] for name in wanted & found.keys()}

    def _sizes_each(self, names: list[str]) -> dict[str, int]:
        with ThreadPoolExecutor(self.jobs, thread_name_prefix="gml-look") as pool:
            found = dict(zip(names, pool.map(self.size, names), strict=True))
        return {name: size for name, size in found.items() if size is not None}

    def fetch(self, name: str, start: int, end: int) -> bytes:
        """Return a range of a file; see `Remote.fetch`."""
        try:
            return self.attempt("read", lambda: self._fetch(self.path(name), start, end))
        except FileNotFoundError as error:
            raise NotFoundError(f"{name} is not in {self.url}") from error

    def _fetch(self, path: str, start: int, end: int) -> bytes:
        # Not fs.open: memory:// gives all readers one file object with one position, and a range can
        # be asked for again after a cut where a long answer cannot.
        try:
            return bytes(self.system.cat_file(path, start=start, end=end))
        except FileNotFoundError as error:
            raise NotFoundError(f"{posixpath.basename(path)} is not in {self.url}") from error

    # --- writing ------------------------------------------------------------------------------

    def send(self, name: str, source: Source) -> None:
        """Store a file whole, verified; see `Remote.send`."""
        self.attempt("write", lambda: self._send(name, source))
        source.sent(source.size)

    def _send(self, name: str, source: Source) -> None:
        system, target = self.system, self.path(name)
        staged = self.path(f"tmp/{secrets.token_hex(8)}")
        self._make_folder(system, posixpath.dirname(staged))
        self._make_folder(system, posixpath.dirname(target))
        try:
            digest = self._write(system, staged, source)
            source.check()
            if self._read_back(staged, source.size) != digest:
                raise DamagedError(f"{name} arrived damaged")
            move(system, staged, target)
        except BaseException:
            with suppress(Exception):
                system.rm_file(staged)
            raise

    def _make_folder(self, system: Any, folder: str) -> None:
        if folder not in self._made:
            system.makedirs(folder, exist_ok=True)
            self._made.add(folder)

    def _write(self, system: Any, path: str, source: Source) -> str:
        sha = hashlib.sha256()
        count = 0
        with source.open() as file:
            if source.size <= PART:
                data = file.read(PART + 1)
                system.pipe_file(path, data)
                count = len(data)
                sha.update(data)
            else:
                with system.open(path, "wb") as out:
                    while piece := file.read(PART):
                        sha.update(piece)
                        count += len(piece)
                        out.write(piece)
        if count != source.size:
            raise changed(path)
        return sha.hexdigest()

    def _read_back(self, path: str, size: int) -> str:
        """Return the digest of what has arrived; empty where its length is another."""
        sha = hashlib.sha256()
        if self._size(path) != size:
            return ""
        position = 0
        while position < size:
            piece = self._fetch(path, position, min(position + PART, size))
            if not piece:
                return ""
            sha.update(piece)
            position += len(piece)
        return sha.hexdigest()

    def delete(self, name: str) -> None:
        """Remove a file; one that is not there is no error."""

        def remove() -> None:
            with suppress(FileNotFoundError):
                self.system.rm_file(self.path(name))

        self.attempt("delete in", remove)


class ObjectRemote(FsspecRemote):
    """A `Remote` on an object store: files get their own name at once, and are read back then."""

    def _send(self, name: str, source: Source) -> None:
        system, path = self.system, self.path(name)
        digest = self._write_at_once(system, path, source)
        if self._read_back(path, source.size) != digest:
            with suppress(Exception):
                system.rm_file(path)
            raise DamagedError(f"{name} arrived damaged")

    def _write_at_once(self, system: Any, path: str, source: Source) -> str:
        if source.size <= PART:
            with source.open() as file:
                data = file.read(PART + 1)
            if len(data) != source.size:
                raise changed(path)
            source.check()
            system.pipe_file(path, data)
            return hashlib.sha256(data).hexdigest()
        # With autocommit off, fsspec's object stores show the upload at commit and not before.
        out = system.open(path, "wb", block_size=PART, autocommit=False)
        sha = hashlib.sha256()
        count = 0
        try:
            with source.open() as file:
                while piece := file.read(PART):
                    sha.update(piece)
                    count += len(piece)
                    out.write(piece)
            if count != source.size:
                raise changed(path)
            source.check()
        except BaseException:
            # Closing would show what is there so far under its final name.
            with suppress(OSError, AttributeError, NotImplementedError):
                out.discard()
            raise
        out.close()
        out.commit()
        return sha.hexdigest()


def move(system: Any, source: str, target: str) -> None:
    """Rename within a file system, replacing the target, in one step where the system has one."""
    client = getattr(system, "client", None)
    if "webdav" in system.protocol and client is not None:
        # fsspec's own `mv` copies there, and a copy may be seen half.
        client.move(source, target, overwrite=True)
        return
    system.mv(source, target)


def changed(what: str) -> StorageError:
    """Return the error for a source that is not what it was announced to be."""
    return StorageError(
        f"{what} changed while it was read", hint="wait until it is completely written, then repeat"
    )
