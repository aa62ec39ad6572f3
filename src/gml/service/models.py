"""Logged models (MLflow 3): what a training made, before anybody registers it.

In the ledger a logged model is a record like a run's, with an id `m-...` and life-cycle stages of its own:
listings of runs do not have it, while its files, tags, params and metrics are kept and merged as theirs.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gml.domain.names import made_up_name
from gml.domain.run import FAILED, FINISHED, RUNNING
from gml.service import filters, limits, pages
from gml.service.errors import MISSING, ServiceError
from gml.service.live import check_active
from gml.service.runs import set_stage
from gml.service.search import select

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gml.domain.run import Run
    from gml.service.limits import Metric, Pair
    from gml.service.store import Store

STAGE: Final = "model"
STAGE_DELETED: Final = "deleted-model"
PENDING: Final = "LOGGED_MODEL_PENDING"
READY: Final = "LOGGED_MODEL_READY"
UPLOAD_FAILED: Final = "LOGGED_MODEL_UPLOAD_FAILED"
STATUS_OF: Final = {PENDING: RUNNING, READY: FINISHED, UPLOAD_FAILED: FAILED}
_TYPE: Final = "gml.model.type"
_SOURCE_RUN: Final = "gml.model.sourceRun"
_MOST: Final = 100_000
_BAD: Final = ("/", ":", ".", "%", '"', "'")


class ModelMetric(NamedTuple):
    """The value of a metric of a logged model, of one run and one data set."""

    key: str
    value: float
    timestamp: int
    step: int
    run_id: str | None
    dataset_name: str | None
    dataset_digest: str | None


class LoggedModel(NamedTuple):
    """A logged model. Times are milliseconds since the epoch."""

    model_id: str
    experiment_id: str
    name: str
    created: int
    updated: int
    status: str
    model_type: str
    source_run_id: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: tuple[ModelMetric, ...]
    creator: str
    run: Run


def create(
    store: Store,
    experiment_id: str,
    name: str | None = None,
    source_run_id: str = "",
    tags: Sequence[Pair] = (),
    params: Sequence[Pair] = (),
    model_type: str = "",
) -> LoggedModel:
    """Begin a logged model; `finalize` says whether its files are there.

    Raises:
        ServiceError: the experiment is missing or deleted, or something is not legal.
    """
    from gml.service.experiments import get as experiment_of

    if name is not None and (not name or any(c in name for c in _BAD)):
        raise ServiceError(
            f"Invalid model name ({name!r}) provided. Model name must be a non-empty string "
            f"and cannot contain the following characters: {_BAD}"
        )
    experiment = experiment_of(store, experiment_id)
    check_active(experiment.lifecycle_stage, "experiment", experiment.experiment_id)
    model_id = f"m-{secrets.token_hex(16)}"
    header = {
        "experiment_id": experiment.experiment_id,
        "experiment": experiment.name,
        "name": name or made_up_name(model_id[2:]),
        "user": "",
        "start_time": int(time.time() * 1000),
    }
    events: list[list[Any]] = [["set", "lifecycle_stage", STAGE], ["set", "status", RUNNING]]
    events += [
        ["t", key, value] for key, value in ((_TYPE, model_type), (_SOURCE_RUN, source_run_id)) if value
    ]
    events += [["t", *limits.tag(pair)] for pair in tags]
    events += [["p", *limits.param(pair)] for pair in params]
    store.live.create(header, events, model_id)
    return get(store, model_id)


def get(store: Store, model_id: str, *, deleted: bool = False) -> LoggedModel:
    """Return a logged model.

    Raises:
        ServiceError: there is none, or it is deleted.
    """
    stages = {STAGE, STAGE_DELETED} if deleted else {STAGE}
    try:
        run = store.run(model_id)
    except ServiceError as error:
        if error.code != MISSING:
            raise
        raise _missing(model_id) from None
    if run.lifecycle_stage not in stages:
        raise _missing(model_id)
    return from_run(run)


def _missing(model_id: str) -> ServiceError:
    return ServiceError(f"Logged model with ID '{model_id}' not found.", MISSING)


def from_run(run: Run) -> LoggedModel:
    """Return the logged model that a record describes."""
    metrics: dict[tuple[Any, ...], ModelMetric] = {}
    for entry in run.outputs:
        if "metric" in entry:
            found = ModelMetric(
                str(entry["metric"]), float(entry["value"]), int(entry["timestamp"]), int(entry["step"]),
                entry.get("run_id"), entry.get("dataset_name"), entry.get("dataset_digest"),
            )  # fmt: skip
            key = (found.key, found.run_id, found.dataset_name, found.dataset_digest)
            known = metrics.get(key)
            if known is None or (found.step, found.timestamp) >= (known.step, known.timestamp):
                metrics[key] = found
    status = {ours: theirs for theirs, ours in STATUS_OF.items()}.get(run.status, PENDING)
    return LoggedModel(
        run.run_id, run.experiment_id, run.name, run.start_time, run.end_time or run.start_time, status,
        run.tags.get(_TYPE, ""), run.tags.get(_SOURCE_RUN, ""),
        {key: value for key, value in run.tags.items() if key not in {_TYPE, _SOURCE_RUN}},
        dict(run.params), tuple(metrics.values()), run.user, run,
    )  # fmt: skip


def finalize(store: Store, model_id: str, status: str) -> LoggedModel:
    """Say whether a model's files are there; it is in the ledger when this returns."""
    get(store, model_id, deleted=True)
    with store.live.writing(model_id) as recorder:
        recorder.append(
            ["set", "status", STATUS_OF.get(status, RUNNING)], ["set", "end_time", int(time.time() * 1000)]
        )
    if status != PENDING:
        store.live.end(model_id)
    return get(store, model_id, deleted=True)


def delete(store: Store, model_id: str) -> None:
    """Mark a model as deleted."""
    get(store, model_id, deleted=True)
    set_stage(store, model_id, STAGE_DELETED)


def set_tags(store: Store, model_id: str, tags: Sequence[Pair]) -> LoggedModel:
    """Set tags of a model."""
    get(store, model_id, deleted=True)
    good = [limits.tag(pair) for pair in tags]
    if good:
        with store.live.writing(model_id) as recorder:
            recorder.append(*(["t", *pair] for pair in good))
    return get(store, model_id, deleted=True)


def delete_tag(store: Store, model_id: str, key: str) -> None:
    """Remove a tag of a model.

    Raises:
        ServiceError: it has none of this key.
    """
    if key not in get(store, model_id, deleted=True).tags:
        raise ServiceError(f"No tag with key {key!r} found for model with ID {model_id!r}.", MISSING)
    with store.live.writing(model_id) as recorder:
        recorder.append(["T", key])


def log_params(store: Store, model_id: str, params: Sequence[Pair]) -> None:
    """Add params of a model."""
    get(store, model_id, deleted=True)
    good = [limits.param(pair) for pair in params]
    if good:
        with store.live.writing(model_id) as recorder:
            recorder.log_params(dict(good))


def log_metrics(store: Store, run_id: str, metrics: Sequence[Metric]) -> None:
    """Add metrics that a run found of models, each with the data set it was found on."""
    for model_id in dict.fromkeys(str(metric.model_id) for metric in metrics):
        points = [metric for metric in metrics if metric.model_id == model_id]
        get(store, model_id, deleted=True)
        events = []
        for metric in points:
            entry = {
                "metric": metric.key,
                "value": metric.value if metric.value - metric.value == 0 else str(metric.value),
                "timestamp": metric.timestamp,
                "step": metric.step,
                "run_id": run_id,
                "dataset_name": metric.dataset_name,
                "dataset_digest": metric.dataset_digest,
            }
            events.append(["o", {key: value for key, value in entry.items() if value is not None}])
        with store.live.writing(model_id) as recorder:
            recorder.points([point[:4] for point in points])
            recorder.append(*events)


# --- search -----------------------------------------------------------------------------------


def search(
    store: Store,
    experiment_ids: Sequence[str],
    filter_string: str = "",
    datasets: Sequence[Mapping[str, Any]] = (),
    max_results: int = 50,
    order_by: Sequence[Mapping[str, Any]] = (),
    page_token: str | None = None,
) -> tuple[list[LoggedModel], str | None]:
    """Return the logged models that match, newest first, and the token of the next page.

    Raises:
        ServiceError: the filter, the order or the page is not legal.
    """
    clauses = filters.parse_filter(filter_string, filters.MODELS)
    filters.check_operators(clauses, filters.MODELS)
    keys = [_order(entry) for entry in order_by]
    for entry in datasets:
        if not entry.get("dataset_name"):
            raise ServiceError("`dataset_name` in the `datasets` clause must be specified.")
    offset = pages.decode(page_token)
    wanted = {limits.experiment_id(each) for each in experiment_ids}
    found = [from_run(run) for run in select(store, None, (), wanted, (STAGE,), 0, _MOST)] if wanted else []
    found = [model for model in found if _matches(model, clauses, datasets)]
    keys += [(lambda m: m.created, False), (lambda m: m.model_id, True)]
    return pages.cut(filters.sort_by(found, keys), offset, max_results)


def _matches(
    model: LoggedModel, clauses: Sequence[filters.Clause], datasets: Sequence[Mapping[str, Any]]
) -> bool:
    metrics = [m for m in model.metrics if not datasets or any(_is_on(m, entry) for entry in datasets)]
    if datasets and not metrics:
        return False
    for clause in clauses:
        if clause.entity == filters.METRIC:
            values = [m.value for m in metrics if m.key == clause.key]
            if not any(filters.holds(clause, value) for value in values):
                return False
        elif not filters.holds(clause, _value(model, clause.entity, clause.key)):
            return False
    return True


def _is_on(metric: ModelMetric, dataset: Mapping[str, Any]) -> bool:
    digest = dataset.get("dataset_digest")
    return metric.dataset_name == dataset.get("dataset_name") and digest in {None, "", metric.dataset_digest}


def _value(model: LoggedModel, entity: str, key: str) -> Any:
    if entity == filters.PARAM:
        return model.params.get(key)
    if entity == filters.TAG:
        return model.tags.get(key)
    match key:
        case "creation_timestamp":
            return model.created
        case "last_updated_timestamp":
            return model.updated
        case "status":
            return model.status.removeprefix("LOGGED_MODEL_")
        case "model_type":
            return model.model_type or None
        case "source_run_id":
            return model.source_run_id or None
        case _:
            return getattr(model, key)


def _order(entry: Mapping[str, Any]) -> tuple[Callable[[LoggedModel], Any], bool]:
    name = entry.get("field_name")
    if name is None:
        raise ServiceError("`field_name` in the `order_by` clause must be specified.")
    ascending = entry.get("ascending", True)
    dataset, digest = entry.get("dataset_name"), entry.get("dataset_digest")
    if digest and not dataset:
        raise ServiceError("`dataset_digest` can only be specified if `dataset_name` is also specified.")
    kind, dot, key = str(name).partition(".")
    if dot:
        if kind != "metrics":
            raise ServiceError(f"Invalid order by field name: {kind}, only `metrics.<name>` is allowed.")
        on = {"dataset_name": dataset, "dataset_digest": digest}

        def latest(model: LoggedModel) -> float | None:
            values = [m for m in model.metrics if m.key == key and (not dataset or _is_on(m, on))]
            return max(values, key=lambda m: m.timestamp).value if values else None

        return latest, bool(ascending)
    attribute = dict(filters.MODELS.aliases).get(kind.strip(), kind.strip())
    if attribute not in filters.MODELS.orderable:
        raise ServiceError(f"Invalid order by field name: {name}.")
    return (lambda model: _value(model, filters.ATTRIBUTE, attribute)), bool(ascending)
