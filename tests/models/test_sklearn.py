"""The flavors of the default suite, through the conformance suite; and what only they do."""

import sys
from pathlib import Path

import cloudpickle
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from gml.domain.errors import ConflictError, InvalidValueError, NotFoundError, TrustError, UsageError
from gml.models.files import ModelFiles
from gml.models.flavor import LoadOptions, get_flavor
from gml.models.loaded import load_model, load_native
from gml.models.python_model import PythonModel
from gml.models.save import SaveOptions, find_flavor, save_model
from gml.testing.flavors import FlavorSuite

SKLEARN = get_flavor("sklearn")
PYFUNC = get_flavor("python_function")
CODE = LoadOptions(code=True)


class TestSklearn(FlavorSuite):
    name = "sklearn"

    @pytest.fixture
    def model(self, table, labels):
        return make_pipeline(StandardScaler(), LogisticRegression()).fit(table, labels)

    @pytest.fixture
    def data(self, table):
        return table[:5]


class Doubler(PythonModel):
    def load_context(self, context):
        self.bias = float(Path(context.artifacts["bias"]).read_text()) if context.artifacts else 0.0

    def predict(self, context, model_input, params=None):
        return model_input * (params or {}).get("factor", 2) + getattr(self, "bias", 0.0)


class TestPythonModel(FlavorSuite):
    name = "python_function"
    carries_code = True

    @pytest.fixture
    def model(self):
        # Pickled by value, as a model of a script is: the fresh process has no such module.
        cloudpickle.register_pickle_by_value(sys.modules[__name__])
        yield Doubler()
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])

    @pytest.fixture
    def data(self):
        return np.arange(6.0).reshape(3, 2)

    def predictions(self, model, data):
        return data * 2

    def test_artifacts_params_and_config(self, model, tmp_path):
        (tmp_path / "bias.txt").write_text("10")
        example = (np.ones((1, 2)), {"factor": 3.0})
        options = SaveOptions(
            input_example=example,
            signature=None,
            options={"artifacts": {"bias": tmp_path / "bias.txt"}, "model_config": {"a": 1}},
        )
        save_model(model, tmp_path / "model", PYFUNC, options)
        (tmp_path / "bias.txt").unlink()
        loaded = load_model(ModelFiles.of_folder(tmp_path / "model"), CODE)
        assert loaded.predict(np.ones((1, 2))).tolist() == [[13.0, 13.0]]
        assert loaded.predict(np.ones((1, 2)), {"factor": 5}).tolist() == [[15.0, 15.0]]
        assert loaded.metadata.pyfunc["config"] == {"a": 1}
        assert loaded.unwrap_python_model().bias == 10.0


def test_hints_of_a_function_are_its_signature(tmp_path):
    def lengths(texts: list[str]) -> list[int]:
        return [len(text) for text in texts]

    save_model(lengths, tmp_path / "model", PYFUNC, SaveOptions(input_example=["a"]))
    loaded = load_model(ModelFiles.of_folder(tmp_path / "model"), CODE)
    assert repr(loaded.metadata.signature.inputs) == "[string (required)]"
    assert loaded.predict(["a", "bcd"]) == [1, 3]
    assert loaded.predict(pd.DataFrame({"texts": ["ab"]})) == [2]
    with pytest.raises(InvalidValueError, match="item 1"):
        loaded.predict(["a", 3])


def test_a_script_is_a_model(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import gml.models\n"
        "from helper import add\n"
        "gml.models.set_model(lambda model_input: [add(one) for one in model_input])\n"
    )
    (tmp_path / "helper.py").write_text("def add(x):\n    return x + 1\n")
    save_model(script, tmp_path / "model", PYFUNC, SaveOptions(code_paths=[tmp_path / "helper.py"]))
    (tmp_path / "helper.py").unlink()
    with pytest.raises(TrustError, match=r"script.py: unknown; code: 1 files"):
        load_model(ModelFiles.of_folder(tmp_path / "model"))
    assert load_model(ModelFiles.of_folder(tmp_path / "model"), CODE).predict([1, 2]) == [2, 3]


def test_what_cannot_be_saved_says_why(tmp_path, table, labels):
    with pytest.raises(UsageError, match="is a class"):
        save_model(Doubler, tmp_path / "a", PYFUNC)
    scaler = make_pipeline(FunctionTransformer(lambda frame: frame), LogisticRegression()).fit(table, labels)
    with pytest.raises(InvalidValueError, match="cloudpickle"):
        save_model(scaler, tmp_path / "b", SKLEARN)
    model = LogisticRegression().fit(table, labels)
    with pytest.raises(InvalidValueError, match="cannot predict its input example"):
        save_model(model, tmp_path / "c", SKLEARN, SaveOptions(input_example=np.ones((1, 7))))
    with pytest.raises(NotFoundError, match="code_paths"):
        save_model(model, tmp_path / "d", SKLEARN, SaveOptions(code_paths=[tmp_path / "none.py"]))
    assert list(tmp_path.iterdir()) == []


def test_a_model_can_be_asked_for_probabilities(tmp_path, table, labels):
    model = LogisticRegression().fit(table, labels)
    options = SaveOptions(options={"pyfunc_predict_fn": "predict_proba"})
    save_model(model, tmp_path / "model", SKLEARN, options)
    loaded = load_model(ModelFiles.of_folder(tmp_path / "model"))
    np.testing.assert_allclose(loaded.predict(table), model.predict_proba(table))


def test_the_native_flavor_must_be_there(tmp_path, table, labels):
    save_model(LogisticRegression().fit(table, labels), tmp_path / "model", SKLEARN)
    with pytest.raises(UsageError, match=r"no flavor 'xgboost'; it has .*sklearn"):
        load_native(ModelFiles.of_folder(tmp_path / "model"), "xgboost")
    assert find_flavor(LogisticRegression()).name == "sklearn"
    assert find_flavor(len).name == "python_function"
    with pytest.raises(UsageError):
        find_flavor(object())


def test_another_version_is_warned_about(tmp_path, table, labels, caplog):
    target = tmp_path / "model"
    save_model(LogisticRegression().fit(table, labels), target, SKLEARN)
    text = (target / "requirements.txt").read_text().replace(
        "skops==", "skops==0.1."
    ) + "no-such-thing==1.0\n"
    (target / "requirements.txt").write_text(text)
    mlmodel = target / "MLmodel"
    mlmodel.write_text(mlmodel.read_text().replace("python_version: 3.", "python_version: 2."))
    load_model(ModelFiles.of_folder(target))
    said = caplog.text
    assert "the model was saved with 0.1." in said
    assert "no-such-thing is not installed, the model was saved with 1.0" in said
    assert "Python is 3." in said


def test_an_existing_empty_folder_will_do(tmp_path, table, labels):
    model = LogisticRegression().fit(table, labels)
    (tmp_path / "empty").mkdir()
    save_model(model, tmp_path / "empty", SKLEARN)
    assert (tmp_path / "empty" / "MLmodel").is_file()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConflictError):
        save_model(model, tmp_path / "file", SKLEARN)
    assert (tmp_path / "file").read_text() == "mine"
