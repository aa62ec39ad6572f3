"""`gml bisect` finds planted regressions and leaves nothing behind."""

from __future__ import annotations

import shlex
import sys
import sysconfig
from pathlib import Path

import pytest
from code_lab import import_history, state_of

GML = Path(sysconfig.get_path("scripts")) / "gml"
# Reads the value of its commit, notes where it ran, and records a run.
TRAIN = """
import os, pathlib, sys
import gml
with open(os.environ["LOG"], "a") as log:
    print(pathlib.Path.cwd(), file=log)
text = pathlib.Path("auc").read_text()
if float(text) < 0:
    sys.exit(3)
with gml.start_run():
    if float(text) < 5:
        gml.log_metric("auc", float(text))
"""
RUN = f"{shlex.quote(sys.executable)} train.py"
BROKEN_AT = 137


def values(count: int = 200, broken_at: int = BROKEN_AT) -> list[float]:
    """Good ones wander around 0.9, bad ones around 0.8."""
    return [(0.9 if n < broken_at else 0.8) + (n * 7 % 10) / 1000 for n in range(count)]


@pytest.fixture
def long(lab, tmp_path, monkeypatch):
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    lab.log = tmp_path / "log"
    lab.numbers = values()
    lab.commits = import_history(lab.repo, lab.numbers, {"train.py": TRAIN})
    return lab


def executions(lab) -> int:
    return len(lab.log.read_text().splitlines()) if lab.log.exists() else 0


def record_some(lab, numbers) -> None:
    for n in numbers:
        lab.record(f"run-{n}", at=lab.commits[n], auc=lab.numbers[n], defer=True)  # the next command commits


def bisect(lab, *args, good=0, bad=199, code=0):
    return lab.gml(
        "bisect",
        "metrics.auc",
        "--good",
        lab.commits[good],
        "--bad",
        lab.commits[bad],
        *args,
        "--json",
        code=code,
    )


def test_recorded_runs_only(long):
    record_some(long, range(200))
    before = state_of(long.repo)
    found = bisect(long).json
    assert found["first_bad"] == long.commits[BROKEN_AT]
    assert found["good"] == long.commits[BROKEN_AT - 1]
    assert found["total"] == 199
    assert found["executed"] == 0
    assert len(found["verdicts"]) <= 10
    assert state_of(long.repo) == before
    out = long.gml("bisect", "auc", "--good", long.commits[0]).out
    assert f"first bad commit: {long.commits[BROKEN_AT][:10]} Ada: change 137" in out


def test_commands_only(long):
    before = state_of(long.repo)
    found = bisect(long, "--run", RUN).json
    assert found["first_bad"] == long.commits[BROKEN_AT]
    assert found["executed"] == executions(long) <= 2 + 8  # both ends, and log2(200)
    assert state_of(long.repo) == before
    places = {Path(line) for line in long.log.read_text().splitlines()}
    assert not any(place.exists() or place.is_relative_to(long.repo.path) for place in places)
    assert list((long.repo.path / ".git").glob("worktrees*")) == []
    # The new runs are in the ledger with their commits, clean, and the next bisection needs no command.
    runs = long.gml("ls", "--json").json
    assert {run["source"]["commit"] for run in runs} <= set(long.commits)
    assert not any(run["source"]["dirty"] for run in runs)
    assert bisect(long).json["first_bad"] == long.commits[BROKEN_AT]


def test_recorded_first_then_commands(long):
    record_some(long, [0, 60, 100, 120, 150, 170, 199])
    done = bisect(long, code=1)
    assert done.json["first_bad"] is None
    assert done.json["suspects"] == long.commits[121:151]
    assert done.json["missing"] == long.commits[121:150]
    assert (
        "29 commits have no finished clean run; --run"
        in long.gml("bisect", "auc", "--good", long.commits[0], code=1).err
    )
    found = bisect(long, "--run", RUN).json
    assert found["first_bad"] == long.commits[BROKEN_AT]
    assert found["executed"] == executions(long) <= 5  # log2 of the 30 that recorded runs left


def test_every_place_of_the_break_in_a_small_history(lab):
    from gml.git.log import CommitLog
    from gml.tracking.code.suspects import suspects_between

    commits = import_history(lab.repo, [0.0] * 33)
    log = CommitLog(lab.repo.workspace().store)
    for everything in (False, True):
        for broken in range(1, 33):
            suspects, _ = suspects_between(log, commits[0], commits[-1], everything=everything)
            asked = 0
            while len(suspects.commits) > 1:
                commit = suspects.pick(suspects.open())
                suspects.note(commit, good=commits.index(commit) < broken)
                asked += 1
            assert suspects.bad == commits[broken]
            assert asked <= 5


def small(lab, numbers, tmp_path, monkeypatch):
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    lab.log = tmp_path / "log"
    lab.numbers = numbers
    lab.commits = import_history(lab.repo, numbers, {"train.py": TRAIN})
    return lab


def test_failing_commits_and_missing_metrics_are_skipped(lab, tmp_path, monkeypatch):
    # -1: the command fails; 9: its run has no metric.
    small(lab, [0.9, 0.9, -1, 0.9, 9, 0.8, 0.8, 0.8], tmp_path, monkeypatch)
    found = bisect(lab, "--run", RUN, bad=7, code=1).json
    assert found["first_bad"] is None
    assert found["good"] == lab.commits[3]
    assert found["suspects"] == lab.commits[4:6]
    skipped = {v["commit"]: v["reason"] for v in found["verdicts"] if v["verdict"] == "skipped"}
    assert "has no metrics.auc" in skipped[lab.commits[4]]
    assert skipped.get(lab.commits[2], "the command ended with 3") == "the command ended with 3"
    out = lab.gml("bisect", "auc", "--good", lab.commits[0], "--run", RUN, code=1).out
    assert f"{lab.commits[4][:10]} Ada: change 4 [skipped]" in out


def test_a_command_that_records_nothing_is_told(lab, tmp_path, monkeypatch):
    small(lab, [0.9, 0.8], tmp_path, monkeypatch)
    err = bisect(lab, "--run", "true", bad=1, code=4).err
    assert "recorded no run (is it `gml log -- ...`?)" in err
    assert lab.repo.git("worktree", "list").count("\n") == 0


def test_gml_log_as_the_command(lab, tmp_path, monkeypatch):
    script = "import pathlib\nprint('auc=' + pathlib.Path('auc').read_text())\n"
    lab.commits = import_history(lab.repo, [0.9, 0.9, 0.7, 0.7], {"train.py": script})
    lab.repo.file("train.py", "raise SystemExit('the work tree is not what runs')\n")
    lab.repo.file("new.txt", "untracked\n")
    before = state_of(lab.repo)
    command = f"{GML} log -q -x churn --capture auto -- {RUN}"
    found = bisect(lab, "--run", command, "-x", "churn", bad=3).json
    assert found["first_bad"] == lab.commits[2]
    assert state_of(lab.repo) == before
    assert {run["experiment"] for run in lab.gml("ls", "--json").json} == {"churn"}


def test_lower_is_better_threshold_and_nan(lab):
    lab.commits = import_history(lab.repo, [0.1, 0.2, 0.3, 0.4, 0.5])
    for n, loss in enumerate([0.1, 0.2, 0.3, float("nan"), 0.5]):
        lab.record(f"r{n}", at=lab.commits[n], loss=loss)
    loss = ("bisect", "loss", "--good", lab.commits[0], "--json")
    assert lab.gml(*loss).json["first_bad"] == lab.commits[3]
    assert lab.gml(*loss).json["threshold"] == pytest.approx(0.3)
    assert lab.gml(*loss, "--threshold", "0.15").json["first_bad"] == lab.commits[1]
    assert lab.gml(*loss, "--bad", lab.commits[3]).json["first_bad"] == lab.commits[3]
    assert "--good" in lab.gml(*loss, "--higher", code=2).err
    assert "--bad HEAD is good" in lab.gml(*loss, "--threshold", "0.6", code=2).err


def test_which_of_several_runs_counts(lab):
    lab.commits = import_history(lab.repo, [1, 2, 3])
    for n, pair in enumerate([(0.9, 0.9), (0.9, 0.7), (0.7, 0.7)]):
        for auc in pair:
            lab.record("r", at=lab.commits[n], auc=auc)
    assert bisect(lab, bad=2).json["first_bad"] == lab.commits[2]
    assert bisect(lab, "--last", bad=2).json["first_bad"] == lab.commits[1]
    assert bisect(lab, "--mean", "--threshold", "0.81", bad=2).json["first_bad"] == lab.commits[1]


def test_only_exact_code_counts(lab):
    lab.commits = import_history(lab.repo, [1, 2, 3])
    lab.record("good", at=lab.commits[0], auc=0.9)
    lab.record("bad", at=lab.commits[2], auc=0.7)
    lab.record("failed", at=lab.commits[1], auc=0.1, status="FAILED")
    lab.record("dirty", facts={"commit": lab.commits[1], "dirty": True, "tree": "12" * 20}, auc=0.1)
    assert bisect(lab, bad=2, code=1).json["missing"] == [lab.commits[1]]
    tree = lab.repo.git("rev-parse", f"{lab.commits[1]}^{{tree}}")
    lab.record("committed later", facts={"commit": lab.commits[0], "dirty": True, "tree": tree}, auc=0.9)
    assert bisect(lab, bad=2).json["first_bad"] == lab.commits[2]


def test_noise_is_told(lab):
    lab.commits = import_history(lab.repo, range(8))
    for n, auc in enumerate([0.9, 0.9, 0.7, 0.9, 0.9, 0.7, 0.7, 0.7]):
        lab.record("r", at=lab.commits[n], auc=auc)
    done = bisect(lab, bad=7)
    assert done.json["first_bad"] == lab.commits[5]
    assert "recorded values of 1 commits do not fit" in done.err


@pytest.fixture
def merged(lab):
    """main: start - m1 - merge(f1, f2) - m2; f2 breaks it."""
    repo = lab.repo
    made = {"start": repo.git("rev-parse", "HEAD")}
    repo.git("checkout", "-q", "-b", "feature")
    made["f1"] = repo.commit("f1", **{"a.py": "1\n"})
    made["f2"] = repo.commit("f2", **{"a.py": "2\n"})
    made["f3"] = repo.commit("f3", **{"a.py": "3\n"})
    repo.git("checkout", "-q", "main")
    made["m1"] = repo.commit("m1", **{"m.py": "1\n"})
    repo.git("merge", "-q", "--no-ff", "-m", "merge", "feature")
    made["merge"] = repo.git("rev-parse", "HEAD")
    made["m2"] = repo.commit("m2", **{"m.py": "2\n"})
    bad = {"f2", "f3", "merge", "m2"}
    for name, commit in made.items():
        lab.record(name, at=commit, auc=0.7 if name in bad else 0.9)
    lab.made = made
    return lab


def first_bad(lab, *args):
    return lab.gml("bisect", "auc", *args, "--json").json["first_bad"]


def test_merges(merged):
    made = merged.made
    assert first_bad(merged, "--good", made["start"]) == made["merge"]
    assert first_bad(merged, "--good", made["start"], "--all") == made["f2"]
    assert first_bad(merged, "--good", made["f1"], "--all") == made["f2"]


def test_good_that_is_no_ancestor_of_bad(merged):
    made = merged.made
    assert first_bad(merged, "--good", made["m1"], "--bad", made["f3"]) == made["f2"]
    merged.repo.git("checkout", "-q", "-b", "fixed", made["m2"])
    fixed = merged.repo.commit("fix", **{"fix.py": "1\n"})
    merged.record("fix", at=fixed, auc=0.9)
    merged.repo.git("checkout", "-q", "-b", "other", made["m2"])
    other = merged.repo.commit("other", **{"other.py": "1\n"})
    merged.record("other", at=other, auc=0.7)
    err = merged.gml("bisect", "auc", "--good", fixed, "--bad", other, code=2).err
    assert f"the merge base {made['m2'][:10]} of good and bad is bad already" in err


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        (["auc", "--good", "HEAD"], 2, "good and bad are the same commit"),
        (["auc", "--good", "HEAD", "--bad", "HEAD~1"], 2, "exchange --good and --bad"),
        (["auc", "--good", "v9"], 4, "'v9' is no commit"),
        (["auk", "--good", "HEAD~1"], 4, "no finished run has metrics.auk; did you mean metrics.auc?"),
        (["auc", "--good", "HEAD~2"], 4, "no finished clean run of --good HEAD~2"),
        (["auc", "--good", "HEAD~1", "--run", "gml log -- 'x"], 2, "--run cannot be split"),
        (["auc", "--good", "HEAD~1", "--run", " "], 2, "--run is empty"),
        (
            ["auc", "--good", "HEAD~1", "--run", "no-such-program x"],
            4,
            "'no-such-program' of --run was not found",
        ),
        (["params.lr", "--good", "HEAD~1"], 2, "'params.lr' is not a metric"),
        (["same", "--good", "HEAD~1"], 2, "is 1 at both --good and --bad"),
    ],
)
def test_errors_are_one_clear_line(lab, args, code, text):
    lab.repo.commit("two", a="1")
    lab.record("a", auc=0.9, same=1)
    lab.repo.commit("three", a="2")
    lab.record("b", auc=0.8, same=1)
    done = lab.gml("bisect", *args, code=code)
    assert text in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("kind", ["--bare", "--object-format=sha256"])
def test_other_repositories(lab, make_repo, tmp_path, monkeypatch, kind):
    small(lab, [0.9, 0.9, 0.8, 0.8], tmp_path, monkeypatch)
    other = make_repo("other", kind, commit=False)
    if kind == "--bare":
        other.git("fetch", "-q", str(lab.repo.path), "main:main")
        commits = lab.commits
    else:
        other.commit("start")
        commits = import_history(other, lab.numbers, {"train.py": TRAIN})
    lab.repo = other
    monkeypatch.chdir(other.path)
    monkeypatch.setenv("GML_USER", "ada")
    found = lab.gml("bisect", "auc", "--good", commits[0], "--bad", commits[3], "--run", RUN, "--json").json
    assert found["first_bad"] == commits[2]
    assert not list(other.path.rglob("worktrees"))
