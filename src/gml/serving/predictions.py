"""The prediction log: a sample of what a server was asked and what it said, as rotated Parquet files.

A file appears when it is whole: after so many rows, so many seconds, and at the end. Requests never wait for
it; where they come faster than they can be written, rows are left out and counted.
"""

from __future__ import annotations

import logging
import os
import queue
import random
import re
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import InvalidValueError, NotFoundError
from gml.models.flavor import need

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gml.serving.holder import Served

log = logging.getLogger("gml.serving")

ROWS: Final = 10_000
SECONDS: Final = 60.0
_WAITING: Final = 10_000
_BYTES: Final = 64 << 20
COLUMNS: Final = (
    "time", "model", "version", "digest", "latency_ms", "rows", "content_type", "input", "output",
)  # fmt: skip


def parse_sample(text: str) -> float:
    """Return the share of requests that is kept: of `sample=0.1`, `0.1` or `all`.

    Raises:
        InvalidValueError: it is no share.

    Example:
        >>> parse_sample("sample=0.1")
        0.1
    """
    value = text.strip().removeprefix("sample=")
    try:
        share = 1.0 if value == "all" else float(value)
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise InvalidValueError(f"{text!r} is no share of requests", hint="such as sample=0.1, or all")
    return share


def folder_of(top: Path, label: str, digest: str) -> Path:
    """Return where the predictions of a model are: below `top`, by its name, or by its digest without one."""
    name = re.match(r"(\S+) version \d+$", label)
    return top / (name.group(1) if name else digest[:16])


@dataclass(frozen=True)
class _Row:
    served: Served
    when: float
    latency: float
    rows: int
    content_type: str
    body: bytes
    answer: bytes


class PredictionLog:
    """Writes a sample of predictions from a thread of its own.

    Args:
        top: folder; each model has one below it.
        sample: share of requests that is kept, 0 to 1.
        rows: rows of a file.
        seconds: time until a file is written, even with fewer rows.
    """

    def __init__(self, top: Path, sample: float, *, rows: int = ROWS, seconds: float = SECONDS) -> None:
        need("pyarrow.parquet", "gitml[parquet]")
        self._top = top
        self._sample = sample
        self._rows = rows
        self._seconds = seconds
        self._queue: queue.Queue[_Row | None] = queue.Queue(_WAITING)
        self._random = random.Random(os.urandom(16))  # noqa: S311 - a sample, no secret
        self.dropped = 0
        self._thread = threading.Thread(target=self._write_all, name="gml-predictions", daemon=True)
        self._thread.start()

    def add(
        self, served: Served, latency: float, rows: int, content_type: str, body: bytes, answer: bytes
    ) -> None:
        """Keep a prediction, if the sample has it; never waits."""
        if self._random.random() >= self._sample:
            return
        try:
            self._queue.put_nowait(_Row(served, time.time(), latency, rows, content_type, body, answer))
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Write what is left."""
        with suppress(queue.Full):
            self._queue.put(None, timeout=5)
        self._thread.join(30)

    def _write_all(self) -> None:
        kept: list[_Row] = []
        size = 0
        due = time.monotonic() + self._seconds
        while True:
            try:
                row = self._queue.get(timeout=max(0.01, due - time.monotonic()))
            except queue.Empty:
                ended = False
            else:
                ended = row is None
                if row is not None:
                    kept.append(row)
                    size += len(row.body) + len(row.answer)
            late = time.monotonic() >= due
            if kept and (ended or late or len(kept) >= self._rows or size >= _BYTES):
                self._write(kept)
                kept, size = [], 0
            if late:
                due = time.monotonic() + self._seconds
            if ended:
                return

    def _write(self, kept: list[_Row]) -> None:
        by_folder: dict[Path, list[_Row]] = {}
        for row in kept:
            folder = folder_of(self._top, row.served.label, row.served.digest)
            by_folder.setdefault(folder, []).append(row)
        for folder, rows in by_folder.items():
            try:
                _write_file(folder, rows)
            except Exception as error:  # noqa: BLE001 - a log that cannot be written stops no answer
                self.dropped += len(rows)
                log.warning("gml: %d predictions are not logged: %s", len(rows), error)


def _write_file(folder: Path, rows: list[_Row]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "time": pa.array([int(row.when * 1e6) for row in rows], pa.timestamp("us", "UTC")),
        "model": [row.served.label for row in rows],
        "version": pa.array(
            [int(row.served.version) if row.served.version else None for row in rows], pa.int64()
        ),
        "digest": [row.served.digest for row in rows],
        "latency_ms": pa.array([round(row.latency * 1e3, 3) for row in rows], pa.float64()),
        "rows": pa.array([row.rows for row in rows], pa.int64()),
        "content_type": [row.content_type for row in rows],
        "input": pa.array([row.body for row in rows], pa.binary()),
        "output": pa.array([row.answer.decode("utf-8", "replace") for row in rows], pa.string()),
    }
    folder.mkdir(parents=True, exist_ok=True)
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(rows[0].when))
    name = f"{stamp}-{uuid.uuid4().hex[:12]}.parquet"
    partial = folder / f".{name}.partial"
    try:
        pq.write_table(pa.table(columns), partial, compression="zstd")
        partial.rename(folder / name)
    finally:
        partial.unlink(missing_ok=True)


def read(folder: Path, *, version: int | None = None, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """Return logged predictions, the newest first, a file at a time.

    Args:
        folder: of one model.
        version: only of this version.
        limit: at most so many.

    Raises:
        NotFoundError: nothing was logged there.
    """
    pq = need("pyarrow.parquet", "gitml[parquet]")
    paths = sorted(folder.glob("*.parquet"), key=lambda path: path.name, reverse=True)
    if not paths:
        raise NotFoundError(
            f"no predictions are logged in {folder}", hint="`gml models serve --log-predictions sample=0.1`"
        )
    count = 0
    for path in paths:
        rows = pq.read_table(path).to_pylist()
        for row in sorted(rows, key=lambda one: one["time"], reverse=True):
            if version is not None and row["version"] != version:
                continue
            if limit is not None and count >= limit:
                return
            count += 1
            yield row
