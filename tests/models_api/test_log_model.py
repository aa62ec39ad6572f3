"""Models of runs: logged, found, loaded; what is wrong with them is said in one line."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from gml.domain.errors import CorruptError, InvalidValueError, NotFoundError, TrustError, UsageError
from gml.models.files import manifest_digest


@pytest.fixture(scope="module")
def table():
    return pd.DataFrame({"age": [20.0, 30.0, 50.0, 70.0], "calls": [1, 0, 4, 9]})


@pytest.fixture(scope="module")
def model(table):
    return LogisticRegression().fit(table, [0, 0, 1, 1])


def test_a_logged_model_is_loaded_by_its_uri(api, repo, model, table):
    with api.start_run(run_name="forest") as run:
        info = api.sklearn.log_model(model, name="model", input_example=table[:2], tags={"team": "risk"})
        # While the run goes on, too.
        assert api.load_model(info.model_uri).predict(table).tolist() == [0, 0, 1, 1]
    assert info.model_uri == f"runs:/{run.run_id}/model"
    assert info.format_class == "data"
    for uri in (info.model_uri, "runs:/@/model", "runs:/forest/model"):
        assert api.load_model(uri).predict(table).tolist() == [0, 0, 1, 1]
    native = api.sklearn.load_model("runs:/@/model")
    np.testing.assert_array_equal(native.coef_, model.coef_)
    (output,) = json.loads(repo.git("show", f"refs/gml/ledger:{record_path(repo)}"))["outputs"]
    assert output["digest"] == info.digest
    assert output["type"] == "model"
    assert output["tags"] == {"team": "risk"}
    assert output["flavors"] == ["python_function", "sklearn"]


def record_path(repo):
    names = repo.git("ls-tree", "-r", "--name-only", "refs/gml/ledger", "runs/").splitlines()
    return next(name for name in names if name.endswith(".json") and "/artifacts/" not in name)


def test_the_digest_is_that_of_the_artifacts_in_the_record(api, model):
    with api.start_run():
        info = api.sklearn.log_model(model, "deep/model")
    run = api.get_run(info.run_id)
    from gml.tracking import active
    from gml.tracking.reader import Reader

    stored = Reader(active.workspace()).run(run.info.run_id)
    files = {
        name.removeprefix("deep/model/"): {"sha256": one.sha256, "size": one.size}
        for name, one in stored.artifacts.items()
    }
    assert manifest_digest(files) == info.digest


def test_logging_again_leaves_no_file_of_the_former_model(api, model, table):
    with api.start_run():
        api.sklearn.log_model(model, "model", input_example=table)
        info = api.sklearn.log_model(model, "model")
        assert "input_example.json" not in api.load_model(info.model_uri).metadata.to_yaml()
    found = api.load_model(info.model_uri)
    assert found.digest == info.digest
    assert found.input_example is None


def test_a_model_remembers_what_it_was_trained_from(api, repo, model):
    with api.start_run():
        first = api.sklearn.log_model(model, "model")
    again = api.sklearn.load_model(first.model_uri)
    with api.start_run():
        api.sklearn.log_model(again, "tuned")
        api.sklearn.log_model(model, "named", parent=first.model_uri)
    from gml.serving.inspect import describe
    from gml.tracking.models.resolve import resolve

    for path in ("tuned", "named"):
        trained = describe(resolve(f"runs:/@/{path}"))["trained"]
        assert trained["from"] == f"{first.model_uri} {first.digest[:12]}"
        assert trained["commit"] == repo.git("rev-parse", "HEAD")


def test_code_needs_trust(api, model):
    with api.start_run():
        info = api.pyfunc.log_model("model", python_model=lambda model_input: model_input)
        assert info.format_class == "code"
        pickled = api.sklearn.log_model(model, "pickled", serialization_format="pickle")
        assert pickled.format_class == "code"
    with pytest.raises(TrustError, match=r"python_model\.pkl: pickle"):
        api.load_model(info.model_uri)
    with pytest.raises(TrustError, match=r"model\.pkl: pickle"):
        api.sklearn.load_model(pickled.model_uri)
    assert api.load_model(info.model_uri, trust="code").predict([1]) == [1]
    assert api.sklearn.load_model(pickled.model_uri, trust="code") is not None
    with pytest.raises(InvalidValueError, match="trust"):
        api.load_model(info.model_uri, trust="everything")


def test_a_damaged_store_is_found(api, repo, table):
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(40, random_state=0).fit(table, [0, 0, 1, 1])
    with api.start_run():
        info = api.sklearn.log_model(forest, "model")
    stored = [path for path in (repo.path / ".git/gml/cas/sha256").rglob("*") if path.is_file()]
    blob = max(stored, key=lambda path: path.stat().st_size)
    blob.chmod(0o644)
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.write_bytes(data)
    with pytest.raises(CorruptError):
        api.load_model(info.model_uri)


@pytest.mark.parametrize(
    ("uri", "error", "said"),
    [
        ("runs:/nothing/model", NotFoundError, "no run"),
        ("runs:/@/other", NotFoundError, "it has model"),
        ("runs:/@", UsageError, "names no model"),
        ("s3://bucket/model", UsageError, "models:/"),
        ("/no/such/folder", NotFoundError, "no model folder"),
        ("runs:/@/model/MLmodel", NotFoundError, "no model"),
    ],
)
def test_uris_that_are_none(api, model, uri, error, said):
    with api.start_run():
        api.sklearn.log_model(model, "model")
    with pytest.raises(error, match=said):
        api.load_model(uri)


def test_arguments_that_are_wrong(api, model, tmp_path):
    with api.start_run():
        with pytest.raises(UsageError, match="no argument 'colour'"):
            api.sklearn.log_model(model, "model", colour=1)
        with pytest.raises(InvalidValueError):
            api.sklearn.log_model(model, "../model")
        with pytest.raises(UsageError, match="there is no model"):
            api.pyfunc.log_model("model")
        with pytest.raises(UsageError, match="registered_model_name"):
            api.sklearn.save_model(model, tmp_path / "m", registered_model_name="x")
        # MLflow's arguments without meaning here are taken.
        api.sklearn.log_model(model, artifact_path="model", await_registration_for=0, model_type="x")


def test_storage_trouble_does_not_stop_training(api, repo, model, table, caplog, monkeypatch):
    from gml.domain.errors import StorageError
    from gml.tracking import artifacts

    def fail(*_):
        raise StorageError("the disk is full")

    with api.start_run():
        monkeypatch.setattr(artifacts, "log_file", fail)
        info = api.sklearn.log_model(model, "model", input_example=table)
        monkeypatch.undo()
    kept = next(record for record in caplog.records if "the disk is full" in record.getMessage())
    folder = kept.getMessage().rpartition(" is in ")[2]
    assert api.load_model(folder).predict(table).tolist() == [0, 0, 1, 1]
    import shutil

    shutil.rmtree(folder.rpartition("/")[0])
    assert info.digest


def test_mlflow_scripts_find_what_they_know(api, model, table):
    mlflow = api
    with mlflow.start_run():
        signature = mlflow.models.infer_signature(table, model.predict(table), params={"t": 0.5})
        mlflow.sklearn.log_model(sk_model=model, artifact_path="m", signature=signature)

    class Plus(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            return model_input + 1

    with mlflow.start_run():
        info = mlflow.pyfunc.log_model(artifact_path="p", python_model=Plus())
    loaded = mlflow.pyfunc.load_model(info.model_uri, trust="code")
    assert loaded.predict(1) == 2
    assert type(loaded.unwrap_python_model()).__name__ == "Plus"
