"""Real servers: exchange under load, workers that die, drain."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest
from serving_lab import save_linear, wait_for

from gml.domain.errors import ConflictError, InvalidValueError, NotFoundError, UsageError
from gml.models.files import ModelFiles
from gml.serving.batch import BatchOptions, predict_file
from gml.serving.image import write_context
from gml.serving.inspect import describe
from gml.serving.validate import validate_model
from gml.tracking.models.resolve import resolve

BODY = {"dataframe_split": {"columns": ["age", "calls"], "data": [[20.0, 1]]}}


def workers_of(server):
    import psutil

    return [child.pid for child in psutil.Process(server.process.pid).children()]


def replace(link, target):
    new = link.with_name("new")
    new.symlink_to(target)
    new.replace(link)


def test_a_new_model_is_taken_into_service_without_a_failed_request(serve, table, tmp_path):
    models = [save_linear(tmp_path / "a", table), save_linear(tmp_path / "b", table, (1, 1, 0, 0))]
    link = tmp_path / "current"
    link.symlink_to(models[0])
    server = serve(link, "--reload-on-promotion", "--poll", "0.05", "--token", "t", "--log-format", "none")
    stop = threading.Event()

    def ask_on():
        seen = []
        while not stop.is_set() or len(seen) < 50:
            seen.append(server.json(body=BODY, Authorization="Bearer t"))
        return seen

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(ask_on) for _ in range(4)]
        for turn in (1, 0, 1):
            replace(link, models[turn])
            wait_for(
                lambda turn=turn: (
                    server.json(body=BODY, Authorization="Bearer t")[1]["predictions"] == [turn]
                ),
                "the exchange",
            )
        stop.set()
        answers = [answer for future in running for answer in future.result()]
    assert len(answers) >= 200
    assert {status for status, _ in answers} == {200}
    assert {tuple(body["predictions"]) for _, body in answers} == {(0,), (1,)}
    page = server.request("/metrics", Authorization="Bearer t")[1].decode()
    assert "gml_model_swaps_total 3" in page
    shutil.rmtree(link.resolve())
    assert server.json(body=BODY, Authorization="Bearer t")[0] == 200
    assert server.stop() in {0, -signal.SIGTERM}


@pytest.mark.heavy
def test_workers_share_a_port_and_are_replaced(serve, linear):
    server = serve(linear, "--workers", "2")
    first = set(wait_for(lambda: len(workers_of(server)) == 2 and workers_of(server), "two workers"))
    assert server.json(body=BODY) == (200, {"predictions": [0]})
    os.kill(next(iter(first)), signal.SIGKILL)
    wait_for(lambda: len(set(workers_of(server)) - first) == 1, "a new worker")
    for _ in range(20):
        assert server.json(body=BODY) == (200, {"predictions": [0]})
    page = wait_for(
        lambda: 'status="200"}' in (text := server.request("/metrics")[1].decode()) and text, "metrics"
    )
    assert "gml_predictions_total" in page
    left = workers_of(server)
    assert server.stop() == 0
    import psutil

    assert not any(psutil.pid_exists(pid) for pid in left)


SLOW = """
import sys, time
from gml.models.flavor import get_flavor
from gml.models.save import save_model

def slow(model_input: list[float]) -> list[float]:
    import os, time
    if model_input[0] < 0:
        os._exit(9)
    time.sleep(model_input[0])
    return model_input

save_model(slow, sys.argv[1], get_flavor("python_function"))
"""


@pytest.mark.heavy
def test_running_requests_are_answered_before_the_server_ends(serve, tmp_path):
    subprocess.run([sys.executable, "-c", SLOW, str(tmp_path / "slow")], check=True)
    server = serve(tmp_path / "slow", "--trust", "code", "--workers", "2", "--timeout", "20")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(server.json, body={"inputs": [1.0]})
        wait_for(
            lambda: "gml_requests_in_flight 1" in server.request("/metrics")[1].decode() or running.done(),
            "it",
        )
        assert server.stop() == 0
        assert running.result() == (200, {"predictions": [1.0]})


@pytest.mark.heavy
def test_a_model_that_ends_its_process_is_started_again(serve, tmp_path):
    subprocess.run([sys.executable, "-c", SLOW, str(tmp_path / "slow")], check=True)
    server = serve(tmp_path / "slow", "--trust", "code", "--workers", "2")
    with pytest.raises((OSError, EOFError)):
        server.json(body={"inputs": [-1.0]}, timeout=10)

    def answers():
        try:
            return server.json(body={"inputs": [0.0]}) == (200, {"predictions": [0.0]})
        except OSError:
            return False

    wait_for(answers, "an answer")
    wait_for(lambda: any("worker" in line and "exit code 9" in line for line in server.errors), "the warning")


def gml(*args, **kwargs):
    return subprocess.run(
        [sys.executable, "-m", "gml", "models", *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
        **kwargs,
    )


def test_what_cannot_be_served_is_one_line(linear, tmp_path):
    done = gml("serve", "-m", tmp_path / "none")
    assert (done.returncode, done.stderr.count("\n")) == (4, 1)
    done = gml("serve", "-m", linear, "--expect-digest", "0" * 64, "-p", "0")
    assert done.returncode == 9
    assert "not 000" in done.stderr


@pytest.mark.parametrize(("source", "target"), [("csv", "csv"), ("parquet", "parquet"), ("csv", "json")])
def test_a_file_is_predicted_in_parts(scorer, tmp_path, table, source, target):
    many = pd.concat([table] * 250, ignore_index=True)
    given, out = tmp_path / f"in.{source}", tmp_path / f"out.{target}"
    many.to_parquet(given) if source == "parquet" else many.to_csv(given, index=False)
    told = []
    options = BatchOptions(rows=300, progress=lambda done, total: told.append((done, total)))
    assert predict_file(scorer.model, str(given), str(out), options) == 1000
    assert [done for done, _ in told] == [300, 600, 900, 1000]
    if target == "json":
        found = json.loads(out.read_text())
    else:
        frame = pd.read_parquet(out) if target == "parquet" else pd.read_csv(out)
        found = frame["prediction"].tolist()
    assert found == [0, 0, 1, 1] * 250


def test_rows_that_do_not_fit_leave_no_file(scorer, tmp_path):
    (tmp_path / "bad.csv").write_text("age\n1\n")
    with pytest.raises(InvalidValueError, match=r"rows 1 to 1: Model is missing inputs \['calls'\]"):
        predict_file(scorer.model, str(tmp_path / "bad.csv"), str(tmp_path / "no.csv"), BatchOptions())
    with pytest.raises(NotFoundError):
        predict_file(scorer.model, str(tmp_path / "none.csv"), str(tmp_path / "no.csv"), BatchOptions())
    with pytest.raises(UsageError, match="no known format"):
        predict_file(scorer.model, str(tmp_path / "bad.xls"), str(tmp_path / "no.csv"), BatchOptions())
    assert [path.name for path in tmp_path.iterdir()] == ["bad.csv"]


def test_a_request_in_a_file_is_predicted(scorer, tmp_path, capsys):
    (tmp_path / "in.json").write_text(json.dumps(BODY))
    predict_file(scorer.model, str(tmp_path / "in.json"), None, BatchOptions())
    assert json.loads(capsys.readouterr().out) == {"predictions": [0]}
    (tmp_path / "in.json").write_text("{}")
    with pytest.raises(InvalidValueError, match="exactly one of"):
        predict_file(scorer.model, str(tmp_path / "in.json"), None, BatchOptions())


@pytest.mark.heavy
def test_validate_says_what_it_took(linear):
    report = validate_model(ModelFiles.of_folder(linear), code=False, new_environment=False)
    assert report["example"] == "predicted"
    assert report["outputs"] == "as the signature says"
    assert report["predict_ms"] > 0
    assert report["memory_mb"] > 0


def test_a_context_for_a_container(linear, tmp_path):
    context = tmp_path / "context"
    found = resolve(linear)
    write_context(found, context, base=None, code=False)
    dockerfile = (context / "Dockerfile").read_text()
    assert "USER 10001" in dockerfile
    assert "HEALTHCHECK" in dockerfile
    facts = describe(found)
    assert f"sha256:{facts['digest']}" in dockerfile
    assert facts["digest"] in (context / "serve").read_text()
    assert facts["format_class"] == "data"
    lines = (context / "requirements.txt").read_text().split()
    assert any(line.startswith("scikit-learn==") for line in lines)
    assert any(line.startswith("gitml[serving]==") for line in lines)
    assert describe(resolve(context / "model"))["digest"] == facts["digest"]
    with pytest.raises(ConflictError):
        write_context(found, context, base=None, code=False)
