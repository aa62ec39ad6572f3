r"""Formats of model files, told by their content, never by their names.

>>> sniff(b"tree\nversion=v4\\n")
'lightgbm'
>>> sniff(b"\x80\x04N.")
'pickle'
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

# Formats that only hold numbers and text. A file of any other format counts as code.
DATA: Final = frozenset(
    {"skops", "safetensors", "xgboost-json", "xgboost-ubj", "lightgbm", "onnx", "keras", "npz", "npy", "json"}
)
_COMPRESSED: Final = (
    (b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ\0", "xz"), (b"\x5d\0\0", "lzma"),
    (b"\x28\xb5\x2f\xfd", "zstd"), (b"\x04\x22\x4d\x18", "lz4"), (b"x\x9c", "zlib"), (b"x\x01", "zlib"),
    (b"x\xda", "zlib"), (b"ZF", "joblib"),
)  # fmt: skip
_MAX_RATIO: Final = 200
_MIN_UNPACKED: Final = 256 << 20
_MAX_MEMBERS: Final = 100_000
# First opcodes of protocols 0 and 1, which have no header.
_OLD_PICKLE: Final = frozenset(b"(c]})lditIJKLMNFGSTUVX0jgqrh")


def sniff(data: bytes) -> str:
    """Return the format of a file's content: one of `DATA`, or a name for what it is instead."""
    if not data:
        return "empty"
    for magic, name in _COMPRESSED:
        if data.startswith(magic):
            return name
    if data[:1] == b"\x80" and len(data) > 1 and data[1] <= 5:
        # A header of 128, 384, ... bytes begins as a pickle does.
        return "safetensors" if _is_safetensors(data) else "pickle"
    if data.startswith(b"\x93NUMPY"):
        return "npy" if _plain_npy(data) else "npy with objects"
    if data.startswith(b"PK"):
        return _sniff_zip(data)
    if zipfile.is_zipfile(io.BytesIO(data)):
        return "zip behind other bytes"
    if data.startswith(b"\x89HDF"):
        return "hdf5"
    for test, name in _TESTS:
        if test(data):
            return name
    if data[0] in _OLD_PICKLE and _is_old_pickle(data):
        return "pickle"
    return "unknown"


def _sniff_zip(data: bytes) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            names = [info.filename for info in infos]
            if len(names) > _MAX_MEMBERS or len(set(names)) != len(names):
                return "zip with repeated or too many names"
            if sum(info.file_size for info in infos) > max(len(data) * _MAX_RATIO, _MIN_UNPACKED):
                return "zip bomb"
            if any(_leaves(name) for name in names):
                return "zip that leaves its folder"
            return _kind_of_zip(archive, names)
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, NotImplementedError, RuntimeError):
        return "damaged zip"


def _kind_of_zip(archive: zipfile.ZipFile, names: list[str]) -> str:
    if any(name.endswith("data.pkl") for name in names):
        return "torch"
    contents = {name: _head(archive, name) for name in names}
    if any(_is_pickle_like(head) for head in contents.values()):
        return "zip with pickles"
    if "schema.json" in contents:
        # numpy would unpickle object arrays, so each array is looked at.
        plain = all(_plain_npy(h) for n, h in contents.items() if n.endswith(".npy") or h[:1] == b"\x93")
        return "skops" if plain else "skops with object arrays"
    if {"config.json", "metadata.json"} <= set(contents):
        return "keras"
    if names and all(name.endswith(".npy") for name in names):
        return "npz" if all(map(_plain_npy, contents.values())) else "npz with objects"
    return "zip"


def _head(archive: zipfile.ZipFile, name: str) -> bytes:
    with archive.open(name) as file:
        return file.read(65_536)


def _leaves(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    return name.startswith(("/", "\\")) or ".." in parts or "\0" in name


def _is_pickle_like(head: bytes) -> bool:
    if head[:1] == b"\x80" and len(head) > 1 and head[1] <= 5:
        return True
    return any(head.startswith(magic) for magic, _ in _COMPRESSED)


def _plain_npy(data: bytes) -> bool:
    """Whether an array in numpy's format holds no Python objects."""
    from numpy.lib import format as npy

    try:
        file = io.BytesIO(data)
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        _, _, dtype = read(file)
    except (ValueError, SyntaxError, TypeError, EOFError):
        return False
    return not dtype.hasobject


def _is_safetensors(data: bytes) -> bool:
    if len(data) < 10:
        return False
    (length,) = struct.unpack("<Q", data[:8])
    if not 2 <= length <= len(data) - 8 or data[8:9] != b"{":
        return False
    try:
        header = json.loads(data[8 : 8 + length])
    except (ValueError, RecursionError):
        return False
    end = len(data) - 8 - length
    for name, facts in header.items():
        if name == "__metadata__":
            continue
        offsets = facts.get("data_offsets") if isinstance(facts, dict) else None
        if not isinstance(offsets, list) or len(offsets) != 2:
            return False
        if not all(isinstance(one, int) for one in offsets) or not 0 <= offsets[0] <= offsets[1] <= end:
            return False
    return True


def _is_ubj(data: bytes) -> bool:
    # An object whose first key is a text with a length: {L\0\0\0\0\0\0\0\7learner
    return data[:1] == b"{" and data[1:2] in {b"L", b"i", b"U", b"I", b"l"} and b"learner" in data[:64]


def _is_json(data: bytes) -> bool:
    start = data[:64].lstrip()
    if start[:1] not in {b"{", b"["}:
        return False
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


def _is_xgboost_json(data: bytes) -> bool:
    return b'"learner"' in data and _is_json(data) and "learner" in json.loads(data)


def _is_onnx(data: bytes) -> bool:
    from gml.models.onnx_wire import looks_like_model

    return looks_like_model(data)


_TESTS: Final[tuple[tuple[Callable[[bytes], bool], str], ...]] = (
    (lambda data: data.startswith((b"tree\n", b"tree\r\n")), "lightgbm"),
    (_is_safetensors, "safetensors"),
    (_is_ubj, "xgboost-ubj"),
    (_is_xgboost_json, "xgboost-json"),
    (_is_json, "json"),
    (_is_onnx, "onnx"),
)


def _is_old_pickle(data: bytes) -> bool:
    import pickletools

    try:
        for opcode, _, _ in pickletools.genops(data[: 1 << 20]):
            if opcode.name == "STOP":
                return True
    except (ValueError, IndexError, EOFError, UnicodeDecodeError):
        return False
    return False
