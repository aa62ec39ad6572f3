import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from query_strategies import runs as any_run

from gml.domain.metrics import MetricSummary
from gml.domain.run import Run
from gml.index.as_mlflow import mlflow_tag
from gml.index.frames import history_frame, mlflow_tags, runs_frame

FIRST = ["run_id", "experiment_id", "status", "artifact_uri", "start_time", "end_time"]


def run(run_id, **more):
    more = {"name": "", "user": "", "end_time": None, "status": "RUNNING", **more}
    return Run(
        run_id,
        "0",
        more.pop("name"),
        more.pop("user"),
        more.pop("status"),
        more.pop("start_time", 1_780_000_000_123),
        more.pop("end_time"),
        **more,
    )


def test_the_shape_of_mlflow():
    done = run(
        "a",
        end_time=1_780_000_001_000,
        metrics={"auc": MetricSummary.first(0, 0, 0.5)},
        params={"lr": "0.1"},
        tags={"team": "x"},
    )
    frame = runs_frame([done, run("b", params={"k": "5"})])
    assert list(frame.columns) == [*FIRST, "metrics.auc", "params.lr", "params.k", "tags.team"]
    assert frame.run_id.tolist() == ["a", "b"]
    assert frame["metrics.auc"].dtype == np.float64
    assert frame["metrics.auc"][0] == 0.5
    assert np.isnan(frame["metrics.auc"][1])
    assert frame["params.lr"].tolist() == ["0.1", None]
    assert frame["params.k"].tolist() == [None, "5"]
    assert frame["tags.team"].tolist() == ["x", None]
    assert isinstance(frame.start_time.dtype, pd.DatetimeTZDtype)
    assert str(frame.start_time.dt.tz) == "UTC"
    assert frame.start_time[0] == pd.Timestamp(1_780_000_000_123, unit="ms", tz="UTC")
    assert frame.end_time[0] == pd.Timestamp(1_780_000_001_000, unit="ms", tz="UTC")
    assert frame.end_time[1] is pd.NaT
    assert frame.artifact_uri[0] == "gml:/runs/a/artifacts"


def test_no_runs_and_odd_runs():
    empty = runs_frame([])
    assert list(empty.columns) == FIRST
    assert len(empty) == 0
    assert isinstance(empty.start_time.dtype, pd.DatetimeTZDtype)
    frame = runs_frame([run("a", start_time=1 << 62)], artifact_uri=lambda each: f"x:/{each.run_id}")
    assert frame.start_time[0] is pd.NaT
    assert frame.artifact_uri[0] == "x:/a"


def test_tags_of_fields():
    source = {"name": "train.py", "type": "LOCAL", "commit": "abc", "branch": "main", "remote": "https://x/y"}
    plain = run("a", name="calm-owl", user="me", source=source, tags={"team": "x"})
    expected = {
        "mlflow.runName": "calm-owl",
        "mlflow.user": "me",
        "mlflow.source.name": "train.py",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": "abc",
        "team": "x",
    }
    assert mlflow_tags(plain) == expected
    assert {c[5:]: v for c, v in runs_frame([plain]).iloc[0].items() if c.startswith("tags.")} == expected
    project = run("a", source={**source, "type": "PROJECT"})
    assert mlflow_tags(project)["mlflow.source.git.branch"] == "main"
    assert mlflow_tags(project)["mlflow.source.git.repoURL"] == "https://x/y"
    own = run("a", name="new", source=source, tags={"mlflow.runName": "old", "mlflow.source.name": "mine"})
    assert mlflow_tags(own)["mlflow.runName"] == "new"
    assert mlflow_tags(own)["mlflow.source.name"] == "mine"
    assert mlflow_tags(run("a", source={"commit": None, "name": ""})) == {}


def test_histories():
    frame = history_frame([0, 1], [5, 6], [0.5, float("nan")])
    assert [str(dtype) for dtype in frame.dtypes] == ["int64", "int64", "float64"]
    assert list(frame.columns) == ["step", "timestamp", "value"]
    assert [str(dtype) for dtype in history_frame([], [], []).dtypes] == ["int64", "int64", "float64"]
    with pytest.raises(ValueError, match="same length"):
        history_frame([0], [], [])


def test_ten_thousand_runs_take_about_a_second_at_most():
    metrics = {f"m{n}": MetricSummary.first(0, 0, float(n)) for n in range(20)}
    params = {f"p{n}": str(n) for n in range(20)}
    runs = [run(f"r{n}", metrics=metrics, params=params) for n in range(10_000)]
    start = time.process_time()
    frame = runs_frame(runs)
    taken = time.process_time() - start
    assert frame.shape == (10_000, 46)
    # 0.3 s here; the room is for slow and shared machines.
    assert taken < 2


@given(
    run=any_run(),
    source=st.fixed_dictionaries(
        {},
        optional={
            "name": st.sampled_from(["train.py", "", None]),
            "type": st.sampled_from(["PROJECT", "LOCAL"]),
            "commit": st.sampled_from(["4f1c", 7]),
            "branch": st.just("main"),
            "remote": st.just("https://x/y"),
        },
    ),
)
def test_all_tags_are_those_that_are_asked_for_one_by_one(run, source):
    run = replace(run, source=source)
    tags = mlflow_tags(run)
    keys = {*tags, *run.tags, "mlflow.source.name", "mlflow.source.type", "mlflow.source.git.commit",
            "mlflow.source.git.branch", "mlflow.source.git.repoURL", "mlflow.runName", "mlflow.user"}  # fmt: skip
    assert {key: mlflow_tag(run, key) for key in keys if mlflow_tag(run, key) is not None} == tags
