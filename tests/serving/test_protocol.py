"""The scoring protocol without a network: statuses, shapes, and the short way against the long one."""

import io
import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_lab import scorer_of

from gml.models import parse
from gml.models.enforce import enforce_schema
from gml.models.flavor import get_flavor
from gml.models.save import SaveOptions, save_model
from gml.models.schema import AnyType, ColSpec, ModelSignature, ParamSchema, ParamSpec, Schema, TensorSpec
from gml.serving import encode
from gml.serving.errors import ProtocolError
from gml.serving.fast import FastFrames

JSON = "application/json"
GOOD = {"dataframe_split": {"columns": ["age", "calls"], "data": [[20.0, 1], [70, 9]]}}
BAD, SCHEMA = (
    ("BAD_REQUEST", "KAM00", "INVALID_PARAMETER_VALUE"),
    (
        "INVALID_PARAMETER_VALUE",
        "KAM01",
        "SCHEMA_ENFORCEMENT_FAILED",
    ),
)


def ask(scorer, body, content_type=JSON):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return scorer.score(data, content_type)


def split(columns, data, **more):
    return {"dataframe_split": {"columns": columns, "data": data, **more}}


@pytest.mark.parametrize(
    "body",
    [
        GOOD,
        split(["calls", "age"], [[1, 20.0], [9, 70]]),
        split(["age", "calls", "more"], [[20.0, 1, "x"], [70, 9, None]]),
        split(["age", "calls"], [[20.0, 1], [70, 9]], index=[5, 6]),
        {"dataframe_records": [{"age": 20.0, "calls": 1}, {"calls": 9, "age": 70}]},
        {"dataframe_records": [{"age": 20.0, "calls": 1, "x": 1}, {"calls": 9, "age": 70}]},
        {"instances": [{"age": 20.0, "calls": 1}, {"age": 70, "calls": 9}]},
        {"inputs": {"age": [20.0, 70], "calls": [1, 9]}},
        {"inputs": [{"age": 20.0, "calls": 1}, {"age": 70, "calls": 9}]},
        {**GOOD, "params": {"unknown": 1}},
        {**GOOD, "params": [1]},
        {**GOOD, "something": "else"},
    ],
)
def test_the_four_formats_are_predicted(scorer, body):
    answer = ask(scorer, body)
    assert (answer.status, answer.media_type) == (200, JSON), answer.body
    assert json.loads(answer.body) == {"predictions": [0, 1]}
    assert answer.rows == 2


def test_csv_and_parquet_are_predicted(scorer):
    frame = pd.DataFrame({"calls": [1, 9], "age": [20.0, 70.0]})
    assert json.loads(ask(scorer, frame.to_csv(index=False).encode(), "text/csv").body) == {
        "predictions": [0, 1]
    }
    out = io.BytesIO()
    frame.to_parquet(out)
    answer = ask(scorer, out.getvalue(), "application/vnd.apache.parquet")
    assert json.loads(answer.body) == {"predictions": [0, 1]}


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json; charset=UTF-8", 200),
        ("application/json;charset=utf-8", 200),
        ("application/json; charset=latin-1", 415),
        ("application/json; charset=utf-16", 415),
        ("application/json; boundary=x", 415),
        ("application/json; charset=utf-8; q=1", 415),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("APPLICATION/JSON", 415),
        ("", 415),
        (None, 415),
        (";", 415),
    ],
)
def test_content_types(scorer, content_type, status):
    answer = ask(scorer, GOOD, content_type)
    assert answer.status == status
    if status == 415:
        assert answer.media_type.startswith("text/plain")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", BAD), (b"{", BAD), (b"[]", BAD), (b"3", BAD), (b'"x"', BAD), (b"null", BAD), (b"{}", BAD),
        (b'{"a": 1}', BAD), (b"\xff\xfe\xfd", BAD), (b'{"inputs": "\xff"}', BAD), (b"[" * 100_000, BAD),
        (b'{"inputs": ' + b"[" * 100_000, BAD), ({"inputs": [], "instances": []}, BAD),
        ({"dataframe_split": []}, BAD), ({"dataframe_split": {"columns": ["age"]}}, BAD),
        (split(["age", "calls"], [[1]]), BAD), (split(["age", "calls"], [[1, 2], [3]], x=1), BAD),
        (split(["age", "calls"], [[1.0, None]]), BAD), (split(["age", "calls"], [["x", 1]]), BAD),
        (split(["age", "calls"], [[1.0, 10**30]]), BAD), (split(["age", "calls"], 7), BAD),
        ({"dataframe_records": {"age": 1}}, BAD), ({"dataframe_records": [{"age": 1}, 3]}, BAD),
        ({"instances": [{"age": 1.0, "calls": 1}, {"age": 2.0}]}, BAD), ({"inputs": "x"}, BAD),
        (split(["age"], [[1.0]]), SCHEMA), (split(["age", "age"], [[1.0, 2]]), SCHEMA),
        ({"dataframe_split": {"data": [[1, 2]]}}, SCHEMA), ({"instances": [[1, 2]]}, SCHEMA),
        ({"inputs": [[1, 2]]}, SCHEMA), ({"inputs": None}, SCHEMA), ({"instances": []}, SCHEMA),
        ({"messages": [{"role": "user"}]}, SCHEMA), ({"dataframe_records": []}, SCHEMA),
        (split(["age", "calls"], [[math.nan, 1]]), BAD), (split(["age", "calls"], []), BAD),
    ],
)  # fmt: skip
def test_malformed_requests_get_one_shape(scorer, body, expected):
    answer = ask(scorer, body)
    shape = json.loads(answer.body)
    assert answer.status == 400
    assert (shape["error_code"], shape["sqlstate"], shape["error_class"]) == expected, shape
    assert set(shape) <= {"error_code", "message", "sqlstate", "error_class", "stack_trace"}
    assert len(answer.body) < 40_000


@pytest.mark.parametrize(
    ("body", "content_type"),
    [(b"", "text/csv"), (b"\xff", "text/csv"), (b"age,calls\n1,x\n", "text/csv"), (b"age,calls\n1\n", "text/csv"),
     (b"age,calls\n1,2.5\n", "text/csv"), (b"x", "application/vnd.apache.parquet"), (b"", "application/vnd.apache.parquet")],
)  # fmt: skip
def test_malformed_tables(scorer, body, content_type):
    answer = ask(scorer, body, content_type)
    assert (answer.status, json.loads(answer.body)["error_code"]) == (400, "BAD_REQUEST")


def test_an_error_shows_a_short_part_of_a_long_request(scorer):
    answer = ask(scorer, split(["age"], [[1.0]] * 100_000))
    assert answer.status == 400
    assert len(answer.body) < 20_000


# --- models of other kinds --------------------------------------------------------------------


def python_scorer(folder, model, **options):
    import sys

    import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        save_model(model, folder / "model", get_flavor("python_function"), SaveOptions(**options))
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    return scorer_of(folder / "model")


def raises(model_input):
    raise RuntimeError("no weights")


def leaves(model_input):
    raise SystemExit(3)


def odd(model_input):
    return {1, 2}


@pytest.mark.parametrize(
    ("model", "said"), [(raises, "no weights"), (leaves, "SystemExit"), (odd, "not JSON")]
)
def test_a_model_that_misbehaves_is_a_400_and_the_server_goes_on(tmp_path, model, said):
    scorer = python_scorer(tmp_path, model)
    for _ in range(2):
        answer = ask(scorer, {"inputs": [1]})
        shape = json.loads(answer.body)
        assert (answer.status, shape["error_code"]) == (400, "BAD_REQUEST")
        assert said in shape["message"]


def echo(model_input, params=None):
    if hasattr(model_input, "to_dict"):
        model_input = model_input.to_dict("list")
    return {"data": model_input, "params": params}


def test_params_are_checked_and_have_defaults(tmp_path):
    params = ParamSchema([ParamSpec("t", "double", 0.5), ParamSpec("n", "long", [1], (-1,))])
    scorer = python_scorer(tmp_path, echo, signature=ModelSignature(params=params))

    def params_of(given):
        return json.loads(ask(scorer, {"inputs": [1], "params": given}).body)["predictions"]["params"]

    assert params_of({}) == {"t": 0.5, "n": [1]}
    assert params_of({"t": 1, "x": 3}) == {"t": 1.0, "n": [1]}
    answer = ask(scorer, {"inputs": [1], "params": {"t": "hot"}})
    assert (answer.status, json.loads(answer.body)["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert ask(scorer, {"inputs": [1], "params": {"n": 3}}).status == 400
    assert ask(scorer, {"inputs": [1], "params": 7}).status == 400


def test_bodies_of_language_models_pass_as_they_are(tmp_path):
    schema = Schema([ColSpec(AnyType(), "messages")])
    params = ParamSchema([ParamSpec("temperature", "double", 0.1)])
    scorer = python_scorer(tmp_path, echo, signature=ModelSignature(schema, params=params))
    answer = ask(scorer, {"messages": [{"role": "user"}], "temperature": 0.7})
    shape = json.loads(answer.body)
    assert answer.status == 200
    assert "predictions" not in shape
    assert shape["params"] == {"temperature": 0.7}


def hinted(texts: list[str]) -> list[int]:
    return [len(text) for text in texts]


def test_type_hints_take_inputs_only(tmp_path):
    scorer = python_scorer(tmp_path, hinted)
    assert json.loads(ask(scorer, {"inputs": ["a", "bcd"]}).body) == {"predictions": [1, 3]}
    for body in ({"inputs": ["a", 3]}, {"instances": ["a"]}, {"inputs": "a"}):
        answer = ask(scorer, body)
        assert answer.status == 400, body


def total(model_input):
    if isinstance(model_input, dict):
        return {name: value.sum(axis=1) for name, value in model_input.items()}
    return model_input.sum(axis=-1)


def test_tensors(tmp_path):
    (tmp_path / "named").mkdir()
    signature = ModelSignature(Schema([TensorSpec("float32", (-1, 2))]))
    scorer = python_scorer(tmp_path, total, signature=signature)
    for body in (
        {"inputs": [[1, 2], [3, 4]]},
        {"instances": [[1, 2], [3, 4]]},
        {"inputs": [[1.0, 2], [3, 4]]},
    ):
        assert json.loads(ask(scorer, body).body) == {"predictions": [3.0, 7.0]}
    for body in ({"inputs": [[1, 2, 3]]}, {"inputs": [1, 2]}):
        answer = ask(scorer, body)
        assert (answer.status, json.loads(answer.body)["error_class"]) == (400, "SCHEMA_ENFORCEMENT_FAILED")
    assert ask(scorer, {"inputs": [[1, 2], [3]]}).status == 400
    assert ask(scorer, {"inputs": {"a": 1}}).status == 400
    named = ModelSignature(Schema([TensorSpec("int64", (-1, 2), "a"), TensorSpec("int64", (-1, 2), "b")]))
    scorer = python_scorer(tmp_path / "named", total, signature=named)
    answer = ask(scorer, {"inputs": {"a": [[1, 2]], "b": [[3, 4]]}})
    assert json.loads(answer.body) == {"predictions": {"a": [3], "b": [7]}}
    assert ask(scorer, {"inputs": {"a": [[1, 2]]}}).status == 400


# --- answers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (np.array([1, 2]), {"predictions": [1, 2]}),
        (np.array([[0.5, 1e300]]), {"predictions": [[0.5, 1e300]]}),
        (np.array([0.1], np.float32), {"predictions": [0.10000000149011612]}),
        (np.array([True, False]), {"predictions": [True, False]}),
        (np.array(["a", None], object), {"predictions": ["a", None]}),
        (np.array([], float), {"predictions": []}),
        (np.float64(3.5), {"predictions": 3.5}),
        (np.array([1, 2, 3, 4])[::2], {"predictions": [1, 3]}),
        (np.array([0.5], np.float16), {"predictions": [0.5]}),
        (pd.Series([1, 2], name="y"), {"predictions": [{"y": 1}, {"y": 2}]}),
        (pd.Series([1]), {"predictions": [{"0": 1}]}),
        (pd.DataFrame({"a": [1], "b": ["x"]}), {"predictions": [{"a": 1, "b": "x"}]}),
        (pd.DataFrame({"t": [pd.Timestamp("2026-01-02")]}), {"predictions": [{"t": "2026-01-02T00:00:00"}]}),
        ([b"ab"], {"predictions": ["YWI=\n"]}),
        ({"a": np.int64(3)}, {"predictions": {"a": 3}}),
        ("text", {"predictions": "text"}),
        (None, {"predictions": None}),
    ],
)
def test_predictions_as_json(raw, text):
    assert json.loads(encode.predictions(raw)) == text


def test_numbers_that_json_does_not_have_are_written_as_mlflow_does():
    assert encode.predictions(np.array([math.nan, math.inf])) == b'{"predictions": [NaN, Infinity]}'
    with pytest.raises(ProtocolError, match="not JSON"):
        encode.predictions({1, 2})


# --- the short way is the long way ------------------------------------------------------------

SCALARS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.integers(-(2**70), 2**70),
    st.integers(-9, 9),
    st.booleans(),
    st.none(),
    st.text(max_size=3),
)
KINDS = ("double", "float", "long", "integer", "boolean", "string")


@st.composite
def requests(draw):
    names = draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True))
    kinds = [draw(st.sampled_from(KINDS)) for _ in names]
    specs = [ColSpec(k, n, draw(st.booleans())) for n, k in zip(names, kinds, strict=True)]
    columns = draw(st.permutations([*names, *draw(st.sampled_from([[], ["x"]]))]))
    by_kind = {
        "double": st.floats(allow_nan=False) | st.integers(-(2**53), 2**53),
        "float": st.floats(allow_nan=False, width=32) | st.integers(-99, 99),
        "long": st.integers(-(2**63), 2**63 - 1),
        "integer": st.integers(-(2**31), 2**31 - 1),
        "boolean": st.booleans(),
        "string": st.text(max_size=3),
    }
    fitting = dict(zip(names, kinds, strict=True))
    wild = draw(st.booleans())
    rows = [
        [draw(SCALARS if wild or name not in fitting else by_kind[fitting[name]]) for name in columns]
        for _ in range(draw(st.integers(0, 3)))
    ]
    if draw(st.booleans()):
        return Schema(specs), {"dataframe_split": {"columns": columns, "data": rows}}
    return Schema(specs), {"dataframe_records": [dict(zip(columns, row, strict=True)) for row in rows]}


@settings(max_examples=300, deadline=None)
@given(requests())
def test_the_short_way_gives_what_the_long_way_gives(request_):
    schema, body = request_
    body = json.loads(json.dumps(body))
    quick = FastFrames(schema).frame(body)
    if quick is None:
        return
    slow = enforce_schema(parse.parse(body, schema), schema)
    pd.testing.assert_frame_equal(quick, slow, check_exact=True)


def test_the_short_way_is_taken():
    schema = Schema([ColSpec("double", "a"), ColSpec("string", "b")])
    fast = FastFrames(schema)
    assert fast.frame(split(["a", "b"], [[1.0, "x"], [2, "y"]])) is not None
    assert fast.frame({"dataframe_records": [{"a": 1, "b": "x"}]}) is not None
    assert FastFrames(Schema([ColSpec("double", "a")])).frame(split(["a"], [[1.0]])) is not None
    assert not FastFrames(Schema([ColSpec("datetime", "a")])).usable
    assert not FastFrames(None).usable
