"""Runs: create, log to, finish, delete, restore."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from gml.domain.names import TAG_RUN_NAME, made_up_name
from gml.domain.run import ACTIVE, DELETED, RUNNING, SCHEDULED
from gml.service import limits
from gml.service.errors import MISSING, STATE, ServiceError, not_active
from gml.service.live import check_active
from gml.tracking import edits, start

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gml.domain.run import Run
    from gml.service.limits import Metric, Pair
    from gml.service.store import Store
    from gml.tracking.recorder import Recorder

LIVE: Final = (RUNNING, SCHEDULED)
LOGGED_MODELS: Final = "mlflow.log-model.history"
_SOURCE_TAGS: Final = {
    "mlflow.source.name": "name",
    "mlflow.source.type": "type",
    "mlflow.source.git.commit": "commit",
    "mlflow.source.git.branch": "branch",
    "mlflow.source.git.repoURL": "remote",
}


def create(
    store: Store,
    experiment_id: str = "",
    user_id: str = "",
    start_time: int = 0,
    tags: Sequence[Pair] = (),
    run_name: str = "",
    run_id: str | None = None,
) -> Run:
    """Start a run and return it. It stays RUNNING until `update` says otherwise.

    Args:
        store: the repository.
        experiment_id: its experiment, the default one where empty.
        user_id: who runs it.
        start_time: milliseconds since the epoch.
        tags: first tags; `mlflow.runName` names the run.
        run_name: display name, made up where there is none.
        run_id: id to use, None for a new one.

    Raises:
        ServiceError: the experiment is missing or deleted, or a tag is not legal.
    """
    from gml.service.experiments import get

    experiment = get(store, experiment_id)
    check_active(experiment.lifecycle_stage, "experiment", experiment.experiment_id)
    labels = dict(limits.tag(pair) for pair in tags)
    tagged = labels.pop(TAG_RUN_NAME, "")
    if run_name and tagged and run_name != tagged:
        raise ServiceError(
            "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with "
            f"different values (run_name='{run_name}', mlflow.runName='{tagged}')."
        )
    if run_id is None:
        with store.writing() as space:
            run_id = start.next_id(space)
    header = {
        "experiment_id": experiment.experiment_id,
        "experiment": experiment.name,
        "name": limits.check_text(run_name or tagged, "run_name") or made_up_name(run_id),
        "user": limits.check_text(user_id, "user_id"),
        "start_time": start_time,
    }
    source = {ours: labels[key] for key, ours in _SOURCE_TAGS.items() if labels.get(key)}
    events: list[list[Any]] = [["set", "source", {**source, "code": "none"}]] if source else []
    events += [["t", key, value] for key, value in labels.items()]
    return store.run(store.live.create(header, events, run_id))


def update(store: Store, run_id: str, status: str | None, end_time: int | None, run_name: str | None) -> Run:
    """Change status, end time and name of a run, each where it is given, and return the run.

    A run that is told to have ended is in the ledger when this returns.

    Raises:
        ServiceError: there is no such run, it is deleted, or it could not be committed.
    """
    events: list[list[Any]] = []
    if status is not None:
        events.append(["set", "status", status])
    if end_time is not None:
        events.append(["set", "end_time", end_time])
    if run_name:
        events.append(["set", "name", limits.check_text(run_name, "run_name")])
    if not events:
        run = store.run(run_id)
        check_active(run.lifecycle_stage, "run", run_id)
        return run
    with store.live.writing(run_id) as recorder:
        recorder.append(*events)
    if status is not None and status not in LIVE:
        store.live.end(run_id)
    return store.run(run_id)


def set_stage(store: Store, run_id: str, stage: str) -> None:
    """Delete a run, or bring it back.

    Args:
        store: the repository.
        run_id: whole id.
        stage: the life-cycle stage that it gets.
    """
    run = store.run(run_id)
    if run.lifecycle_stage == stage:
        return
    if store.live.is_open(run_id):
        with store.live.writing(run_id) as recorder:
            recorder.append(["set", "lifecycle_stage", stage])
        store.live.end(run_id)
        return
    verb = {DELETED: "delete", ACTIVE: "restore"}.get(stage, "change")
    with store.writing() as space:
        edits.edit_runs(space, [run_id], {"lifecycle_stage": stage}, verb)


def delete(store: Store, run_id: str) -> None:
    """Mark a run as deleted."""
    set_stage(store, run_id, DELETED)


def restore(store: Store, run_id: str) -> None:
    """Bring a deleted run back."""
    set_stage(store, run_id, ACTIVE)


# --- logging ----------------------------------------------------------------------------------


def log_metric(store: Store, run_id: str, point: Metric) -> None:
    """Add a metric point."""
    good = limits.metric(point)
    with store.live.writing(run_id) as recorder:
        recorder.points([good[:4]])
    _log_model_metrics(store, run_id, [good])


def log_param(store: Store, run_id: str, pair: Pair) -> None:
    """Add a param; the same value again is no error.

    Raises:
        ServiceError: it has another value.
    """
    good = limits.param(pair)
    with store.live.writing(run_id) as recorder:
        known = recorder.params.get(good.key)
        if known is not None and known != good.value:
            raise ServiceError(
                f"Changing param values is not allowed. Param with key='{good.key}' was already"
                f" logged with value='{known}' for run ID='{run_id}'. Attempted logging new value"
                f" '{good.value}'."
            )
        if known is None:
            recorder.log_params({good.key: good.value})


def log_batch(
    store: Store, run_id: str, metrics: Sequence[Metric], params: Sequence[Pair], tags: Sequence[Pair]
) -> None:
    """Add metric points, params and tags; nothing is kept where a param has another value.

    Raises:
        ServiceError: something is not legal, or the batch is too large.
    """
    limits.run_id(run_id)
    good_metrics, good_params, good_tags = limits.batch(metrics, params, tags)
    with store.live.writing(run_id) as recorder:
        known = recorder.params if good_params else {}
        changed = [
            {"key": p.key, "old_value": known[p.key], "new_value": p.value}
            for p in good_params
            if known.get(p.key, p.value) != p.value
        ]
        if changed:
            raise ServiceError(
                "Changing param values is not allowed. Params were already"
                f" logged='{changed}' for run ID='{run_id}'."
            )
        fresh = {p.key: p.value for p in good_params if p.key not in known}
        if fresh:
            recorder.log_params(fresh)
        if good_metrics:
            recorder.points([m[:4] for m in good_metrics])
        if good_tags:
            _append_tags(recorder, good_tags)
    _log_model_metrics(store, run_id, good_metrics)


def _log_model_metrics(store: Store, run_id: str, metrics: Sequence[Metric]) -> None:
    if any(metric.model_id for metric in metrics):
        from gml.service.models import log_metrics

        log_metrics(store, run_id, [metric for metric in metrics if metric.model_id])


def _append_tags(recorder: Recorder, tags: Sequence[Pair]) -> None:
    events = []
    for key, value in tags:
        if key == TAG_RUN_NAME:
            events += [["set", "name", value]] if value else []
        else:
            events.append(["t", key, value])
    if events:
        recorder.append(*events)


def set_tag(store: Store, run_id: str, pair: Pair) -> None:
    """Set a tag; `mlflow.runName` renames the run."""
    good = limits.tag(pair)
    with store.live.writing(run_id) as recorder:
        _append_tags(recorder, [good])


def delete_tag(store: Store, run_id: str, key: str) -> None:
    """Remove a tag.

    Raises:
        ServiceError: the run has none of this key.
    """
    run = store.run(run_id)
    check_active(run.lifecycle_stage, "run", run_id)
    if key == TAG_RUN_NAME:
        raise ServiceError("The tag mlflow.runName is the run's name and cannot be removed; rename the run")
    if key not in run.tags:
        raise ServiceError(f"No tag with name: {key} in run with id {run_id}", MISSING)
    with store.live.writing(run_id) as recorder:
        recorder.append(["T", key])


def log_inputs(
    store: Store, run_id: str, datasets: Sequence[Mapping[str, Any]], models: Sequence[str] = ()
) -> None:
    """Add data sets and models that a run reads; what it has already is not added again.

    Args:
        store: the repository.
        run_id: whole id.
        datasets: `{name, digest, source_type, source, schema, profile, tags}` each.
        models: ids of logged models.
    """
    limits.run_id(run_id)
    run = store.run(run_id)
    if run.lifecycle_stage != ACTIVE:
        raise not_active("run", run_id, run.lifecycle_stage)
    known = {(entry.get("name"), entry.get("digest")) for entry in run.inputs}
    events: list[list[Any]] = []
    for entry in datasets:
        key = (entry.get("name"), entry.get("digest"))
        if key not in known:
            known.add(key)
            events.append(["i", {k: v for k, v in entry.items() if v is not None}])
    read = {entry.get("model_id") for entry in run.outputs if entry.get("read")}
    events += [
        ["o", {"model_id": model, "read": True}] for model in dict.fromkeys(models) if model not in read
    ]
    if events:
        with store.live.writing(run_id) as recorder:
            recorder.append(*events)


def log_outputs(store: Store, run_id: str, models: Sequence[tuple[str, int]]) -> None:
    """Add logged models that a run made, each with the step it was made at."""
    with store.live.writing(run_id) as recorder:
        recorder.append(*(["o", {"model_id": model, "step": step}] for model, step in models))


def record_model(store: Store, run_id: str, facts: Mapping[str, Any]) -> None:
    """Add an `MLmodel` to the tag in which clients before MLflow 3 keep the models of a run."""
    run = store.run(run_id)
    check_active(run.lifecycle_stage, "run", run_id)
    try:
        before = json.loads(run.tags.get(LOGGED_MODELS, "[]"))
    except ValueError:
        raise ServiceError(f"The tag {LOGGED_MODELS} of run {run_id} is not JSON", STATE) from None
    set_tag(store, run_id, limits.Pair(LOGGED_MODELS, json.dumps([*before, dict(facts)])))


def tags_of(run: Run) -> dict[str, str]:
    """Return the tags of a run as MLflow's clients see them: its own, and those of its fields."""
    from gml.index.as_mlflow import mlflow_tags

    return {**mlflow_tags(run), **run.tags, **({TAG_RUN_NAME: run.name} if run.name else {})}
