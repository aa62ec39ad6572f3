"""`gml.runs`, `gml.compare` and `gml.plot`."""

import math
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from hostile import CORPUS

from gml.domain.errors import MissingPackageError, NotFoundError, UsageError
from gml.index.query.errors import QueryError


@pytest.fixture
def three(train, api):
    api.set_experiment("churn")
    ids = [
        train("forest", {"lr": 0.1, "model": "rf"}, {"loss": [3, 2, 1]}, {"auc": 0.8}),
        train("boost", {"lr": 0.2, "model": "xgb"}, {"loss": [4, 3]}, {"auc": 0.9}),
    ]
    api.set_experiment("other")
    return [*ids, train("linear", {"lr": 0.3}, {}, {"auc": math.nan, "rmse": 5})]


def test_a_run_set_is_a_sequence_of_runs(three, api):
    found = api.runs()
    assert "not read yet" in repr(found)
    assert len(found) == 3
    assert found.ids == three[::-1]
    assert [run.info.run_name for run in found] == ["linear", "boost", "forest"]
    assert found[0].run_id == found[-3].run_id == three[2]
    assert found[1:].ids == found.ids[1:]
    assert found[::-1][:1].ids == [three[0]]
    assert found[0] in found
    assert repr(found) == "<RunSet of 3 runs: linear, boost, forest>"
    with pytest.raises(IndexError):
        found[3]


def test_a_run_set_stays_what_it_was_when_it_was_read(three, api, train):
    found, later = api.runs(), api.runs()
    assert len(found) == 3
    train("fourth")
    assert len(found) == 3
    assert len(later) == 4


def test_queries_orders_and_experiments(three, api):
    assert api.runs("metrics.auc > 0.85").ids == [three[1]]
    assert api.runs(order_by="params.lr").ids == three
    assert api.runs(order_by=["params.lr DESC"], max_results=2).ids == three[:0:-1]
    assert api.runs(experiment_names=["churn"]).ids == [three[1], three[0]]
    assert api.runs(experiment_ids=[]).ids == []
    api.delete_run(three[0])
    assert len(api.runs()) == 2
    assert api.runs(deleted=True).ids == [three[0]]
    with pytest.raises(QueryError):
        api.runs("metrics.auc >")
    with pytest.raises(QueryError):
        api.runs(order_by="nonsense.x")
    with pytest.raises(NotFoundError, match="did you mean 'churn'"):
        len(api.runs(experiment_names=["churm"]))
    with pytest.raises(UsageError):
        api.runs(experiment_names=["churn"], experiment_ids=["0"])


def test_best(three, api):
    found = api.runs()
    assert found.best("metrics.auc").run_id == found.best("auc").run_id == three[1]
    assert found.best("auc", higher=False).run_id == three[0]
    assert found.best("loss", higher=False).run_id == three[0]
    with pytest.raises(NotFoundError, match="auc, loss, rmse"):
        found.best("acu")
    with pytest.raises(NotFoundError, match="found none"):
        api.runs("metrics.auc > 5").best("auc")


def test_frames_of_a_run_set(three, api):
    found = api.runs(order_by="params.lr")
    frame = found.to_pandas()
    pd.testing.assert_frame_equal(
        frame, api.search_runs(order_by=["params.lr"], search_all_experiments=True), check_like=True
    )
    points = found.metric("metrics.loss")
    assert list(points.columns) == ["run_id", "name", "step", "timestamp", "value"]
    assert points["name"].tolist() == ["forest"] * 3 + ["boost"] * 2
    assert points["step"].tolist() == [0, 1, 2, 0, 1]
    assert points["value"].tolist() == [3, 2, 1, 4, 3]
    for run_id, part in points.groupby("run_id"):
        history = api.metric_history(run_id, "loss")
        assert part["value"].tolist() == history["value"].tolist()
        assert part["timestamp"].tolist() == history["timestamp"].tolist()
    none = found[:0].metric("loss")
    assert list(none.columns) == list(points.columns)
    assert none.dtypes.tolist() == points.dtypes.tolist()
    with pytest.raises(NotFoundError, match="none of these runs has a metric 'lose'"):
        found.metric("lose")


def test_compare_gives_frames(three, api):
    found = api.compare(three[0], "boost")
    assert found.ids == three[:2]
    assert found.params.loc["lr"].tolist() == ["0.1", "0.2"]
    assert found.metrics.loc["auc"].tolist() == [0.8, 0.9, pytest.approx(0.1)]
    assert found.metrics.columns.tolist() == [*three[:2], "delta"]
    assert found.curves.loc["loss", (three[1], "max")] == 4
    assert found.environment.empty
    assert found.files.empty
    assert found.patch == ""
    assert "<Comparison of forest" in repr(found)
    everything = api.compare(api.runs(), champion="auc", everything=True)
    assert everything.ids == [three[1], three[2], three[0]]
    assert everything.metrics.loc["rmse"].isna().tolist() == [True, False, True]
    assert len(everything.environment) > 3
    assert everything.to_json()["params"]["model"] == ["xgb", None, "rf"]
    assert everything.to_markdown().startswith("### 3 runs compared")
    assert everything.to_html().startswith("<!DOCTYPE html>")
    frame = api.search_runs(search_all_experiments=True)
    assert api.compare(frame).ids == three[::-1]
    assert api.compare(frame["run_id"], api.get_run(three[0])).ids == three[::-1]
    assert api.compare([three[0], [three[1]]]).ids == three[:2]


@pytest.mark.parametrize(
    ("args", "error"),
    [((), UsageError), (("forest",), UsageError), (("forest", "forest"), UsageError), ((1, 2), UsageError),
     (("forest", "gone"), NotFoundError)],
)  # fmt: skip
def test_compare_refuses_what_is_no_run(three, api, args, error):
    with pytest.raises(error) as caught:
        api.compare(*args)
    assert "\n" not in str(caught.value)


class Tags(HTMLParser):
    seen: set

    def __init__(self):
        super().__init__()
        self.seen = set()

    def handle_starttag(self, tag, attributes):
        self.seen.add(tag)
        assert {name for name, _ in attributes} <= {"class", "title"}


def test_notebooks_show_tables_without_markup_of_the_user(train, api):
    # The name of a run has no newlines or controls; the keys of params have fewer characters than values.
    for at, text in enumerate(CORPUS):
        name = re.sub(r"[\x00-\x1f\ud800]", "", text)
        train(name, {"text": text.replace("\x00", "").replace("\ud800", "")}, metrics={"m": at})
    parser = Tags()
    found = api.runs()
    parser.feed(found._repr_html_())
    parser.feed(api.compare(found)._repr_html_())
    assert parser.seen <= {"table", "thead", "tbody", "tr", "th", "td", "p", "div", "h4", "span"}
    assert "the first 20 are shown" in found._repr_html_()


def test_plots(three, api):
    pytest.importorskip("plotly")
    runs = api.runs(order_by="params.lr")
    figure = api.plot.curves(runs, "loss")
    assert [trace.name for trace in figure.data] == [
        f"{n} {i[-8:]}" for n, i in zip(["forest", "boost"], three, strict=False)
    ]
    assert list(figure.data[0].x) == [0, 1, 2]
    assert list(figure.data[0].y) == [3, 2, 1]
    for given in (three, runs.to_pandas(), three[0], [runs[0]]):
        assert list(api.plot.curves(given, "metrics.loss").data[0].y) == [3, 2, 1]
    assert api.plot.curves(runs, "loss", x="relative").data[0].x[0] == 0
    assert str(api.plot.curves(runs, "loss", x="time").data[0].x.dtype).startswith("datetime64")
    figure = api.plot.scatter(runs, "lr", "metrics.auc")
    assert list(figure.data[0].x) == [0.1, 0.2, 0.3]
    assert list(api.plot.scatter(runs, "params.model", "auc").data[0].x) == ["rf", "xgb"]
    figure = api.plot.parallel_coordinates(runs, params=["lr", "model"], metric="auc")
    lr, model, auc = figure.data[0].dimensions
    assert list(lr["values"]) == [0.1, 0.2, 0.3]
    assert list(model.ticktext) == ["none", "rf", "xgb"]
    assert list(model["values"]) == [1, 2, 0]
    assert auc.label == "auc"
    figure.to_json()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda plot, runs: plot.curves(runs, "lose"), "auc, loss, rmse"),
        (lambda plot, runs: plot.curves(runs, "loss", x="epoch"), "'step', 'time' or 'relative'"),
        (lambda plot, runs: plot.curves(3, "loss"), "int is no run"),
        (lambda plot, runs: plot.scatter(runs, "params.x", "auc"), "lr, model"),
        (lambda plot, runs: plot.parallel_coordinates(runs, "lr", "auc"), "list of params"),
        (lambda plot, runs: plot.parallel_coordinates(runs, ["x"], "auc"), "lr, model"),
    ],
)
def test_mistakes_in_plots_get_one_line(three, api, call, says):
    pytest.importorskip("plotly")
    with pytest.raises((NotFoundError, UsageError)) as caught:
        call(api.plot, api.runs())
    assert says in str(caught.value)


def test_long_curves_are_thinned_and_keep_extremes(api):
    pytest.importorskip("plotly")
    values = np.sin(np.arange(20_000) / 500)
    values[7777], values[9999] = 9, math.nan
    with api.start_run() as run:
        for step, value in enumerate(values.tolist()):
            api.log_metric("loss", value, step=step)
    (trace,) = api.plot.curves(run.run_id, "loss").data
    assert len(trace.x) <= 2_000
    assert np.nanmax(trace.y) == 9
    assert np.isnan(trace.y).sum() == 1
    assert trace.x[-1] == 19_999


def test_markup_in_names_does_not_reach_plotly(train, api):
    pytest.importorskip("plotly")
    run = train("<a href='javascript:x'>x</a>", {"p": "<b>x</b>"}, {"loss": [1, 2]})
    text = api.plot.curves(run, "loss").to_json() + api.plot.scatter(run, "p", "loss").to_json()
    assert "<a" not in text
    assert "<b>" not in text


def test_without_plotly_there_is_one_line(three, api, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    for call in (
        lambda: api.plot.curves(three, "loss"),
        lambda: api.plot.scatter(three, "lr", "auc"),
        lambda: api.plot.parallel_coordinates(three, ["lr"], "auc"),
    ):
        with pytest.raises(MissingPackageError, match=r"pip install 'gitml\[plot\]'"):
            call()


def test_importing_gml_and_reports_loads_nothing_heavy(repo):
    heavy = repo.json(
        "import gml, sys, json\n"
        "gml.runs, gml.compare, gml.plot\n"
        "import gml.cli.diff, gml.cli.watch, gml.cli.ls\n"
        "print(json.dumps([m for m in ('numpy', 'pandas', 'plotly', 'rich.live') if m in sys.modules]))"
    )
    assert heavy == []
