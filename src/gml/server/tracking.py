"""MLflow's tracking API: experiments, runs, metrics."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from gml.server.routes import Right, Route
from gml.server.wire import shapes
from gml.server.wire.requests import (
    DOUBLE,
    INT,
    INT32,
    STATUS,
    STRING,
    VIEW,
    Many,
    Message,
    each_has,
)
from gml.service import artifacts, experiments, history, runs, search
from gml.service.errors import MISSING, ServiceError
from gml.service.limits import Metric, Pair

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gml.server.context import Context

TAG: Final = {"key": STRING, "value": STRING}
METRIC: Final = {
    "key": STRING, "value": DOUBLE, "timestamp": INT, "step": INT,
    "model_id": STRING, "dataset_name": STRING, "dataset_digest": STRING, "run_id": STRING,
}  # fmt: skip
DATASET: Final = {
    "name": STRING, "digest": STRING, "source_type": STRING, "source": STRING,
    "schema": STRING, "profile": STRING,
}  # fmt: skip
RUN: Final = {"run_id": STRING, "run_uuid": STRING}
TEXT: Final = ("required", "string")
_MAX_BATCH: Final = 1_000_000


def _pairs(entries: Iterable[dict[str, Any]]) -> list[Pair]:
    return [Pair(entry.get("key", ""), entry.get("value", "")) for entry in entries]


def _metric(entry: dict[str, Any]) -> Metric:
    return Metric(
        entry.get("key", ""),
        entry.get("value", 0.0),
        entry.get("timestamp", 0),
        entry.get("step", 0),
        entry.get("model_id") or None,
        entry.get("dataset_name") or None,
        entry.get("dataset_digest") or None,
    )


# --- experiments ------------------------------------------------------------------------------


def _create_experiment(context: Context) -> Any:
    tags = dict(_pairs(context.fields.get("tags", ())))
    made = experiments.create(context.store, context.text("name"), context.text("artifact_location"), tags)
    return {"experiment_id": made}


def _get_experiment(context: Context) -> Any:
    found = experiments.get(context.store, context.text("experiment_id"))
    return {"experiment": shapes.experiment(found, context.location(found))}


def _get_experiment_by_name(context: Context) -> Any:
    name = context.text("experiment_name")
    found = experiments.by_name(context.store, name)
    if found is None:
        raise ServiceError(f"Could not find experiment with name '{name}'", MISSING)
    return {"experiment": shapes.experiment(found, context.location(found))}


def _search_experiments(context: Context) -> Any:
    fields = context.fields
    found, token = experiments.search(
        context.store,
        fields.get("view_type", "ACTIVE_ONLY"),
        fields.get("max_results", 0),
        context.text("filter"),
        fields.get("order_by", ()),
        fields.get("page_token"),
    )
    shown = [shapes.experiment(each, context.location(each)) for each in found]
    return _list("experiments", shown, token)


def _list(name: str, items: list[Any], token: str | None) -> dict[str, Any]:
    return {**({name: items} if items else {}), **({"next_page_token": token} if token else {})}


def _update_experiment(context: Context) -> Any:
    experiments.rename(context.store, context.text("experiment_id"), context.text("new_name"))
    return {}


def _delete_experiment(context: Context) -> Any:
    experiments.delete(context.store, context.text("experiment_id"))
    return {}


def _restore_experiment(context: Context) -> Any:
    experiments.restore(context.store, context.text("experiment_id"))
    return {}


def _set_experiment_tag(context: Context) -> Any:
    wanted = context.text("experiment_id")
    experiments.set_tag(context.store, wanted, context.text("key"), context.text("value"))
    return {}


def _delete_experiment_tag(context: Context) -> Any:
    experiments.delete_tag(context.store, context.text("experiment_id"), context.text("key"))
    return {}


def _search_datasets(context: Context) -> Any:
    wanted = context.fields.get("experiment_ids", [])
    if not wanted:
        raise ServiceError("SearchDatasets request must specify at least one experiment_id.")
    if len(wanted) > 20:
        raise ServiceError(
            "SearchDatasets request cannot specify more than 20"
            f" experiment_ids. Received {len(wanted)} experiment_ids."
        )
    found = search.datasets(context.store, wanted)
    shown = [{key: value for key, value in each.items() if value is not None} for each in found]
    return _list("dataset_summaries", shown, None)


# --- runs -------------------------------------------------------------------------------------


def _create_run(context: Context) -> Any:
    run = runs.create(
        context.store,
        context.text("experiment_id"),
        context.text("user_id"),
        context.fields.get("start_time", 0),
        _pairs(context.fields.get("tags", ())),
        context.text("run_name"),
    )
    shown = shapes.run(run, context.uri(run))
    del shown["outputs"]
    return {"run": shown}


def _get_run(context: Context) -> Any:
    run = context.store.run(context.run_id)
    return {"run": shapes.run(run, context.uri(run))}


def _update_run(context: Context) -> Any:
    fields = context.fields
    run = runs.update(
        context.store, context.run_id, fields.get("status"), fields.get("end_time"), fields.get("run_name")
    )
    return {"run_info": shapes.run_info(run, context.uri(run))}


def _search_runs(context: Context) -> Any:
    fields = context.fields
    found, token = search.runs(
        context.store,
        fields.get("experiment_ids", ()),
        context.text("filter"),
        fields.get("run_view_type", "ACTIVE_ONLY"),
        fields.get("max_results", 1_000),
        fields.get("order_by", ()),
        fields.get("page_token"),
    )
    return _list("runs", [shapes.run(run, context.uri(run)) for run in found], token)


def _delete_run(context: Context) -> Any:
    runs.delete(context.store, context.run_id)
    return {}


def _restore_run(context: Context) -> Any:
    runs.restore(context.store, context.run_id)
    return {}


def _log_metric(context: Context) -> Any:
    runs.log_metric(context.store, context.run_id, _metric(context.fields))
    return {}


def _log_param(context: Context) -> Any:
    runs.log_param(context.store, context.run_id, Pair(context.text("key"), context.text("value")))
    return {}


def _log_batch(context: Context) -> Any:
    fields = context.fields
    runs.log_batch(
        context.store,
        context.run_id,
        [_metric(entry) for entry in fields.get("metrics", ())],
        _pairs(fields.get("params", ())),
        _pairs(fields.get("tags", ())),
    )
    return {}


def _set_tag(context: Context) -> Any:
    runs.set_tag(context.store, context.run_id, Pair(context.text("key"), context.text("value")))
    return {}


def _delete_tag(context: Context) -> Any:
    runs.delete_tag(context.store, context.run_id, context.text("key"))
    return {}


def _log_inputs(context: Context) -> Any:
    datasets = []
    for entry in context.fields.get("datasets", ()):
        tags = {pair.key: pair.value for pair in _pairs(entry.get("tags", ()))}
        if "dataset" not in entry:
            raise ServiceError("Dataset input must have a dataset associated with it.", "INTERNAL_ERROR")
        datasets.append(dict(entry["dataset"]) | ({"tags": tags} if tags else {}))
    models = [entry["model_id"] for entry in context.fields.get("models", ()) if entry.get("model_id")]
    runs.log_inputs(context.store, context.run_id, datasets, models)
    return {}


def _log_outputs(context: Context) -> Any:
    models = [(entry.get("model_id", ""), entry.get("step", 0)) for entry in context.fields.get("models", ())]
    runs.log_outputs(context.store, context.run_id, models)
    return {}


def _log_model(context: Context) -> Any:
    text = context.text("model_json")
    try:
        model = json.loads(text)
    except (ValueError, RecursionError):
        raise ServiceError(f"Malformed model info. \n {text} \n is not a valid JSON.") from None
    wanted = {"artifact_path", "flavors", "utc_time_created", "run_id"}
    missing = wanted - set(model) if isinstance(model, dict) else wanted
    if missing:
        raise ServiceError(f"Model json is missing mandatory fields: {missing}")
    runs.record_model(context.store, context.run_id, model)
    return {}


# --- metrics ----------------------------------------------------------------------------------


def _get_history(context: Context) -> Any:
    most = context.fields.get("max_results")
    if most is not None and most <= 0:
        raise ServiceError(
            f"Invalid value {most} for parameter 'max_results' supplied. It must be a positive integer."
        )
    key = context.text("metric_key")
    found, token = history.points(
        context.store, context.run_id, key, most, context.fields.get("page_token") or None
    )
    return _list("metrics", [shapes.metric(key, point) for point in found], token)


def _get_history_bulk(context: Context) -> Any:
    wanted = context.fields.get("run_id", [])
    if not wanted:
        raise ServiceError("GetMetricHistoryBulk request must specify at least one run_id.")
    if len(wanted) > history.MAX_RUNS:
        raise ServiceError(
            f"GetMetricHistoryBulk request cannot specify more than {history.MAX_RUNS}"
            f" run_ids. Received {len(wanted)} run_ids."
        )
    if "metric_key" not in context.fields:
        raise ServiceError("GetMetricHistoryBulk request must specify a metric_key.")
    key = context.text("metric_key")
    most = min(context.fields.get("max_results", history.MAX_POINTS), history.MAX_POINTS)
    found = history.bulk(context.store, wanted, key, most)
    return {"metrics": [{**shapes.metric(key, point), "run_id": run_id} for run_id, point in found]}


def _get_history_sampled(context: Context) -> Any:
    fields = context.fields
    start, end = fields.get("start_step"), fields.get("end_step")
    if (start is None) is not (end is None):
        raise ServiceError("If either start step or end step are specified, both must be specified.")
    if start is not None and end is not None and start > end:
        raise ServiceError(
            f"end_step must be greater than start_step. Found start_step={start} and end_step={end}."
        )
    between = None if start is None or end is None else (start, end)
    key = context.text("metric_key")
    wanted = fields.get("run_ids", ())
    most = fields.get("max_results", history.MAX_SAMPLED)
    out = []
    for run_id in wanted:
        points = history.sample(context.store, run_id, key, most, between)
        out += [{**shapes.metric(key, point), "run_id": run_id} for point in points]
    return _list("metrics", out, None)


def _list_artifacts(context: Context) -> Any:
    path = artifacts.check_path(context.text("path"))
    run = context.store.run(context.run_id)
    found = shapes.files(artifacts.listing(run, path))
    return {"root_uri": context.uri(run), **({"files": found} if found else {})}


# --- the table --------------------------------------------------------------------------------


def _at_most(limit: int) -> Callable[[Any], None]:
    def check(value: Any) -> None:
        if int(value) > limit:
            shown = json.dumps(value)
            raise ServiceError(
                f"Invalid value {shown} for parameter 'max_results' supplied:  "
                f"Hint: Value was of type '{type(value).__name__}'."
                " See the API docs for more information about request parameters."
            )

    return check


def _few_runs(value: Any) -> None:
    if len(value) > history.MAX_RUNS:
        raise ServiceError(
            f"GetMetricHistoryBulkInterval request must specify at most {history.MAX_RUNS} run_ids. "
            f"Received {len(value)} run_ids."
            " See the API docs for more information about request parameters."
        )


def _sampled(value: Any) -> None:
    if not 1 <= int(value) <= history.MAX_SAMPLED:
        raise ServiceError(
            f"max_results must be between 1 and {history.MAX_SAMPLED}."
            " See the API docs for more information about request parameters."
        )


_BY_ID: Final = Message({"experiment_id": STRING}, {"experiment_id": TEXT})
_RUN_ONLY: Final = Message({**RUN}, {"run_id": TEXT})
_EXPERIMENT_SEARCH: Final = Message(
    {
        "max_results": INT, "page_token": STRING, "filter": STRING, "order_by": Many(STRING),
        "view_type": VIEW,
    },
    {"view_type": (), "max_results": ("int",), "order_by": ("array",), "filter": ("string",),
     "page_token": ("string",)},
)  # fmt: skip

READ, LOG, ADMIN = Right.READ, Right.LOG, Right.ADMIN
_T = "tags"
ROUTES: Final = [
    Route(
        "POST", "experiments/create", LOG,
        Message({"name": STRING, "artifact_location": STRING, _T: Many(TAG)},
                {"name": TEXT, "artifact_location": ("string",), _T: ("array",)}), _create_experiment,
    ),
    Route("GET", "experiments/get", READ, _BY_ID, _get_experiment),
    Route(
        "GET", "experiments/get-by-name", READ,
        Message({"experiment_name": STRING}, {"experiment_name": TEXT}), _get_experiment_by_name,
    ),
    Route("POST", "experiments/search", READ, _EXPERIMENT_SEARCH, _search_experiments),
    Route("GET", "experiments/search", READ, _EXPERIMENT_SEARCH, _search_experiments),
    Route(
        "POST", "experiments/update", LOG,
        Message({"experiment_id": STRING, "new_name": STRING},
                {"experiment_id": TEXT, "new_name": ("string", "required")}), _update_experiment,
    ),
    Route("POST", "experiments/delete", LOG, _BY_ID, _delete_experiment),
    Route("POST", "experiments/restore", LOG, _BY_ID, _restore_experiment),
    Route(
        "POST", "experiments/set-experiment-tag", LOG,
        Message({"experiment_id": STRING, **TAG},
                {"experiment_id": TEXT, "key": TEXT, "value": ("string",)}), _set_experiment_tag,
    ),
    Route(
        "POST", "experiments/delete-experiment-tag", LOG,
        Message({"experiment_id": STRING, "key": STRING}, {"experiment_id": TEXT, "key": TEXT}),
        _delete_experiment_tag,
    ),
    Route(
        "POST", "experiments/search-datasets", READ, Message({"experiment_ids": Many(STRING)}),
        _search_datasets,
    ),
    Route(
        "POST", "runs/create", LOG,
        Message({"experiment_id": STRING, "user_id": STRING, "run_name": STRING, "start_time": INT,
                 _T: Many(TAG)},
                {"experiment_id": ("string",), "start_time": ("int",), "run_name": ("string",)}),
        _create_run,
    ),
    Route("GET", "runs/get", READ, _RUN_ONLY, _get_run),
    Route(
        "POST", "runs/update", LOG,
        Message({**RUN, "status": STATUS, "end_time": INT, "run_name": STRING},
                {"run_id": TEXT, "end_time": ("int",), "status": ("string",), "run_name": ("string",)}),
        _update_run,
    ),
    Route(
        "POST", "runs/search", READ,
        Message({"experiment_ids": Many(STRING), "filter": STRING, "run_view_type": VIEW,
                 "max_results": INT32, "order_by": Many(STRING), "page_token": STRING},
                {"experiment_ids": ("array",), "filter": ("string",),
                 "max_results": ("int", _at_most(50_000)), "order_by": ("array", "strings")}),
        _search_runs,
    ),
    Route("POST", "runs/delete", LOG, Message({"run_id": STRING}, {"run_id": TEXT}), _delete_run),
    Route("POST", "runs/restore", LOG, Message({"run_id": STRING}, {"run_id": TEXT}), _restore_run),
    Route(
        "POST", "runs/log-metric", LOG,
        Message({**METRIC, **RUN},
                {"run_id": TEXT, "key": TEXT, "value": ("required", "float"),
                 "timestamp": ("int", "required"), "step": ("int",), "model_id": ("string",),
                 "dataset_name": ("string",), "dataset_digest": ("string",)}), _log_metric,
    ),
    Route(
        "POST", "runs/log-parameter", LOG,
        Message({**RUN, **TAG}, {"run_id": TEXT, "key": TEXT, "value": ("string",)}), _log_param,
    ),
    Route(
        "POST", "runs/log-batch", LOG,
        Message({"run_id": STRING, "metrics": Many(METRIC), "params": Many(TAG), _T: Many(TAG)},
                {"run_id": ("string", "required"),
                 "metrics": ("array", each_has("metrics", "key", "value", "timestamp")),
                 "params": ("array", each_has("params", "key")), _T: ("array", each_has(_T, "key"))}),
        _log_batch,
    ),
    Route(
        "POST", "runs/set-tag", LOG,
        Message({**RUN, **TAG}, {"run_id": TEXT, "key": TEXT, "value": ("string",)}), _set_tag,
    ),
    Route(
        "POST", "runs/delete-tag", LOG,
        Message({"run_id": STRING, "key": STRING}, {"run_id": TEXT, "key": TEXT}), _delete_tag,
    ),
    Route(
        "POST", "runs/log-inputs", LOG,
        Message({"run_id": STRING, "datasets": Many({_T: Many(TAG), "dataset": DATASET}),
                 "models": Many({"model_id": STRING})},
                {"run_id": TEXT, "datasets": ("array",), "models": ("array",)}), _log_inputs,
    ),
    Route(
        "POST", "runs/outputs", LOG,
        Message({"run_id": STRING, "models": Many({"model_id": STRING, "step": INT})},
                {"run_id": TEXT, "models": ("required", "array")}), _log_outputs,
    ),
    Route(
        "POST", "runs/log-model", LOG,
        Message({"run_id": STRING, "model_json": STRING},
                {"run_id": ("string", "required"), "model_json": ("string", "required")}), _log_model,
    ),
    Route(
        "GET", "metrics/get-history", READ,
        Message({**RUN, "metric_key": STRING, "page_token": STRING, "max_results": INT32},
                {"run_id": ("string", "required"), "metric_key": ("string", "required"),
                 "page_token": ("string",)}), _get_history,
    ),
    Route(
        "GET", "metrics/get-history-bulk", READ,
        Message({"run_id": Many(STRING), "metric_key": STRING, "max_results": INT32}), _get_history_bulk,
    ),
    Route(
        "GET", "metrics/get-history-bulk-interval", READ,
        Message({"run_ids": Many(STRING), "metric_key": STRING, "start_step": INT32, "end_step": INT32,
                 "max_results": INT32},
                {"run_ids": ("required", "array", "strings", _few_runs), "metric_key": TEXT,
                 "start_step": ("int",), "end_step": ("int",), "max_results": ("int", _sampled)}),
        _get_history_sampled,
    ),
    Route(
        "GET", "artifacts/list", READ,
        Message({**RUN, "path": STRING, "page_token": STRING},
                {"run_id": ("string", "required"), "path": ("string",), "page_token": ("string",)}),
        _list_artifacts,
    ),
]  # fmt: skip
