"""What only a folder can show: durability, permissions, killed writers, several processes."""

import errno
import hashlib
import io
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gml.cas import open_store
from gml.cas.local import LocalStore
from gml.cas.port import relative_name
from gml.cas.store import FsspecStore
from gml.domain.errors import MissingPackageError, StorageError, UsageError

PUT = (
    "import sys; from gml.cas import open_store; print(open_store(sys.argv[1]).put_file(sys.argv[2]).digest)"
)

# Puts a stream that says so when half of it was taken, then waits for its killer.
HANG = """
import sys
from gml.cas import open_store
class Half:
    pieces = [b"x" * 1_000_000] * 30
    def read(self, size):
        if self.pieces:
            return self.pieces.pop()
        print("half", flush=True)
        return sys.stdin.buffer.read(1)
open_store(sys.argv[1]).put_stream(Half())
"""


def objects(store: LocalStore) -> list[Path]:
    found = [path for path in store.root.rglob("*") if path.is_file()]
    return [path for path in found if path.parent.name != "cache"]


def test_layout_is_what_sha256sum_says(tmp_path):
    store = LocalStore(tmp_path / "deep" / "store")
    blob = store.put_bytes(b"hello\n")
    path = store.root / "sha256" / blob.digest[:2] / blob.digest
    assert objects(store) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    said = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout
    assert said.split()[0] == path.name == blob.digest


def test_eight_processes_put_the_same(tmp_path):
    source = tmp_path / "source"
    source.write_bytes(os.urandom(3_000_000))
    running = [
        subprocess.Popen([sys.executable, "-c", PUT, tmp_path / "store", source], stdout=subprocess.PIPE)
        for _ in range(8)
    ]
    said = {process.communicate()[0].strip() for process in running}
    assert said == {hashlib.sha256(source.read_bytes()).hexdigest().encode()}
    assert [process.returncode for process in running] == [0] * 8
    assert len(objects(LocalStore(tmp_path / "store"))) == 1


def test_killed_put_leaves_nothing_visible_and_can_be_swept(tmp_path):
    store = LocalStore(tmp_path / "store")
    with subprocess.Popen(
        [sys.executable, "-c", HANG, store.root], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"half\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert list(store.digests()) == []
    (left,) = objects(store)
    assert left.parent.name == "tmp"
    assert store.sweep_staging() == 0, "it could belong to a put that is still running"
    os.utime(left, (0, 0))
    assert store.sweep_staging() == 1
    assert objects(store) == []


def test_object_is_synced_before_it_gets_its_name(tmp_path, monkeypatch):
    store = LocalStore(tmp_path / "store")
    order: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def note_fsync(descriptor):
        order.append("dir" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def note_replace(self, target):
        order.append("rename")
        return replace(self, target)

    store.put_bytes(b"first")
    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_replace)
    store.put_bytes(b"second")
    # The second sync is that of `sha256/`, which has got the folder of the object.
    assert order == ["file", "dir", "rename", "dir"]
    order.clear()
    store.put_bytes(b"second")
    assert order == ["dir"]
    order.clear()
    store.get_file(hashlib.sha256(b"second").hexdigest(), tmp_path / "out")
    assert order == ["file", "rename", "dir"]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "no space left"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission denied"),
        (errno.EIO, "input/output"),
    ],
)
def test_failing_disk_is_one_clear_line(tmp_path, monkeypatch, number, words):
    store = LocalStore(tmp_path / "store")
    store.put_bytes(b"before")

    def fail(_descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError, match=words) as caught:
        store.put_bytes(b"after")
    assert str(store.root) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(list(store.digests())) == 1
    with pytest.raises(StorageError, match=words):
        store.get_file(next(store.digests()), tmp_path / "target")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_really_full_device():
    from gml.cas.transfer import storage_errors, write_all

    with (
        io.FileIO("/dev/full", "wb") as out,
        pytest.raises(StorageError, match="no space left"),
        storage_errors("write /dev/full"),
    ):
        write_all(out, b"x")


def test_store_in_place_of_a_file(tmp_path):
    (tmp_path / "store").write_text("I am a file")
    store = LocalStore(tmp_path / "store")
    with pytest.raises(StorageError, match="cannot write"):
        store.put_bytes(b"x")
    assert list(store.digests()) == []


def test_what_is_not_ours_is_not_listed(tmp_path):
    store = LocalStore(tmp_path)
    blob = store.put_bytes(b"x")
    (tmp_path / relative_name(blob.digest)).with_suffix(".bak").write_bytes(b"")
    (tmp_path / "sha256" / ".DS_Store").write_bytes(b"")
    (tmp_path / "sha256" / "zz").mkdir()
    (tmp_path / "sha256" / "zz" / blob.digest).write_bytes(b"")
    assert list(store.digests()) == [blob.digest]


def test_short_writes_are_completed():
    from gml.cas.transfer import write_all

    class Slow(io.FileIO):
        def write(self, data):
            return super().write(data[:3])

    read_end, write_end = os.pipe()
    with Slow(write_end, "wb") as out:
        write_all(out, b"0123456789")
    with io.FileIO(read_end) as back:
        assert back.read(100) == b"0123456789"


def test_same_size_damage_survives_a_put_but_not_delete_and_put(tmp_path):
    store = LocalStore(tmp_path)
    blob = store.put_bytes(b"data")
    path = tmp_path / relative_name(blob.digest)
    path.chmod(0o644)
    path.write_bytes(b"dat!")
    store.put_bytes(b"data")
    assert not store.verify(blob.digest)
    store.delete(blob.digest)
    store.put_bytes(b"data")
    assert store.verify(blob.digest)


def test_scheme_chooses_the_class(tmp_path):
    assert repr(open_store(str(tmp_path))) == f"LocalStore('{tmp_path}')"
    assert open_store(f"file://{tmp_path}/with%20space").root == tmp_path / "with space"
    assert open_store(f"file://localhost{tmp_path}").root == tmp_path
    assert isinstance(open_store("memory://x"), FsspecStore)
    with pytest.raises(UsageError, match="empty"):
        open_store("")
    with pytest.raises(UsageError, match="three slashes"):
        open_store("file://tmp/store")
    with pytest.raises(UsageError, match="nonsense"):
        open_store("nonsense://x")


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'gitml\[s3\]'"):
        open_store("s3://bucket/prefix")


def test_local_folder_does_not_import_fsspec(tmp_path):
    code = (
        "import sys; from gml.cas import open_store; open_store(sys.argv[1]).put_bytes(b'x');"
        "print(sorted({'fsspec', 'numpy', 'pandas', 'asyncio'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"
