"""MLflow's registry API: its life cycle of models on the registry of the repository."""

from __future__ import annotations

import subprocess

import pytest

from gml.registry.branch import Registry
from gml.registry.verify import verify
from gml.workspace import Workspace


def error(answer):
    return answer.status, answer.json["error_code"], answer.json["message"]


def logged_model(client, name="model"):
    """Make a logged model with one file, as clients of MLflow 3 do before they register it."""
    run_id = client.run()
    model = client.ok("logged-models", experiment_id="0", name=name, source_run_id=run_id)["model"]["info"]
    path = f"/api/2.0/mlflow-artifacts/artifacts/0/models/{model['model_id']}/artifacts/MLmodel"
    assert client.send("PUT", path, b"flavors: {}\n").status == 200
    client.post(f"logged-models/{model['model_id']}", {"model_id": model["model_id"], "status": 2}, "PATCH")
    return run_id, model["model_id"]


def register(client, name="churn"):
    run_id, model_id = logged_model(client)
    source = f"models:/{model_id}"
    made = client.ok("model-versions/create", name=name, source=source, model_id=model_id)["model_version"]
    return made, run_id, model_id


def stages(client, name="churn"):
    found = client.get("model-versions/search", filter=f"name='{name}'").json.get("model_versions", [])
    return {v["version"]: v["current_stage"] for v in found}


@pytest.fixture
def churn(client):
    client.ok("registered-models/create", name="churn", description="d", tags=[{"key": "a", "value": "b"}])
    return client


def test_a_model_is_what_was_said_about_it(churn):
    model = churn.get("registered-models/get", name="churn").json["registered_model"]
    assert (model["name"], model["description"], model["tags"]) == (
        "churn",
        "d",
        [{"key": "a", "value": "b"}],
    )
    assert "latest_versions" not in model
    churn.post("registered-models/update", {"name": "churn", "description": "new"}, "PATCH")
    churn.ok("registered-models/set-tag", name="churn", key="c", value="")
    churn.ok("registered-models/set-tag", name="churn", key="c", value="")
    churn.post("registered-models/delete-tag", {"name": "churn", "key": "a"}, "DELETE")
    assert churn.post("registered-models/delete-tag", {"name": "churn", "key": "zz"}, "DELETE").status == 200
    model = churn.get("registered-models/get", name="churn").json["registered_model"]
    assert (model["description"], model["tags"]) == ("new", [{"key": "c", "value": ""}])


def test_a_version_is_a_logged_model_with_its_run(churn):
    made, run_id, model_id = register(churn)
    assert (made["version"], made["run_id"], made["model_id"]) == ("1", run_id, model_id)
    assert (made["source"], made["current_stage"], made["status"]) == (f"models:/{model_id}", "None", "READY")
    uri = churn.get("model-versions/get-download-uri", name="churn", version="1").json["artifact_uri"]
    assert uri == f"mlflow-artifacts:/0/models/{model_id}/artifacts"
    assert churn.get("model-versions/get", name="churn", version="1").json["model_version"] == made
    file = churn.get("/model-versions/get-artifact", name="churn", version="1", path="MLmodel")
    assert (file.status, file.body) == (200, b"flavors: {}\n")
    for path, status in (("none", 404), ("../MLmodel", 400), ("%2e%2e/MLmodel", 400)):
        assert (
            churn.get("/model-versions/get-artifact", name="churn", version="1", path=path).status == status
        )
    assert churn.get("/model-versions/get-artifact", name="churn", version="9", path="MLmodel").status == 404


def test_files_of_a_run_that_goes_on_are_registered_as_they_are(churn, repo):
    run_id = churn.run()
    path = f"/api/2.0/mlflow-artifacts/artifacts/0/{run_id}/artifacts/model/MLmodel"
    churn.send("PUT", path, b"one\n")
    source = f"mlflow-artifacts:/0/{run_id}/artifacts/model"
    made = churn.ok("model-versions/create", name="churn", source=source, run_id=run_id)["model_version"]
    churn.send("PUT", path, b"two\n")
    churn.ok("runs/update", run_id=run_id, status="FINISHED", end_time=5)
    assert made["run_id"] == run_id
    uri = churn.get("model-versions/get-download-uri", name="churn", version="1").json["artifact_uri"]
    place = uri.removeprefix("mlflow-artifacts:/")
    assert churn.send("GET", f"/api/2.0/mlflow-artifacts/artifacts/{place}/MLmodel").body == b"one\n"
    again = churn.ok("model-versions/create", name="churn", source=source, run_id=run_id)["model_version"]
    assert again["source"] == source
    verify(Registry(Workspace.open(repo.path)), full=True)


def test_stages_move_as_in_mlflow(churn):
    for _ in range(3):
        register(churn)
    move = {"name": "churn", "archive_existing_versions": False}
    for version, stage in (("1", "staging"), ("1", "PRODUCTION"), ("2", "Staging")):
        answer = churn.ok("model-versions/transition-stage", **move | {"version": version, "stage": stage})
        assert answer["model_version"]["current_stage"] == stage.title()
    assert stages(churn) == {"3": "None", "2": "Staging", "1": "Production"}
    churn.ok(
        "model-versions/transition-stage", name="churn", version="3", stage="Production",
        archive_existing_versions=True,
    )  # fmt: skip
    assert stages(churn) == {"3": "Production", "2": "Staging", "1": "Archived"}
    churn.ok("model-versions/transition-stage", **move | {"version": "3", "stage": "None"})
    churn.ok("model-versions/transition-stage", **move | {"version": "1", "stage": "None"})
    assert stages(churn) == {"3": "None", "2": "Staging", "1": "None"}
    newest = churn.ok("registered-models/get-latest-versions", name="churn")["model_versions"]
    assert [(v["version"], v["current_stage"]) for v in newest] == [("3", "None"), ("2", "Staging")]
    only = churn.ok("registered-models/get-latest-versions", name="churn", stages=["staging"])
    assert [v["version"] for v in only["model_versions"]] == ["2"]


def test_aliases_point_at_one_version(churn):
    register(churn)
    register(churn)
    for version in ("1", "2", "2"):
        churn.ok("registered-models/alias", name="churn", alias="champion", version=version)
    found = churn.get("registered-models/alias", name="churn", alias="champion").json["model_version"]
    assert (found["version"], found["aliases"]) == ("2", ["champion"])
    assert (
        churn.get("registered-models/alias", name="churn", alias="latest").json["model_version"]["version"]
        == "2"
    )
    for _ in range(2):
        assert (
            churn.post("registered-models/alias", {"name": "churn", "alias": "champion"}, "DELETE").status
            == 200
        )
    assert error(churn.get("registered-models/alias", name="churn", alias="champion")) == (
        400, "INVALID_PARAMETER_VALUE", "Registered model alias champion not found.",
    )  # fmt: skip


def test_what_is_deleted_is_gone_and_its_number_is_not_used_again(churn, repo):
    register(churn)
    register(churn)
    churn.ok("registered-models/alias", name="churn", alias="champion", version="2")
    churn.ok("model-versions/transition-stage", name="churn", version="2", stage="Production")
    assert churn.post("model-versions/delete", {"name": "churn", "version": "2"}, "DELETE").status == 200
    assert list(stages(churn)) == ["1"]
    assert churn.get("model-versions/get", name="churn", version="2").status == 404
    assert register(churn)[0]["version"] == "3"
    assert churn.post("registered-models/delete", {"name": "churn"}, "DELETE").status == 200
    assert churn.get("registered-models/search").json == {}
    assert churn.get("registered-models/get", name="churn").status == 404
    churn.ok("registered-models/create", name="churn")
    assert register(churn)[0]["version"] == "4"
    assert Registry(Workspace.open(repo.path)).view().numbers("churn") == [1, 2, 3, 4]


def test_a_renamed_model_is_shown_with_its_new_name(churn):
    register(churn)
    churn.ok("registered-models/rename", name="churn", new_name="retention")
    assert (
        churn.get("registered-models/get", name="retention").json["registered_model"]["name"] == "retention"
    )
    found = churn.get("registered-models/search").json["registered_models"]
    assert [model["name"] for model in found] == ["retention"]
    assert stages(churn, "retention") == {"1": "None"}


def test_search_filters_orders_and_pages(churn):
    for name in ("alpha", "beta"):
        churn.ok("registered-models/create", name=name, tags=[{"key": "team", "value": name[0]}])
    made, run_id, _ = register(churn)
    register(churn)

    def names(**query):
        return [
            m["name"]
            for m in churn.get("registered-models/search", **query).json.get("registered_models", [])
        ]

    assert names() == ["alpha", "beta", "churn"]
    assert names(order_by="name DESC") == ["churn", "beta", "alpha"]
    assert names(filter="name LIKE '%a' AND tags.team != 'a'") == ["beta"]
    assert names(filter="tags.`mlflow.prompt.is_prompt` != 'true'") == ["alpha", "beta", "churn"]
    page = churn.get("registered-models/search", max_results=2).json
    assert names(max_results=2, page_token=page["next_page_token"]) == ["churn"]

    def versions(text, **query):
        found = churn.get("model-versions/search", filter=text, **query).json.get("model_versions", [])
        return [v["version"] for v in found]

    assert versions("name = 'churn'") == ["2", "1"]
    assert versions(f"run_id = '{run_id}'") == ["1"]
    assert versions("version_number > 1") == ["2"]
    assert versions(f"source_path = '{made['source']}'") == ["1"]
    assert versions("name = 'churn'", order_by="version_number ASC") == ["1", "2"]


@pytest.mark.parametrize(
    ("method", "path", "values", "status", "words"),
    [
        ("POST", "registered-models/create", {}, 400, "Missing value for required parameter 'name'"),
        ("POST", "registered-models/create", {"name": 3}, 400, "Invalid value 3 for parameter 'name'"),
        ("POST", "registered-models/create", {"name": "churn"}, 400, "already exists"),
        ("POST", "registered-models/create", {"name": "a/b"}, 400, "Names cannot contain"),
        ("POST", "registered-models/create", {"name": "..x"}, 400, "Invalid model name"),
        ("GET", "registered-models/get", {"name": "nope"}, 404, "name=nope not found"),
        ("GET", "registered-models/search", {"filter": "nope = 'x'"}, 400, "Invalid attribute key"),
        ("GET", "registered-models/search", {"max_results": 1001}, 400, "at most 1000"),
        ("GET", "registered-models/search", {"page_token": "?"}, 400, "Invalid page token"),
        ("GET", "model-versions/get", {"name": "churn", "version": "x"}, 400, "must be an integer"),
        ("GET", "model-versions/get", {"name": "churn", "version": "9"}, 404, "version=9) not found"),
        ("POST", "model-versions/create", {"name": "nope", "source": "s3://a/b"}, 404, "not found"),
        ("POST", "model-versions/create", {"name": "churn", "source": "/etc"}, 400, "Invalid model version source"),
        ("POST", "model-versions/create", {"name": "churn", "source": "s3://a/%252e%252e/b"}, 400, "Invalid model"),
        ("POST", "model-versions/create", {"name": "churn", "source": "runs:/nope/m"}, 404, "not found"),
        ("POST", "model-versions/create", {"name": "churn", "source": "file:///etc/passwd"}, 400, "Invalid model"),
        ("POST", "model-versions/transition-stage", {"name": "churn", "version": "1", "stage": "Best"}, 400, "Invalid Mo"),
        ("POST", "registered-models/alias", {"name": "churn", "alias": "v1", "version": "1"}, 400, "is reserved"),
        ("DELETE", "model-versions/delete", {"name": "churn", "version": "1"}, 404, "not found"),
    ],
)  # fmt: skip
def test_bad_input_is_answered_as_mlflow_answers_it(churn, method, path, values, status, words):
    answer = churn.get(path, **values) if method == "GET" else churn.post(path, values, method)
    assert answer.status == status, answer.body
    assert words in answer.json["message"]


def test_a_source_elsewhere_is_a_fact_that_nobody_verified(churn, repo):
    made = churn.ok("model-versions/create", name="churn", source="s3://bucket/model", run_link="http://x")[
        "model_version"
    ]
    assert made["run_link"] == "http://x"
    assert made["source"] == "s3://bucket/model"
    version = Registry(Workspace.open(repo.path)).view().version("churn", 1)
    assert (version.run, version.imported["source"]) == (None, "s3://bucket/model")


def test_a_protected_stage_answers_with_the_proposal(serve, repo, tmp_path, gml):
    key = tmp_path / "key"
    for name in ("key", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    repo.git("config", "gml.signingKey", str(key))
    repo.git("config", "user.name", "Ada")
    repo.git("config", "user.email", "ada@example.org")
    client = serve(repo).client
    client.ok("registered-models/create", name="churn")
    register(client)
    gml(
        "registry", "protect", "Production", "--approvers", "ada,bob", "--threshold", "1",
        "--person", f"ada={key}.pub", "--person", f"bob={tmp_path / 'other'}.pub",
    )  # fmt: skip
    register(client)
    values = {"name": "churn", "version": "2", "stage": "Production"}
    status, code, text = error(client.post("model-versions/transition-stage", values))
    assert (status, code) == (403, "PERMISSION_DENIED")
    assert "was proposed as" in text
    assert stages(client) == {"2": "None", "1": "None"}
    assert [p.split("-")[0] for p in Registry(Workspace.open(repo.path)).proposal_names()] == ["churn"]
    assert client.post("model-versions/transition-stage", values).status in {400, 403}
    rejected = client.post("model-versions/transition-stage", values | {"stage": "Staging"})
    assert (rejected.status, rejected.json["error_code"]) == (403, "PERMISSION_DENIED")
