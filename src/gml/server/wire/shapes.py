"""Responses: runs, experiments and logged models as MLflow's clients read them; nothing absent is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gml.domain.metrics import number_to_json
from gml.domain.run import ACTIVE
from gml.service.runs import tags_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gml.domain.experiment import Experiment
    from gml.domain.run import Run
    from gml.service.artifacts import Entry
    from gml.service.history import Point
    from gml.service.models import LoggedModel
    from gml.service.registered import ModelVersion, RegisteredModel


def pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    """Return a map as a list of objects with key and value."""
    return [{"key": key, "value": value} for key, value in values.items()]


def experiment(found: Experiment, location: str) -> dict[str, Any]:
    """Return an experiment.

    Args:
        found: the experiment.
        location: where its runs' files are.
    """
    out: dict[str, Any] = {
        "experiment_id": found.experiment_id,
        "name": found.name,
        "artifact_location": location,
        "lifecycle_stage": found.lifecycle_stage,
        "last_update_time": found.last_update_time,
        "creation_time": found.creation_time,
    }
    return out | ({"tags": pairs(found.tags)} if found.tags else {})


def run_info(run: Run, uri: str) -> dict[str, Any]:
    """Return identity and life cycle of a run."""
    out: dict[str, Any] = {
        "run_uuid": run.run_id,
        "experiment_id": run.experiment_id,
        "run_name": run.name,
        "user_id": run.user,
        "status": run.status,
        "start_time": run.start_time,
    }
    if run.end_time is not None:
        out["end_time"] = run.end_time
    return out | {
        "artifact_uri": uri,
        "lifecycle_stage": run.lifecycle_stage if run.lifecycle_stage == ACTIVE else "deleted",
        "run_id": run.run_id,
    }


def metric(key: str, point: Point) -> dict[str, Any]:
    """Return a metric point."""
    step, timestamp, value = point
    return {"key": key, "value": number_to_json(value), "timestamp": timestamp, "step": step}


def run(found: Run, uri: str) -> dict[str, Any]:
    """Return a whole run: info, data, inputs and outputs."""
    data: dict[str, Any] = {}
    if found.metrics:
        data["metrics"] = [
            metric(key, (summary.step, summary.timestamp, summary.last))
            for key, summary in found.metrics.items()
        ]
    if found.params:
        data["params"] = pairs(found.params)
    tags = tags_of(found)
    if tags:
        data["tags"] = pairs(tags)
    out: dict[str, Any] = {"info": run_info(found, uri), "data": data, "inputs": {}, "outputs": {}}
    if found.inputs:
        out["inputs"]["dataset_inputs"] = [_dataset_input(entry) for entry in found.inputs]
    models = [entry for entry in found.outputs if "model_id" in entry]
    read = [{"model_id": entry["model_id"]} for entry in models if entry.get("read")]
    made = [{"model_id": e["model_id"], "step": int(e.get("step", 0))} for e in models if not e.get("read")]
    if read:
        out["inputs"]["model_inputs"] = read
    if made:
        out["outputs"] = {"model_outputs": made}
    return out


def _dataset_input(entry: Mapping[str, Any]) -> dict[str, Any]:
    names = ("name", "digest", "source_type", "source", "schema", "profile")
    dataset = {name: entry[name] for name in names if entry.get(name) is not None}
    tags = entry.get("tags") or {}
    return {**({"tags": pairs(tags)} if tags else {}), "dataset": dataset}


def files(entries: Iterable[Entry], *, base: bool = False) -> list[dict[str, Any]]:
    """Return files and folders.

    Args:
        entries: what is there.
        base: only the last part of each path.
    """
    out = []
    for path, size in entries:
        name = path.rpartition("/")[2] if base else path
        out.append({"path": name, "is_dir": size is None, **({} if size is None else {"file_size": size})})
    return out


def logged_model(found: LoggedModel, uri: str) -> dict[str, Any]:
    """Return a logged model."""
    info: dict[str, Any] = {
        "model_id": found.model_id,
        "experiment_id": found.experiment_id,
        "name": found.name,
        "creation_timestamp_ms": found.created,
        "last_updated_timestamp_ms": found.updated,
        "artifact_uri": uri,
        "status": found.status,
    }
    info["model_type"] = found.model_type
    info["source_run_id"] = found.source_run_id
    if found.tags:
        info["tags"] = pairs(found.tags)
    data: dict[str, Any] = {}
    if found.params:
        data["params"] = pairs(found.params)
    if found.metrics:
        data["metrics"] = [
            {
                **metric(m.key, (m.step, m.timestamp, m.value)),
                "model_id": found.model_id,
                **{
                    name: value
                    for name, value in (
                        ("run_id", m.run_id),
                        ("dataset_name", m.dataset_name),
                        ("dataset_digest", m.dataset_digest),
                    )
                    if value is not None
                },
            }
            for m in found.metrics
        ]
    return {"info": info, "data": data}


def registered_model(found: RegisteredModel, latest: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a registered model.

    Args:
        found: the model.
        latest: the newest version of each stage.
    """
    out: dict[str, Any] = {
        "name": found.name,
        "creation_timestamp": found.created,
        "last_updated_timestamp": found.updated,
        **({"description": found.description} if found.description else {}),
    }
    if latest:
        out["latest_versions"] = latest
    if found.tags:
        out["tags"] = pairs(found.tags)
    if found.aliases:
        out["aliases"] = [{"alias": alias, "version": str(at)} for alias, at in sorted(found.aliases.items())]
    return out


def model_version(found: ModelVersion, source: str) -> dict[str, Any]:
    """Return a version of a registered model.

    Args:
        found: the version.
        source: where its files are.
    """
    out: dict[str, Any] = {
        "name": found.name,
        "version": str(found.version),
        "creation_timestamp": found.created,
        "last_updated_timestamp": found.updated,
        "user_id": found.user,
        "current_stage": found.stage,
        **({"description": found.description} if found.description else {}),
        "source": source,
        "run_id": found.run_id,
        "status": "READY",
        "run_link": found.run_link,
    }
    if found.model_id:
        out["model_id"] = found.model_id
    if found.tags:
        out["tags"] = pairs(found.tags)
    return out | ({"aliases": list(found.aliases)} if found.aliases else {})
