"""The port between gml and its blobs: bytes named by the SHA-256 of their content.

Everything above this room sees only these names. A blob is immutable: two writers of the same
content agree by construction, so no lock is needed, and a reader can always tell good from bad.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol, runtime_checkable

from gml.domain.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from os import PathLike
    from pathlib import Path

    from gml.domain.errors import GmlError

# Bytes moved at once: large enough that system calls do not count, small enough for any machine.
CHUNK = 1 << 20
# Up to here `open` verifies before it returns; above, it verifies while the caller reads.
SMALL = 8 << 20

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Blob:
    """What a store acknowledges.

    Attributes:
        digest: SHA-256 of the content, 64 lowercase hexadecimal digits.
        size: length of the content in bytes.
    """

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Stored:
    """A file that a store holds.

    Attributes:
        name: relative to the root of the store.
        size: length in bytes.
        time: seconds since the epoch of its last put, None where the storage does not tell.
    """

    name: str
    size: int
    time: float | None = None


def check_digest(digest: str) -> str:
    """Return `digest` unchanged if it is one.

    Digests come from manifests that other people pushed and become path names: every store calls
    this before it builds a path.

    Raises:
        InvalidValueError: it is not exactly 64 lowercase hexadecimal digits.

    Example:
        >>> check_digest("../etc/passwd")
        Traceback (most recent call last):
        gml.domain.errors.InvalidValueError: not a sha256 digest: '../etc/passwd'; ...
    """
    if not isinstance(digest, str) or _DIGEST.fullmatch(digest) is None:
        shown = repr(digest)
        shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
        raise InvalidValueError(
            f"not a sha256 digest: {shown}", hint="a digest is 64 lowercase hexadecimal digits"
        )
    return digest


def relative_name(digest: str) -> str:
    """Return where a blob lies below the root of any store: `sha256/ab/<64 hex digits>`.

    Raises:
        InvalidValueError: `digest` is not 64 lowercase hexadecimal digits.
    """
    check_digest(digest)
    return f"sha256/{digest[:2]}/{digest}"


@runtime_checkable
class BlobStore(Protocol):
    """Immutable blobs, put if absent and verified on read.

    All methods may be called from several threads and processes at once. Every method that takes a
    digest raises `InvalidValueError` unless it is 64 lowercase hexadecimal digits, and every method
    raises `StorageError` where the storage itself refuses or fails (full, read-only, network).

    What a `put_*` method returned from is stored as durably as the storage allows; before that, no
    part of it can be seen under its digest. Putting content that is already there is cheap, and
    replaces a stored object whose size is wrong.
    """

    def put_file(self, path: str | PathLike[str]) -> Blob:
        """Store the content of a file, in bounded memory.

        Raises:
            NotFoundError: there is no such file.
            UsageError: it is not a regular file.
            StorageError: it cannot be read, or it changed while it was read; nothing is stored.
        """

    def put_files(
        self,
        paths: Sequence[str | PathLike[str]],
        progress: Callable[[int], object] | None = None,
    ) -> list[Blob | GmlError]:
        """Store the content of many files; a store of a local disk packs the small ones.

        What is wrong with one file does not keep the others out.

        Args:
            paths: the files.
            progress: called with the number of bytes that were read since the last call.

        Returns:
            For each path what is stored, or the error that `put_file` would have raised.

        Raises:
            StorageError: the store fails; nothing is acknowledged.
        """

    def put_bytes(self, data: bytes) -> Blob:
        """Store bytes that are in memory."""

    def put_stream(self, stream: BinaryIO) -> Blob:
        """Store everything from the position of a binary file object to its end; leaves it open."""

    def open(self, digest: str) -> BinaryIO:
        """Return a readable binary file object over a blob; the caller closes it.

        A blob of up to `SMALL` bytes is verified before this returns and can be seeked. A larger
        one cannot be seeked (`get_file` gives a file that can) and is verified while it is read:
        the read that reaches the end raises `CorruptError` on a mismatch.

        Raises:
            NotFoundError: the blob is not here.
            CorruptError: the content does not match the digest.
        """

    def read(self, digest: str) -> bytes:
        """Return the whole content, verified.

        Raises:
            NotFoundError: the blob is not here.
            CorruptError: the content does not match the digest.
        """

    def get_file(self, digest: str, target: Path) -> None:
        """Write a blob to `target`, replacing it; a failure leaves an existing target as it was.

        Parent folders are made. The content is verified and synced before it gets its name.

        Raises:
            NotFoundError: the blob is not here.
            CorruptError: the content does not match the digest.
        """

    def contains(self, digest: str) -> bool:
        """Whether an object has this digest as its name; its content is not looked at."""

    def size(self, digest: str) -> int:
        """Return the stored length in bytes.

        Raises:
            NotFoundError: the blob is not here.
        """

    def delete(self, digest: str) -> None:
        """Remove a blob; one that is not here is no error."""

    def digests(self) -> Iterator[str]:
        """Yield the digest of every stored object, sorted; those of unfinished puts never appear."""

    def verify(self, digest: str) -> bool:
        """Read a whole object and say whether it matches its digest.

        Raises:
            NotFoundError: the blob is not here.
        """


@runtime_checkable
class NameStore(Protocol):
    """The files that make up a store, by name: what a transfer moves (docs/format.md).

    Below the level of `BlobStore`: names come from `gml.cas.names`, and every method that takes one
    raises `InvalidValueError` for anything else. A remote that holds no files of the user's own needs
    no more than this.
    """

    def names(self, folder: str) -> Iterator[Stored]:
        """Yield all files of a folder (`sha256`, `packs` or `recipes`), sorted by name."""

    def name_size(self, name: str) -> int | None:
        """Return the length of a stored file, None where there is none."""

    def open_name(self, name: str, offset: int = 0, length: int | None = None) -> BinaryIO:
        """Return a readable file object over `length` bytes of a stored file, not verified.

        Raises:
            NotFoundError: there is no such file.
        """

    def adopt_name(self, name: str, stream: BinaryIO, index: bytes | None = None) -> int:
        """Store a file under its name, if its bytes are what the name promises.

        Args:
            name: the stored file. The index of a pack is stored together with the pack.
            stream: its bytes; closed by the caller.
            index: of a pack, the content of its index.

        Returns:
            Its length. A file that is there is left as it is, and its time becomes that of now.

        Raises:
            CorruptError: the bytes are wrong; nothing is stored.
        """

    def delete_name(self, name: str) -> None:
        """Remove a stored file; one that is not here is no error."""

    def names_of(self, digest: str) -> list[Stored]:
        """Return the stored files that a blob needs, in the order in which they are to be copied.

        Raises:
            NotFoundError: the blob, or a part of it, is not here.
            CorruptError: its recipe is damaged.
        """
