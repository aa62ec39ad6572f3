"""The way that object stores are used: no rename, and nothing visible before the commit."""

import hashlib

import fsspec
import pytest
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from gml.cas import remote as remote_module
from gml.cas.retry import Retry
from gml.cas.store import FsspecStore
from gml.domain.errors import StorageError
from gml.testing.blob_store import LARGE, BlobStoreSuite, large_bytes

OBJECTS: dict[str, bytes] = {}


class UploadFile(AbstractBufferedFile):
    """An upload in parts that shows when it is committed, as in S3."""

    def _initiate_upload(self):
        self.parts = []

    def _upload_chunk(self, final=False):
        self.parts.append(self.buffer.getvalue())
        if final and self.autocommit:
            self.commit()
        return True

    def commit(self):
        OBJECTS[self.path] = b"".join(self.parts)

    def discard(self):
        self.parts = []


class BucketFileSystem(AbstractFileSystem):
    protocol = "bucket"
    cachable = False

    def _open(self, path, mode="rb", block_size=None, autocommit=True, **kwargs):
        assert mode == "wb"
        return UploadFile(self, path, mode, block_size or 5 << 20, autocommit, **kwargs)

    def info(self, path, **kwargs):
        path = self._strip_protocol(path)
        if path not in OBJECTS:
            raise FileNotFoundError(path)
        return {"name": path, "size": len(OBJECTS[path]), "type": "file"}

    def ls(self, path, detail=True, **kwargs):
        start = self._strip_protocol(path) + "/"
        names = {start + name[len(start) :].split("/")[0] for name in OBJECTS if name.startswith(start)}
        if not names:
            raise FileNotFoundError(path)
        sizes = {name: len(OBJECTS[name]) if name in OBJECTS else 0 for name in sorted(names)}
        kinds = {name: "file" if name in OBJECTS else "directory" for name in names}
        entries = [{"name": name, "size": size, "type": kinds[name]} for name, size in sizes.items()]
        return entries if detail else list(sizes)

    def cat_file(self, path, start=None, end=None, **kwargs):
        self.info(path)
        return OBJECTS[self._strip_protocol(path)][start:end]

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        OBJECTS[self._strip_protocol(path)] = bytes(value)

    def rm_file(self, path):
        self.info(path)
        del OBJECTS[self._strip_protocol(path)]


@pytest.fixture
def bucket(monkeypatch):
    fsspec.register_implementation("bucket", BucketFileSystem, clobber=True)
    monkeypatch.setattr(remote_module, "OBJECT_STORES", frozenset({"bucket"}))
    OBJECTS.clear()
    return FsspecStore("bucket://name/prefix", retry=Retry(attempts=3, sleep=lambda _seconds: None))


class TestObjectStore(BlobStoreSuite):
    in_memory = True

    @pytest.fixture
    def store(self, bucket):
        return bucket

    def overwrite(self, store, digest, data):
        OBJECTS[f"name/prefix/sha256/{digest[:2]}/{digest}"] = data


def test_nothing_but_the_object_is_ever_made(bucket, monkeypatch):
    seen = []
    write = UploadFile.write

    def look_and_write(self, data):
        seen.append(len(OBJECTS))
        return write(self, data)

    monkeypatch.setattr(UploadFile, "write", look_and_write)
    blob = bucket.put_bytes(large_bytes())
    assert set(seen) == {0}
    assert list(OBJECTS) == [f"name/prefix/sha256/{blob.digest[:2]}/{blob.digest}"]
    seen.clear()
    assert bucket.put_bytes(large_bytes()) == blob
    assert seen == [], "what is there is not sent again"


def test_errors_of_a_client_library_become_one_line(bucket, monkeypatch):
    class ClientError(Exception):
        pass

    def fail(*_args, **_kwargs):
        raise ClientError("SlowDown: reduce your request rate")

    digest = bucket.put_bytes(b"x").digest
    monkeypatch.setattr(BucketFileSystem, "cat_file", fail)
    with pytest.raises(StorageError, match="cannot read bucket://name/prefix: ClientError: SlowDown"):
        bucket.read(digest)
    monkeypatch.setattr(BucketFileSystem, "pipe_file", fail)
    with pytest.raises(StorageError, match="cannot write"):
        bucket.put_bytes(b"y")
    assert list(bucket.digests()) == [digest]


def test_upload_that_breaks_shows_nothing(bucket, monkeypatch):
    uploads = []
    upload = UploadFile._upload_chunk

    def break_at_third(self, final=False):
        uploads.append(final)
        if len(uploads) >= 3:
            raise ConnectionResetError(104, "Connection reset by peer")
        return upload(self, final)

    monkeypatch.setattr(UploadFile, "_upload_chunk", break_at_third)
    with pytest.raises(StorageError, match="the connection broke"):
        bucket.put_bytes(large_bytes())
    assert OBJECTS == {}
    monkeypatch.undo()


def test_cut_range_is_found(bucket, monkeypatch):
    digest = bucket.put_bytes(large_bytes()).digest
    assert digest == hashlib.sha256(large_bytes()).hexdigest()
    assert bucket.size(digest) == LARGE
    cat = BucketFileSystem.cat_file

    def cut(self, path, start=None, end=None, **kwargs):
        return cat(self, path, start, end)[:100_000]

    monkeypatch.setattr(BucketFileSystem, "cat_file", cut)
    assert bucket.verify(digest), "short answers are asked again from where they ended"
