"""The transport where there is no git command: dulwich speaks the protocol over HTTPS and ssh.

Only its client is used. What is sent is chosen here (`gml.git.outgoing`), because dulwich walks all of
a tree; what is received becomes a pack that is durable before a ref names it.
"""

from __future__ import annotations

import tempfile
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from gml import fs
from gml.domain.errors import RemoteError
from gml.git import outgoing
from gml.git.objects import parse_commit
from gml.git.transport import Outcome, Refspec, Update, public, remarks, state_of, tokens, trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from dulwich.objects import ObjectID
    from dulwich.pack import UnpackedObject

    from gml.git.store import FileStore

_NUMBERS: Final = {"commit": 1, "tree": 2, "blob": 3, "tag": 4}
_TIMEOUT: Final = 120.0


class DulwichTransport:
    """`Transport` over dulwich's client.

    Args:
        store: the local repository.
        remote: name of a configured remote, or a URL.
    """

    def __init__(self, store: FileStore, remote: str) -> None:
        self._store = store
        self._remote = remote
        self._address = store.config(f"remote.{remote}.url") or remote
        self._url = public(self._address)
        self._said: list[str] = []
        self.received = 0
        self.sent = 0

    @property
    def url(self) -> str:
        """See `Transport.url`."""
        return self._url

    def _hear(self, data: bytes) -> None:
        self._said += [f"remote: {line}" for line in data.decode("utf-8", "replace").splitlines()]

    @contextmanager
    def _client(self) -> Iterator[tuple[Any, str]]:
        """Open a client and its path; everything that goes wrong within is a RemoteError."""
        from dulwich import client, errors
        from urllib3.exceptions import HTTPError

        self._said.clear()
        known = tokens(self._store.environ)
        try:
            if self._address.lower().startswith(("https://", "http://")):
                user, secret = known or (None, None)
                found: Any = client.HttpGitClient(
                    self._address, username=user, password=secret, timeout=_TIMEOUT, quiet=True
                )
                yield found, self._address
            else:
                ssh = self._store.environ.get("GIT_SSH_COMMAND") or self._store.config("core.sshCommand")
                yield client.get_transport_and_path(self._address, quiet=True, ssh_command=ssh)
        except client.HTTPUnauthorized as error:
            raise trouble(self._url, "Authentication failed (HTTP 401)") from error
        except (
            errors.GitProtocolError, errors.NotGitRepository, errors.ChecksumMismatch,
            client.HTTPProxyUnauthorized, errors.ObjectFormatException, HTTPError,
            ValueError, AssertionError, EOFError,
        ) as error:  # fmt: skip
            raise trouble(self._url, "\n".join([*self._said, f"error: {error}"])) from error
        except OSError as error:
            if error.errno is not None and isinstance(error, (FileNotFoundError, PermissionError)):
                raise trouble(self._url, f"error: {error.strerror}: {error.filename}") from error
            raise trouble(self._url, f"error: {error}") from error

    def refs(self, prefixes: Sequence[str]) -> dict[str, str]:
        """See `Transport.refs`."""
        with self._client() as (client, path):
            found = client.get_refs(path, ref_prefix=[prefix.encode() for prefix in prefixes]).refs
        names = {name.decode("utf-8", "surrogateescape"): oid for name, oid in found.items() if oid}
        return {
            name: oid.decode()
            for name, oid in sorted(names.items())
            if name.startswith(tuple(prefixes)) and not name.endswith("^{}")
        }

    def fetch(
        self,
        refspecs: Sequence[Refspec],
        *,
        prune: bool = False,
        depth: int | None = None,
        blobless: bool = False,
    ) -> None:
        """See `Transport.fetch`."""
        wanted: dict[str, str] = {}

        def choose(refs: dict[bytes, bytes], depth: int | None = None) -> list[bytes]:
            del depth
            for name, oid in refs.items():
                for spec in refspecs:
                    target = spec.local(name.decode("utf-8", "surrogateescape"))
                    if target is not None and not name.endswith(b"^{}"):
                        wanted[target] = oid.decode()
            return sorted({oid.encode() for oid in wanted.values() if not self._store.contains(oid)})

        prefixes = [spec.source.removesuffix("*").encode() for spec in refspecs]
        self._receive(choose, prefixes, depth=depth, blobless=blobless)
        self._point(refspecs, wanted, prune=prune)

    def fetch_objects(self, oids: Sequence[str]) -> None:
        """See `Transport.fetch_objects`."""
        ids = [oid.encode() for oid in oids]
        # Said to have its directories, the remote would leave out the very objects that are asked for.
        self._receive(lambda *_, **__: ids, [b"refs/gml/"], depth=None, blobless=False, heads=set())

    def _receive(
        self,
        choose: Callable[..., list[bytes]],
        prefixes: list[bytes],
        *,
        depth: int | None,
        blobless: bool,
        heads: set[str] | None = None,
    ) -> None:
        """Fetch what `choose` wants of the remote's refs and keep it as a pack."""
        place = self._store.location.common_dir / "objects"
        with self._storing(), tempfile.TemporaryFile(dir=place) as pack:
            with self._client() as (client, path):
                # It would warn on the root logger that the remote sends all, which is fine here.
                client._warn_filter_objects = list  # noqa: SLF001
                done = client.fetch_pack(
                    path,
                    choose,
                    self._walker(heads),
                    pack.write,
                    progress=self._hear,
                    depth=depth,
                    ref_prefix=prefixes,
                    filter_spec=b"blob:none" if blobless else None,
                )
            self.received = pack.tell()
            if self.received:
                pack.seek(0)
                self._keep(pack.read, promised=blobless)
        if done.new_shallow or done.new_unshallow:
            self._shallow(done.new_shallow or set(), done.new_unshallow or set())

    @contextmanager
    def _storing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise fs.storage_error(error, f"cannot store what {self._url} sends") from error

    def _keep(self, read: Callable[[int], bytes], *, promised: bool) -> None:
        """Keep what came; what a `promised` pack names and lacks is on the remote: a partial clone."""
        pack = keep_pack(self._store, read, self._url)
        if promised:
            (pack.parent / f"{pack.name}.promisor").touch()
            self._promise()

    def _promise(self) -> None:
        """Say in git's configuration that the repository is a partial clone of this remote."""
        store, key = self._store, f"remote.{self._remote}"
        if store.config("extensions.partialClone") or store.config(f"{key}.url") is None:
            return
        store.set_config(f"{key}.promisor", "true")
        store.set_config(f"{key}.partialclonefilter", "blob:none")
        store.set_config("core.repositoryformatversion", "1")
        store.set_config("extensions.partialClone", self._remote)

    def _walker(self, only: set[str] | None) -> Any:
        from dulwich.object_store import ObjectStoreGraphWalker

        known = only if only is not None else set(self._store.refs("refs/").values())
        heads = {oid.encode() for oid in known if self._store.contains(oid)}
        edge = {line.encode() for line in self._edge()}
        return ObjectStoreGraphWalker(heads, self._parents, shallow=edge)  # type: ignore[arg-type]

    def _parents(self, oid: ObjectID) -> list[ObjectID]:
        kind, data = self._store.read(oid.decode())
        if kind != "commit":
            return []
        found = parse_commit(data).parents
        return [parent.encode() for parent in found if self._store.contains(parent)]  # type: ignore[misc]

    def _edge(self) -> set[str]:
        try:
            return set((self._store.location.common_dir / "shallow").read_text().split())
        except FileNotFoundError:
            return set()

    def _shallow(self, more: set[bytes], fewer: set[bytes]) -> None:
        known = (self._edge() | {oid.decode() for oid in more}) - {oid.decode() for oid in fewer}
        path = self._store.location.common_dir / "shallow"
        if known:
            fs.write_atomic(path, "".join(f"{oid}\n" for oid in sorted(known)).encode())
        else:
            path.unlink(missing_ok=True)

    def _point(self, refspecs: Sequence[Refspec], wanted: dict[str, str], *, prune: bool) -> None:
        for target, oid in wanted.items():
            before = self._store.ref(target)
            if before != oid:
                self._store.update_ref(target, oid, expected=before, message=f"fetch {self._url}")
        if not prune:
            return
        for spec in refspecs:
            stem = spec.target.removesuffix("*")
            for name, oid in self._store.refs(stem).items():
                if name not in wanted and (spec.target.endswith("*") or name == spec.target):
                    self._store.delete_ref(name, expected=oid)

    def push(self, updates: Sequence[Update], *, atomic: bool = False) -> list[Outcome]:
        """See `Transport.push`."""
        from dulwich.client import LocalGitClient

        if not updates:
            return []
        if self._store.location.object_format != "sha1":
            raise RemoteError(
                f"cannot push a SHA-256 repository to {self._url} without git", hint="install git"
            )
        states: dict[str, Outcome] = {}
        begun = False
        zero = "0" * 40

        def choose(refs: dict[bytes, bytes]) -> dict[bytes, bytes]:
            there.update(
                {name.decode("utf-8", "surrogateescape"): oid.decode() for name, oid in refs.items()}
            )
            for update in updates:
                now = there.get(update.name)
                if now == update.new:
                    states[update.name] = Outcome(update.name, "ok")
                elif now != update.expected:
                    states[update.name] = Outcome(update.name, "stale", f"it is at {now or 'nothing'}")
            if atomic and any(outcome.state == "stale" for outcome in states.values()):
                for update in updates:
                    states.setdefault(
                        update.name, Outcome(update.name, "stale", "another ref of this push moved")
                    )
            rest = {u.name: u.new or zero for u in updates if u.name not in states}
            return {name.encode(): oid.encode() for name, oid in rest.items()}

        def pack(*_: Any, **__: Any) -> tuple[int, Iterator[UnpackedObject]]:
            nonlocal begun
            begun = True
            return self._pack(
                [u.new for u in updates if u.new and u.name not in states], list(there.values())
            )

        there: dict[str, str] = {}
        try:
            with self._client() as (client, path):
                if isinstance(client, LocalGitClient):
                    raise RemoteError(
                        f"cannot push to {self._url} without git: its hooks would not run", hint="install git"
                    )
                done = client.send_pack(path, choose, pack, progress=self._hear, atomic=atomic)
        except RemoteError as error:
            return self._broken(error, updates, begun=begun, atomic=atomic)
        for name, problem in (done.ref_status or {}).items():
            text = name.decode("utf-8", "surrogateescape")
            if problem is None:
                states[text] = Outcome(text, "ok")
            else:
                words = remarks("\n".join(self._said))
                states[text] = Outcome(text, state_of(problem), f"{problem}: {words}" if words else problem)
        return [
            states.get(u.name) or Outcome(u.name, "unknown", "the remote did not report") for u in updates
        ]

    def _broken(
        self, error: RemoteError, updates: Sequence[Update], *, begun: bool, atomic: bool
    ) -> list[Outcome]:
        """Judge a push that raised: was anything sent?"""
        if atomic and "does not support atomic" in error.message:
            return self.push(updates)
        if not begun or "unexpected http resp 4" in error.message.lower():
            raise error
        if "unpack" in error.message.lower():
            return [Outcome(u.name, "failed", error.message) for u in updates]
        return [Outcome(u.name, "unknown", error.message) for u in updates]

    def _pack(self, tips: list[str], there: list[str]) -> tuple[int, Iterator[UnpackedObject]]:
        from dulwich.object_format import DEFAULT_OBJECT_FORMAT
        from dulwich.pack import UnpackedObject, pack_object_header

        known = [oid for oid in there if self._store.contains(oid)]
        ids = list(outgoing.objects(self._store, tips, known))

        self.sent = 0

        def records() -> Iterator[UnpackedObject]:
            for oid in ids:
                kind, data = self._store.read(oid)
                number = _NUMBERS[kind]
                head = bytes(pack_object_header(number, None, len(data), object_format=DEFAULT_OBJECT_FORMAT))
                packed = head + zlib.compress(data)
                self.sent += len(packed)
                record = UnpackedObject(
                    number, sha=bytes.fromhex(oid), decomp_chunks=[data], decomp_len=len(data)
                )
                record.comp_chunks = [packed]
                yield record

        return len(ids), records()


def keep_pack(store: FileStore, read: Callable[[int], bytes], source: str) -> Path:
    """Make a durable pack of a pack stream, checked before it appears; return its path without ending.

    Raises:
        RemoteError: the stream is damaged.
        StorageError: it could not be written.
    """
    from dulwich import errors
    from dulwich.object_format import get_object_format
    from dulwich.object_store import DiskObjectStore

    place = store.location.common_dir / "objects"
    objects = DiskObjectStore(
        place, object_format=get_object_format(store.location.object_format), fsync_object_files=True
    )
    try:
        name = objects.add_thin_pack(read, None).name().decode()
    except (
        errors.ChecksumMismatch, errors.ObjectFormatException, AssertionError, KeyError, ValueError, EOFError,
        zlib.error,
    ) as error:  # fmt: skip
        raise trouble(source, f"error: index-pack failed: {error}") from error
    except OSError as error:
        raise fs.storage_error(error, f"cannot store what {source} sends") from error
    finally:
        objects.close()
    fs.fsync_directory(place / "pack")
    return place / "pack" / f"pack-{name}"
