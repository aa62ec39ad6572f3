"""Sweeps: what is varied, which trials are run, and that none is lost or run twice."""

from __future__ import annotations

import os
import signal
import time
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gml.domain.errors import GmlError
from gml.projects.sweep.plan import make_plan
from gml.projects.sweep.samplers import GridSampler, RandomSampler, TpeSampler
from gml.projects.sweep.space import parse_dimension, parse_space
from gml.projects.sweep.study import Finished, Study

SCRIPT = 'echo "loss=$(($2 * 2))"\n'


def trials(done):
    return {row["number"]: row for row in done.json["trials"]}


# --- spaces -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "allowed"),
    [
        ("2..4", {"2", "3", "4"}),
        ("0..1/0.5", {"0.0", "0.5", "1.0"}),
        ("a,b", {"a", "b"}),
        ([1, "x", True], {"1", "x", "true"}),
        ("7", {"7"}),
        (0.25, {"0.25"}),
        ("-2..2/2", {"-2", "0", "2"}),
        ("http://host/a", {"http://host/a"}),
    ],
)
def test_what_a_dimension_can_be(spec, allowed):
    dimension = parse_dimension(spec, "x")
    assert {dimension.draw(Random(seed)) for seed in range(60)} == allowed
    assert set(dimension.grid()) == allowed


@given(st.integers(0, 10_000))
def test_draws_stay_within_their_range(seed):
    for spec, low, high in (("log:1e-4..1e-1", 1e-4, 1e-1), ("0.5..2", 0.5, 2.0), ("log:1..1000", 1, 1000)):
        assert low <= float(parse_dimension(spec, "x").draw(Random(seed))) <= high


@pytest.mark.parametrize(
    "spec", ["4..2", "a..b", "log:0..1", "log:1..2/0.1", "0..1/0", "0..1/-1", "1..", [], [[1]], "0..1e999"]
)
def test_malformed_dimensions_are_refused(spec):
    with pytest.raises(GmlError):
        parse_dimension(spec, "x")


def test_a_grid_has_each_point_once():
    sampler = GridSampler(parse_space({"a": "1..3", "b": "x,y", "c": "0..1/0.5"}))
    points = [tuple(sampler.ask(number).items()) for number in range(sampler.size)]
    assert sampler.size == len(set(points)) == 18
    with pytest.raises(GmlError, match="a grid needs single values"):
        GridSampler(parse_space({"a": "0.1..0.5"}))
    with pytest.raises(GmlError, match="points"):
        GridSampler(parse_space(dict.fromkeys("abc", "1..1000")))


def test_random_trials_follow_from_seed_and_number():
    space = parse_space({"a": "0.1..0.5", "b": "x,y"})
    assert RandomSampler(space, 1).ask(7) == RandomSampler(space, 1).ask(7)
    assert RandomSampler(space, 1).ask(7) != RandomSampler(space, 2).ask(7)


def test_tpe_learns_also_from_trials_of_an_earlier_process():
    space = parse_space({"x": "0.0..1", "m": "a,b", "k": "1..5"})
    sampler = TpeSampler(space, 0, maximize=True)
    for number in range(25):
        x = number / 25
        sampler.tell(number, {"x": str(x), "m": "a", "k": "2"}, -abs(x - 0.7))
    asked = [sampler.ask(number) for number in range(25, 35)]
    assert all(set(values) == {"x", "m", "k"} for values in asked)
    near = sum(abs(float(values["x"]) - 0.7) < 0.25 for values in asked)
    assert near >= 6
    sampler.tell(25, asked[0], None)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"metric": "auc"}, "something to vary"),
        ({"parameters": {"a": "1..2"}}, "needs a metric"),
        ({"parameters": {"a": "1..2"}, "metric": "auc", "sampler": "magic"}, "no sampler 'magic'"),
        ({"parameters": {"a": "1..2"}, "metric": "auc", "trials": 0}, "0 trials"),
        ({"parameters": {"a": "1..2"}, "metric": "auc", "command": ["a"], "project": "."}, "not both"),
    ],
)
def test_plans_that_make_no_sense_are_refused(values, said):
    with pytest.raises(GmlError, match=said):
        make_plan(values)


def study(**values):
    return Study(make_plan({"parameters": {"a": "1..2"}, "metric": "loss", "sampler": "random", **values}))


def test_the_median_decides_who_is_hopeless():
    known = study(maximize=False, trials=9)
    for number in range(4):
        known.add(Finished(number, "r", {}, 0.1, "finished"), {0: 1.0, 5: 0.5 + number / 10, 9: 0.1})
    assert not known.is_hopeless({})
    assert known.is_hopeless({0: 2.0, 5: 1.9})
    assert not known.is_hopeless({0: 2.0, 5: 0.2})
    assert known.is_hopeless({0: float("nan")})
    young = study(maximize=False)
    assert not young.is_hopeless({0: 99.0})


def test_the_earliest_of_equals_is_the_best():
    known = study(maximize=True, trials=9)
    assert known.add(Finished(3, "c", {}, 0.9, "finished"))
    assert not known.add(Finished(1, "a", {}, 0.9, "finished"))
    known.add(Finished(2, "b", {}, None, "failed"))
    assert known.best.number == 1
    assert known.missing() == [0, 4, 5, 6, 7, 8]


# --- real ones --------------------------------------------------------------------------------


@pytest.fixture
def swept(repo):
    repo.commit("code", **{"t.sh": SCRIPT})
    return repo


def test_a_grid_of_commands_is_nested_in_one_run(swept, gml):
    done = gml("sweep", "-P", "x=1..3", "-P", "m=a,b", "--metric", "loss", "--minimize", "--sampler", "grid", "--jobs", "2",
               "--capture", "auto", "-x", "churn", "-n", "grid", "--json", "--", "sh", "t.sh")  # fmt: skip
    found = trials(done)
    assert sorted(found) == list(range(6))
    assert {(t["values"]["x"], t["values"]["m"]) for t in found.values()} == {
        (x, m) for x in "123" for m in "ab"
    }  # fmt: skip
    parent = gml("show", "grid", "--json").json
    best = gml("show", done.json["best"], "--json").json
    assert parent["status"] == "FINISHED"
    assert parent["tags"]["gml.sweep.best"] == done.json["best"]
    assert parent["metrics"]["best/loss"] == 2
    assert best["params"] == {"x": "1", "m": "a"}
    assert best["tags"]["mlflow.parentRunId"] == done.json["run_id"]
    assert best["experiment"] == "churn"
    assert best["source"]["argv"] == ["sh", "t.sh", "--x", "1", "--m", "a"]
    assert best["source"]["tree"] == parent["source"]["tree"]
    assert "logs/stdout.txt" in best["artifacts"]
    assert best["process"]["exit_code"] == 0


def test_values_stand_where_the_command_has_them_and_scripts_log_themselves(swept, gml):
    swept.commit("code", **{"t.py": "import sys, gml\ngml.log_metric('auc', float(sys.argv[1]))\n"})
    done = gml(
        "sweep",
        "-P",
        "x=1,3,2",
        "--metric",
        "auc",
        "--sampler",
        "grid",
        "--json",
        "--",
        "python",
        "t.py",
        "{x}",
    )
    assert trials(done)[1]["result"] == 3
    best = done.json["trials"][0]
    assert best["number"] == 1
    assert gml("rerun", best["run_id"], "--json").json["verdict"] == "reproduced"
    gml("rerun", best["run_id"], "--set", "x=8")
    run = gml("show", "@", "--json").json
    assert run["source"]["argv"] == ["python", "t.py", "8"]
    assert run["params"] == {"x": "8"}
    assert run["metrics"] == {"auc": 8}


def test_a_project_is_swept(swept, gml):
    swept.commit("project", MLproject="entry_points: {main: {parameters: {x: int, y: {type: int, default: 4}},"
                 " command: 'sh t.sh -- {x}; true'}}\n")  # fmt: skip
    done = gml(
        "sweep", "-P", "x=1..2", "--metric", "loss", "--sampler", "grid", "--capture", "auto", "--json"
    )
    run = gml("show", done.json["best"], "--json").json
    assert run["params"] == {"x": "2", "y": "4"}
    assert run["tags"]["mlflow.project.entryPoint"] == "main"
    assert gml("rerun", done.json["best"], "--json").json["equal"]["params"] == 2
    assert "missing parameters: 'x'" in gml("sweep", "-P", "z=1..2", "--metric", "loss", code=2).err


def test_a_file_says_it_all_and_options_win(swept, gml):
    swept.file(
        "sweep.yaml",
        "command: sh t.sh\nparameters: {x: [1, 2, 5]}\nmetric: loss\nsampler: grid\ncapture: auto\n",
    )
    assert len(gml("sweep", "sweep.yaml", "--json").json["trials"]) == 3
    assert len(gml("sweep", "sweep.yaml", "--trials", "2", "--json").json["trials"]) == 2
    swept.file("bad.yaml", "metrc: loss\n")
    assert "did you mean 'metric'?" in gml("sweep", "bad.yaml", code=7).err
    swept.file("bad.yaml", "trials: many\n")
    assert "is no int" in gml("sweep", "bad.yaml", code=7).err


def test_a_command_that_always_fails_ends_the_sweep_early(swept, gml):
    done = gml(
        "sweep", "-P", "x=1..50", "--metric", "loss", "--sampler", "grid", "--json", "--", "false", code=1
    )
    assert [t["state"] for t in done.json["trials"]] == ["failed"] * 5
    assert "the first 5 trials all failed" in done.err
    assert "was not found" in gml("sweep", "-P", "x=1..2", "--metric", "a", "--", "nowhere", code=4).err


def test_hopeless_trials_are_pruned(swept, gml):
    swept.commit("code", **{"t.py": """
import sys, time, gml
x = int(sys.argv[1])
for step in range(3):
    gml.log_metric("loss", float(x), step=step)
if x > 4:
    time.sleep(60)
"""})  # fmt: skip
    done = gml("sweep", "-P", "x=1..5", "--metric", "loss", "--minimize", "--sampler", "grid", "--prune", "--json",
               "--", "python", "t.py", "{x}")  # fmt: skip
    found = trials(done)
    assert [found[number]["state"] for number in range(5)] == ["finished"] * 4 + ["pruned"]
    assert gml("show", found[4]["run_id"], "--json").json["tags"]["gml.sweep.state"] == "pruned"


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_nothing_is_lost_or_run_twice_when_a_sweep_dies_and_goes_on(swept, gml, start, tmp_path, number):
    done = tmp_path / "done"
    done.mkdir()
    gate = tmp_path / "gate"
    swept.commit("code", **{"slow.sh": f"""
if [ "$1" -ge 4 ] && [ ! -e {gate} ]; then sleep 30 & echo $! >> {tmp_path}/sleepers; wait; fi
touch {done}/$1; echo "loss=$1"
"""})  # fmt: skip
    child = start("sweep", "-P", "x=0..9", "--metric", "loss", "--sampler", "grid", "--jobs", "2", "--capture", "auto",
                  "-n", "long", "--", "sh", "slow.sh", "{x}")  # fmt: skip
    wait_for(lambda: len(list(done.iterdir())) == 4 and (tmp_path / "sleepers").exists())
    wait_for(lambda: (tmp_path / "sleepers").read_text().count("\n") == 2)
    os.kill(child.pid, number)
    child.communicate(timeout=60)
    assert child.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
    gate.touch()
    for pid in (tmp_path / "sleepers").read_text().split():
        if number == signal.SIGKILL:
            os.kill(int(pid), signal.SIGTERM)
    (before,) = [r for r in gml("ls", "--json").json if r["name"] == "long"]
    assert before["status"] == "KILLED"
    resumed = gml("sweep", "--resume", "long", "--jobs", "2", "--json")
    found = trials(resumed)
    assert sorted(found) == list(range(10))
    assert {t["state"] for t in found.values()} == {"finished"}
    assert found[9]["result"] == 9
    runs = gml("ls", "--json").json
    finished = [
        r["tags"]["gml.sweep.trial"]
        for r in runs
        if r["tags"].get("gml.sweep.trial") and r["status"] == "FINISHED"
    ]
    # A trial that ended after the sweep was killed has finished, but nobody was there to say so: it ran again.
    assert sorted(map(int, finished)) == list(range(10))
    assert len(gml("sweep", "--resume", "long", "--trials", "10", "--json").json["trials"]) == 10
    assert "is no sweep" in gml("sweep", "--resume", found[0]["run_id"], code=4).err
