"""Crafted files: each is refused by name before any of its code runs; nothing falls back to another format."""

import bz2
import gzip
import io
import json
import lzma
import pickle
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import skops.io
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer

from gml.domain.errors import CorruptError, GmlError, InvalidValueError, NotFoundError, TrustError
from gml.models import onnx_wire, policy
from gml.models.files import ModelFiles
from gml.models.flavor import LoadOptions, get_flavor
from gml.models.formats import DATA, sniff
from gml.models.loaded import load_model, load_native
from gml.models.mlmodel import MLmodel
from gml.models.save import SaveOptions, save_model

SKLEARN = get_flavor("sklearn")
CODE = LoadOptions(code=True)


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (Path(self.marker),)


def zipped(**members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/"), data)
    return out.getvalue()


def named_zip(*members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members:
            archive.writestr(name, data)
    return out.getvalue()


def npz(**arrays):
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def joblib_bytes(value, compress):
    import joblib

    out = io.BytesIO()
    joblib.dump(value, out, compress=compress)
    return out.getvalue()


def crafted(bomb):
    """Return name -> bytes of files that hold a pickle in some disguise."""
    raw = pickle.dumps(bomb, 4)
    skops_zip = skops.io.dumps(LogisticRegression().fit([[0.0], [1.0]], [0, 1]))
    with zipfile.ZipFile(io.BytesIO(skops_zip)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    objects = np.empty(1, object)
    objects[0] = bomb
    npy = io.BytesIO()
    np.save(npy, objects)
    return {
        **{f"pickle protocol {n}": pickle.dumps(bomb, n) for n in range(6)},
        "pickle behind blanks": b" \n" + raw,
        "gzip": gzip.compress(raw),
        "bzip2": bz2.compress(raw),
        "xz": lzma.compress(raw),
        "lzma": lzma.compress(raw, lzma.FORMAT_ALONE),
        "zlib": zlib.compress(raw),
        "gzip of gzip": gzip.compress(gzip.compress(raw)),
        "zip": zipped(model=raw),
        "torch": named_zip(("archive/data.pkl", raw), ("archive/version", b"3\n")),
        "torch without folder": named_zip(("data.pkl", raw)),
        "torch that says it is skops": named_zip(("schema.json", b"{}"), ("data.pkl", raw)),
        "skops with a pickle beside": named_zip(*members, ("extra.bin", raw)),
        "skops with a packed pickle": named_zip(*members, ("extra.gz", gzip.compress(raw))),
        "skops with an array of objects": named_zip(*members, ("0.npy", npy.getvalue())),
        "skops that leaves its folder": named_zip(*members, ("../../evil.py", b"")),
        "skops with an absolute name": named_zip(*members, ("/etc/evil", b"")),
        "skops behind other bytes": b"\x80\x04" + skops_zip,
        "skops behind text": b"#!/bin/sh\n" + skops_zip,
        "cut skops": skops_zip[:-30],
        "zip bomb": named_zip_bomb(),
        "npz of objects": npz(a=objects),
        "npy of objects": npy.getvalue(),
        "npz of numbers": npz(a=np.arange(3)),
        "joblib": joblib_bytes(bomb, 0),
        "joblib packed": joblib_bytes(bomb, 3),
        "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(100),
        "keras": named_zip(("config.json", b"{}"), ("metadata.json", b"{}"), ("model.weights.h5", b"")),
        "text": b"import os\n",
        "empty": b"",
        "json": b'{"a": 1}',
        "safetensors": safetensors({}),
        "safetensors with a long header": struct.pack("<Q", 1 << 40) + b"{}",
        "marshalled": b"\xe3\x00\x00\x00\x00",
    }


def named_zip_bomb():
    """A small archive whose directory says that it unpacks to 4 GB."""
    data = bytearray(named_zip(("0.npy", b"x" * 100)))
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = b"\x00\xff\xff\xff"
    return bytes(data)


def safetensors(header):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    top = tmp_path_factory.mktemp("saved") / "model"
    model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    save_model(model, top, SKLEARN, SaveOptions(input_example=np.zeros((1, 1))))
    return {path.name: path.read_bytes() for path in top.iterdir()}


@pytest.fixture
def folder(saved, tmp_path):
    top = tmp_path / "model"
    top.mkdir()
    for name, data in saved.items():
        (top / name).write_bytes(data)
    return top


def write(top, files):
    top.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return top


def test_every_disguise_of_a_pickle_is_refused(folder, tmp_path):
    marker = tmp_path / "ran"
    for name, data in crafted(Bomb(str(marker))).items():
        (folder / "model.skops").write_bytes(data)
        for load in (load_model, lambda files: load_native(files, "sklearn")):
            with pytest.raises((TrustError, CorruptError)) as caught:
                load(ModelFiles.of_folder(folder))
            assert "model.skops" in str(caught.value) or "skops file" in str(caught.value), name
            assert not marker.exists(), name
        # Even with trust it is never tried as something else than MLmodel says.
        with pytest.raises(GmlError):
            load_model(ModelFiles.of_folder(folder), CODE)
        assert not marker.exists(), name


@pytest.mark.parametrize("length", [128, 384, 1152])
def test_safetensors_whose_length_begins_as_a_pickle(length):
    header = {"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    text = json.dumps(header).encode().ljust(length)
    assert sniff(struct.pack("<Q", length) + text + bytes(4)) == "safetensors"
    assert sniff(struct.pack("<Q", length) + text) == "pickle"


def test_a_pickle_that_says_so_runs_only_with_trust(folder, tmp_path):
    marker = tmp_path / "ran"
    text = (folder / "MLmodel").read_text().replace("format: skops", "format: pickle")
    (folder / "MLmodel").write_text(text)
    (folder / "model.skops").write_bytes(pickle.dumps(Bomb(str(marker))))
    with pytest.raises(TrustError, match=r"model.skops: pickle"):
        load_model(ModelFiles.of_folder(folder))
    assert not marker.exists()
    with pytest.raises(GmlError):  # a path has no predict()
        load_model(ModelFiles.of_folder(folder), CODE)
    assert marker.exists()


@pytest.mark.parametrize("kind", ["function", "type", "mlmodel-vouches"])
def test_types_that_skops_would_call_need_trust(folder, kind):
    import os

    if kind == "type":
        from pathlib import PosixPath

        model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
        model.extra = PosixPath("/etc/passwd")
        odd = "pathlib.PosixPath"
    else:
        model = FunctionTransformer(os.system)
        odd = "posix.system"
    (folder / "model.skops").write_bytes(skops.io.dumps(model))
    if kind == "mlmodel-vouches":
        text = (folder / "MLmodel").read_text()
        (folder / "MLmodel").write_text(
            text.replace("skops_trusted_types: null", f"skops_trusted_types: [{odd}]")
        )
    with pytest.raises(TrustError, match=f"holds the types.*{odd}"):
        load_native(ModelFiles.of_folder(folder), "sklearn")
    vouched = LoadOptions(trusted_types=(odd,))
    assert load_native(ModelFiles.of_folder(folder), "sklearn", vouched) is not None


def test_a_file_swapped_between_check_and_load_is_not_loaded(folder, tmp_path, monkeypatch):
    marker = tmp_path / "ran"
    real = policy.check

    def check_then_swap(*args):
        real(*args)
        (folder / "model.skops").write_bytes(pickle.dumps(Bomb(str(marker))))

    monkeypatch.setattr(policy, "check", check_then_swap)
    loaded = load_model(ModelFiles.of_folder(folder))
    assert loaded.predict(np.zeros((1, 1))).tolist() == [0]
    assert not marker.exists()
    files = ModelFiles.of_folder(folder)
    files.read("model.skops")
    files.release()
    (folder / "model.skops").write_bytes(b"another")
    with pytest.raises(CorruptError, match="does not match its digest"):
        files.read("model.skops")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("loader_module: mlflow.sklearn", "loader_module: os"),
        ("loader_module: mlflow.sklearn", "loader_module: antigravity"),
        ("loader_module: mlflow.sklearn", "loader_module: mlflow.pyfunc.model"),
        ("loader_module: mlflow.sklearn", "loader_module: null"),
        ("pickled_model: model.skops", "pickled_model: ../../../etc/passwd"),
        ("pickled_model: model.skops", "pickled_model: /etc/passwd"),
        ("pickled_model: model.skops", "pickled_model: [1, 2]"),
        ("  sklearn:\n    code: null", "  sklearn:\n    code: ."),
        ("  sklearn:\n    code: null", "  sklearn:\n    code: code"),
        ("flavors:", "flavors: !!python/object/apply:os.system ['true']\nother:"),
        ("flavors:", "other:"),
    ],
)
def test_mlmodel_cannot_point_anywhere(folder, old, new):
    text = (folder / "MLmodel").read_text()
    assert old in text
    (folder / "MLmodel").write_text(text.replace(old, new))
    (folder / "code").mkdir()
    (folder / "code" / "evil.py").write_text("raise SystemExit")
    if new.endswith("null"):
        # Without a loader the native flavor counts, which is data.
        assert load_model(ModelFiles.of_folder(folder)).format_class == "data"
        return
    with pytest.raises((TrustError, CorruptError, NotFoundError)):
        load_model(ModelFiles.of_folder(folder))


def test_links_and_odd_files_are_refused(folder):
    (folder / "link").symlink_to("/etc/passwd")
    with pytest.raises(InvalidValueError, match="symbolic link"):
        ModelFiles.of_folder(folder)
    (folder / "link").unlink()
    (folder / "dir").symlink_to("/etc")
    with pytest.raises(InvalidValueError, match="symbolic link"):
        ModelFiles.of_folder(folder)
    (folder / "dir").unlink()
    import os

    os.mkfifo(folder / "pipe")
    with pytest.raises(InvalidValueError, match="not a regular file"):
        ModelFiles.of_folder(folder)


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "a//b", "", "a/./b", "a\0b"])
def test_names_that_leave_the_model_are_refused(name):
    from gml.models.files import FileFacts

    with pytest.raises(InvalidValueError, match="illegal path"):
        ModelFiles({name: FileFacts("", 0)}, lambda _: b"", "somewhere")


def test_exactly_the_recorded_files_must_be_there(folder):
    files = ModelFiles.of_folder(folder)
    digests = {name: files.facts(name).sha256 for name in files.names}
    (folder / "extra.py").write_text("")
    with pytest.raises(CorruptError, match=r"extra\.py"):
        ModelFiles.of_folder(folder, digests)
    (folder / "extra.py").unlink()
    (folder / "requirements.txt").unlink()
    with pytest.raises(CorruptError, match=r"requirements\.txt"):
        ModelFiles.of_folder(folder, digests)


@pytest.mark.parametrize(
    "text",
    [b"", b"- a list", b"flavors: 3", b"flavors: {sklearn: 1}", b"\xff\xfe", b"{", b"a: &a [*a]",
     b"flavors: {}\nsignature: {inputs: '{'}", b"flavors: {}\nsignature: {inputs: '[{}]'}",
     b"flavors: {}\nsignature: {inputs: '[{\"type\": \"quux\"}]'}", b"flavors: {}" + b" " * (5 << 20)],
)  # fmt: skip
def test_a_damaged_mlmodel_is_one_clear_error(text):
    with pytest.raises(CorruptError, match="MLmodel"):
        MLmodel.from_yaml(text)


@given(st.binary(max_size=300))
def test_no_bytes_confuse_the_sniffer(data):
    found = sniff(data)
    assert isinstance(found, str)
    if data[:1] == b"\x80":
        assert found not in DATA


@given(
    st.sampled_from([b"tree\n", b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"{L", b"{", b"\x08\x07"]),
    st.binary(max_size=99),
)
def test_no_bytes_behind_a_magic_confuse_the_sniffer(magic, data):
    assert isinstance(sniff(magic + data), str)
    try:
        onnx_wire.external_locations(magic + data)
    except onnx_wire.WireError:
        return


def field(number, payload):
    def varint(value):
        out = bytearray()
        while value > 0x7F:
            out.append(value & 0x7F | 0x80)
            value >>= 7
        return bytes([*out, value])

    if isinstance(payload, int):
        return varint(number << 3) + varint(payload)
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def external(location):
    entry = field(1, b"location") + field(2, location.encode())
    return field(13, entry) + field(14, 1)


def onnx(graph=b"", more=b""):
    return field(1, 8) + field(7, graph) + field(8, field(2, 13)) + more


@pytest.mark.parametrize("location", ["../../etc/passwd", "/etc/passwd", "weights.bin", "a/../../b"])
@pytest.mark.parametrize("place", ["initializer", "constant", "subgraph", "function", "sparse", "training"])
def test_external_data_is_found_wherever_it_hides(location, place):
    tensor = external(location)
    attribute = field(5, field(5, tensor))
    found = {
        "initializer": onnx(field(5, tensor)),
        "constant": onnx(field(1, attribute)),
        "subgraph": onnx(field(1, field(5, field(6, field(5, tensor))))),
        "function": onnx(more=field(25, field(7, attribute))),
        "sparse": onnx(field(15, field(1, tensor))),
        "training": onnx(more=field(20, field(1, field(5, tensor)))),
    }[place]
    assert sniff(found) == "onnx"
    assert onnx_wire.external_locations(found) == [location]
