"""Full, read-only and damaged storage, newer formats, wrong clocks: training goes on, nothing kept is lost."""

from __future__ import annotations

import json
import logging
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from gml.domain.errors import CorruptError, FormatError, StorageError
from gml.tracking import active, documents, edits
from gml.tracking.commit import commit_sessions
from gml.tracking.contents import open_artifact
from gml.tracking.reader import Reader

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def tiny_disk(tmp_path):
    """Return a function that mounts a file system of its own, with so many bytes."""
    mounted: list[Path] = []

    def mount(size: str) -> Path:
        path = tmp_path / f"disk-{len(mounted)}"
        path.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)],
            capture_output=True,
            check=False,
        )
        if done.returncode:
            pytest.skip("only root can mount a file system")
        mounted.append(path)
        return path

    yield mount
    for path in mounted:
        subprocess.run(["umount", "-l", str(path)], check=True)


FULL = """
import errno, os, gml, sys
disk = sys.argv[1]

def fill():
    with open(disk + "/filler", "wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError as error:
            assert error.errno == errno.ENOSPC

def free():
    os.unlink(disk + "/filler")
"""


def check_whole(repo, run_id: str, steps: int, **environ: str):
    workspace = repo.workspace(**environ)
    commit_sessions(workspace)
    reader = Reader(workspace)
    assert not reader.live
    run = reader.run(run_id)
    assert list(reader.history(run, "m")[0]) == list(range(steps))
    return run


def test_training_goes_on_while_the_disk_is_full_and_everything_is_written_once_there_is_space(
    repo, tiny_disk
):
    disk = tiny_disk("512k")
    child = repo.start(
        FULL
        + """
run = gml.start_run()
for step in range(3000):
    if step == 100:
        fill()
    if step == 2900:
        free()
        gml.flush()
    gml.log_metric("m", step, step=step)
    if step % 500 == 0:
        gml.log_param(f"p{step}", step)
        gml.set_tag("step", step)
gml.end_run()
print(run.run_id)
""",
        disk,
        GML_JOURNAL_DIR=str(disk),
    )
    out, err = child.communicate()
    assert child.returncode == 0, err
    assert "No space left on device" in err
    assert "training goes on" in err
    assert "lost" not in err
    run = check_whole(repo, out.strip(), 3000, GML_JOURNAL_DIR=str(disk))
    assert run.status == "FINISHED"
    assert run.params == {f"p{step}": str(step) for step in range(0, 3000, 500)}
    assert run.tags == {"step": "2500"}


def test_the_end_of_a_run_writes_what_waited_for_space(repo, tiny_disk):
    disk = tiny_disk("128k")
    child = repo.start(
        FULL
        + """
run = gml.start_run()
fill()
for step in range(50):
    gml.log_metric("m", step, step=step)
gml.log_text("x" * 20_000, "cannot/be/kept.txt")
free()
gml.end_run()
print(run.run_id)
""",
        disk,
        GML_JOURNAL_DIR=str(disk),
    )
    out, err = child.communicate()
    assert child.returncode == 0, err
    assert "log_text" in err
    run = check_whole(repo, out.strip(), 50, GML_JOURNAL_DIR=str(disk))
    assert (run.status, run.artifacts) == ("FINISHED", {})


def test_what_cannot_be_written_until_the_very_end_is_named_as_lost_and_the_rest_is_whole(repo, tiny_disk):
    disk = tiny_disk("128k")
    child = repo.start(
        FULL
        + """
run = gml.start_run()
for step in range(4000):
    if step == 50:
        fill()
    gml.log_metric("m", step, step=step)
gml.end_run()
print(run.run_id)
""",
        disk,
        GML_JOURNAL_DIR=str(disk),
    )
    out, err = child.communicate()
    assert child.returncode == 0, err
    assert "could not be written and are lost" in err
    (disk / "filler").unlink()
    workspace = repo.workspace(GML_JOURNAL_DIR=str(disk))
    commit_sessions(workspace)
    reader = Reader(workspace)
    steps = list(reader.history(reader.run(out.strip()), "m")[0])
    assert steps == list(range(len(steps)))
    assert len(steps) >= 50


def test_training_goes_on_when_a_file_may_not_grow(repo):
    """The same by a limit on file sizes, which needs no privileges."""
    out = repo.start(
        """
import gml, json, os, resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
run = gml.start_run()
gml.log_metric("m", 0, step=0)
resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, resource.RLIM_INFINITY))
for step in range(1, 2000):
    gml.log_metric("m", step, step=step)
    if step % 100 == 0:
        gml.set_tag("step", "x" * 100 + str(step))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
gml.end_run()
print(run.run_id)
"""
    )
    run_id, err = out.communicate()
    assert out.returncode == 0, err
    assert "training goes on" in err
    assert "lost" not in err
    run = check_whole(repo, run_id.strip(), 2000)
    assert (run.status, run.tags) == ("FINISHED", {"step": "x" * 100 + "1900"})


def test_a_run_that_starts_on_a_full_disk_says_so_and_logging_without_it_only_warns(repo, tiny_disk):
    disk = tiny_disk("16k")
    out = repo.start(
        FULL
        + """
fill()
from gml.domain.errors import StorageError
try:
    gml.start_run()
except StorageError as error:
    print(error)
gml.log_metric("m", 1)
gml.log_param("p", 1)
""",
        disk,
        GML_JOURNAL_DIR=str(disk),
    )
    said, err = out.communicate()
    assert out.returncode == 0, err
    assert "o space left on" in said
    assert "free some space" in said
    assert "log_metric" in err
    assert "log_params" in err
    assert [p.name for p in disk.rglob("*") if p.is_file()] == ["filler"]


def test_a_run_that_ends_on_a_full_disk_waits_in_its_journal(make_repo, tiny_disk, tmp_path):
    disk = tiny_disk("3m")
    repo = make_repo(str(disk / "repo"))
    journal = tmp_path / "journal"
    child = repo.start(
        FULL
        + """
run = gml.start_run()
fill()
for step in range(500):
    gml.log_metric("m", step / 3, step=step)
gml.end_run()
print(run.run_id)
""",
        disk,
        GML_JOURNAL_DIR=str(journal),
        GML_CODE="none",
    )
    out, err = child.communicate()
    assert child.returncode == 0, err
    assert "is not in the ledger yet" in err
    assert "gml recover" in err
    assert "Traceback" not in err
    (disk / "filler").unlink()
    assert check_whole(repo, out.strip(), 500, GML_JOURNAL_DIR=str(journal)).status == "FINISHED"


@pytest.fixture
def read_only_repo(make_repo, tiny_disk):
    """Return a repository with a finished run and a killed one that cannot be written any more."""
    disk = tiny_disk("20m")
    repo = make_repo(str(disk / "repo"))
    repo.python(
        "import gml\nwith gml.start_run(run_name='old'): gml.log_metric('m', 1); gml.log_text('a', 'a.txt')"
    )
    killed = repo.start(
        "import gml, os\ngml.start_run(run_name='killed')\ngml.log_metric('m', 2)\nos.kill(os.getpid(), 9)"
    )
    killed.communicate()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    yield repo
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)


def test_a_read_only_repository_can_be_read(read_only_repo):
    reader = Reader(read_only_repo.workspace())
    assert [(run.name, run.status, run.live) for run in reader.runs()] == [
        ("killed", "KILLED", False),
        ("old", "FINISHED", False),
    ]
    with open_artifact(reader, reader.resolve("old"), "a.txt") as file:
        assert file.read() == b"a"
    assert list(reader.history(reader.resolve("killed"), "m")[2]) == [2.0]


def test_a_read_only_repository_refuses_runs_and_edits_in_one_line_and_lets_training_go_on(read_only_repo):
    workspace = read_only_repo.workspace()
    with pytest.raises(StorageError, match="read-only"):
        commit_sessions(workspace)
    with pytest.raises(StorageError, match="read-only"):
        edits.tag_runs(workspace, [Reader(workspace).resolve("old").run_id], {"a": "b"})
    with pytest.raises(StorageError, match="read-only"):
        edits.create_experiment(workspace, "new")
    child = read_only_repo.start(
        """
import gml
from gml.domain.errors import StorageError
try:
    gml.start_run()
except StorageError as error:
    print(error)
gml.log_metric("m", 1)
gml.log_params({"a": 1})
gml.log_text("x", "x.txt")
print(len(gml.search_runs(output_format="list")))
print(gml.search_runs(filter_string="metrics.m >= 1")["tags.mlflow.runName"].tolist())
"""
    )
    out, err = child.communicate()
    assert child.returncode == 0, err
    assert "read-only" in out.splitlines()[0]
    assert out.splitlines()[1:] == ["2", "['killed', 'old']"]
    assert err.count("\n") >= 3
    assert "Traceback" not in err


# --- damage -------------------------------------------------------------------------------------


def loose(repo, oid: str) -> Path:
    """Return the file of an object, unpacked if necessary."""
    path = repo.path / ".git" / "objects" / oid[:2] / oid[2:]
    if not path.exists():
        packs = list((repo.path / ".git" / "objects" / "pack").glob("*.pack"))
        data = [pack.read_bytes() for pack in packs]
        for pack in packs:
            for file in pack.parent.glob(f"{pack.stem}.*"):
                file.chmod(0o600)
                file.unlink()
        for one in data:
            subprocess.run(["git", "-C", str(repo.path), "unpack-objects", "-q"], input=one, check=True)
    path.chmod(0o600)
    return path


@pytest.fixture
def damaged(repo):
    """Return a repository of three runs, and a function that damages the record of the second."""
    ids = json.loads(
        repo.python(
            "import gml, json\nids = []\n"
            "for n in range(3):\n"
            "    with gml.start_run(run_name=f'run-{n}') as run: gml.log_metric('m', n); ids.append(run.run_id)\n"
            "print(json.dumps(ids))"
        )
    )

    def damage(how: str) -> list[str]:
        entry = repo.workspace().ledger.view().entry(ids[1])
        path = loose(repo, entry.record)
        if how == "garbage":
            path.write_bytes(b"\x00" * 100)
        elif how == "empty":
            path.write_bytes(b"")
        else:
            path.unlink()
        repo.damaged = True
        return ids

    return repo, damage


@pytest.mark.parametrize("how", ["garbage", "empty", "missing"])
def test_a_damaged_record_leaves_other_runs_readable_and_is_named(damaged, how):
    repo, damage = damaged
    ids = damage(how)
    reader = Reader(repo.workspace())
    assert [run.name for run in reader.runs()] == ["run-2", "run-0"]
    assert len(reader.damaged) == 1
    assert ids[1] in str(reader.damaged[0])
    assert [run.name for run in reader.search(None, now_ms=0)] == ["run-2", "run-0"]
    assert reader.resolve("run-0").run_id == ids[0]
    assert reader.resolve("@").run_id == ids[2]
    assert reader.children(ids[0]) == []
    with pytest.raises(CorruptError, match=ids[1]):
        reader.run(ids[1])
    with pytest.raises(CorruptError, match=ids[1]):
        edits.tag_runs(repo.workspace(), [ids[1]], {"a": "b"})
    # Runs can still be logged, tagged and deleted.
    repo.python("import gml\nwith gml.start_run(run_name='after'): gml.log_metric('m', 9)")
    edits.tag_runs(repo.workspace(), [ids[0]], {"a": "b"})
    names = {run.name: run.tags for run in Reader(repo.workspace()).runs()}
    assert names == {"after": {}, "run-2": {}, "run-0": {"a": "b"}}


def test_a_resumed_run_whose_record_is_damaged_keeps_no_other_run_out_of_the_ledger(damaged, caplog):
    repo, damage = damaged
    entry_of = repo.workspace().ledger.view
    ids = [run.run_id for run in entry_of().runs()][::-1]
    child = repo.start(
        "import gml, os, sys\ngml.start_run(run_id=sys.argv[1])\ngml.log_metric('late', 1)\nos.kill(os.getpid(), 9)",
        ids[1],
    )
    child.communicate()
    damage("garbage")
    repo.python("import gml\nwith gml.start_run(run_name='after'): gml.log_metric('m', 9)")
    with caplog.at_level(logging.WARNING):
        assert commit_sessions(repo.workspace()) == []
    assert ids[1] in caplog.text
    reader = Reader(repo.workspace())
    assert [run.name for run in reader.runs()] == ["after", "run-2", "run-0"]
    assert [run.name for run in reader.search(None, now_ms=0)] == ["after", "run-2", "run-0"]
    assert (repo.workspace().journal_root / ids[1]).is_dir()


def test_a_run_that_needs_an_artifact_store_that_is_down_waits_and_others_do_not(
    api, repo, caplog, monkeypatch
):
    repo.file("in-the-way")
    repo.git("config", "gml.artifacts.store", str(repo.path / "in-the-way" / "store"))
    child = repo.start(
        "import gml, os\ngml.start_run(run_name='large')\n"
        "for step in range(500): gml.log_metric('m', step / 7, step=step)\n"
        "gml.log_text('x' * 100_000, 'large.bin')\n"
        "print('still training', flush=True)\nos.kill(os.getpid(), 9)"
    )
    out, err = child.communicate()
    active._workspaces.clear()
    assert out == "still training\n"
    assert "log_text" in err
    with monkeypatch.context() as patch:
        patch.setattr(documents, "HIST_INLINE", 100)
        with caplog.at_level(logging.WARNING), api.start_run(run_name="small"):
            api.log_metric("m", 1)
        assert sorted(run.name for run in repo.workspace().ledger.view().runs()) == ["small"]
        assert "cannot be committed" in caplog.text
        with api.start_run(run_name="also large"):
            api.log_metrics({"m": 1})
            for step in range(200):
                api.log_metric("loss", step / 3, step=step)
        assert "is not in the ledger yet" in caplog.text
        repo.git("config", "--unset", "gml.artifacts.store")
        commit_sessions(repo.workspace())
    reader = Reader(repo.workspace())
    assert sorted(run.name for run in reader.runs()) == ["also large", "large", "small"]
    assert list(reader.history(reader.resolve("large"), "m")[0]) == list(range(500))
    assert list(reader.history(reader.resolve("also large"), "loss")[0]) == list(range(200))


def test_artifacts_of_which_one_is_a_folder_of_the_other_do_not_block_the_ledger(api, repo):
    with api.start_run() as run:
        api.log_text("file", "a")
        api.log_text("below", "a/b/c.txt")
        api.log_text("", "a/b")
        api.log_text("other", "ab")
    reader = Reader(repo.workspace())
    assert not reader.live
    found = reader.run(run.run_id)
    content = {}
    for name in found.artifacts:
        with open_artifact(reader, found, name) as file:
            content[name] = file.read()
    assert content == {"a": b"file", "a/b/c.txt": b"below", "a/b": b"", "ab": b"other"}


def test_a_staged_artifact_that_was_damaged_or_lost_is_named_and_left_out(repo, caplog):
    child = repo.start(
        "import gml, os\nrun = gml.start_run()\n"
        "for n in range(3): gml.log_text(f'artifact {n}', f'{n}.txt')\n"
        "print(run.run_id, flush=True)\nos.kill(os.getpid(), 9)"
    )
    run_id = child.communicate()[0].strip()
    workspace = repo.workspace()
    staged = {f.read_bytes(): f for f in (workspace.journal_root / run_id / "files").iterdir()}
    staged[b"artifact 0"].write_bytes(b"something else")
    staged[b"artifact 1"].unlink()
    commit_sessions(workspace)
    assert list(Reader(workspace).run(run_id).artifacts) == ["2.txt"]
    assert "0.txt" in caplog.text
    assert "1.txt" in caplog.text


# --- newer formats ------------------------------------------------------------------------------


def test_a_ledger_of_a_newer_gml_is_refused_with_what_to_do_and_not_written_to(repo):
    run_id = repo.python("import gml\nwith gml.start_run() as run: pass\nprint(run.run_id)")
    blob = repo.git("hash-object", "-w", "--stdin", data="gml-ledger 2\n")
    tree = repo.git("ls-tree", "refs/gml/ledger").replace(
        repo.git("rev-parse", "refs/gml/ledger:format"), blob
    )
    commit = repo.git(
        "commit-tree", "-m", "newer", repo.git("mktree", data=tree + "\n"), "-p", "refs/gml/ledger"
    )
    repo.git("update-ref", "refs/gml/ledger", commit)
    before = repo.git("for-each-ref")
    workspace = repo.workspace()
    for attempt in (
        lambda: Reader(workspace),
        lambda: edits.tag_runs(workspace, [run_id], {"a": "b"}),
        lambda: edits.create_experiment(workspace, "new"),
        lambda: edits.delete_runs(workspace, [run_id]),
    ):
        with pytest.raises(FormatError, match=r"gml-ledger 2.*upgrade: pip install"):
            attempt()
    said = repo.python(
        "import gml\nfrom gml.domain.errors import FormatError\n"
        "try: gml.start_run()\nexcept FormatError as error: print(error)"
    )
    assert "upgrade" in said
    assert repo.git("for-each-ref") == before


def test_a_record_of_a_newer_gml_is_named_and_others_are_read(repo):
    workspace = repo.workspace()
    repo.python("import gml\nwith gml.start_run(run_name='known'): pass")
    from gml.ledger import layout
    from gml.ledger.ledger import Batch

    newer = "01983c1f2ab470008000000000000000"
    workspace.ledger.append(
        lambda _: Batch({layout.record_path(newer): b'{"format":"gml-run 2"}\n'}, "newer\n")
    )
    reader = Reader(workspace)
    assert [run.name for run in reader.runs()] == ["known"]
    assert isinstance(reader.damaged[0], FormatError)
    assert newer in str(reader.damaged[0])
    assert "upgrade" in str(reader.damaged[0])


# --- clocks -------------------------------------------------------------------------------------

CLOCK = """
import sys, time
shift = int(sys.argv[1]) * 365 * 24 * 3600
real, real_ns = time.time, time.time_ns
time.time = lambda: real() + shift
time.time_ns = lambda: real_ns() + shift * 10**9
import gml
with gml.start_run(run_name=sys.argv[2]) as run:
    gml.log_metric("m", 1, step=1)
print(run.run_id)
"""


@pytest.mark.parametrize("shifts", [[0, -10, 0], [0, -10, -10, 3], [30, 0, -10]])
def test_the_newest_run_is_the_last_one_and_commits_never_go_back_whatever_the_clock_says(repo, shifts):
    ids = [repo.python(CLOCK, shift, f"run-{number}") for number, shift in enumerate(shifts)]
    assert ids == sorted(ids)
    reader = Reader(repo.workspace())
    assert [run.run_id for run in reader.runs()] == ids[::-1]
    for back, run_id in enumerate(reversed(ids)):
        assert reader.resolve(f"@~{back}" if back else "@").run_id == run_id
    for ref in ("refs/gml/ledger", "refs/gml/code"):
        dates = [int(d) for d in repo.git("log", "--first-parent", "--format=%ct", ref).splitlines()]
        assert dates == sorted(dates, reverse=True)
    assert all(run.end_time >= run.start_time for run in reader.runs())


def test_an_edit_made_with_a_clock_ten_years_back_is_the_latest(repo):
    run_id = repo.python("import gml\nwith gml.start_run(tags={'t': 'old'}) as run: pass\nprint(run.run_id)")
    script = CLOCK.split("import gml", maxsplit=1)[0] + (
        "from gml.tracking.edits import tag_runs\nfrom gml.workspace import Workspace\n"
        "tag_runs(Workspace.open(), [sys.argv[2]], {'t': sys.argv[3]})"
    )
    repo.python(script, 0, run_id, "newer")
    repo.python(script, -10, run_id, "newest")
    assert Reader(repo.workspace()).run(run_id).tags == {"t": "newest"}
    assert os.environ.get("GML_ACTIVE_RUN") is None
