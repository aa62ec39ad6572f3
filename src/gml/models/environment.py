"""The environment that a model was saved with, and how far this one is off."""

from __future__ import annotations

import platform
import re
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

import yaml

if TYPE_CHECKING:
    from pathlib import Path

    from gml.models.files import ModelFiles
    from gml.models.mlmodel import MLmodel

REQUIREMENTS: Final = "requirements.txt"
PYTHON_ENV: Final = "python_env.yaml"
CONDA: Final = "conda.yaml"
_PIN: Final = re.compile(r"^([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?\s*==\s*([\w.!+*-]+)")


def write_environment(folder: Path, requirements: list[str], *, conda: dict[str, Any] | None = None) -> None:
    """Write the three files that describe a model's environment, for this Python."""
    python = platform.python_version()
    (folder / REQUIREMENTS).write_text("".join(f"{line}\n" for line in requirements), encoding="utf-8")
    build = [f"{name}=={version}" for name in ("pip", "setuptools", "wheel") if (version := _version(name))]
    env = {"python": python, "build_dependencies": build, "dependencies": [f"-r {REQUIREMENTS}"]}
    (folder / PYTHON_ENV).write_text(yaml.safe_dump(env, sort_keys=False), encoding="utf-8")
    pip = _version("pip")
    described = conda or {
        "channels": ["conda-forge"],
        "dependencies": [f"python={python}", f"pip<={pip}" if pip else "pip", {"pip": list(requirements)}],
        "name": "mlflow-env",
    }
    (folder / CONDA).write_text(yaml.safe_dump(described, sort_keys=False), encoding="utf-8")


def env_conf() -> dict[str, Any]:
    """Return the part of MLmodel that names the files."""
    return {
        "env": {"conda": CONDA, "virtualenv": PYTHON_ENV},
        "python_version": platform.python_version(),
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def read_requirements(files: ModelFiles) -> list[str]:
    """Return the lines of a model's `requirements.txt`; empty without one."""
    if REQUIREMENTS not in files:
        return []
    text = files.read(REQUIREMENTS).decode("utf-8", "replace")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def differences(files: ModelFiles, mlmodel: MLmodel) -> list[str]:
    """Return where this environment is not the recorded one, a sentence each, with both versions."""
    found = []
    recorded = str(mlmodel.pyfunc.get("python_version") or "")
    here = platform.python_version()
    if recorded and recorded.split(".")[:2] != here.split(".")[:2]:
        found.append(f"Python is {here}, the model was saved with {recorded}")
    for line in read_requirements(files):
        pinned = _PIN.match(line)
        if pinned is None or pinned.group(1).lower() in {"mlflow", "gitml"}:
            continue
        installed = _version(pinned.group(1))
        if installed is None:
            found.append(f"{pinned.group(1)} is not installed, the model was saved with {pinned.group(2)}")
        elif installed != pinned.group(2):
            found.append(f"{pinned.group(1)} is {installed}, the model was saved with {pinned.group(2)}")
    return found
