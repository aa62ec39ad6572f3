"""Runs to an MLflow server through its REST API.

The server gives runs ids of its own; the tag `gml.run_id` keeps ours, and a run that has arrived is not sent
again. A run whose sending was cut is sent anew: it gets its end only when everything of it is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from gml.compat.export_files import Exported
from gml.compat.foreign import MODEL, MODEL_DELETED
from gml.domain.errors import CorruptError, GmlError, NotFoundError, RemoteError
from gml.domain.metrics import number_to_json
from gml.domain.names import TAG_PARENT
from gml.domain.run import DELETED, SHREDDED
from gml.index.as_mlflow import mlflow_tags

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from gml.compat.rest import Rest
    from gml.domain.run import Run
    from gml.tracking.reader import Reader

ID_TAG: Final = "gml.run_id"
_METRICS: Final = 1_000
_PAIRS: Final = 100
_PROXY: Final = "/api/2.0/mlflow-artifacts/artifacts/"


class RestWriter:
    """Sends runs.

    Args:
        reader: gives runs with their points.
        rest: the server.
    """

    def __init__(self, reader: Reader, rest: Rest) -> None:
        self._reader = reader
        self._rest = rest
        self._experiments: dict[str, str] = {}
        self._sent: dict[str, str] = {}
        self.done = Exported()

    def write(self, runs: Iterable[Run]) -> None:
        """Send runs; those that are there already are passed over.

        Raises:
            RemoteError: the server cannot be reached, or does not let us in.
            CorruptError: it refuses something.
        """
        # Parents first, so that the tag that names them can name them as they are called there.
        for run in sorted(runs, key=lambda run: (run.start_time, run.run_id)):
            if run.lifecycle_stage in {MODEL, MODEL_DELETED}:
                self.done.losses.add("logged models, whose ids the server would not keep", run.run_id)
                continue
            experiment = self._experiment(run.experiment_id)
            if not self._is_there(experiment, run):
                self._send(experiment, run)

    def _experiment(self, experiment_id: str) -> str:
        known = self._experiments.get(experiment_id)
        if known is not None:
            return known
        names = {e.experiment_id: e for e in self._reader.experiments()}
        ours = names.get(experiment_id)
        name = ours.name if ours is not None else experiment_id
        try:
            found = self._rest.get("experiments/get-by-name", experiment_name=name)["experiment"]
            theirs = str(found["experiment_id"])
        except NotFoundError:
            tags = [{"key": key, "value": value} for key, value in (ours.tags if ours else {}).items()]
            theirs = str(self._rest.post("experiments/create", name=name, tags=tags)["experiment_id"])
        self._experiments[experiment_id] = theirs
        return theirs

    def _is_there(self, experiment: str, run: Run) -> bool:
        answer = self._rest.post(
            "runs/search", experiment_ids=[experiment], filter=f"tags.`{ID_TAG}` = '{run.run_id}'",
            run_view_type="ALL", max_results=10,
        )  # fmt: skip
        for found in answer.get("runs", ()):
            info = found["info"]
            if info.get("end_time") or run.end_time is None:
                self._sent[run.run_id] = str(info["run_id"])
                return True
            self._rest.post("runs/delete", run_id=info["run_id"])  # cut in the middle of an earlier export
        return False

    def _send(self, experiment: str, run: Run) -> None:
        tags = {**mlflow_tags(run), ID_TAG: run.run_id}
        parent = self._sent.get(tags.get(TAG_PARENT, ""))
        if parent is not None:
            tags[TAG_PARENT] = parent
        made = self._rest.post(
            "runs/create", experiment_id=experiment, user_id=run.user, run_name=run.name or None,
            start_time=run.start_time, tags=[{"key": ID_TAG, "value": run.run_id}],
        )["run"]["info"]  # fmt: skip
        run_id = str(made["run_id"])
        self._sent[run.run_id] = run_id
        for batch in _cut([{"key": k, "value": v} for k, v in tags.items()], _PAIRS):
            self._rest.post("runs/log-batch", run_id=run_id, tags=batch)
        for batch in _cut([{"key": k, "value": v} for k, v in run.params.items()], _PAIRS):
            self._rest.post("runs/log-batch", run_id=run_id, params=batch)
        for batch in _cut(self._points(run), _METRICS):
            self._rest.post("runs/log-batch", run_id=run_id, metrics=batch)
        self._inputs(run_id, run)
        self._artifacts(run_id, str(made.get("artifact_uri", "")), run)
        self._rest.post(
            "runs/update", run_id=run_id, status=run.status, end_time=run.end_time, run_name=run.name or None
        )
        if run.lifecycle_stage == DELETED:
            self._rest.post("runs/delete", run_id=run_id)
        self.done.runs += 1

    def _points(self, run: Run) -> list[dict[str, Any]]:
        found = []
        for key in run.metrics:
            steps, times, values = (column.tolist() for column in self._reader.history(run, key))
            found += [
                {"key": key, "value": number_to_json(value), "timestamp": time, "step": step}
                for step, time, value in zip(steps, times, values, strict=True)
            ]
        self.done.points += len(found)
        return found

    def _inputs(self, run_id: str, run: Run) -> None:
        sets = [
            {
                "dataset": {key: value for key, value in entry.items() if key != "tags"},
                "tags": [{"key": k, "value": v} for k, v in (entry.get("tags") or {}).items()],
            }
            for entry in run.inputs
        ]
        if sets:
            try:
                self._rest.post("runs/log-inputs", run_id=run_id, datasets=sets)
            except (NotFoundError, CorruptError) as error:
                self.done.losses.add("data sets that the server refuses", f"{run.run_id} ({error.message})")
        if any(entry.get("model_id") for entry in run.outputs):
            self.done.losses.add("links from runs to logged models", run.run_id)

    def _artifacts(self, run_id: str, uri: str, run: Run) -> None:
        from gml.tracking.contents import open_artifact

        if not run.artifacts:
            return
        if not uri.startswith("mlflow-artifacts:"):
            self.done.losses.add(
                "files: the server does not take them (--serve-artifacts)",
                f"{run_id} has {uri}",
                len(run.artifacts),
            )
            return
        base = uri.removeprefix("mlflow-artifacts:").lstrip("/")
        for name, facts in run.artifacts.items():
            if facts.at == SHREDDED:
                self.done.losses.add("files that were shredded", name)
                continue
            try:
                with open_artifact(self._reader, run, name) as stream:
                    self._rest.upload(f"{_PROXY}{quote(f'{base}/{name}')}", stream, facts.size)
            except GmlError as error:
                if isinstance(error, RemoteError):
                    raise
                self.done.losses.add("files that are not here", f"{name} of {run.run_id} ({error.message})")
                continue
            self.done.files += 1


def _cut(items: Sequence[Mapping[str, Any]], size: int) -> Iterator[Sequence[Mapping[str, Any]]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
