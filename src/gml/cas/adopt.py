"""Taking files of other caches into a local store without copying them, where that is safe."""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from gml.cas.bulk import LARGE
from gml.cas.names import Kind
from gml.cas.port import CHUNK, Blob
from gml.cas.shelf import Reliance
from gml.cas.staging import Names
from gml.cas.transfer import SourceFile, storage_errors
from gml.domain.errors import CorruptError

if TYPE_CHECKING:
    from pathlib import Path

    from gml.cas.local import LocalStore

KNOWN: Final = "known"
CLONED: Final = "cloned"
LINKED: Final = "linked"
COPIED: Final = "copied"

# ioctl of Linux that lets two files share their blocks until one is written to.
_FICLONE: Final = 0x40049409


def adopt(
    store: LocalStore, path: Path, *, sha256: str | None = None, md5: str | None = None
) -> tuple[Blob, str]:
    """Take a file of another cache into a store.

    Its blocks are shared where the file system can do that (a reflink), else it is linked, if nobody may
    write to it; else it is stored as any other file. Large files that cannot be shared are split.

    Args:
        store: the store.
        path: the file.
        sha256: what its name in the other cache promises, if it does.
        md5: the same, where that is what the other cache uses.

    Returns:
        What is stored, and `known`, `cloned`, `linked` or `copied`.

    Raises:
        CorruptError: the file is not what its name promises; nothing is stored.
        NotFoundError: there is no such file.
        StorageError: it cannot be read, or the store cannot be written.
    """
    names = Names()
    with SourceFile(path) as source, storage_errors(f"write {store.root}"):
        blob = _digest(source, sha256, md5)
        reliance = Reliance(store.shelf, names)
        there = {
            reliance.on_blobs([blob.digest]).get(blob.digest),
            reliance.on_loose(blob.digest),
            reliance.on_recipe(blob.digest),
        }
        if blob.size in there:
            names.sync()
            store.pin([blob.digest])
            return blob, KNOWN
        how = _share(store, source, blob, names)
        if how is None and blob.size < LARGE:
            source.rewind()
            data = source.read(LARGE)
            source.check(len(data))
            return store.put_bytes(data), COPIED
        names.sync()
        store.pin([blob.digest])
    return (store.put_file(path), COPIED) if how is None else (blob, how)


def _digest(source: SourceFile, sha256: str | None, md5: str | None) -> Blob:
    sha = hashlib.sha256()
    old = hashlib.md5(usedforsecurity=False)
    size = 0
    while piece := source.read(CHUNK):
        sha.update(piece)
        if md5 is not None:
            old.update(piece)
        size += len(piece)
    source.check(size)
    if sha256 not in {None, sha.hexdigest()} or md5 not in {None, old.hexdigest()}:
        raise CorruptError(
            f"{source.path} is not what its name says", hint="the cache that it belongs to is damaged"
        )
    return Blob(sha.hexdigest(), size)


def _share(store: LocalStore, source: SourceFile, blob: Blob, names: Names) -> str | None:
    """Give the store a file that shares the blocks of another one; None where that cannot be done."""
    target = store.shelf.path(Kind.BLOB, blob.digest)
    with store.shelf.staging.staged() as (staged, out):
        how = CLONED
        if not _clone(source.fileno(), out.fileno()):
            if stat.S_IMODE(source.facts.st_mode) & 0o222 or not _link(source, staged):
                return None
            how = LINKED
            os.fsync(source.fileno())
            target.parent.mkdir(parents=True, exist_ok=True)
            staged.replace(target)
        else:
            store.shelf.staging.publish(staged, out, target)
        source.check(blob.size)
        names.add(target)
    return how


def _clone(source: int, target: int) -> bool:
    try:
        import fcntl

        fcntl.ioctl(target, _FICLONE, source)
    except (ImportError, OSError):
        return False
    return True


def _link(source: SourceFile, staged: Path) -> bool:
    """Replace a staged file by a link to the very file that was read."""
    with suppress(OSError):
        staged.unlink()
        os.link(source.path, staged)
        found = staged.stat()
        if (found.st_dev, found.st_ino) == (source.facts.st_dev, source.facts.st_ino):
            return True
        staged.unlink()
    return False
