"""Each framework's own models through the conformance suite; run where the framework is installed."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gml.testing.flavors import FlavorSuite

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]


@pytest.fixture
def table():
    generator = np.random.default_rng(3)
    return pd.DataFrame({"age": generator.uniform(18, 80, 60), "calls": generator.uniform(0, 9, 60)})


@pytest.fixture
def labels(table):
    return (table["age"] > 40).astype("int64").to_numpy()


class _Tables(FlavorSuite):
    @pytest.fixture
    def data(self, table):
        return table[:5]


class TestXgboostEstimator(_Tables):
    name = "xgboost"

    @pytest.fixture
    def model(self, table, labels):
        xgboost = pytest.importorskip("xgboost")
        return xgboost.XGBClassifier(n_estimators=3, max_depth=2).fit(table, labels)


class TestXgboostBooster(_Tables):
    name = "xgboost"

    @pytest.fixture
    def model(self, table, labels):
        xgboost = pytest.importorskip("xgboost")
        return xgboost.train({"max_depth": 2}, xgboost.DMatrix(table, labels), 3)

    def predictions(self, model, data):
        import xgboost

        return model.predict(xgboost.DMatrix(data))


class TestLightgbmEstimator(_Tables):
    name = "lightgbm"

    @pytest.fixture
    def model(self, table, labels):
        lightgbm = pytest.importorskip("lightgbm")
        return lightgbm.LGBMClassifier(n_estimators=3, min_child_samples=2, verbose=-1).fit(table, labels)


class TestLightgbmBooster(_Tables):
    name = "lightgbm"

    @pytest.fixture
    def model(self, table, labels):
        lightgbm = pytest.importorskip("lightgbm")
        params = {"min_data_in_leaf": 2, "verbose": -1, "objective": "binary"}
        return lightgbm.train(params, lightgbm.Dataset(table, labels), 3)


class TestOnnx(FlavorSuite):
    name = "onnx"

    @pytest.fixture
    def data(self, table):
        return table[:5].to_numpy(np.float32)

    @pytest.fixture
    def model(self, table, labels):
        pytest.importorskip("onnxruntime")
        skl2onnx = pytest.importorskip("skl2onnx")
        from sklearn.linear_model import LogisticRegression

        trained = LogisticRegression().fit(table.to_numpy(np.float32), labels)
        return skl2onnx.to_onnx(trained, table[:1].to_numpy(np.float32), options={"zipmap": False})

    def predictions(self, model, data):
        import onnxruntime

        session = onnxruntime.InferenceSession(model.SerializeToString())
        names = [one.name for one in session.get_outputs()]
        return dict(zip(names, session.run(None, {session.get_inputs()[0].name: data}), strict=True))


class TestTorchLayers(FlavorSuite):
    name = "pytorch"

    @pytest.fixture
    def data(self, table):
        return table[:5].to_numpy(np.float32)

    @pytest.fixture
    def model(self):
        nn = pytest.importorskip("torch.nn")
        return nn.Sequential(
            nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Sequential(nn.ReLU(), nn.Dropout(0.5)), nn.Linear(4, 1)
        )

    def predictions(self, model, data):
        import torch

        with torch.no_grad():
            return model.eval()(torch.tensor(data)).numpy()


NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=3):
        super().__init__()
        self.inner = nn.Linear(2, width)
        self.outer = nn.Linear(width, 1)

    def forward(self, x):
        return self.outer(torch.relu(self.inner(x)))
"""


class TestTorchClass(FlavorSuite):
    """A class of one's own: a reference, with its module in the model."""

    name = "pytorch"
    carries_code = True

    @pytest.fixture(autouse=True)
    def module(self, tmp_path, monkeypatch):
        pytest.importorskip("torch")
        path = tmp_path / "gml_test_net.py"
        path.write_text(NET)
        monkeypatch.syspath_prepend(str(tmp_path))
        before = list(sys.path)
        yield path
        sys.path[:] = before
        sys.modules.pop("gml_test_net", None)

    @pytest.fixture
    def data(self, table):
        return table[:5].to_numpy(np.float32)

    @pytest.fixture
    def model(self):
        import gml_test_net

        return gml_test_net.Net(width=5)

    @property
    def options(self):
        return {"init_args": {"width": 5}}

    @pytest.fixture
    def folder(self, flavor, model, data, tmp_path):
        from gml.models.save import SaveOptions, save_model

        target = tmp_path / "saved" / "model"
        module = Path(sys.modules["gml_test_net"].__file__)
        options = SaveOptions(input_example=data, options=self.options, code_paths=[module])
        save_model(model, target, flavor, options)
        return target

    def predictions(self, model, data):
        import torch

        with torch.no_grad():
            return model.eval()(torch.tensor(data)).numpy()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
class TestKeras(FlavorSuite):
    name = "keras"

    @pytest.fixture
    def data(self, table):
        return table[:5].to_numpy(np.float32)

    @pytest.fixture
    def model(self, monkeypatch, table, labels):
        monkeypatch.setenv("KERAS_BACKEND", "torch")
        keras = pytest.importorskip("keras")
        inputs = keras.Input((2,))
        hidden = keras.layers.Dense(3, activation="relu", kernel_regularizer="l2")(inputs)
        model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Dropout(0.1)(hidden)))
        model.compile(optimizer="adam", loss="mse", metrics=["mae"])
        model.fit(table.to_numpy(np.float32), labels, epochs=1, verbose=0)
        return model

    def predictions(self, model, data):
        return model.predict(data, verbose=0)


class TestTransformers(FlavorSuite):
    name = "transformers"
    tolerance = 1e-5

    @pytest.fixture
    def data(self):
        return ["good film", "bad film"]

    @pytest.fixture
    def model(self, tmp_path):
        transformers = pytest.importorskip("transformers")
        pytest.importorskip("torch")
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film"]
        (tmp_path / "vocab.txt").write_text("\n".join(words))
        tokenizer = transformers.BertTokenizer(str(tmp_path / "vocab.txt"))
        config = transformers.BertConfig(
            vocab_size=len(words), hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=8, max_position_embeddings=16,
        )  # fmt: skip
        model = transformers.BertForSequenceClassification(config).eval()
        return transformers.pipeline("text-classification", model=model, tokenizer=tokenizer)

    def predictions(self, model, data):
        return pd.DataFrame(model(data))
