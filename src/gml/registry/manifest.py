"""Which files a version is: the manifest that its digest is about, and the class of their formats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gml.policy import canonical
from gml.policy.records import CODE, DATA, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gml.domain.run import Artifact, Run

# What a loader reads without running code of the file.
_DATA: Final = frozenset(
    [
        "safetensors",
        "onnx",
        "ubj",
        "json",
        "jsonl",
        "txt",
        "md",
        "csv",
        "tsv",
        "yaml",
        "yml",
        "toml",
        "npz",
        "npy",
        "gguf",
        "parquet",
        "arrow",
        "feather",
        "skops",
        "cbm",
        "png",
        "jpg",
        "jpeg",
        "svg",
        "html",
        "pdf",
        "xml",
        "model",
        "vocab",
        "merges",
        "lgb",
        "pmml",
        "log",
        "hist",
    ]
)
# What runs code when it is loaded, or is code.
_CODE: Final = frozenset(
    [
        "pkl",
        "pickle",
        "joblib",
        "dill",
        "cloudpickle",
        "pt",
        "pth",
        "ckpt",
        "bin",
        "h5",
        "hdf5",
        "keras",
        "pb",
        "py",
        "pyc",
        "so",
        "dll",
        "dylib",
        "sh",
        "r",
        "rds",
        "jar",
        "mar",
        "whl",
        "egg",
        "zip",
        "tar",
        "gz",
        "tgz",
    ]
)
_PLAIN_NAMES: Final = frozenset(("mlmodel", "license", "readme", "requirements"))


def manifest(run: Run, path: str) -> dict[str, dict[str, Any]]:
    """Return the files of a run below a path: path relative to it -> `{"sha256", "size"}`.

    Args:
        run: the run.
        path: a folder or a file among its artifacts; empty for all. A file has its last name.
    """
    wanted = path.strip("/")
    found: dict[str, Artifact] = {}
    for name, artifact in run.artifacts.items():
        if not wanted:
            found[name] = artifact
        elif name == wanted:
            found[name.rpartition("/")[2]] = artifact
        elif name.startswith(f"{wanted}/"):
            found[name[len(wanted) + 1 :]] = artifact
    return {name: {"sha256": a.sha256, "size": a.size} for name, a in sorted(found.items())}


def manifest_digest(files: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the digest of a manifest: SHA-256 of its canonical JSON (docs/format.md)."""
    return canonical.digest(canonical.encode({name: dict(facts) for name, facts in files.items()}))


def format_class(paths: Iterable[str]) -> str:
    """Return the worst class among files, judged by their names: `data`, `unknown` or `code`.

    Example:
        >>> format_class(["MLmodel", "weights.safetensors"]), format_class(["model.pkl"])
        ('data', 'code')
    """
    classes = {class_of_name(path) for path in paths}
    return CODE if CODE in classes else UNKNOWN if UNKNOWN in classes or not classes else DATA


def class_of_name(path: str) -> str:
    """Return the class that a file's name promises."""
    name = path.rpartition("/")[2].lower()
    stem, dot, ending = name.rpartition(".")
    if ending in _CODE:
        return CODE
    if ending in _DATA or (name if not dot else stem) in _PLAIN_NAMES:
        return DATA
    return UNKNOWN
