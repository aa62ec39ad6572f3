"""Chunked, packed and compressed files: shared, restored by plain tools, and never wrong."""

import hashlib
import io
import os
import re
import shutil
import sqlite3
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from gml.cas import local
from gml.cas.local import LARGE, LocalStore
from gml.cas.names import Kind, dump_recipe, parse_name, stored_name
from gml.cas.port import Blob, NameStore
from gml.cas.transfer import SourceFile, copy_hashing
from gml.domain.errors import CorruptError, InvalidValueError, NotFoundError, StorageError, UsageError
from gml.testing.blob_store import BlobStoreSuite

DOCS = Path(__file__).parents[2] / "docs" / "format.md"


def random_bytes(size, seed=0):
    return np.random.default_rng(seed).bytes(size)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def stored_bytes(store):
    return sum(stored.size for folder in ("sha256", "packs", "recipes") for stored in store.names(folder))


@pytest.fixture(scope="module")
def model():
    return random_bytes(18_000_000)


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "store")


def write(path, data):
    path.write_bytes(data)
    return path


def damage(path, change):
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(change(data))


def flip(at):
    return lambda data: data[:at] + bytes([data[at] ^ 32]) + data[at + 1 :]


class TestPackedStore(BlobStoreSuite):
    """The conformance suite, with every blob of more than 4 MB made of chunks."""

    @pytest.fixture
    def store(self, tmp_path, monkeypatch):
        monkeypatch.setattr(local, "LARGE", 4 << 20)
        return LocalStore(tmp_path / "store")

    def overwrite(self, store, digest, data):
        path = store.root / stored_name(Kind.BLOB, digest)
        for kind in (Kind.COMPRESSED, Kind.RECIPE, Kind.BLOB):
            (store.root / stored_name(kind, digest)).unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def test_a_large_file_is_chunks_in_packs_and_a_recipe(store, tmp_path, model):
    blob = store.put_file(write(tmp_path / "model", model))
    assert blob == Blob(sha256(model), len(model))
    kinds = [parse_name(stored.name).kind for stored in store.names_of(blob.digest)]
    assert kinds == [Kind.PACK, Kind.INDEX, Kind.RECIPE]
    assert store.put_stream(io.BytesIO(model)) == blob
    assert stored_bytes(store) < len(model) * 1.01
    assert list((store.root / "tmp").iterdir()) == []


def test_a_changed_file_costs_its_change(store, tmp_path, model):
    store.put_file(write(tmp_path / "one", model))
    before = stored_bytes(store)
    changed = model[:9_000_000] + b"a few more rows" + model[9_000_000:]
    blob = store.put_file(write(tmp_path / "two", changed))
    assert stored_bytes(store) - before < 2_000_000
    assert store.read(blob.digest) == changed
    store.get_file(blob.digest, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == changed


@pytest.mark.skipif(shutil.which("zstd") is None, reason="needs the zstd command")
def test_plain_tools_restore_every_file(store, tmp_path, model):
    script = re.search(r"<!-- file: restore.sh -->\n```sh\n(.*?)```", DOCS.read_text(), re.DOTALL)
    (tmp_path / "restore.sh").write_text(script[1])
    table = b"0.25,red\n" * 1_900_000
    contents = [b"", b"plain", b"text " * 10_000, model, model[:5] + model, table]
    paths = [write(tmp_path / str(number), data) for number, data in enumerate(contents)]
    blobs = store.put_files(paths)
    blobs += [store.put_bytes(data) for data in (b"single", b"single text " * 1000)]
    contents += [b"single", b"single text " * 1000]
    suffixes = {Path(stored.name).suffix for stored in store.names("sha256")}
    assert suffixes == {"", ".zst"}
    for blob, data in zip(blobs, contents, strict=True):
        said = subprocess.run(
            ["sh", tmp_path / "restore.sh", store.root, blob.digest], capture_output=True, check=True
        )
        assert said.stderr == b""
        assert sha256(said.stdout) == blob.digest == sha256(data)


def test_a_large_file_can_be_seeked_and_every_chunk_is_checked(store, model):
    digest = store.put_bytes(model).digest
    with store.open(digest) as file:
        assert file.seekable()
        for at in (17_000_000, 3, 9_999_999, len(model) - 5):
            assert file.seek(at) == at
            assert file.read(5) == model[at : at + 5]
        file.seek(-4, os.SEEK_END)
        assert file.read() == model[-4:]
        assert file.seek(len(model) + 10) == len(model) + 10
        assert file.read(1) == b""
        with pytest.raises(ValueError, match="negative"):
            file.seek(-1)
    (pack,) = [stored.name for stored in store.names("packs") if not stored.name.endswith(".idx")]
    damage(store.root / pack, flip(9_000_000))
    with store.open(digest) as file:
        assert file.read(10) == model[:10]
        file.seek(9_000_000)
        with pytest.raises(CorruptError):
            file.read(10)


@pytest.mark.parametrize("where", [0, 1, 4095, 128 << 10, 9_000_000, -1])
def test_each_damaged_place_of_a_pack_is_found(store, tmp_path, model, where):
    digest = store.put_bytes(model).digest
    (pack,) = [stored.name for stored in store.names("packs") if not stored.name.endswith(".idx")]
    damage(store.root / pack, flip(where % len(model)))
    assert not store.verify(digest)
    with pytest.raises(CorruptError, match=digest[:12]):
        store.read(digest) if where else store.get_file(digest, tmp_path / "out")
    with pytest.raises(CorruptError), store.open(digest) as file:
        file.read()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("length", [0, 1, 1_000_000, -1])
def test_a_cut_pack_is_found_and_a_put_stores_its_blobs_again(store, model, length):
    digest = store.put_bytes(model).digest
    (pack,) = [stored.name for stored in store.names("packs") if not stored.name.endswith(".idx")]
    damage(store.root / pack, lambda data: data[:length])
    with pytest.raises((CorruptError, NotFoundError), match=digest[:12]):
        store.read(digest)
    assert store.put_bytes(model).digest == digest
    assert store.verify(digest)


@pytest.mark.parametrize("change", [flip(20), flip(200), lambda data: data[:-1], lambda data: b""])
def test_a_damaged_recipe_is_found_and_replaced_by_a_put(store, model, change):
    digest = store.put_bytes(model).digest
    damage(store.root / stored_name(Kind.RECIPE, digest), change)
    with pytest.raises(CorruptError, match=digest[:12]):
        store.read(digest)
    store.put_bytes(model)
    assert store.verify(digest)


@pytest.mark.parametrize("change", [flip(20), flip(200), lambda data: data[:-1], lambda data: b""])
def test_a_damaged_index_hides_its_blobs_until_they_are_put_again(store, model, change):
    digest = store.put_bytes(model).digest
    (index,) = [stored.name for stored in store.names("packs") if stored.name.endswith(".idx")]
    damage(store.root / index, change)
    fresh = LocalStore(store.root, store.root / "another cache")
    with pytest.raises(NotFoundError, match=digest[:12]):
        fresh.read(digest)
    fresh.put_bytes(model)
    assert fresh.verify(digest)


def test_a_recipe_for_other_content_is_never_believed(store, tmp_path, model):
    store.put_bytes(model)
    other = model[::-1]
    wrong = sha256(other)
    recipe = store.shelf.recipe(sha256(model))
    name = stored_name(Kind.RECIPE, wrong)
    store.adopt_name(name, io.BytesIO(dump_recipe(recipe.size, recipe.chunks)))
    with pytest.raises(CorruptError, match=wrong[:12]):
        store.read(wrong)
    with pytest.raises(CorruptError, match=wrong[:12]):
        store.get_file(wrong, tmp_path / "out")
    with store.open(wrong) as file:
        file.seek(100)
        with pytest.raises(CorruptError, match=wrong[:12]):
            file.read(1)
    with store.open(wrong) as file, pytest.raises(CorruptError, match=wrong[:12]):
        copy_hashing(file.read, None)


@pytest.mark.parametrize("text", [b"compressible " * 5000, b"plain"])
def test_a_damaged_loose_blob_is_replaced_by_a_put_where_that_can_be_seen(store, text):
    digest = store.put_bytes(text).digest
    (stored,) = store.names("sha256")
    damage(store.root / stored.name, lambda data: data[:-1])
    assert not store.verify(digest)
    store.put_bytes(text)
    assert store.verify(digest)


def test_many_small_files_are_one_pack_with_few_syncs(store, tmp_path, monkeypatch):
    store.put_bytes(b"the folders are there")
    paths = [write(tmp_path / f"{number}.json", b'{"row": %d}' % number * 50) for number in range(500)]
    syncs = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (syncs.append(descriptor), fsync(descriptor)))
    blobs = store.put_files(paths)
    assert len(syncs) < 12
    assert len(list(store.names("packs"))) == 2
    for path, blob in zip(paths, blobs, strict=True):
        assert store.read(blob.digest) == path.read_bytes()


def test_the_same_file_again_is_not_read(store, tmp_path, model, monkeypatch):
    path = write(tmp_path / "model", model)
    os.utime(path, (1_000_000, 1_000_000.5))
    blob = store.put_file(path)
    # Only the ctime is of now: what changed in this second could change again unseen.
    assert store.catalog.recall_files([path.stat()]) == {}
    monkeypatch.setattr(local.time, "time_ns", lambda: path.stat().st_ctime_ns + 10_000_000_000)
    assert store.put_file(path) == blob
    reads = []
    readinto = SourceFile.readinto
    monkeypatch.setattr(SourceFile, "readinto", lambda self, view: (reads.append(1), readinto(self, view))[1])
    assert store.put_file(path) == blob
    assert reads == []
    path.write_bytes(model[::-1])
    assert store.put_file(path).digest == sha256(model[::-1])
    assert reads


def test_a_known_file_is_read_again_where_its_blob_has_gone(store, tmp_path, model, monkeypatch):
    path = write(tmp_path / "model", model)
    monkeypatch.setattr(local.time, "time_ns", lambda: path.stat().st_ctime_ns + 10_000_000_000)
    digest = store.put_file(path).digest
    assert list(store.catalog.recall_files([path.stat()]).values()) == [(digest, len(model))]
    for stored in list(store.names("packs")):
        store.delete_name(stored.name)
    assert store.put_file(path).digest == digest
    assert store.verify(digest)


def test_a_store_is_copied_name_by_name(store, tmp_path, model):
    assert isinstance(store, NameStore)
    blobs = [store.put_bytes(model), store.put_bytes(b"text " * 5000), store.put_bytes(b"x")]
    paths = [write(tmp_path / f"{number}", b"%d" % number) for number in range(20)]
    blobs += store.put_files(paths)
    other = LocalStore(tmp_path / "other")
    for blob in blobs:
        for stored in store.names_of(blob.digest):
            name = parse_name(stored.name)
            if name.kind is Kind.INDEX:
                continue
            index = store.read_index(name.digest) if name.kind is Kind.PACK else None
            with store.open_name(stored.name) as file:
                assert other.adopt_name(stored.name, file, index) == stored.size
            assert other.name_size(stored.name) == stored.size
        assert other.verify(blob.digest)
    names = {stored.name for folder in ("sha256", "packs", "recipes") for stored in store.names(folder)}
    assert names == {
        stored.name for folder in ("sha256", "packs", "recipes") for stored in other.names(folder)
    }
    with store.open_name(stored_name(Kind.BLOB, sha256(b"x")), 0, 1) as file:
        assert file.read() == b"x"


def test_names_that_do_not_fit_are_not_adopted(store, tmp_path, model):
    digest = store.put_bytes(model).digest
    pack, index, recipe = (stored.name for stored in store.names_of(digest))
    other = LocalStore(tmp_path / "other")
    content = store.read_index(parse_name(pack).digest)
    for bad in (model[:-1], model + b"x", flip(5)(model), b""):
        with pytest.raises(CorruptError):
            other.adopt_name(pack, io.BytesIO(bad), content)
    with pytest.raises(CorruptError):
        other.adopt_name(pack, io.BytesIO(model), content[:-1])
    with pytest.raises(InvalidValueError, match="without its index"):
        other.adopt_name(pack, io.BytesIO(model))
    with pytest.raises(InvalidValueError, match="together with its pack"):
        other.adopt_name(index, io.BytesIO(content))
    with pytest.raises(CorruptError):
        other.adopt_name(recipe, io.BytesIO(b"gml-recipe 1 0\n"))
    for name in ("../x", "tmp/x", "sha256/ab/x", "/etc/passwd"):
        for call in (other.name_size, other.open_name, other.delete_name):
            with pytest.raises(InvalidValueError):
                call(name)
        with pytest.raises(InvalidValueError):
            other.adopt_name(name, io.BytesIO(b""))
    with pytest.raises(UsageError):
        list(other.names("tmp"))
    with pytest.raises(NotFoundError):
        other.open_name(recipe)
    assert stored_bytes(other) == 0
    assert not any((other.root / "tmp").iterdir())


def test_another_process_that_writes_is_seen(store, tmp_path, model):
    other = LocalStore(store.root)
    paths = [write(tmp_path / f"{number}", b"%d" % number) for number in range(3)]
    assert not store.contains(sha256(b"0"))
    other.put_files(paths)
    assert store.contains(sha256(b"0"))
    assert store.read(sha256(b"1")) == b"1"
    other.delete(sha256(b"1"))
    assert not store.contains(sha256(b"1"))
    assert store.read(sha256(b"2")) == b"2"
    assert store.read(sha256(b"0")) == b"0"


@pytest.mark.parametrize("harm", ["deleted", "garbage", "other version", "locked folder"])
def test_the_catalog_is_disposable(store, tmp_path, model, harm):
    digest = store.put_bytes(model).digest
    path = store.root / "cache" / "catalog.sqlite"
    if harm == "deleted":
        shutil.rmtree(path.parent)
    elif harm == "garbage":
        path.write_bytes(b"not a database" * 1000)
    elif harm == "other version":
        with sqlite3.connect(path) as database:
            database.execute("PRAGMA user_version = 99")
        database.close()
    else:
        shutil.rmtree(path.parent)
        path.parent.write_text("a file where the folder should be")
    fresh = LocalStore(store.root)
    assert fresh.read(digest) == model
    assert fresh.put_bytes(model[1:]).digest == sha256(model[1:])
    assert fresh.verify(sha256(model[1:]))


def test_many_threads_put_versions_of_one_file(store, model):
    versions = [model[: 1_000_000 * n] + b"!" + model[1_000_000 * n :] for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        digests = list(pool.map(lambda data: store.put_bytes(data).digest, versions * 2))
    for digest, data in zip(digests, versions * 2, strict=True):
        assert digest == sha256(data)
        assert store.verify(digest)


def test_a_full_disk_in_the_middle_of_a_pack_leaves_nothing(store, model, monkeypatch):
    store.put_bytes(b"x")
    before = stored_bytes(store)
    fsync = os.fsync
    calls = []

    def fail(descriptor):
        calls.append(descriptor)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError, match="no space left"):
        store.put_bytes(model)
    monkeypatch.setattr(os, "fsync", fsync)
    assert calls
    assert stored_bytes(store) == before
    assert list((store.root / "tmp").iterdir()) == []
    assert store.put_bytes(model).digest == sha256(model)


def test_deleting_from_a_pack_keeps_the_others(store, tmp_path):
    paths = [write(tmp_path / f"{number}", b"%d" % number * 400) for number in range(9)]
    blobs = store.put_files(paths)
    store.delete(blobs[4].digest)
    assert not store.contains(blobs[4].digest)
    assert all(store.verify(blob.digest) for blob in blobs if blob != blobs[4])
    for stored in store.names("packs"):
        assert paths[4].read_bytes() not in (store.root / stored.name).read_bytes()


def test_old_stores_with_whole_large_files_stay_readable(store, tmp_path, model):
    path = store.root / stored_name(Kind.BLOB, sha256(model))
    path.parent.mkdir(parents=True)
    path.write_bytes(model)
    assert len(model) > LARGE
    store.get_file(sha256(model), tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == model
    with store.open(sha256(model)) as file:
        assert file.read() == model
    path.chmod(0o644)
    path.write_bytes(flip(17_000_000)(model))
    with store.open(sha256(model)) as file, pytest.raises(CorruptError):
        file.read()
