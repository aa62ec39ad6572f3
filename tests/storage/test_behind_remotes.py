"""The store with remotes behind it: what is evicted, shredded there too, and missing nowhere."""

import hashlib
import json
import os

import numpy as np
import pytest

from gml.cas.backed import BackedStore
from gml.cas.erase import erase_remote
from gml.cas.evict import evict
from gml.cas.local import LocalStore
from gml.cas.pins import Pins
from gml.domain.errors import NotFoundError
from gml.domain.ids import short_id
from gml.tracking.reader import Reader
from gml.tracking.remotes import push_artifacts
from gml.tracking.storage.collect import collect
from gml.tracking.storage.shred import shred
from gml.tracking.storage.verify import verify
from gml.workspace.remotes import ArtifactRemote


def random_bytes(size, seed=0):
    return np.random.default_rng(seed).bytes(size)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def share(repo, tmp_path):
    repo.git("config", "gml.artifacts.remote.team.url", str(tmp_path / "share"))
    return LocalStore(tmp_path / "share")


def log_files(api, files):
    with api.start_run() as run:
        for name, data in files.items():
            with open(name, "wb") as file:  # noqa: PTH123 - a plain script
                file.write(data)
            api.log_artifact(name)
    return run.info.run_id


def size_of(store):
    return sum(stored.size for folder in ("sha256", "packs", "recipes") for stored in store.names(folder))


def test_what_a_remote_has_is_evicted_oldest_use_first(repo, api, share):
    files = {f"{number}.bin": random_bytes(300_000, number) for number in range(6)}
    run = log_files(api, files)
    alone = repo.workspace().blobs.put_bytes(random_bytes(300_000, 99)).digest
    repo.git("config", "gml.artifacts.cacheSize", "1g")
    workspace = repo.workspace()
    push_artifacts(workspace, [Reader(workspace).resolve(run)])
    store = workspace.blobs
    digests = [sha256(data) for data in files.values()]
    for number, digest in enumerate(digests):
        os.utime(store.shelf.loose(digest).path, (1000, 1000 + number))
    store.read(digests[0])
    gone = evict(store, 1_300_000)
    assert len(gone) == 3
    assert [store.has_here(digest) for digest in digests] == [True, False, False, False, True, True]
    assert store.has_here(alone)
    assert evict(store, 0) != []
    assert store.has_here(alone), "no remote has it"
    assert size_of(store) == 300_000
    assert all(store.read(digest) == data for digest, data in zip(digests, files.values(), strict=True))


def test_the_limit_holds_while_files_are_fetched(repo, api, share):
    files = {f"{number}.bin": random_bytes(300_000, number) for number in range(5)}
    run = log_files(api, files)
    workspace = repo.workspace()
    push_artifacts(workspace, [Reader(workspace).resolve(run)])
    repo.git("config", "gml.artifacts.cacheSize", "700k")
    store = repo.workspace().blobs
    for data in files.values():
        assert store.read(sha256(data)) == data
    # The three that were here before and are not read first go as soon as others come.
    store.fetch([sha256(random_bytes(300_000, 1))], store.places[0])
    assert size_of(store) <= 1_000_000


def test_packs_and_chunks_come_back_after_eviction(repo, api, share):
    model = random_bytes(17_000_000)
    run = log_files(api, {"model.bin": model})
    workspace = repo.workspace()
    push_artifacts(workspace, [Reader(workspace).resolve(run)])
    assert len(evict(workspace.blobs, 1_000_000)) == 1
    store = repo.workspace().blobs
    assert not list(store.names("packs"))
    assert store.read(sha256(model)) == model


def test_shred_reaches_the_remotes(repo, api, share):
    secret, other = random_bytes(17_000_000), random_bytes(300_000, 5)
    run = log_files(api, {"secret.bin": secret, "longer.bin": secret + b"one row", "other.bin": other})
    workspace = repo.workspace()
    push_artifacts(workspace, [Reader(workspace).resolve(run)])
    assert share.verify(sha256(secret))
    reader = Reader(workspace)
    done = shred(reader, reader.resolve(run), "secret.bin", "law")
    assert (done.remotes, done.failed) == (["team"], [])
    assert not share.contains(sha256(secret))
    assert share.verify(sha256(secret + b"one row"))
    reader = Reader(repo.workspace())
    shred(reader, reader.resolve(run), "longer.bin", "law")
    left = b"".join(path.read_bytes() for path in share.root.rglob("*") if path.is_file())
    assert all(secret[at : at + 64] not in left for at in range(0, len(secret), 400_000))
    assert share.verify(sha256(other))
    with pytest.raises(NotFoundError):
        repo.workspace().blobs.read(sha256(secret))


def test_a_shared_pack_of_a_remote_is_written_anew(repo, share, tmp_path):
    local = LocalStore(tmp_path / "local")
    paths = []
    for number in range(9):
        paths.append(tmp_path / f"{number}.bin")
        paths[-1].write_bytes(random_bytes(2000, number))
    blobs = local.put_files(paths)
    store = repo.workspace().blobs
    store.put_files(paths)
    store.send([blob.digest for blob in blobs], store.places[0])
    assert erase_remote(store.source(store.places[0]), blobs[3].digest) == 0
    share.catalog.refresh()
    assert not share.contains(blobs[3].digest)
    assert all(share.verify(blob.digest) for blob in blobs if blob != blobs[3])
    left = b"".join(path.read_bytes() for path in share.root.rglob("*") if path.is_file())
    assert random_bytes(2000, 3)[:64] not in left
    assert len(list(share.names("packs"))) == 2


def test_a_remote_out_of_reach_is_named_and_shredding_goes_on_later(repo, api, gml, share):
    data = random_bytes(300_000)
    run = log_files(api, {"a.bin": data})
    workspace = repo.workspace()
    push_artifacts(workspace, [Reader(workspace).resolve(run)])
    kept = share.root.rename(share.root.with_name("away"))
    share.root.write_text("in the way")
    said = gml("artifacts", "shred", run, "a.bin", "--reason", "law", "-y", code=8)
    assert "it may still be in team" in said.err
    share.root.unlink()
    kept.rename(share.root)
    gml("artifacts", "shred", run, "a.bin", "--reason", "law", "-y")
    assert not share.contains(sha256(data))


def test_verify_does_not_miss_what_a_remote_has(repo, api, share):
    run = log_files(api, {"a.bin": random_bytes(300_000), "b.bin": random_bytes(300_000, 1)})
    workspace = repo.workspace()
    push_artifacts(workspace, [Reader(workspace).resolve(run)])
    evict(workspace.blobs, 0)
    assert verify(Reader(repo.workspace())).absent == []
    digest = sha256(random_bytes(300_000, 1))
    for stored in share.names_of(digest):
        share.delete_name(stored.name)
    assert [use.path for use in verify(Reader(repo.workspace())).absent] == ["b.bin"]


def test_damage_of_a_remote_is_named_and_mended_by_a_push(repo, api, gml, share):
    large = random_bytes(17_000_000)
    run = log_files(
        api, {"a.bin": random_bytes(300_000), "large.bin": large, "b.bin": random_bytes(300_000, 1)}
    )
    gml("artifacts", "push", "-q")
    assert "read 4 stored files" in gml("artifacts", "verify", "--remote").out
    whole = share.root / share.names_of(sha256(random_bytes(300_000)))[0].name
    gone = share.root / share.names_of(sha256(random_bytes(300_000, 1)))[0].name
    pack = share.root / next(
        stored.name for stored in share.names("packs") if not stored.name.endswith("idx")
    )
    for path, at in ((whole, 7), (pack, 9_000_000)):
        path.chmod(0o644)
        with path.open("r+b") as file:
            file.seek(at)
            byte = file.read(1)
            file.seek(at)
            file.write(bytes([byte[0] ^ 1]))
    gone.unlink()
    done = gml("artifacts", "verify", "--remote", "team", "--repair", code=9)
    assert done.out.count("damaged") == 3
    assert "was sent and is gone" in done.out
    for name in ("a.bin", "b.bin", "large.bin"):
        assert f"needed by {short_id(run)}" in done.out
        assert f": {name}" in done.out
    assert not whole.exists()
    assert "pushed 4 files" in gml("artifacts", "push", "-q").out
    assert json.loads(gml("artifacts", "verify", "--remote", "--json").out)["damaged"] == []
    sample = json.loads(gml("artifacts", "verify", "--remote", "--sample", "1%", "--seed", "1", "--json").out)
    assert (sample["files"], sample["total"]) == (1, 4)


def test_clones_that_share_a_folder_keep_each_others_files(repo, api, gml, clone, tmp_path, monkeypatch):
    shared = tmp_path / "shared"
    other = clone(repo, "other")
    for each in (repo, other):
        each.git("config", "gml.artifacts.store", str(shared))
    run = log_files(api, {"mine.bin": random_bytes(300_000)})
    monkeypatch.chdir(other.path)
    theirs = other.workspace().blobs.put_bytes(random_bytes(300_000, 1)).digest
    pushed = other.path / "elsewhere"
    pushed.mkdir()
    lonely = LocalStore(pushed)
    sent = lonely.put_bytes(random_bytes(300_000, 2)).digest
    # A clone that has the folder as a remote pins what it pushes there.
    workspace = other.workspace()
    place = ArtifactRemote("shared", str(shared))
    BackedStore(pushed, None, [place], pins=workspace.pins).send([sent], place)
    forgotten = LocalStore(shared).put_bytes(random_bytes(300_000, 3)).digest
    for stored in LocalStore(shared).names("sha256"):
        os.utime(shared / stored.name, (1_000_000, 1_000_000))
    collect(repo.workspace())
    store = LocalStore(shared)
    assert [store.contains(digest) for digest in (theirs, sent, forgotten)] == [True, True, False]
    assert repo.workspace().blobs.read(sha256(random_bytes(300_000)))
    # Its own collection lets go of what it needs no more, and nothing of anybody else's.
    for stored in LocalStore(shared).names("sha256"):
        os.utime(shared / stored.name, (1_000_000, 1_000_000))
    collect(other.workspace())
    store = LocalStore(shared)
    assert not store.contains(theirs)
    assert store.contains(sha256(random_bytes(300_000)))
    assert gml("artifacts", "verify", "-q").code == 0
    assert Reader(repo.workspace()).resolve(run).artifacts


def test_what_is_pinned_while_a_clone_collects_stays_pinned(tmp_path):
    pins = Pins(tmp_path, lambda: "c" * 16)
    pins.add(["a" * 64, "b" * 64])
    length = pins.length()
    pins.add(["d" * 64])
    pins.replace({"b" * 64}, length)
    assert pins.path.read_text().split() == ["b" * 64, "d" * 64]
