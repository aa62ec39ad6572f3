"""Reading runs in a second process while the first one fills the tables.

For a large ledger only: decoding records and inserting rows take about as long, and Python does one thing
at a time. The child writes frames of rows to its standard output; whatever goes wrong with it, the parent
takes the whole work over.
"""

from __future__ import annotations

import marshal
import os
import struct
import subprocess
import sys
from itertools import islice
from typing import IO, TYPE_CHECKING, Any, Final

from gml.domain.errors import GmlError
from gml.index.store import schema
from gml.index.store.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gml.ledger.view import LedgerView

# Below so many runs a process costs more than it saves.
WORTHWHILE: Final = 5_000
CHUNK: Final = 5_000

_LONGEST: Final = 1 << 30
_LENGTH: Final = struct.Struct("<Q")
_SCRIPT: Final = "from gml.index.store.worker import main; main()"


class WorkerError(Exception):
    """The second process could not do it."""


def is_worthwhile(view: LedgerView) -> bool:
    """Whether a ledger is large enough, and there is a second processor."""
    several = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if several < 2 or not sys.executable:
        return False
    return sum(1 for _ in islice(view.entries(), WORTHWHILE)) == WORTHWHILE


def frames(view: LedgerView) -> Iterator[dict[str, Any]]:
    """Yield what the child read, oldest runs first.

    Yields:
        Dictionaries with `keys` (number, section and key of keys that are new), `rows` (for
        `gml.index.store.rows.inserts`), `failed` (ids of runs that it could not read) and `done` (number of
        runs so far).

    Raises:
        WorkerError: the child failed; what was yielded so far is of no use.
    """
    location = view.store.location
    # -P: a module of the user's in the current directory must not take the place of one of Python's.
    command = [sys.executable, "-P", "-c", _SCRIPT, str(location.common_dir), str(view.commit)]
    try:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except OSError as error:
        raise WorkerError(str(error)) from None
    ended = False
    with child:
        try:
            if child.stdout is None:
                raise WorkerError("it has no output")
            if _receive(child.stdout) != schema.VERSION:
                raise WorkerError("it is another gml")
            while (frame := _receive(child.stdout)) is not None:
                yield frame
            ended = True
        finally:
            if not ended:
                child.kill()
    if child.returncode:
        raise WorkerError(f"it ended with {child.returncode}")


def _receive(source: IO[bytes]) -> Any:
    head = source.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise WorkerError("it ended early")
    size = _LENGTH.unpack(head)[0]
    if size > _LONGEST:
        raise WorkerError("it says something else")
    data = source.read(size)
    if len(data) < size:
        raise WorkerError("it ended early")
    try:
        return marshal.loads(data)  # noqa: S302 - our own child wrote it
    except (ValueError, EOFError, TypeError) as error:
        raise WorkerError(str(error)) from None


def _send(out: IO[bytes], value: Any) -> None:
    data = marshal.dumps(value)
    out.write(_LENGTH.pack(len(data)))
    out.write(data)
    out.flush()


def main() -> None:
    """Be the child: read all runs of the ledger commit that the arguments name."""
    import gc

    from gml.git.discover import open_store
    from gml.index.store.update import read
    from gml.ledger.view import LedgerView as View

    gc.disable()
    out, sys.stdout = sys.stdout.buffer, sys.stderr
    path, commit = sys.argv[1:3]
    view = View(open_store(path, environ=os.environ), commit)
    _send(out, schema.VERSION)
    keys: dict[tuple[int, str], int] = {}
    fresh: list[tuple[int, int, str]] = []

    def key_id(section: int, key: str) -> int:
        found = keys.get((section, key))
        if found is None:
            found = keys[section, key] = len(keys) + 1
            fresh.append((found, section, key))
        return found

    rid = done = 0
    # Oldest first, so that rows are appended to the tables in their order.
    pending = view.entries(oldest_first=True)
    while chunk := list(islice(pending, CHUNK)):
        rows, failed = Rows(key_id), []
        for entry in chunk:
            try:
                read(view, entry, rows, rid + 1)
            except GmlError:
                failed.append(entry.run_id)
            else:
                rid += 1
        done += len(chunk)
        _send(out, {"keys": fresh[:], "rows": rows.waiting(), "failed": failed, "done": done})
        fresh.clear()
    _send(out, None)
