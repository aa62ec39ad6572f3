"""`gml.autolog()` with scikit-learn; and with the other frameworks where they are installed."""

import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from gml.domain.errors import UsageError
from gml.tracking.autolog import hooks, session
from gml.tracking.reader import Reader


@pytest.fixture
def table():
    generator = np.random.default_rng(5)
    return pd.DataFrame({"age": generator.uniform(18, 80, 40), "calls": generator.uniform(0, 9, 40)})


@pytest.fixture
def labels(table):
    return (table["age"] > 45).astype("int64")


@pytest.fixture
def auto(api):
    api.autolog(log_plots=False)
    yield api
    api.autolog(disable=True)


@pytest.fixture
def runs(repo):
    """Return the repository's runs, the oldest first."""

    def read():
        return sorted(Reader(repo.workspace()).runs(), key=lambda run: run.run_id)

    return read


def test_a_fit_is_a_run_of_its_own(auto, runs, table, labels):
    model = DecisionTreeClassifier(max_depth=2).fit(table, labels)
    (run,) = runs()
    assert run.status == "FINISHED"
    assert run.params["max_depth"] == "2"
    assert run.tags["estimator_name"] == "DecisionTreeClassifier"
    assert run.metrics["training_accuracy_score"].last == model.score(table, labels)
    assert run.metrics["training_roc_auc"].last == pytest.approx(1.0)
    assert run.metrics["training_log_loss"].last == pytest.approx(0.0, abs=1e-9)
    loaded = auto.load_model(f"runs:/{run.run_id}/model")
    assert loaded.format_class == "data"
    assert (loaded.predict(table) == model.predict(table)).all()
    assert [one.name for one in loaded.metadata.signature.inputs] == ["age", "calls"]
    pd.testing.assert_frame_equal(loaded.input_example, table[:5])


def test_fits_in_a_run_belong_to_it(auto, runs, table, labels):
    with auto.start_run(run_name="mine"):
        make_pipeline(StandardScaler(), LogisticRegression(C=0.5)).fit(table, labels)
        LinearRegression().fit(table, labels)
    (run,) = runs()
    assert run.name == "mine"
    # The pipeline counts, not the steps in it.
    assert run.params["logisticregression__C"] == "0.5"
    assert "C" not in run.params
    assert {"training_f1_score", "training_r2_score"} <= set(run.metrics)
    assert len([one for one in run.outputs if one["type"] == "model"]) == 2


def test_the_best_of_a_search_are_child_runs(auto, runs, table, labels):
    search = GridSearchCV(DecisionTreeClassifier(random_state=0), {"max_depth": [1, 2, 3, 4, 5, 6]}, cv=2)
    search.fit(table, labels)
    parent, *children = runs()
    assert parent.params["best_max_depth"] == str(search.best_params_["max_depth"])
    assert parent.metrics["best_cv_score"].last == search.best_score_
    assert "cv_results.json" in parent.artifacts
    assert len(children) == 5
    assert all(one.tags["mlflow.parentRunId"] == parent.run_id for one in children)
    assert all("mean_test_score" in one.metrics for one in children)
    assert auto.load_model(f"runs:/{parent.run_id}/model").predict(table).shape == (40,)


def test_plots_are_drawn(auto, runs, table, labels):
    auto.sklearn.autolog(log_models=False)
    DecisionTreeClassifier().fit(table, labels)
    (run,) = runs()
    assert {
        "training_confusion_matrix.png",
        "training_roc_curve.png",
        "training_precision_recall_curve.png",
        "feature_importance.png",
        "feature_importance.json",
    } == set(run.artifacts)


def test_a_fit_that_fails_is_a_run_that_failed(auto, runs, table):
    with pytest.raises(ValueError, match="Number of labels=2"):
        DecisionTreeClassifier().fit(table, [1, 0])
    (run,) = runs()
    assert run.status == "FAILED"
    assert auto.active_run() is None


def test_trouble_with_logging_does_not_stop_training(auto, runs, table, labels, caplog, monkeypatch):
    def broken(*_args, **_kwargs):
        raise RuntimeError("no space\nleft")

    monkeypatch.setattr(session.logging_api, "log_metrics", broken)
    monkeypatch.setattr(session.logging_api, "log_params", broken)
    model = DecisionTreeClassifier(max_depth=1).fit(table, labels)
    assert model.tree_.node_count == 3
    assert "gml: autolog: params: RuntimeError: no space left" in caplog.text
    (run,) = runs()
    assert run.status == "FINISHED"


def test_outside_of_a_repository_training_goes_on(auto, runs, table, labels, monkeypatch, caplog):
    def nowhere(*_args, **_kwargs):
        raise RuntimeError("not a repository")

    monkeypatch.setattr(session.fluent, "start_run", nowhere)
    assert DecisionTreeClassifier().fit(table, labels).predict(table).tolist() == labels.tolist()
    assert [one.getMessage() for one in caplog.records] == [
        "gml: autolog: start_run: RuntimeError: not a repository"
    ]
    assert runs() == []


def test_it_can_be_switched_off(auto, runs, table, labels):
    auto.autolog(disable=True)
    DecisionTreeClassifier().fit(table, labels)
    assert runs() == []
    auto.autolog(exclude=("sklearn",))
    DecisionTreeClassifier().fit(table, labels)
    assert runs() == []
    with pytest.raises(UsageError, match="no framework 'scikit'"):
        auto.autolog(exclude=("scikit",))
    with pytest.raises(UsageError, match="no argument 'log_modells'"):
        auto.sklearn.autolog(log_modells=True)


def test_classes_that_are_defined_later_log_themselves(auto, runs, table, labels):
    class Mine(LogisticRegression):
        def fit(self, x, y):
            return super().fit(x, y)

    Mine(C=2.0).fit(table, labels)
    (run,) = runs()
    assert run.params["C"] == "2.0"


def test_modules_that_are_imported_later_are_patched_then(tmp_path, monkeypatch):
    (tmp_path / "gml_test_later.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    seen = []
    hooks.when_imported("gml_test_later", lambda: seen.append(sys.modules["gml_test_later"].x))
    assert seen == []
    import gml_test_later

    assert seen == [1]
    assert gml_test_later.__spec__.name == "gml_test_later"
    sys.modules.pop("gml_test_later")
    hooks.when_imported("json", lambda: seen.append("now"))
    assert seen == [1, "now"]


@pytest.mark.heavy
class TestFrameworks:
    def test_xgboost(self, auto, runs, table, labels):
        xgboost = pytest.importorskip("xgboost")
        matrix = xgboost.DMatrix(table, labels)
        evals = [(matrix, "train")]
        auto.xgboost.autolog()
        booster = xgboost.train({"max_depth": 2}, matrix, 4, evals=evals, verbose_eval=False)
        xgboost.XGBClassifier(n_estimators=3).fit(table, labels, eval_set=[(table, labels)], verbose=False)
        first, second = runs()
        assert first.params == {"max_depth": "2", "num_boost_round": "4"}
        assert (first.metrics["train-rmse"].step, second.metrics["validation_0-logloss"].step) == (
            3,
            2,
        )
        loaded = auto.load_model(f"runs:/{first.run_id}/model")
        assert loaded.predict(table) == pytest.approx(booster.predict(matrix))
        assert "feature_importance_weight.json" in first.artifacts
        assert second.params["n_estimators"] == "3"
        assert auto.load_model(f"runs:/{second.run_id}/model").format_class == "data"

    def test_lightgbm(self, auto, runs, table, labels):
        lightgbm = pytest.importorskip("lightgbm")
        data = lightgbm.Dataset(table, labels)
        params = {"objective": "binary", "verbose": -1, "min_data_in_leaf": 2}
        booster = lightgbm.train(params, data, 3, valid_sets=[lightgbm.Dataset(table, labels)])
        lightgbm.LGBMClassifier(n_estimators=2, verbose=-1).fit(table, labels)
        first, second = runs()
        assert first.params["num_boost_round"] == "3"
        assert first.metrics["valid_0-binary_logloss"].step == 2
        loaded = auto.load_model(f"runs:/{first.run_id}/model")
        assert loaded.predict(table) == pytest.approx(booster.predict(table))
        assert second.params["n_estimators"] == "2"

    @pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
    def test_keras(self, auto, runs, table, labels, monkeypatch):
        monkeypatch.setenv("KERAS_BACKEND", "torch")
        keras = pytest.importorskip("keras")
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile(optimizer="sgd", loss="mse")
        data = table.to_numpy(np.float32)
        model.fit(data, labels, epochs=2, verbose=0)
        (run,) = runs()
        assert run.params["epochs"] == "2"
        assert run.params["opt_name"].lower() == "sgd"
        assert run.metrics["loss"].step == 1
        loaded = auto.load_model(f"runs:/{run.run_id}/model")
        assert loaded.predict(data) == pytest.approx(model.predict(data, verbose=0), rel=1e-5)

    @pytest.mark.filterwarnings("ignore")
    def test_lightning(self, auto, runs, tmp_path, monkeypatch):
        pytest.importorskip("lightning.pytorch")
        (tmp_path / "gml_test_lit.py").write_text(LIT)
        monkeypatch.syspath_prepend(str(tmp_path))
        import gml_test_lit

        model = gml_test_lit.train(tmp_path)
        (run,) = runs()
        assert run.params["optimizer_name"] == "SGD"
        assert run.params["width"] == "3"
        assert run.metrics["loss"].step == 1
        loaded = auto.pytorch.load_model(f"runs:/{run.run_id}/model", trusted_types=("gml_test_lit.Lit",))
        left, right = loaded.state_dict(), model.state_dict()
        assert all((left[key] == right[key]).all() for key in right)

    def test_statsmodels(self, auto, runs, table, labels):
        api = pytest.importorskip("statsmodels.api")
        results = api.OLS(labels, api.add_constant(table)).fit()
        (run,) = runs()
        assert run.params["model"] == "OLS"
        assert run.metrics["rsquared"].last == pytest.approx(results.rsquared)
        assert "model_summary.txt" in run.artifacts


LIT = """
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader, TensorDataset


class Lit(LightningModule):
    def __init__(self, width=3):
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(width, 1)

    def training_step(self, batch, _):
        x, y = batch
        loss = torch.nn.functional.mse_loss(self.layer(x), y)
        self.log("loss", loss, on_epoch=True, on_step=False)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def train(folder):
    model = Lit()
    data = TensorDataset(torch.ones(4, 3), torch.ones(4, 1))
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, accelerator="cpu",
                      enable_progress_bar=False, default_root_dir=folder)
    trainer.fit(model, DataLoader(data, batch_size=2))
    return model
"""
