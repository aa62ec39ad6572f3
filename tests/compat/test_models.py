"""Folders load both ways, and `gml models serve` answers as `mlflow models serve` does on the same model.

`make compat` installs MLflow and runs this.
"""

import http.client
import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pandas as pd
import pytest

pytestmark = [pytest.mark.compat, pytest.mark.timeout(600)]
mlflow = pytest.importorskip("mlflow")

from sklearn.ensemble import RandomForestClassifier  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402

from gml.models.files import ModelFiles  # noqa: E402
from gml.models.flavor import LoadOptions, get_flavor  # noqa: E402
from gml.models.loaded import load_model, load_native  # noqa: E402
from gml.models.python_model import PythonModel  # noqa: E402
from gml.models.save import SaveOptions, save_model  # noqa: E402

CODE = LoadOptions(code=True)
REQUESTS = 400


@pytest.fixture(autouse=True)
def _pickles_allowed(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")


@pytest.fixture(scope="module")
def table():
    generator = np.random.default_rng(1)
    return pd.DataFrame({"age": generator.uniform(18, 80, 60), "calls": generator.integers(0, 9, 60)})


def labels(table):
    return (table["age"] > 45).astype("int64")


ESTIMATORS = {
    "logistic": LogisticRegression,
    "pipeline": lambda: make_pipeline(StandardScaler(), LogisticRegression()),
    "forest": lambda: RandomForestClassifier(5, random_state=0),
}


# --- folders ----------------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", ["skops", "cloudpickle", "pickle"])
@pytest.mark.parametrize("kind", ESTIMATORS)
def test_scikit_learn_both_ways(tmp_path, table, kind, fmt):
    model = ESTIMATORS[kind]().fit(table, labels(table))
    expected = model.predict(table)
    save_model(model, tmp_path / "ours", get_flavor("sklearn"), SaveOptions(fmt=fmt, input_example=table[:3]))
    assert (mlflow.pyfunc.load_model(str(tmp_path / "ours")).predict(table) == expected).all()
    assert (mlflow.sklearn.load_model(str(tmp_path / "ours")).predict(table) == expected).all()
    mlflow.sklearn.save_model(
        model, str(tmp_path / "theirs"), serialization_format=fmt, input_example=table[:3],
        skops_trusted_types=["sklearn.tree._tree.Tree"] if fmt == "skops" else None,
        signature=mlflow.models.infer_signature(table, expected),
    )  # fmt: skip
    files = ModelFiles.of_folder(tmp_path / "theirs")
    loaded = load_model(files, CODE)
    assert (loaded.predict(table) == expected).all()
    assert loaded.format_class == ("data" if fmt == "skops" else "code")
    assert (load_native(files, "sklearn", CODE).predict(table) == expected).all()
    pd.testing.assert_frame_equal(loaded.input_example, table[:3])


def test_the_signature_and_the_example_are_written_alike(tmp_path, table):
    model = LogisticRegression().fit(table, labels(table))
    save_model(
        model, tmp_path / "ours", get_flavor("sklearn"), SaveOptions(input_example=(table[:3], {"t": 0.5}))
    )
    mlflow.sklearn.save_model(model, str(tmp_path / "theirs"), input_example=(table[:3], {"t": 0.5}))
    ours = mlflow.models.Model.load(str(tmp_path / "ours"))
    theirs = mlflow.models.Model.load(str(tmp_path / "theirs"))
    assert ours.signature == theirs.signature
    assert ours.saved_input_example_info == theirs.saved_input_example_info
    for name in ("input_example.json", "serving_input_example.json"):
        mine, other = (json.loads((tmp_path / side / name).read_text()) for side in ("ours", "theirs"))
        assert mine == other
    pd.testing.assert_frame_equal(ours.load_input_example(str(tmp_path / "ours")), table[:3])
    assert set(theirs.flavors["sklearn"]) == set(ours.flavors["sklearn"])
    assert set(theirs.flavors["python_function"]) == set(ours.flavors["python_function"])


DATA = {
    "frame": pd.DataFrame({"a": [1, 2], "b": [0.5, None], "c": ["x", None], "d": [True, False]}),
    "nested": pd.DataFrame({"l": [[1], [2, 3]], "o": [{"k": 1}, {"k": 2, "m": "s"}]}),
    "times": pd.DataFrame({"t": pd.to_datetime(["2026-01-02", "2026-01-03"])}),
    "series": pd.Series([1.0, 2.0], name="y"),
    "array": np.zeros((2, 3), np.float32),
    "texts": np.array(["a", "bb"]),
    "arrays": {"x": np.zeros((2, 2)), "y": np.zeros(2, np.int64)},
    "list": ["a", "b"],
    "numbers": [1, 2],
    "records": [{"a": 1, "b": "x"}, {"a": 2, "b": None}],
    "dict": {"a": 1, "b": ["x"], "c": {"d": 1.5}},
    "scalar": 3.5,
    "text": "x",
}


@pytest.mark.parametrize("kind", DATA)
def test_schemas_are_inferred_alike(kind):
    from gml.models.inference import infer_schema

    theirs = mlflow.types.utils._infer_schema(DATA[kind])
    assert infer_schema(DATA[kind]).to_dict() == json.loads(theirs.to_json())


@pytest.mark.parametrize(
    "params", [{"a": 1, "b": 0.5, "c": "x", "d": True}, {"l": [1, 2], "m": ["x"]}, {"o": {"k": 1, "l": "x"}}]
)
def test_params_are_inferred_alike(params):
    from gml.models.inference import infer_params

    theirs = mlflow.types.utils._infer_param_schema(params)
    assert infer_params(params).to_dict() == json.loads(theirs.to_json())


class Ours(PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input * (params or {}).get("factor", 2)


class Theirs(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        self.loaded = True

    def predict(self, context, model_input, params=None):
        return model_input * 2 if self.loaded else None


def by_value():
    import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])


LOAD_WITHOUT_GML = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name == "gml" or name.startswith("gml."):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocked())
import mlflow, numpy as np
print(mlflow.pyfunc.load_model(sys.argv[1]).predict(np.ones((1, 2))).tolist())
"""
LOAD_WITHOUT_MLFLOW = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name == "mlflow" or name.startswith("mlflow."):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
import gml, numpy as np
print(gml.load_model(sys.argv[1], trust="code").predict(np.ones((1, 2))).tolist())
"""


@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_python_models_both_ways_and_without_the_other(tmp_path, side):
    by_value()
    folder = str(tmp_path / "model")
    if side == "ours":
        save_model(Ours(), folder, get_flavor("python_function"), SaveOptions(input_example=np.zeros((1, 2))))
        script = LOAD_WITHOUT_GML
    else:
        mlflow.pyfunc.save_model(folder, python_model=Theirs(), input_example=np.zeros((1, 2)))
        script = LOAD_WITHOUT_MLFLOW
    assert mlflow.pyfunc.load_model(folder).predict(np.ones((1, 2))).tolist() == [[2.0, 2.0]]
    assert load_model(ModelFiles.of_folder(folder), CODE).predict(np.ones((1, 2))).tolist() == [[2.0, 2.0]]
    done = subprocess.run([sys.executable, "-c", script, folder], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[[2.0, 2.0]]", done.stderr


# --- serving ----------------------------------------------------------------------------------


def free_port():
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def peer_environment():
    """MLflow starts `uvicorn` by its name."""
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])  # noqa: PTH120
    return {**os.environ, "PATH": path, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "true"}


class Peer:
    """A real scoring server."""

    def __init__(self, *command):
        self.port = free_port()
        self.process = subprocess.Popen(
            [*command, "-p", str(self.port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=peer_environment(), start_new_session=True,
        )  # fmt: skip
        end = time.monotonic() + 120
        while True:
            try:
                if self.ask(b"", "", "GET", "/ping")[0] == 200:
                    return
            except OSError:
                assert time.monotonic() < end, command
                assert self.process.poll() is None, command
                threading.Event().wait(0.1)

    def ask(self, body, content_type, method="POST", path="/invocations"):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {"Content-Type": content_type} if content_type else {})
            answer = connection.getresponse()
            return answer.status, answer.getheader("content-type") or "", answer.read()
        finally:
            connection.close()

    def stop(self):
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(30)


class Typed(mlflow.pyfunc.PythonModel):
    """Answers with what it got: the types of its columns and their values."""

    def predict(self, context, model_input, params=None):
        kinds = {name: str(model_input[name].dtype) for name in model_input}
        return {"kinds": kinds, "values": model_input.astype(str).to_dict("list"), "params": params}


def typed_signature():
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    columns = [ColSpec(kind, kind) for kind in ("double", "long", "integer", "float", "string", "boolean")]
    columns += [ColSpec("datetime", "datetime", required=False), ColSpec("double", "maybe", required=False)]
    params = ParamSchema([ParamSpec("t", "double", 0.5), ParamSpec("n", "long", [1], (-1,))])
    return mlflow.models.ModelSignature(Schema(columns), params=params)


@pytest.fixture(scope="module")
def models(tmp_path_factory, table):
    top = tmp_path_factory.mktemp("models")
    model = LogisticRegression().fit(table, labels(table))
    signature = mlflow.models.infer_signature(table, model.predict(table))
    mlflow.sklearn.save_model(model, str(top / "linear"), signature=signature)
    by_value()
    mlflow.pyfunc.save_model(str(top / "typed"), python_model=Typed(), signature=typed_signature())
    mlflow.pyfunc.save_model(
        str(top / "tensor"), python_model=Theirs(),
        signature=mlflow.models.infer_signature(np.zeros((1, 2)), np.zeros((1, 2))),
    )  # fmt: skip
    mlflow.pyfunc.save_model(str(top / "free"), python_model=Theirs())
    return top


VALUES = {
    "double": [0.5, 1, -3, None, "x", True, 1e300, "1.5"],
    "long": [1, -7, 2.0, 2.5, None, "3", "x", True, 2**62, 10**30],
    "integer": [1, 2**31 - 1, 2**31, 1.0, None, "x", False],
    "float": [0.5, 1, 1e30, None, "y"],
    "string": ["a", "", "ü", None, 3, 1.5, True],
    "boolean": [True, False, 0, 1, None, "true"],
    "datetime": ["2026-01-02", "2026-01-02T03:04:05", "x", 3, None],
    "maybe": [0.5, None, "x"],
    "age": [20.0, 70, None, "x", 1e999],
    "calls": [1, 2, 2.0, 2.5, None, "x"],
    "extra": [1, "x", None],
}


def cell(dice, name, wild):
    return dice.choice(VALUES[name]) if dice.random() < wild else VALUES[name][0]


def make_request(dice, names):
    wild = dice.choice([0, 0, 0.1, 0.4])
    columns = [name for name in names if dice.random() > 0.04]
    if dice.random() < 0.2:
        columns.append("extra")
    if dice.random() < 0.3:
        dice.shuffle(columns)
    count = dice.choice([1, 1, 2, 3, 0] if wild else [1, 2])
    rows = [[cell(dice, name, wild) for name in columns] for _ in range(count)]
    if wild and rows and dice.random() < 0.1:
        rows[0] = rows[0][:-1]
    records = [dict(zip(columns, row, strict=False)) for row in rows]
    if wild and records and dice.random() < 0.1:
        records[0].pop(next(iter(records[0]), ""), None)
    shape = dice.randrange(8)
    body = {
        0: {"dataframe_split": {"columns": columns, "data": rows}},
        1: {"dataframe_split": {"columns": columns, "data": rows, "index": list(range(5, 5 + count))}},
        2: {"dataframe_records": records},
        3: {"instances": records},
        4: {"inputs": {name: [row[at] for row in rows if at < len(row)] for at, name in enumerate(columns)}},
        5: {"inputs": records},
        6: {"dataframe_split": {"data": rows}},
        7: {
            "dataframe_records": records,
            "params": dice.choice([{}, {"t": 1}, {"t": "x"}, {"n": [2]}, {"n": 2}, 7]),
        },
    }[shape]
    if dice.random() < 0.05:
        body = dice.choice([body.get("inputs", []), {**body, "instances": []}, {}, {"data": rows}])
    return json.dumps(body).encode(), "application/json"


def make_tensor(dice, _names):
    good = [[0.5, 1.0], [2.0, 3.0]]
    odd = [
        [[1, 2]],
        [[1, 2, 3]],
        [1, 2],
        [],
        [["a", "b"]],
        [[1], [2, 3]],
        [[True, False]],
        [[None, 1]],
        3,
        "x",
        {},
    ]
    value = good if dice.random() < 0.4 else dice.choice(odd)
    key = dice.choice(["inputs", "instances"])
    if dice.random() < 0.2:
        return json.dumps(
            {"dataframe_split": {"data": value if isinstance(value, list) else []}}
        ).encode(), "application/json"
    return json.dumps({key: value}).encode(), "application/json"


def make_csv(dice, names):
    columns = [name for name in names if dice.random() > 0.05]
    rows = [[cell(dice, name, dice.choice([0, 0.3])) for name in columns] for _ in range(2)]
    lines = [",".join(columns), *(",".join("" if one is None else str(one) for one in row) for row in rows)]
    return "\n".join(lines).encode(), "text/csv"


def verdict(status, kind, body):
    if status == 200:
        return status, json.loads(body)
    if kind.startswith("text/plain"):
        return status, "text"
    shape = json.loads(body)
    return status, (shape["error_code"], shape["sqlstate"], shape["error_class"])


def same(one, other):
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return type(one) is type(other) and one == other


@pytest.mark.parametrize(
    ("model", "names", "makers"),
    [
        ("linear", ["age", "calls"], [make_request, make_request, make_csv]),
        ("typed", ["double", "long", "integer", "float", "string", "boolean", "datetime", "maybe"],
         [make_request, make_request, make_csv]),
        ("tensor", [], [make_tensor]),
        ("free", ["age", "calls"], [make_request, make_tensor]),
    ],
)  # fmt: skip
def test_generated_requests_get_the_same_answer(models, model, names, makers):
    dice = random.Random(model)
    theirs = Peer(
        sys.executable, "-m", "mlflow", "models", "serve", "-m", str(models / model), "--env-manager", "local"
    )
    ours = Peer(sys.executable, "-m", "gml", "models", "serve", "-m", str(models / model), "--trust", "code")
    different, statuses = [], {}
    try:
        for _ in range(REQUESTS):
            body, kind = dice.choice(makers)(dice, names)
            expected = theirs.ask(body, kind)
            actual = ours.ask(body, kind)
            statuses[expected[0]] = statuses.get(expected[0], 0) + 1
            if expected[0] == 500:
                # MLflow falls over, such as on NaN in a list; we answer, or say what is wrong.
                if actual[0] >= 500:
                    different.append((body, expected, actual))
            elif not same(verdict(*expected), verdict(*actual)):
                different.append((body, expected[2][:400], actual[2][:400]))
    finally:
        theirs.stop()
        ours.stop()
    print(f"{model}: {REQUESTS} requests, {statuses}, {len(different)} differ")
    assert not different, f"{len(different)} of {REQUESTS}:\n" + "\n".join(map(str, different[:12]))
    assert statuses.get(200, 0) > REQUESTS // 8
    assert statuses.get(400, 0) > REQUESTS // 20
