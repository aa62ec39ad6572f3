"""The files of a store: their names, what each must contain, and how that is checked.

A store, local or remote, is a set of immutable files with names that this module knows. It needs no
file system: transfers use it to check what they receive before it gets its name.

Example:
    >>> parse_name("recipes/ab/" + "ab" * 32).kind
    <Kind.RECIPE: 'recipe'>
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from gml.cas.port import check_digest
from gml.domain.errors import CorruptError, FormatError, InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Iterable

FOLDERS: Final = ("sha256", "packs", "recipes")
"""The folders that have content; whatever else lies in a store is not part of it."""

MAX_INDEX: Final = 64 << 20
"""Bytes up to which an index or a recipe is read; more is refused as damage."""

_NAME = re.compile(r"(sha256|packs|recipes)/([0-9a-f]{2})/([0-9a-f]{64})(\.zst|\.idx)?")
_INDEX_HEAD = "gml-pack 1"
_RECIPE_HEAD = re.compile(r"gml-recipe 1 ([0-9]{1,18})")
_ENTRY = re.compile(r"([0-9a-f]{64}) ([0-9]{1,18}) ([0-9]{1,18}) ([0-9]{1,18})")
_CHUNK = re.compile(r"([0-9a-f]{64}) ([0-9]{1,18})")


class Kind(Enum):
    """What a stored file is."""

    BLOB = "blob"
    COMPRESSED = "compressed blob"
    PACK = "pack"
    INDEX = "index"
    RECIPE = "recipe"


@dataclass(frozen=True, slots=True)
class StoredName:
    """A parsed name.

    Attributes:
        name: relative to the root of the store, with slashes.
        kind: what the file is.
        digest: the 64 digits in the name; what they are the SHA-256 of depends on the kind.
    """

    name: str
    kind: Kind
    digest: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A blob within a pack.

    Attributes:
        digest: SHA-256 of the blob.
        offset: where its bytes begin in the pack.
        length: how many they are.
        size: length of the blob; other than `length` where the bytes are a zstd frame.
    """

    digest: str
    offset: int
    length: int
    size: int


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a large file is put together.

    Attributes:
        digest: SHA-256 of the file.
        size: its length.
        chunks: digest and length of each chunk, in order.
    """

    digest: str
    size: int
    chunks: tuple[tuple[str, int], ...]


_PATTERNS: Final = {
    Kind.BLOB: ("sha256", ""),
    Kind.COMPRESSED: ("sha256", ".zst"),
    Kind.PACK: ("packs", ""),
    Kind.INDEX: ("packs", ".idx"),
    Kind.RECIPE: ("recipes", ""),
}
_KINDS: Final = {pattern: kind for kind, pattern in _PATTERNS.items()}


def stored_name(kind: Kind, digest: str) -> str:
    """Return the name of a file of a store.

    Raises:
        InvalidValueError: `digest` is not 64 lowercase hexadecimal digits.
    """
    check_digest(digest)
    folder, suffix = _PATTERNS[kind]
    return f"{folder}/{digest[:2]}/{digest}{suffix}"


def parse_name(name: str) -> StoredName:
    """Return the parts of a name.

    Raises:
        InvalidValueError: it is not the name of a file of a store.
    """
    match = _NAME.fullmatch(name)
    kind = _KINDS.get((match[1], match[4] or "")) if match else None
    if match is None or kind is None or match[2] != match[3][:2]:
        shown = repr(name[:100])
        raise InvalidValueError(f"not the name of a stored file: {shown}", hint="see docs/format.md")
    return StoredName(name, kind, match[3])


def is_name(name: str) -> bool:
    """Whether this is the name of a file of a store."""
    try:
        parse_name(name)
    except InvalidValueError:
        return False
    return True


def dump_index(entries: Iterable[Entry]) -> bytes:
    """Return the index of a pack with these entries, which must be in order and without gaps."""
    lines = [_INDEX_HEAD]
    lines += [f"{entry.digest} {entry.offset} {entry.length} {entry.size}" for entry in entries]
    return ("\n".join(lines) + "\n").encode()


def parse_index(pack: str, data: bytes) -> list[Entry]:
    """Return what is in a pack.

    Args:
        pack: the digits in its name.
        data: content of its index.

    Raises:
        CorruptError: the index is damaged.
        FormatError: it was written by a newer gml.
    """
    if hashlib.sha256(data).hexdigest() != pack:
        raise CorruptError(f"the index of pack {pack[:12]} does not match its name", hint=_AGAIN)
    lines = data.decode("ascii", "replace").split("\n")
    if lines[0] != _INDEX_HEAD:
        raise FormatError(f"pack {pack[:12]} has an unknown format", hint="a newer gml reads it")
    entries = []
    end = 0
    for line in lines[1:-1]:
        match = _ENTRY.fullmatch(line)
        if match is None or int(match[2]) != end:
            raise CorruptError(f"the index of pack {pack[:12]} is malformed", hint=_AGAIN)
        entry = Entry(match[1], end, int(match[3]), int(match[4]))
        end += entry.length
        entries.append(entry)
    return entries


def dump_recipe(size: int, chunks: Iterable[tuple[str, int]]) -> bytes:
    """Return the recipe of a file of `size` bytes."""
    lines = [f"gml-recipe 1 {size}"]
    lines += [f"{digest} {length}" for digest, length in chunks]
    body = ("\n".join(lines) + "\n").encode()
    return body + f"end {hashlib.sha256(body).hexdigest()}\n".encode()


def parse_recipe(digest: str, data: bytes) -> Recipe:
    """Return how the file with this digest is put together.

    Raises:
        CorruptError: the recipe is damaged.
        FormatError: it was written by a newer gml.
    """
    damaged = CorruptError(f"the recipe of {digest[:12]} is damaged", hint=_AGAIN)
    body, separator, end = data.rpartition(b"end ")
    if not separator or end != hashlib.sha256(body).hexdigest().encode() + b"\n":
        raise damaged
    lines = body.decode("ascii", "replace").split("\n")
    head = _RECIPE_HEAD.fullmatch(lines[0])
    if head is None:
        raise FormatError(f"the recipe of {digest[:12]} has an unknown format", hint="a newer gml reads it")
    matches = [_CHUNK.fullmatch(line) for line in lines[1:-1]]
    chunks = tuple((match[1], int(match[2])) for match in matches if match is not None)
    if len(chunks) != len(matches) or sum(size for _, size in chunks) != int(head[1]):
        raise damaged
    return Recipe(digest, int(head[1]), chunks)


_AGAIN: Final = "`gml artifacts verify` says which runs need it; put or pull it again"
