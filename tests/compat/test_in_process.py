"""MLflow's endpoints asked without a server, as the plug-in does."""

from __future__ import annotations

from pathlib import Path

import pytest

from gml.compat.in_process import artifact_root, forget, local, repository_of
from gml.domain.errors import RepositoryError, UsageError
from gml.service.errors import NOT_IMPLEMENTED, ServiceError


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("gml:///srv/repo", "/srv/repo"),
        ("gml:/srv/repo", "/srv/repo"),
        ("gml+file:///srv/my%20repo", "/srv/my repo"),
        ("gml://localhost/srv/repo", "/srv/repo"),
        ("gml:///srv/repo/-/0/ab12/artifacts/model", "/srv/repo"),
    ],
)
def test_a_uri_names_a_repository(uri, path):
    assert repository_of(uri) == Path(path)


def test_a_relative_uri_is_below_the_current_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert repository_of("gml:") == repository_of("gml:.").resolve() == tmp_path
    assert repository_of("gml:sub") == tmp_path / "sub"


@pytest.mark.parametrize("uri", ["gml://host/repo", "file:///repo", "sqlite:///x", ""])
def test_what_names_no_repository_is_refused(uri):
    with pytest.raises(UsageError, match="names no repository"):
        repository_of(uri)


def test_runs_and_their_files_without_a_server(repo):
    found = local(repo.path)
    try:
        assert local(repo.path) is found
        call = "/api/2.0/mlflow/"
        run = found.call("POST", f"{call}runs/create", {"experiment_id": "0", "start_time": 5})["run"]
        run_id = run["info"]["run_id"]
        assert run["info"]["artifact_uri"] == f"{artifact_root(repo.path)}/0/{run_id}/artifacts"
        found.call(
            "POST", f"{call}runs/log-metric", {"run_id": run_id, "key": "m", "value": 1.5, "timestamp": 1}
        )
        found.call("POST", f"{call}runs/update", {"run_id": run_id, "status": "FINISHED", "end_time": 9})
        again = found.call("GET", f"{call}runs/get", {"run_id": run_id})["run"]
        assert again["data"]["metrics"] == [{"key": "m", "value": 1.5, "timestamp": 1, "step": 0}]
        with pytest.raises(ServiceError, match="does not have POST /api/3") as caught:
            found.call("POST", "/api/3.0/mlflow/traces", {})
        assert caught.value.code == NOT_IMPLEMENTED
    finally:
        forget(repo.path)


def test_no_repository_is_said(tmp_path):
    with pytest.raises(RepositoryError):
        local(tmp_path)
