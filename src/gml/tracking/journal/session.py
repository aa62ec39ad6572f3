"""The directory of a live run: creating it, joining it, and knowing who is still alive."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gml import fs
from gml.domain.errors import ConflictError, StorageError
from gml.tracking.journal.appender import Appender
from gml.tracking.journal.lines import FORMAT, VERSION, encode_line, encode_lines, parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

SHARED: Final = "run.log"
STAGED: Final = "files"
CREATE: Final = "create"
RESUME: Final = "resume"
LOCK_TIMEOUT: Final = 5.0
_END_LINE: Final = encode_line(["end"])


def new_session_id() -> str:
    """Return 16 random hexadecimal digits."""
    return secrets.token_hex(8)


class SharedLog:
    """`run.log`: the run's low-rate events in one order for all of its processes."""

    def __init__(self, path: Path, known_params: Mapping[str, str] | None = None) -> None:
        self._file = Appender(path, readable=True)
        self._offset = 0
        self.params: dict[str, str] = dict(known_params or {})
        self.guesses: dict[str, str] = {}
        self.name = ""
        self.header: dict[str, Any] = {}

    @property
    def appender(self) -> Appender:
        """The file beneath."""
        return self._file

    def _refresh(self) -> bool:
        """Read what other processes appended. False when the file ends inside a line."""
        size = os.fstat(self._file.fd).st_size
        if size == self._offset:
            return True
        data = os.pread(self._file.fd, size - self._offset, self._offset)
        events, consumed, _ = parse(data)
        self._offset += consumed
        for event in events:
            if event[0] == "p" and len(event) == 3:
                self.params.setdefault(event[1], event[2])
            elif event[:2] == ["set", "name"] and len(event) == 3:
                self.name = str(event[2])
            elif event[0] == "P" and len(event) == 3:
                self.guesses.setdefault(event[1], event[2])
            elif event[0] == FORMAT and len(event) == 3 and not self.header:
                self.header = event[2]
        return consumed == len(data)

    def refresh(self) -> None:
        """Read what other processes appended."""
        with suppress(OSError):
            self._refresh()

    def append(self, events: Iterable[list[Any]], *, params: Mapping[str, str] | None = None) -> bool:
        """Append events, and params after checking that each is new or unchanged.

        Returns:
            False when the bytes could not be kept on disk yet (they wait in memory).

        Raises:
            ConflictError: a param has another value already; nothing is stored.
        """
        locked = self._lock()
        try:
            whole = self._read_quietly()
            lines = [] if whole else [b"\n"]
            fresh = {}
            for key, value in (params or {}).items():
                old = self.params.get(key)
                if old is None:
                    fresh[key] = value
                elif old != value:
                    raise ConflictError(
                        f"param {key!r} is {old!r:.200} in this run and cannot become {value!r:.200}",
                        hint="params are write-once; use a tag or a new run",
                    )
            lines.append(encode_lines(["p", key, value] for key, value in fresh.items()))
            lines.append(encode_lines(events))
            kept = self._file.write(b"".join(lines))
            self.params.update(fresh)
            return kept
        finally:
            if locked:
                fs.unlock(self._file.fd)

    def _lock(self) -> bool:
        # A peer that was stopped while it held the lock must not stop this training: after a while
        # the line is appended all the same, which O_APPEND keeps whole.
        try:
            return fs.wait_lock(self._file.fd, LOCK_TIMEOUT)
        except OSError:
            return False

    def _read_quietly(self) -> bool:
        try:
            return self._refresh()
        except OSError:
            return True

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@dataclass(slots=True)
class Membership:
    """This process's part in a live run."""

    path: Path
    shared: SharedLog
    own: Appender

    @property
    def staged(self) -> Path:
        """Directory of small artifacts on their way into git."""
        return self.path / STAGED

    @property
    def session(self) -> str:
        """Id of the session."""
        return str(self.shared.header.get("session", ""))

    @property
    def role(self) -> str:
        """Whether the session created the run or resumed it."""
        return str(self.shared.header.get("role", CREATE))

    def end(self) -> None:
        """Say that this process logs no more."""
        self.shared.appender.flush()
        self.own.flush(_END_LINE)

    def close(self) -> None:
        """Close the files; from here on the process counts as gone."""
        self.own.close()
        self.shared.close()


def _own_name() -> str:
    return f"p-{os.getpid()}-{secrets.token_hex(4)}.log"


def _open_own(directory: Path, facts: Mapping[str, Any]) -> Appender:
    own = Appender(directory / _own_name())
    fs.try_lock(own.fd)
    # Whoever opens it says what is wrong when this fails; later it is the appender's word.
    own.quiet = True
    own.write(encode_line([FORMAT, VERSION, dict(facts)]))
    own.quiet = False
    return own


def create(
    root: Path,
    run_id: str,
    header: Mapping[str, Any],
    events: Iterable[list[Any]],
    process: Mapping[str, Any],
    known_params: Mapping[str, str] | None = None,
) -> Membership:
    """Create the directory of a live run and join it.

    It appears under its name only when its first events are in it and this process holds its lock,
    so that nobody takes it for the remains of a dead run. Where another process resumed the same run
    at the same time, its session is joined instead.

    Raises:
        StorageError: the journal directory cannot be written.
    """
    target = root / run_id
    building = root / f".new-{run_id}-{secrets.token_hex(4)}"
    own: Appender | None = None
    try:
        (building / STAGED).mkdir(parents=True)
        own = _open_own(building, process)
        first = Appender(building / SHARED)
        first.quiet = True
        first.write(encode_lines([[FORMAT, VERSION, dict(header)], *events]))
        unwritten = first.unwritten or own.unwritten
        first.close()
        if unwritten:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        building.rename(target)
    except OSError as error:
        if own is not None:
            own.close()
        shutil.rmtree(building, ignore_errors=True)
        if header.get("role") == RESUME and error.errno in {errno.EEXIST, errno.ENOTEMPTY}:
            joined = join(root, run_id, process, known_params)
            if joined is not None:
                joined.shared.append(events)
                return joined
        raise fs.storage_error(error, f"cannot start a run in {root}") from error
    own.path = target / own.path.name
    shared = SharedLog(target / SHARED, known_params)
    shared.refresh()
    return Membership(target, shared, own)


def join(
    root: Path, run_id: str, process: Mapping[str, Any], known_params: Mapping[str, str] | None = None
) -> Membership | None:
    """Join a run that other processes of this machine write to; None when there is no such directory."""
    path = root / run_id
    for _ in range(100):
        try:
            shared = SharedLog(path / SHARED, known_params) if path.is_dir() else None
        except FileNotFoundError:
            shared = None
        except OSError as error:
            raise fs.storage_error(error, f"cannot join the run in {path}") from error
        if shared is None:
            return None
        try:
            if not fs.wait_lock(shared.appender.fd, LOCK_TIMEOUT):
                shared.close()
                raise StorageError(f"{path} stays locked", hint="`gml status` shows who writes")
            # Whoever folds a finished run renames its directory under this lock; if that happened
            # between open and lock, look again.
            if _same_file(shared.appender.fd, path / SHARED):
                own = _open_own(path, process)
                fs.unlock(shared.appender.fd)
                shared.refresh()
                return Membership(path, shared, own)
        except OSError as error:
            shared.close()
            raise fs.storage_error(error, f"cannot join the run in {path}") from error
        shared.close()
    return None


def _same_file(fd: int, path: Path) -> bool:
    try:
        there = path.stat()
    except OSError:
        return False
    here = os.fstat(fd)
    return (here.st_ino, here.st_dev) == (there.st_ino, there.st_dev)


def append_to_live(root: Path, run_id: str, events: Iterable[list[Any]]) -> bool:
    """Append events to a run that is being written, from a process that is not part of it.

    Returns:
        False when the run is not live here; its ledger entry is then the place to write to.
    """
    path = root / run_id / SHARED
    try:
        shared = SharedLog(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise fs.storage_error(error, f"cannot write {path}") from error
    try:
        if not fs.wait_lock(shared.appender.fd, LOCK_TIMEOUT) or not _same_file(shared.appender.fd, path):
            return False
        return shared.appender.write(b"\n" * (not _ends_with_newline(path)) + encode_lines(events))
    finally:
        shared.close()


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def process_files(path: Path) -> list[Path]:
    """Return the files of all processes that took part, sorted by name."""
    return sorted(entry for entry in path.iterdir() if entry.name.startswith("p-"))


def is_alive(file: Path) -> bool:
    """Whether the process that writes this file still runs and has not said `end`."""
    try:
        fd = _open_to_look(file)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        if fs.try_lock(fd):
            fs.unlock(fd)
            return False
        return not _says_end(fd)
    finally:
        os.close(fd)


def left_well(path: Path) -> bool:
    """Whether every process of this run said `end`; one that died did not."""
    try:
        for file in process_files(path):
            fd = _open_to_look(file)
            try:
                if not _says_end(fd):
                    return False
            finally:
                os.close(fd)
    except OSError:
        return False
    return True


def _open_to_look(file: Path) -> int:
    try:
        # NFS locks only what is open for writing.
        return os.open(file, os.O_RDWR | fs.OPEN_FLAGS)
    except OSError as error:
        if error.errno not in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise
        return os.open(file, os.O_RDONLY | fs.OPEN_FLAGS)


def _says_end(fd: int) -> bool:
    size = os.fstat(fd).st_size
    return os.pread(fd, len(_END_LINE), max(0, size - len(_END_LINE))) == _END_LINE


def alive_processes(path: Path) -> list[Path]:
    """Return the files of the processes that still write to this run."""
    return [file for file in process_files(path) if is_alive(file)]


def names(root: Path) -> list[str]:
    """Return the ids of the runs whose journals are here, in no order."""
    try:
        return [name for name in os.listdir(root) if not name.startswith(".")]  # noqa: PTH208 - hot path
    except OSError:
        return []


def sessions(root: Path) -> Iterator[Path]:
    """Yield the directories of runs whose journals are here, oldest id first."""
    try:
        names = sorted(entry.name for entry in root.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        if name[0] != "." and (root / name / SHARED).is_file():
            yield root / name


def sizes(path: Path) -> dict[str, int]:
    """Return the size of each file of events."""
    return {file.name: file.stat().st_size for file in (path / SHARED, *process_files(path))}


def make_durable(path: Path) -> None:
    """Sync all files of events; what cannot be synced is left to the next time."""
    for file in (path / SHARED, *process_files(path)):
        with suppress(OSError):
            fd = _open_to_look(file)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)


def retire(path: Path, seen: Mapping[str, int]) -> bool:
    """Take a folded session's directory out of the way.

    Args:
        path: the directory.
        seen: `sizes` of what was folded.

    Returns:
        False when somebody joined it meanwhile, or wrote more than was folded; it is then folded again.
    """
    try:
        shared = SharedLog(path / SHARED)
    except OSError:
        return not path.exists()
    try:
        if not fs.wait_lock(shared.appender.fd, LOCK_TIMEOUT):
            return False
        if sizes(path) != dict(seen) or alive_processes(path):
            return False
        gone = path.with_name(f".done-{path.name}-{secrets.token_hex(4)}")
        path.rename(gone)
    except (OSError, StorageError):
        return False
    finally:
        shared.close()
    shutil.rmtree(gone, ignore_errors=True)
    return True


def sweep(root: Path) -> None:
    """Remove what a crash left of directories that were being made or removed."""
    with suppress(OSError):
        for entry in root.iterdir():
            if entry.name.startswith(".done-") or (
                entry.name.startswith(".new-") and not alive_processes(entry)
            ):
                shutil.rmtree(entry, ignore_errors=True)
