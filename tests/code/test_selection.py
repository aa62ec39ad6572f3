"""`gml ls` by commit, branch, author, time, dirt and path, after all that rewrites history."""

from __future__ import annotations

import time

import pytest

HOUR = 3_600_000


@pytest.fixture
def branched(lab):
    """main: start, m1; feature/x off start: f1, f2. A run at each."""
    repo = lab.repo
    lab.record("at-start", auc=0.5)
    repo.git("checkout", "-q", "-b", "feature/x")
    repo.commit("f1", **{"model.py": "a = 1\n", "lib/util.py": "x\n"})
    lab.record("f1", auc=0.6)
    repo.commit("f2", **{"model.py": "a = 2\n"})
    lab.record("f2", auc=0.7)
    repo.git("checkout", "-q", "main")
    repo.commit("m1", **{"other.py": "o\n"})
    lab.record("m1", auc=0.55)
    return lab


def test_ranges(branched):
    assert branched.ls("--commit", "main..feature/x") == ["f2", "f1"]
    assert branched.ls("--commit", "feature/x..main") == ["m1"]
    assert branched.ls("--commit", "main...feature/x") == ["m1", "f2", "f1"]
    assert branched.ls("--commit", "feature/x~1") == ["f1"]
    assert branched.ls("--commit", "feature/x..") == ["m1"]
    assert branched.ls("--commit", branched.repo.git("rev-parse", "main~1")[:9]) == ["at-start"]


def test_branches(branched):
    assert branched.ls("--branch", "feature/x") == ["f2", "f1"]
    assert branched.ls("--branch", "main") == ["m1", "at-start"]
    assert branched.ls("--branch", "HEAD") == ["m1", "at-start"]
    assert branched.err_of_ls("--branch", "feature/x") == ""


def test_together_with_query_sort_limit_experiment_and_json(branched):
    branched.record("elsewhere", experiment="other", auc=0.9)
    assert branched.ls("metrics.auc > 0.55", "--branch", "feature/x", "--sort", "metrics.auc") == ["f1", "f2"]
    assert branched.ls("--branch", "main", "-n", "1") == ["elsewhere"]
    assert branched.ls("--branch", "main", "-x", "churn", "-n", "1", "--sort", "-metrics.auc") == ["m1"]
    assert branched.ls("metrics.auc > 2", "--branch", "feature/x") == []
    assert branched.ls("metrics.auc@step=0 >= 0.7", "--branch", "feature/x") == ["f2"]


def test_rebased_runs_are_found_by_name_and_by_patch(branched):
    repo = branched.repo
    repo.git("checkout", "-q", "--detach", "feature/x")
    branched.record("detached", auc=0.71)  # as CI does: no branch name
    repo.git("checkout", "-q", "feature/x")
    repo.git("rebase", "-q", "main")
    assert branched.ls("--branch", "feature/x") == ["detached", "f2", "f1"]
    err = branched.err_of_ls("--branch", "feature/x")
    assert "1 by patch" in err
    assert "2 by the recorded branch name" in err
    assert branched.ls("--commit", "main..feature/x") == ["detached", "f2", "f1"]
    assert "of 3 runs, matched otherwise than by commit: 3 by patch" in branched.err_of_ls(
        "--commit", "main..feature/x"
    )
    assert branched.ls("--commit", "feature/x") == ["detached", "f2"]


def test_squash_merge_counts_for_main_by_tree(branched):
    repo = branched.repo
    repo.git("checkout", "-q", "-b", "feature/y", "main")
    repo.commit("y1", **{"y.py": "1\n"})
    branched.record("y1", auc=0.8)
    repo.commit("y2", **{"y.py": "2\n"})
    branched.record("y2", auc=0.81)
    repo.git("checkout", "-q", "main")
    repo.git("merge", "-q", "--squash", "feature/y")
    repo.git("commit", "-q", "-m", "squashed")
    assert branched.ls("--commit", "main~1..main") == ["y2"]
    assert "1 by tree" in branched.err_of_ls("--commit", "main~1..main")
    assert branched.ls("--branch", "feature/y") == ["y2", "y1"]
    repo.git("branch", "-q", "-D", "feature/y")
    assert branched.ls("--branch", "feature/y") == ["y2", "y1"]
    assert "2 by the recorded branch name" in branched.err_of_ls("--branch", "feature/y")


def test_amended_message_and_amended_content(lab):
    repo = lab.repo
    repo.git("checkout", "-q", "--detach")
    repo.commit("first", **{"a.py": "1\n"})
    lab.record("words", auc=1)
    repo.git("commit", "-q", "--amend", "-m", "better words")
    repo.git("checkout", "-q", "-B", "topic")
    assert lab.ls("--branch", "topic") == ["words"]
    assert "1 by tree" in lab.err_of_ls("--branch", "topic")
    repo.git("checkout", "-q", "--detach")
    lab.record("content", auc=2)
    repo.file("a.py", "2\n")
    repo.git("commit", "-q", "-a", "--amend", "--no-edit")
    repo.git("checkout", "-q", "-B", "topic")
    assert lab.ls("--branch", "topic", "metrics.auc = 2") == ["content"]
    assert "1 by author, date and subject" in lab.err_of_ls("--branch", "topic", "metrics.auc = 2")


def test_cherry_pick_does_not_take_runs_from_a_branch_that_lives(branched):
    repo = branched.repo
    repo.git("checkout", "-q", "-b", "picked", "main")
    repo.git("cherry-pick", "feature/x~1")
    assert branched.ls("--branch", "picked") == []
    assert branched.ls("--branch", "feature/x") == ["f2", "f1"]
    repo.git("branch", "-q", "-D", "feature/x")
    assert branched.ls("--commit", "main..picked") == ["f1"]


def test_the_same_change_by_somebody_else(branched):
    repo = branched.repo
    repo.git("checkout", "-q", "-b", "picked", "main")
    repo.git("cherry-pick", "feature/x~1")
    repo.git(
        "commit",
        "-q",
        "--amend",
        "--date=2001-01-01",
        "-m",
        "taken over",
        "--author",
        "Bob <bob@example.org>",
    )
    repo.git("branch", "-q", "-D", "feature/x")
    assert branched.ls("--commit", "main..picked") == ["f1"]
    assert "1 by patch" in branched.err_of_ls("--commit", "main..picked")


def test_revert_does_not_bring_old_runs_into_a_range(lab):
    repo = lab.repo
    repo.commit("one", **{"a.py": "1\n"})
    lab.record("old", auc=1)
    repo.commit("two", **{"a.py": "2\n"})
    repo.git("revert", "--no-edit", "HEAD")
    assert lab.ls("--commit", "HEAD~2..HEAD") == []
    assert lab.ls("--commit", "HEAD~2") == ["old"]


def test_merged_branch_keeps_its_runs(branched):
    repo = branched.repo
    repo.git("merge", "-q", "--no-ff", "-m", "merge", "feature/x")
    repo.commit("later", **{"z.py": "\n"})
    branched.record("later", auc=0.9)
    assert branched.ls("--branch", "feature/x") == ["f2", "f1"]
    assert branched.err_of_ls("--branch", "feature/x") == ""


def test_fast_forwarded_branch_is_found_by_name(lab):
    repo = lab.repo
    repo.git("checkout", "-q", "-b", "quick")
    repo.commit("q", **{"q.py": "\n"})
    lab.record("q", auc=1)
    repo.git("checkout", "-q", "main")
    repo.git("merge", "-q", "quick")
    assert lab.ls("--branch", "quick") == ["q"]


def test_remote_branches_and_the_remote_main_line(branched, clone):
    other = clone(branched.repo, "other")
    other.git("symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")
    branched.repo = other
    assert branched.ls("--branch", "feature/x") == ["f2", "f1"]
    assert branched.ls("--branch", "origin/feature/x") == ["f2", "f1"]
    assert branched.ls("--commit", "origin/main..origin/feature/x") == ["f2", "f1"]


def test_runs_that_fit_nowhere_are_counted(lab):
    lab.record("gone", facts={"commit": "12" * 20, "tree": "34" * 20}, auc=1)
    assert lab.ls("--commit", "HEAD") == []
    assert "left out: 1 runs whose commit is on no branch here" in lab.err_of_ls("--commit", "HEAD")


def test_dirty_runs_count_for_their_base_and_when_committed_as_they_were(lab):
    repo = lab.repo
    repo.file("train.py", "print('changed')\n")
    lab.record("dirty", auc=1)
    assert lab.ls("--commit", "HEAD") == ["dirty"]
    assert lab.ls("--dirty") == ["dirty"]
    assert lab.ls("--clean") == []
    repo.git("commit", "-q", "-a", "-m", "as it was")
    lab.record("clean", auc=1)
    assert lab.ls("--commit", "HEAD") == ["clean"]  # the dirty run's own commit is in this history
    assert lab.ls("--clean") == ["clean"]
    repo.git("checkout", "-q", "--orphan", "fresh")
    repo.git("commit", "-q", "-m", "one commit with it all")
    repo.git("branch", "-q", "-D", "main")
    assert lab.ls("--commit", "fresh") == ["clean", "dirty"]


def test_author(lab):
    lab.record("ada")
    lab.record("bob", facts={"author": "Bob <bob@example.org>"})
    lab.record("nobody", facts={"commit": None})
    lab.record("other-ada", facts={"author": "Ada <ada@else.org>"})
    assert lab.ls("--author", "bob") == ["bob"]
    assert lab.ls("--author", "ADA <") == ["other-ada", "ada"]
    assert lab.ls("--author", "me") == ["nobody", "ada"]
    lab.repo.git("config", "--unset", "user.email")
    assert lab.ls("--author", "me") == ["nobody"]


def test_times(lab):
    now = int(time.time() * 1000)
    for name, hours in (("old", 24 * 40), ("day", 26), ("new", 1)):
        lab.record(name, start_time=now - hours * HOUR)
    assert sorted(lab.ls("--since", "2w")) == ["day", "new"]
    assert lab.ls("--since", "2w", "--until", "20h") == ["day"]
    day = time.strftime("%Y-%m-%d", time.gmtime((now - 24 * 40 * HOUR) / 1000))
    assert lab.ls("--since", day, "--until", day) == ["old"]


def test_touching(branched):
    assert branched.ls("--touching", "model.py") == ["f2", "f1"]
    assert branched.ls("--touching", "other.py") == ["m1"]
    assert branched.ls("--touching", "lib") == ["f1"]
    assert branched.ls("--touching", "lib/", "--touching", "other.py") == ["m1", "f1"]
    assert branched.ls("--touching", "*.py") == ["m1", "f2", "f1", "at-start"]
    assert branched.ls("--touching", "l*/u*.py") == ["f1"]
    assert branched.ls("--touching", ".") == ["m1", "f2", "f1", "at-start"]
    assert branched.ls("--touching", "model.py", "-n", "1") == ["f2"]


def test_touching_sees_uncommitted_changes_and_their_end(lab):
    repo = lab.repo
    lab.record("first")
    lab.record("same")
    repo.file("train.py", "print('try')\n")
    lab.record("try")
    lab.record("again")
    repo.git("checkout", "-q", "train.py")
    lab.record("back")
    lab.record("other experiment", experiment="other")
    assert lab.ls("--touching", "train.py", "-x", "churn") == ["back", "try", "first"]
    assert lab.ls("--touching", "train.py") == ["other experiment", "back", "try", "first"]
    assert lab.ls("--touching", "train.py", "--dirty") == ["try"]


def test_touching_knows_patches(lab):
    repo = lab.repo
    repo.git("config", "gml.code", "patch")
    repo.file("a.py", "1\n")
    repo.git("add", "a.py")
    repo.commit("a")
    lab.record("clean", facts={"commit": repo.git("rev-parse", "HEAD"), "code": "patch"})
    repo.file("a.py", "2\n")
    lab.record("patched")
    assert lab.ls("--touching", "a.py") == ["patched", "clean"]
    assert lab.ls("--touching", "train.py") == ["clean"]


def test_touching_is_relative_to_the_current_folder(lab, monkeypatch):
    lab.repo.commit("lib", **{"lib/util.py": "x\n"})
    lab.record("run")
    monkeypatch.chdir(lab.repo.path / "lib")
    assert lab.ls("--touching", "util.py") == ["run"]
    assert lab.ls("--touching", "../train.py") == ["run"]
    assert "is outside the repository" in lab.gml("ls", "--touching", "../../x", code=2).err


def test_code_that_is_not_here_is_counted(lab):
    lab.record("here")
    lab.record("gone", facts={"commit": "12" * 20, "tree": "34" * 20})
    assert lab.ls("--touching", "train.py") == ["here"]
    assert "left out: 1 runs whose code is not in this repository" in lab.err_of_ls("--touching", "train.py")


def test_a_broken_index_changes_nothing(branched, monkeypatch):
    import sqlite3

    from gml.tracking.code import facts

    monkeypatch.setattr(facts, "_COLUMNS", "SELECT no_such_column FROM runs")
    with pytest.raises(sqlite3.Error):
        branched.reader().index.connection.execute("SELECT no_such_column FROM runs")
    assert branched.ls("--branch", "feature/x") == ["f2", "f1"]


def test_the_past(branched):
    before = branched.repo.git("rev-parse", "refs/gml/ledger~1")
    assert branched.ls("--at", before, "--branch", "main") == ["at-start"]


def test_a_live_run_is_selected(lab):
    from gml.tracking import start

    lab.record("done")
    recorder = start.start_new(
        lab.repo.workspace(), start.NewRun(experiment="churn", name="live", environment={})
    )
    try:
        assert lab.ls("--branch", "main") == ["live", "done"]
        assert lab.ls("status = 'RUNNING'", "--commit", "HEAD") == ["live"]
    finally:
        recorder.end("FINISHED")


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        (["--commit", "nope..main"], 4, "gml: 'nope' is no commit of this repository; "),
        (["--commit", "main:train.py"], 4, "is no commit"),
        (["--branch", "mian"], 4, "gml: no branch and no run's branch is named 'mian'; did you mean 'main'?"),
        (["--since", "yesteryear"], 2, "gml: --since 'yesteryear' is no time"),
        (["--author", " "], 2, "gml: --author is empty; "),
        (["--touching", "nothing.py"], 4, "gml: no code of these runs has 'nothing.py'; "),
        (["--touching", ""], 2, "gml: --touching is empty; "),
    ],
)
def test_errors_are_one_clear_line(lab, args, code, text):
    lab.record("run")
    done = lab.gml("ls", *args, code=code)
    assert text in done.err
    assert done.err.count("\n") == 1
    assert done.out == ""


def test_an_empty_repository(make_repo, lab):
    lab.repo = make_repo("empty", commit=False)
    lab.monkeypatch.chdir(lab.repo.path)
    lab.repo.git("config", "user.name", "Ada")
    lab.repo.git("config", "user.email", "ada@example.org")
    assert "is no commit" in lab.gml("ls", "--commit", "HEAD", code=4).err
    lab.record("early")
    assert lab.ls("--branch", "main") == ["early"]
