"""An MLflow server (or any other that speaks its REST API), read through it."""

from __future__ import annotations

import hashlib
import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from gml.compat.foreign import MODEL, ForeignExperiment, ForeignFile, ForeignModel, ForeignRun, Losses
from gml.compat.mlflow_files import model_tags, read_version
from gml.compat.mlflow_values import model_outputs, model_status, text_of, unclip
from gml.domain.errors import CorruptError, NotFoundError
from gml.domain.run import ACTIVE, DELETED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from gml.compat.foreign import Point
    from gml.compat.rest import Rest

_WORKERS: Final = 8
_AHEAD: Final = 64
_PAGE: Final = 1_000
_POINTS: Final = 25_000
_BAD_PATH: Final = re.compile(r"(?:^|/)\.\.?(?:/|$)|^/|[\\\x00]")


class MlflowServer:
    """A server.

    Args:
        rest: its client.
    """

    def __init__(self, rest: Rest) -> None:
        self._rest = rest
        self.name = rest.url
        self.losses = Losses()
        self._pool = ThreadPoolExecutor(_WORKERS, "gml-import")
        # Its own threads: a task that waits for another of the same pool may wait forever.
        self._points_pool = ThreadPoolExecutor(_WORKERS, "gml-import-points")

    def experiments(self) -> list[ForeignExperiment]:
        """See `Source.experiments`."""
        found = self._rest.pages(
            "POST", "experiments/search", "experiments", max_results=_PAGE, view_type="ALL"
        )
        return [
            ForeignExperiment(
                str(e["experiment_id"]), text_of(e.get("name")), e.get("lifecycle_stage") == DELETED,
                int(e.get("creation_time") or 0), int(e.get("last_update_time") or 0), _pairs(e.get("tags")),
            )
            for e in found
        ]  # fmt: skip

    def runs(self, experiment: ForeignExperiment, since: int | None) -> Iterator[ForeignRun]:
        """See `Source.runs`."""
        found = self._rest.pages(
            "POST", "runs/search", "runs", experiment_ids=[experiment.experiment_id], run_view_type="ALL",
            max_results=_PAGE, order_by=["attributes.start_time ASC"],
        )  # fmt: skip
        wanted = (run for run in map(self._read, found) if run.since(since))
        yield from self._with_files(wanted, self._list_run)
        try:
            models = list(
                self._rest.pages(
                    "POST", "logged-models/search", "models",
                    experiment_ids=[experiment.experiment_id], max_results=50,
                )
            )  # fmt: skip
        except (NotFoundError, CorruptError):
            return  # before MLflow 3
        yield from self._with_files(
            (model for model in map(self._read_model, models) if model.since(since)), self._list_model
        )

    def _with_files(
        self, runs: Iterator[ForeignRun], listing: Callable[[str], list[ForeignFile]]
    ) -> Iterator[ForeignRun]:
        """Add the files of runs, of several at once."""
        batch: list[ForeignRun] = []

        def done() -> Iterator[ForeignRun]:
            for run, files in zip(batch, self._pool.map(listing, [r.run_id for r in batch]), strict=True):
                run.files = _giver(files)
                seen = (run.fingerprint, [(file.path, file.size) for file in files])
                run.fingerprint = hashlib.sha256(repr(seen).encode()).hexdigest()[:32]
                yield run

        for run in runs:
            batch.append(run)
            if len(batch) == _AHEAD:
                yield from done()
                batch.clear()
        yield from done()

    def _read(self, run: Mapping[str, Any]) -> ForeignRun:
        info, data = run["info"], run.get("data", {})
        inputs, outputs = run.get("inputs", {}), run.get("outputs", {})
        run_id = str(info.get("run_id") or info.get("run_uuid"))
        tags = _pairs(data.get("tags"))
        keys = sorted({metric["key"] for metric in data.get("metrics", ())})
        return ForeignRun(
            run_id,
            str(info.get("experiment_id", "0")),
            text_of(info.get("run_name")) or tags.get("mlflow.runName", ""),
            text_of(info.get("user_id")),
            text_of(info.get("status")) or "RUNNING",
            int(info.get("start_time") or 0),
            int(info["end_time"]) if info.get("end_time") else None,
            DELETED if info.get("lifecycle_stage") == DELETED else ACTIVE,
            _pairs(data.get("params")),
            tags,
            lambda: self._points(run_id, keys),
            [
                {**entry["dataset"], "tags": _pairs(entry.get("tags"))}
                for entry in inputs.get("dataset_inputs", ())
            ],
            [
                *({"model_id": each["model_id"], "read": True} for each in inputs.get("model_inputs", ())),
                *(
                    {"model_id": each["model_id"], "step": int(each.get("step") or 0)}
                    for each in outputs.get("model_outputs", ())
                ),
            ],
            fingerprint=json.dumps(run, sort_keys=True),
        )

    def _points(self, run_id: str, keys: list[str]) -> Iterator[Point]:
        def one(key: str) -> list[Point]:
            return [
                (
                    key,
                    unclip(float(p.get("value", 0.0))),
                    int(p.get("timestamp") or 0),
                    int(p.get("step") or 0),
                )
                for p in self._rest.pages(
                    "GET",
                    "metrics/get-history",
                    "metrics",
                    run_id=run_id,
                    metric_key=key,
                    max_results=_POINTS,
                )
            ]

        for points in self._points_pool.map(one, keys):
            yield from points

    def _list_run(self, run_id: str) -> list[ForeignFile]:
        def ask(path: str) -> list[dict[str, Any]]:
            return list(self._rest.pages("GET", "artifacts/list", "files", run_id=run_id, path=path or None))

        def where(path: str) -> str:
            return f"/get-artifact?{urlencode({'run_id': run_id, 'run_uuid': run_id, 'path': path})}"

        return self._list(run_id, ask, where)

    def _list_model(self, model_id: str) -> list[ForeignFile]:
        def ask(path: str) -> list[dict[str, Any]]:
            return list(
                self._rest.pages(
                    "GET", f"logged-models/{model_id}/artifacts/directories", "files",
                    artifact_directory_path=path or None,
                )
            )  # fmt: skip

        def where(path: str) -> str:
            base = f"/ajax-api/2.0/mlflow/logged-models/{model_id}/artifacts/files"
            return f"{base}?{urlencode({'artifact_file_path': path})}"

        return self._list(model_id, ask, where)

    def _list(
        self, owner: str, ask: Callable[[str], list[dict[str, Any]]], where: Callable[[str], str]
    ) -> list[ForeignFile]:
        found: list[ForeignFile] = []
        folders, seen = [""], {""}
        while folders:
            try:
                entries = ask(folders.pop())
            except (NotFoundError, CorruptError) as error:
                self.losses.add(
                    "folders of files that the server cannot list", f"{owner} ({error.message:.120})"
                )
                continue
            for entry in entries:
                path = str(entry.get("path", ""))
                if not path or _BAD_PATH.search(path):
                    self.losses.add("files whose names no artifact can have", path)
                elif entry.get("is_dir"):
                    # A server that lists a folder within itself must not keep us forever.
                    if path not in seen and len(seen) < 100_000:
                        seen.add(path)
                        folders.append(path)
                else:
                    size = entry.get("file_size")
                    opened = _opener(self._rest, where(path))
                    found.append(ForeignFile(path, None if size is None else int(size), opened))
        return sorted(found, key=lambda file: file.path)

    def _read_model(self, model: Mapping[str, Any]) -> ForeignRun:
        info, data = model["info"], model.get("data", {})
        tags = _pairs(info.get("tags"))
        model_tags(tags, dict(info))
        metrics = data.get("metrics", ())
        return ForeignRun(
            str(info["model_id"]),
            str(info.get("experiment_id", "0")),
            text_of(info.get("name")),
            text_of(info.get("creator_id")),
            model_status(info.get("status")),
            int(info.get("creation_timestamp_ms") or 0),
            int(info.get("last_updated_timestamp_ms") or 0),
            MODEL,
            _pairs(data.get("params")),
            tags,
            lambda: [
                (
                    m["key"],
                    unclip(float(m.get("value", 0.0))),
                    int(m.get("timestamp") or 0),
                    int(m.get("step") or 0),
                )
                for m in metrics
            ],
            [],
            [
                model_outputs(
                    m["key"], unclip(float(m.get("value", 0.0))), int(m.get("timestamp") or 0),
                    int(m.get("step") or 0), m.get("run_id"), m.get("dataset_name"), m.get("dataset_digest"),
                )
                for m in metrics
            ],
            fingerprint=json.dumps(model, sort_keys=True),
        )  # fmt: skip

    def models(self) -> list[ForeignModel]:
        """See `Source.models`."""
        try:
            known = list(
                self._rest.pages("GET", "registered-models/search", "registered_models", max_results=100)
            )
        except NotFoundError as error:
            self.losses.add("registries that the server does not serve", error.message)
            return []
        found = []
        for model in known:
            name = str(model["name"])
            quoted = name.replace("'", "''") if '"' in name else name
            mark = '"' if "'" in name and '"' not in name else "'"
            versions = self._rest.pages(
                "GET",
                "model-versions/search",
                "model_versions",
                filter=f"name={mark}{quoted}{mark}",
                max_results=_PAGE,
            )
            read = [read_version(dict(v), _pairs(v.get("tags"))) for v in versions]
            found.append(
                ForeignModel(
                    name,
                    text_of(model.get("description")),
                    _pairs(model.get("tags")),
                    {str(a["alias"]): int(a["version"]) for a in model.get("aliases", ())},
                    tuple(sorted(read, key=lambda v: v.number)),
                )
            )
        return found

    def count_rest(self) -> None:
        """See `Source.count_rest`. What a server has besides is not asked for."""
        self._pool.shutdown()
        self._points_pool.shutdown()


def _pairs(entries: Any) -> dict[str, str]:
    return {str(entry["key"]): text_of(entry.get("value")) for entry in entries or ()}


def _giver(files: list[ForeignFile]) -> Callable[[], list[ForeignFile]]:
    return lambda: files


def _opener(rest: Rest, path: str) -> Callable[[], Any]:
    return lambda: rest.download(path)
