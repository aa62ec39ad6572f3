import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gml.domain.errors import InvalidValueError, NotFoundError, UsageError
from gml.tracking import datasets
from gml.tracking.capture import content
from gml.tracking.datasets import Dataset, describe, from_file, from_folder, from_numpy, from_pandas

FRAME = """
import numpy as np, pandas as pd
def frame():
    return pd.DataFrame({
        "i": [1, 2, 3],
        "f": [0.5, None, -0.0],
        "s": ["a", None, "\u00e9"],
        "b": [True, False, True],
        "t": pd.to_datetime(["2024-01-02", None, "1999-12-31 23:59:59.000001"], format="ISO8601"),
        "z": pd.to_datetime(["2024-01-02", "2024-01-03", "2024-01-04"]).tz_localize("Europe/Berlin"),
        "o": [{"x": [1, 2.5]}, (1, b"z"), {"q", "p", "r"}],
        "c": pd.Categorical(["u", "v", "u"]),
        "n": pd.array([1, None, 3], dtype="Int64"),
    })
"""
exec(FRAME)


def as_json(text):
    return json.loads(text)


def test_frame():
    found = describe(frame(), name="train", source="/data/train.csv", targets="i")  # noqa: F821
    assert as_json(found.profile) == {"num_rows": 3, "num_elements": 27}
    columns = as_json(found.schema)["mlflow_colspec"]
    assert list(columns[0]) == ["type", "name", "required"]
    assert {column["name"]: (column["type"], column["required"]) for column in columns} == {
        "i": ("long", True),
        "f": ("double", False),
        "s": ("string", False),
        "b": ("boolean", True),
        "t": ("datetime", False),
        "z": ("datetime", True),
        "o": ("any", True),
        "c": ("string", True),
        "n": ("long", False),
    }
    assert (found.name, found.source_type, as_json(found.source)) == (
        "train",
        "local",
        {"uri": "/data/train.csv"},
    )
    assert len(found.digest) == 32
    assert int(found.digest, 16) >= 0
    assert describe(found) is found
    assert describe(found, name="other").name == "other"
    assert list(found.to_dict()) == ["name", "digest", "source_type", "source", "schema", "profile"]


def test_digest_is_the_same_in_every_process():
    code = FRAME + "from gml.tracking.datasets import describe; print(describe(frame()).digest)"
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert said == {describe(frame()).digest + "\n"}  # noqa: F821


def test_digest_does_not_depend_on_how_pandas_holds_the_values():
    def digest(values, dtype=None):
        return from_pandas(pd.DataFrame({"x": pd.Series(values, dtype=dtype)})).digest

    texts = ["a", None, "b"]
    assert digest(texts, object) == digest(texts, "string") == digest(texts)
    assert digest(["a", "b"], object) == digest(["a", "b"], "category")
    assert digest([1, 2], "int64") == digest([1, 2], "Int64") == digest([1, 2], ">i8")
    assert digest([1.0, np.nan], "float64") == digest([1.0, None], "Float64")
    assert digest([0.0, 1.0]) == digest(pd.arrays.SparseArray([0.0, 1.0]))
    times = pd.Series(pd.to_datetime(["2024-01-02 03:04:05", None, "1960-01-01"], format="ISO8601"))
    assert len({digest(times.astype(f"datetime64[{unit}]")) for unit in ("s", "ms", "us", "ns")}) == 1
    spans = pd.Series(pd.to_timedelta(["1s", "-2h"]))
    assert len({digest(spans.astype(f"timedelta64[{unit}]")) for unit in ("s", "ms", "us", "ns")}) == 1


def test_golden_digests():
    """These are in the history of people's repositories: they must never change."""
    frame = pd.DataFrame({"x": [1, 2, 3], "y": [0.5, None, 1.5], "z": ["a", "b", None]})
    assert describe(frame).digest == "7aac4422bb0e1ab2f4af5ea5d5351c90"
    assert describe(np.arange(6, dtype="i4").reshape(2, 3)).digest == "455a8ea1ebb53bb8748fc3df799e294e"


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame.rename(columns={"x": "z"}),
        lambda frame: frame.assign(x=[1, 2, 4]),
        lambda frame: frame.assign(x=frame.x.astype("int32")),
        lambda frame: frame.assign(y=["a", "c", "b"]),
        lambda frame: frame.assign(y=["a", "b", None]),
        lambda frame: frame.iloc[::-1],
        lambda frame: frame.iloc[:2],
        lambda frame: frame[["y", "x"]],
        lambda frame: frame.set_index("x"),
        lambda frame: frame.set_index(["x", "y"]),
    ],
)
def test_any_change_changes_the_digest(change):
    frame = pd.DataFrame({"x": [1, 2, 3], "y": ["a", "b", "c"]})
    assert describe(frame).digest == describe(frame.copy()).digest
    assert describe(change(frame)).digest != describe(frame).digest
    assert describe(frame, targets="x").digest != describe(frame).digest


def test_object_without_a_text_has_no_address_in_its_digest():
    class Thing:
        pass

    def digest():
        return describe(pd.DataFrame({"x": [Thing(), Thing()]})).digest

    assert digest() == digest()


def test_odd_frames():
    assert as_json(describe(pd.DataFrame()).profile) == {"num_rows": 0, "num_elements": 0}
    twice = pd.DataFrame([[1, 2]], columns=["a", "a"])
    assert [column["name"] for column in as_json(describe(twice).schema)["mlflow_colspec"]] == ["a", "a"]
    named = pd.DataFrame({"name": [1], "digest": [2], "to_dict": [3]})
    assert as_json(describe(named).profile)["num_elements"] == 3
    series = describe(pd.Series([1, 2], name="y"))
    assert as_json(series.schema)["mlflow_colspec"] == [{"type": "long", "name": "y", "required": True}]
    records = describe([{"x": 1}, {"x": 2}])
    assert as_json(records.profile)["num_rows"] == 2
    kinds = pd.DataFrame({"a": [b"x"], "e": [None], "p": pd.period_range("2024", periods=1), "k": [1 + 2j]})
    assert [column["type"] for column in as_json(describe(kinds).schema)["mlflow_colspec"]][:2] == [
        "binary",
        "string",
    ]


def test_wide_frame_fits():
    wide = pd.DataFrame(np.zeros((1, 30_000)), columns=[f"a long name of column {n}" for n in range(30_000)])
    found = describe(wide)
    assert len(found.schema) <= datasets.MAX_SCHEMA
    assert as_json(found.schema)["num_columns"] == 30_000


def test_targets_must_be_a_column():
    with pytest.raises(InvalidValueError, match="no column"):
        describe(pd.DataFrame({"x": [1]}), targets="y")
    with pytest.raises(InvalidValueError, match="no column"):
        describe(pd.DataFrame({"x": [1]}), targets=np.array([1]))


def test_array():
    found = describe(np.zeros((5, 3), dtype="f4"), targets=np.arange(5))
    spec = as_json(found.schema)["mlflow_tensorspec"]
    assert as_json(spec["features"]) == [
        {"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 3]}}
    ]
    assert as_json(spec["targets"]) == [{"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}}]
    assert as_json(found.profile) == {
        "features_shape": [5, 3],
        "features_size": 15,
        "features_nbytes": 60,
        "targets_shape": [5],
        "targets_size": 5,
        "targets_nbytes": 40,
        "num_rows": 5,
        "num_elements": 15,
    }
    assert (found.name, found.source_type, as_json(found.source)) == ("dataset", "code", {"tags": {}})


def test_array_digest_is_about_values():
    array = np.arange(12.0).reshape(3, 4)
    digest = describe(array).digest
    assert describe(np.asfortranarray(array)).digest == digest
    assert describe(array.astype(">f8")).digest == digest
    assert describe(np.repeat(array, 2, axis=1)[:, ::2]).digest == digest
    assert describe(array.reshape(4, 3)).digest != digest
    assert describe(array.astype("f4")).digest != digest
    assert describe(array, targets=array).digest != digest
    nan = np.array([0x7FF8000000000000, 0xFFF8000000000001], dtype="u8").view("f8")
    assert describe(nan).digest == describe(np.array([np.nan, np.nan])).digest


def test_collections_of_arrays():
    both = describe({"x": np.zeros((2, 2)), "y": [1, 2]})
    specs = as_json(as_json(both.schema)["mlflow_tensorspec"]["features"])
    assert [spec["name"] for spec in specs] == ["x", "y"]
    assert as_json(both.profile)["features_shape"] == {"x": [2, 2], "y": [2]}
    assert as_json(describe([np.zeros(2), np.zeros(3)]).profile)["num_elements"] == 5
    assert as_json(describe([1, 2, 3]).profile)["num_rows"] == 3
    assert as_json(describe(np.float64(1)).profile)["num_rows"] == 0
    assert describe(np.array(["a", None], dtype=object)).digest
    assert describe([]).digest
    assert describe(np.zeros((0, 3))).digest != describe(np.zeros((0, 4))).digest


@pytest.mark.parametrize("data", [object(), 5j, [[1], [1, 2]], None, {"x": object()}, lambda: 1])
def test_what_is_no_data(data):
    with pytest.raises(InvalidValueError):
        describe(data)


def test_sample_of_large_data(monkeypatch):
    monkeypatch.setattr(content, "MAX_BYTES", 800)
    monkeypatch.setattr(content.ContentHash.array, "__defaults__", (800,))
    monkeypatch.setattr(content.ContentHash.objects, "__defaults__", (10,))
    array = np.arange(1000)
    digest = describe(array).digest
    assert describe(array).digest == digest
    assert describe(np.arange(1001)).digest != digest, "the shape counts in full"
    last = array.copy()
    last[-1] = 0
    assert describe(last).digest != digest, "the last row is always in"
    first = array.copy()
    first[0] = 5
    assert describe(first).digest != digest
    between = array.copy()
    between[1] = 0
    assert describe(between).digest == digest, "this one is not in the sample"
    assert describe(array.astype(object)).digest == describe(between.astype(object)).digest
    assert describe(pd.DataFrame({"x": array})).digest == describe(pd.DataFrame({"x": between})).digest


class Csr:
    """What SciPy's matrices look like from outside."""

    def __init__(self, order):
        self.order = order
        self.shape = (2, 3)
        self.nnz = 2
        self.dtype = np.dtype("f8")
        self.indptr = np.array([0, 1, 2], dtype="i4" if order else "i8")
        self.indices = np.array([2, 0], dtype="i4")
        self.data = np.array([1.0, 2.0])

    def tocsr(self, copy=False):
        assert copy
        return self

    def sum_duplicates(self):
        pass

    def sort_indices(self):
        pass


class Tensor:
    def __init__(self, array, half=False):
        self.array = array
        self.half = half
        self.shape = array.shape

    def detach(self):
        return self

    def cpu(self):
        return self

    def float(self):
        return Tensor(self.array.astype("f4"))

    def numpy(self):
        if self.half:
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self.array


def test_sparse_and_tensors_by_their_looks():
    found = describe(Csr(True))
    assert as_json(found.profile)["num_elements"] == 6
    assert found.digest == describe(Csr(False)).digest
    array = np.ones((2, 2), dtype="f4")
    assert describe(Tensor(array)).digest == describe(array).digest
    assert describe(Tensor(array, half=True)).digest == describe(array).digest
    assert as_json(describe([Tensor(array), Tensor(array)]).profile)["num_elements"] == 8


def test_tables_of_other_libraries():
    class Column:
        name = "x"

        def null_count(self):
            return 0

        def to_numpy(self):
            return np.array([1, 2])

    class Table:
        def get_columns(self):
            return [Column()]

    class Arrow:
        column_names = ("x",)

        def to_pandas(self):
            return pd.DataFrame({"x": [1, 2]})

    Table.__module__ = "polars.dataframe.frame"
    Arrow.__module__ = "pyarrow.lib"
    expected = describe(pd.DataFrame({"x": [1, 2]}))
    assert describe(Table()) == expected
    assert describe(Arrow()) == expected


def test_mlflow_dataset_by_its_looks():
    class Theirs:
        name = "wine"
        digest = "abc"

        def to_dict(self):
            return {"name": "wine", "digest": "abc", "source": "{}", "source_type": "http", "profile": None}

    assert describe(Theirs()) == Dataset("wine", "abc", "http", "{}", "{}", "{}")
    assert describe(Theirs(), name="other").name == "other"


def test_file(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"x,y\n")
    found = describe(path)
    whole = hashlib.sha256(b"x,y\n").hexdigest()
    assert (found.name, found.digest) == ("a.csv", whole[:32])
    assert as_json(found.profile) == {"size_bytes": 4, "sha256": whole}
    assert as_json(found.source) == {"uri": str(path)}
    assert describe(str(path), name="n", source="https://host/a.csv") == Dataset(
        "n", found.digest, "http", '{"url": "https://host/a.csv"}', "{}", found.profile
    )
    assert from_file(path) == found


def test_folder(tmp_path):
    top = tmp_path / "data"
    (top / "b" / "empty").mkdir(parents=True)
    (top / "b" / "two").write_bytes(b"22")
    (top / "a").write_bytes(b"1")
    (top / "b.txt").write_bytes(b"")
    found = describe(top)
    assert found == from_folder(str(top))
    assert found.name == "data"
    assert as_json(found.profile) == {"num_files": 3, "size_bytes": 3}
    said = subprocess.run(
        "LC_ALL=C find -type f -printf '%P\\n' | LC_ALL=C sort | xargs sha256sum | sha256sum",
        cwd=top,
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said[:32] == found.digest
    (top / "loop").symlink_to(top)
    (top / "nowhere").symlink_to("absent")
    linked = from_folder(top)
    assert linked.digest != found.digest
    assert as_json(linked.profile)["num_files"] == 3
    (top / "b" / "two").rename(top / "b" / "three")
    assert from_folder(top).digest != linked.digest


def test_paths_that_are_none(tmp_path):
    with pytest.raises(NotFoundError):
        describe(tmp_path / "absent")
    with pytest.raises(NotFoundError):
        from_folder(tmp_path / "absent")
    with pytest.raises(InvalidValueError, match="source=URL"):
        describe("s3://bucket/train.csv")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError):
        from_file(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("source", "kind", "expected"),
    [
        ("s3://b/k", "s3", {"uri": "s3://b/k"}),
        ("https://h/x", "http", {"url": "https://h/x"}),
        ("/data/x", "local", {"uri": "/data/x"}),
        (Path("data/x"), "local", {"uri": "data/x"}),
        (None, "code", {"tags": {}}),
    ],
)
def test_sources(source, kind, expected):
    found = from_numpy(np.zeros(1), source=source)
    assert (found.source_type, as_json(found.source)) == (kind, expected)


def test_limits_of_mlflow():
    assert from_pandas(pd.DataFrame(), digest="x" * 36).digest == "x" * 36
    with pytest.raises(InvalidValueError, match="digest"):
        from_pandas(pd.DataFrame(), digest="x" * 37)
    with pytest.raises(InvalidValueError, match="name"):
        describe([1], name="n" * 501)
    with pytest.raises(InvalidValueError, match="source"):
        describe([1], source="s" * 70_000)


def test_importing_is_light():
    code = (
        "import sys, gml.tracking.datasets; print(sorted({'numpy', 'pandas', 'fsspec'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"
