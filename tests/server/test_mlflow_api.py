"""MLflow's REST API as its clients use it, and with everything that it must not take."""

from __future__ import annotations

import json
import math

import pytest

from gml.tracking.reader import Reader


def error(answer) -> tuple[int, str, str]:
    return answer.status, answer.json["error_code"], answer.json["message"]


def test_a_run_from_beginning_to_end(client, repo):
    experiment = client.ok("experiments/create", name="churn", tags=[{"key": "team", "value": "risk"}])
    wanted = experiment["experiment_id"]
    run_id = client.run(experiment_id=wanted, start_time=1000, run_name="first", user_id="ada")
    client.ok("runs/log-parameter", run_id=run_id, key="lr", value="0.1")
    client.ok("runs/log-metric", run_id=run_id, key="loss", value=0.5, timestamp=1, step=1)
    client.ok(
        "runs/log-batch", run_id=run_id,
        metrics=[{"key": "loss", "value": "NaN", "timestamp": 2, "step": 2}, {"key": "acc", "value": 1, "timestamp": 2}],
        params=[{"key": "depth", "value": "3"}], tags=[{"key": "kind", "value": "forest"}],
    )  # fmt: skip
    client.ok("runs/set-tag", run_id=run_id, key="mlflow.runName", value="renamed")
    live = client.get("runs/get", run_id=run_id).json["run"]
    assert live["info"]["status"] == "RUNNING"
    info = client.ok("runs/update", run_id=run_id, status="FINISHED", end_time=5000)["run_info"]
    assert (info["status"], info["end_time"], info["run_name"]) == ("FINISHED", 5000, "renamed")
    # What was answered is in the ledger, for every other reader.
    kept = Reader(repo.workspace()).run(run_id)
    assert (kept.status, kept.end_time, kept.params) == ("FINISHED", 5000, {"lr": "0.1", "depth": "3"})
    assert not list(repo.workspace().journal_root.glob("[!.]*"))
    run = client.get("runs/get", run_id=run_id).json["run"]
    assert run["info"]["artifact_uri"] == f"mlflow-artifacts:/{wanted}/{run_id}/artifacts"
    metrics = {m["key"]: (m["value"], m["step"]) for m in run["data"]["metrics"]}
    assert metrics == {"loss": ("NaN", 2), "acc": (1.0, 0)}
    found = client.get("metrics/get-history", run_id=run_id, metric_key="loss").json["metrics"]
    assert [m["value"] for m in found] == [0.5, "NaN"]
    page = client.get("metrics/get-history", run_id=run_id, metric_key="loss", max_results=1).json
    rest = client.get(
        "metrics/get-history",
        run_id=run_id,
        metric_key="loss",
        max_results=1,
        page_token=page["next_page_token"],
    ).json
    assert [m["step"] for m in page["metrics"] + rest["metrics"]] == [1, 2]
    assert "next_page_token" not in rest


def test_a_run_that_nobody_ends_survives_the_server(serve, repo):
    first = serve(repo)
    run_id = first.client.run(start_time=1)
    first.client.ok("runs/log-metric", run_id=run_id, key="loss", value=0.5, timestamp=1, step=0)
    first.stop()
    assert Reader(repo.workspace()).run(run_id).status == "RUNNING"
    second = serve(repo).client
    assert second.get("runs/get", run_id=run_id).json["run"]["info"]["status"] == "RUNNING"
    second.ok("runs/log-metric", run_id=run_id, key="loss", value=0.25, timestamp=2, step=1)
    second.ok("runs/update", run_id=run_id, status="FAILED")
    found = second.get("metrics/get-history", run_id=run_id, metric_key="loss").json["metrics"]
    assert [m["value"] for m in found] == [0.5, 0.25]
    assert Reader(repo.workspace()).run(run_id).status == "FAILED"


def test_params_are_write_once_and_batches_all_or_nothing(client):
    run_id = client.run()
    client.ok("runs/log-parameter", run_id=run_id, key="a", value="1")
    client.ok("runs/log-parameter", run_id=run_id, key="a", value="1")
    status, code, text = error(
        client.post("runs/log-parameter", {"run_id": run_id, "key": "a", "value": "2"})
    )
    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
    assert text == (
        "Changing param values is not allowed. Param with key='a' was already logged with value='1' "
        f"for run ID='{run_id}'. Attempted logging new value '2'."
    )
    batch = {
        "run_id": run_id,
        "params": [{"key": "b", "value": "x"}, {"key": "a", "value": "2"}],
        "metrics": [{"key": "m", "value": 1, "timestamp": 1}],
        "tags": [{"key": "t", "value": "x"}],
    }
    assert client.post("runs/log-batch", batch).status == 400
    data = client.get("runs/get", run_id=run_id).json["run"]["data"]
    assert [p["key"] for p in data["params"]] == ["a"]
    assert "metrics" not in data
    assert [t["key"] for t in data["tags"]] == ["mlflow.runName"]


def test_deleted_runs_and_experiments(client):
    wanted = client.ok("experiments/create", name="old")["experiment_id"]
    run_id, other = (
        client.run(experiment_id=wanted, start_time=1),
        client.run(experiment_id=wanted, start_time=2),
    )
    client.ok("runs/update", run_id=other, status="FINISHED")
    client.ok("experiments/delete", experiment_id=wanted)
    assert client.post("runs/search", {"experiment_ids": [wanted]}).json == {}
    assert error(client.post("runs/create", {"experiment_id": wanted}))[2] == (
        f"The experiment {wanted} must be in the 'active' state. Current state is deleted."
    )
    text = error(client.post("runs/set-tag", {"run_id": run_id, "key": "a", "value": "b"}))[2]
    assert text == f"The run {run_id} must be in the 'active' state. Current state is deleted."
    assert error(client.post("experiments/delete", {"experiment_id": wanted}))[:2] == (
        404,
        "RESOURCE_DOES_NOT_EXIST",
    )
    assert error(client.post("experiments/create", {"name": "old"}))[1] == "RESOURCE_ALREADY_EXISTS"
    client.ok("experiments/restore", experiment_id=wanted)
    runs = client.post("runs/search", {"experiment_ids": [wanted]}).json["runs"]
    assert [run["info"]["run_id"] for run in runs] == [other, run_id]
    client.ok("runs/log-metric", run_id=run_id, key="m", value=1, timestamp=1)


def test_search_pages_through_live_and_finished_runs(client):
    ids = [client.run(start_time=i, tags=[{"key": "n", "value": str(i)}]) for i in range(7)]
    for i, run_id in enumerate(ids):
        client.ok("runs/log-metric", run_id=run_id, key="m", value=i % 3, timestamp=1)
        if i % 2:
            client.ok("runs/update", run_id=run_id, status="FINISHED")
    seen, token = [], ""
    while token is not None:
        page = client.ok(
            "runs/search", experiment_ids=["0"], max_results=2, order_by=["metrics.m DESC"], page_token=token
        )
        seen += [ids.index(run["info"]["run_id"]) for run in page["runs"]]
        token = page.get("next_page_token")
    assert seen == [5, 2, 4, 1, 6, 3, 0]
    found = client.ok("runs/search", experiment_ids=["0"], filter="metrics.m = 2 and tags.n != '5'")["runs"]
    assert [ids.index(run["info"]["run_id"]) for run in found] == [2]
    for bad in ("metrics.m >", "a = 1 OR b = 2", "bogus = 'x'", "params.a = 1"):
        assert client.post("runs/search", {"experiment_ids": ["0"], "filter": bad}).status == 400


def test_samples_keep_both_ends(client):
    run_id = client.run()
    points = [{"key": "m", "value": i, "timestamp": i, "step": i} for i in range(1000)]
    client.ok("runs/log-batch", run_id=run_id, metrics=points)
    where = "/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval"
    found = client.get(where, run_ids=[run_id], metric_key="m", max_results=7).json["metrics"]
    assert [m["step"] for m in found] == [0, 143, 286, 429, 572, 715, 999]
    inside = client.get(where, run_ids=[run_id], metric_key="m", start_step=10, end_step=12).json["metrics"]
    assert [m["step"] for m in inside] == [10, 11, 12]
    assert client.get(where, run_ids=[run_id], metric_key="m", start_step=10).status == 400
    bulk = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
    rows = client.get(bulk, run_id=[run_id], metric_key="m", max_results=3).json["metrics"]
    assert [(m["run_id"], m["value"]) for m in rows] == [(run_id, 0.0), (run_id, 1.0), (run_id, 2.0)]
    assert client.get(bulk, metric_key="m").status == 400


def test_inputs_outputs_and_logged_models(client):
    run_id = client.run()
    entry = {"dataset": {"name": "d", "digest": "x", "source_type": "local", "source": "s"},
             "tags": [{"key": "mlflow.data.context", "value": "train"}]}  # fmt: skip
    client.ok("runs/log-inputs", run_id=run_id, datasets=[entry, entry])
    model = client.ok("logged-models", experiment_id="0", name="mod", source_run_id=run_id)["model"]
    model_id = model["info"]["model_id"]
    assert model["info"]["status"] == "LOGGED_MODEL_PENDING"
    client.ok("runs/outputs", run_id=run_id, models=[{"model_id": model_id, "step": 3}])
    client.ok("runs/log-metric", run_id=run_id, key="auc", value=0.9, timestamp=1, model_id=model_id,
              dataset_name="d", dataset_digest="x")  # fmt: skip
    done = client.post(
        f"logged-models/{model_id}", {"model_id": model_id, "status": "LOGGED_MODEL_READY"}, "PATCH"
    )
    assert done.json["model"]["info"]["status"] == "LOGGED_MODEL_READY"
    run = client.get("runs/get", run_id=run_id).json["run"]
    assert run["inputs"]["dataset_inputs"] == [entry]
    assert run["outputs"]["model_outputs"] == [{"model_id": model_id, "step": 3}]
    found = client.ok("logged-models/search", experiment_ids=["0"], filter="metrics.auc > 0.5")["models"]
    assert found[0]["data"]["metrics"][0] | {"run_id": run_id} == {
        "key": "auc", "value": 0.9, "timestamp": 1, "step": 0, "model_id": model_id, "run_id": run_id,
        "dataset_name": "d", "dataset_digest": "x",
    }  # fmt: skip
    # A logged model is no run.
    runs = client.ok("runs/search", experiment_ids=["0"], run_view_type="ALL")["runs"]
    assert [each["info"]["run_id"] for each in runs] == [run_id]
    assert client.send("DELETE", f"/api/2.0/mlflow/logged-models/{model_id}").json == {}
    assert client.get(f"logged-models/{model_id}").status == 404
    assert client.ok("logged-models/search", experiment_ids=["0"]) == {}


@pytest.mark.parametrize(
    ("path", "values", "said"),
    [
        ("runs/log-metric", {}, "Missing value for required parameter 'run_id'."),
        ("runs/log-metric", {"run_id": "r", "key": "k", "timestamp": 1}, "Missing value for required parameter 'value'."),
        ("runs/log-metric", {"run_id": 5}, "Invalid value 5 for parameter 'run_id' supplied:  Hint: Value was of type 'int'."),
        ("runs/log-metric", {"run_id": "r", "key": "k", "value": "x", "timestamp": 1}, "for parameter 'value' supplied"),
        ("runs/log-batch", {"run_id": "r", "metrics": "x"}, "for parameter 'metrics' supplied"),
        ("runs/log-batch", {"run_id": "r", "metrics": [{"key": "a"}]}, "required parameter 'metrics[0].value'"),
        ("runs/log-batch", {"run_id": "bad id"}, "Invalid value \"bad id\" for parameter 'run_id' supplied"),
        ("runs/search", {"max_results": 50001}, "parameter 'max_results'"),
        ("runs/search", {"experiment_ids": ["0"], "page_token": "?"}, "Invalid page token"),
        ("runs/search", {"experimentIds": ["0"], "experiment_ids": ["0"]}, "provide only one of them"),
        ("runs/log-model", {"run_id": "r", "model_json": "{"}, "is not a valid JSON"),
        ("experiments/search", {}, "parameter 'max_results'"),
        ("experiments/create", {"name": "x" * 501}, "'name' exceeds the maximum length of 500 characters"),
        ("experiments/create", {"name": "x", "artifact_location": "runs:/x"}, "cannot be a runs:/ URI"),
        ("runs/create", {"experiment_id": "abc"}, "Experiment ID must be a valid integer"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_as_mlflow_says_it(client, path, values, said):
    status, code, text = error(client.post(path, values))
    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
    assert said in text


def test_bodies_of_every_kind(client):
    where = "/api/2.0/mlflow/runs/create"
    json_type = {"Content_Type": "application/json; charset=utf-8"}
    assert client.send("POST", where, b"", **json_type).status == 200
    assert (
        client.send("POST", where, b"{broken", **json_type).status == 200
    )  # as an empty one, as MLflow does
    assert (
        client.send("POST", where, json.dumps(json.dumps({"run_name": "twice"})), **json_type).json["run"][
            "info"
        ]["run_name"]
        == "twice"
    )
    assert client.send("POST", where, b"[1]", **json_type).status == 400
    assert client.send("POST", where, b"{}", Content_Type="text/plain").status == 400
    assert client.send("POST", where, b"[" * 100_000, **json_type).status == 200
    deep = b'{"run_id": "r", "metrics": [{"key": "\xed\xa0\x80"}]}'
    assert client.send("POST", "/api/2.0/mlflow/runs/log-batch", deep, **json_type).status == 400
    surrogate = b'{"run_name": "\\ud800"}'
    assert client.send("POST", where, surrogate, **json_type).status == 400
    both = client.post("runs/create", {"runName": "camel", "extra": {"a": 1}}).json
    assert both["run"]["info"]["run_name"] == "camel"


def test_a_body_that_is_too_large_is_not_read(client):
    with client.raw() as connection:
        connection.sendall(
            b"POST /api/2.0/mlflow/runs/log-batch HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer boss\r\n"
            b"Content-Type: application/json\r\nContent-Length: 1000000000\r\n\r\n{"
        )
        assert b" 413 " in connection.recv(4096).split(b"\r\n")[0]


def test_limits_of_keys_and_values(client):
    run_id = client.run()
    client.ok("runs/log-parameter", run_id=run_id, key="p", value="x" * 6001)
    client.ok("runs/set-tag", run_id=run_id, key="t", value="y" * 9000)
    data = client.get("runs/get", run_id=run_id).json["run"]["data"]
    assert data["params"] == [{"key": "p", "value": "x" * 6000}]
    assert len(next(t["value"] for t in data["tags"] if t["key"] == "t")) == 8000
    for key in ("../up", "a//b", "/root", "x" * 251, "new\nline", "sym$"):
        for path in ("runs/log-parameter", "runs/set-tag"):
            assert client.post(path, {"run_id": run_id, "key": key, "value": "v"}).status == 400
        metric = {"run_id": run_id, "key": key, "value": 1, "timestamp": 1}
        assert client.post("runs/log-metric", metric).status == 400
    too_many = [{"key": f"k{i}", "value": "v"} for i in range(101)]
    assert (
        "at most 100 params"
        in error(client.post("runs/log-batch", {"run_id": run_id, "params": too_many}))[2]
    )
    client.ok("runs/log-metric", run_id=run_id, key="i", value="Infinity", timestamp=1)
    found = client.get("metrics/get-history", run_id=run_id, metric_key="i").json["metrics"]
    assert found == [{"key": "i", "value": "Infinity", "timestamp": 1, "step": 0}]
    assert math.isinf(float(found[0]["value"]))
