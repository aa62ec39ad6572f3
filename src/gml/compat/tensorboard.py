"""TensorBoard's event files, read without TensorFlow: scalars of both styles, a folder is a run.

A file is a row of records: length (8 bytes, little-endian), checksum (4), an `Event` message, checksum (4).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from gml.compat import artifact_files
from gml.compat.foreign import ForeignRun, Losses
from gml.compat.gathered import Gathered, fingerprint, made_id
from gml.domain.errors import InvalidValueError, NotFoundError, UsageError
from gml.domain.names import check_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gml.compat.foreign import Point

_MARK: Final = ".tfevents."
_LONGEST: Final = 1 << 30
_FLOAT, _DOUBLE = 1, 2
_KINDS: Final = {3: "images", 4: "images", 5: "histograms", 6: "sound"}


class _Scalar(NamedTuple):
    tag: str
    value: float
    milliseconds: int
    step: int


def read_tensorboard(logdir: Path, experiment: str) -> Gathered:
    """Return a run for each folder that has event files.

    Raises:
        NotFoundError: there is no such folder.
        UsageError: it has no event files.
    """
    if not logdir.is_dir():
        raise NotFoundError(f"there is no folder {logdir}")
    losses = Losses()
    folders: dict[Path, list[Path]] = {}
    for file in sorted(logdir.rglob(f"*{_MARK}*")):
        if file.is_file():
            folders.setdefault(file.parent, []).append(file)
    if not folders:
        raise UsageError(
            f"{logdir} has no event files", hint="give the folder that `tensorboard --logdir` gets"
        )
    runs = [_run(logdir, folder, files, experiment, losses) for folder, files in folders.items()]
    return Gathered(str(logdir), runs, losses)


def _run(logdir: Path, folder: Path, files: list[Path], experiment: str, losses: Losses) -> ForeignRun:
    name = folder.relative_to(logdir).as_posix()
    points: list[Point] = []
    for file in files:
        for scalar in scalars(file, losses):
            try:
                key = check_key(scalar.tag, "metric")
            except InvalidValueError:
                losses.add("scalars whose names no metric can have", scalar.tag[:60])
                continue
            points.append((key, scalar.value, scalar.milliseconds, scalar.step))
    times = [time for _, _, time, _ in points] or [int(file.stat().st_mtime * 1000) for file in files]
    return ForeignRun(
        made_id("tensorboard", logdir.resolve(), name),
        experiment,
        logdir.resolve().name if name == "." else name,
        status="FINISHED",
        start=min(times),
        end=max(times),
        points=lambda: points,
        fingerprint=fingerprint([artifact_files.fingerprint(folder)]),
    )


def scalars(file: Path, losses: Losses) -> Iterator[_Scalar]:
    """Yield the scalars of an event file; a torn end is where it ends."""
    with file.open("rb") as stream:
        while True:
            head = stream.read(12)
            if len(head) < 12:
                return
            (length,) = struct.unpack("<Q", head[:8])
            if length > _LONGEST:
                losses.add("event files that are damaged", str(file))
                return
            data = stream.read(length)
            if len(data) < length or len(stream.read(4)) < 4:
                return
            try:
                yield from _event(data, losses)
            except (ValueError, IndexError, struct.error):
                losses.add("events that are damaged", str(file))


def _event(data: bytes, losses: Losses) -> Iterator[_Scalar]:
    time, step = 0.0, 0
    summary = b""
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            (time,) = struct.unpack("<d", value)
        elif number == 2 and isinstance(value, int):
            step = value - (1 << 64) if value >= 1 << 63 else value
        elif number == 5 and isinstance(value, bytes):
            summary = value
        elif number == 4:
            losses.add("graphs")
    for number, value in _fields(summary):
        if number == 1 and isinstance(value, bytes):
            yield from _value(value, int(time * 1000), step, losses)


def _value(data: bytes, time: int, step: int, losses: Losses) -> Iterator[_Scalar]:
    tag, found, kind = "", None, ""
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            tag = value.decode("utf-8", "replace")
        elif number == 2 and isinstance(value, bytes):
            (found,) = struct.unpack("<f", value)
        elif number == 8 and isinstance(value, bytes):
            found = _tensor(value)
            kind = kind or "tensors"
        elif number == 9 and isinstance(value, bytes):
            kind = _plugin(value) or kind
        elif number in _KINDS:
            kind = _KINDS[number]
    if found is not None and kind in {"", "tensors", "scalars"}:
        yield _Scalar(tag, found, time, step)
    elif kind:
        losses.add(kind, tag[:60])


def _tensor(data: bytes) -> float | None:
    """Return the only number of a tensor, None where it has several or is of another type."""
    kind, content, values = 0, b"", b""
    for number, value in _fields(data):
        if number == 1 and isinstance(value, int):
            kind = value
        elif number == 4 and isinstance(value, bytes):
            content = value
        elif number in {5, 6} and isinstance(value, bytes):
            values = value
    form, size = {_FLOAT: ("<f", 4), _DOUBLE: ("<d", 8)}.get(kind, ("", 0))
    raw = content or values
    return float(struct.unpack(form, raw)[0]) if form and len(raw) == size else None


def _plugin(data: bytes) -> str:
    """Return which of TensorBoard's plug-ins a value is of."""
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            for inner, name in _fields(value):
                if inner == 1 and isinstance(name, bytes):
                    return name.decode("utf-8", "replace")
    return ""


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field of a protobuf message; numbers of fixed width are bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if kind == 2:
            width, at = _varint(data, at)
        elif kind in {1, 5}:
            width = 8 if kind == 1 else 4
        else:
            raise ValueError(f"field type {kind}")
        if at + width > len(data):
            raise ValueError("a field ends after its message")
        yield key >> 3, data[at : at + width]
        at += width


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
