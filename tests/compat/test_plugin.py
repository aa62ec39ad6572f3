"""MLflow with `MLFLOW_TRACKING_URI=gml:///path`: a real training script, the registry, and MLflow's own server."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("mlflow")

pytestmark = [pytest.mark.compat, pytest.mark.heavy, pytest.mark.timeout(900)]

TRAIN = """
import os
import mlflow
import numpy as np
from sklearn.ensemble import RandomForestClassifier

mlflow.set_experiment("churn")
mlflow.sklearn.autolog()
rng = np.random.default_rng(0)
x, y = rng.normal(size=(60, 3)), rng.integers(0, 2, 60)
with mlflow.start_run(run_name="forest") as run:
    model = RandomForestClassifier(n_estimators=5, random_state=0).fit(x, y)
    for step in range(5):
        mlflow.log_metric("loss", 1 / (step + 1), step=step)
    mlflow.log_dict({"a": 1}, "notes/a.json")
    with mlflow.start_run(nested=True, run_name="kid"):
        mlflow.log_param("depth", 3)
    info = mlflow.sklearn.log_model(model, name="model", registered_model_name="churn", input_example=x[:2],
                                    serialization_format="cloudpickle")
client = mlflow.MlflowClient()
client.transition_model_version_stage("churn", "1", "Production")
client.set_registered_model_alias("churn", "champion", "1")
for uri in ("models:/churn/Production", "models:/churn@champion", "models:/churn/1", info.model_uri):
    assert (mlflow.pyfunc.load_model(uri).predict(x) == model.predict(x)).all(), uri
found = mlflow.search_runs(experiment_names=["churn"], filter_string="metrics.loss < 0.5 and params.n_estimators = '5'")
assert list(found["run_id"]) == [run.info.run_id]
assert [m.step for m in client.get_metric_history(run.info.run_id, "loss")] == list(range(5))
assert [f.path for f in client.list_artifacts(run.info.run_id, "notes")] == ["notes/a.json"]
assert mlflow.artifacts.load_dict(run.info.artifact_uri + "/notes/a.json") == {"a": 1}
assert mlflow.search_logged_models(experiment_ids=[run.info.experiment_id], output_format="list")
print(run.info.run_id)
"""


def run(repo, *args, **more):
    environ = {
        **repo.env(**more),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    }
    done = subprocess.run(
        [sys.executable, *args],
        cwd=repo.path,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ask(url, values=None):
    data = None if values is None else json.dumps(values).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


@pytest.fixture
def trained(repo):
    """Return a repository in which MLflow trained, and the id of the run."""
    repo.commit("train", **{"train.py": TRAIN})
    out = run(repo, "train.py", MLFLOW_TRACKING_URI=f"gml://{repo.path}")
    return repo, out.split()[-1]


def test_a_training_script_runs_unchanged_and_keeps_its_code(trained):
    repo, run_id = trained
    shown = json.loads(run(repo, "-m", "gml", "show", run_id, "--json"))
    assert shown["status"] == "FINISHED"
    assert shown["source"]["commit"] == repo.git("rev-parse", "HEAD")
    assert shown["source"]["tree"] == repo.git("rev-parse", "HEAD^{tree}")
    assert "n_estimators" in shown["params"]
    assert repo.git("status", "--short") == ""
    assert "churn" in run(repo, "-m", "gml", "registry", "ls")
    run(repo, "-m", "gml", "registry", "verify")


def test_mlflows_server_and_ui_calls_work_on_the_repository(trained):
    repo, run_id = trained
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    child = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"gml://{repo.path}", "--port", str(port),
         "--workers", "1"],
        env=repo.env(MLFLOW_DISABLE_TELEMETRY="true"), cwd=repo.path,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        end = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5)
                break
            except (urllib.error.URLError, OSError):
                assert time.monotonic() < end
                time.sleep(0.2)
        base = f"{url}/ajax-api/2.0/mlflow"
        experiment = ask(f"{base}/experiments/get-by-name?experiment_name=churn")["experiment"][
            "experiment_id"
        ]
        runs = ask(f"{base}/runs/search", {"experiment_ids": [experiment]})["runs"]
        assert run_id in {each["info"]["run_id"] for each in runs}
        assert ask(f"{base}/logged-models/search", {"experiment_ids": [experiment]})["models"]
        assert ask(f"{base}/experiments/search-datasets", {"experiment_ids": [experiment]})[
            "dataset_summaries"
        ]
        assert ask(f"{base}/registered-models/get?name=churn")["registered_model"]["latest_versions"]
        query = f'query Q {{ mlflowGetRun(input: {{runId: "{run_id}"}}) {{ run {{ info {{ runName }} }} }} }}'
        answer = ask(f"{url}/graphql", {"operationName": "Q", "query": query})
        assert answer["data"]["mlflowGetRun"]["run"]["info"]["runName"] == "forest"
        with urllib.request.urlopen(
            f"{url}/get-artifact?path=notes/a.json&run_uuid={run_id}", timeout=60
        ) as file:
            assert json.loads(file.read()) == {"a": 1}
        assert ask(f"{base}/metrics/get-history-bulk-interval?run_ids={run_id}&metric_key=loss")["metrics"]
    finally:
        os.killpg(child.pid, 15)
        child.wait(60)


def test_what_gml_has_no_place_for_is_named(trained):
    repo, _ = trained
    script = """
import mlflow
from mlflow.exceptions import MlflowException
try:
    mlflow.search_traces(experiment_ids=["0"])
except (MlflowException, NotImplementedError) as error:
    print(error)
"""
    assert "gml does not have" in run(repo, "-c", script, MLFLOW_TRACKING_URI=f"gml://{repo.path}")


def test_a_store_of_mlflow_moves_and_its_script_runs_on(repo, tmp_path):
    script = "import mlflow\nmlflow.set_experiment('moved')\nwith mlflow.start_run() as r:\n    mlflow.log_metric('m', 1.5)\n"
    repo.commit("script", **{"go.py": script})
    old = f"sqlite:///{tmp_path}/mlflow.db"
    run(repo, "go.py", MLFLOW_TRACKING_URI=old)
    run(repo, "-m", "gml", "import", "mlflow", old)
    run(repo, "go.py", MLFLOW_TRACKING_URI=f"gml://{repo.path}")
    found = run(
        repo, "-c", "import mlflow; print(len(mlflow.search_runs(experiment_names=['moved'])))",
        MLFLOW_TRACKING_URI=f"gml://{repo.path}",
    )  # fmt: skip
    assert found.split()[-1] == "2"
    assert Path(tmp_path / "mlflow.db").exists()


def test_mlflow_reads_what_gml_exports(trained, tmp_path):
    repo, run_id = trained
    run(repo, "-m", "gml", "export", "mlflow", "-o", str(tmp_path / "mlruns"))
    script = f"""
import mlflow
run = mlflow.get_run("{run_id}")
assert run.data.params["n_estimators"] == "5", run
assert [m.value for m in mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")][0] == 1.0
assert mlflow.artifacts.load_dict(run.info.artifact_uri + "/notes/a.json") == {{"a": 1}}
assert mlflow.MlflowClient().get_model_version_by_alias("churn", "champion").version == 1
print("good")
"""
    more = {"MLFLOW_TRACKING_URI": str(tmp_path / "mlruns"), "MLFLOW_ALLOW_FILE_STORE": "true"}
    assert run(repo, "-c", script, **more).split()[-1] == "good"
