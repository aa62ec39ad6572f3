"""What every blob store must do, as a suite that anybody can run over an adapter, and a failing fake.

class TestMyStore(BlobStoreSuite):
    @pytest.fixture
    def store(self, tmp_path):
        return MyStore(...)

    def overwrite(self, store, digest, data):
        ...  # replace the stored bytes behind the back of the store
"""

# ruff: noqa: D102 - the name of a test says what it holds
from __future__ import annotations

import hashlib
import io
import os
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, BinaryIO

import pytest

from gml.cas import transfer
from gml.cas.port import SMALL, Blob, BlobStore
from gml.domain.errors import CorruptError, InvalidValueError, NotFoundError, StorageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from gml.domain.errors import GmlError

ABSENT = "0" * 64
LARGE = 20_000_000
BAD_DIGESTS = (
    "",
    "ab",
    "A" * 64,
    "g" * 64,
    "a" * 63,
    "a" * 65,
    "a" * 64 + "\n",
    "../" * 21 + "a",
    "aa/../../" + "a" * 55,
    "/" + "a" * 63,
    "\0" + "a" * 63,
    "\u0661" * 64,
)


def sha256(data: bytes) -> str:
    """Return the digest that a store must give `data`."""
    return hashlib.sha256(data).hexdigest()


def large_bytes() -> bytes:
    """Return 20 MB whose every 64 KiB differ."""
    return b"".join(number.to_bytes(8, "big") * 1250 for number in range(LARGE // 10_000))


def partialmethod_of(wrapper: Callable[..., Any], method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that calls `wrapper` with `method` and its arguments."""

    def call(self: Any, *args: Any) -> Any:
        return wrapper(method, self, *args)

    return call


class _ShrinkingStream(io.RawIOBase):
    """Gives some bytes, then fails as a broken pipe or a vanished share does."""

    def __init__(self) -> None:
        super().__init__()
        self._left = 3

    def read(self, size: int = -1, /) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise OSError(5, "Input/output error")
        return b"x" * min(size if size > 0 else 1000, 1000)


class BlobStoreSuite:
    """The conformance suite: subclass it, give a `store` fixture and `overwrite`.

    Attributes:
        in_memory: the store keeps its objects in this process, so its memory is not bounded.
        memory: bytes that may be taken while 100 MB are moved.
    """

    in_memory = False
    memory = 40_000_000

    @pytest.fixture
    def store(self) -> BlobStore:
        """Return an empty store."""
        raise NotImplementedError

    def overwrite(self, store: BlobStore, digest: str, data: bytes) -> None:
        """Replace the stored bytes of `digest` behind the back of the store."""
        raise NotImplementedError

    def test_is_a_blob_store(self, store: BlobStore) -> None:
        assert isinstance(store, BlobStore)

    @pytest.mark.parametrize("data", [b"", b"hello", bytes(range(256)) * 5000], ids=["empty", "short", "1MB"])
    def test_round_trip(self, store: BlobStore, tmp_path: Path, data: bytes) -> None:
        source = tmp_path / "source"
        source.write_bytes(data)
        expected = Blob(sha256(data), len(data))
        assert store.put_bytes(data) == expected
        assert store.put_file(source) == expected
        assert store.put_file(str(source)) == expected
        assert store.put_stream(io.BytesIO(data)) == expected
        assert store.read(expected.digest) == data
        assert store.size(expected.digest) == len(data)
        assert store.contains(expected.digest)
        assert store.verify(expected.digest)
        assert list(store.digests()) == [expected.digest]
        with store.open(expected.digest) as file:
            assert file.read() == data

    def test_small_blob_can_be_seeked(self, store: BlobStore) -> None:
        blob = store.put_bytes(b"0123456789")
        with store.open(blob.digest) as file:
            file.seek(5)
            assert file.read(2) == b"56"

    def test_stream_is_taken_from_its_position_and_left_open(self, store: BlobStore) -> None:
        stream = io.BytesIO(b"headbody")
        stream.seek(4)
        assert store.put_stream(stream) == Blob(sha256(b"body"), 4)
        assert not stream.closed

    def test_large_blob(self, store: BlobStore, tmp_path: Path) -> None:
        data = large_bytes()
        source = tmp_path / "large"
        source.write_bytes(data)
        blob = store.put_file(source)
        assert blob == Blob(sha256(data), LARGE)
        assert store.put_stream(io.BytesIO(data)) == blob
        with store.open(blob.digest) as file:
            assert file.read(10) == data[:10]
            assert file.read() == data[10:]
        store.get_file(blob.digest, tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == data

    def test_same_content_from_many_threads(self, store: BlobStore, tmp_path: Path) -> None:
        data = large_bytes()[:2_000_000]
        source = tmp_path / "source"
        source.write_bytes(data)
        with ThreadPoolExecutor(8) as pool:
            blobs = list(pool.map(lambda _: store.put_file(source), range(16)))
            assert set(blobs) == {Blob(sha256(data), len(data))}
            assert set(pool.map(store.read, [blobs[0].digest] * 16)) == {data}
        assert list(store.digests()) == [blobs[0].digest]

    def test_large_reads_from_many_threads_do_not_mix(self, store: BlobStore) -> None:
        data = large_bytes()
        digest = store.put_bytes(data).digest
        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(store.verify, [digest] * 8))

    def test_digests_are_sorted_and_complete(self, store: BlobStore) -> None:
        digests = {store.put_bytes(str(number).encode()).digest for number in range(40)}
        assert list(store.digests()) == sorted(digests)

    def test_empty_store_has_no_digests(self, store: BlobStore) -> None:
        assert list(store.digests()) == []

    def test_absent_blob(self, store: BlobStore, tmp_path: Path) -> None:
        assert not store.contains(ABSENT)
        calls: list[Callable[[str], object]] = [store.open, store.read, store.size, store.verify]
        for call in calls:
            with pytest.raises(NotFoundError, match=ABSENT[:12]):
                call(ABSENT)
        with pytest.raises(NotFoundError):
            store.get_file(ABSENT, tmp_path / "target")
        assert list(tmp_path.glob("target*")) == []
        store.delete(ABSENT)

    def test_deleted_blob_is_gone_and_can_come_back(self, store: BlobStore) -> None:
        digest = store.put_bytes(b"once").digest
        store.delete(digest)
        assert not store.contains(digest)
        with pytest.raises(NotFoundError):
            store.read(digest)
        store.put_bytes(b"once")
        assert store.read(digest) == b"once"

    @pytest.mark.parametrize("digest", BAD_DIGESTS)
    def test_what_is_no_digest_is_refused(self, store: BlobStore, tmp_path: Path, digest: str) -> None:
        calls: list[Callable[[str], object]] = [
            store.open,
            store.read,
            store.size,
            store.verify,
            store.contains,
            store.delete,
        ]
        for call in calls:
            with pytest.raises(InvalidValueError, match="not a sha256 digest"):
                call(digest)
        with pytest.raises(InvalidValueError):
            store.get_file(digest, tmp_path / "target")
        assert not (tmp_path / "target").exists()

    @pytest.mark.parametrize("damage", ["flipped", "truncated", "grown", "emptied"])
    def test_damaged_small_blob_is_found(self, store: BlobStore, tmp_path: Path, damage: str) -> None:
        data = b"precious" * 1000
        self._check_damage(store, tmp_path, data, damage)

    @pytest.mark.parametrize("damage", ["flipped", "truncated", "grown"])
    def test_damaged_large_blob_is_found(self, store: BlobStore, tmp_path: Path, damage: str) -> None:
        self._check_damage(store, tmp_path, large_bytes(), damage)

    def _check_damage(self, store: BlobStore, tmp_path: Path, data: bytes, damage: str) -> None:
        digest = store.put_bytes(data).digest
        bad = {
            "flipped": data[:-1] + bytes([data[-1] ^ 1]),
            "truncated": data[:-1],
            "grown": data + b"\0",
            "emptied": b"",
        }[damage]
        self.overwrite(store, digest, bad)
        assert not store.verify(digest)
        with pytest.raises(CorruptError, match=digest[:12]):
            store.read(digest)
        target = tmp_path / "target"
        target.write_bytes(b"what was there")
        with pytest.raises(CorruptError):
            store.get_file(digest, target)
        assert target.read_bytes() == b"what was there"
        assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []
        if damage != "flipped":
            store.put_bytes(data)
            assert store.verify(digest), "a put must replace an object of the wrong size"

    def test_large_damage_is_raised_by_the_read_that_ends(self, store: BlobStore) -> None:
        data = large_bytes()
        digest = store.put_bytes(data).digest
        self.overwrite(store, digest, data[:-1] + bytes([data[-1] ^ 1]))
        assert len(data) > SMALL
        with store.open(digest) as file:
            assert file.read(1000) == data[:1000]
            with pytest.raises(CorruptError):
                transfer.copy_hashing(file.read, None)

    def test_get_file_replaces_and_makes_folders(self, store: BlobStore, tmp_path: Path) -> None:
        digest = store.put_bytes(b"new").digest
        target = tmp_path / "a" / "b" / ("n" * 250)
        store.get_file(digest, target)
        target.write_bytes(b"old")
        store.get_file(digest, target)
        assert target.read_bytes() == b"new"
        assert os.access(target, os.W_OK)
        assert [path.name for path in target.parent.iterdir()] == [target.name]

    def test_get_file_onto_a_folder(self, store: BlobStore, tmp_path: Path) -> None:
        digest = store.put_bytes(b"new").digest
        target = tmp_path / "folder"
        target.mkdir()
        with pytest.raises(StorageError, match="folder"):
            store.get_file(digest, target)
        assert target.is_dir()

    def test_source_that_is_no_file(self, store: BlobStore, tmp_path: Path) -> None:
        with pytest.raises(NotFoundError, match="no such file"):
            store.put_file(tmp_path / "absent")
        with pytest.raises(UsageError, match="not a regular file"):
            store.put_file(tmp_path)
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(UsageError, match="not a regular file"):
            store.put_file(tmp_path / "pipe")
        assert list(store.digests()) == []

    def test_many_files_at_once(self, store: BlobStore, tmp_path: Path) -> None:
        contents = [b"", b"same", b"same", b"y" * 300_000, *(str(number).encode() for number in range(50))]
        paths = []
        for number, content in enumerate(contents):
            paths.append(tmp_path / f"file {number}")
            paths[-1].write_bytes(content)
        read: list[int] = []
        blobs = store.put_files([*paths[:2], tmp_path / "absent", *paths[2:], tmp_path], read.append)
        assert isinstance(blobs.pop(2), NotFoundError)
        assert isinstance(blobs.pop(), UsageError)
        assert blobs == [Blob(sha256(content), len(content)) for content in contents]
        assert sum(read) == sum(map(len, contents))
        for content in contents:
            assert store.read(sha256(content)) == content
            assert store.size(sha256(content)) == len(content)
            assert store.verify(sha256(content))
        assert list(store.digests()) == sorted({sha256(content) for content in contents})
        assert store.put_files(paths) == blobs
        assert store.put_files([]) == []

    @pytest.mark.parametrize("change", ["shortened", "grown", "rewritten"])
    def test_source_that_changes_while_it_is_read(
        self, store: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
    ) -> None:
        source = tmp_path / "checkpoint.pt"
        source.write_bytes(large_bytes())
        os.utime(source, (1, 1))
        changed: list[bool] = []

        def and_then_change(read: Callable[..., Any], *args: Any) -> Any:
            piece = read(*args)
            if not changed:
                changed.append(True)
                with source.open("r+b") as file:
                    if change == "shortened":
                        file.truncate(5_000_000)
                    else:
                        file.seek(0, os.SEEK_END if change == "grown" else os.SEEK_SET)
                        file.write(b"more")
            return piece

        for name in ("read", "readinto"):
            monkeypatch.setattr(
                transfer.SourceFile,
                name,
                partialmethod_of(and_then_change, getattr(transfer.SourceFile, name)),
            )
        with pytest.raises(StorageError, match="changed while it was read"):
            store.put_file(source)
        assert list(store.digests()) == []

    def test_stream_that_fails(self, store: BlobStore) -> None:
        with pytest.raises(StorageError):
            store.put_stream(_ShrinkingStream())  # type: ignore[arg-type]
        assert list(store.digests()) == []

    def test_memory_is_bounded(self, store: BlobStore, tmp_path: Path) -> None:
        """Moving 100 MB takes less than `memory`, unless the store itself lies in memory."""
        if self.in_memory:
            pytest.skip("the store lies in memory")
        source = tmp_path / "large"
        with source.open("wb") as file:
            file.truncate(100_000_000)
        tracemalloc.start()
        try:
            digest = store.put_file(source).digest
            store.get_file(digest, tmp_path / "back")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < self.memory


class FailingBlobStore:
    """A store whose n-th call raises, to see what its users do then.

    Args:
        inner: the store that does the work.
        fail_at: which call raises, counted from 1 over all methods; 0 never.
        error: what to raise; a `StorageError` without one.
        sticky: whether every later call raises too.

    Example:
        >>> store = FailingBlobStore(open_store("memory://x"), fail_at=2)
        >>> store.put_bytes(b"fine"); store.put_bytes(b"raises")
    """

    def __init__(
        self, inner: BlobStore, fail_at: int, error: BaseException | None = None, *, sticky: bool = False
    ) -> None:
        self.inner = inner
        self.fail_at = fail_at
        self.error = error
        self.sticky = sticky
        self.calls: list[str] = []

    def _call(self, name: str) -> BlobStore:
        self.calls.append(name)
        number = len(self.calls)
        if self.fail_at and (number == self.fail_at or (self.sticky and number > self.fail_at)):
            raise self.error or StorageError(f"planned failure of call {number} ({name})")
        return self.inner

    def put_file(self, path: str | os.PathLike[str]) -> Blob:
        """Store a file, or fail."""
        return self._call("put_file").put_file(path)

    def put_files(
        self, paths: Sequence[str | os.PathLike[str]], progress: Callable[[int], object] | None = None
    ) -> list[Blob | GmlError]:
        """Store files, or fail."""
        return self._call("put_files").put_files(paths, progress)

    def put_bytes(self, data: bytes) -> Blob:
        """Store bytes, or fail."""
        return self._call("put_bytes").put_bytes(data)

    def put_stream(self, stream: BinaryIO) -> Blob:
        """Store a stream, or fail."""
        return self._call("put_stream").put_stream(stream)

    def open(self, digest: str) -> BinaryIO:
        """Open a blob, or fail."""
        return self._call("open").open(digest)

    def read(self, digest: str) -> bytes:
        """Read a blob, or fail."""
        return self._call("read").read(digest)

    def get_file(self, digest: str, target: Path) -> None:
        """Write a blob to a file, or fail."""
        self._call("get_file").get_file(digest, target)

    def contains(self, digest: str) -> bool:
        """Look for a blob, or fail."""
        return self._call("contains").contains(digest)

    def size(self, digest: str) -> int:
        """Return the length of a blob, or fail."""
        return self._call("size").size(digest)

    def delete(self, digest: str) -> None:
        """Remove a blob, or fail."""
        self._call("delete").delete(digest)

    def digests(self) -> Iterator[str]:
        """Yield all digests, or fail."""
        return self._call("digests").digests()

    def verify(self, digest: str) -> bool:
        """Verify a blob, or fail."""
        return self._call("verify").verify(digest)
