"""Every public name of `gml`, used through `import gml` in a real repository, the way training scripts do."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gml.domain.errors import (
    AmbiguousError,
    ConflictError,
    GmlError,
    InvalidValueError,
    NotFoundError,
    RepositoryError,
    UsageError,
)
from gml.tracking.commit import commit_sessions
from gml.tracking.contents import open_artifact
from gml.tracking.reader import Reader

RUN_COLUMNS = ["run_id", "experiment_id", "status", "artifact_uri", "start_time", "end_time"]


def artifacts(repo, run_id: str) -> dict[str, bytes]:
    reader = Reader(repo.workspace())
    run = reader.resolve(run_id)
    out = {}
    for name in run.artifacts:
        with open_artifact(reader, run, name) as file:
            out[name] = file.read()
    return out


def test_this_file_uses_every_public_name(api):
    used = set(
        re.findall(r"\b(?:api|gml|mlflow)\.([A-Za-z_]\w*)", Path(__file__).read_text(encoding="utf-8"))
    )
    public = set(api.__all__)
    assert public - used == set()
    assert set(dir(api)) >= public
    for name in public:
        assert getattr(api, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'log_everything'"):
        api.log_everything  # noqa: B018


def test_importing_gml_imports_nothing_heavy(repo):
    loaded = repo.json("import gml, json, sys\nprint(json.dumps(sorted(sys.modules)))")
    assert not {"numpy", "pandas", "pygit2", "dulwich", "fsspec", "orjson", "yaml"} & set(loaded)


# --- an ordinary MLflow script ------------------------------------------------------------------

SCRIPT = """
import os
import tempfile

import gml as mlflow

mlflow.set_tracking_uri("file://" + os.getcwd())
mlflow.set_experiment("iris")
mlflow.set_experiment_tag("team", "botany")

params = {"max_depth": 3, "criterion": "gini", "bootstrap": True}
with mlflow.start_run(run_name="search", description="grid") as parent:
    for depth in (1, 2, 3):
        with mlflow.start_run(run_name=f"depth-{depth}", nested=True, tags={"depth": depth}):
            mlflow.log_params({**params, "max_depth": depth})
            for epoch in range(10):
                mlflow.log_metric("loss", 1 / (epoch + depth), step=epoch)
            mlflow.log_metrics({"accuracy": 0.8 + depth / 100, "f1": 0.7}, step=9)
            mlflow.set_tag("framework", "sklearn")
    mlflow.log_param("trials", 3)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.bin")
        with open(path, "wb") as file:
            file.write(b"weights" * 20_000)
        mlflow.log_artifact(path, artifact_path="model")
        mlflow.log_artifacts(folder, artifact_path="everything")
    mlflow.log_dict({"classes": ["setosa", "virginica"]}, "labels.yaml")
    mlflow.log_text("done", "notes/readme.txt")
    assert mlflow.active_run().info.run_id == parent.info.run_id
    assert mlflow.get_artifact_uri("model").endswith("/artifacts/model")

run = mlflow.get_run(parent.info.run_id)
assert run.info.status == "FINISHED"
assert run.data.params == {"trials": "3"}
assert run.data.tags["mlflow.note.content"] == "grid"
assert run.data.tags["mlflow.runName"] == run.info.run_name == "search"
best = mlflow.search_runs(
    experiment_names=["iris"], filter_string="metrics.accuracy > 0.815", order_by=["metrics.accuracy DESC"]
)
print(best["tags.mlflow.runName"].tolist())
assert best.loc[0, "params.max_depth"] == "3"
assert best.loc[0, "tags.mlflow.parentRunId"] == parent.info.run_id
experiment = mlflow.get_experiment_by_name("iris")
assert experiment.tags == {"team": "botany"}
assert mlflow.get_experiment(experiment.experiment_id).name == "iris"
assert mlflow.last_active_run().info.run_id == parent.info.run_id
"""


def test_an_ordinary_mlflow_script_runs_with_one_changed_line(repo):
    assert repo.python(SCRIPT) == "['depth-3', 'depth-2']"
    runs = list(Reader(repo.workspace()).runs())
    assert [run.name for run in runs] == ["depth-3", "depth-2", "depth-1", "search"]
    found = artifacts(repo, "search")
    assert found.keys() == {"model/model.bin", "everything/model.bin", "labels.yaml", "notes/readme.txt"}
    assert found["model/model.bin"] == b"weights" * 20_000
    assert found["labels.yaml"] == b"classes:\n- setosa\n- virginica\n"


# --- logging ------------------------------------------------------------------------------------


def test_logging_without_start_run_starts_one_that_ends_with_the_process(repo):
    run_id = repo.python("import gml\ngml.log_metric('m', 1)\nprint(gml.active_run().info.run_id)")
    run = Reader(repo.workspace()).run(run_id)
    assert (run.status, run.metrics["m"].last) == ("FINISHED", 1.0)


def test_a_script_that_fails_leaves_a_failed_run(repo):
    child = repo.start("import gml\nprint(gml.start_run().run_id, flush=True)\nraise RuntimeError('no')")
    out, err = child.communicate()
    assert "RuntimeError: no" in err
    assert Reader(repo.workspace()).run(out.strip()).status == "FAILED"


class Figure:
    """What a plotting library hands out: something that can save itself."""

    def savefig(self, file, format, **options) -> None:  # noqa: A002
        file.write(f"{format} {sorted(options.items())}".encode())


class Html:
    """A figure that can only be a page."""

    def to_html(self, include_plotlyjs: bool) -> str:
        return f"<html>{include_plotlyjs}</html>"


def test_everything_that_can_be_logged_comes_back(api, repo, tmp_path):
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"\x89PNG not really")
    (tmp_path / "out" / "deep").mkdir(parents=True)
    (tmp_path / "out" / "deep" / "a.txt").write_text("a")
    (tmp_path / "out" / "loop").symlink_to(tmp_path / "out")
    (tmp_path / "out" / "b.bin").write_bytes(b"b" * 70_000)
    with api.start_run() as run:
        assert api.log_param("lr", 0.1) == 0.1
        api.log_params({"depth": 3, "none": None})
        api.log_metric("loss", 0.5)
        api.log_metrics({"auc": 0.9, "f1": 0.8}, step=2)
        api.set_tag("a", 1)
        api.set_tags({"b": 2, "c": 3})
        api.delete_tag("c")
        api.log_artifact(picture)
        api.log_artifact(str(picture), "images")
        api.log_artifact(tmp_path / "out")
        api.log_artifacts(tmp_path / "out", "copied")
        api.log_dict({"k": [1, None]}, "k.json")
        api.log_dict({"k": [1, None]}, "k.yml")
        api.log_text("größe", "text.txt")
        api.log_figure(Figure(), "figure.svg", save_kwargs={"dpi": 10})
        api.log_figure(Html(), "figure.html")
        api.log_image(picture, "image.png")
        api.log_image(str(picture), key="samples", step=3, timestamp=5)
        api.log_table({"x": [1, 2], "y": ["a", "b"]}, "table.json")
        api.log_table(pd.DataFrame({"x": [3], "y": ["c"]}), "table.json")
        api.flush()
        assert api.get_artifact_uri() == f"gml:/runs/{run.run_id}/artifacts"
        assert api.get_artifact_uri("k.json") == f"gml:/runs/{run.run_id}/artifacts/k.json"
    found = api.get_run(run.run_id)
    assert found.data.params == {"lr": "0.1", "depth": "3", "none": "None"}
    assert found.data.metrics == {"loss": 0.5, "auc": 0.9, "f1": 0.8}
    assert {k: v for k, v in found.data.tags.items() if len(k) == 1} == {"a": "1", "b": "2"}
    content = artifacts(repo, run.run_id)
    assert json.loads(content.pop("k.json")) == {"k": [1, None]}
    assert json.loads(content.pop("table.json")) == {
        "columns": ["x", "y"],
        "data": [[1, "a"], [2, "b"], [3, "c"]],
    }
    (series,) = [name for name in content if name.startswith("images/samples%step%3%timestamp%5")]
    assert content.pop(series) == picture.read_bytes()
    assert content == {
        "picture.png": picture.read_bytes(),
        "images/picture.png": picture.read_bytes(),
        "image.png": picture.read_bytes(),
        "out/deep/a.txt": b"a",
        "out/b.bin": b"b" * 70_000,
        "copied/deep/a.txt": b"a",
        "copied/b.bin": b"b" * 70_000,
        "k.yml": b"k:\n- 1\n- null\n",
        "text.txt": "größe".encode(),
        "figure.svg": b"svg [('dpi', 10)]",
        "figure.html": b"<html>True</html>",
    }


def test_arrays_are_kept_as_images(api, repo):
    image = pytest.importorskip("PIL.Image")
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    with api.start_run() as run:
        api.log_image(pixels, "array.png")
    (data,) = artifacts(repo, run.run_id).values()
    import io

    assert np.array_equal(np.asarray(image.open(io.BytesIO(data))), pixels)


def test_data_sets_are_recorded_with_digest_schema_and_context(api, repo, tmp_path):
    table = tmp_path / "train.csv"
    table.write_text("a,b\n1,2\n")
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    with api.start_run() as run:
        api.log_input(frame, context="train", tags={"half": "first"}, name="frame")
        api.log_inputs([np.zeros((3, 2)), table], contexts=["test", None])
        api.log_input(api.data.from_folder(tmp_path, name="folder"))
    inputs = {entry["name"]: entry for entry in Reader(repo.workspace()).run(run.run_id).inputs}
    assert inputs.keys() == {"frame", "dataset", "train.csv", "folder"}
    assert inputs["frame"]["tags"] == {"mlflow.data.context": "train", "half": "first"}
    assert json.loads(inputs["frame"]["profile"])["num_rows"] == 2
    assert [c["name"] for c in json.loads(inputs["frame"]["schema"])["mlflow_colspec"]] == ["a", "b"]
    assert inputs["frame"]["digest"] == api.data.from_pandas(frame).digest
    assert inputs["dataset"]["tags"] == {"mlflow.data.context": "test"}
    assert json.loads(inputs["train.csv"]["source"])["uri"] == str(table)
    assert len(api.get_run(run.run_id).inputs.dataset_inputs) == 4


# --- reading ------------------------------------------------------------------------------------


@pytest.fixture
def three_runs(api):
    """Return the ids of three runs, two of them in the experiment `churn`."""
    ids = []
    for number, experiment in enumerate(("churn", "churn", "Default")):
        api.set_experiment(experiment)
        with api.start_run(run_name=f"run-{number}") as run:
            api.log_param("n", number)
            api.log_metric("auc", number / 10, step=0, timestamp=5)
            api.log_metric("auc", number / 5, step=1, timestamp=6)
        ids.append(run.run_id)
    return ids


def test_search_runs_returns_the_documented_columns(api, three_runs):
    frame = api.search_runs(search_all_experiments=True)
    assert list(frame.columns[:6]) == RUN_COLUMNS
    assert frame["run_id"].tolist() == three_runs[::-1]
    assert frame["metrics.auc"].tolist() == [0.4, 0.2, 0.0]
    assert frame["params.n"].tolist() == ["2", "1", "0"]
    assert frame["tags.mlflow.runName"].tolist() == ["run-2", "run-1", "run-0"]
    assert str(frame["start_time"].dtype).startswith("datetime64[ns, UTC")
    assert (frame["end_time"] >= frame["start_time"]).all()
    assert frame["status"].tolist() == ["FINISHED"] * 3


def test_search_runs_filters_sorts_and_limits(api, three_runs):
    def ids(**wanted):
        return [run.run_id for run in api.search_runs(output_format="list", **wanted)]

    assert ids() == [three_runs[2]]
    assert ids(experiment_names=["churn"]) == [three_runs[1], three_runs[0]]
    assert ids(experiment_ids=[api.get_experiment_by_name("churn").experiment_id]) == three_runs[1::-1]
    assert ids(experiment_names=["churn", "nothing"], filter_string="params.n = '0'") == [three_runs[0]]
    everywhere = {"search_all_experiments": True}
    assert ids(**everywhere, order_by=["metrics.auc ASC"], max_results=2) == three_runs[:2]
    assert ids(**everywhere, filter_string="metrics.auc >= 0.2 and params.n != '2'") == [three_runs[1]]
    api.delete_run(three_runs[0])
    assert ids(**everywhere) == three_runs[:0:-1]
    assert ids(**everywhere, run_view_type=2) == [three_runs[0]]
    assert ids(**everywhere, run_view_type=3) == three_runs[::-1]
    api.restore_run(three_runs[0])
    assert ids(**everywhere) == three_runs[::-1]
    with pytest.raises(UsageError, match="not both"):
        ids(experiment_ids=["0"], experiment_names=["Default"])
    with pytest.raises(UsageError, match="pandas"):
        api.search_runs(output_format="polars")
    with pytest.raises(GmlError):
        ids(filter_string="metrics.auc >")


def test_metric_history_has_step_timestamp_and_value(api, three_runs):
    frame = api.metric_history(three_runs[1], "auc")
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == {
        "step": "int64",
        "timestamp": "int64",
        "value": "float64",
    }
    assert frame.to_dict("list") == {"step": [0, 1], "timestamp": [5, 6], "value": [0.1, 0.2]}


def test_a_run_is_found_by_what_people_call_it(api, three_runs):
    for name in (three_runs[0], three_runs[0][-8:], "run-0", "@~2"):
        assert api.get_run(name).info.run_id == three_runs[0]
    info = api.get_run("@").info
    assert (info.run_name, info.lifecycle_stage, info.run_uuid) == ("run-2", "active", three_runs[2])
    assert api.last_active_run().info.run_id == three_runs[2]
    with pytest.raises(NotFoundError, match="no run matches 'nobody'"):
        api.get_run("nobody")
    with pytest.raises(AmbiguousError, match="fits 3 runs"):
        api.get_run(three_runs[0][:4])


def test_artifacts_are_copied_out_whole(api, tmp_path):
    with api.start_run() as run:
        api.log_text("small", "model/config.json")
        api.log_text("x" * 100_000, "model/weights.bin")
        api.log_text("top", "top.txt")
    everything = Path(api.download_artifacts(run.run_id))
    assert sorted(p.relative_to(everything).as_posix() for p in everything.rglob("*.*")) == [
        "model/config.json",
        "model/weights.bin",
        "top.txt",
    ]
    folder = Path(api.download_artifacts(run.run_id, "model", tmp_path / "here"))
    assert folder == tmp_path / "here" / "model"
    assert (folder / "weights.bin").read_text() == "x" * 100_000
    assert Path(api.download_artifacts(run.run_id, "top.txt", tmp_path)).read_text() == "top"
    assert api.artifacts(run.run_id).cat("top.txt") == b"top"
    with pytest.raises(NotFoundError, match=r"model/config\.json"):
        api.download_artifacts(run.run_id, "model/config.jso")


def test_experiments_live_and_die(api):
    made = api.create_experiment("churn", tags={"a": "b"})
    assert api.set_experiment("churn").experiment_id == made
    api.set_experiment_tag("c", 1)
    assert api.get_experiment(made).tags == {"a": "b", "c": "1"}
    with api.start_run() as run:
        pass
    assert api.get_run(run.run_id).info.experiment_id == made
    assert api.get_experiment_by_name("churn").experiment_id == made
    assert api.get_experiment_by_name("none") is None
    with pytest.raises(ConflictError, match="exists already"):
        api.create_experiment("churn")
    assert [e.name for e in api.search_experiments()] == ["Default", "churn"]
    api.delete_experiment(made)
    assert [e.name for e in api.search_experiments()] == ["Default"]
    assert [e.name for e in api.search_experiments(view_type=2)] == ["churn"]
    assert api.search_runs(search_all_experiments=True).empty
    with pytest.raises(ConflictError, match="is deleted"):
        api.set_experiment("churn")
    with pytest.raises(NotFoundError):
        api.get_experiment("12345")
    with pytest.raises(NotFoundError):
        api.set_experiment(experiment_id="12345")
    with pytest.raises(UsageError):
        api.set_experiment()
    with pytest.raises(InvalidValueError):
        api.set_experiment("\n")
    api.set_experiment(experiment_id="0")
    with api.start_run() as run:
        pass
    assert api.get_run(run.run_id).info.experiment_id == "0"


def test_runs_are_compared_and_plotted(api, three_runs):
    found = api.runs()
    assert sorted(found.ids) == sorted(three_runs)
    assert isinstance(api.compare(three_runs[:2]).metrics, pd.DataFrame)
    assert callable(api.plot.curves)


# --- where --------------------------------------------------------------------------------------


def test_the_repository_can_be_chosen(api, make_repo, tmp_path):
    other = make_repo("other")
    for uri in (other.path, str(other.path), f"gml:{other.path}", f"file://{other.path}"):
        api.set_tracking_uri(uri)
        assert api.get_tracking_uri() == f"gml:{other.path}"
        with api.start_run():
            pass
    assert len(list(Reader(other.workspace()).runs())) == 4
    with pytest.raises(UsageError, match="not a git repository on this machine"):
        api.set_tracking_uri("http://localhost:5000")
    api.set_tracking_uri(None)
    assert api.get_tracking_uri() == f"gml:{Path.cwd()}"
    assert api.search_runs().empty


def test_outside_a_repository_a_run_says_what_to_type_and_logging_only_warns(
    api, tmp_path, monkeypatch, caplog
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RepositoryError, match="git init"):
        api.start_run()
    api.log_metric("m", 1)
    api.log_param("p", 1)
    api.set_tag("t", 1)
    api.log_text("x", "x.txt")
    assert caplog.text.count("not a git repository") == 4


def test_versions_are_numbers(api):
    assert re.fullmatch(r"\d+\.\d+.*", api.__version__)
    assert api.ActiveRun.__name__ == "ActiveRun"
    with api.batch(), api.start_run():
        api.end_run()


# --- trouble ------------------------------------------------------------------------------------


def test_trouble_with_git_at_the_end_of_a_run_is_a_warning_and_the_journal_stays(api, repo, caplog):
    with api.start_run():
        pass
    ref = repo.path / ".git" / "refs" / "gml" / "ledger"
    sound = ref.read_text()
    with api.start_run() as run:
        api.log_metric("m", 1)
        ref.write_text("garbage\n")
    assert "is not in the ledger yet" in caplog.text
    assert "gml recover" in caplog.text
    ref.write_text(sound)
    assert commit_sessions(repo.workspace()) == [run.run_id]
    assert Reader(repo.workspace()).run(run.run_id).status == "FINISHED"


def test_a_journal_that_somebody_deletes_does_not_stop_the_training(api, repo, caplog):
    import shutil

    with api.start_run() as run:
        api.log_metric("m", 1)
        shutil.rmtree(run.recorder.path)
        api.log_metric("m", 2)
        api.log_param("p", 1)
        api.set_tag("t", 1)
        api.log_text("x", "x.txt")
        api.flush()
    assert "log_text" in caplog.text


def test_a_file_that_vanishes_or_cannot_be_read_is_told(api, repo, tmp_path, caplog):
    with api.start_run() as run:
        with pytest.raises(NotFoundError, match="does not exist"):
            api.log_artifact(tmp_path / "nothing.bin")
        with pytest.raises(NotFoundError, match="does not exist"):
            api.log_artifacts(tmp_path / "nothing")
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "dangling").symlink_to(tmp_path / "nothing.bin")
        (tmp_path / "out" / "fine.txt").write_text("fine")
        api.log_artifacts(tmp_path / "out")
    assert artifacts(repo, run.run_id) == {"fine.txt": b"fine"}
    assert "dangling" in caplog.text


# --- small mistakes, each told at once ----------------------------------------------------------


def test_a_folder_with_names_no_system_shares_keeps_the_rest(api, repo, tmp_path, caplog):
    folder = tmp_path / "out"
    folder.mkdir()
    for name in (b"good.txt", b"back\\slash", b"line\nbreak", b"latin-\xe9"):
        (folder / os.fsdecode(name)).write_bytes(b"content")
    with api.start_run() as run:
        api.log_artifacts(folder)
    assert artifacts(repo, run.run_id) == {"good.txt": b"content"}
    assert caplog.text.count("has characters that no system shares") == 3


def test_the_experiment_of_a_first_run_is_known_while_it_goes_on(api):
    chosen = api.set_experiment("fresh")
    assert api.get_experiment_by_name("fresh") is None
    with api.start_run():
        assert api.get_experiment_by_name("fresh").experiment_id == chosen.experiment_id
        assert api.get_experiment(chosen.experiment_id).name == "fresh"


def test_a_run_that_was_left_says_how_it_ended(api):
    with api.start_run() as good:
        assert good.info.status == "RUNNING"
    assert good.info.status == "FINISHED"
    assert good.info.end_time >= good.info.start_time
    with pytest.raises(ZeroDivisionError), api.start_run() as bad:
        1 / 0  # noqa: B018
    assert bad.info.status == "FAILED"
    killed = api.start_run()
    api.end_run("KILLED")
    assert killed.info.status == "KILLED"


def test_calls_put_together_wrongly_raise_an_error_of_gml(api):
    for kind in (9, None, "all", []):
        with pytest.raises(UsageError, match="a view type is 1"):
            api.search_runs(run_view_type=kind)
        with pytest.raises(UsageError, match="a view type is 1"):
            api.search_experiments(view_type=kind)
    for run_id in ("../..", "a/b", 5, "x" * 300):
        with pytest.raises(InvalidValueError, match="is not a run id"):
            api.start_run(run_id=run_id)
    with api.start_run():
        with pytest.raises(InvalidValueError, match="log_text takes text, not int"):
            api.log_text(5, "a")
        with pytest.raises(NotFoundError, match=r"nothing\.png"):
            api.log_image("nothing.png", "image.png")
        for call in (api.log_text, api.log_dict, api.log_figure, api.log_table, api.log_image):
            with pytest.raises(InvalidValueError, match="an artifact path must be text"):
                call("a", 5)


def test_registered_models_are_found_by_their_uri(api, repo):
    with api.start_run() as run:
        api.log_text("weights", "model/weights.txt")
    repo.python(
        "from gml.cli.main import run\nimport sys\n"
        "assert run(['registry', 'register', 'churn', '--run', sys.argv[1], '--path', 'model']) == 0",
        run.run_id,
    )
    found = api.registry.get("models:/churn/1")
    assert (found.run, found.path) == (run.run_id, "model")
    with pytest.raises(NotFoundError, match="churn"):
        api.registry.get("models:/churn/2")


def test_models_are_logged_and_loaded_by_their_uri(api):
    from sklearn.linear_model import LinearRegression

    model = LinearRegression().fit(pd.DataFrame({"x": [0.0, 1.0]}), [0.0, 2.0])
    with api.start_run() as run:
        api.sklearn.log_model(model, name="model", input_example=pd.DataFrame({"x": [0.5]}))
    uri = f"runs:/{run.run_id}/model"
    data = pd.DataFrame({"x": [3.0]})
    assert api.load_model(uri).predict(data) == pytest.approx([6.0])
    assert api.pyfunc.load_model(uri).predict(data) == pytest.approx([6.0])
    assert api.sklearn.load_model(uri).coef_ == pytest.approx([2.0])
    assert isinstance(api.pyfunc.load_model(uri).metadata.signature, api.models.ModelSignature)


def test_each_framework_has_its_module(api):
    modules = {
        "keras": api.keras,
        "lightgbm": api.lightgbm,
        "onnx": api.onnx,
        "pytorch": api.pytorch,
        "tensorflow": api.tensorflow,
        "transformers": api.transformers,
        "xgboost": api.xgboost,
    }
    for name, module in modules.items():
        with pytest.raises(UsageError, match="has no argument 'nam'"):
            module.log_model(object(), nam="typo")
        with pytest.raises(NotFoundError, match="nowhere"):
            module.load_model("nowhere")
        if name not in {"onnx", "transformers"}:
            module.autolog(disable=True)
    with pytest.raises(UsageError, match="autolog has no argument 'silnt'"):
        api.statsmodels.autolog(silnt=True)
    api.autolog(disable=True, silent=True)
