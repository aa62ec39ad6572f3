"""`gml diff` of two runs and of many, with data sets and curves."""

import json
import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gml.tracking.report.curves import gap, sparkline, thin
from gml.tracking.report.patch import split


def test_two_runs_keep_the_documented_shape(train, cli):
    a = train("a", {"lr": 1, "k": 5}, metrics={"auc": 0.5})
    b = train("b", {"lr": 2, "depth": 3}, metrics={"auc": 0.75}, tags={"team": "risk"})
    found = cli("diff", a, b, "--json").json
    assert list(found) == [
        "a", "b", "params", "metrics", "tags", "code", "environment", "artifacts", "inputs", "curves"
    ]  # fmt: skip
    assert (found["a"], found["b"]) == (a, b)
    assert found["params"] == {
        "changed": {"lr": ["1", "2"]}, "only_a": {"k": "5"}, "only_b": {"depth": "3"}
    }  # fmt: skip
    assert found["metrics"] == {
        "changed": {"auc": [0.5, 0.75]}, "only_a": {}, "only_b": {}, "delta": {"auc": 0.25}
    }  # fmt: skip
    assert found["tags"]["only_b"] == {"team": "risk"}
    assert found["code"]["patch"] == ""
    assert found["curves"] == {"changed": {}, "only_a": {}, "only_b": {}, "gap": {}}


def test_curves_are_compared_at_shared_steps(train, cli):
    nan = float("nan")
    a = train("a", curves={"loss": [1.0, 0.5, nan, 0.25], "same": [1, 2], "gone": [3, 4]})
    b = train("b", curves={"loss": [1.0, 0.75, 0.5, 0.25, 0.125], "same": [1, 2]})
    found = cli("diff", a, b, "--only", "curves", "--json").json
    assert list(found) == ["a", "b", "curves"]
    curves = found["curves"]
    assert list(curves["changed"]) == ["loss"]
    assert curves["changed"]["loss"] == [
        {"count": 4, "last": 0.25, "min": 0.25, "max": 1.0},
        {"count": 5, "last": 0.125, "min": 0.125, "max": 1.0},
    ]
    assert curves["only_a"]["gone"]["count"] == 2
    assert curves["gap"]["loss"] == {
        "shared_steps": 4, "max": 0.25, "at_step": 1, "mean": pytest.approx(0.25 / 3)
    }  # fmt: skip
    text = cli("diff", a, b, "--only", "curves").out
    assert "loss\t4 in 0.25..1\t5 in 0.125..1\t0.25\t1" in text


def test_data_sets_are_compared_by_name_and_context(train, cli):
    a = train("a", inputs=[[{"x": 1}]])
    b = train("b", inputs=[[{"x": 2}]])
    changed = cli("diff", a, b, "--only", "inputs", "--json").json["inputs"]["changed"]
    ((name, (before, after)),) = changed.items()
    assert name.endswith("[training]")
    assert set(before) == {"digest", "source_type", "source"}
    assert before["digest"] != after["digest"]
    assert before["digest"] in cli("diff", a, b, "--only", "inputs").out


def test_many_runs_have_a_column_each_and_only_rows_that_differ(train, cli, repo):
    a = train("a", {"lr": 1, "k": 5}, {"loss": [3, 2]}, {"auc": 0.5}, files={"m.txt": "one"})
    repo.commit("two", **{"train.py": "print(2)\n", "new.py": "1\n"})
    from gml.tracking import source

    source._captured.clear()
    b = train("b", {"lr": 2, "k": 5}, {"loss": [3, 1]}, {"auc": 0.5})
    c = train("c", {"lr": 2, "k": 5, "z": 1}, {}, {"auc": float("nan")})
    found = cli("diff", a, b, c, "--json").json
    assert found["runs"] == [a, b, c]
    assert found["params"] == {"lr": ["1", "2", "2"], "z": [None, None, "1"]}
    assert found["metrics"] == {"auc": [0.5, 0.5, "NaN"], "loss": [2.0, 1.0, None]}
    assert found["curves"]["loss"][1] == {"count": 2, "last": 1.0, "min": 1.0, "max": 3.0}
    assert found["files"] == {"new.py": ["", "A", "A"], "train.py": ["", "M", "M"]}
    assert found["code"]["commit"][1] == found["code"]["commit"][2]
    assert found["artifacts"]["m.txt"][1:] == [None, None]
    everything = cli("diff", a, b, c, "--all", "--only", "params", "--json").json
    assert everything == {
        "runs": [a, b, c],
        "params": {"k": ["5", "5", "5"], "lr": ["1", "2", "2"], "z": [None, None, "1"]},
    }
    table = cli("diff", a, b, c, "--only", "params").out.splitlines()
    assert table[:2] == ["params", f"key\t{a[-8:]} a\t{b[-8:]} b\t{c[-8:]} c"]
    assert "lr\t1\t2\t2" in table
    assert not any(line.startswith("k\t") for line in table)


def test_the_champion_comes_first(train, cli):
    low = train("low", metrics={"auc": 0.5, "loss": 3})
    high = train("high", metrics={"auc": 0.9, "loss": 2})
    nan = train("nan", metrics={"auc": float("nan"), "loss": 9})
    none = train("none")
    for wanted, first in (
        ("auc", high),
        ("metrics.auc", high),
        ("metrics.auc ASC", low),
        ("loss", high),
        ("loss DESC", nan),
    ):
        found = cli("diff", none, nan, low, high, "--champion", wanted, "--only", "params", "--json").json
        assert found["runs"][0] == first, wanted
        assert sorted(found["runs"]) == sorted([none, nan, low, high])


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        ([], 2, "Missing argument"),
        (["nothing", "@"], 4, "no run matches 'nothing'"),
        (["a", "a", "--only", "nonsense"], 2, "'nonsense' is not one of"),
        (["a", "a", "--champion", "acu"], 4, "they have: auc"),
        (["a", "a", "--champion", "params.lr"], 2, "by a metric"),
        (["a", "a", "--markdown", "--json"], 2, "exclude each other"),
        (["a", "a", "--html", "train.py/x.html"], 8, "cannot write train.py/x.html"),
    ],
)
def test_mistakes_get_one_line(train, cli, args, code, says):
    train("a", metrics={"auc": 1})
    done = cli("diff", *args, code=code)
    assert says in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert done.out == ""


def test_a_missing_history_file_is_one_line(train, cli, repo):
    run = train("a", curves={"loss": list(np.linspace(0, 1, 500))})
    other = train("b", curves={"loss": [1, 2]})
    repo.damaged = True
    (name,) = [n for n in repo.git("ls-tree", "-r", "refs/gml/ledger").splitlines() if n.endswith(".hist")]
    for pack in list((repo.path / ".git/objects/pack").glob("*.pack")):
        pack.with_suffix(".idx").unlink()
        loose = pack.rename(repo.path / pack.name)
        with loose.open("rb") as stream:
            subprocess.run(["git", "unpack-objects", "-q"], stdin=stream, cwd=repo.path, check=True)
    oid = name.split()[2]
    path = repo.path / ".git/objects" / oid[:2] / oid[2:]
    path.unlink()
    done = cli("diff", run, other, code=4)
    assert len(done.err.strip().splitlines()) == 1
    assert cli("diff", run, other, "--only", "params").out


def columns(steps, values):
    steps = np.array(steps, np.int64)
    return steps, steps * 1000, np.array(values, np.float64)


def test_gap_takes_the_last_value_of_a_step():
    a = columns([0, 0, 1], [9, 1, 2])
    b = columns([0, 1, 1], [1, 7, 4])
    assert gap(a, b) == {"shared_steps": 2, "max": 2.0, "at_step": 1, "mean": 1.0}
    assert gap(columns([0], [1]), columns([5], [1])) == {
        "shared_steps": 0, "max": None, "at_step": None, "mean": None
    }  # fmt: skip


floats = hnp.arrays(np.float64, st.integers(0, 400), elements=st.floats(width=64))


@given(floats, st.integers(8, 60))
@settings(max_examples=60, deadline=None)
def test_thinning_keeps_ends_extremes_and_gaps(values, limit):
    kept = thin(values, limit)
    assert len(kept) <= max(limit, 0)
    assert list(kept) == sorted(set(kept.tolist()))
    if len(values):
        assert kept[0] == 0
        assert kept[-1] == len(values) - 1
        finite = values[np.isfinite(values)]
        shown = values[kept]
        if len(finite):
            assert shown[np.isfinite(shown)].min() == finite.min()
            assert shown[np.isfinite(shown)].max() == finite.max()
        assert np.isfinite(shown).all() == np.isfinite(values).all()


@given(floats, st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_a_sparkline_is_never_wider_than_asked_and_never_fails(values, width):
    line = sparkline(values, width)
    assert len(line) == min(width, len(values))
    assert set(line) <= set("▁▂▃▄▅▆▇█·")


def test_patches_are_counted_by_hunk_lengths():
    patch = (
        "diff --git a/x b/x\nindex 1..2 100644\n--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n--- old\n+++ new\n same\n"
        "diff --git a/gone b/gone\ndeleted file mode 100644\n--- a/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n"
        "\\ No newline at end of file\ndiff --git a/p.png b/p.png\nBinary files a/p.png and b/p.png differ\n"
    )
    files = split(patch)
    assert [(f.path, f.added, f.removed, f.binary) for f in files] == [
        ("x", 1, 1, False),
        ("gone", 0, 1, False),
        ("p.png", 0, 0, True),
    ]
    assert split("") == []


def test_the_patch_of_git_is_counted_as_git_counts(repo):
    text = "".join(f"line {n}\n" for n in range(60))
    old = repo.commit("old", **{"a b.py": text, "q.sql": "-- x\n-- y\n"})
    new = repo.commit("new", **{"a b.py": text.replace("line 5", "+++ five"), "q.sql": "-- y\n", "n": "\n\n"})
    files = split(repo.git("diff-tree", "-r", "-p", "--no-renames", old, new) + "\n")
    stat = [line.split("\t") for line in repo.git("diff", "--numstat", old, new).splitlines()]
    assert [(f.added, f.removed) for f in files] == [(int(a), int(d)) for a, d, _ in stat]
    assert [f.path.rstrip("\t") for f in files] == [path for *_, path in stat]


def test_json_is_json_whatever_the_values(train, cli):
    a = train("a", metrics={"x": float("inf")}, curves={"c": [float("nan"), float("-inf")]})
    b = train("b", metrics={"x": float("-inf")}, curves={"c": [1e308, -1e308]})
    json.loads(cli("diff", a, b, "--json").out, parse_constant=pytest.fail)
    json.loads(cli("diff", a, b, a, "--json").out, parse_constant=pytest.fail)
