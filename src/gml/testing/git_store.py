# ruff: noqa: D102 - the names of the test methods say what they check
# ruff: noqa: D102 - the names of the test methods say what they check
"""Conformance suite for implementations of `gml.git.port.GitStore`, and a store that fails on demand.

Subclass the suite in a test module and give it a `store` fixture over an empty repository:

    class TestMyStore(GitStoreSuite):
        @pytest.fixture
        def store(self, tmp_path): ...

The git command must be on the PATH: it is the judge.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import threading
from typing import TYPE_CHECKING, Any

import pytest

from gml.domain.errors import (
    CorruptError,
    NotFoundError,
    StorageError,
)
from gml.git.objects import (
    Tag,
    format_tag,
    format_tree,
    object_id,
    parse_tree,
)
from gml.git.port import MODE_FILE, MODE_TREE, GitStore, Head, Identity, TreeEntry
from gml.testing.git_refs import GitRefsSuite
from gml.testing.git_tools import ADA, LEDGER, fsck, git, make_commit, told

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gml.git.port import Kind, Location


class GitStoreSuite(GitRefsSuite):
    """What every `GitStore` must do."""

    # objects

    @pytest.mark.parametrize("data", [b"", b"hello\n", bytes(range(256)) * 7])
    def test_blob_equals_git(self, store: GitStore, data: bytes) -> None:
        oid = store.write("blob", data)
        assert oid == told(store, "hash-object", "--stdin", data=data)
        assert git(store, "cat-file", "blob", oid) == data
        assert store.read(oid) == ("blob", data)
        assert store.write("blob", data) == oid
        assert store.contains(oid)

    def test_tree_equals_git(self, store: GitStore) -> None:
        blob = store.write("blob", b"x")
        inner = store.write("tree", format_tree([TreeEntry("z", MODE_FILE, blob)]))
        entries = [
            TreeEntry("a.b", MODE_FILE, blob),
            TreeEntry("a", MODE_TREE, inner),
            TreeEntry("a0", 0o100755, blob),
            TreeEntry("ä", 0o120000, blob),
        ]
        oid = store.write("tree", format_tree(entries))
        lines = "".join(
            f"{e.mode:06o} {'tree' if e.is_tree else 'blob'} {e.oid}\t{e.name}\n" for e in entries
        )
        assert oid == told(store, "mktree", data=lines.encode())
        assert {e.name for e in parse_tree(store.read(oid)[1], len(oid) // 2)} == {e.name for e in entries}
        fsck(store)

    def test_commit_and_tag_equal_git(self, store: GitStore) -> None:
        commit = make_commit(store)
        tag = format_tag(Tag(commit, "commit", "v1", ADA, 1_700_000_000, "first\n", 90))
        oid = store.write("tag", tag)
        assert oid == told(store, "mktag", data=tag)
        store.update_ref("refs/tags/v1", oid, expected=None, message="tag")
        assert told(store, "rev-parse", "v1^{commit}") == commit
        assert git(store, "cat-file", "commit", commit) == store.read(commit)[1]
        fsck(store)

    def test_reads_what_git_wrote(self, store: GitStore) -> None:
        oid = told(store, "hash-object", "-w", "--stdin", data=b"from git")
        assert store.contains(oid)
        assert store.read(oid) == ("blob", b"from git")

    def test_missing_object(self, store: GitStore) -> None:
        absent = object_id("blob", b"never written", store.location.object_format)
        assert not store.contains(absent)
        for oid in (absent, absent[:10], "", "zz" * (len(absent) // 2)):
            assert not store.contains(oid)
            with pytest.raises(NotFoundError):
                store.read(oid)

    @pytest.mark.parametrize("damage", [b"", b"garbage", b"\x78\x01\x03\x00\x00\x00\x00\x01"])
    def test_damaged_object(self, store: GitStore, damage: bytes) -> None:
        oid = store.write("blob", b"to be damaged")
        path = store.location.common_dir / "objects" / oid[:2] / oid[2:]
        path.chmod(0o644)
        path.write_bytes(damage)
        with pytest.raises(CorruptError, match=oid):
            store.read(oid)

    def test_object_cut_short(self, store: GitStore) -> None:
        data = random.Random(2).randbytes(3000)  # noqa: S311
        oid = store.write("blob", data)
        path = store.location.common_dir / "objects" / oid[:2] / oid[2:]
        whole = path.read_bytes()
        path.chmod(0o644)
        for size in (1, 2, 10, 40, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:size])
            with pytest.raises(CorruptError, match=oid):
                store.read(oid)
        assert store.contains(oid)

    def test_a_good_copy_in_a_pack_wins_over_a_damaged_loose_one(self, store: GitStore) -> None:
        oid = store.write("blob", b"kept twice")
        store.write_pack([("blob", b"kept twice")])
        path = store.location.common_dir / "objects" / oid[:2] / oid[2:]
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:12])
        assert store.read(oid) == ("blob", b"kept twice")

    def test_object_under_a_wrong_name(self, store: GitStore) -> None:
        oid, other = store.write("blob", b"one"), store.write("blob", b"two")
        objects = store.location.common_dir / "objects"
        path = objects / oid[:2] / oid[2:]
        path.unlink()
        shutil.copy(objects / other[:2] / other[2:], path)
        with pytest.raises(CorruptError):
            store.read(oid)

    def test_large_blob(self, store: GitStore) -> None:
        data = random.Random(1).randbytes(5 * 1024 * 1024)  # noqa: S311
        oid = store.write("blob", data)
        assert store.read(oid) == ("blob", data)
        assert store.write_pack([("blob", data + b"1")]) == [
            told(store, "hash-object", "--stdin", data=data + b"1")
        ]
        fsck(store)

    def test_pack(self, store: GitStore) -> None:
        assert store.write_pack([]) == []
        objects: list[tuple[Kind, bytes]] = [("blob", b"%d" % n) for n in range(300)]
        objects += [("blob", b"7"), ("blob", b"")]
        ids = store.write_pack(objects)
        fmt = store.location.object_format
        assert ids == [object_id(kind, data, fmt) for kind, data in objects]
        packs = sorted((store.location.common_dir / "objects" / "pack").iterdir())
        assert [p.suffix for p in packs] == [".idx", ".pack"]
        git(store, "verify-pack", str(packs[0]))
        git(
            store, "index-pack", "--strict", "-o", str(store.location.common_dir / "check.idx"), str(packs[1])
        )
        assert (store.location.common_dir / "check.idx").read_bytes() == packs[0].read_bytes()
        for oid, content in zip(ids, objects, strict=True):
            assert store.read(oid) == content
        assert store.write_pack(objects) == ids
        fsck(store)

    def test_sees_what_others_packed(self, store: GitStore) -> None:
        tip: list[str] = []
        for number in range(20):
            tip = [make_commit(store, tip, f"{number}" * 500)]
        store.update_ref(LEDGER, tip[0], expected=None, message="x")
        names = told(store, "rev-list", "--objects", "--no-object-names", LEDGER).split()
        before = {oid: store.read(oid) for oid in names}
        for command in (("repack", "-adq"), ("gc", "-q", "--prune=now"), ("repack", "-adfq", "--depth=1")):
            git(store, *command)
            tip = [make_commit(store, tip, "again" + command[0] + str(len(command)))]
            assert {oid: store.read(oid) for oid in names} == before
            assert all(store.contains(oid) for oid in names)
        fsck(store)

    def test_sees_late_objects_after_a_miss(self, store: GitStore) -> None:
        data = b"written later"
        oid = object_id("blob", data, store.location.object_format)
        with pytest.raises(NotFoundError):
            store.read(oid)
        told(store, "hash-object", "-w", "--stdin", data=data)
        git(store, "repack", "-adq")
        pack = store.location.common_dir / "objects" / "pack"
        packed = git(store, "pack-objects", "-q", str(pack / "pack"), data=oid.encode() + b"\n")
        git(store, "prune-packed", "-q")
        assert packed
        assert store.read(oid) == ("blob", data)

    def test_threads(self, store: GitStore) -> None:
        problems: list[BaseException] = []

        def work(number: int) -> None:
            try:
                for step in range(20):
                    oid = store.write("blob", f"{number}-{step}".encode())
                    assert store.read(oid)[1] == f"{number}-{step}".encode()
                    store.update_ref(f"refs/gml/t{number}-{step}", oid, expected=None, message="t")
                    assert store.refs(f"refs/gml/t{number}-")
            except BaseException as exc:  # noqa: BLE001 - reported in the main thread
                problems.append(exc)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert problems == []
        assert len(store.refs("refs/gml/t")) == 80

    @pytest.mark.parametrize(("number", "words"), [(errno.EROFS, "read-only"), (errno.ENOSPC, "no space")])
    def test_failing_storage(
        self, store: GitStore, monkeypatch: pytest.MonkeyPatch, number: int, words: str
    ) -> None:
        """Permissions do not stop root, so the system calls are made to fail: open or write."""
        tip = make_commit(store)
        store.update_ref(LEDGER, tip, expected=None, message="x")
        config = (store.location.common_dir / "config").read_bytes()
        before = sorted(p for p in store.location.common_dir.rglob("*"))
        real_open, real_write = os.open, os.write

        def failing_open(path: Any, flags: int, *rest: Any, **named: Any) -> int:
            if number == errno.EROFS and flags & os.O_CREAT:
                raise OSError(number, os.strerror(number), path)
            return real_open(path, flags, *rest, **named)

        def failing_write(_fd: int, _data: Any) -> int:
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            patch.setattr(os, "open", failing_open)
            patch.setattr(os, "write", failing_write)
            with pytest.raises(StorageError, match=words) as caught:
                store.write("blob", b"does not fit")
            assert "\n" not in str(caught.value)
            with pytest.raises(StorageError, match=words):
                store.write_pack([("blob", b"does not fit")])
            with pytest.raises(StorageError, match=words):
                store.update_ref("refs/gml/other", tip, expected=None, message="x")
            patch.setattr(os, "write", real_write)
        after = sorted(p for p in store.location.common_dir.rglob("*") if p.is_file())
        assert after == [p for p in before if p.is_file()]
        assert (store.location.common_dir / "config").read_bytes() == config
        assert store.read(store.write("blob", b"does not fit"))[1] == b"does not fit"


class FailingStore:
    """A store that passes everything on, and raises at chosen calls.

    Args:
        inner: the store that does the work.
        failures: method name -> {number of the call, counted from 1: error to raise}. The error is raised
            before the inner store is called; with `after=True` the inner call happens first, as when the
            answer of a storage got lost.
        after: see above.

    Attributes:
        calls: how often each method was called.
    """

    def __init__(
        self, inner: GitStore, failures: Mapping[str, Mapping[int, Exception]], *, after: bool = False
    ) -> None:
        self._inner = inner
        self._failures = failures
        self._after = after
        self.calls: dict[str, int] = {}

    def _call(self, method: str, *args: Any, **named: Any) -> Any:
        number = self.calls[method] = self.calls.get(method, 0) + 1
        error = self._failures.get(method, {}).get(number)
        if error is not None and not self._after:
            raise error
        answer = getattr(self._inner, method)(*args, **named)
        if error is not None:
            raise error
        return answer

    @property
    def location(self) -> Location:
        """See `GitStore.location`."""
        return self._inner.location

    def read(self, oid: str) -> tuple[Kind, bytes]:
        """See `GitStore.read`."""
        return self._call("read", oid)  # type: ignore[no-any-return]

    def contains(self, oid: str) -> bool:
        """See `GitStore.contains`."""
        return self._call("contains", oid)  # type: ignore[no-any-return]

    def write(self, kind: Kind, data: bytes) -> str:
        """See `GitStore.write`."""
        return self._call("write", kind, data)  # type: ignore[no-any-return]

    def write_pack(self, objects: Sequence[tuple[Kind, bytes]]) -> list[str]:
        """See `GitStore.write_pack`."""
        return self._call("write_pack", objects)  # type: ignore[no-any-return]

    def ref(self, name: str) -> str | None:
        """See `GitStore.ref`."""
        return self._call("ref", name)  # type: ignore[no-any-return]

    def refs(self, prefix: str) -> dict[str, str]:
        """See `GitStore.refs`."""
        return self._call("refs", prefix)  # type: ignore[no-any-return]

    def update_ref(self, name: str, new: str, *, expected: str | None, message: str) -> None:
        """See `GitStore.update_ref`."""
        self._call("update_ref", name, new, expected=expected, message=message)

    def delete_ref(self, name: str, *, expected: str) -> None:
        """See `GitStore.delete_ref`."""
        self._call("delete_ref", name, expected=expected)

    def head(self) -> Head:
        """See `GitStore.head`."""
        return self._call("head")  # type: ignore[no-any-return]

    def resolve(self, revision: str) -> str | None:
        """See `GitStore.resolve`."""
        return self._call("resolve", revision)  # type: ignore[no-any-return]

    def is_ancestor(self, ancestor: str, tip: str) -> bool:
        """See `GitStore.is_ancestor`."""
        return self._call("is_ancestor", ancestor, tip)  # type: ignore[no-any-return]

    def config(self, key: str) -> str | None:
        """See `GitStore.config`."""
        return self._call("config", key)  # type: ignore[no-any-return]

    def set_config(self, key: str, value: str | None) -> None:
        """See `GitStore.set_config`."""
        self._call("set_config", key, value)

    def identity(self) -> Identity | None:
        """See `GitStore.identity`."""
        return self._call("identity")  # type: ignore[no-any-return]

    def remotes(self) -> dict[str, str]:
        """See `GitStore.remotes`."""
        return self._call("remotes")  # type: ignore[no-any-return]

    def close(self) -> None:
        """See `GitStore.close`."""
        self._call("close")
