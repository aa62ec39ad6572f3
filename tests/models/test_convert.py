"""Conversions: the same predictions in a format without code, or one line that says why not."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from gml.cli.main import run
from gml.domain.errors import InvalidValueError, TrustError, UsageError
from gml.models.convert import convert
from gml.models.files import ModelFiles
from gml.models.flavor import LoadOptions, get_flavor
from gml.models.loaded import load_model
from gml.models.save import SaveOptions, save_model

CODE = LoadOptions(code=True)
SKLEARN = get_flavor("sklearn")


@pytest.fixture
def pickled(table, labels, tmp_path):
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(table, labels)
    save_model(model, tmp_path / "old", SKLEARN, SaveOptions(fmt="pickle", input_example=table[:4]))
    return tmp_path / "old"


def test_a_pickle_becomes_skops(pickled, table, tmp_path, capsys):
    with pytest.raises(TrustError):
        convert(ModelFiles.of_folder(pickled), "skops", tmp_path / "new", LoadOptions())
    command = [
        "models",
        "convert",
        "-m",
        str(pickled),
        "--to",
        "skops",
        "-o",
        str(tmp_path / "new"),
        "--trust",
        "code",
    ]
    assert run(command) == 0
    assert "as skops is in" in capsys.readouterr().err
    new, old = (
        load_model(ModelFiles.of_folder(tmp_path / "new")),
        load_model(ModelFiles.of_folder(pickled), CODE),
    )
    assert new.format_class == "data"
    assert (new.predict(table) == old.predict(table)).all()
    assert new.metadata.signature == old.metadata.signature
    assert new.metadata.metadata == {"converted_from": old.digest}


def test_ways_that_there_are_not(pickled, tmp_path):
    with pytest.raises(UsageError, match="no way from sklearn to safetensors"):
        convert(ModelFiles.of_folder(pickled), "safetensors", tmp_path / "new", CODE)
    odd = make_pipeline(FunctionTransformer(len)).fit([[1.0]])
    save_model(odd, tmp_path / "odd", SKLEARN, SaveOptions(fmt="cloudpickle"))
    with pytest.raises(InvalidValueError):
        convert(ModelFiles.of_folder(tmp_path / "odd"), "skops", tmp_path / "new", CODE)
    assert not (tmp_path / "new").exists()


@pytest.mark.heavy
def test_scikit_learn_becomes_onnx(pickled, table, tmp_path):
    pytest.importorskip("skl2onnx")
    pytest.importorskip("onnxruntime")
    convert(ModelFiles.of_folder(pickled), "onnx", tmp_path / "new", CODE)
    new = load_model(ModelFiles.of_folder(tmp_path / "new"))
    found = new.predict(table.to_numpy(np.float32))
    old = load_model(ModelFiles.of_folder(pickled), CODE).predict(table)
    assert (next(iter(found.values())) == old).all()


@pytest.mark.heavy
def test_pytorch_becomes_safetensors(tmp_path):
    nn = pytest.importorskip("torch.nn")
    flavor = get_flavor("pytorch")
    data = np.ones((2, 3), np.float32)
    model = nn.Sequential(nn.Linear(3, 2), nn.Tanh())
    save_model(model, tmp_path / "old", flavor, SaveOptions(fmt="pickle", input_example=data))
    convert(ModelFiles.of_folder(tmp_path / "old"), "safetensors", tmp_path / "new", CODE)
    new = load_model(ModelFiles.of_folder(tmp_path / "new"))
    old = load_model(ModelFiles.of_folder(tmp_path / "old"), CODE)
    assert new.format_class == "data"
    assert np.allclose(new.predict(data), old.predict(data))
