"""Models by name: registered when their run ends, found by version, stage and alias, verified when they load."""

import dataclasses

import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from gml.domain.errors import CorruptError, InvalidValueError, NotFoundError, TrustError
from gml.registry import resolve as registry_resolve
from gml.registry.branch import Registry
from gml.tracking.models import resolve
from gml.tracking.models.register import register_wished


@pytest.fixture(scope="module")
def table():
    return pd.DataFrame({"age": [20.0, 30.0, 50.0, 70.0], "calls": [1, 0, 4, 9]})


@pytest.fixture(scope="module")
def model(table):
    return LogisticRegression().fit(table, [0, 0, 1, 1])


def versions(repo):
    return [one.version for one in Registry(repo.workspace()).view().versions("churn")]


def test_a_model_is_registered_when_its_run_has_ended(api, repo, model, table):
    with api.start_run():
        info = api.sklearn.log_model(model, "model", registered_model_name="churn")
        assert versions(repo) == []
        with pytest.raises(NotFoundError):
            api.load_model("models:/churn/1")
    assert versions(repo) == [1]
    for uri in ("models:/churn/1", "models:/churn/latest", f"models:/churn@sha256:{info.digest[:12]}"):
        assert api.load_model(uri).predict(table).tolist() == [0, 0, 1, 1]
        assert api.load_model(uri).digest == info.digest
    found = resolve.resolve("models:/churn/1", repo.workspace())
    assert (found.label, found.run.run_id, found.path) == ("churn version 1", info.run_id, "model")
    assert register_wished(repo.workspace(), info.run_id) == [], "what is registered is not registered again"
    with api.start_run():
        api.sklearn.log_model(model, "model", registered_model_name="churn")
    assert versions(repo) == [2, 1]


def test_gml_log_registers_what_its_script_asked_for(repo):
    script = repo.file(
        "fit.py",
        "import gml\nfrom sklearn.linear_model import LogisticRegression\n"
        "gml.sklearn.log_model(LogisticRegression().fit([[0.0], [1.0]], [0, 1]), 'm', registered_model_name='churn')\n",
    )
    repo.python(
        "import sys; from gml.cli.main import run; sys.exit(run(['log', '-q', '--', sys.executable, sys.argv[1]]))",
        script,
    )
    assert versions(repo) == [1]


def test_a_name_that_is_none_is_said_at_once(api, repo, model):
    with api.start_run():
        with pytest.raises(InvalidValueError, match="model name"):
            api.sklearn.log_model(model, "model", registered_model_name="a/b")
        assert api.get_run(api.active_run().run_id) is not None


def test_trouble_with_the_registry_does_not_stop_training(api, repo, model, caplog):
    repo.git("checkout", "-q", "-b", "gml/registry")
    with api.start_run() as run:
        api.sklearn.log_model(model, "model", registered_model_name="churn")
    assert api.get_run(run.run_id).info.status == "FINISHED"
    assert f"gml registry register churn --run {run.run_id} --path model" in caplog.text


def test_code_loads_only_where_a_policy_approved_it(api, repo, monkeypatch):
    with api.start_run():
        api.pyfunc.log_model("model", python_model=lambda model_input: 7, registered_model_name="churn")
    with pytest.raises(TrustError):
        api.load_model("models:/churn/1")
    real = registry_resolve.resolve

    def approved(*args):
        return dataclasses.replace(real(*args), approved=("Production",))

    monkeypatch.setattr(registry_resolve, "resolve", approved)
    assert api.load_model("models:/churn/1").predict(1) == 7


def test_files_that_were_changed_after_registration_are_refused(api, repo, model, tmp_path):
    with api.start_run() as run:
        api.sklearn.log_model(model, "model", registered_model_name="churn")
    (tmp_path / "requirements.txt").write_text("evil\n")
    api.log_artifact(tmp_path / "requirements.txt", "model", run_id=run.run_id)
    with pytest.raises(CorruptError, match="are not those of churn version 1"):
        api.load_model("models:/churn/1")
