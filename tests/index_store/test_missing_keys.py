"""Keys that no run has are named, with what was probably meant."""

from __future__ import annotations

import logging

import pytest

from gml.domain.errors import NotFoundError
from gml.index.query import parse
from gml.tracking.missing import experiment_ids, missing_keys
from gml.tracking.reader import Reader


@pytest.fixture
def reader(lab):
    lab.experiment("churn")
    lab.add(params={"lr": "0.1", "odd key": "x"}, tags={"team": "risk"},
            metrics={"auc": {"last": 0.9, "step": 0, "timestamp": 0}, "loss.min": {"last": 0.1, "step": 0, "timestamp": 0}})  # fmt: skip
    return Reader(lab.workspace)


@pytest.mark.parametrize(
    ("query", "lines"),
    [
        ("metrics.auc > 0.5 and params.lr = 0.1 and tags.team = 'x'", []),
        ("metrics.auc.max > 0.5 and metrics.loss.min > 0 and metrics.`loss.min` > 0", []),
        ("metrics.auc@step=7 > 0.5 and tags.mlflow.runName = 'x' and env.nothing = 'x'", []),
        ("metrics.acu > 0.5", ["no run has metrics.acu; did you mean metrics.auc?"]),
        ("metrics.acu > 0.5 or metrics.acu < 0.1", ["no run has metrics.acu; did you mean metrics.auc?"]),
        ("params.auc > 0.5", ["no run has params.auc; did you mean metrics.auc?"]),
        ("params.`od key` = 'x'", ["no run has params.`od key`; did you mean params.`odd key`?"]),
        ("tags.zzzzzz is null", ["no run has tags.zzzzzz"]),
        ("metrics.acu.max > 0.5", ["no run has metrics.acu.max; did you mean metrics.auc?"]),
    ],
)
def test_what_is_said(reader, query, lines):
    assert missing_keys(reader, parse(query).fields()) == lines


def test_many_are_counted(reader):
    lines = missing_keys(reader, parse(" and ".join(f"params.x{n} = 1" for n in range(40))).fields())
    assert len(lines) == 4
    assert lines[-1] == "... nor 37 other keys that were named"


def test_live_runs_have_keys_too(api, repo):
    with api.start_run():
        api.log_metric("fresh", 1)
        assert missing_keys(Reader(repo.workspace()), parse("metrics.fresh > 0").fields()) == []


def test_the_past_is_not_judged(reader, lab):
    past = Reader(lab.workspace, at=lab.ledger.tip())
    assert missing_keys(past, parse("metrics.acu > 0.5").fields()) == []


def test_python_warns_where_nothing_is_found(api, caplog):
    with api.start_run():
        api.log_metric("auc", 1)
    with caplog.at_level(logging.WARNING):
        assert len(api.search_runs(filter_string="metrics.acu > 0")) == 0
        assert len(api.runs("metrics.auc > 2")) == 0
    assert [record.getMessage() for record in caplog.records] == [
        "gml: no run has metrics.acu; did you mean metrics.auc?"
    ]


def test_the_command_says_it_on_standard_error(api, repo, gml):
    with api.start_run():
        api.log_metric("auc", 1)
    done = gml("ls", "--sort", "-metrics.acu", "--columns", "params.lr")
    assert done.err.splitlines() == ["gml: no run has metrics.acu; did you mean metrics.auc?", "gml: no run has params.lr"]  # fmt: skip
    assert len(done.rows) == 1
    assert gml("export", "metrics.acu > 0").err.startswith("gml: no run has metrics.acu; did you mean")


def test_experiments_by_name_or_id(reader, lab):
    (churn,) = experiment_ids(reader, ["churn"])
    assert experiment_ids(reader, [churn, "Default"]) == {churn, "0"}
    assert experiment_ids(reader, []) is None
    with pytest.raises(NotFoundError, match="no experiment is named 'chrun'; did you mean 'churn'"):
        experiment_ids(reader, ["chrun"])
