"""Runs as a file store of MLflow: what `gml import mlflow` and older versions of MLflow read.

MLflow 3.7 and newer open it with MLFLOW_ALLOW_FILE_STORE=true, or move it to a database with
`mlflow migrate-filestore`.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from gml.compat.foreign import MODEL, MODEL_DELETED, Losses
from gml.compat.mlflow_files import META, REGISTRY, TRASH
from gml.compat.mlflow_values import STATUS
from gml.domain.errors import GmlError, StorageError, UsageError
from gml.domain.ids import EXPERIMENT_ID, RUN_ID
from gml.domain.metrics import number_from_json
from gml.domain.names import check_artifact_path
from gml.domain.run import DELETED, FAILED, FINISHED, SHREDDED
from gml.index.as_mlflow import mlflow_tags

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gml.compat.foreign import ForeignModel
    from gml.domain.experiment import Experiment
    from gml.domain.run import Run
    from gml.tracking.reader import Reader

_NUMBER_OF: Final = {name: number for number, name in STATUS.items()}
_MODEL_NUMBER: Final = {FINISHED: 2, FAILED: 3}
_DUMPER: Final = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_OURS: Final = frozenset({"gml.model.type", "gml.model.sourceRun"})


@dataclass(slots=True)
class Exported:
    """What an export wrote."""

    runs: int = 0
    models: int = 0
    versions: int = 0
    points: int = 0
    files: int = 0
    losses: Losses = field(default_factory=Losses)


class FileStoreWriter:
    """Writes a file store.

    Args:
        reader: gives runs with their points.
        root: the folder; a file store that is there gets the runs added, or written again.

    Raises:
        UsageError: the folder has other things in it.
        StorageError: it cannot be written.
    """

    def __init__(self, reader: Reader, root: Path) -> None:
        self._reader = reader
        self._root = root
        self._experiments = {e.experiment_id: e for e in reader.experiments()}
        self._made: dict[str, Path] = {}
        self.done = Exported()
        if root.exists() and not root.is_dir():
            raise UsageError(f"{root} is a file", hint="give a new folder")
        if root.is_dir() and any(root.iterdir()) and not any(root.glob(f"*/{META}")):
            raise UsageError(f"{root} has other things in it", hint="give a new folder")
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot write {root}: {error.strerror}") from error

    def write(self, runs: Iterable[Run]) -> None:
        """Write runs and logged models; a run appears when it is whole.

        Raises:
            StorageError: something cannot be written.
        """
        for run in runs:
            if not RUN_ID.fullmatch(run.run_id) or not EXPERIMENT_ID.fullmatch(run.experiment_id):
                self.done.losses.add("runs whose id, or that of their experiment, is none", run.run_id)
                continue
            folder = self._experiment(run.experiment_id)
            is_model = run.lifecycle_stage in {MODEL, MODEL_DELETED}
            target = folder / "models" / run.run_id if is_model else folder / run.run_id
            try:
                target.parent.mkdir(exist_ok=True)
                temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=self._root))
                try:
                    self._fill(temporary, target, run, folder)
                    if target.exists():
                        shutil.rmtree(target)
                    temporary.chmod(0o755)
                    temporary.rename(target)
                finally:
                    shutil.rmtree(temporary, ignore_errors=True)
            except OSError as error:
                raise StorageError(f"cannot write {target}: {error.strerror or error}") from error
            if is_model:
                self.done.models += 1
            else:
                self.done.runs += 1

    def _experiment(self, experiment_id: str) -> Path:
        known = self._made.get(experiment_id)
        if known is not None:
            return known
        found: Experiment | None = self._experiments.get(experiment_id)
        deleted = found is not None and found.lifecycle_stage == DELETED
        folder = (self._root / TRASH if deleted else self._root) / experiment_id
        folder.mkdir(parents=True, exist_ok=True)
        _dump(
            folder,
            {
                "artifact_location": str(self._root.resolve() / experiment_id),
                "creation_time": found.creation_time if found else 0,
                "experiment_id": experiment_id,
                "last_update_time": found.last_update_time if found else 0,
                "lifecycle_stage": DELETED if deleted else "active",
                "name": found.name if found else experiment_id,
            },
        )
        self._texts(folder / "tags", found.tags if found else {}, experiment_id)
        self._made[experiment_id] = folder
        return folder

    # --- runs ---------------------------------------------------------------------------------

    def _fill(self, folder: Path, target: Path, run: Run, experiment: Path) -> None:
        where = self._root.resolve() / target.relative_to(self._root)
        if run.lifecycle_stage in {MODEL, MODEL_DELETED}:
            self._fill_model(folder, where, run)
        else:
            self._fill_run(folder, where, run, experiment)
        self._texts(folder / "params", run.params, run.run_id)
        self._artifacts(folder / "artifacts", run)

    def _fill_run(self, folder: Path, where: Path, run: Run, experiment: Path) -> None:
        _dump(
            folder,
            {
                "artifact_uri": str(where / "artifacts"),
                "end_time": run.end_time,
                "entry_point_name": "",
                "experiment_id": run.experiment_id,
                "lifecycle_stage": run.lifecycle_stage,
                "run_id": run.run_id,
                "run_name": run.name,
                "run_uuid": run.run_id,
                "source_name": "",
                "source_type": 4,
                "source_version": "",
                "start_time": run.start_time,
                "status": _NUMBER_OF[run.status],
                "tags": [],
                "user_id": run.user,
            },
        )
        self._texts(folder / "tags", mlflow_tags(run), run.run_id)
        self._metrics(folder / "metrics", run)
        self._inputs(folder, run, experiment)
        for entry in run.outputs:
            model = entry.get("model_id")
            if not model or entry.get("read") or not RUN_ID.fullmatch(str(model)):
                if entry.get("type") == "model":
                    self.done.losses.add("descriptions of models; their files are artifacts", run.run_id)
                continue
            facts = {
                "destination_id": model, "destination_type": "MODEL_OUTPUT", "source_id": model,
                "source_type": "RUN_OUTPUT", "step": int(entry.get("step", 0)), "tags": {},
            }  # fmt: skip
            _dump(_new(folder / "outputs" / str(model)), facts)
        known = (run.source.get("tree"), run.environment, run.process)
        self.done.losses.add("records of exact code and environment", "", int(any(known)))

    def _fill_model(self, folder: Path, where: Path, run: Run) -> None:
        _dump(
            folder,
            {
                "artifact_location": str(where / "artifacts"),
                "creation_timestamp": run.start_time,
                "experiment_id": run.experiment_id,
                "last_updated_timestamp": run.end_time or run.start_time,
                "lifecycle_stage": DELETED if run.lifecycle_stage == MODEL_DELETED else "active",
                "model_id": run.run_id,
                "model_type": run.tags.get("gml.model.type"),
                "name": run.name,
                "source_run_id": run.tags.get("gml.model.sourceRun"),
                "status": _MODEL_NUMBER.get(run.status, 1),
                "status_message": None,
            },
        )
        own = {key: value for key, value in run.tags.items() if key not in _OURS}
        self._texts(folder / "tags", own | ({"mlflow.user": run.user} if run.user else {}), run.run_id)
        lines: dict[str, list[str]] = {}
        for entry in run.outputs:
            if "metric" not in entry:
                continue
            value = number_from_json(entry["value"])
            line = f"{entry['timestamp']} {value!r} {entry['step']} {entry.get('run_id') or '-'}"
            name, digest = entry.get("dataset_name"), entry.get("dataset_digest")
            if name and digest and " " not in f"{name}{digest}":
                line += f" {name} {digest}"
            elif name:
                self.done.losses.add("data sets of metrics of logged models", f"{name!r} of {run.run_id}")
            lines.setdefault(str(entry["metric"]), []).append(line)
        self._texts(folder / "metrics", {k: "\n".join(v) + "\n" for k, v in lines.items()}, run.run_id)

    def _metrics(self, folder: Path, run: Run) -> None:
        lines = {}
        for key in run.metrics:
            steps, times, values = (column.tolist() for column in self._reader.history(run, key))
            self.done.points += len(steps)
            lines[key] = "".join(
                f"{time} {value!r} {step}\n" for step, time, value in zip(steps, times, values, strict=True)
            )
        self._texts(folder, lines, run.run_id)

    def _inputs(self, folder: Path, run: Run, experiment: Path) -> None:
        entries: list[tuple[str, str, dict[str, str]]] = []
        for entry in run.inputs:
            facts = {key: value for key, value in entry.items() if key != "tags"}
            name = hashlib.md5(
                f"{facts.get('name')}{facts.get('digest')}".encode(), usedforsecurity=False
            ).hexdigest()
            place = experiment / "datasets" / name
            # Another run may have described the same data differently.
            if (place / META).is_file() and yaml.safe_load((place / META).read_text("utf-8")) != facts:
                name = hashlib.md5(repr(sorted(facts.items())).encode(), usedforsecurity=False).hexdigest()
                place = experiment / "datasets" / name
            _dump(_new(place), facts)
            entries.append(("DATASET", name, dict(entry.get("tags") or {})))
        entries += [
            ("MODEL", str(e["model_id"]), {}) for e in run.outputs if e.get("read") and e.get("model_id")
        ]
        for kind, source, tags in entries:
            key = hashlib.md5(
                f"{source}{run.run_id}{sorted(tags.items())}".encode(), usedforsecurity=False
            ).hexdigest()
            facts = {
                "destination_id": run.run_id if kind == "MODEL" else source, "destination_type": "RUN",
                "source_id": source, "source_type": kind, "tags": tags,
            }  # fmt: skip
            _dump(_new(folder / "inputs" / key), facts)

    def _artifacts(self, folder: Path, run: Run) -> None:
        from gml.tracking.contents import open_artifact

        folder.mkdir()
        names = set(run.artifacts)
        for name, facts in run.artifacts.items():
            if facts.at == SHREDDED or any(other.startswith(f"{name}/") for other in names):
                self.done.losses.add("files that were shredded, or whose name is a folder too", name)
                continue
            target = folder / name
            try:
                # Names come from records that others pushed.
                check_artifact_path(name)
                target.parent.mkdir(parents=True, exist_ok=True)
                with open_artifact(self._reader, run, name) as source, target.open("wb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
            except GmlError as error:
                target.unlink(missing_ok=True)
                self.done.losses.add("files that are not here", f"{name} of {run.run_id} ({error.message})")
                continue
            self.done.files += 1

    def _texts(self, folder: Path, values: Mapping[str, str], owner: str) -> None:
        """Write a file for each key; one key must not be a folder of another."""
        folder.mkdir(exist_ok=True)
        for key, value in values.items():
            if any(other.startswith(f"{key}/") for other in values):
                self.done.losses.add("keys that are the folder of another key", f"{key} of {owner}")
                continue
            target = folder / key
            if not target.resolve().is_relative_to(folder.resolve()) or max(map(len, target.parts)) > 250:
                self.done.losses.add("keys that no file can have as its name", f"{key[:60]} of {owner}")
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(value.encode("utf-8", "replace"))

    # --- registry -----------------------------------------------------------------------------

    def write_models(self, models: Iterable[ForeignModel]) -> None:
        """Write registered models; the files of their versions are those of runs written before."""
        for model in models:
            folder = self._root / REGISTRY / model.name
            created = min((v.created for v in model.versions), default=0)
            _dump(
                _new(folder),
                {
                    "aliases": {alias: str(number) for alias, number in model.aliases.items()},
                    "creation_timestamp": created,
                    "description": model.description or None,
                    "last_updated_timestamp": max((v.created for v in model.versions), default=0),
                    "name": model.name,
                },
            )
            self._texts(folder / "tags", model.tags, model.name)
            self._texts(folder / "aliases", {a: str(n) for a, n in model.aliases.items()}, model.name)
            for version in model.versions:
                place = _new(folder / f"version-{version.number}")
                _dump(place, self._version(model.name, version))
                self._texts(place / "tags", version.tags, f"{model.name} v{version.number}")
                self.done.versions += 1

    def _version(self, name: str, version: Any) -> dict[str, Any]:
        facts = dict(version.facts)
        source = version.source
        if version.run_id:
            run = self._reader.run(version.run_id)
            if run is not None:
                is_model = run.lifecycle_stage in {MODEL, MODEL_DELETED}
                middle = f"{run.experiment_id}/models" if is_model else run.experiment_id
                base = self._root.resolve() / middle / run.run_id / "artifacts"
                source = f"{base}/{source}".rstrip("/")
        is_model = bool(version.run_id and version.run_id.startswith("m-"))
        return {
            "creation_timestamp": version.created,
            "current_stage": version.stage,
            "description": version.description or None,
            "last_updated_timestamp": version.created,
            "model_id": version.run_id if is_model else facts.get("model_id"),
            "name": name,
            "run_id": facts.get("run_id") or (None if is_model else version.run_id),
            "run_link": facts.get("run_link"),
            "source": source,
            "status": "READY",
            "status_message": None,
            "storage_location": source,
            "user_id": facts.get("user_id"),
            "version": version.number,
        }


def _new(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _dump(folder: Path, facts: Mapping[str, Any]) -> None:
    text = yaml.dump(dict(facts), Dumper=_DUMPER, allow_unicode=True, default_flow_style=False)
    (folder / META).write_text(text, "utf-8")
