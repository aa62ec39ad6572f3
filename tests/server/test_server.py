"""The server as a process: killed, stopped, several repositories, gml's own API, trouble beneath it."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from gml.tracking.reader import Reader


@pytest.fixture
def process(repo):
    """Return a function that starts `gml server` and gives its process and port."""
    started = []

    def start(*args: str, **environ: str):
        command = [sys.executable, "-m", "gml", "server", "--port", "0", *args]
        child = subprocess.Popen(
            command, cwd=repo.path, env=repo.env(**environ), stderr=subprocess.PIPE, text=True
        )
        started.append(child)
        line = child.stderr.readline()
        port = int(re.search(r":(\d+)/", line).group(1))
        return child, port

    yield start
    for child in started:
        child.kill()
        child.communicate()


def call(
    port: int, method: str, path: str, values: dict | None = None, token: str = "tok"
) -> tuple[int, bytes]:
    end = time.monotonic() + 20
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            connection.request(method, path, json.dumps(values) if values is not None else None, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except ConnectionRefusedError:
            assert time.monotonic() < end
            time.sleep(0.02)
        finally:
            connection.close()


def test_what_was_acknowledged_survives_a_kill(process, repo):
    child, port = process(GML_SERVER_TOKEN="tok")
    api = "/api/2.0/mlflow/"
    _, body = call(port, "POST", f"{api}runs/create", {"start_time": 5})
    run_id = json.loads(body)["run"]["info"]["run_id"]
    _, body = call(port, "POST", f"{api}runs/create", {"start_time": 6})
    ended = json.loads(body)["run"]["info"]["run_id"]
    for i in range(20):
        metric = {"run_id": run_id, "key": "m", "value": i, "timestamp": i, "step": i}
        assert call(port, "POST", f"{api}runs/log-metric", metric)[0] == 200
    assert (
        call(port, "POST", f"{api}runs/log-parameter", {"run_id": run_id, "key": "p", "value": "v"})[0] == 200
    )
    assert call(port, "POST", f"{api}runs/update", {"run_id": ended, "status": "FINISHED"})[0] == 200
    child.kill()
    child.wait()
    # Whatever command comes next commits it, and leaves the run open.
    done = subprocess.run(
        [sys.executable, "-m", "gml", "ls", "--json"],
        cwd=repo.path,
        env=repo.env(),
        capture_output=True,
        check=True,
    )
    found = {run["run_id"]: run for run in json.loads(done.stdout)}
    assert found[run_id]["status"] == "RUNNING"
    assert found[run_id]["params"] == {"p": "v"}
    assert found[ended]["status"] == "FINISHED"
    assert Reader(repo.workspace()).run(run_id).metrics["m"].count == 20
    _, port = process(GML_SERVER_TOKEN="tok")
    assert call(port, "POST", f"{api}runs/update", {"run_id": run_id, "status": "KILLED"})[0] == 200
    assert Reader(repo.workspace()).run(run_id).status == "KILLED"


def test_sigterm_ends_it_well_and_says_nothing_twice(process, repo):
    child, port = process("--log-json")
    clients = child.stderr.readline()
    token = re.search(r"MLFLOW_TRACKING_TOKEN=(\S+)", clients).group(1)
    assert call(port, "GET", "/version", token=token)[0] == 200
    assert call(port, "GET", "/version", token="other")[0] == 401
    status, body = call(port, "POST", "/api/2.0/mlflow/runs/create", {}, token=token)
    run_id = json.loads(body)["run"]["info"]["run_id"]
    child.send_signal(signal.SIGTERM)
    _, err = child.communicate(timeout=30)
    assert child.returncode in {0, -signal.SIGTERM}
    assert status == 200
    assert not list(repo.workspace().journal_root.glob("[!.]*"))
    assert Reader(repo.workspace()).run(run_id).status == "RUNNING"
    lines = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    assert [line["status"] for line in lines] == [200, 401, 200]
    assert {"method", "route", "ms", "user"} <= lines[0].keys()
    assert token not in err


def test_without_tokens_only_for_this_machine(repo):
    command = [sys.executable, "-m", "gml", "server", "--no-token", "--host", "0.0.0.0", "--port", "0"]
    done = subprocess.run(command, cwd=repo.path, env=repo.env(), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "for this machine only" in done.stderr


def test_several_repositories_by_name(serve, repo, make_repo):
    other = make_repo("other")
    client = serve(repo, team=other).client
    here = client.run(run_name="here")
    answer = client.post("/repos/team/api/2.0/mlflow/runs/create", {"run_name": "there"})
    there = answer.json["run"]["info"]["run_id"]
    assert client.get("runs/get", run_id=there).status == 404
    assert client.get("/repos/team/api/2.0/mlflow/runs/get", run_id=there).status == 200
    client.ok("runs/update", run_id=here, status="FINISHED")
    assert Reader(repo.workspace()).run(here).name == "here"
    assert Reader(repo.workspace()).run(there) is None


def test_behind_a_proxy(serve, repo):
    client = serve(repo, "/ml").client
    assert client.get("/ml/version").status == 200
    assert client.get("/version").status == 200


def test_many_clients_share_one_writer(client, repo):
    lost: list[str] = []

    def work(number: int) -> None:
        run_id = client.run(start_time=number)
        for i in range(10):
            batch = [{"key": f"m{j}", "value": i, "timestamp": i, "step": i} for j in range(5)]
            client.ok("runs/log-batch", run_id=run_id, metrics=batch)
        client.ok("runs/update", run_id=run_id, status="FINISHED")
        kept = Reader(repo.workspace()).run(run_id)
        if kept is None or kept.status != "FINISHED" or kept.metrics["m4"].count != 10:
            lost.append(run_id)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lost == []
    assert len(list(Reader(repo.workspace()).runs())) == 8


def test_other_writers_are_seen_at_once(client, repo):
    run_id = client.run(run_name="shared")
    repo.python("import gml\nwith gml.start_run(run_name='local') as run:\n    gml.log_metric('loss', 0.5)\n")
    found = client.ok("runs/search", experiment_ids=["0"])["runs"]
    assert {run["info"]["run_name"] for run in found} == {"shared", "local"}
    client.ok("runs/update", run_id=run_id, status="FINISHED")
    done = subprocess.run(
        [sys.executable, "-m", "gml", "tag", run_id, "a=b"],
        cwd=repo.path,
        env=repo.env(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    tags = client.get("runs/get", run_id=run_id).json["run"]["data"]["tags"]
    assert {"key": "a", "value": "b"} in tags


# --- gml's own API ----------------------------------------------------------------------------


def test_runs_are_queried_sorted_and_paged(client):
    wanted = client.ok("experiments/create", name="churn")["experiment_id"]
    ids = [client.run(experiment_id=wanted, start_time=i, run_name=f"r{i}") for i in range(5)]
    for i, run_id in enumerate(ids):
        client.ok("runs/log-batch", run_id=run_id, metrics=[{"key": "auc", "value": i / 10, "timestamp": 1}],
                  params=[{"key": "lr", "value": str(i)}])  # fmt: skip
    api = "/api/gml/1"
    page = client.get(
        f"{api}/runs", query="metrics.auc > 0.05", sort="-metrics.auc", limit=2, experiment="churn"
    ).json
    assert [run["name"] for run in page["runs"]] == ["r4", "r3"]
    rest = client.get(
        f"{api}/runs", query="metrics.auc > 0.05", sort="-metrics.auc", limit=2, page=page["next_page"]
    )
    assert [run["name"] for run in rest.json["runs"]] == ["r2", "r1"]
    few = client.get(f"{api}/runs", columns="name,params.lr", limit=1).json["runs"]
    assert few == [{"run_id": ids[4], "name": "r4", "params": {"lr": "4"}}]
    one = client.get(f"{api}/runs/r2").json
    assert (one["run_id"], one["metrics"]["auc"]["last"]) == (ids[2], 0.2)
    points = [{"key": "loss", "value": v, "timestamp": 1, "step": s} for s, v in enumerate([3, 1, "NaN", 2])]
    client.ok("runs/log-batch", run_id=ids[0], metrics=points)
    curve = client.get(f"{api}/runs/r0/metrics/loss", points=2).json
    assert (curve["step"], curve["min"], curve["max"], curve["last"]) == ([0, 2], [1, 2], [3, 2], [1, 2])
    names = {each["name"] for each in client.get(f"{api}/experiments").json["experiments"]}
    assert names == {"Default", "churn"}
    diff = client.get(f"{api}/diff", a=ids[0], b=ids[1], only="params").json
    assert diff["params"]["changed"] == {"lr": ["0", "1"]}
    client.send("PUT", client.file(ids[0], "m/x.txt"), b"file")
    files = client.get(f"{api}/runs/r0/artifacts", path="m").json["files"]
    assert (files[0]["path"], files[0]["size"], len(files[0]["sha256"])) == ("m/x.txt", 4, 64)
    assert client.get(f"{api}/runs/r0/artifacts/m/x.txt").body == b"file"
    for bad in ("runs?query=%28", "runs?limit=0", "runs?stage=x", "runs?columns=x", "runs?sort=bogus", "diff?a=r0",
                "diff?a=r0&b=r1&only=x", "runs?limit=x", "runs?page=x"):  # fmt: skip
        assert client.send("GET", f"{api}/{bad}").status == 400, bad
    for gone in ("runs/none", "runs/r0/metrics/none", "runs?experiment=none", "runs/r0/artifacts/none"):
        assert client.send("GET", f"{api}/{gone}").status == 404, gone


def test_the_api_is_described(client):
    found = client.get("/api/gml/1/openapi.json").json
    assert found["openapi"].startswith("3.")
    for path, methods in found["paths"].items():
        assert path.startswith("/api/gml/1")
        for method in methods.values():
            assert method["summary"]
            assert {"200", "400", "401", "404"} <= method["responses"].keys()


def test_counters_for_prometheus(client):
    client.get("/version")
    client.get("/nothing/made/up")
    text = client.get("/metrics").body.decode()
    assert 'gml_requests_total{method="GET",route="/version",status="200"} 1' in text
    assert "made" not in text
    assert 'gml_open_runs{repository="default"} 0' in text


# --- trouble ----------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_repository_that_became_read_only(client, repo):
    run_id = client.run()
    shutil.copymode(repo.path, repo.path)
    (repo.path / ".git").chmod(0o500)
    try:
        assert client.post("runs/update", {"run_id": run_id, "status": "FINISHED"}).status in {500, 503}
    finally:
        (repo.path / ".git").chmod(0o700)


def test_a_repository_that_was_deleted(serve, repo):
    running = serve(repo)
    client = running.client
    client.run()
    running.app.stores[""].live.close()
    repo.damaged = True
    shutil.rmtree(repo.path)
    for answer in (client.post("runs/search", {"experiment_ids": ["0"]}), client.post("runs/create", {}),
                   client.get("runs/get", run_id="x"), client.post("experiments/create", {"name": "n"})):  # fmt: skip
        assert answer.status >= 400
        assert answer.json["error_code"]
    assert client.get("/health").status == 200


def test_a_repository_of_a_newer_gml(client, repo):
    run_id = client.run()
    client.ok("runs/update", run_id=run_id, status="FINISHED")
    blob = repo.git("hash-object", "-w", "--stdin", data="gml-ledger 99\n")
    listed = repo.git("ls-tree", "refs/gml/ledger").splitlines()
    kept = [line for line in listed if not line.endswith("\tformat")] + [f"100644 blob {blob}\tformat"]
    tree = repo.git("mktree", data="\n".join(kept) + "\n")
    commit = repo.git("commit-tree", tree, "-m", "newer", "-p", "refs/gml/ledger")
    repo.git("update-ref", "refs/gml/ledger", commit)
    answer = client.get("runs/get", run_id=run_id)
    assert answer.status == 500
    assert "gml-ledger 99" in answer.json["message"]
    assert client.post("runs/create", {}).status == 500
