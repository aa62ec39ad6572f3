"""`gml artifacts import`: caches of DVC and objects of git-LFS, in the layouts that these tools write."""

import hashlib
import json

import numpy as np
import pytest

from gml.cas.adopt import adopt
from gml.cas.local import LocalStore
from gml.domain.errors import CorruptError


def random_bytes(size, seed=0):
    return np.random.default_rng(seed).bytes(size)


def md5(data):
    return hashlib.md5(data).hexdigest()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def cached(cache, data, suffix="", *, old=False):
    """Put bytes into a cache as DVC does: named by their MD5, read-only."""
    digest = md5(data)
    folder = cache if old else cache / "files" / "md5"
    path = folder / digest[:2] / f"{digest[2:]}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(0o444)
    return path


@pytest.fixture
def tracked(repo, api):
    """Return files that DVC tracks in a repository with one run, each with where the cache has it."""
    with api.start_run():
        pass
    cache = repo.path / ".dvc" / "cache"
    model, one, two = random_bytes(300_000), random_bytes(17_000_000, 1), b"a,b\n1,2\n"
    places = {
        "models/model.bin": (model, cached(cache, model)),
        "data/one.bin": (one, cached(cache, one)),
        "data/sub/two.csv": (two, cached(cache, two, old=True)),
    }
    listing = json.dumps(
        [{"md5": md5(one), "relpath": "one.bin"}, {"md5": md5(two), "relpath": "sub/two.csv"}]
    )
    folder = cached(cache, listing.encode(), ".dir")
    repo.file(
        "models/model.bin.dvc",
        f"outs:\n- md5: {md5(model)}\n  size: 300000\n  hash: md5\n  path: model.bin\n",
    )
    name = f"{folder.parent.name}{folder.name}"
    repo.file(
        "dvc.lock",
        f"schema: '2.0'\nstages:\n  prepare:\n    cmd: x\n    outs:\n    - path: data\n      md5: {name}\n",
    )
    repo.file(".dvc/config", "[core]\n    analytics = false\n")
    return places


def test_what_dvc_tracks_becomes_artifacts_without_copies(repo, gml, tracked):
    said = json.loads(gml("artifacts", "import", "dvc", "@", "--json").out)
    assert sum(said[how] for how in ("cloned", "linked")) == 3
    assert (said["copied"], said["failed"], said["bytes"]) == (0, 0, 17_300_008)
    listed = {one["path"]: one["sha256"] for one in json.loads(gml("artifacts", "ls", "@", "--json").out)}
    assert listed == {path: sha256(data) for path, (data, _) in tracked.items()}
    store = repo.workspace().blobs
    for data, place in tracked.values():
        assert store.read(sha256(data)) == data
        shared = store.shelf.loose(sha256(data)).path
        assert said["cloned"] or shared.samefile(place)
        assert place.stat().st_mode & 0o777 == 0o444
    again = json.loads(
        gml("artifacts", "import", "dvc", "@", "models/model.bin.dvc", "--to", "old", "--json").out
    )
    assert (again["known"], again["bytes"]) == (1, 300_000)
    assert "old/models/model.bin" in gml("artifacts", "ls", "@").out


def test_damage_and_gaps_of_a_cache_are_named(repo, gml, tracked):
    (_, damaged), (_, lost) = tracked["models/model.bin"], tracked["data/sub/two.csv"]
    damaged.chmod(0o644)
    damaged.write_bytes(random_bytes(300_000, 9))
    lost.unlink()
    done = gml("artifacts", "import", "dvc", "@", code=2)
    assert "is not what its name says" in done.err
    assert "data/sub/two.csv is not in" in done.err
    assert "2 of 3 files could not be added" in done.err
    assert "added 1 files, 17.0 MB" in done.out
    repo.file("models/model.bin.dvc", "outs:\n- md5: ../../etc/passwd\n  path: model.bin\n")
    assert "which is no MD5" in gml("artifacts", "import", "dvc", "@", "models/model.bin.dvc", code=9).err
    repo.file("models/model.bin.dvc", f"outs:\n- md5: {md5(b'')}\n  path: ../../outside\n")
    assert "which is not in" in gml("artifacts", "import", "dvc", "@", "models/model.bin.dvc", code=2).err
    repo.file("models/model.bin.dvc", "outs: [")
    assert "is no file of DVC" in gml("artifacts", "import", "dvc", "@", "models/model.bin.dvc", code=9).err


def test_what_lfs_tracks_becomes_artifacts(repo, api, gml):
    with api.start_run():
        pass
    assert "no files of git-LFS" in gml("artifacts", "import", "lfs", "@", code=4).err
    contents = {"big/a.bin": random_bytes(200_000), "big/b.bin": random_bytes(300_000, 1), "c.bin": b"small"}
    for path, data in contents.items():
        digest = sha256(data)
        repo.file(
            path, f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(data)}\n"
        )
        place = repo.path / ".git" / "lfs" / "objects" / digest[:2] / digest[2:4] / digest
        place.parent.mkdir(parents=True)
        place.write_bytes(data)
    repo.git("add", "-A")
    repo.git("commit", "-q", "-m", "lfs")
    assert "added 2 files" in gml("artifacts", "import", "lfs", "@", "big").out
    assert "added 3 files" in gml("artifacts", "import", "lfs", "@", "--to", "all").out
    for data in contents.values():
        assert repo.workspace().blobs.read(sha256(data)) == data
    # These objects may be written to, so no name of the store may lead to them.
    kept = repo.workspace().blobs.shelf.loose(sha256(contents["big/a.bin"])).path
    assert kept.stat().st_nlink == 1


def test_adopting_never_stores_what_is_wrong(tmp_path):
    store = LocalStore(tmp_path / "store")
    path = tmp_path / "file"
    path.write_bytes(b"content")
    with pytest.raises(CorruptError, match="not what its name says"):
        adopt(store, path, sha256="0" * 64)
    assert list(store.digests()) == []
    blob, _ = adopt(store, path, md5=md5(b"content"))
    path.write_bytes(b"other")
    assert store.read(blob.digest) == b"content"
