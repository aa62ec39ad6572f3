"""A pack and index (version 2) writer: many objects become one durable file pair."""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gml.fs import fsync_directory
from gml.git.files import make_dirs, share, storage, write_temp
from gml.git.objects import hasher, object_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gml.git.port import Kind

_TYPES: Final[dict[str, int]] = {"commit": 1, "tree": 2, "blob": 3, "tag": 4}
_LARGE: Final = 0x80000000


def _header(kind: Kind, size: int) -> bytes:
    """Encode type and size: four bits of size in the first byte, seven in each further one."""
    first = _TYPES[kind] << 4 | size & 15
    size >>= 4
    out = bytearray()
    while size:
        out.append(first | 0x80)
        first = size & 0x7F
        size >>= 7
    out.append(first)
    return bytes(out)


def build_pack(objects: Sequence[tuple[Kind, bytes]], object_format: str) -> tuple[bytes, bytes, list[str]]:
    """Return pack bytes, index bytes, and the ids in the order given; equal objects are stored once."""
    ids = [object_id(kind, data, object_format) for kind, data in objects]
    placed: dict[str, tuple[int, int]] = {}
    chunks: list[bytes] = []
    offset = 12
    for oid, (kind, data) in zip(ids, objects, strict=True):
        if oid in placed:
            continue
        chunk = _header(kind, len(data)) + zlib.compress(data, 1)
        placed[oid] = (offset, zlib.crc32(chunk))
        chunks.append(chunk)
        offset += len(chunk)
    body = b"PACK" + struct.pack(">LL", 2, len(placed)) + b"".join(chunks)
    checksum = hasher(object_format, body).digest()
    return body + checksum, _index(placed, checksum, object_format), ids


def _index(placed: dict[str, tuple[int, int]], checksum: bytes, object_format: str) -> bytes:
    """Build the index: fan-out, sorted ids, CRCs, offsets, 64-bit offsets, checksums."""
    ordered = sorted(placed)
    counts = [0] * 256
    for oid in ordered:
        counts[int(oid[:2], 16)] += 1
    total = 0
    fanout = []
    for count in counts:
        total += count
        fanout.append(total)
    small: list[int] = []
    large: list[int] = []
    for oid in ordered:
        offset = placed[oid][0]
        if offset < _LARGE:
            small.append(offset)
        else:
            small.append(_LARGE | len(large))
            large.append(offset)
    number = len(ordered)
    data = b"".join(
        (
            b"\xfftOc",
            struct.pack(">L256L", 2, *fanout),
            bytes.fromhex("".join(ordered)),
            struct.pack(f">{number}L", *(placed[oid][1] for oid in ordered)),
            struct.pack(f">{number}L", *small),
            struct.pack(f">{len(large)}Q", *large),
            checksum,
        )
    )
    return data + hasher(object_format, data).digest()


def write_pack(
    objects_dir: Path, objects: Sequence[tuple[Kind, bytes]], object_format: str, shared: int = 0
) -> list[str]:
    """Store objects as one pack and return their ids.

    The pack is renamed before its index: readers look for `*.idx`, and an index without its pack would
    be an error to them, whereas a pack without index is invisible and `git gc` removes it.

    Raises:
        StorageError: the disk is full, failing, or read-only.
    """
    if not objects:
        return []
    pack, index, ids = build_pack(objects, object_format)
    directory = objects_dir / "pack"
    # the trailer names the pack, so that the same objects in the same order give the same file
    name = "pack-" + pack[-len(ids[0]) // 2 :].hex()
    temps: list[tuple[str, Path]] = []
    with storage(f"write a pack to {objects_dir}"):
        make_dirs(directory, shared)
        try:
            for prefix, suffix, data in (("tmp_pack_", ".pack", pack), ("tmp_idx_", ".idx", index)):
                temp = write_temp(directory, prefix, data)
                if shared:
                    share(temp, shared)
                temps.append((temp, directory / (name + suffix)))
            while temps:
                temp, target = temps[0]
                os.rename(temp, target)  # noqa: PTH104
                temps.pop(0)
            fsync_directory(directory)
        finally:
            for temp, _ in temps:
                with contextlib.suppress(OSError):
                    Path(temp).unlink()
    return ids
