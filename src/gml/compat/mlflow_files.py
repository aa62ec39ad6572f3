"""MLflow's file store (`mlruns`), read as files: MLflow itself refuses to open it since 3.7.

<experiment>/meta.yaml, tags/
<experiment>/<run>/meta.yaml, params/, tags/, metrics/, inputs/, outputs/, artifacts/
<experiment>/datasets/<id>/meta.yaml
<experiment>/models/<model>/meta.yaml, params/, tags/, metrics/, artifacts/     (MLflow 3)
models/<name>/meta.yaml, tags/, aliases/, version-<n>/                           (the registry)
.trash/<experiment>                                                              (deleted experiments)
"""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from gml.compat import artifact_files
from gml.compat.foreign import (
    MODEL,
    MODEL_DELETED,
    ForeignExperiment,
    ForeignModel,
    ForeignRun,
    ForeignVersion,
    Losses,
)
from gml.compat.mlflow_values import STATUS, model_outputs, model_status, text_of, version_facts
from gml.domain.errors import NotFoundError, UsageError
from gml.domain.run import ACTIVE, DELETED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gml.compat.foreign import Point

META: Final = "meta.yaml"
TRASH: Final = ".trash"
REGISTRY: Final = "models"
_NOT_RUNS: Final = frozenset({"tags", "datasets", "traces", "models"})
_SAFE: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
DAMAGED: Final = "runs that are damaged"


class MlflowFiles:
    """An `mlruns` folder.

    Args:
        root: the folder.

    Raises:
        NotFoundError: there is no such folder.
        UsageError: it is no file store.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise NotFoundError(f"there is no folder {root}")
        self.root = root
        self.name = str(root)
        self.losses = Losses()
        if not any(True for _ in self._folders()) and not (root / REGISTRY).is_dir():
            raise UsageError(
                f"{root} is no file store of MLflow: no folder of it has a {META}",
                hint="give the folder that is usually called mlruns",
            )

    def _folders(self) -> Iterator[tuple[Path, bool]]:
        for top, deleted in ((self.root, False), (self.root / TRASH, True)):
            if top.is_dir():
                for folder in sorted(top.iterdir()):
                    if folder.name not in {TRASH, REGISTRY} and (folder / META).is_file():
                        yield folder, deleted

    def experiments(self) -> list[ForeignExperiment]:
        """See `Source.experiments`."""
        found = []
        for folder, deleted in self._folders():
            meta = self._meta(folder)
            if meta is None:
                self.losses.add("experiments that are damaged", str(folder))
                continue
            found.append(
                ForeignExperiment(
                    folder.name,
                    text_of(meta.get("name")) or folder.name,
                    deleted or meta.get("lifecycle_stage") == DELETED,
                    _number(meta.get("creation_time")),
                    _number(meta.get("last_update_time")),
                    _texts(folder / "tags"),
                )
            )
        return found

    def _folder(self, experiment: ForeignExperiment) -> Path:
        alive = self.root / experiment.experiment_id
        return alive if (alive / META).is_file() else self.root / TRASH / experiment.experiment_id

    def runs(self, experiment: ForeignExperiment, since: int | None) -> Iterator[ForeignRun]:
        """See `Source.runs`."""
        folder = self._folder(experiment)
        datasets = cache(lambda name: self._meta(folder / "datasets" / name))
        for path in sorted(folder.iterdir()):
            if path.name not in _NOT_RUNS and path.is_dir():
                run = self._read(path, experiment, datasets)
                if run is not None and run.since(since):
                    yield run
        models = folder / "models"
        for path in sorted(models.iterdir()) if models.is_dir() else ():
            if path.is_dir():
                model = self._read_model(path, experiment)
                if model is not None and model.since(since):
                    yield model

    def _read(self, path: Path, experiment: ForeignExperiment, datasets: Any) -> ForeignRun | None:
        meta = self._meta(path)
        if meta is None:
            self.losses.add(DAMAGED, str(path))
            return None
        run_id = text_of(meta.get("run_id") or meta.get("run_uuid")) or path.name
        tags = _texts(path / "tags")
        status = meta.get("status")
        inputs, read = self._inputs(path, datasets)
        folder = self._files(path, run_id, text_of(meta.get("artifact_uri")))
        metrics = _names(path / "metrics")
        return ForeignRun(
            run_id,
            experiment.experiment_id,
            text_of(meta.get("run_name") or meta.get("name")) or tags.get("mlflow.runName", ""),
            text_of(meta.get("user_id")),
            STATUS.get(status, status if isinstance(status, str) else "RUNNING"),
            _number(meta.get("start_time")),
            _maybe(meta.get("end_time")),
            DELETED if meta.get("lifecycle_stage") == DELETED else ACTIVE,
            _texts(path / "params"),
            tags,
            lambda: self._points(path / "metrics", metrics, run_id),
            inputs,
            [*({"model_id": each, "read": True} for each in read), *self._outputs(path)],
            lambda: artifact_files.walk(folder, self.losses),
            _fingerprint(path, folder),
        )

    def _files(self, path: Path, run_id: str, uri: str) -> Path:
        folder = path / "artifacts"
        named = artifact_files.local_path(uri)
        if folder.is_dir():
            own = named is not None and named.parts[-3:] == (path.parent.name, path.name, "artifacts")
            if own or not uri or any(folder.iterdir()):
                return folder
        return artifact_files.find_folder(run_id, uri, self._places(), self.losses) or folder

    def _places(self) -> tuple[Path, ...]:
        return self.root, self.root.parent, Path.cwd()

    def _points(self, folder: Path, names: list[str], run_id: str) -> Iterator[Point]:
        for name in names:
            with (folder / name).open("rb") as file:
                for line in file:
                    parts = line.split()
                    if not parts:
                        continue
                    try:
                        # The first file stores had no step; later ones also name a data set, or a run.
                        yield (
                            name,
                            float(parts[1]),
                            int(parts[0]),
                            int(parts[2]) if len(parts) > 2 else 0,
                        )
                    except (ValueError, IndexError):
                        self.losses.add("metric lines that are damaged", f"{name} of run {run_id}")

    def _inputs(self, path: Path, datasets: Any) -> tuple[list[dict[str, Any]], list[str]]:
        found: list[dict[str, Any]] = []
        models: list[str] = []
        for folder in _subfolders(path / "inputs"):
            meta = self._meta(folder) or {}
            source = text_of(meta.get("source_id"))
            if meta.get("source_type") == "MODEL":
                models.append(source)
                continue
            facts = datasets(source) if source else None
            if facts is None:
                self.losses.add("inputs whose data set is not described", str(folder))
                continue
            entry = {key: facts[key] for key in facts if facts[key] is not None}
            found.append({**entry, "tags": {k: text_of(v) for k, v in (meta.get("tags") or {}).items()}})
        return found, models

    def _outputs(self, path: Path) -> list[dict[str, Any]]:
        out = []
        for folder in _subfolders(path / "outputs"):
            meta = self._meta(folder) or {}
            model = text_of(meta.get("destination_id")) or folder.name
            out.append({"model_id": model, "step": _number(meta.get("step"))})
        return out

    def _read_model(self, path: Path, experiment: ForeignExperiment) -> ForeignRun | None:
        meta = self._meta(path)
        if meta is None:
            self.losses.add("logged models that are damaged", str(path))
            return None
        metrics = _names(path / "metrics")
        found: list[tuple[str, list[str]]] = []
        for name in metrics:
            lines = (path / "metrics" / name).read_text("utf-8", "replace").splitlines()
            found += [(name, line.split()) for line in lines if line.strip()]
        tags = dict(_texts(path / "tags"))
        model_tags(tags, meta)
        return ForeignRun(
            path.name,
            experiment.experiment_id,
            text_of(meta.get("name")),
            "",
            model_status(meta.get("status")),
            _number(meta.get("creation_timestamp")),
            _number(meta.get("last_updated_timestamp")),
            MODEL_DELETED if meta.get("lifecycle_stage") == DELETED else MODEL,
            _texts(path / "params"),
            tags,
            lambda: self._points(path / "metrics", metrics, path.name),
            [],
            [
                model_outputs(name, float(p[1]), int(p[0]), int(p[2]), p[3], *(p[4:6] or (None, None)))
                for name, p in found
                if len(p) in {4, 6}
            ],
            lambda: artifact_files.walk(path / "artifacts", self.losses),
            _fingerprint(path, path / "artifacts"),
        )

    def models(self) -> list[ForeignModel]:
        """See `Source.models`."""
        found = []
        for folder in _subfolders(self.root / REGISTRY):
            meta = self._meta(folder)
            if meta is None:
                self.losses.add("registered models that are damaged", str(folder))
                continue
            versions = []
            for path in _subfolders(folder):
                facts = self._meta(path) if path.name.startswith("version-") else None
                if facts is not None and facts.get("current_stage") != "Deleted_Internal":
                    versions.append(read_version(facts, _texts(path / "tags")))
            aliases = {**(meta.get("aliases") or {}), **_texts(folder / "aliases")}
            found.append(
                ForeignModel(
                    text_of(meta.get("name")) or folder.name,
                    text_of(meta.get("description")),
                    _texts(folder / "tags"),
                    {key: int(value) for key, value in aliases.items() if str(value).isdigit()},
                    tuple(sorted(versions, key=lambda v: v.number)),
                )
            )
        return found

    def count_rest(self) -> None:
        """See `Source.count_rest`."""
        for folder, _ in self._folders():
            self.losses.add("traces", folder.name, sum(1 for _ in _subfolders(folder / "traces")))

    def _meta(self, folder: Path) -> dict[str, Any] | None:
        try:
            value = yaml.load((folder / META).read_bytes(), Loader=_SAFE)  # noqa: S506 - a safe loader
        except (OSError, ValueError, yaml.YAMLError):
            return None
        return value if isinstance(value, dict) else None


def read_version(facts: dict[str, Any], tags: dict[str, str]) -> ForeignVersion:
    """Return the version that a mapping with MLflow's names describes."""
    return ForeignVersion(
        _number(facts.get("version")),
        text_of(facts.get("run_id")) or None,
        text_of(facts.get("model_id")) or None,
        text_of(facts.get("source")),
        text_of(facts.get("current_stage")) or "None",
        text_of(facts.get("description")),
        _number(facts.get("creation_timestamp", facts.get("creation_time"))),
        tags,
        version_facts(facts),
    )


def model_tags(tags: dict[str, str], meta: dict[str, Any]) -> None:
    """Add what gml keeps of a logged model as tags."""
    for key, name in (("gml.model.type", "model_type"), ("gml.model.sourceRun", "source_run_id")):
        value = text_of(meta.get(name))
        if value:
            tags[key] = value


def _fingerprint(path: Path, files: Path) -> str:
    seen = artifact_files.fingerprint(path)
    if not files.is_relative_to(path):
        seen += artifact_files.fingerprint(files)
    return hashlib.sha256(repr(seen).encode()).hexdigest()[:32]


def _number(value: Any) -> int:
    return int(value) if isinstance(value, (int, float)) or str(value).lstrip("-").isdigit() else 0


def _maybe(value: Any) -> int | None:
    return None if value is None else _number(value)


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _names(folder: Path) -> list[str]:
    """Return the files below a folder, relative to it: a key with a slash is a file in a folder."""
    found: list[str] = []
    for where, folders, names in os.walk(folder):
        folders.sort()
        prefix = os.path.relpath(where, folder).replace(os.sep, "/")
        found += [name if prefix == "." else f"{prefix}/{name}" for name in names]
    return sorted(found)


def _texts(folder: Path) -> dict[str, str]:
    found = {}
    for name in _names(folder):
        with open(folder / name, "rb") as file:  # noqa: PTH123 - the fastest way, for a million of them
            found[name] = file.read().decode("utf-8", "replace")
    return found
