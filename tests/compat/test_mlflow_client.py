"""MLflow itself against `gml server`: its Python client, and its server as the one to be equal to.

Run by `make compat`, which makes an environment that has MLflow.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("mlflow")
sys.path.insert(0, str(Path(__file__).parent))
from differential import Side, compare

pytestmark = [pytest.mark.compat, pytest.mark.heavy, pytest.mark.timeout(900)]
TOKEN = "secret"


@pytest.fixture
def ours(repo):
    """Return the URL of a `gml server`."""
    child = subprocess.Popen(
        [sys.executable, "-m", "gml", "server", "--port", "0"],
        cwd=repo.path,
        env=repo.env(GML_SERVER_TOKEN=TOKEN),
        stderr=subprocess.PIPE,
        text=True,
    )
    port = re.search(r":(\d+)/", child.stderr.readline()).group(1)
    url = f"http://127.0.0.1:{port}"
    _wait(url)
    yield url
    child.terminate()
    child.communicate(timeout=60)


@pytest.fixture
def theirs(tmp_path):
    """Return the URL of an `mlflow server` on SQLite."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    child = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{tmp_path}/a.db",
         "--artifacts-destination", str(tmp_path / "files"), "--port", str(port), "--workers", "1"],
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    _wait(url)
    yield url
    os.killpg(child.pid, 15)
    child.wait(60)


def _wait(url: str) -> None:
    end = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=5).close()
        except OSError:
            assert time.monotonic() < end, url
            time.sleep(0.1)
        else:
            return


def run(script: str, url: str, cwd: Path) -> dict:
    """Run a script of an MLflow user; its last line is what it found."""
    environ = {
        **os.environ,
        "MLFLOW_TRACKING_URI": url,
        "MLFLOW_TRACKING_TOKEN": TOKEN,
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environ,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def documented(method, path, values, gml, mlflow) -> str | None:
    """Return the line of docs/mlflow.md that a difference of two answers belongs to."""
    values = values or {}
    if mlflow[0] == 500 and gml[0] == 400:
        return "calls that make MLflow answer 500"
    if path == "logged-models/search" and "status" in values.get("filter", ""):
        return "filter status of logged models"
    if path == "runs/search" and any(
        each.startswith(("tags.", "params.")) for each in values.get("order_by", ())
    ):
        return "order by params and tags"
    return None


@pytest.mark.parametrize("seed", range(4))
def test_answers_are_those_of_mlflow(ours, theirs, seed, capsys):
    sides = Side(ours, {"Authorization": f"Bearer {TOKEN}"}), Side(theirs)
    found = compare(*sides, seed, 600, documented)
    with capsys.disabled():
        print(f"\nseed {seed}: {found.calls} calls, statuses {found.statuses}, documented {found.allowed}")
    assert found.differences == []
    assert found.statuses[200] > 200
    assert found.statuses[400] > 50


AUTOLOG = """
import json, mlflow
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
mlflow.set_experiment("skl")
X, y = load_iris(return_X_y=True)
mlflow.sklearn.autolog()
with mlflow.start_run() as run:
    GridSearchCV(LogisticRegression(max_iter=300), {"C": [0.1, 1.0]}, cv=2).fit(X, y)
found = mlflow.get_run(run.info.run_id)
model = mlflow.pyfunc.load_model(f"models:/{found.outputs.model_outputs[0].model_id}")
children = mlflow.search_runs(filter_string=f"tags.mlflow.parentRunId = '{run.info.run_id}'")
files = [f.path for f in mlflow.MlflowClient().list_artifacts(run.info.run_id)]
try:
    said = str(mlflow.register_model(f"models:/{model.model_id}", "M").version)
except Exception as error:
    said = str(error)
print(json.dumps({"id": run.info.run_id, "status": found.info.status, "metrics": sorted(found.data.metrics),
                  "children": len(children), "predicted": len(model.predict(X[:5])), "files": files,
                  "datasets": len(found.inputs.dataset_inputs), "said": said}))
"""


def test_autolog_nested_runs_and_logged_models(ours, repo):
    found = run(AUTOLOG, ours, repo.path)
    assert found["status"] == "FINISHED"
    assert "best_cv_score" in found["metrics"]
    assert (found["children"], found["predicted"]) == (2, 5)
    assert "estimator.html" in found["files"]
    assert found["datasets"] >= 1
    assert found["said"] == "1"
    done = subprocess.run(
        [sys.executable, "-m", "gml", "ls", "--json"],
        cwd=repo.path,
        env=repo.env(),
        capture_output=True,
        check=True,
    )
    assert found["id"] in {each["run_id"] for each in json.loads(done.stdout)}


CLIENT = """
import json, mlflow, pathlib
client = mlflow.MlflowClient()
wanted = client.create_experiment("churn", tags={"team": "risk"})
run = client.create_run(wanted, run_name="first")
for step in range(3):
    client.log_metric(run.info.run_id, "loss", 1 / (step + 1), step=step)
client.log_param(run.info.run_id, "lr", 0.1)
client.log_text(run.info.run_id, "hello", "d/e.txt")
try:
    client.log_param(run.info.run_id, "lr", 0.2)
    said = ""
except mlflow.MlflowException as error:
    said = error.error_code
client.set_terminated(run.info.run_id)
back = pathlib.Path(client.download_artifacts(run.info.run_id, "d")).joinpath("e.txt").read_text()
history = [m.value for m in client.get_metric_history(run.info.run_id, "loss")]
client.delete_run(run.info.run_id)
gone = len(client.search_runs([wanted]))
client.restore_run(run.info.run_id)
here = len(client.search_runs([wanted], "metrics.loss < 0.5 and params.lr = '0.1'"))
print(json.dumps({"said": said, "back": back, "history": history, "gone": gone, "here": here,
                  "status": client.get_run(run.info.run_id).info.status}))
"""


def test_the_client(ours, repo):
    found = run(CLIENT, ours, repo.path)
    assert found == {
        "said": "INVALID_PARAMETER_VALUE", "back": "hello", "history": [1.0, 0.5, 1 / 3], "gone": 0, "here": 1,
        "status": "FINISHED",
    }  # fmt: skip
