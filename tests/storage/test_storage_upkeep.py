"""gml artifacts verify, gc, du and shred on real runs."""

import hashlib
import os
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from gml.cas.names import Kind, stored_name
from gml.domain.errors import CorruptError, GmlError, InvalidValueError
from gml.tracking.edits import edit_runs
from gml.tracking.reader import Reader
from gml.tracking.storage.collect import collect, parse_duration
from gml.tracking.storage.needs import needed_digests
from gml.tracking.storage.shred import erase_buried, shred
from gml.tracking.storage.usage import usage
from gml.tracking.storage.verify import parse_share, verify

OLD = 100 * 86_400


def random_bytes(size, seed=0):
    return np.random.default_rng(seed).bytes(size)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def age(store):
    for path in store.root.rglob("*"):
        if path.is_file() and path.parent.name != "cache":
            os.utime(path, (time.time() - OLD, time.time() - OLD))


def log_run(api, files, name="run"):
    with api.start_run(run_name=name) as run:
        for path, data in files.items():
            folder, _, base = path.rpartition("/")
            place = Path(base)
            place.write_bytes(data)
            api.log_artifact(place, folder or None)
    return run.info.run_id


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


@pytest.fixture
def space(repo):
    return repo.workspace()


def test_gc_keeps_what_any_state_of_the_ledger_mentions(api, repo, space):
    model, labels = random_bytes(17_000_000), random_bytes(100_000, 1)
    run = log_run(api, {"model/model.bin": model, "labels.bin": labels})
    garbage = space.blobs.put_bytes(random_bytes(100_000, 2)).digest
    # Removed from the run: only the past has it.
    edit_runs(space, [run], {"artifacts": {"labels.bin": None}}, "remove")
    assert "labels.bin" not in Reader(space).resolve(run).artifacts
    age(space.blobs)
    done = collect(space)
    assert [stored.name for stored in done.deleted] == [stored_name(Kind.BLOB, garbage)]
    assert space.blobs.verify(sha256(model))
    assert space.blobs.verify(sha256(labels))


def test_gc_keeps_what_registry_tags_other_ledgers_journals_and_pins_mention(api, repo, space):
    digests = {name: space.blobs.put_bytes(random_bytes(1000, n)).digest for n, name in enumerate("abcdefg")}
    names = {
        "a": "refs/heads/gml/registry",
        "b": "refs/gml/remotes/origin/ledger",
        "c": "refs/gml/inbox/0123456789abcdef/ledger",
    }
    for key, ref in names.items():
        blob = repo.git("hash-object", "-w", "--stdin", data=f'{{"sha256":"{digests[key]}"}}')
        tree = repo.git("mktree", data=f"100644 blob {blob}\t1.json\n")
        tree = repo.git("mktree", data=f"040000 tree {tree}\tversions\n")
        first = repo.git("commit-tree", "-m", "v1", tree)
        empty = repo.git("mktree", data="")
        # Only the past of the branch has it.
        repo.git("update-ref", ref, repo.git("commit-tree", "-p", first, "-m", "gone", empty))
    blob = repo.git("hash-object", "-w", "--stdin", data=f'{{"of":"{digests["d"]}"}}')
    tree = repo.git("mktree", data=f"100644 blob {blob}\tx.json\n")
    repo.git("tag", "-a", "-m", "x", "gml/m/v1", repo.git("commit-tree", "-m", "v", tree))
    live = space.journal_root / ("0" * 32)
    live.mkdir(parents=True)
    (live / "run.log").write_text(f'00000000 ["a","x",{{"at":"cas","sha256":"{digests["e"]}","size":1}}]\n')
    (space.state_dir / "pins").mkdir()
    (space.state_dir / "pins" / "clone-2").write_text(f"{digests['f']}\n")
    age(space.blobs)
    assert set(digests.values()) - needed_digests(space) == {digests["g"]}
    done = collect(space)
    assert [stored.name for stored in done.deleted] == [stored_name(Kind.BLOB, digests["g"])]
    (live / "run.log").unlink()
    live.rmdir()


def test_gc_does_nothing_where_history_cannot_be_read(api, repo, space):
    log_run(api, {"a.bin": random_bytes(100_000)})
    garbage = space.blobs.put_bytes(random_bytes(100_000, 2)).digest
    age(space.blobs)
    record = repo.git("ls-tree", "-r", "refs/gml/ledger", "runs/").split()[2]
    repo.damaged = True
    for path in list((repo.path / ".git" / "objects" / "pack").iterdir()):
        moved = path.rename(repo.path / path.name)
        if moved.suffix == ".pack":
            with moved.open("rb") as stream:
                subprocess.run(
                    ["git", "-C", str(repo.path), "unpack-objects", "-q"], stdin=stream, check=True
                )
    (repo.path / ".git" / "objects" / record[:2] / record[2:]).unlink()
    with pytest.raises(GmlError):
        collect(repo.workspace())
    assert space.blobs.contains(garbage)


def test_gc_on_the_command_line(api, gml, repo, space):
    log_run(api, {"a.bin": random_bytes(100_000)})
    space.blobs.put_bytes(random_bytes(100_000, 2))
    assert "would free 0 B" in gml("artifacts", "gc", "--dry-run").out
    age(space.blobs)
    planned = gml("artifacts", "gc", "--dry-run", "--json").json
    assert (len(planned["deleted"]), planned["freed"], planned["dry_run"]) == (1, 100_000, True)
    assert (
        "would free 100.0 kB (1 stored files); 1 are needed, 0 younger than 14d"
        in gml("artifacts", "gc", "-n").out
    )
    assert "freed 100.0 kB" in gml("artifacts", "gc", "--grace", "30d").out
    assert gml("artifacts", "gc", "--json").json["deleted"] == []
    assert "too short" in gml("artifacts", "gc", "--grace", "5m", code=2).err
    assert "is no duration" in gml("artifacts", "gc", "--grace", "soon", code=7).err


def test_verify_names_the_damage_and_the_runs_that_need_it(api, gml, repo, space):
    model = random_bytes(17_000_000)
    run = log_run(api, {"model/model.bin": model, "small.bin": random_bytes(100_000, 1)}, "forest")
    log_run(api, {"later.bin": model[:9_000_000] + b"x" + model[9_000_000:]}, "boost")
    assert "read" in gml("artifacts", "verify").out
    store = space.blobs
    store.catalog.refresh()
    pack = max(store.names("packs"), key=lambda s: s.size)
    flip(store.root / pack.name, 1_000_000)
    found = gml("artifacts", "verify", "--json", code=9).json
    (damage,) = found["damaged"]
    assert damage["name"] == pack.name
    assert sorted(use["path"] for use in damage["needed_by"]) == ["later.bin", "model/model.bin"]
    done = gml("artifacts", "verify", code=9)
    assert f"needed by {run[-8:]} forest: model/model.bin" in done.out
    assert "1 damaged object, 0 missing" in done.err
    loose = store.root / stored_name(Kind.BLOB, sha256(random_bytes(100_000, 1)))
    loose.unlink()
    assert "1 missing" in gml("artifacts", "verify", code=9).err
    assert gml("artifacts", "verify", "--json", code=9).json["missing"][0]["path"] == "small.bin"


def test_what_verify_takes_out_can_be_put_again(api, repo, space, tmp_path):
    model, small = random_bytes(17_000_000), random_bytes(100_000, 1)
    log_run(api, {"model.bin": model, "small.bin": small})
    store = space.blobs
    store.catalog.refresh()
    pack = max(store.names("packs"), key=lambda s: s.size)
    flip(store.root / pack.name, 5)
    flip(store.root / stored_name(Kind.BLOB, sha256(small)), 5)
    verdict = verify(Reader(space), repair=True)
    assert len(verdict.damaged) == len(verdict.repaired) == 2
    for data in (model, small):
        store.put_bytes(data)
        assert store.verify(sha256(data))
    verdict = verify(Reader(space))
    assert (verdict.damaged, verdict.absent) == ([], [])


def test_a_damaged_index_is_written_again_from_what_was_known(api, repo, space):
    model = random_bytes(17_000_000)
    log_run(api, {"model.bin": model})
    store = space.blobs
    store.catalog.refresh()
    (index,) = [s.name for s in store.names("packs") if s.name.endswith(".idx")]
    flip(store.root / index, 100)
    assert [damage.name for damage, _ in verify(Reader(space), repair=True).damaged] == [index]
    assert verify(Reader(space)).damaged == []
    assert store.verify(sha256(model))


def test_a_sample_reads_a_part(api, gml, repo, space):
    for number in range(20):
        space.blobs.put_bytes(random_bytes(100_000, number))
    found = gml("artifacts", "verify", "--sample", "10%", "--json").json
    assert found["files"] in {2, 3}
    assert found["total"] == 20
    for bad in ("0", "200%", "x", "-5%"):
        assert "is no share" in gml("artifacts", "verify", "--sample", bad, code=7).err


def test_du_says_who_uses_what_and_what_was_saved(api, gml, repo, space):
    model = random_bytes(17_000_000)
    api.set_experiment("churn")
    one = log_run(api, {"model.bin": model}, "one")
    log_run(api, {"model.bin": model[:17_000_000] + b"more"}, "two")
    api.set_experiment("texts")
    log_run(api, {"table.csv": b"0.5,0.25,red\n" * 20_000, "again.csv": b"0.5,0.25,red\n" * 20_000}, "three")
    found = usage(Reader(space))
    assert found.files == 4
    assert found.size == 34_000_004 + 520_000
    assert found.size - found.unshared > 16_000_000
    assert found.unshared - found.needed > 250_000
    assert found.stored >= found.needed
    assert 0 < found.runs[one].alone < 1_100_000
    groups = gml("artifacts", "du", "--json").json["groups"]
    assert [(group["name"], group["files"]) for group in groups] == [("churn", 2), ("texts", 2)]
    assert "saved   17.1 MB by sharing" in gml("artifacts", "du", "--by", "run").out


def test_shred_deletes_the_bytes_and_leaves_a_tombstone(api, gml, repo, space):
    data = random_bytes(17_000_000)
    run = log_run(api, {"customers.bin": data, "other.bin": random_bytes(100_000, 4)}, "forest")
    assert "--reason" in gml("artifacts", "shred", run, "customers.bin", code=2).err
    gml("artifacts", "shred", run, "customers.bin", "--reason", "erasure request 17", "--yes")
    store = repo.workspace().blobs
    assert not store.contains(sha256(data))
    kept = b"".join(path.read_bytes() for path in store.root.rglob("*") if path.is_file())
    assert all(data[at : at + 64] not in kept for at in range(0, len(data), 500_000))
    said = gml("artifacts", "get", run, "customers.bin", code=4).err
    assert "was shredded on" in said
    assert "erasure request 17" in said
    assert "erasure request 17" in gml("artifacts", "cat", run, "customers.bin", code=4).err
    gml("artifacts", "get", run, "-o", "out")
    assert sorted(path.name for path in (repo.path / "out").iterdir()) == ["other.bin"]
    gml("artifacts", "verify")
    gml("doctor")
    history = repo.git("log", "-1", "--format=%s", "refs/gml/ledger")
    assert history == f"shred customers.bin run {run[-8:]}"
    # Once more goes on where the first time may have stopped.
    store.put_bytes(data)
    gml("artifacts", "shred", run, "customers.bin", "--reason", "again", "--yes")
    assert not repo.workspace().blobs.contains(sha256(data))


def test_shred_refuses_what_others_share_and_what_is_in_git(api, gml, repo, space):
    data = random_bytes(100_000)
    one = log_run(api, {"a.bin": data, "small.txt": b"in git"}, "one")
    log_run(api, {"b.bin": data}, "two")
    shared = gml("artifacts", "shred", one, "a.bin", "--reason", "x", "-y", code=6).err
    assert "b.bin" in shared
    assert "--everywhere" in shared
    assert space.blobs.verify(sha256(data))
    in_git = gml("artifacts", "shred", one, "small.txt", "--reason", "x", "-y", code=2).err
    assert "is in git" in in_git
    assert "filter-repo" in in_git
    gml("artifacts", "shred", one, "a.bin", "--reason", "x", "-y", "--everywhere")
    assert not repo.workspace().blobs.contains(sha256(data))
    assert "shredded" in gml("artifacts", "get", "two", "b.bin", code=4).err


def test_shred_keeps_chunks_that_other_files_need(api, repo, space):
    data = random_bytes(17_000_000)
    other = data + b"a row more"
    run = log_run(api, {"a.bin": data, "b.bin": other})
    reader = Reader(space)
    done = shred(reader, reader.resolve(run), "a.bin", "x")
    assert 16_000_000 < done.shared < 17_000_000
    assert space.blobs.verify(sha256(other))
    assert not space.blobs.contains(sha256(data))


def test_a_file_that_was_packed_with_others_is_shredded_alone(api, repo, space):
    many = Path("many")
    many.mkdir()
    for number in range(80):
        (many / f"{number}.bin").write_bytes(random_bytes(60_000, number))
    with api.start_run() as run:
        api.log_artifacts("many")
    reader = Reader(space)
    found = reader.resolve(run.info.run_id)
    assert {facts.at for facts in found.artifacts.values()} == {"cas"}
    assert len(list(space.blobs.names("packs"))) == 2
    shred(reader, found, "7.bin", "x")
    kept = b"".join(path.read_bytes() for path in (space.blobs.root / "packs").rglob("*") if path.is_file())
    assert random_bytes(60_000, 7)[:100] not in kept
    assert verify(Reader(space)).absent == []


def test_what_another_clone_shredded_goes_with_gc(api, repo, clone, space):
    data = random_bytes(100_000)
    run = log_run(api, {"a.bin": data})
    other = clone(repo, "other").workspace()
    other.blobs.put_bytes(data)
    reader = Reader(other)
    shred(reader, reader.resolve(run), "a.bin", "law")
    repo.git("fetch", "-q", str(other.store.location.git_dir), "refs/gml/ledger:refs/gml/ledger")
    assert space.blobs.contains(sha256(data))
    assert erase_buried(Reader(space)) == [sha256(data)]
    assert not space.blobs.contains(sha256(data))
    assert erase_buried(Reader(space)) == []


def test_reading_an_artifact_that_is_damaged_says_so(api, gml, repo, space):
    data = random_bytes(100_000)
    run = log_run(api, {"a.bin": data})
    flip(space.blobs.root / stored_name(Kind.BLOB, sha256(data)), 7)
    done = gml("artifacts", "get", run, "a.bin", "-o", "out", code=9)
    assert "does not match its digest" in done.err
    assert not (repo.path / "out" / "a.bin").exists()
    with pytest.raises(CorruptError):
        space.blobs.read(sha256(data))


@pytest.mark.parametrize(
    ("text", "seconds"), [("14d", 1_209_600), ("12h", 43_200), ("90m", 5400), ("2w", 1_209_600)]
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "14", "d", "-1d", "1 day", "1y"])
def test_what_is_no_duration(text):
    with pytest.raises(InvalidValueError, match="no duration"):
        parse_duration(text)


def test_shares():
    assert parse_share("5%") == 0.05
    assert parse_share("1") == 1.0
