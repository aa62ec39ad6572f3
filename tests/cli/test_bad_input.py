"""Every kind of bad input gives one clear line, the exit code of its class, and loses nothing."""

from __future__ import annotations

import os
import pathlib
import sys

import pytest

from gml.tracking.reader import Reader


def line_of(done) -> str:
    """Return the one line of an error."""
    lines = done.err.splitlines()
    assert len(lines) == 1, done.err
    assert lines[0].startswith("gml: ")
    return lines[0]


def test_outside_a_repository_the_line_says_what_to_type(gml, tmp_path):
    done = gml("log", "--", "true", code=3, cwd=tmp_path)
    assert "not a git repository" in line_of(done)
    assert "git init" in done.err
    assert "git init" in line_of(gml("ls", code=3, cwd=tmp_path))


def test_no_git_identity_is_no_obstacle(gml, repo):
    gml("log", "--", "true")
    assert repo.git("log", "-1", "--format=%an", "refs/gml/ledger") != ""


def test_an_unknown_run_is_not_found(gml):
    assert line_of(gml("show", "nothing", code=4)) == (
        "gml: no run matches 'nothing'; `gml ls` shows the runs of this repository"
    )
    assert "there is no run '@~7'" in line_of(gml("show", "@~7", code=4))


def test_an_ambiguous_beginning_names_the_candidates(gml):
    gml("log", "--", "true")
    gml("log", "--", "true")
    ids = [run["run_id"] for run in gml("ls", "--json").json]
    common = os.path.commonprefix(ids)  # noqa: RUF071  (characters are meant)
    line = line_of(gml("show", common, code=5))
    assert all(run_id in line for run_id in ids)


def test_two_runs_of_one_name_are_ambiguous(gml):
    gml("log", "-n", "twin", "--", "true")
    gml("log", "-n", "twin", "--", "true")
    assert "'twin' fits 2 runs" in line_of(gml("show", "twin", code=5))


def runs_of(repo):
    return list(Reader(repo.workspace()).runs())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["log", "-p", "novalue", "--", "true"], "is not key=value"),
        (["log", "-p", "a/../b=1", "--", "true"], "not a plain relative path"),
        (["log", "-p", "a=" + "x" * 1_000_00, "--", "true"], "the limit is 6000"),
        (["log", "-t", "a=" + "x" * 10_000, "--", "true"], "the limit is 8000"),
        (["log", "-x", "a\nb", "--", "true"], "control characters"),
        (["log", "-n", " ", "--", "true"], "must be text and not empty"),
        (["log", "--capture", "(", "--", "true"], "position"),
        (["log"], "Missing argument"),
        (["log", "--badopt", "--", "true"], "gml log has no option --badopt"),
        (["log", "-p", "a=1", "-p", "a=2", "--", "true"], "is given twice"),
        (["log", "-x", "", "--", "true"], "must be text and not empty"),
        (["ls", "metrics.auc >"], "expected a value"),
        (["ls", "--columns", "nonsense"], "unknown attribute 'nonsense'"),
        (["ls", "-x", "chrun"], "no experiment is named 'chrun'"),
        (["lss"], "did you mean `gml ls`?"),
        (["ls", "--nonsense"], "No such option"),
        (["tag", "@", "novalue"], "is not key=value"),
        (["exp", "create", ""], "must be text and not empty"),
        (["exp", "rm", "Default"], "cannot be deleted"),
        (["exp", "rename", "Default", "base"], "cannot be renamed"),
        (["artifacts", "cat", "@", "../../etc/passwd"], "has no artifact"),
        (["artifacts", "put", "@", "nothing"], "does not exist"),
    ],
)
def test_malformed_requests_say_what_is_wrong(gml, repo, prepared, arguments, words):
    prepared(repo, "one", lambda: gml("log", "-x", "churn", "--", "true").code)
    before = runs_of(repo)
    done = gml(*arguments, code=None)
    assert done.code not in {0, 1}
    assert words in line_of(done)
    assert len(before) == 1
    assert runs_of(repo) == before


def test_a_rewritten_param_is_a_conflict_that_names_both_values(repo):
    script = "import gml\nwith gml.start_run():\n  gml.log_param('a', 1)\n  gml.log_param('a', 1)\n  gml.log_param('a', 2)"
    child = repo.start(script)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 1
    assert "param 'a' is '1' in this run and cannot become '2'; params are write-once" in err


def test_a_folder_that_contains_itself_is_kept_once(gml, repo):
    repo.file("out/a.txt", "a")
    (repo.path / "out" / "again").symlink_to(repo.path / "out")
    gml("log", "-a", "out", "--", "true")
    assert [a["path"] for a in gml("artifacts", "ls", "@", "out", "--json").json] == ["out/a.txt"]


def test_pipes_and_sockets_in_a_folder_are_named_and_left_out(gml, repo):
    repo.file("out/a.txt", "a")
    os.mkfifo(repo.path / "out" / "pipe")
    done = gml("log", "-a", "out", "--", "true")
    assert "pipe is not a regular file" in done.err
    assert [a["path"] for a in gml("artifacts", "ls", "@", "out", "--json").json] == ["out/a.txt"]


def test_a_newer_ledger_is_refused_and_not_written_to(gml, repo):
    gml("log", "--", "true")
    tip = repo.git("rev-parse", "refs/gml/ledger")
    blob = repo.git("hash-object", "-w", "--stdin", data="gml-ledger 2\nreadable by gitml 3.0 and newer\n")
    listing = repo.git("ls-tree", tip).replace("\tformat", "\told") + f"\n100644 blob {blob}\tformat"
    kept = "\n".join(line for line in listing.split("\n") if not line.endswith("\told"))
    commit = repo.git("commit-tree", "-p", tip, "-m", "newer", repo.git("mktree", data=kept + "\n"))
    repo.git("update-ref", "refs/gml/ledger", commit)
    for arguments in (["ls"], ["show"], ["doctor"], ["log", "--", "true"], ["tag", "@", "a=b"]):
        done = gml(*arguments, code=10)
        assert "readable by gitml 3.0 and newer" in line_of(done)
        assert "pip install -U gitml" in done.err
    assert repo.git("rev-parse", "refs/gml/ledger") == commit


def test_a_damaged_run_is_named_and_the_others_stay_readable(gml, repo):
    gml("log", "-n", "good", "--", "true")
    gml("log", "-n", "bad", "--", "true")
    run_id = gml("show", "bad", "--json").json["run_id"]
    base = f"runs/{run_id[:4]}/{run_id[4:6]}/{run_id[6:8]}"
    blob = repo.git("hash-object", "-w", "--stdin", data="not json")
    tip = repo.git("rev-parse", "refs/gml/ledger")
    environ = {"GIT_INDEX_FILE": str(repo.path / "scratch-index")}
    repo.environ |= environ
    repo.git("read-tree", tip)
    repo.git("update-index", "--cacheinfo", f"100644,{blob},{base}/{run_id}.json")
    commit = repo.git("commit-tree", "-p", tip, "-m", "damage", repo.git("write-tree"))
    repo.environ.clear()
    repo.git("update-ref", "refs/gml/ledger", commit)
    done = gml("ls")
    assert [row["name"] for row in done.rows] == ["good"]
    assert run_id in done.err
    assert gml("show", "good").code == 0
    assert run_id in line_of(gml("show", run_id, code=9))
    assert run_id in gml("show", run_id[-8:], code=9).err
    assert "1 runs cannot be read; `gml doctor` names them" in gml("show", "bad", code=4).err
    doctor = gml("doctor", "--json", code=9).json
    assert doctor["sound"] is False
    assert [f["subject"] for f in doctor["findings"] if f["level"] == "damage"] == [f"run {run_id}"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_read_only_repository_can_be_read_and_gives_one_error_on_writes(gml, repo):
    import subprocess

    gml("log", "-n", "before", "--", "true")
    gml("ls", "name = 'before'")
    mounted = subprocess.run(["mount", "--bind", repo.path, repo.path], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"mount is not allowed here: {mounted.stderr.decode().strip()}")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", repo.path], check=True)
        assert [run["name"] for run in gml("ls", "--json").json] == ["before"]
        assert gml("show", "before").code == 0
        assert "read-only" in line_of(gml("log", "--", "true", code=8)).lower()
        assert "read-only" in gml("tag", "before", "a=b", code=8).err.splitlines()[-1].lower()
    finally:
        subprocess.run(["umount", repo.path], check=True)


@pytest.mark.skipif(not pathlib.Path("/dev/shm").is_dir(), reason="needs a memory file system")
def test_training_goes_on_when_the_disk_is_full(repo, gml):
    script = (
        "import gml, os, resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "run = gml.start_run(run_name='full')\n"
        "gml.log_metric('before', 1)\n"
        "limit = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limit[1]))\n"
        "for i in range(2000): gml.log_metric('during', i, step=i)\n"
        "print('trained on', flush=True)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, limit)\n"
        "gml.end_run()\n"
    )
    child = repo.start(script)
    out, err = child.communicate(timeout=100)
    assert (child.returncode, out) == (0, "trained on\n"), err
    assert "training goes on" in err
    run = gml("show", "full", "--json").json
    assert run["metric_summary"]["during"]["count"] == 2000
    assert run["metrics"]["before"] == 1.0


def test_an_artifact_that_vanishes_or_does_not_exist(repo):
    script = "import gml\nwith gml.start_run():\n  gml.log_artifact('nothing.bin')"
    child = repo.start(script)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 1
    assert "artifact nothing.bin does not exist" in err


def test_a_clock_set_back_does_not_change_what_is_latest(repo, gml):
    gml("log", "-n", "first", "--", "true")
    script = (
        "import time\nreal = time.time_ns\ntime.time_ns = lambda: real() - 10 * 365 * 86400 * 10**9\n"
        "real2 = time.time\ntime.time = lambda: real2() - 10 * 365 * 86400\n"
        "import gml\nwith gml.start_run(run_name='second'): gml.log_metric('a', 1)"
    )
    repo.python(script)
    assert gml("show", "@", "--json").json["name"] == "second"
    times = [int(t) for t in repo.git("log", "--format=%ct", "refs/gml/ledger").split()]
    assert times == sorted(times, reverse=True)


def test_an_unforeseen_error_in_the_script_fails_the_run_and_shows_its_own_traceback(gml, start, repo):
    child = start("log", "--", sys.executable, "-c", "raise RuntimeError('mine')")
    _, err = child.communicate(timeout=60)
    assert child.returncode == 1
    assert b"RuntimeError: mine" in err
    assert gml("show", "--json").json["status"] == "FAILED"
