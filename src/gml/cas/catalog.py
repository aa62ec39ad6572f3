"""Where each blob of a pack is, and which files were stored before: derived data in SQLite.

The folder is the truth. The database is brought up to date from the indexes of packs, can be deleted
at any time, and is replaced by one in memory where it cannot be used.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from contextlib import contextmanager, suppress
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec, TypeVar

from gml.cas.names import MAX_INDEX, Entry, parse_index
from gml.domain.errors import CorruptError, FormatError
from gml.fs import storage_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS folders (name TEXT PRIMARY KEY, mtime INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS packs (number INTEGER PRIMARY KEY, pack BLOB UNIQUE, length INTEGER);
CREATE TABLE IF NOT EXISTS blobs (digest BLOB, pack INTEGER, start INTEGER, length INTEGER, size INTEGER,
    PRIMARY KEY (digest, pack)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS blobs_of_pack ON blobs (pack);
CREATE TABLE IF NOT EXISTS files (device INTEGER, inode INTEGER, size INTEGER, mtime INTEGER, ctime INTEGER,
    digest BLOB, PRIMARY KEY (device, inode)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS known (name TEXT, remote TEXT, PRIMARY KEY (name, remote)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS used (name TEXT PRIMARY KEY, time INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS recipes (digest BLOB PRIMARY KEY, stamp TEXT) WITHOUT ROWID;
"""
_VERSION: Final = 1
P = ParamSpec("P")
T = TypeVar("T")
# A folder whose time is not older than this may have got a file after it was listed, within one tick.
_TICK_NS: Final = 2_000_000_000


class _LostError(Exception):
    """The database could not be used and was replaced by an empty one in memory."""


def _again(method: Callable[Concatenate[Catalog, P], T]) -> Callable[Concatenate[Catalog, P], T]:
    """Call a method again where the database was lost meanwhile."""

    @wraps(method)
    def call(self: Catalog, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(self, *args, **kwargs)
        except _LostError:
            if method.__name__ != "refresh":
                self.refresh()
            return method(self, *args, **kwargs)

    return call


class Place:
    """Where a blob is within a pack.

    Attributes:
        pack: the digits in the name of the pack.
        entry: what its index says.
    """

    __slots__ = ("entry", "pack")

    def __init__(self, pack: str, entry: Entry) -> None:
        self.pack = pack
        self.entry = entry


class Catalog:
    """What is in the packs of a local store.

    Args:
        packs: the folder of the packs.
        folder: where the database lies.
    """

    def __init__(self, packs: Path, folder: Path) -> None:
        self._packs = packs
        self._path = folder / "catalog.sqlite"
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._pid = 0
        self._in_memory = False

    def find(self, digest: str) -> list[Place]:
        """Return where a blob is said to be; the pack may have gone since."""
        return self.find_many([digest]).get(digest, [])

    @_again
    def find_many(self, digests: Iterable[str]) -> dict[str, list[Place]]:
        """Return where blobs are said to be."""
        found: dict[str, list[Place]] = {}
        with self._database() as database:
            for digest in dict.fromkeys(digests):
                rows = database.execute(
                    "SELECT p.pack, b.start, b.length, b.size FROM blobs b JOIN packs p ON p.number = b.pack"
                    " WHERE b.digest = ?",
                    (bytes.fromhex(digest),),
                ).fetchall()
                if rows:
                    found[digest] = [
                        Place(pack.hex(), Entry(digest, start, length, size))
                        for pack, start, length, size in rows
                    ]
        return found

    @_again
    def packs(self) -> dict[str, int]:
        """Return the length of every pack."""
        with self._database() as database:
            return {pack.hex(): length for pack, length in database.execute("SELECT pack, length FROM packs")}

    @_again
    def packs_length(self, pack: str) -> int | None:
        """Return how long a pack must be, None where it is unknown."""
        with self._database() as database:
            row = database.execute(
                "SELECT length FROM packs WHERE pack = ?", (bytes.fromhex(pack),)
            ).fetchone()
        return None if row is None else int(row[0])

    @_again
    def entries(self, pack: str) -> list[Entry]:
        """Return what is in a pack, in its order."""
        with self._database() as database:
            rows = database.execute(
                "SELECT b.digest, b.start, b.length, b.size FROM blobs b JOIN packs p ON p.number = b.pack"
                " WHERE p.pack = ? ORDER BY b.start, b.length",
                (bytes.fromhex(pack),),
            ).fetchall()
        return [Entry(digest.hex(), start, length, size) for digest, start, length, size in rows]

    @_again
    def digests(self) -> list[str]:
        """Return the digest of every blob in a pack, sorted."""
        with self._database() as database:
            rows = database.execute("SELECT DISTINCT digest FROM blobs ORDER BY digest").fetchall()
        return [digest.hex() for (digest,) in rows]

    @_again
    def add_pack(self, pack: str, entries: Iterable[Entry]) -> None:
        """Take note of a pack that is completely and durably there."""
        with self._database() as database:
            _insert(database, pack, list(entries))

    @_again
    def forget_pack(self, pack: str) -> None:
        """Take note that a pack has gone."""
        with self._database() as database:
            _remove(database, pack)

    @_again
    def refresh(self) -> None:
        """Compare with the folder: indexes that others wrote or deleted.

        Raises:
            StorageError: the folder cannot be read.
        """
        with self._database() as database:
            seen = dict(database.execute("SELECT name, mtime FROM folders").fetchall())
            try:
                names = sorted(os.listdir(self._packs))  # noqa: PTH208 - names are wanted
            except (FileNotFoundError, NotADirectoryError):
                names = []
            except OSError as error:
                raise storage_error(error, f"cannot list {self._packs}") from error
            for name in {*names, *seen}:
                self._refresh_folder(database, name, seen.get(name))

    def _refresh_folder(self, database: sqlite3.Connection, name: str, seen: int | None) -> None:
        folder = self._packs / name
        try:
            before = folder.stat().st_mtime_ns
            if before == seen:
                return
            listed = {entry for entry in os.listdir(folder) if entry.endswith(".idx")}  # noqa: PTH208
        except (FileNotFoundError, NotADirectoryError):
            before, listed = 0, set()
        except OSError as error:
            raise storage_error(error, f"cannot list {folder}") from error
        there = {entry[:-4] for entry in listed if len(entry) == 68 and entry[:2] == name}
        known = {
            pack.hex()
            for (pack,) in database.execute(
                "SELECT pack FROM packs WHERE substr(hex(pack), 1, 2) = ?", (name.upper(),)
            )
        }
        for pack in known - there:
            _remove(database, pack)
        for pack in there - known:
            # A damaged index is `verify`'s to report; its blobs are just not here.
            with suppress(OSError, CorruptError, FormatError, ValueError):
                index = folder / f"{pack}.idx"
                if index.stat().st_size <= MAX_INDEX:
                    _insert(database, pack, parse_index(pack, index.read_bytes()))
        settled = time.time_ns() - before > _TICK_NS
        database.execute("INSERT OR REPLACE INTO folders VALUES (?, ?)", (name, before if settled else None))

    @_again
    def recall_files(self, files: Iterable[os.stat_result]) -> dict[tuple[int, int], tuple[str, int]]:
        """Return digest and size of those files that were stored before and have not changed since.

        Returns:
            By device and inode.
        """
        found: dict[tuple[int, int], tuple[str, int]] = {}
        with self._database() as database:
            if database.execute("SELECT 1 FROM files LIMIT 1").fetchone() is None:
                return found
            for facts in files:
                row = database.execute(
                    "SELECT digest, size, mtime, ctime FROM files WHERE device = ? AND inode = ?",
                    (_signed(facts.st_dev), _signed(facts.st_ino)),
                ).fetchone()
                if row is not None and row[1:] == (facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns):
                    found[facts.st_dev, facts.st_ino] = (row[0].hex(), row[1])
        return found

    @_again
    def remember_files(self, files: Iterable[tuple[os.stat_result, str]], since_ns: int) -> None:
        """Take note of what was read from files.

        Args:
            files: facts and digest of each, the facts from before it was read.
            since_ns: when the first of them was opened. A file that changed shortly before could change
                again without getting another time, so it is left out.
        """
        rows = []
        for facts, digest in files:
            newest = max(facts.st_mtime_ns, facts.st_ctime_ns)
            # Whole seconds mean a file system with coarse times: FAT has two seconds.
            slack = 3_000_000_000 if facts.st_mtime_ns % 1_000_000_000 == 0 else 1_000_000_000
            if newest + slack <= since_ns:
                rows.append((
                    _signed(facts.st_dev), _signed(facts.st_ino), facts.st_size, facts.st_mtime_ns,
                    facts.st_ctime_ns, bytes.fromhex(digest),
                ))  # fmt: skip
        if rows:
            with self._database() as database:
                database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)", rows)

    @_again
    def recipe_verified(self, digest: str, stamp: str) -> bool:
        """Whether the whole file was once read through the recipe that has this stamp, and was right."""
        with self._database() as database:
            row = database.execute(
                "SELECT stamp FROM recipes WHERE digest = ?", (bytes.fromhex(digest),)
            ).fetchone()
        return row is not None and row[0] == stamp

    @_again
    def remember_recipe(self, digest: str, stamp: str) -> None:
        """Take note that a recipe gives the file that its name promises."""
        with self._database() as database:
            database.execute("INSERT OR REPLACE INTO recipes VALUES (?, ?)", (bytes.fromhex(digest), stamp))

    @_again
    def remember_remote(self, remote: str, names: Iterable[str]) -> None:
        """Take note that a remote was seen to hold stored files, verified."""
        with self._database() as database:
            database.executemany(
                "INSERT OR IGNORE INTO known VALUES (?, ?)", [(name, remote) for name in names]
            )

    @_again
    def names_on(self, remote: str) -> list[str]:
        """Return the names that a remote was seen to hold."""
        with self._database() as database:
            rows = database.execute("SELECT name FROM known WHERE remote = ? ORDER BY name", (remote,))
            return [name for (name,) in rows]

    @_again
    def forget_remotes(self) -> None:
        """Take note that nothing is known of what remotes hold, such as after deleting there."""
        with self._database() as database:
            database.execute("DELETE FROM known")

    @_again
    def on_remotes(self) -> set[str]:
        """Return the names that some remote is known to hold."""
        with self._database() as database:
            return {name for (name,) in database.execute("SELECT DISTINCT name FROM known")}

    @_again
    def note_use(self, names: Iterable[str]) -> None:
        """Take note that stored files were read now: what was not used for long is evicted first."""
        now = time.time_ns()
        with self._database() as database:
            database.executemany("INSERT OR REPLACE INTO used VALUES (?, ?)", [(name, now) for name in names])

    @_again
    def uses(self) -> dict[str, int]:
        """Return when stored files were read last, in nanoseconds since the epoch."""
        with self._database() as database:
            return dict(database.execute("SELECT name, time FROM used").fetchall())

    @_again
    def forget_uses(self, names: Iterable[str]) -> None:
        """Forget when stored files were read that are here no more."""
        with self._database() as database:
            database.executemany("DELETE FROM used WHERE name = ?", [(name,) for name in names])

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        """Give the database for one transaction; a damaged or locked one is replaced by one in memory."""
        with self._lock:
            try:
                connection = self._connected()
                with connection:
                    yield connection
                return
            except sqlite3.Error as error:
                if self._in_memory:
                    raise
                # The body did not take effect; `_again` repeats it.
                self._start_over(error)
                raise _LostError from error

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None and self._pid == os.getpid():
            return self._connection
        place = ":memory:"
        if not self._in_memory:
            with suppress(OSError):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                place = str(self._path)
        connection = sqlite3.connect(place, timeout=10.0, check_same_thread=False)
        # Derived data: after a power cut it is made again.
        connection.execute("PRAGMA synchronous = OFF")
        if connection.execute("PRAGMA user_version").fetchone()[0] not in {0, _VERSION}:
            raise sqlite3.DatabaseError("another version")
        connection.executescript(_SCHEMA)
        connection.execute(f"PRAGMA user_version = {_VERSION}")
        self._connection, self._pid = connection, os.getpid()
        return connection

    def _start_over(self, error: sqlite3.Error) -> None:
        self._connection = None
        self._in_memory = True
        # Locked, read-only, full: the file is good. Anything else is damage, or another version.
        if not isinstance(error, sqlite3.OperationalError):
            with suppress(OSError):
                self._path.unlink(missing_ok=True)


def _insert(database: sqlite3.Connection, pack: str, entries: list[Entry]) -> None:
    if database.execute("SELECT 1 FROM packs WHERE pack = ?", (bytes.fromhex(pack),)).fetchone():
        return
    length = entries[-1].offset + entries[-1].length if entries else 0
    number = database.execute(
        "INSERT INTO packs (pack, length) VALUES (?, ?)", (bytes.fromhex(pack), length)
    ).lastrowid
    database.executemany(
        "INSERT OR IGNORE INTO blobs VALUES (?, ?, ?, ?, ?)",
        [(bytes.fromhex(e.digest), number, e.offset, e.length, e.size) for e in entries],
    )


def _remove(database: sqlite3.Connection, pack: str) -> None:
    row = database.execute("SELECT number FROM packs WHERE pack = ?", (bytes.fromhex(pack),)).fetchone()
    if row is not None:
        database.execute("DELETE FROM blobs WHERE pack = ?", row)
        database.execute("DELETE FROM packs WHERE number = ?", row)


def _signed(number: int) -> int:
    """Return a 64-bit number as SQLite stores it."""
    return number - (1 << 64) if number >= 1 << 63 else number
