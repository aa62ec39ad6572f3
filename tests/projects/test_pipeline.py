"""Entry points that need one another: what has to run runs, what has not is taken from the ledger."""

from __future__ import annotations

import shutil

import pytest

PROJECT = """
name: steps
entry_points:
  prepare:
    parameters:
      rows: {type: int, default: 3}
    deps: [prepare.sh]
    outs: [clean.csv]
    command: "sh prepare.sh {rows}"
  train:
    parameters:
      lr: {type: float, default: 0.1}
    needs: [prepare]
    deps: [train.sh]
    outs: [model]
    command: "sh train.sh {lr}"
  evaluate:
    parameters:
      data: {type: path, default: test.csv}
    needs: [train, prepare]
    command: "sh evaluate.sh {data}"
"""
FILES = {
    ".gitignore": "clean.csv\nmodel/\n",
    "MLproject": PROJECT,
    "prepare.sh": 'seq "$1" > clean.csv\n',
    "train.sh": 'mkdir -p model/parts && echo "lr $1 rows $(wc -l < clean.csv)" > model/parts/weights.txt\n',
    "evaluate.sh": "cat model/parts/weights.txt\n",
    "test.csv": "1\n",
}


ALL_UNCHANGED = ["prepare: unchanged", "train: unchanged", "evaluate: unchanged"]


@pytest.fixture
def steps(repo):
    repo.commit("steps", **FILES)
    return repo


def notes(done) -> list[str]:
    """What was said of each step, without ids."""
    lines = [line.removeprefix("gml: ") for line in done.err.splitlines()]
    return [
        line.partition(" since run")[0]
        for line in lines
        if line.startswith(("prepare:", "train:", "evaluate:"))
    ]


def graph(gml, *args) -> list[str]:
    return [
        line.partition(" since run")[0]
        for line in gml("run", ".", "-e", "evaluate", "--graph", *args).out.splitlines()
    ]


def test_only_what_changed_runs_again(steps, gml):
    assert notes(gml("run", ".", "-e", "evaluate")) == [
        f"{name}: never ran" for name in ("prepare", "train", "evaluate")
    ]
    assert notes(gml("run", ".", "-e", "evaluate")) == ALL_UNCHANGED
    assert len(gml("ls", "--json").json) == 3
    done = gml("run", ".", "-e", "evaluate", "-P", "lr=0.2")
    assert notes(done) == [
        "prepare: unchanged",
        "train: params changed: lr 0.1 -> 0.2",
        "evaluate: what it needs changed",
    ]
    assert done.out == "lr 0.2 rows 3\n"
    steps.file("train.sh", FILES["train.sh"] + "# better\n")
    assert notes(gml("run", ".", "-e", "train")) == ["prepare: unchanged", "train: code changed"]
    steps.file("test.csv", "2\n")
    last = gml("run", ".", "-e", "evaluate", "-P", "lr=0.2")
    assert "evaluate: code changed" in last.err
    # Back to what was before: all of it is recorded.
    steps.git("checkout", "-q", ".")
    assert notes(gml("run", ".", "-e", "evaluate")) == ALL_UNCHANGED
    assert (steps.path / "model/parts/weights.txt").read_text() == "lr 0.1 rows 3\n"


def test_outs_come_back_from_the_run_that_wrote_them(steps, gml):
    gml("run", ".", "-e", "train")
    shutil.rmtree(steps.path / "model")
    steps.file("clean.csv", "spoiled\n")
    done = gml("run", ".", "-e", "train")
    assert "clean.csv taken from it" in done.err
    assert "model taken from it" in done.err
    assert (steps.path / "clean.csv").read_text() == "1\n2\n3\n"
    assert (steps.path / "model/parts/weights.txt").read_text() == "lr 0.1 rows 3\n"
    assert len(gml("ls", "--json").json) == 2
    assert notes(gml("run", ".", "-e", "train", "--force")) == ["prepare: forced", "train: forced"]
    assert len(gml("ls", "--json").json) == 4


def test_a_clone_that_has_the_ledger_runs_nothing(steps, gml, clone):
    gml("run", ".", "-e", "train")
    other = clone(steps, "other")
    other.git("checkout", "-q", "-b", "main", "origin/main")
    done = gml("run", ".", "-e", "train", at=other)
    assert notes(done) == ["prepare: unchanged", "train: unchanged"]
    assert (other.path / "model/parts/weights.txt").read_text() == "lr 0.1 rows 3\n"


def test_the_graph_says_what_would_run(steps, gml):
    gml("run", ".", "-e", "train")
    shutil.rmtree(steps.path / "model")
    assert graph(gml) == [
        "evaluate     never ran", "├─train      unchanged", "│ └─prepare  unchanged", "└─prepare    unchanged",
    ]  # fmt: skip
    assert graph(gml, "-P", "rows=5") == [
        "evaluate     waits for train, prepare",
        "├─train      waits for prepare",
        "│ └─prepare  params changed: rows 3 -> 5",
        "└─prepare    params changed: rows 3 -> 5",
    ]
    assert not (steps.path / "model").exists()


def test_a_step_is_a_run_that_can_be_run_again(steps, gml):
    gml("run", ".", "-e", "train", "-n", "mine", "-t", "team=risk", "-P", "more=1")
    run = gml("show", "@", "--json").json
    assert run["name"] == "mine"
    assert run["params"] == {"lr": "0.1", "more": "1"}
    assert run["tags"]["gml.step"] == "train"
    assert run["tags"]["team"] == "risk"
    (taken,) = run["inputs"]
    assert taken["name"] == "clean.csv"
    assert taken["tags"]["gml.step"] == "prepare"
    assert taken["tags"]["gml.step.run"] == gml("ls", "--json").json[1]["run_id"]
    (steps.path / "clean.csv").unlink()
    again = gml("rerun", run["run_id"], "--exact")
    assert "1 artifacts, 1 data" in again.out


def test_a_step_that_fails_ends_the_pipeline(steps, gml):
    steps.file("prepare.sh", "exit 3\n")
    done = gml("run", ".", "-e", "evaluate", code=3)
    assert notes(done) == ["prepare: never ran"]
    steps.file("prepare.sh", "true\n")
    done = gml("run", ".", "-e", "evaluate", code=1)
    assert "step prepare did not write clean.csv; correct its outs or its command" in done.err


@pytest.mark.parametrize(
    ("change", "code", "told"),
    [
        (("needs: [prepare]", "needs: [prepar]"), 4, "needs 'prepar', which the project does not have; did you mean 'prepare'?"),
        (("deps: [prepare.sh]", "needs: [evaluate]"), 7, "in a circle: evaluate needs train needs prepare needs evaluate"),
        (("outs: [model]", "outs: [clean.csv/x]"), 7, "'clean.csv/x' is written by prepare and train"),
        (("outs: [model]", "outs: [../model]"), 7, "'../model' is no path within the project"),
        (("outs: [model]", "outs: [/tmp/model]"), 7, "'/tmp/model' is no path within the project"),
        (("outs: [model]", "outs: 5"), 7, "outs is a list of texts"),
        (("deps: [train.sh]", "deps: [tran.sh]"), 4, "step train depends on 'tran.sh', which does not exist"),
        (("outs: [model]", "out: [model]"), 7, "unknown key 'out'; did you mean 'outs'?"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(steps, gml, change, code, told):
    steps.file("MLproject", PROJECT.replace(*change))
    done = gml("run", ".", "-e", "evaluate", code=code)
    assert told in done.err
