"""What went into a run: name, digest, source, schema and profile of a data set, in MLflow's shapes.

The data itself is never stored here, and what it is made of is recognised without importing anything
that the caller has not imported.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gml.cas.transfer import SourceFile, copy_hashing
from gml.domain.errors import InvalidValueError, NotFoundError, StorageError
from gml.tracking.capture.content import ContentHash, lines_digest
from gml.tracking.capture.keys import clean_text
from gml.tracking.capture.recognise import arrays_of, column_type, frame_of

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_NAME = 500
MAX_DIGEST = 36
MAX_SOURCE = 65_535
MAX_SCHEMA = 1_048_575
MAX_PROFILE = 16_777_215
# How MLflow calls the places that a URL can point to; others are named by their scheme.
_SOURCE_TYPES = {"https": "http", "gs": "gs", "file": "local"}
_URL = re.compile(r"([a-z][a-z0-9+.\-]*)://", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set as runs refer to it.

    Attributes:
        name: up to 500 characters.
        digest: up to 36 characters; two data sets of equal digest are the same.
        source_type: `local`, `http`, `s3`, ... or `code` where no source was given.
        source: JSON text, such as `{"uri": "/data/train.csv"}`.
        schema: JSON text, `{}` where there is none.
        profile: JSON text, counts and sizes, `{}` where there is none.
    """

    name: str
    digest: str
    source_type: str
    source: str
    schema: str = "{}"
    profile: str = "{}"

    def to_dict(self) -> dict[str, str]:
        """Return the six fields by name, as MLflow's `Dataset.to_dict` does."""
        return {
            "name": self.name,
            "digest": self.digest,
            "source_type": self.source_type,
            "source": self.source,
            "schema": self.schema,
            "profile": self.profile,
        }


def describe(
    dataset: Any,
    *,
    name: str | None = None,
    source: str | os.PathLike[str] | None = None,
    targets: Any = None,
) -> Dataset:
    """Describe whatever a training script calls its data.

    Args:
        dataset: a pandas, polars or pyarrow table, a pandas Series, a NumPy array, a dict or list of
            arrays, a list of records, a SciPy sparse matrix, a torch or other tensor, the path of a file
            or folder, an MLflow data set, or a `Dataset`.
        name: what to call it; otherwise the name of the file or folder, or `dataset`.
        source: path or URL where it came from.
        targets: name of the target column of a table, or the array of targets of an array.

    Raises:
        InvalidValueError: it is nothing of the above, or `targets` is no column of it.
        NotFoundError: there is no such file or folder.

    Example:
        >>> describe(pd.DataFrame({"x": [1, 2]}), name="train").profile
        '{"num_rows": 2, "num_elements": 2}'
    """
    if isinstance(dataset, Dataset):
        return _renamed(dataset, name)
    if isinstance(dataset, str | os.PathLike):
        found = _from_path(dataset)
        return _renamed(_with_source(found, source), name)
    root = type(dataset).__module__.partition(".")[0]
    if (frame := frame_of(dataset, root)) is not None:
        target = targets if targets is None or isinstance(targets, str) else repr(targets)[:100]
        return from_pandas(frame, source=source, targets=target, name=name)
    if all(hasattr(dataset, part) for part in ("name", "digest", "to_dict")):
        return _renamed(_from_mlflow(dataset), name)
    return from_numpy(dataset, source=source, targets=targets, name=name)


def from_pandas(
    df: Any,
    source: str | os.PathLike[str] | None = None,
    targets: str | None = None,
    name: str | None = None,
    digest: str | None = None,
) -> Dataset:
    """Describe a pandas DataFrame: columns with MLflow types, number of rows and elements.

    The digest covers names, types and values of the columns, the index unless it just counts, and
    `targets`; see `gml.tracking.capture.content` for how, and for what is sampled of very large data.

    Raises:
        InvalidValueError: `targets` is no column, or `digest` is longer than 36 characters.
    """
    import pandas as pd

    if targets is not None and targets not in list(map(str, df.columns)):
        raise InvalidValueError(f"targets {targets!r} is no column of the data set")
    columns = [_colspec(str(label), df.iloc[:, at]) for at, label in enumerate(df.columns)]
    if digest is None:
        content = ContentHash("frame")
        content.note(columns, len(df), targets)
        for at in range(len(columns)):
            content.column(df.iloc[:, at], len(columns))
        if not isinstance(df.index, pd.RangeIndex):
            content.note("index", [str(label) for label in df.index.names])
            for level in range(df.index.nlevels):
                content.column(df.index.get_level_values(level), len(columns) or 1)
        digest = content.digest()
    profile = {"num_rows": len(df), "num_elements": int(df.size)}
    return _build(name, digest, source, _fit_columns(columns), profile)


def from_numpy(
    features: Any,
    source: str | os.PathLike[str] | None = None,
    targets: Any = None,
    name: str | None = None,
    digest: str | None = None,
) -> Dataset:
    """Describe an array, a sparse matrix, a tensor, or a dict or list of them.

    Raises:
        InvalidValueError: it is none of these, or `digest` is longer than 36 characters.
    """
    parts = arrays_of(features)
    target_parts = None if targets is None else arrays_of(targets)
    tensorspec = {
        "features": _tensorspec(parts),
        "targets": None if target_parts is None else _tensorspec(target_parts),
    }
    if digest is None:
        content = ContentHash("arrays")
        for role, group in (("features", parts), ("targets", target_parts or {})):
            for key, array in group.items():
                content.note(role, key)
                _add_array(content, array)
        digest = content.digest()
    profile = {**_array_profile("features", parts), **_array_profile("targets", target_parts)}
    first = next(iter(parts.values()), None)
    profile["num_rows"] = int(first.shape[0]) if first is not None and first.shape else 0
    profile["num_elements"] = sum(_size(array) for array in parts.values())
    return _build(name, digest, source, {"mlflow_tensorspec": tensorspec}, profile)


def from_file(path: str | os.PathLike[str], name: str | None = None) -> Dataset:
    """Describe a file: the first 32 digits of its SHA-256, and its size in bytes.

    Raises:
        NotFoundError: there is no such file.
        UsageError: it is not a regular file.
        StorageError: it cannot be read, or changes while it is read.
    """
    sha256, size = _hash_file(Path(path))
    return _build(name or Path(path).name, sha256[:32], path, {}, {"size_bytes": size, "sha256": sha256})


def from_folder(path: str | os.PathLike[str], name: str | None = None) -> Dataset:
    """Describe a folder: number and size of its files.

    The digest is over the lines `<sha256>  <relative path>` sorted by path, the way `sha256sum` writes them.
    Links to files count as the files; links to folders are not followed, their target counts.

    Raises:
        NotFoundError: there is no such folder.
        StorageError: a part of it cannot be read, or changes while it is read.
    """
    top = Path(path)
    if not top.is_dir():
        raise NotFoundError(f"there is no folder {top}")
    files, total = 0, 0
    lines: list[tuple[str, str]] = []
    for folder, folders, names in os.walk(top, onerror=_raise_unreadable):
        for entry in names:
            place = Path(folder, entry)
            if place.is_file():  # neither pipes nor links to nowhere
                sha256, size = _hash_file(place)
                files, total = files + 1, total + size
                lines.append((place.relative_to(top).as_posix(), sha256))
        for entry in folders:
            place = Path(folder, entry)
            if place.is_symlink():
                lines.append((place.relative_to(top).as_posix(), f"-> {os.readlink(place)}"))  # noqa: PTH115
    digest = lines_digest(f"{content}  {relative}\n" for relative, content in sorted(lines))
    return _build(name or top.resolve().name, digest, path, {}, {"num_files": files, "size_bytes": total})


def _from_mlflow(dataset: Any) -> Dataset:
    fields: Mapping[str, Any] = dataset.to_dict()
    texts = {
        key: value if isinstance(value, str) else json.dumps(value, default=str)
        for key, value in fields.items()
        if value is not None
    }
    return _checked(
        Dataset(
            name=texts.get("name") or str(dataset.name),
            digest=texts.get("digest") or str(dataset.digest),
            source_type=texts.get("source_type", "code"),
            source=texts.get("source", "{}"),
            schema=texts.get("schema", "{}"),
            profile=texts.get("profile", "{}"),
        )
    )


def _from_path(path: str | os.PathLike[str]) -> Dataset:
    place = Path(path)
    if place.is_dir():
        return from_folder(path)
    if isinstance(path, str) and _URL.match(path) and not place.exists():
        raise InvalidValueError(
            f"the data at {path} cannot be described without reading it",
            hint="load it and pass the data, with source=URL",
        )
    return from_file(path)


def _hash_file(path: Path) -> tuple[str, int]:
    with SourceFile(path) as file:
        blob = copy_hashing(file.read, None)
        file.check(blob.size)
    return blob.digest, blob.size


def _raise_unreadable(error: OSError) -> None:
    raise StorageError(f"cannot read {error.filename}: {error.strerror}") from error


def _colspec(label: str, series: Any) -> dict[str, Any]:
    return {"type": column_type(series), "name": label, "required": not bool(series.isna().any())}


def _fit_columns(columns: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the schema, of a very wide table only as many columns as MLflow has room for."""
    room = MAX_SCHEMA - 100
    for count, column in enumerate(columns):
        room -= len(json.dumps(column)) + 2
        if room < 0:
            return {"mlflow_colspec": columns[:count], "num_columns": len(columns)}
    return {"mlflow_colspec": columns}


def _add_array(content: ContentHash, array: Any) -> None:
    if not hasattr(array, "indptr"):
        content.array(array)
        return
    content.note("csr", list(array.shape))
    # SciPy chooses 32 or 64 bits for positions by size and version.
    for part in (array.indptr.astype("i8"), array.indices.astype("i8"), array.data):
        content.array(part)


def _size(array: Any) -> int:
    size = 1
    for length in array.shape:
        size *= int(length)
    return size


def _tensorspec(parts: dict[str, Any]) -> str:
    """Return what MLflow's `Schema.to_json` gives: the first dimension is free."""
    specs = []
    for key, array in parts.items():
        spec = {"dtype": str(array.dtype), "shape": [-1, *(int(length) for length in array.shape[1:])]}
        specs.append({"type": "tensor", **({"name": key} if key else {}), "tensor-spec": spec})
    return json.dumps(specs)


def _array_profile(role: str, parts: dict[str, Any] | None) -> dict[str, Any]:
    if parts is None:
        return {}
    facts: dict[str, dict[str, Any]] = {"shape": {}, "size": {}, "nbytes": {}}
    for key, array in parts.items():
        facts["shape"][key] = [int(length) for length in array.shape]
        facts["size"][key] = _size(array)
        facts["nbytes"][key] = int(array.data.nbytes if hasattr(array, "indptr") else array.nbytes)
    single = list(parts) == [""]
    return {f"{role}_{fact}": values[""] if single else values for fact, values in facts.items()}


def _build(name: str | None, digest: str, source: Any, schema: Any, profile: Any) -> Dataset:
    source_type, described = _source(source)
    texts = json.dumps(schema), json.dumps(profile)
    return _checked(Dataset(name or "dataset", digest, source_type, described, *texts))


def _source(source: str | os.PathLike[str] | None) -> tuple[str, str]:
    if source is None:
        return "code", json.dumps({"tags": {}})
    text = clean_text(os.fspath(source))
    scheme = _URL.match(text)
    if scheme is None:
        return "local", json.dumps({"uri": text})
    kind = _SOURCE_TYPES.get(scheme[1].lower(), scheme[1].lower())
    return kind, json.dumps({"url" if kind == "http" else "uri": text})


def _with_source(dataset: Dataset, source: str | os.PathLike[str] | None) -> Dataset:
    if source is None:
        return dataset
    source_type, described = _source(source)
    return _checked(replace(dataset, source_type=source_type, source=described))


def _renamed(dataset: Dataset, name: str | None) -> Dataset:
    return dataset if name is None else _checked(replace(dataset, name=name))


def _checked(dataset: Dataset) -> Dataset:
    limits = (
        ("digest", dataset.digest, MAX_DIGEST),
        ("name", dataset.name, MAX_NAME),
        ("source", dataset.source, MAX_SOURCE),
        ("schema", dataset.schema, MAX_SCHEMA),
        ("profile", dataset.profile, MAX_PROFILE),
    )
    for what, text, limit in limits:
        if not text or len(text) > limit:
            raise InvalidValueError(f"the {what} of a data set has 1 to {limit} characters, not {len(text)}")
    return replace(dataset, name=clean_text(dataset.name))
