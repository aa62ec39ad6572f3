"""Crafted models of each framework: refused by name before the framework is even imported."""

import io
import json
import pickle
import struct
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from test_load_policy import Bomb, external, field, onnx, zipped

from gml.domain.errors import GmlError, TrustError
from gml.models import policy
from gml.models.files import ModelFiles
from gml.models.flavor import LoadOptions
from gml.models.flavors import keras_archive, torch_layers
from gml.models.loaded import load_model

FRAMEWORKS = ("torch", "keras", "onnxruntime", "xgboost", "lightgbm", "transformers")


def model(top, name, conf, files, loader=None):
    """Write a model folder by hand."""
    flavors = {"python_function": {"loader_module": loader or f"mlflow.{name}"}, name: conf}
    for path, data in {**files, "MLmodel": yaml.safe_dump({"flavors": flavors}).encode()}.items():
        target = top / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return ModelFiles.of_folder(top)


def refused(files, said):
    """Hold that a model counts as code, for a reason, and that nothing of it ran."""
    before = {name for name in FRAMEWORKS if name in sys.modules}
    verdict = policy.judge(files, files.mlmodel())
    assert verdict.format_class == "code"
    assert said in "; ".join(map(str, verdict.findings))
    with pytest.raises(TrustError):
        load_model(files)
    assert {name for name in FRAMEWORKS if name in sys.modules} == before


@pytest.fixture
def bomb(tmp_path):
    yield pickle.dumps(Bomb(str(tmp_path / "exploded")), 4)
    assert not (tmp_path / "exploded").exists()


def safetensors():
    return struct.pack("<Q", 2) + b"{}"


# --- PyTorch ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["data/model.pth", "data/model.pt2"])
def test_pickles_of_pytorch(tmp_path, bomb, name):
    archive = zipped(**{"archive__data.pkl": bomb})
    conf = {"model_data": "data", "pytorch_version": "2.0"}
    refused(model(tmp_path / "zip", "pytorch", conf, {name: archive}), "data/model")
    refused(model(tmp_path / "raw", "pytorch", conf, {name: bomb}), "pickle")


def test_weights_that_are_a_pickle_are_never_tried_as_one(tmp_path, bomb):
    conf = {"model_data": "model.safetensors", "layers": {"class": "Sequential", "layers": {}}}
    files = model(tmp_path / "m", "pytorch", conf, {"model.safetensors": bomb}, "gml.models.flavors.pytorch")
    refused(files, "model.safetensors: pickle")
    with pytest.raises(GmlError):
        load_model(files, LoadOptions(code=True))


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        ({"model_class": "os.system"}, "the class os.system would be imported"),
        ({"layers": {"class": "Lambda", "args": {}}}, "the layer 'Lambda'"),
        ({"layers": {"class": "../torch", "args": {}}}, "the layer '../torch'"),
        ({"layers": {"class": "Linear", "args": {"in_features": {"a": 1}}}}, "no plain value"),
        ({"layers": {"class": "Linear", "args": [1, 2]}}, "arguments of Linear"),
        ({"layers": {"class": "Sequential", "layers": [1]}}, "no description"),
        ({"layers": "Linear"}, "no description"),
        ({}, "no description"),
    ],
)
def test_descriptions_of_layers(tmp_path, conf, said):
    conf = {"model_data": "model.safetensors", **conf}
    files = {"model.safetensors": safetensors()}
    refused(model(tmp_path / "m", "pytorch", conf, files, "gml.models.flavors.pytorch"), said)


def test_layers_that_are_nested_too_deep():
    described = {"class": "ReLU", "args": {}}
    for _ in range(500):
        described = {"class": "Sequential", "layers": {"0": described}}
    assert torch_layers.odd(described) == ["no description of its layers"]


# --- Keras ------------------------------------------------------------------------------------


def keras(config, **more):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("config.json", config if isinstance(config, str) else json.dumps(config))
        archive.writestr("metadata.json", "{}")
        for name, data in more.items():
            archive.writestr(name, data)
    return out.getvalue()


def layer(name, module="keras.layers", config=None, registered=None):
    inner = {"class_name": name, "module": module, "config": config or {}, "registered_name": registered}
    return {
        "class_name": "Sequential", "module": "keras", "registered_name": None, "config": {"layers": [inner]},
    }  # fmt: skip


def test_a_plain_model_of_keras_is_data(tmp_path):
    config = layer("Dense", config={"units": 1, "kernel_initializer": {
        "class_name": "GlorotUniform", "module": "keras.initializers", "config": {}, "registered_name": None}})  # fmt: skip
    assert keras_archive.odd(keras(config)) == []
    files = model(tmp_path / "m", "keras", {"data": "data"}, {"data/model.keras": keras(config)})
    assert policy.judge(files, files.mlmodel()).format_class == "data"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (layer("Lambda", config={"function": {"class_name": "__lambda__"}}), "the layer Lambda"),
        (
            layer("Dense", config={"activation": {"class_name": "__lambda__", "config": {}}}),
            "a function as bytes",
        ),
        (layer("TorchModuleWrapper"), "the layer TorchModuleWrapper"),
        (layer("TFSMLayer", config={"filepath": "/x"}), "the layer TFSMLayer"),
        (layer("function", "os", "system"), "os.system"),
        (layer("function", "builtins", "eval"), "the function eval"),
        (layer("get_file", "keras.utils"), "keras.utils.get_file"),
        (layer("run_command", "subprocess"), "subprocess.run_command"),
        (layer("Mine", "my.package", registered="my>Mine"), "my.package.Mine"),
        (layer("Dense", registered="Package>Dense"), "the registered class"),
        (layer("a.b", "keras"), "the class 'a.b'"),
        (layer("TextVectorization", config={"vocabulary": "/etc/passwd"}), "vocabulary in the file"),
        ({"class_name": 5}, "the class 5"),
        ("{", "cannot be read"),
        ("[" * 5_000 + "]" * 5_000, ""),
    ],
)
def test_models_of_keras_that_would_run_code_or_read_files(tmp_path, config, said):
    files = model(tmp_path / "m", "keras", {"data": "data"}, {"data/model.keras": keras(config)})
    refused(files, said)


def test_other_files_in_an_archive_of_keras(tmp_path, bomb):
    archive = keras(layer("Dense"), **{"assets/x.bin": b"x"})
    files = model(tmp_path / "m", "keras", {"data": "data"}, {"data/model.keras": archive})
    refused(files, "the file assets/x.bin")
    archive = keras(layer("Dense"), **{"assets/x.pkl": bomb})
    refused(
        model(tmp_path / "p", "keras", {"data": "data"}, {"data/model.keras": archive}), "zip with pickles"
    )


def test_a_saved_model_is_code(tmp_path):
    files = {"data/model/saved_model.pb": b"\x08\x01", "data/model/variables/x": b""}
    refused(
        model(tmp_path / "m", "keras", {"data": "data", "save_exported_model": True}, files), "saved_model.pb"
    )


# --- ONNX -------------------------------------------------------------------------------------


@pytest.mark.parametrize("location", ["../../etc/passwd", "/etc/passwd", "missing.bin", "a/../../b", "..\\x"])
def test_weights_of_onnx_outside_of_the_model(tmp_path, location):
    data = onnx(field(5, external(location)))
    files = model(tmp_path / "m", "onnx", {"data": "model.onnx"}, {"model.onnx": data})
    refused(files, f"model.onnx reads {location!r}")


def test_weights_of_onnx_in_the_model_are_data(tmp_path):
    data = onnx(field(5, external("weights.bin")))
    files = model(
        tmp_path / "m", "onnx", {"data": "model.onnx"}, {"model.onnx": data, "weights.bin": b"1234"}
    )
    assert policy.judge(files, files.mlmodel()).format_class == "data"


def test_libraries_of_a_session(tmp_path):
    conf = {"data": "model.onnx", "onnx_session_options": {"extra_session_config": {"session.x": "/evil.so"}}}
    refused(model(tmp_path / "m", "onnx", conf, {"model.onnx": onnx()}), "session.x")


# --- the others -------------------------------------------------------------------------------


def test_classes_that_are_not_xgboosts(tmp_path, bomb):
    data = b'{"learner": {}, "version": [3, 0, 0]}'
    conf = {"data": "model.json", "model_class": "os.path.join"}
    refused(model(tmp_path / "c", "xgboost", conf, {"model.json": data}), "the class os.path.join")
    refused(model(tmp_path / "p", "xgboost", {"data": "model.ubj"}, {"model.ubj": bomb}), "pickle")


def test_pickles_of_lightgbm(tmp_path, bomb):
    conf = {"data": "model.pkl", "model_class": "lightgbm.sklearn.LGBMClassifier"}
    refused(model(tmp_path / "e", "lightgbm", conf, {"model.pkl": bomb}), "model.pkl: pickle")
    refused(
        model(tmp_path / "b", "lightgbm", {"data": "model.lgb"}, {"model.lgb": bomb}), "model.lgb: pickle"
    )


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("model/config.json", b'{"auto_map": {"AutoModel": "evil.Model"}}', "names code in 'auto_map'"),
        (
            "model/config.json",
            b'{"custom_pipelines": {"x": {"impl": "evil"}}}',
            "names code in 'custom_pipelines'",
        ),
        (
            "components/tokenizer/tokenizer_config.json",
            b'{"auto_map": ["evil.T", null]}',
            "tokenizer_config.json",
        ),
        ("model/pytorch_model.bin", pickle.dumps({}), "pytorch_model.bin: pickle"),
        ("model/modeling.py", b"import os", "modeling.py"),
        ("model/model.safetensors", pickle.dumps({}), "model.safetensors: pickle"),
        ("model/vocab.txt", b"\xff\x00", "vocab.txt"),
    ],
)
def test_repositories_of_transformers(tmp_path, name, data, said):
    files = {"model/config.json": b"{}", name: data}
    conf = {"task": "text-classification", "model_binary": "model"}
    refused(model(tmp_path / "m", "transformers", conf, files), said)


def test_a_loader_of_another_flavor_does_not_count(tmp_path, bomb):
    conf = {"data": "model.json"}
    files = model(tmp_path / "m", "xgboost", conf, {"model.json": b"{}"}, loader="mlflow.sklearn")
    refused(files, "not one of gml's")
    assert Path(tmp_path / "m").is_dir()
