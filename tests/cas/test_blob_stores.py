"""The conformance suite over the two stores that need no network."""

import secrets

import fsspec
import pytest

from gml.cas.local import LocalStore
from gml.cas.names import Kind, stored_name
from gml.cas.port import BlobStore, relative_name
from gml.cas.store import FsspecStore
from gml.domain.errors import StorageError
from gml.testing.blob_store import BlobStoreSuite, FailingBlobStore


class TestLocalStore(BlobStoreSuite):
    @pytest.fixture
    def store(self, tmp_path):
        return LocalStore(tmp_path / "store")

    def overwrite(self, store, digest, data):
        path = store.root / relative_name(digest)
        for other in (path, path.with_suffix(".zst"), store.root / stored_name(Kind.RECIPE, digest)):
            other.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


class TestMemory(BlobStoreSuite):
    in_memory = True

    @pytest.fixture
    def store(self):
        root = f"memory://{secrets.token_hex(8)}"
        yield FsspecStore(root)
        memory = fsspec.filesystem("memory")
        if memory.exists(root):
            memory.rm(root, recursive=True)

    def overwrite(self, store, digest, data):
        fsspec.filesystem("memory").pipe_file(f"{store.url}/{relative_name(digest)}", data)


class TestFsspecOverFolder(BlobStoreSuite):
    """The same class over real files, as sftp or smb would be."""

    @pytest.fixture
    def store(self, tmp_path):
        return FsspecStore(f"file://{tmp_path}/store")

    def overwrite(self, store, digest, data):
        fsspec.filesystem("file").pipe_file(f"{store.url}/{relative_name(digest)}", data)


def test_failing_store_fails_at_its_call_and_not_after(tmp_path):
    store = FailingBlobStore(LocalStore(tmp_path), fail_at=2)
    assert isinstance(store, BlobStore)
    digest = store.put_bytes(b"one").digest
    with pytest.raises(StorageError, match=r"call 2 \(read\)"):
        store.read(digest)
    assert store.read(digest) == b"one"
    assert store.calls == ["put_bytes", "read", "read"]


def test_failing_store_sticks_with_the_error_it_was_given(tmp_path):
    store = FailingBlobStore(LocalStore(tmp_path), 1, KeyboardInterrupt(), sticky=True)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            store.contains("0" * 64)
    never = FailingBlobStore(LocalStore(tmp_path), 0)
    digest = never.put_bytes(b"x").digest
    assert never.verify(digest)
    assert never.size(digest) == 1
    assert list(never.digests()) == [digest]
