"""Metrics and params that a script writes into files."""

from __future__ import annotations

import json
import math
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gml.domain.errors import InvalidValueError, NotFoundError, StorageError
from gml.tracking.capture.keys import MAX_KEY, clean_key, clean_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    Point = tuple[str, float, int | None, int | None]

_MAX_FILE = 64 << 20
_MAX_LINE = 1 << 20
# More values than this in one params file is an alias bomb or a data file.
_MAX_VALUES = 100_000
_MAX_INTEGER = 2.0**63
_LINES = (".jsonl", ".ndjson")
# Below this a timestamp counts seconds (until the year 5138), from here on milliseconds.
_MILLISECONDS_FROM = 100_000_000_000


def read_metrics_file(path: Path) -> Iterator[Point]:
    """Yield `(key, value, step or None, timestamp in ms or None)` from a metrics file.

    `.jsonl` and `.ndjson` hold one object a line; a last line without its newline is taken if it is
    complete and passed over if it is torn. Every other name is one JSON text: an object, nested ones
    giving dotted keys, or a list of objects. A list of numbers is a history with steps from 0.

    In each object `step` (or, without it, `epoch`) is the step of its values, and `timestamp` their
    time: seconds or milliseconds since the epoch, or ISO 8601. Values are numbers, or the words NaN,
    inf, Infinity with or without a sign; whatever else stands there is no metric and passed over.

    Raises:
        NotFoundError: there is no such file.
        InvalidValueError: it cannot be parsed; the message names the line.
        StorageError: it cannot be read.

    Example:
        >>> Path("metrics.json").write_text('{"val": {"loss": 0.2}, "step": 3}')
        >>> list(read_metrics_file(Path("metrics.json")))
        [('val.loss', 0.2, 3, None)]
    """
    path = Path(path)
    if path.suffix.lower() in _LINES:
        yield from _read_lines(path)
        return
    parsed = _json(_read(path), str(path))
    records = parsed if isinstance(parsed, list) else [parsed]
    for record in records:
        if not isinstance(record, dict):
            raise InvalidValueError(f"{path}: expected an object or a list of objects with metrics")
        yield from points_of(record)


def read_params_file(path: Path) -> dict[str, str]:
    """Return the params of a YAML or JSON file, nested ones with dotted keys, lists as JSON text.

    Values are written as `str` writes them (`True`, `None`, `0.1`), cut to 6000 characters, and `***`
    where the key looks like a secret.

    Raises:
        NotFoundError: there is no such file.
        InvalidValueError: it cannot be parsed, does not hold a mapping, or holds over 100,000 values.
        StorageError: it cannot be read.

    Example:
        >>> Path("params.yaml").write_text("model: {depth: 4, sizes: [1, 2]}")
        >>> read_params_file(Path("params.yaml"))
        {'model.depth': '4', 'model.sizes': '[1, 2]'}
    """
    path = Path(path)
    text = _read(path)
    parsed = _json(text, str(path)) if path.suffix.lower() == ".json" else _yaml(text, str(path))
    if parsed is None:
        return {}
    if not isinstance(parsed, dict):
        raise InvalidValueError(f"{path}: expected a mapping of params, found {type(parsed).__name__}")
    _check_count(parsed, path)
    return {key: clean_value(key, value) for key, value in _flat_params(parsed, "")}


def points_of(record: dict[str, Any]) -> Iterator[Point]:
    """Yield the metrics of one object as `read_metrics_file` does."""
    reserved = {"timestamp"}
    step = None
    for name in ("step", "epoch"):
        number = _number(record.get(name))
        if number is not None and abs(number) < _MAX_INTEGER:
            step = int(number)
            reserved.add(name)
            break
    time = _milliseconds(record.get("timestamp"))
    yield from _points(
        {name: value for name, value in record.items() if name not in reserved}, "", step, time
    )


class JsonlTail:
    """Reads a growing JSON lines file bit by bit while the script writes it.

    Nothing here raises because of the file: training goes on whatever it holds. A file that is
    replaced or cut is read from its start again.

    Attributes:
        bad_lines: how many lines could not be parsed.
        last_error: what was wrong with the last one of them, or with reading, or None.

    Example:
        >>> tail = JsonlTail(Path("metrics.jsonl"))
        >>> tail.poll()
        [('loss', 0.2, 1, None)]
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.bad_lines = 0
        self.last_error: str | None = None
        self._identity: tuple[int, int] | None = None
        self._offset = 0
        self._rest = b""

    def poll(self) -> list[Point]:
        """Return the metrics of all lines that were completed since the last call."""
        found: list[Point] = []
        try:
            with self.path.open("rb") as file:
                status = _status(file.fileno())
                if status[:2] != self._identity or status[2] < self._offset:
                    self._identity, self._offset, self._rest = status[:2], 0, b""
                file.seek(self._offset)
                while piece := file.read(1 << 20):
                    self._offset += len(piece)
                    *lines, self._rest = (self._rest + piece).split(b"\n")
                    for line in lines:
                        found += self._line(line)
                    if len(self._rest) > _MAX_LINE:
                        self._bad(f"a line of more than {_MAX_LINE} bytes")
                        self._rest = b""
        except FileNotFoundError:
            pass  # the script has not come this far
        except OSError as error:
            self.last_error = f"cannot read {self.path}: {error.strerror}"
        return found

    def finish(self) -> list[Point]:
        """Return what is left when the script has ended, a complete last line without newline too."""
        found = self.poll()
        rest, self._rest = self._rest, b""
        with suppress(InvalidValueError):  # torn: the script was killed while it wrote
            found += _points_of_line(rest, str(self.path))
        return found

    def _line(self, line: bytes) -> list[Point]:
        try:
            return _points_of_line(line, str(self.path))
        except InvalidValueError as error:
            self._bad(str(error))
            return []

    def _bad(self, reason: str) -> None:
        self.bad_lines += 1
        self.last_error = reason


def _status(descriptor: int) -> tuple[int, int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino, status.st_size


def _read_lines(path: Path) -> Iterator[Point]:
    number = 0
    try:
        with path.open("rb") as file:
            while line := file.readline(_MAX_LINE + 1):
                number += 1
                if len(line) > _MAX_LINE:
                    raise InvalidValueError(f"{path}, line {number}: more than {_MAX_LINE} bytes")
                try:
                    found = _points_of_line(line, f"{path}, line {number}")
                except InvalidValueError:
                    if line.endswith(b"\n"):
                        raise
                    return  # torn: the script was killed while it wrote
                yield from found
    except OSError as error:
        raise _unreadable(path, error) from error


def _points_of_line(line: bytes, place: str) -> list[Point]:
    if not line.strip():
        return []
    record = _json(line, place)
    if not isinstance(record, dict):
        raise InvalidValueError(f"{place}: expected an object, found {type(record).__name__}")
    return list(points_of(record))


def _points(record: dict[str, Any], prefix: str, step: int | None, time: int | None) -> Iterator[Point]:
    for name, value in record.items():
        if isinstance(value, dict):
            if len(prefix) > MAX_KEY:  # deeper keys would all be cut to the same
                continue
            yield from _points(value, f"{prefix}{name}.", step, time)
            continue
        key = clean_key(f"{prefix}{name}")
        if key is None:
            continue
        if isinstance(value, list):
            history = [_number(item) for item in value]
            for index, number in enumerate(history):
                if number is not None and None not in history:
                    yield key, number, index, time
        elif (number := _number(value)) is not None:
            yield key, number, step, time


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and value.strip().lstrip("+-").lower() not in {"nan", "inf", "infinity"}:
        return None
    try:
        return float(value)
    except OverflowError:  # an integer beyond 1e308
        return math.inf if isinstance(value, int) and value > 0 else -math.inf


def _milliseconds(value: Any) -> int | None:
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return max(0, round(moment.timestamp() * 1000))
    number = _number(value)
    if number is None or not 0 <= number < _MAX_INTEGER / 1000:
        return None
    return round(number if number >= _MILLISECONDS_FROM else number * 1000)


def _flat_params(node: dict[Any, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in node.items():
        if isinstance(value, dict) and value:
            if len(prefix) > MAX_KEY:
                continue
            yield from _flat_params(value, f"{prefix}{name}.")
            continue
        key = clean_key(f"{prefix}{name}")
        if key is not None:
            is_text = isinstance(value, list | dict)
            yield key, json.dumps(value, default=str, ensure_ascii=False) if is_text else str(value)


def _check_count(parsed: dict[Any, Any], path: Path) -> None:
    """Refuse what would not end: YAML aliases may refer to themselves or multiply without end."""
    waiting: list[Any] = [parsed]
    seen = 0
    while waiting:
        node = waiting.pop()
        seen += 1
        if seen + len(waiting) > _MAX_VALUES:
            raise InvalidValueError(f"{path} holds more than {_MAX_VALUES} values (or refers to itself)")
        if isinstance(node, dict):
            waiting.extend(node.values())
        elif isinstance(node, list | tuple | set):
            waiting.extend(node)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(data) > _MAX_FILE:
        raise InvalidValueError(f"{path} is larger than {_MAX_FILE >> 20} MiB", hint="write .jsonl instead")
    return data


def _unreadable(path: Path, error: OSError) -> NotFoundError | StorageError:
    if isinstance(error, FileNotFoundError):
        return NotFoundError(f"there is no file {path}")
    return StorageError(f"cannot read {path}: {error.strerror}")


def _json(data: bytes, place: str) -> Any:
    try:
        return json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InvalidValueError(f"{place}: not JSON: {error}") from error


def _yaml(data: bytes, place: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(data)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        what = getattr(error, "problem", None) or " ".join(str(error).split())
        raise InvalidValueError(f"{place}{where}: not YAML: {what}") from error
