"""`gml import mlflow http://...` and `gml export mlflow --to http://...`, against a server that speaks MLflow's API."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from gml.compat.export_rest import RestWriter
from gml.compat.rest import Rest
from gml.compat.sources import import_mlflow, open_mlflow
from gml.domain.errors import CorruptError, NotFoundError, RemoteError
from gml.index.as_mlflow import mlflow_tags
from gml.registry.branch import Registry
from gml.tracking.contents import open_artifact
from gml.tracking.reader import Reader
from gml.workspace import Workspace

FIRST = "634a9d9cd3f7403eaccd6b29b2b5c90a"
KID = "29bd0197f35f413085e8df9125809735"
TOKEN = {"MLFLOW_TRACKING_TOKEN": "boss"}


@pytest.fixture
def filled(repo, tmp_path):
    """Return a repository with what a database of MLflow had."""
    path = tmp_path / "mlflow.db"
    with sqlite3.connect(path) as db:
        db.executescript((Path(__file__).parents[1] / "compat/mlflow_3_17.sql").read_text())
    db.close()
    notes = tmp_path / "mlruns/1" / FIRST / "artifacts/notes"
    notes.mkdir(parents=True)
    (notes / "a b.txt").write_text("hi")
    (notes / "large.bin").write_bytes(b"x" * 300_000)
    import_mlflow(Workspace.open(repo.path), open_mlflow(str(path), {}))
    shutil.rmtree(tmp_path / "mlruns")
    return repo


def url(running):
    return f"http://127.0.0.1:{running.client.port}"


def state(reader, run_id):
    run = reader.run(run_id)
    files = {}
    for name in run.artifacts:
        with open_artifact(reader, run, name) as file:
            files[name] = file.read()
    history = {key: [c.tolist() for c in reader.history(run, key)] for key in run.metrics}
    return (
        run.name, run.user, run.status, run.start_time, run.end_time, run.lifecycle_stage, dict(run.params),
        str(history), run.inputs, files,
    )  # fmt: skip


def test_a_whole_server_comes_in(filled, serve, make_repo):
    running = serve(filled)
    there = Workspace.open(make_repo("there").path)
    report = import_mlflow(there, open_mlflow(url(running), TOKEN))
    assert report.lost == []
    ours, theirs = Reader(Workspace.open(filled.path)), Reader(there)
    ids = {run.run_id for run in ours.runs(deleted=True)}
    assert {run.run_id for run in theirs.runs(deleted=True)} == ids
    for run_id in ids:
        assert state(theirs, run_id) == state(ours, run_id)
        assert mlflow_tags(theirs.run(run_id)) == mlflow_tags(ours.run(run_id))
    assert theirs.run(FIRST).outputs == ours.run(FIRST).outputs
    one, two = Registry(Workspace.open(filled.path)).view(), Registry(there).view()
    assert [v.digest for v in two.versions("churn")] == [v.digest for v in one.versions("churn")]
    assert two.stage("churn", "Production").version == 1
    assert two.model("churn").aliases == {"champion": 2}
    again = import_mlflow(there, open_mlflow(url(running), TOKEN))
    assert (again.counts.new, again.counts.changed, again.commits) == (0, 0, 0)


def test_runs_go_to_a_server_once(filled, serve, make_repo):
    target = make_repo("target")
    running = serve(target)
    reader = Reader(Workspace.open(filled.path))
    for count in (4, 0):
        sent = RestWriter(reader, Rest(url(running), TOKEN))
        sent.write(reader.runs(deleted=True))
        assert sent.done.runs == count
    running.app.stores[""].live.commit()
    there = Reader(Workspace.open(target.path))
    arrived = {run.tags["gml.run_id"]: run for run in there.runs(deleted=True)}
    assert state(there, arrived[FIRST].run_id) == state(reader, FIRST)
    assert arrived[KID].parent_run_id == arrived[FIRST].run_id
    assert {run.lifecycle_stage for run in arrived.values()} == {"active", "deleted"}
    assert any("logged models" in line for line in sent.done.losses.lines())


def test_a_run_whose_sending_was_cut_is_sent_anew(filled, serve, make_repo, monkeypatch):
    running = serve(make_repo("target"))
    reader = Reader(Workspace.open(filled.path))
    with monkeypatch.context() as patch:
        patch.setattr(RestWriter, "_inputs", lambda *_: (_ for _ in ()).throw(RemoteError("cut")))
        with pytest.raises(RemoteError):
            RestWriter(reader, Rest(url(running), TOKEN)).write([reader.run(FIRST)])
    sent = RestWriter(reader, Rest(url(running), TOKEN))
    sent.write([reader.run(FIRST)])
    found = running.client.ok(
        "runs/search", experiment_ids=[sent._experiment(reader.run(FIRST).experiment_id)]
    )
    assert [run["info"]["status"] for run in found["runs"]] == ["FINISHED"]


def test_what_a_server_refuses_is_said_in_one_line(serve, repo, gml):
    running = serve(repo)
    with pytest.raises(RemoteError, match="does not let us in"):
        Rest(url(running), {}).get("experiments/search", max_results=1)
    rest = Rest(url(running), TOKEN)
    with pytest.raises(NotFoundError, match="has no /api/2"):
        rest.get("runs/get", run_id="0" * 32)
    with pytest.raises(CorruptError, match="answers 400"):
        rest.get("runs/get")
    done = gml("import", "mlflow", url(running), code=12)
    assert done.err.startswith(f"gml: {url(running)} does not let us in (401); set MLFLOW_TRACKING_TOKEN")


def test_a_server_that_is_away_is_said(monkeypatch):
    from gml.compat import rest as module

    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    with pytest.raises(RemoteError, match="cannot be reached"):
        Rest("http://127.0.0.1:9", {}).get("experiments/search")
