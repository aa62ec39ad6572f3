"""Sweeping: what is needed stays, what is young stays, and what is touched meanwhile comes back."""

import hashlib
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from gml.cas import sweep as sweep_module
from gml.cas.local import LocalStore
from gml.cas.names import Kind, stored_name
from gml.cas.scrub import listed, sample_of, scrub
from gml.cas.sweep import LEAST_GRACE, sweep
from gml.domain.errors import StorageError, UsageError

OLD = 100 * 86_400

WRITER = """
import sys, time, random, os
from pathlib import Path
from gml.cas.local import LocalStore
store, scratch, seed, end = LocalStore(Path(sys.argv[1])), Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
pool, patience = int(sys.argv[5]), float(sys.argv[6])
draw = random.Random(seed)
scratch.mkdir(exist_ok=True)
while time.time() < end:
    # Contents that all writers share, so that they rely on what others wrote and sweeps delete.
    paths = []
    for number in range(12):
        path = scratch / str(number)
        content = random.Random(draw.randrange(pool))
        path.write_bytes(content.randbytes(content.randrange(3000) + 100))
        paths.append(path)
    start = time.time()
    blobs = store.put_files(paths) if draw.random() < 0.8 else [store.put_file(path) for path in paths]
    bad = []
    for blob in blobs:
        try:
            if not store.verify(blob.digest):
                bad.append("damaged " + blob.digest)
        except Exception as error:
            bad.append(str(error))
    # What was acknowledged within the grace period is there, whatever the sweeps do.
    print("slow" if time.time() - start > patience else "lost" if bad else "kept", *bad, flush=True)
"""


def random_bytes(size, seed=0):
    return np.random.default_rng(seed).bytes(size)


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "store")


def age(store):
    for path in store.root.rglob("*"):
        if path.is_file() and path.parent.name != "cache":
            os.utime(path, (time.time() - OLD, time.time() - OLD))


def write(path, data):
    path.write_bytes(data)
    return path


def everything(store):
    return sorted(stored.name for folder in ("sha256", "packs", "recipes") for stored in store.names(folder))


def test_what_is_needed_stays_and_the_rest_goes(store, tmp_path):
    model, other = random_bytes(17_000_000, 1), random_bytes(17_000_000, 2)
    kept = [store.put_bytes(model).digest, store.put_bytes(b"kept").digest]
    gone = [store.put_bytes(other).digest, store.put_bytes(b"gone").digest]
    age(store)
    before = everything(store)
    planned = sweep(store, kept, dry_run=True)
    assert everything(store) == before
    done = sweep(store, kept)
    assert [stored.name for stored in done.deleted] == [stored.name for stored in planned.deleted]
    assert done.freed == planned.freed > len(other)
    assert all(store.verify(digest) for digest in kept)
    assert not any(store.contains(digest) for digest in gone)
    assert set(everything(store)) == set(before) - {stored.name for stored in done.deleted}
    assert not any((store.root / "trash").iterdir())
    assert sweep(store, kept).deleted == []


def test_what_is_young_stays(store):
    digests = [store.put_bytes(b"one").digest, store.put_bytes(random_bytes(17_000_000)).digest]
    done = sweep(store, [])
    assert (done.deleted, done.young) == ([], 3)
    assert all(store.verify(digest) for digest in digests)


@pytest.mark.parametrize("size", [10, 17_000_000])
def test_putting_it_again_makes_it_young(store, tmp_path, size):
    path = write(tmp_path / "file", random_bytes(size))
    digest = store.put_file(path).digest
    age(store)
    assert store.put_file(path).digest == digest
    assert sweep(store, []).deleted == []
    assert store.verify(digest)


def test_chunks_that_a_needed_file_shares_stay(store):
    first = random_bytes(17_000_000)
    second = first[:8_000_000] + b"changed" + first[8_000_000:]
    one, two = store.put_bytes(first).digest, store.put_bytes(second).digest
    age(store)
    sweep(store, [two])
    assert store.verify(two)
    assert not store.contains(one)


def test_a_pack_of_which_little_is_needed_is_written_anew(store, tmp_path):
    paths = [write(tmp_path / f"{number}", random_bytes(1000, number)) for number in range(20)]
    blobs = store.put_files(paths)
    age(store)
    done = sweep(store, [blobs[3].digest])
    assert len(done.repacked) == 1
    assert 18_000 < done.freed < 20_000
    assert store.verify(blobs[3].digest)
    assert not store.contains(blobs[4].digest)
    assert sum(stored.size for stored in store.names("packs") if not stored.name.endswith(".idx")) == 1000
    fresh = LocalStore(store.root, tmp_path / "cache")
    assert fresh.read(blobs[3].digest) == paths[3].read_bytes()


def test_a_reader_of_another_process_finds_what_moved_to_another_pack(store, tmp_path):
    paths = [write(tmp_path / f"{number}", random_bytes(1000, number)) for number in range(20)]
    blobs = store.put_files(paths)
    other = LocalStore(store.root, tmp_path / "cache")
    assert other.read(blobs[3].digest) == paths[3].read_bytes()
    age(store)
    sweep(store, [blobs[3].digest])
    assert other.read(blobs[3].digest) == paths[3].read_bytes()


def test_a_pack_with_damage_is_not_written_anew(store, tmp_path):
    paths = [write(tmp_path / f"{number}", random_bytes(1000, number)) for number in range(20)]
    blobs = store.put_files(paths)
    (pack,) = [stored.name for stored in store.names("packs") if not stored.name.endswith(".idx")]
    data = bytearray((store.root / pack).read_bytes())
    data[3500] ^= 1
    (store.root / pack).chmod(0o644)
    (store.root / pack).write_bytes(data)
    age(store)
    before = everything(store)
    done = sweep(store, [blobs[3].digest])
    assert done.repacked == []
    assert done.damaged
    assert everything(store) == before


def test_a_recipe_that_cannot_be_read_protects_all_packs(store):
    digest = store.put_bytes(random_bytes(17_000_000)).digest
    path = store.root / stored_name(Kind.RECIPE, digest)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-5])
    age(store)
    done = sweep(store, [digest])
    assert done.deleted == []
    assert done.damaged == [stored_name(Kind.RECIPE, digest)]


@pytest.mark.parametrize("which", [".idx", ""])
def test_what_is_touched_while_it_is_deleted_comes_back(store, tmp_path, monkeypatch, which):
    paths = [write(tmp_path / f"{number}", random_bytes(1000, number)) for number in range(3)]
    blobs = store.put_files(paths)
    age(store)
    rename = Path.rename

    def touch_then_rename(self, target):
        if self.parent.parent.name == "packs" and self.suffix == which:
            os.utime(self)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", touch_then_rename)
    done = sweep(store, [])
    monkeypatch.undo()
    assert done.deleted == []
    assert done.spared
    assert all(store.verify(blob.digest) for blob in blobs)


def test_a_writer_that_cannot_touch_stores_again(store, tmp_path, monkeypatch):
    paths = [write(tmp_path / f"{number}", random_bytes(1000, number)) for number in range(3)]
    blobs = store.put_files(paths)
    age(store)
    writer = LocalStore(store.root, tmp_path / "cache")
    writer.catalog.refresh()
    remove = sweep_module._Job._remove

    def put_between(self, names):
        done = remove(self, names)
        # The writer still believes in the pack that is gone.
        assert [blob.digest for blob in writer.put_files(paths)] == [blob.digest for blob in blobs]
        return done

    monkeypatch.setattr(sweep_module._Job, "_remove", put_between)
    sweep(store, [])
    assert all(store.verify(blob.digest) for blob in blobs)


def test_what_a_killed_sweep_had_moved_away_comes_back(store, monkeypatch):
    digest = store.put_bytes(b"needed after all").digest
    pack = store.put_bytes(random_bytes(17_000_000)).digest
    age(store)

    def die(self, *_args, **_kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", die)
        with pytest.raises(KeyboardInterrupt):
            sweep(store, [])
    assert any((store.root / "trash").iterdir())
    sweep(store, [digest, pack])
    assert store.verify(digest)
    assert store.verify(pack)
    assert not any((store.root / "trash").iterdir())


def test_a_killed_put_is_cleaned_up(store, tmp_path):
    blobs = store.put_files([write(tmp_path / f"{number}", b"%d" % number) for number in range(2)])
    (index,) = [stored.name for stored in store.names("packs") if stored.name.endswith(".idx")]
    # As if the writer had died between the pack and its index.
    (store.root / index).unlink()
    (store.root / "tmp" / "left").write_bytes(b"half")
    age(store)
    done = sweep(store, [blobs[0].digest])
    assert [stored.name for stored in done.deleted] == [index.removesuffix(".idx")]
    assert done.staging == 1
    assert everything(store) == []


def test_two_sweeps_at_once_are_refused(store):
    store.put_bytes(b"x")
    code = (
        "import sys; from pathlib import Path; from gml.cas.local import LocalStore; from gml.cas import sweep\n"
        "sweep._Job.run = lambda self: (print('in', flush=True), sys.stdin.read())\n"
        "sweep.sweep(LocalStore(Path(sys.argv[1])), [])\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, store.root], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"in\n"
        with pytest.raises(StorageError, match="another gc"):
            sweep(store, [])
        other.stdin.close()
    assert other.returncode == 0
    sweep(store, [])


def test_a_short_grace_is_refused(store):
    with pytest.raises(UsageError, match="too short"):
        sweep(store, [], grace=LEAST_GRACE - 1)


def run_beside_writers(tmp_path, monkeypatch, writers, seconds, grace, pool):
    """Sweep all the time beside writers that share content; return how many puts were checked."""
    monkeypatch.setattr(sweep_module, "LEAST_GRACE", 0.1)
    store = LocalStore(tmp_path / "store")
    end = time.time() + seconds
    arguments = [str(end), str(pool), str(grace * 0.8)]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, store.root, tmp_path / f"w{n}", str(n), *arguments],
            stdout=(tmp_path / f"out{n}").open("wb"),
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(writers)
    ]
    deleted = spared = repacked = 0
    draw = random.Random(1)
    while any(process.poll() is None for process in running):
        # Some are needed, so that packs are written anew beside the writers.
        needed = [random.Random(draw.randrange(pool)) for _ in range(pool // 20)]
        digests = [hashlib.sha256(content.randbytes(content.randrange(3000) + 100)) for content in needed]
        done = sweep(store, [digest.hexdigest() for digest in digests], grace=grace)
        deleted += len(done.deleted)
        spared += len(done.spared)
        repacked += len(done.repacked)
    for process in running:
        _, err = process.communicate()
        assert process.returncode == 0, err
    lines = [line for n in range(writers) for line in (tmp_path / f"out{n}").read_text().splitlines()]
    assert [line for line in lines if line.startswith("lost")] == []
    assert deleted
    return lines.count("kept"), deleted, spared, repacked


def test_sweeping_beside_writers_loses_nothing(tmp_path, monkeypatch):
    checked, deleted, *_ = run_beside_writers(tmp_path, monkeypatch, 3, 6, 1.5, 3000)
    assert checked > 5
    assert deleted > 5


@pytest.mark.heavy
@pytest.mark.timeout(900)
def test_sweeping_beside_eight_writers_for_long_loses_nothing(tmp_path, monkeypatch, capsys):
    seconds = float(os.environ.get("GML_SWEEP_SECONDS", "60"))
    checked, deleted, spared, repacked = run_beside_writers(tmp_path, monkeypatch, 8, seconds, 5, 20_000)
    with capsys.disabled():
        print(
            f"{checked} puts checked, {deleted} files deleted, {repacked} packs written anew, {spared} spared"
        )
    assert checked > 50


@pytest.mark.parametrize("kind", ["blob", "compressed", "pack", "index", "recipe"])
def test_scrub_names_what_is_damaged(store, tmp_path, kind):
    model = random_bytes(17_000_000)
    store.put_bytes(model)
    store.put_bytes(b"a plain blob of some length")
    store.put_bytes(b"compressible " * 1000)
    assert list(scrub(store, listed(store))) == []
    find = {
        "blob": lambda name: name.startswith("sha256") and not name.endswith(".zst"),
        "compressed": lambda name: name.endswith(".zst"),
        "pack": lambda name: name.startswith("packs") and not name.endswith(".idx"),
        "index": lambda name: name.endswith(".idx"),
        "recipe": lambda name: name.startswith("recipes"),
    }[kind]
    (name,) = filter(find, everything(store))
    path = store.root / name
    good = path.read_bytes()
    path.chmod(0o644)
    draw = random.Random(1)
    for _ in range(6):
        # The fifth byte of a zstd frame has bits that mean nothing.
        at = draw.randrange(5, len(good))
        path.write_bytes(good[:at] + bytes([good[at] ^ 16]) + good[at + 1 :])
        damages = list(scrub(store, listed(store)))
        assert {damage.name for damage in damages} >= {name}, (kind, at)
    for bad in (good[:-1], good + b"x", b""):
        path.write_bytes(bad)
        assert name in {damage.name for damage in scrub(store, listed(store))}, (kind, len(bad))
    path.write_bytes(good)
    assert list(scrub(store, listed(store))) == []


def test_a_sample_is_about_its_share_and_can_be_repeated(store, tmp_path):
    for number in range(40):
        store.put_bytes(random_bytes(1000, number))
    files = listed(store)
    part = sample_of(files, 0.25, seed=1)
    assert 8 <= len(part) <= 12
    assert part == sample_of(files, 0.25, seed=1)
    assert part != sample_of(files, 0.25, seed=2)
    assert sample_of(files, 1.0) == files
    assert len(sample_of(files, 0.0001)) == 1
    assert sample_of([], 0.5) == []
