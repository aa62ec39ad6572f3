import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gml.domain.errors import InvalidValueError, NotFoundError, StorageError
from gml.tracking.capture.files import JsonlTail, points_of, read_metrics_file, read_params_file


def metrics(tmp_path, text, name="metrics.json"):
    path = tmp_path / name
    path.write_text(text)
    return list(read_metrics_file(path))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"loss": 0.2, "n": 3}', [("loss", 0.2, None, None), ("n", 3.0, None, None)]),
        (
            '{"val": {"loss": 0.2, "top": {"5": 1}}}',
            [("val.loss", 0.2, None, None), ("val.top.5", 1.0, None, None)],
        ),
        ('{"loss": 0.2, "step": 7, "epoch": 1}', [("loss", 0.2, 7, None), ("epoch", 1.0, 7, None)]),
        ('{"loss": 0.2, "epoch": 1}', [("loss", 0.2, 1, None)]),
        ('[{"a": 1, "step": 0}, {"a": 2, "step": 1}]', [("a", 1.0, 0, None), ("a", 2.0, 1, None)]),
        ('{"loss": [0.3, 0.2]}', [("loss", 0.3, 0, None), ("loss", 0.2, 1, None)]),
        ('{"loss": [0.3, "x"], "name": "resnet", "ok": true, "none": null, "e": []}', []),
        ('{"a": "Infinity", "b": "-inf"}', [("a", math.inf, None, None), ("b", -math.inf, None, None)]),
        ('{"a": 1, "timestamp": 1700000000.5}', [("a", 1.0, None, 1700000000500)]),
        ('{"a": 1, "timestamp": 1700000000500}', [("a", 1.0, None, 1700000000500)]),
        ('{"a": 1, "timestamp": "2023-11-14T22:13:20Z"}', [("a", 1.0, None, 1700000000000)]),
        ('{"a": 1, "timestamp": "yesterday"}', [("a", 1.0, None, None)]),
        ('{"a": 1, "timestamp": -5}', [("a", 1.0, None, None)]),
        ('{"a": 1' + "0" * 400 + "}", [("a", math.inf, None, None)]),
        ('{"a!b": 1, "../x": 2}', [("a_b", 1.0, None, None)]),
        ("[]", []),
        ("\ufeff{}", []),
    ],
)
def test_metrics_json(tmp_path, text, expected):
    assert metrics(tmp_path, text) == expected


def test_nan_is_a_number(tmp_path):
    values = [value for _, value, _, _ in metrics(tmp_path, '{"a": NaN, "b": "NaN", "c": "-nan"}')]
    assert len(values) == 3
    assert all(map(math.isnan, values))


@pytest.mark.parametrize("text", ["", "{", "3", '["a"]', "[[]]", '{"a": 1} x', "[" * 100_000, '{"a":' * 5000])
def test_metrics_that_cannot_be_parsed(tmp_path, text):
    with pytest.raises(InvalidValueError, match=r"metrics\.json"):
        metrics(tmp_path, text)


def test_deep_metrics_do_not_end_in_recursion(tmp_path):
    assert metrics(tmp_path, '{"a":' * 300 + "1" + "}" * 300) == []


def test_metrics_jsonl(tmp_path):
    text = '{"loss": 0.3, "step": 1}\n\n{"loss": 0.2, "step": 2}\n{"loss": 0.1, "st'
    assert metrics(tmp_path, text, "m.jsonl") == [("loss", 0.3, 1, None), ("loss", 0.2, 2, None)]
    assert metrics(tmp_path, '{"loss": 1}', "m.ndjson") == [("loss", 1.0, None, None)]
    with pytest.raises(InvalidValueError, match=r"m\.jsonl, line 2"):
        metrics(tmp_path, '{"loss": 1}\nnonsense\n{"loss": 2}\n', "m.jsonl")
    with pytest.raises(InvalidValueError, match="line 1: more than"):
        metrics(tmp_path, '{"x": "' + "x" * 2_000_000, "m.jsonl")


def test_files_that_are_not_there(tmp_path):
    for name in ("a.json", "a.jsonl"):
        with pytest.raises(NotFoundError, match=re.escape(name)):
            list(read_metrics_file(tmp_path / name))
    with pytest.raises(NotFoundError):
        read_params_file(tmp_path / "a.yaml")
    with pytest.raises(StorageError):
        list(read_metrics_file(tmp_path))


def test_tail_follows_a_growing_file(tmp_path):
    path = tmp_path / "m.jsonl"
    tail = JsonlTail(path)
    assert tail.poll() == []
    with path.open("w") as file:
        file.write('{"a": 1}\n{"a": 2')
        file.flush()
        assert tail.poll() == [("a", 1.0, None, None)]
        assert tail.poll() == []
        file.write(', "step": 5}\nbad\n[]\n')
        file.flush()
        assert tail.poll() == [("a", 2.0, 5, None)]
        assert tail.bad_lines == 2
        assert "expected an object" in tail.last_error
        file.write('{"a": 3}')
    assert tail.poll() == []
    assert tail.finish() == [("a", 3.0, None, None)]
    assert tail.finish() == []


def test_tail_starts_again_when_the_file_does(tmp_path):
    path = tmp_path / "m.jsonl"
    tail = JsonlTail(path)
    path.write_text('{"a": 1}\n{"a": 2}\n')
    assert len(tail.poll()) == 2
    path.write_text('{"b": 1}\n')
    assert tail.poll() == [("b", 1.0, None, None)]
    other = tmp_path / "new"
    other.write_text('{"c": 1}\n{"c": 2}\n{"c"')
    other.replace(path)
    assert [point[0] for point in tail.poll()] == ["c", "c"]
    assert tail.finish() == []


def test_tail_survives_a_folder_and_endless_lines(tmp_path):
    tail = JsonlTail(tmp_path)
    assert tail.poll() == []
    assert "cannot read" in tail.last_error
    path = tmp_path / "m.jsonl"
    path.write_bytes(b"x" * 5_000_000)
    tail = JsonlTail(path)
    assert tail.finish() == []
    assert tail.bad_lines >= 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=20,
)


@given(
    st.dictionaries(st.text(max_size=9) | st.sampled_from(["step", "epoch", "timestamp"]), JSON, max_size=5)
)
def test_points_never_raise_and_are_valid(record):
    for key, value, step, time in points_of(record):
        assert re.fullmatch(r"[/\w.\- :]{1,250}", key)
        assert isinstance(value, float)
        assert step is None or isinstance(step, int)
        assert time is None or time >= 0


def params(tmp_path, text, name="params.yaml"):
    path = tmp_path / name
    path.write_text(text)
    return read_params_file(path)


def test_params_yaml(tmp_path):
    text = """
model: {depth: 4, sizes: [1, 2], none: null, on: true, empty: {}}
lr: 1.0e-3
7: seven
day: 2024-01-02
days: [2024-01-02]
api_key: abcdef
url: https://me:pw@host/
"""
    assert params(tmp_path, text) == {
        "model.depth": "4",
        "model.sizes": "[1, 2]",
        "model.none": "None",
        "model.True": "True",
        "model.empty": "{}",
        "lr": "0.001",
        "7": "seven",
        "day": "2024-01-02",
        "days": '["2024-01-02"]',
        "api_key": "***",
        "url": "https://***@host/",
    }


def test_params_json(tmp_path):
    assert params(tmp_path, '{"a": {"b": [1, "x"]}, "c": 1.5}', "p.json") == {"a.b": '[1, "x"]', "c": "1.5"}
    assert params(tmp_path, "") == {}
    assert params(tmp_path, json.dumps({"a": "v" * 9000}), "p.json") == {"a": "v" * 6000}


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ("a: [", "p.yaml", r"p\.yaml, line"),
        ("a: 1\nb: : 2", "p.yaml", "line 2"),
        ("- a", "p.yaml", "expected a mapping"),
        ("a: !!python/object:os.system x", "p.yaml", "not YAML"),
        ("{", "p.json", "not JSON"),
        ("&a {x: *a}", "p.yaml", "refers to itself"),
        (
            "a: &a [x]\n"
            + "".join(
                f"{c}: &{c} [{', '.join([f'*{b}'] * 9)}]\n" for b, c in zip("abcdefg", "bcdefgh", strict=True)
            ),
            "p.yaml",
            "more than",
        ),
        ("\x00", "p.yaml", "not YAML"),
    ],
)
def test_params_that_cannot_be_read(tmp_path, text, name, words):
    with pytest.raises(InvalidValueError, match=words):
        params(tmp_path, text, name)
