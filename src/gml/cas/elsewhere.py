"""Files that stay where they are, on the web, in a bucket, on a share: read by URL, held to their digest."""

from __future__ import annotations

import hashlib
import io
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast
from urllib.parse import urlsplit

from gml.cas.connect import check_scheme, local_folder
from gml.cas.port import CHUNK, SMALL, Blob
from gml.cas.pull import Ranges
from gml.cas.remote import open_fsspec
from gml.cas.transfer import SourceFile, storage_errors, verified
from gml.domain.errors import CorruptError, NotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_SECRET: Final = re.compile(r"sig|token|secret|passw|credential|api_?key|access_?key", re.IGNORECASE)


def check_url(url: str) -> str:
    """Return the URL of a file as it is kept: a path of this machine becomes `file:///...`.

    Raises:
        UsageError: it has a password or what looks like one, an unknown scheme, or names no file.
    """
    folder = local_folder(url)
    if folder is not None:
        return folder.absolute().as_uri()
    parts = urlsplit(url)
    if parts.password or _SECRET.search(parts.query):
        raise UsageError(
            f"a URL with a secret in it cannot be linked: {parts.scheme}://{parts.hostname}{parts.path}",
            hint="links are kept in git; give credentials where the storage's own tools look for them",
        )
    if parts.fragment or not parts.path.rpartition("/")[2]:
        raise UsageError(
            f"{url!r} names no file", hint="such as https://host/data.csv, s3://bucket/model.bin"
        )
    check_scheme(url)
    return url


def digest_of(
    url: str, options: Mapping[str, Any] | None = None, progress: Callable[[int], object] | None = None
) -> Blob:
    """Read a file elsewhere and return its digest and length.

    Raises:
        NotFoundError: there is no such file.
        StorageError: it cannot be read.
    """
    sha = hashlib.sha256()
    size = 0
    with _reading(url, options or {}) as file:
        while piece := file.read(CHUNK):
            sha.update(piece)
            size += len(piece)
            if progress is not None:
                progress(len(piece))
    return Blob(sha.hexdigest(), size)


def open_elsewhere(url: str, blob: Blob, options: Mapping[str, Any] | None = None) -> BinaryIO:
    """Return a readable file object over a file elsewhere that must be this blob; see `BlobStore.open`.

    Raises:
        NotFoundError: there is no such file.
        CorruptError: it is another content now.
        StorageError: it cannot be read.
    """
    file, size = _open(url, options or {})
    if size != blob.size:
        file.close()
        raise CorruptError(
            f"{url} has {size} bytes now, not {blob.size}",
            hint="it was replaced: link it again",
        )
    return verified(file, blob.digest, blob.size, url)


@contextmanager
def _reading(url: str, options: Mapping[str, Any]) -> Iterator[BinaryIO]:
    file, _ = _open(url, options)
    with file:
        yield file


def _open(url: str, options: Mapping[str, Any]) -> tuple[BinaryIO, int]:
    """Return an unverified file object and the length that its storage says it has."""
    path = local_folder(url)
    if path is not None:
        with SourceFile(path) as source:  # no pipes, devices, sockets
            size = source.facts.st_size
        with storage_errors(f"read {path}"):
            return path.open("rb"), size
    parent, _, name = url.rpartition("/")
    remote = open_fsspec(parent, options)
    found = remote.size(name)
    if found is None:
        raise NotFoundError(f"{url} does not exist (any more)")
    return cast("BinaryIO", io.BufferedReader(Ranges(remote, name, found), SMALL)), found
