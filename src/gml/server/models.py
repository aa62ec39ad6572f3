"""MLflow's API of logged models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gml.server.routes import Right, Route
from gml.server.tracking import TAG
from gml.server.wire import shapes
from gml.server.wire.requests import BOOL, INT, MODEL_STATUS, STRING, Many, Message
from gml.service import artifacts, models
from gml.service.limits import Pair

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gml.server.context import Context
    from gml.service.models import LoggedModel


def _pairs(entries: Iterable[dict[str, Any]]) -> list[Pair]:
    return [Pair(entry.get("key", ""), entry.get("value", "")) for entry in entries]


def _answer(context: Context, model: LoggedModel) -> Any:
    return {"model": shapes.logged_model(model, context.uri(model.run))}


def _create(context: Context) -> Any:
    fields = context.fields
    model = models.create(
        context.store,
        context.text("experiment_id"),
        fields.get("name") or None,
        context.text("source_run_id"),
        _pairs(fields.get("tags", ())),
        _pairs(fields.get("params", ())),
        context.text("model_type"),
    )
    return _answer(context, model)


def _get(context: Context) -> Any:
    deleted = context.query.get("allow_deleted", "").lower() == "true"
    return _answer(context, models.get(context.store, context.path["model_id"], deleted=deleted))


def _finalize(context: Context) -> Any:
    status = context.fields.get("status", models.PENDING)
    return _answer(context, models.finalize(context.store, context.path["model_id"], status))


def _delete(context: Context) -> Any:
    models.delete(context.store, context.path["model_id"])
    return {}


def _set_tags(context: Context) -> Any:
    models.set_tags(context.store, context.path["model_id"], _pairs(context.fields.get("tags", ())))
    return {}


def _delete_tag(context: Context) -> Any:
    models.delete_tag(context.store, context.path["model_id"], context.path["tag_key"])
    return {}


def _log_params(context: Context) -> Any:
    models.log_params(context.store, context.path["model_id"], _pairs(context.fields.get("params", ())))
    return {}


def _search(context: Context) -> Any:
    fields = context.fields
    found, token = models.search(
        context.store,
        fields.get("experiment_ids", ()),
        context.text("filter"),
        fields.get("datasets", ()),
        fields.get("max_results") or 100,
        fields.get("order_by", ()),
        fields.get("page_token") or None,
    )
    out: dict[str, Any] = {}
    if found:
        out["models"] = [shapes.logged_model(model, context.uri(model.run)) for model in found]
    return out | ({"next_page_token": token} if token else {})


def _list_files(context: Context) -> Any:
    path = artifacts.check_path(context.text("artifact_directory_path"))
    model = models.get(context.store, context.path["model_id"])
    found = shapes.files(artifacts.listing(model.run, path))
    return {"root_uri": context.uri(model.run), **({"files": found} if found else {})}


_ONE: Final = "logged-models/{model_id}"
_NONE: Final = Message({})
READ, LOG = Right.READ, Right.LOG
ROUTES: Final = [
    Route(
        "POST", "logged-models", LOG,
        Message({"experiment_id": STRING, "name": STRING, "model_type": STRING, "source_run_id": STRING,
                 "params": Many(TAG), "tags": Many(TAG)},
                {"experiment_id": ("string", "required"), "name": ("string",), "model_type": ("string",),
                 "source_run_id": ("string",), "params": ("array",), "tags": ("array",)}), _create,
    ),
    Route(
        "POST", "logged-models/search", READ,
        Message({"experiment_ids": Many(STRING), "filter": STRING,
                 "datasets": Many({"dataset_name": STRING, "dataset_digest": STRING}), "max_results": INT,
                 "order_by": Many({"field_name": STRING, "ascending": BOOL, "dataset_name": STRING,
                                   "dataset_digest": STRING}), "page_token": STRING},
                {"experiment_ids": ("array", "strings", "required"), "filter": ("string",),
                 "datasets": ("array",), "max_results": ("int",), "order_by": ("array",),
                 "page_token": ("string",)}), _search,
    ),
    Route("GET", _ONE, READ, _NONE, _get),
    Route(
        "PATCH", _ONE, LOG,
        Message({"model_id": STRING, "status": MODEL_STATUS},
                {"model_id": ("string", "required"), "status": ("int", "required")}), _finalize,
    ),
    Route("DELETE", _ONE, LOG, None, _delete),
    Route("PATCH", f"{_ONE}/tags", LOG, Message({"tags": Many(TAG)}, {"tags": ("array",)}), _set_tags),
    Route("DELETE", f"{_ONE}/tags/{{tag_key}}", LOG, None, _delete_tag),
    Route(
        "POST", f"{_ONE}/params", LOG,
        Message({"model_id": STRING, "params": Many(TAG)},
                {"model_id": ("string", "required"), "params": ("array",)}), _log_params,
    ),
    Route(
        "GET", f"{_ONE}/artifacts/directories", READ,
        Message({"artifact_directory_path": STRING}, {"artifact_directory_path": ("string",)}), _list_files,
    ),
]  # fmt: skip
