"""Trying a model out: a fresh process loads it, predicts its example, and says what that took."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import GmlError, InvalidValueError
from gml.models import environment

if TYPE_CHECKING:
    from gml.models.files import ModelFiles

_TIMEOUT: Final = 1_800.0
_REPEATS: Final = 20

_SCRIPT: Final = """
import json, resource, sys, time
import numpy as np
import pandas as pd
from gml.domain.errors import GmlError
from gml.models.files import ModelFiles
from gml.models.flavor import LoadOptions
from gml.models.inference import infer_schema
from gml.models.loaded import load_model

def alike(one, other):
    def facts(schema):
        return [(type(a), a.type, getattr(a, "shape", None) and len(a.shape)) for a in schema]

    return facts(one) == facts(other)

def megabytes():
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit

try:
    before = megabytes()
    start = time.perf_counter()
    model = load_model(ModelFiles.of_folder(sys.argv[1]), LoadOptions(code=sys.argv[2] == "code"))
    report = {"load_seconds": round(time.perf_counter() - start, 3), "format_class": model.format_class}
    if model.example is None:
        report["example"] = "the model has none"
    else:
        data, params = model.example
        times = []
        for _ in range(int(sys.argv[3])):
            start = time.perf_counter()
            output = model.predict(data, params)
            times.append(time.perf_counter() - start)
        report["example"] = "predicted"
        report["predict_ms"] = round(sorted(times)[len(times) // 2] * 1000, 3)
        signature = model.metadata.signature
        expected = signature.outputs if signature is not None else None
        actual = infer_schema(output)
        ways = [actual]
        if isinstance(output, np.ndarray) and output.ndim == 1:
            # A signature may call one prediction a row a column.
            ways.append(infer_schema(pd.Series(output)))
        same = expected is None or any(alike(way, expected) for way in ways)
        report["outputs"] = "as the signature says" if same else f"{actual!r} instead of {expected!r}"
    report["memory_mb"] = round(megabytes(), 1)
    report["model_memory_mb"] = round(megabytes() - before, 1)
    print("\\x1e" + json.dumps(report))
except GmlError as error:
    print("\\x1e" + json.dumps({"error": str(error)}))
"""


def validate_model(files: ModelFiles, *, code: bool, new_environment: bool) -> dict[str, Any]:
    """Load a model in a fresh process and predict its example.

    Args:
        files: the model.
        code: code of it may run.
        new_environment: install its requirements into an environment of their own first.

    Returns:
        Seconds to load, milliseconds to predict the example (median), megabytes, and how far this
        environment is from the recorded one.

    Raises:
        InvalidValueError: it cannot be loaded or does not predict; says why.
    """
    mlmodel = files.mlmodel()
    report: dict[str, Any] = {"digest": files.digest()}
    folder = files.copy()
    try:
        with tempfile.TemporaryDirectory(prefix="gml-validate-") as scratch:
            python = _new_python(folder, Path(scratch)) if new_environment else sys.executable
            report |= _try(python, folder, code)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if not new_environment:
        report["differs_here"] = "; ".join(environment.differences(files, mlmodel)) or "nothing"
    if "instead of" in str(report.get("outputs", "")):
        raise InvalidValueError(
            f"the model predicts {report['outputs']}", hint="save it with another signature"
        )
    return report


def _try(python: str, folder: Path, code: bool) -> dict[str, Any]:
    trust = "code" if code else "data"
    try:
        done = subprocess.run(
            [python, "-c", _SCRIPT, str(folder), trust, str(_REPEATS)],
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise InvalidValueError(f"the model did not predict its example in {_TIMEOUT:g} s") from None
    _, found, report = done.stdout.rpartition("\x1e")
    if not found:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise InvalidValueError(f"the model does not predict its example: {last}")
    parsed: dict[str, Any] = json.loads(report)
    if "error" in parsed:
        raise InvalidValueError(str(parsed["error"]))
    return parsed


def _new_python(folder: Path, scratch: Path) -> str:
    """Return the Python of a new environment with the model's requirements and gml itself."""
    where = scratch / "venv"
    source = Path(__file__).parents[3]
    ours = str(source) if (source / "pyproject.toml").is_file() else "gitml"
    requirements = folder / environment.REQUIREMENTS
    python = str(where / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
    steps = [[sys.executable, "-m", "venv", str(where)], [python, "-m", "pip", "install", "-q", ours]]
    if requirements.is_file():
        steps.append([python, "-m", "pip", "install", "-q", "-r", str(requirements)])
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise GmlError(f"the model's environment cannot be made: {last}")
    return python
