"""Formats are told by what files hold: at registration, and by a server for what is in the ledger."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from gml.policy.records import CODE, DATA, UNKNOWN
from gml.registry.branch import Registry
from gml.registry.evidence import LedgerEvidence
from gml.registry.formats import class_of_content
from gml.registry.register import register

SAFE = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
SAFETENSORS = struct.pack("<Q", len(SAFE)) + SAFE + b"\0\0\0\0"
PICKLE = pickle.dumps({"w": [1, 2]})


def npy(array) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    return out.getvalue()


def zipped(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("_", "."), data)
    return out.getvalue()


BYTES = [
        (SAFETENSORS, None), (PICKLE, CODE), (pickle.dumps([1], protocol=0), CODE), (gzip.compress(PICKLE), CODE),
        (npy(np.zeros(3)), None), (npy(np.array([object()], dtype=object)), CODE), (b'{"a": 1}', None),
        (zipped(data_pkl=PICKLE), CODE), (zipped(w_npy=npy(np.zeros(2))), None), (b"\x89HDF\r\n\x1a\n" + b"\0" * 20, CODE),
        (b"BZh is how this text begins\n", None), (b"ZF,torque\n1,2\n", None), ("ZFé".encode() * 3_000, None),
        (b"%PDF-1.7\n", None), (b"\x89PNG\r\n\x1a\n\0", None), (zipped(readme_txt=b"hello"), CODE), (b"PK\3\4 cut", CODE),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(BYTES)))
def test_what_bytes_say(number):
    data, expected = BYTES[number]
    assert class_of_content(data) == expected


REGISTER = """
import sys, gml
from pathlib import Path
with gml.start_run() as run:
    for name in sys.argv[1:]:
        gml.log_artifact(name, "model")
print(run.info.run_id)
"""


FILES = {
    "good": ("model.safetensors", SAFETENSORS, DATA),
    "renamed": ("model.safetensors", PICKLE, CODE),
    "renamed_and_large": ("model.safetensors", pickle.dumps(b"x" * 100_000), CODE),
    "nameless": ("weights", PICKLE, CODE),
    "unknown": ("weights", b"plain", UNKNOWN),
    "called_a_pickle": ("model.pkl", b"plain", CODE),
}


@pytest.mark.parametrize("case", FILES)
def test_a_version_says_what_its_files_are(repo, case):
    name, data, expected = FILES[case]
    (repo.path / name).write_bytes(data)
    run = repo.python(REGISTER, name)
    registry = Registry(repo.workspace())
    version = register(registry, "churn", run, "model").version
    assert version.format_class == expected
    # a creator who says otherwise: a server sees what the ledger itself holds
    lying = replace(version, format_class=DATA)
    seen = LedgerEvidence(registry.store, registry.workspace.ledger.tip()).format_class(lying)
    assert seen == (DATA if len(data) > 65_536 else expected)
