"""Metric points: short ones as JSON in the record, long ones as compressed columns.

The column format (`gml-hist 1`) is specified in docs/format.md: a line of JSON for each block, then
three zlib streams: steps, timestamps (both int64, first differences, byte-shuffled) and values
(float64, byte-shuffled).
"""

from __future__ import annotations

import zlib
from array import array
from typing import TYPE_CHECKING, Any, Final

import orjson

from gml.domain.errors import CorruptError
from gml.domain.metrics import MetricSummary, number_to_json
from gml.ledger.codec import check_format

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy as np
    import numpy.typing as npt

    Columns = tuple["npt.NDArray[np.int64]", "npt.NDArray[np.int64]", "npt.NDArray[np.float64]"]

MAGIC: Final = b"gml-hist 1\n"
INLINE_POINTS: Final = 128
INLINE_TOTAL: Final = 2_048
SEAL_POINTS: Final = 200_000


class _Key:
    __slots__ = ("steps", "summary", "times", "values")

    def __init__(self, step: int, timestamp: int, value: float) -> None:
        self.summary = MetricSummary.first(step, timestamp, value)
        self.steps = array("q", (step,))
        self.times = array("q", (timestamp,))
        self.values = array("d", (value,))


class HistoryBuilder:
    """Collects points in bounded memory and says how to store them.

    Args:
        seal: stores a finished history file in the artifact store and returns its segment descriptor;
            called whenever `SEAL_POINTS` points have gathered.
    """

    def __init__(self, seal: Callable[[bytes, int], dict[str, Any]]) -> None:
        self._seal = seal
        self._keys: dict[str, _Key] = {}
        self._buffered = 0
        self._segments: list[dict[str, Any]] = []

    def add(self, key: str, value: float, timestamp: int, step: int) -> None:
        """Take one point."""
        entry = self._keys.get(key)
        if entry is None:
            self._keys[key] = _Key(step, timestamp, value)
        else:
            entry.summary.add(step, timestamp, value)
            entry.steps.append(step)
            entry.times.append(timestamp)
            entry.values.append(value)
        self._buffered += 1
        if self._buffered >= SEAL_POINTS:
            self.seal_all()

    def seal_all(self) -> None:
        """Move buffered points into a stored segment; the only point of a key stays in its summary."""
        full = {key: e for key, e in self._keys.items() if e.steps and e.summary.count > 1}
        self._buffered = 0
        if not full:
            return
        points = sum(len(entry.steps) for entry in full.values())
        self._segments.append(self._seal(self._encode(full), points))
        for entry in full.values():
            entry.steps, entry.times, entry.values = array("q"), array("q"), array("d")

    @property
    def segments(self) -> list[dict[str, Any]]:
        """Descriptors of the sealed segments, oldest first."""
        return list(self._segments)

    @property
    def summaries(self) -> dict[str, MetricSummary]:
        """Summary of every key so far."""
        return {key: entry.summary for key, entry in self._keys.items()}

    def metrics_json(self) -> dict[str, Any]:
        """Return the `metrics` section of a document."""
        return {key: entry.summary.to_json() for key, entry in self._keys.items()}

    def tail(self) -> tuple[dict[str, list[list[Any]]], bytes | None, int]:
        """Return what is not sealed: short histories as JSON, the rest as a history file and its points."""
        inline: dict[str, list[list[Any]]] = {}
        columns: dict[str, _Key] = {}
        room = INLINE_TOTAL
        for key, entry in self._keys.items():
            points = len(entry.steps)
            if not points or entry.summary.count == 1:
                continue
            if points <= INLINE_POINTS and points <= room:
                room -= points
                inline[key] = [
                    [step, timestamp, number_to_json(value)]
                    for step, timestamp, value in zip(entry.steps, entry.times, entry.values, strict=True)
                ]
            else:
                columns[key] = entry
        if not columns:
            return inline, None, 0
        return inline, self._encode(columns), sum(len(entry.steps) for entry in columns.values())

    @staticmethod
    def _encode(keys: dict[str, _Key]) -> bytes:
        import numpy as np

        out = [MAGIC]
        for key in sorted(keys):
            entry = keys[key]
            if entry.steps:
                out.append(
                    encode_block(
                        key,
                        np.frombuffer(entry.steps, dtype=np.int64),
                        np.frombuffer(entry.times, dtype=np.int64),
                        np.frombuffer(entry.values, dtype=np.float64),
                    )
                )
        return b"".join(out)


def encode_block(
    key: str,
    steps: npt.NDArray[np.int64],
    times: npt.NDArray[np.int64],
    values: npt.NDArray[np.float64],
) -> bytes:
    """Return one block of a history file."""
    import numpy as np

    def shuffle(column: npt.NDArray[Any]) -> bytes:
        raw = np.ascontiguousarray(column).view(np.uint8).reshape(-1, 8)
        return zlib.compress(np.ascontiguousarray(raw.T).tobytes(), 6)

    def delta(column: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        # Wrap-around subtraction is exact in two's complement, whatever the distance.
        out = np.array(column, dtype="<i8")
        with np.errstate(over="ignore"):
            out[1:] -= column[:-1]
        return out

    streams = shuffle(delta(steps)), shuffle(delta(times)), shuffle(np.array(values, dtype="<f8"))
    header = {"key": key, "points": len(steps), "streams": [len(stream) for stream in streams]}
    return orjson.dumps(header) + b"\n" + b"".join(streams)


def read_blocks(data: bytes, where: str, keys: Iterable[str] | None = None) -> Iterator[tuple[str, Columns]]:
    """Yield key and columns of each block of a history file.

    Args:
        data: the whole file.
        where: its name, for messages.
        keys: only these keys; None means all.

    Raises:
        CorruptError: the bytes are not a history file.
        FormatError: written by a newer gml.
    """
    import numpy as np

    wanted = None if keys is None else set(keys)
    end = data.find(b"\n") + 1
    check_format(data[: max(0, end - 1)][:40].decode("ascii", "replace"), where, "gml-hist", 1)
    position = end
    while position < len(data):
        try:
            end = data.index(b"\n", position)
            header = orjson.loads(data[position:end])
            key, count, lengths = header["key"], int(header["points"]), header["streams"]
            position = end + 1
            streams = []
            for length in lengths:
                streams.append(data[position : position + length])
                position += length
            if wanted is not None and key not in wanted:
                continue
            raw = [
                np.frombuffer(zlib.decompress(stream), dtype=np.uint8).reshape(8, count).T.copy()
                for stream in streams
            ]
        except (ValueError, KeyError, TypeError, zlib.error) as error:
            raise CorruptError(
                f"{where} is damaged ({error})", hint="`gml doctor` names all damage"
            ) from None
        steps, times = (np.cumsum(column.view("<i8").ravel(), dtype=np.int64) for column in raw[:2])
        yield key, (steps, times, raw[2].view("<f8").ravel())
