"""Git bundles as files: writing one, and a transport that fetches from one.

A bundle is a header (version, what it needs, its refs) and a pack; `git bundle` reads and writes the
same. Packs are made and taken in by the git command where there is one, in memory otherwise.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Final

from gml.domain.errors import CorruptError, RemoteError, StorageError
from gml.git import outgoing
from gml.git.pack import build_pack
from gml.git.worktree_git import GitCommand, reason

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from gml.git.store import FileStore
    from gml.git.transport import Outcome, Refspec, Update

_DURABLE: Final = ("-c", "core.fsync=pack,pack-metadata,loose-object,reference")
_REF: Final = re.compile(r"([0-9a-f]{40}|[0-9a-f]{64}) (refs/\S+)")
_NEEDED: Final = re.compile(r"-([0-9a-f]{40}|[0-9a-f]{64})(?: .*)?")
_MAX_HEADER: Final = 16 * 1024 * 1024


def write_bundle(store: FileStore, path: Path, refs: Mapping[str, str], since: Sequence[str]) -> None:
    """Write a bundle of some refs, without what `since` reaches.

    Args:
        store: the repository.
        path: the file; it must not exist.
        refs: names and what they point at now.
        since: commits that the receiver has.

    Raises:
        StorageError: it could not be written.
    """
    git = shutil.which("git", path=store.environ.get("PATH", os.defpath))
    if git is not None:
        excluded = [f"^{oid}" for oid in since]
        done = GitCommand(git, store).run(["bundle", "create", "-q", str(path), *refs, *excluded])
        if done.returncode:
            raise StorageError(f"cannot write {path}: {reason(done.stderr)}", hint="free space may be short")
        return
    form = store.location.object_format
    header = ["# v2 git bundle"] if form == "sha1" else ["# v3 git bundle", f"@object-format={form}"]
    header += [f"-{oid}" for oid in since] + [f"{oid} {name}" for name, oid in refs.items()]
    ids = outgoing.objects(store, refs.values(), since)
    data, _, _ = build_pack([store.read(oid) for oid in ids], form)
    path.write_bytes("\n".join([*header, "", ""]).encode() + data)


class BundleTransport:
    """A `Transport` that reads from a bundle.

    Args:
        store: the local repository.
        path: the bundle.

    Raises:
        CorruptError: it is no bundle.
        RemoteError: it needs commits that are not here.
    """

    def __init__(self, store: FileStore, path: Path) -> None:
        self._store = store
        self._path = path
        self.received = 0
        self.sent = 0
        self._refs: dict[str, str] = {}
        self._needed: list[str] = []
        self._start = self._read_header()

    def _read_header(self) -> int:
        form = "sha1"
        with self._path.open("rb") as file:
            if re.fullmatch(rb"# v[23] git bundle\n", file.readline(64)) is None:
                raise CorruptError(f"{self._path.name} is not a git bundle")
            while True:
                line = file.readline(_MAX_HEADER).decode("utf-8", "surrogateescape")
                if line == "\n":
                    break
                text = line.rstrip("\n")
                ref, needed = _REF.fullmatch(text), _NEEDED.fullmatch(text)
                if ref is not None:
                    self._refs[ref[2]] = ref[1]
                elif needed is not None:
                    self._needed.append(needed[1])
                elif text.startswith("@object-format="):
                    form = text.partition("=")[2]
                else:
                    raise CorruptError(f"{self._path.name} has a damaged header: {text[:60]!r}")
            start = file.tell()
        if form != self._store.location.object_format:
            raise RemoteError(f"{self._path.name} is of a {form} repository, and this is another kind")
        missing = [oid for oid in self._needed if not self._store.contains(oid)]
        if missing:
            raise RemoteError(
                f"{self._path.name} builds on commits that are not here, such as {missing[0][:12]}",
                hint="apply the bundles before it first, or make one without --since",
            )
        return start

    @property
    def url(self) -> str:
        """See `Transport.url`."""
        return str(self._path)

    def refs(self, prefixes: Sequence[str]) -> dict[str, str]:
        """See `Transport.refs`."""
        return {name: oid for name, oid in sorted(self._refs.items()) if name.startswith(tuple(prefixes))}

    def fetch(
        self,
        refspecs: Sequence[Refspec],
        *,
        prune: bool = False,
        depth: int | None = None,
        blobless: bool = False,
    ) -> None:
        """See `Transport.fetch`; the pack is taken in whole."""
        del prune, depth, blobless
        self._unpack()
        for name, oid in self._refs.items():
            for spec in refspecs:
                target = spec.local(name)
                if target is not None and self._store.ref(target) != oid:
                    before = self._store.ref(target)
                    self._store.update_ref(target, oid, expected=before, message="bundle")

    def _unpack(self) -> None:
        self.received = self._path.stat().st_size - self._start
        git = shutil.which("git", path=self._store.environ.get("PATH", os.defpath))
        with self._path.open("rb", buffering=0) as file:
            file.seek(self._start)
            if git is None:
                from gml.git.transport_dulwich import keep_pack

                keep_pack(self._store, file.read, str(self._path))
                return
            command = GitCommand(git, self._store)
            done = subprocess.run(
                [git, *_DURABLE, "index-pack", "--stdin", "--fix-thin"],
                stdin=file, capture_output=True, check=False, env=command.environ,
            )  # fmt: skip
        if done.returncode:
            said = reason(done.stderr)
            if "No space" in said:
                raise StorageError(f"cannot store {self._path.name}: no space left on the disk")
            raise CorruptError(f"{self._path.name} is damaged: {said}", hint="copy it again")

    def fetch_objects(self, oids: Sequence[str]) -> None:
        """See `Transport.fetch_objects`; a bundle came whole."""
        del oids

    def push(self, updates: Sequence[Update], *, atomic: bool = False) -> list[Outcome]:
        """See `Transport.push`; a bundle is never changed."""
        del updates, atomic
        raise RemoteError(f"{self._path.name} is a bundle and takes nothing")
