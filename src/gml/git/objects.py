"""Raw git objects as bytes: trees, commits, annotated tags and object ids. No library, no I/O.

Text in objects is decoded as UTF-8 with `surrogateescape`, so that names and messages in any other
encoding survive a round trip byte for byte.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from gml.domain.errors import CorruptError, InvalidValueError
from gml.git.port import Commit, Identity, Kind, TreeEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

KINDS: Final = ("blob", "tree", "commit", "tag")
TREE_MODES: Final = (b"40000", b"040000")

RawEntry = tuple[bytes, bytes, bytes]
"""Mode as written in the object, name, binary id."""

_ENTRY: Final = {n: re.compile(rb"([0-7]+) ([^\0]+)\0(.{%d})" % n, re.DOTALL) for n in (20, 32)}
_IDENT: Final = re.compile(rb"(.*?) ?<([^>\n]*)>(?: (-?\d+)(?: ([+-])(\d+))?)?.*", re.DOTALL)
_CRUD: Final = " \t.,:;<>\"\\'"
_FORMATS: Final[dict[str, tuple[int, Callable[..., hashlib._Hash]]]] = {
    "sha1": (20, hashlib.sha1),
    "sha256": (32, hashlib.sha256),
}


@dataclass(frozen=True, slots=True)
class Tag:
    """An annotated tag.

    Attributes:
        target: id of the tagged object.
        kind: its kind.
        name: short tag name.
        tagger: who made it; very old tags have none.
        time: seconds since the epoch.
        message: text, including a signature at its end where the tag is signed.
        offset: minutes east of UTC.
    """

    target: str
    kind: Kind
    name: str
    tagger: Identity | None
    time: int
    message: str
    offset: int = 0


def text(data: bytes) -> str:
    """Decode bytes of an object, keeping bytes that are not UTF-8."""
    return data.decode("utf-8", "surrogateescape")


def raw(value: str) -> bytes:
    """Encode text for an object; the inverse of `text`."""
    return value.encode("utf-8", "surrogateescape")


def hash_length(object_format: str) -> int:
    """Return the number of bytes in an id of `sha1` or `sha256`."""
    return _FORMATS[object_format][0]


def hasher(object_format: str, data: bytes = b"") -> hashlib._Hash:
    """Return a running hash of the object format."""
    return _FORMATS[object_format][1](data, usedforsecurity=False)


def format_of(oid: str) -> str:
    """Return the object format that an id belongs to, by its length."""
    return "sha256" if len(oid) == 64 else "sha1"


def object_id(kind: Kind, data: bytes, object_format: str = "sha1") -> str:
    """Return the id that git gives to an object."""
    digest = hasher(object_format, b"%s %d\0" % (kind.encode(), len(data)))
    digest.update(data)
    return digest.hexdigest()


def parse_raw_tree(data: bytes, hash_len: int = 20) -> list[RawEntry]:
    """Split a tree into (mode, name, binary id); one pass of the regex engine, as this is hot.

    Raises:
        CorruptError: some bytes do not belong to an entry.
    """
    found = cast("list[RawEntry]", _ENTRY[hash_len].findall(data))
    # findall steps over garbage silently, so the lengths must account for every byte
    if sum([len(mode) + len(name) for mode, name, _ in found]) + (hash_len + 2) * len(found) != len(data):
        raise CorruptError("a tree object is malformed", hint="run `git fsck`")
    return found


def format_raw_tree(entries: Iterable[RawEntry]) -> bytes:
    """Join (mode, name, binary id) into a tree, sorted as git sorts."""
    ordered = sorted(entries, key=_order)
    return b"".join([b"%s %s\0%s" % entry for entry in ordered])


def _order(entry: RawEntry) -> bytes:
    return entry[1] + b"/" if entry[0] in TREE_MODES else entry[1]


def parse_tree(data: bytes, hash_len: int = 20) -> list[TreeEntry]:
    """Parse a tree object.

    Raises:
        CorruptError: the bytes are not a tree.
    """
    return [
        TreeEntry(text(name), int(mode, 8), oid.hex()) for mode, name, oid in parse_raw_tree(data, hash_len)
    ]


def format_tree(entries: Iterable[TreeEntry]) -> bytes:
    """Format a tree object; entries may come in any order."""
    return format_raw_tree((b"%o" % e.mode, raw(e.name), bytes.fromhex(e.oid)) for e in entries)


def _clean(value: str) -> str:
    return re.sub(r"[<>\n\r\0]", "", value).strip(_CRUD)


def _ident(identity: Identity, time: int, offset: int) -> bytes:
    sign = "-" if offset < 0 else "+"
    hours, minutes = divmod(abs(offset), 60)
    line = f"{_clean(identity.name)} <{_clean(identity.email)}> {time} {sign}{hours:02d}{minutes:02d}"
    return raw(line)


def _parse_ident(value: bytes) -> tuple[Identity, int, int]:
    match = _IDENT.fullmatch(value)
    if match is None:
        return Identity(text(value), ""), 0, 0
    name, email, time, sign, zone = match.groups()
    offset = 0
    if zone:
        number = int(zone)
        offset = (number // 100 * 60 + number % 100) * (-1 if sign == b"-" else 1)
    return Identity(text(name.strip()), text(email)), int(time or 0), offset


def _headers(data: bytes, kind: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Split headers and body; continuation lines start with a space."""
    head, _, body = data.partition(b"\n\n")
    if not _:
        head = data.removesuffix(b"\n")
    pairs: list[tuple[bytes, bytes]] = []
    for line in head.split(b"\n"):
        if line.startswith(b" ") and pairs:
            key, value = pairs[-1]
            pairs[-1] = (key, value + b"\n" + line[1:])
            continue
        key, found, value = line.partition(b" ")
        if not found:
            raise CorruptError(f"a {kind} object is malformed: {text(line)[:40]!r}", hint="run `git fsck`")
        pairs.append((key, value))
    return pairs, body


def _no_nul(message: str) -> bytes:
    if "\0" in message:
        raise InvalidValueError("a commit or tag message can not contain a NUL character")
    return raw(message)


def parse_commit(data: bytes) -> Commit:
    """Parse a commit object.

    Raises:
        CorruptError: the bytes are not a commit.
    """
    pairs, body = _headers(data, "commit")
    tree = ""
    parents: list[str] = []
    author = committer = (Identity("", ""), 0, 0)
    extra: list[tuple[str, str]] = []
    for key, value in pairs:
        if key == b"tree":
            tree = text(value)
        elif key == b"parent":
            parents.append(text(value))
        elif key == b"author":
            author = _parse_ident(value)
        elif key == b"committer":
            committer = _parse_ident(value)
        else:
            extra.append((text(key), text(value)))
    if not tree:
        raise CorruptError("a commit object has no tree", hint="run `git fsck`")
    return Commit(
        tree=tree,
        parents=tuple(parents),
        author=author[0],
        author_time=author[1],
        author_offset=author[2],
        committer=committer[0],
        commit_time=committer[1],
        commit_offset=committer[2],
        message=text(body),
        extra=tuple(extra),
    )


def format_commit(commit: Commit) -> bytes:
    """Format a commit object; characters that git forbids in names are dropped.

    Raises:
        InvalidValueError: the message contains a NUL character.
    """
    lines = [b"tree " + raw(commit.tree)]
    lines += [b"parent " + raw(parent) for parent in commit.parents]
    lines.append(b"author " + _ident(commit.author, commit.author_time, commit.author_offset))
    lines.append(b"committer " + _ident(commit.committer, commit.commit_time, commit.commit_offset))
    lines += [raw(key) + b" " + raw(value).replace(b"\n", b"\n ") for key, value in commit.extra]
    return b"\n".join(lines) + b"\n\n" + _no_nul(commit.message)


def parse_tag(data: bytes) -> Tag:
    """Parse an annotated tag object.

    Raises:
        CorruptError: the bytes are not a tag.
    """
    pairs, body = _headers(data, "tag")
    fields = dict(reversed(pairs))
    kind = text(fields.get(b"type", b""))
    if b"object" not in fields or kind not in KINDS:
        raise CorruptError("a tag object is malformed", hint="run `git fsck`")
    tagger = _parse_ident(fields[b"tagger"]) if b"tagger" in fields else (None, 0, 0)
    return Tag(
        target=text(fields[b"object"]),
        kind=cast("Kind", kind),
        name=text(fields.get(b"tag", b"")),
        tagger=tagger[0],
        time=tagger[1],
        offset=tagger[2],
        message=text(body),
    )


def format_tag(tag: Tag) -> bytes:
    """Format an annotated tag object.

    Raises:
        InvalidValueError: the message contains a NUL character.
    """
    lines = [b"object " + raw(tag.target), b"type " + raw(tag.kind), b"tag " + raw(tag.name)]
    if tag.tagger is not None:
        lines.append(b"tagger " + _ident(tag.tagger, tag.time, tag.offset))
    return b"\n".join(lines) + b"\n\n" + _no_nul(tag.message)
