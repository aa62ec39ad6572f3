"""Folders of each framework's models load both ways: ours with MLflow, MLflow's with gml.

`make compat` installs MLflow and runs this; a framework that is not installed is skipped.
"""

import numpy as np
import pandas as pd
import pytest

pytestmark = [pytest.mark.compat, pytest.mark.timeout(600)]
mlflow = pytest.importorskip("mlflow")

from gml.models.files import ModelFiles  # noqa: E402
from gml.models.flavor import LoadOptions, get_flavor  # noqa: E402
from gml.models.loaded import load_model, load_native  # noqa: E402
from gml.models.save import SaveOptions, save_model  # noqa: E402

CODE = LoadOptions(code=True)


@pytest.fixture(autouse=True)
def _pickles_allowed(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")


@pytest.fixture(scope="module")
def table():
    generator = np.random.default_rng(1)
    return pd.DataFrame({"age": generator.uniform(18, 80, 60), "calls": generator.uniform(0, 9, 60)})


@pytest.fixture(scope="module")
def labels(table):
    return (table["age"] > 45).astype("int64")


def plain(value):
    if isinstance(value, dict):
        return np.concatenate([np.asarray(one, float).reshape(-1) for one in value.values()])
    return np.asarray(value, dtype=float).reshape(-1)


def both_ways(name, model, data, tmp_path, theirs=None, **options):
    """Save with either, load with the other as a function and as the framework's own object."""
    module = getattr(mlflow, name)
    save_model(model, tmp_path / "ours", get_flavor(name), SaveOptions(input_example=data, **options))
    expected = load_model(ModelFiles.of_folder(tmp_path / "ours"), CODE).predict(data)
    foreign = mlflow.pyfunc.load_model(str(tmp_path / "ours"))
    np.testing.assert_allclose(plain(foreign.predict(data)), plain(expected), rtol=1e-5)
    (theirs or module.save_model)(model, path=str(tmp_path / "theirs"))
    files = ModelFiles.of_folder(tmp_path / "theirs")
    found = load_model(files, CODE)
    np.testing.assert_allclose(plain(found.predict(data)), plain(expected), rtol=1e-5)
    assert load_native(files, name, CODE) is not None
    return found


@pytest.mark.parametrize("fmt", ["ubj", "json"])
def test_xgboost(tmp_path, table, labels, fmt):
    xgboost = pytest.importorskip("xgboost")
    model = xgboost.XGBClassifier(n_estimators=3).fit(table, labels)
    found = both_ways("xgboost", model, table, tmp_path, fmt=fmt)
    assert found.format_class == "data"
    (tmp_path / "booster").mkdir()
    booster = xgboost.train({}, xgboost.DMatrix(table, labels), 2)
    both_ways("xgboost", booster, table, tmp_path / "booster", fmt=fmt)
    native = mlflow.xgboost.load_model(str(tmp_path / "ours"))
    assert type(native) is xgboost.XGBClassifier


@pytest.mark.parametrize("fmt", ["text", "cloudpickle"])
def test_lightgbm(tmp_path, table, labels, fmt):
    lightgbm = pytest.importorskip("lightgbm")
    model = lightgbm.LGBMClassifier(n_estimators=3, verbose=-1).fit(table, labels)
    both_ways("lightgbm", model, table, tmp_path, fmt=fmt)
    (tmp_path / "booster").mkdir()
    booster = lightgbm.train({"verbose": -1}, lightgbm.Dataset(table, labels), 2)
    found = both_ways("lightgbm", booster, table, tmp_path / "booster")
    assert found.format_class == "data"


def test_onnx(tmp_path, table, labels):
    pytest.importorskip("onnxruntime")
    skl2onnx = pytest.importorskip("skl2onnx")
    from sklearn.linear_model import LogisticRegression

    data = table.to_numpy(np.float32)
    trained = LogisticRegression().fit(data, labels)
    model = skl2onnx.to_onnx(trained, data[:1], options={"zipmap": False})
    assert both_ways("onnx", model, data, tmp_path).format_class == "data"


@pytest.mark.parametrize("fmt", ["safetensors", "pickle"])
def test_pytorch(tmp_path, table, fmt):
    nn = pytest.importorskip("torch.nn")
    data = table.to_numpy(np.float32)
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).eval()

    def theirs(model, path):
        mlflow.pytorch.save_model(model, path, serialization_format="pickle")

    found = both_ways("pytorch", model, data, tmp_path, theirs, fmt=fmt)
    assert found.format_class == "code"
    files = ModelFiles.of_folder(tmp_path / "ours")
    assert load_model(files, CODE).format_class == ("data" if fmt == "safetensors" else "code")


def test_keras(tmp_path, table, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    found = both_ways("keras", model, table.to_numpy(np.float32), tmp_path)
    assert found.format_class == "data"


def test_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=8, max_position_embeddings=16,
    )  # fmt: skip
    model = transformers.pipeline(
        "text-classification",
        model=transformers.BertForSequenceClassification(config).eval(),
        tokenizer=transformers.BertTokenizer(str(tmp_path / "vocab.txt")),
    )
    data = ["good film", "bad film"]
    save_model(model, tmp_path / "ours", get_flavor("transformers"), SaveOptions(input_example=data))
    expected = pd.DataFrame(model(data))
    foreign = mlflow.pyfunc.load_model(str(tmp_path / "ours")).predict(data)
    np.testing.assert_allclose(foreign["score"], expected["score"], rtol=1e-5)
    mlflow.transformers.save_model(
        model, path=str(tmp_path / "theirs"), input_example=data, pip_requirements=["transformers", "torch"]
    )
    found = load_model(ModelFiles.of_folder(tmp_path / "theirs"))
    assert found.format_class == "data"
    np.testing.assert_allclose(found.predict(data)["score"], expected["score"], rtol=1e-5)
