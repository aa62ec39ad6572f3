"""What should not become an artifact, or not come out again: each in one clear line, the rest unharmed."""

import errno
import json
import os
import socket
import sys
import threading
import time

import pytest

from gml.cas.local import LocalStore
from gml.domain.errors import InvalidValueError, StorageError
from gml.tracking.edits import edit_runs
from gml.tracking.queries import copy_artifacts
from gml.tracking.reader import Reader


@pytest.fixture
def run(api):
    with api.start_run() as started:
        pass
    return started.info.run_id


def paths_of(gml, run):
    return sorted(one["path"] for one in json.loads(gml("artifacts", "ls", run, "--json").out))


def test_a_folder_of_everything_that_is_no_file(repo, gml, run, monkeypatch):
    repo.file("in/good.txt", "good")
    repo.file("in/empty.txt", "")
    (repo.path / "in" / "nothing").mkdir()
    os.mkfifo(repo.path / "in" / "pipe")
    monkeypatch.chdir(repo.path / "in")  # names of sockets are short
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("socket")
    (repo.path / "in" / "loop").symlink_to("loop")
    (repo.path / "in" / "self").symlink_to(".")
    (repo.path / "in" / "zero").symlink_to("/dev/zero")
    (repo.path / "in" / "gone").symlink_to("nowhere")
    outside = repo.path.parent / "outside.txt"
    outside.write_text("outside")
    (repo.path / "in" / "outside.txt").symlink_to(outside)
    done = gml("artifacts", "put", run, repo.path / "in", code=2)
    listener.close()
    assert paths_of(gml, run) == ["in/empty.txt", "in/good.txt", "in/outside.txt"]
    lines = done.err.strip().split("\n")
    for name in ("pipe", "socket", "zero"):
        assert sum(f"/{name} is not a regular file" in line for line in lines) == 1, name
    assert any("/gone does not exist" in line for line in lines)
    assert any("/loop" in line for line in lines)
    assert lines[-1].endswith("5 of 8 files could not be added")
    # A link out of the folder is followed, as `cp -r` of a user who named it would; it is not a link any more.
    gml("artifacts", "get", run, "in/outside.txt", "-o", "out")
    assert not (repo.path / "out/in/outside.txt").is_symlink()


def test_names_that_are_hard_to_bear(repo, gml, run):
    folder = repo.path / "names"
    folder.mkdir()
    for name in ("new\nline", "n" * 255, "ü" * 127, "CON", "a:b", "Case", "case", " blank "):
        (folder / name).write_bytes(name.encode())
    done = gml("artifacts", "put", run, "names", code=None)
    refused = done.err.count("\ngml: ") + done.err.startswith("gml: ") - (1 if done.code else 0)
    kept = paths_of(gml, run)
    assert len(kept) + refused == 8, done.err
    assert f"names/{'n' * 255}" in kept
    assert f"names/{'ü' * 127}" in kept
    assert {"names/Case", "names/case"} <= set(kept)
    assert all("\n" not in path for path in kept)
    gml("artifacts", "get", run, "-o", "out")
    for path in kept:
        assert (repo.path / "out" / path).read_bytes() == path.removeprefix("names/").encode()


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems refuse such names")
def test_a_name_that_is_no_utf_8(repo, gml, run):
    (repo.path / "raw").mkdir()
    folder = os.fsencode(repo.path / "raw")
    for name in (b"bad\xff.txt", b"good.txt"):
        with open(os.path.join(folder, name), "wb") as file:  # noqa: PTH118, PTH123 - names are bytes
            file.write(b"x")
    done = gml("artifacts", "put", run, "raw", code=2)
    assert "1 of 2 files could not be added" in done.err
    assert paths_of(gml, run) == ["raw/good.txt"]


@pytest.mark.parametrize(
    "name",
    [
        "../up.txt",
        "/etc/passwd",
        "a/../../up.txt",
        "C:\\x",
        "a//b",
        ".git/config",
        "sub/.GIT/config",
        "GIT~1/config",
        ".git./config",
        ".git::$INDEX_ALLOCATION/config",
        ".g\u200cit/config",
    ],
)
def test_a_manifest_of_somebody_else_does_not_lead_out(repo, run, tmp_path, name):
    """The record is written past gml's own checks, as another program could."""
    entry = {"at": "cas", "sha256": repo.workspace().blobs.put_bytes(b"evil").digest, "size": 4}
    edit_runs(repo.workspace(), [run], {"artifacts": {name: entry}}, "evil")
    target = tmp_path / "deep" / "out"
    reader = Reader(repo.workspace())
    found = reader.resolve(run)
    if name in found.artifacts:
        with pytest.raises(InvalidValueError, match="artifact"):
            copy_artifacts(reader, found, None, target)
    assert not target.exists()
    assert not (tmp_path / "up.txt").exists()
    assert not (tmp_path / "deep" / "up.txt").exists()


def test_a_file_that_changes_while_it_is_read(tmp_path, monkeypatch):
    store = LocalStore(tmp_path / "store")
    path = tmp_path / "growing"
    path.write_bytes(os.urandom(17 << 20))
    stop = threading.Event()

    def grow():
        with path.open("ab") as file:
            while not stop.is_set():
                file.write(b"more")
                file.flush()

    thread = threading.Thread(target=grow)
    thread.start()
    try:
        with pytest.raises(StorageError, match="changed while it was read"):
            store.put_file(path)
    finally:
        stop.set()
        thread.join()
    assert list(store.names("recipes")) == []


def test_permission_denied_in_the_middle(repo, api, run, tmp_path, monkeypatch):
    """Root may read everything, so the system's refusal is played."""
    paths = [tmp_path / name for name in ("a", "b", "c")]
    for path in paths:
        path.write_bytes(path.name.encode())
    really = os.open

    def refuse(path, *arguments, **more):
        if os.fspath(path) == str(paths[1]):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return really(path, *arguments, **more)

    monkeypatch.setattr(os, "open", refuse)
    store = LocalStore(tmp_path / "store")
    a, b, c = store.put_files(paths)
    assert isinstance(b, StorageError)
    assert str(b).lower().startswith(f"cannot read {paths[1]}: permission denied")
    assert [store.read(blob.digest) for blob in (a, c)] == [b"a", b"c"]


def test_a_sparse_file_is_its_content(repo, gml, run):
    size = 60 << 20
    with (repo.path / "sparse.bin").open("wb") as file:
        file.truncate(size)
        file.seek(size // 2)
        file.write(b"here")
    gml("artifacts", "put", run, "sparse.bin")
    store = repo.workspace().blobs
    assert (
        sum(stored.size for folder in ("sha256", "packs", "recipes") for stored in store.names(folder))
        < 1 << 20
    )
    (facts,) = Reader(repo.workspace()).resolve(run).artifacts.values()
    with store.open(facts.sha256) as file:
        file.seek(size // 2 - 2)
        assert file.read(8) == b"\0\0here\0\0"


def test_what_is_being_written_is_not_packed_either(tmp_path):
    store = LocalStore(tmp_path / "store")
    paths = [tmp_path / name for name in ("one", "gone", "folder", "two")]
    paths[0].write_bytes(b"one")
    paths[2].mkdir()
    paths[3].write_bytes(b"two")
    one, gone, folder, two = store.put_files(paths)
    assert store.read(one.digest) == b"one"
    assert store.read(two.digest) == b"two"
    assert "no such file" in str(gone)
    assert "not a regular file" in str(folder)
    assert time.time() - store.shelf.root.stat().st_mtime < 3600
