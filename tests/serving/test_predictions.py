"""The prediction log: sampled, rotated, written whole, read back by the command line."""

import json
import threading

import pyarrow.parquet as pq
import pytest
from serving_lab import wait_for
from test_app import GOOD, ask, made

from gml.cli.main import run
from gml.domain.errors import InvalidValueError, NotFoundError
from gml.serving import predictions
from gml.serving.app import ScoringApp
from gml.serving.predictions import PredictionLog


def files(top):
    return sorted(top.rglob("*.parquet"))


def test_requests_and_answers_are_kept(scorer, tmp_path, capsys):
    log = PredictionLog(tmp_path, 1.0)
    app = ScoringApp(made(scorer), predictions=log)
    for _ in range(3):
        assert ask(app)[0] == 200
    assert ask(app, body=b"{")[0] == 400
    log.close()
    (path,) = files(tmp_path)
    assert path.parent.name == "churn"
    rows = pq.read_table(path).to_pylist()
    assert [(row["version"], row["rows"], row["input"]) for row in rows] == [(4, 1, GOOD)] * 3
    assert {row["output"] for row in rows} == {'{"predictions":[0]}'}
    assert all(row["latency_ms"] > 0 and row["digest"] == "ab" * 32 for row in rows)
    assert run(["models", "predictions", "churn", "--from", str(tmp_path), "-n", "2", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [row["output"] for row in shown] == [{"predictions": [0]}] * 2
    assert shown[0]["input"] == json.loads(GOOD)
    assert run(["models", "predictions", "churn", "--from", str(tmp_path)]) == 0
    first = capsys.readouterr().out.splitlines()[1].split("\t")
    assert (first[1], first[3], first[5]) == ("churn version 4", "1", '{"predictions": [0]}')
    assert run(["models", "predictions", "churn", "--from", str(tmp_path), "--version", "5"]) == 0
    assert run(["models", "predictions", "../etc", "--from", str(tmp_path)]) != 0
    assert run(["models", "predictions", "other", "--from", str(tmp_path)]) == 4
    assert "no predictions are logged" in capsys.readouterr().err


def test_files_are_rotated_by_rows_and_time(scorer, tmp_path):
    served = made(scorer).current
    log = PredictionLog(tmp_path / "rows", 1.0, rows=2)
    for _ in range(5):
        log.add(served, 0.001, 1, "application/json", b"{}", b"{}")
    log.close()
    assert sorted(pq.read_metadata(path).num_rows for path in files(tmp_path / "rows")) == [1, 2, 2]
    log = PredictionLog(tmp_path / "time", 1.0, seconds=0.05)
    log.add(served, 0.001, 1, "application/json", b"{}", b"{}")
    wait_for(lambda: files(tmp_path / "time"), "a file")
    log.close()
    assert not list(tmp_path.rglob("*.partial"))


def test_a_sample_is_a_share(scorer, tmp_path):
    log = PredictionLog(tmp_path, 0.5)
    served = made(scorer).current
    for _ in range(400):
        log.add(served, 0.001, 1, "application/json", b"{}", b"{}")
    log.close()
    assert 100 < sum(pq.read_metadata(path).num_rows for path in files(tmp_path)) < 300


def test_a_log_that_cannot_be_written_stops_no_answer(scorer, tmp_path, caplog):
    (tmp_path / "churn").write_text("in the way")
    log = PredictionLog(tmp_path, 1.0)
    app = ScoringApp(made(scorer), predictions=log)
    assert ask(app)[0] == 200
    log.close()
    assert log.dropped == 1
    assert "1 predictions are not logged" in caplog.text


def test_requests_never_wait_for_the_log(scorer, tmp_path, monkeypatch):
    monkeypatch.setattr(predictions, "_WAITING", 2)
    go, at_work = threading.Event(), threading.Event()

    def slow(*_args):
        at_work.set()
        assert go.wait(30)

    monkeypatch.setattr(predictions, "_write_file", slow)
    log = PredictionLog(tmp_path, 1.0, rows=1)
    served = made(scorer).current
    log.add(served, 0.001, 1, "application/json", b"{}", b"{}")
    assert at_work.wait(30)
    for _ in range(5):
        log.add(served, 0.001, 1, "application/json", b"{}", b"{}")
    assert log.dropped == 3
    go.set()
    log.close()


@pytest.mark.parametrize(
    ("text", "share"), [("sample=0.1", 0.1), ("0.25", 0.25), ("all", 1.0), ("sample=1", 1.0)]
)
def test_shares(text, share):
    assert predictions.parse_sample(text) == share


@pytest.mark.parametrize("text", ["0", "1.5", "sample=", "nan", "some"])
def test_what_is_no_share(text):
    with pytest.raises(InvalidValueError, match="no share of requests"):
        predictions.parse_sample(text)


def test_nothing_logged_is_said(tmp_path):
    with pytest.raises(NotFoundError, match="no predictions are logged"):
        list(predictions.read(tmp_path))
