"""`gml history`, `gml blame`, `gml diff --best`."""

from __future__ import annotations

import math

import pytest
from code_lab import import_history

from gml.tracking.code.history import sparkline
from gml.tracking.code.values import metric_of


def rows(lab, *args):
    return lab.gml("history", *args, "--json").json["rows"]


def test_a_row_for_each_commit_that_has_runs(lab):
    commits = import_history(lab.repo, range(5))
    for n, auc in ((0, 0.5), (2, 0.7), (2, 0.6), (4, 0.65)):
        lab.record(f"r{n}", at=commits[n], auc=auc)
    found = rows(lab, "metrics.auc")
    assert [(r["commit"], r["runs"], r["value"]) for r in found] == [
        (commits[0], 1, 0.5), (commits[2], 2, 0.7), (commits[4], 1, 0.65),
    ]  # fmt: skip
    assert [r["change"] for r in found] == [None, pytest.approx(0.2), pytest.approx(-0.05)]
    assert found[0]["subject"] == "change 0"
    assert found[0]["author"] == "Ada"
    assert found[0]["date"] == "2023-11-14T22:13:20+00:00"
    assert [r["value"] for r in rows(lab, "auc", "--last")] == [0.5, 0.6, 0.65]
    assert [r["value"] for r in rows(lab, "auc", "--mean")] == [0.5, pytest.approx(0.65), 0.65]
    assert [r["value"] for r in rows(lab, "auc", "--lower")] == [0.5, 0.6, 0.65]
    assert [r["value"] for r in rows(lab, "auc", "--branch", "HEAD~1")] == [0.5, 0.7]
    out = lab.gml("history", "auc", "--plot").out.splitlines()
    assert out[0].split("\t") == ["commit", "date", "author", "runs", "value", "change", "subject"]
    assert out[2].split("\t") == [commits[2][:10], "2023-11-15", "Ada", "2", "0.7", "+0.2", "change 2"]
    assert out[-1] == "metrics.auc  ▁█▆  0.5 .. 0.7"
    assert len(lab.gml("history", "auc", "-n", "2").out.splitlines()) == 3


def test_by_day(lab):
    commits = import_history(lab.repo, range(30))
    for n in (0, 1, 2, 10, 29):
        lab.record(f"r{n}", at=commits[n], auc=n / 100)
    found = rows(lab, "auc", "--by", "day")
    assert [(r["date"], r["commits"], r["runs"], r["value"]) for r in found] == [
        ("2023-11-14", 2, 2, 0.01), ("2023-11-15", 2, 2, 0.1), ("2023-11-16", 1, 1, 0.29),
    ]  # fmt: skip


def test_dirty_runs_are_marked_and_count_for_their_base(lab):
    lab.record("clean", auc=0.5)
    lab.repo.file("train.py", "changed\n")
    lab.record("dirty", auc=0.6)
    (row,) = rows(lab, "auc")
    assert (row["runs"], row["dirty"], row["value"]) == (2, 1, 0.6)
    assert "\t2 *\t0.6\t" in lab.gml("history", "auc").out


def test_runs_elsewhere_are_summed_up(lab):
    repo = lab.repo
    lab.record("start", auc=0.5)
    repo.git("checkout", "-q", "-b", "merged")
    repo.commit("a", a="1")
    lab.record("merged-1", auc=0.6)
    repo.commit("b", a="2")
    lab.record("merged-2", auc=0.7)
    repo.git("checkout", "-q", "-b", "other")
    repo.commit("c", a="3")
    lab.record("other", auc=0.8)
    repo.git("checkout", "-q", "main")
    repo.git("merge", "-q", "--no-ff", "-m", "merge", "merged")
    lab.record("gone", facts={"commit": "12" * 20, "tree": "34" * 20}, auc=1)
    lab.record("imported", facts={"commit": None}, auc=1)
    lab.record("failed", auc=9, status="FAILED")
    done = lab.gml("history", "auc", "--json")
    assert done.json["outside"] == {
        "on merged branches": 1, "on other branches": 1, "on commits of no branch here": 1, "without a recorded commit": 1,
    }  # fmt: skip
    # The tip of the merged branch is, file by file, the merge.
    assert [(r["subject"], r["value"]) for r in done.json["rows"]] == [("start", 0.5), ("merge", 0.7)]
    assert "of 2 runs, matched otherwise than by commit: 1 by tree" in done.err
    assert "not on this branch: 4 runs (1 on commits of no branch here, 1 on merged branches" in done.err


def test_squashed_and_rebased_runs_stay_in_the_history(lab):
    repo = lab.repo
    repo.git("checkout", "-q", "-b", "topic")
    repo.commit("t1", t="1")
    lab.record("t1", auc=0.6)
    repo.git("checkout", "-q", "main")
    repo.commit("m1", m="1")
    lab.record("m1", auc=0.5)
    repo.git("checkout", "-q", "topic")
    repo.git("rebase", "-q", "main")
    repo.git("checkout", "-q", "main")
    repo.git("merge", "-q", "topic")
    assert [(r["subject"], r["value"]) for r in rows(lab, "auc")] == [("m1", 0.5), ("t1", 0.6)]


def test_experiments_are_not_mixed_silently(lab):
    lab.record("a", auc=0.5)
    lab.record("b", auc=0.9, experiment="other")
    assert (
        "runs of 2 experiments are taken together (churn, other); -x NAME picks one"
        in lab.gml("history", "auc").err
    )
    done = lab.gml("history", "auc", "-x", "churn")
    assert done.err == ""
    assert "\t0.5\t" in done.out


def test_parts_of_metrics_and_nan(lab):
    space = lab.repo.workspace()
    from gml.tracking import start

    recorder = start.start_new(space, start.NewRun(experiment="churn", name="r", environment={}))
    for step, value in enumerate((0.5, 0.2, 0.4)):
        recorder.metric("loss", value, step, None)
    recorder.metric("nan", math.nan, 0, None)
    recorder.metric("own.min", 7, 0, None)
    recorder.end("FINISHED")
    assert [rows(lab, name)[0]["value"] for name in ("loss", "loss.min", "metrics.loss.max", "own.min", "nan")] == [
        0.4, 0.2, 0.5, 7, "NaN",
    ]  # fmt: skip
    assert "lower metrics.loss is taken as better" in lab.gml("history", "loss").err


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        (["auk"], 4, "no finished run has metrics.auk; did you mean metrics.auc?"),
        (["auc", "--branch", "nope"], 4, "'nope' is no commit"),
        (["params.lr"], 2, "'params.lr' is not a metric"),
        (["metrics.auc@step=3"], 2, "is not the value of a metric"),
        (["metrics."], 2, "gml: "),
        (["auc", "-x", "churm"], 4, "did you mean 'churn'?"),
    ],
)
def test_errors_are_one_clear_line(lab, args, code, text):
    lab.record("r", auc=1)
    done = lab.gml("history", *args, code=code)
    assert text in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([], ""), ([1, 1], "▅▅"), ([0, 7], "▁█"), ([math.nan], " "), ([0, math.inf, 7], "▁ █"),
        ([-1.7e308, 1.7e308], "▁█"), (list(range(120)), sparkline(range(1, 120, 2))),
    ],
)  # fmt: skip
def test_sparklines(values, line):
    assert sparkline(values) == line


@pytest.mark.parametrize(
    ("name", "higher"),
    [
        ("auc", True), ("val_loss", False), ("metrics.loss", False), ("closseness", True), ("rmse", False),
        ("test/rmse", False), ("accuracy", True), ("runtime", True), ("train_time", False), ("auc ASC", False),
        ("loss DESC", True), ("`a loss`", False), ("metrics.`f1 score`", True), ("f1 score", True),
    ],
)  # fmt: skip
def test_which_way_a_metric_is_better(name, higher):
    assert metric_of(name).higher is higher


# --- blame ------------------------------------------------------------------------------------


def test_blame_of_the_latest_run(lab):
    repo = lab.repo
    lab.record("r1", params={"lr": "0.1"}, auc=0.5)
    repo.commit("tune", a="1")
    lab.record("r2", params={"lr": "0.2"}, auc=0.6)
    repo.commit("docs", b="1")
    lab.record("r3", params={"lr": "0.2"}, auc=0.9)
    lab.record("x", params={"lr": "7"}, experiment="other")
    lab.record("r4", params={"lr": "0.2"}, auc=0.7)
    found = lab.gml("blame", "params.lr", "-x", "churn", "--latest", "--json").json
    assert found["subject"]["name"] == "r4"
    assert found["introduced"]["name"] == "r2"
    assert found["introduced"]["subject"] == "tune"
    assert found["introduced"]["commit"] == repo.git("rev-parse", "HEAD~1")
    assert (found["before"]["name"], found["before"]["value"], found["runs"]) == ("r1", "0.1", 3)
    assert (
        lab.gml("blame", "metrics.auc", "-x", "churn", "--metric", "auc", "--json").json["subject"]["name"]
        == "r3"
    )
    assert lab.gml("blame", "params.lr", "--latest", "--json").json["subject"]["name"] == "r4"
    out = lab.gml("blame", "params.lr", "--latest").out.splitlines()
    assert out[0].split("\t") == ["", "run", "name", "params.lr", "commit", "by", "started", "subject"]
    assert [line.split("\t")[0] for line in out[1:]] == ["latest", "since", "before"]


def test_blame_is_about_the_best_run(lab):
    lab.record("r1", params={"lr": "0.1"}, loss=0.5)
    lab.record("r2", params={"lr": "0.2"}, loss=0.1)
    lab.record("r3", params={"lr": "0.3"}, loss=0.7)
    done = lab.gml("blame", "params.lr", "-x", "churn")
    assert done.out.splitlines()[1].split("\t")[2:4] == ["r2", "0.2"]
    assert "lower metrics.loss is taken as better" in done.err
    lab.record("r4", params={"lr": "0.4"}, loss=0.6, auc=0.9)
    done = lab.gml("blame", "params.lr", "-x", "churn")
    assert done.out.splitlines()[1].split("\t")[::2][:2] == ["latest", "r4"]
    assert "--metric METRIC asks about the best" in done.err
    experiment = next(e for e in lab.reader().experiments() if e.name == "churn")
    lab.repo.python(
        "import gml, sys\ngml.set_experiment('churn')\n"
        "gml.set_experiment_tag('mlflow.experiment.primaryMetric.name', 'loss')"
    )
    assert experiment.tags == {}
    assert lab.gml("blame", "params.lr", "-x", "churn", "--json").json["subject"]["name"] == "r2"
    assert "exclude each other" in lab.gml("blame", "params.lr", "--latest", "--metric", "loss", code=2).err


def test_blame_of_tags_missing_values_and_code(lab):
    lab.record("r1")
    lab.record("r2", tags={"team": "risk"})
    lab.record("r3", tags={"team": "risk"})
    found = lab.gml("blame", "tags.team", "--json").json
    assert (found["introduced"]["name"], found["before"]["value"]) == ("r2", None)
    done = lab.gml("blame", "code.branch")
    assert "all 3 runs up to this one have the value" in done.err
    lab.record("r4")
    assert lab.gml("blame", "tags.team", "--json").json["introduced"]["value"] is None


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        (["params.lx"], 4, "no run of the experiment has params.lx"),
        (["params.lr", "-x", "nope"], 4, "no experiment is named 'nope'"),
        (["lx"], 2, "lx"),
        (["params.lr", "--metric", "nope"], 4, "no finished run of these experiments has metrics.nope"),
    ],
)
def test_blame_errors(lab, args, code, text):
    lab.record("r1", params={"lr": "1"}, auc=1)
    assert text in lab.gml("blame", *args, code=code).err


def test_blame_without_runs(lab):
    assert "there is no run" in lab.gml("blame", "params.lr", code=4).err


# --- diff --best ------------------------------------------------------------------------------


@pytest.fixture
def sides(lab):
    repo = lab.repo
    repo.commit("old", o="1")
    lab.record("before", auc=0.99)
    repo.commit("base", o="2")
    lab.record("base", auc=0.5)
    repo.git("checkout", "-q", "-b", "feature/x")
    repo.file("train.py", "print('first try')\n")
    lab.record("first try", auc=0.52)  # dirty, on the merge base, but for the feature
    repo.git("commit", "-q", "-a", "-m", "f1")
    lab.record("f1", auc=0.6)
    lab.record("f1 worse", auc=0.55)
    repo.git("checkout", "-q", "main")
    repo.commit("m1", m="1")
    lab.record("m1", auc=0.53)
    lab.record("m1 other", auc=0.9, experiment="other")
    return lab


def pair(lab, *args):
    found = lab.gml("diff", *args, "--json").json
    return lab.names[found["a"]], lab.names[found["b"]]


def test_best_of_both_sides(sides):
    assert pair(sides, "--best", "metrics.auc", "-x", "churn", "main..feature/x") == ("m1", "f1")
    assert pair(sides, "--best", "auc", "-x", "churn", "feature/x..main") == ("f1", "m1")
    assert pair(sides, "--best", "auc", "main...feature/x") == ("m1 other", "f1")
    assert pair(sides, "--best", "auc ASC", "-x", "churn", "main..feature/x") == ("base", "first try")
    sides.repo.git("checkout", "-q", "feature/x")
    assert pair(sides, "--best", "auc", "-x", "churn", "main..") == ("m1", "f1")
    done = sides.gml("diff", "--best", "auc", "main..feature/x", "-x", "churn", "--only", "metrics")
    assert "m1" in done.out.splitlines()[0]
    assert "+0.07" in done.out


def test_best_after_merge_rebase_and_squash(sides):
    repo = sides.repo
    args = ("--best", "auc", "-x", "churn", "main..feature/x")
    repo.git("checkout", "-q", "feature/x")
    repo.git("rebase", "-q", "main")
    assert pair(sides, *args) == ("m1", "f1")
    repo.git("checkout", "-q", "main")
    repo.git("merge", "-q", "--no-ff", "-m", "merge", "feature/x")
    repo.commit("later", l="1")
    sides.record("later", auc=0.95)
    assert pair(sides, *args) == ("m1", "f1")


def test_a_main_line_without_new_runs_lends_an_older_commit(lab):
    lab.record("old", auc=0.5)
    lab.repo.commit("base", o="2")
    lab.repo.git("checkout", "-q", "-b", "feature/x")
    lab.repo.commit("f1", f="2")
    lab.record("f1", auc=0.6)
    assert pair(lab, "--best", "auc", "main..feature/x") == ("old", "f1")
    err = lab.gml("diff", "--best", "auc", "main..feature/x").err
    assert "main has no such run since feature/x branched off; its commit" in err


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        (["--best", "auc", "main"], 2, "'main' has no two sides"),
        (["--best", "auc", "main..x", "@"], 2, "--best compares the two sides of one range"),
        (["--best", "auc", "main..nope"], 4, "'nope' is no commit"),
        (["--best", "auc", "main..main~1"], 2, "there is only one side"),
        (
            ["--best", "auc", "main~1..main", "-x", "other"],
            4,
            "no finished run with metrics.auc belongs to main alone",
        ),
        (["-x", "churn", "@~1", "@"], 2, "-x goes with --best"),
    ],
)
def test_best_errors(lab, args, code, text):
    lab.record("other", auc=1, experiment="other")
    lab.repo.commit("two", a="1")
    lab.record("r", auc=1)
    assert text in lab.gml("diff", *args, code=code).err
