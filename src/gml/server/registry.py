"""MLflow's registry API on the registry of the repository."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gml.server.routes import Right, Route
from gml.server.tracking import TAG
from gml.server.wire import shapes
from gml.server.wire.requests import BOOL, INT, STRING, Many, Message
from gml.service import registered, registering
from gml.service.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gml.server.context import Context
    from gml.service.registered import ModelVersion, RegisteredModel


def _version(context: Context, found: ModelVersion) -> dict[str, Any]:
    return shapes.model_version(found, registered.source_of(found, _uri(context, found)))


def _uri(context: Context, found: ModelVersion) -> str | None:
    """Return where the files of a version's run are; None where they are elsewhere, or not here."""
    if not found.owner:
        return None
    try:
        return context.uri(context.store.run(found.owner))
    except ServiceError:
        return None


def _model(context: Context, found: RegisteredModel) -> dict[str, Any]:
    return shapes.registered_model(found, [_version(context, version) for version in found.latest])


def _pairs(entries: Iterable[dict[str, Any]]) -> dict[str, str]:
    return {entry.get("key", ""): entry.get("value", "") for entry in entries}


# --- models -----------------------------------------------------------------------------------


def _create(context: Context) -> Any:
    fields = context.fields
    registering.create(
        context.store, context.text("name"), context.text("description"), _pairs(fields.get("tags", ()))
    )
    return _get(context)


def _get(context: Context) -> Any:
    return {"registered_model": _model(context, registered.get(context.store, context.text("name")))}


def _search(context: Context) -> Any:
    fields = context.fields
    found, token = registered.search(
        context.store,
        context.text("filter"),
        fields.get("max_results", 100),
        fields.get("order_by", ()),
        fields.get("page_token") or None,
    )
    out: dict[str, Any] = {"registered_models": [_model(context, each) for each in found]} if found else {}
    return out | ({"next_page_token": token} if token else {})


def _update(context: Context) -> Any:
    registering.describe(context.store, context.text("name"), context.text("description"))
    return _get(context)


def _rename(context: Context) -> Any:
    registering.rename(context.store, context.text("name"), context.text("new_name"))
    return {"registered_model": _model(context, registered.get(context.store, context.text("new_name")))}


def _delete(context: Context) -> Any:
    registering.delete(context.store, context.text("name"))
    return {}


def _latest(context: Context) -> Any:
    found = registered.latest(context.store, context.text("name"), context.fields.get("stages", ()))
    return {"model_versions": [_version(context, each) for each in found]} if found else {}


def _set_tag(context: Context) -> Any:
    registering.set_tag(
        context.store, context.text("name"), context.text("key"), context.text("value"), _number(context)
    )
    return {}


def _delete_tag(context: Context) -> Any:
    registering.set_tag(context.store, context.text("name"), context.text("key"), None, _number(context))
    return {}


def _number(context: Context) -> str | None:
    """Return the version that a request is about; None for one about the model."""
    return context.text("version") if "version" in context.fields else None


def _set_alias(context: Context) -> Any:
    registering.set_alias(context.store, context.text("name"), context.text("alias"), context.text("version"))
    return {}


def _delete_alias(context: Context) -> Any:
    registering.set_alias(context.store, context.text("name"), context.text("alias"), None)
    return {}


def _by_alias(context: Context) -> Any:
    found = registered.by_alias(context.store, context.text("name"), context.text("alias"))
    return {"model_version": _version(context, found)}


# --- versions ---------------------------------------------------------------------------------


def _create_version(context: Context) -> Any:
    fields = context.fields
    number = registering.create_version(
        context.store,
        context.text("name"),
        context.text("source"),
        context.text("run_id"),
        context.text("model_id"),
        context.text("description"),
        _pairs(fields.get("tags", ())),
        context.text("run_link"),
    )
    found = registered.get_version(context.store, context.text("name"), str(number))
    return {"model_version": _version(context, found)}


def _get_version(context: Context) -> Any:
    found = registered.get_version(context.store, context.text("name"), context.text("version"))
    return {"model_version": _version(context, found)}


def _update_version(context: Context) -> Any:
    registering.describe(
        context.store, context.text("name"), context.text("description"), context.text("version")
    )
    return _get_version(context)


def _transition(context: Context) -> Any:
    registering.transition(
        context.store,
        context.text("name"),
        context.text("version"),
        context.text("stage"),
        archive=bool(context.fields.get("archive_existing_versions")),
    )
    return _get_version(context)


def _delete_version(context: Context) -> Any:
    registering.delete_version(context.store, context.text("name"), context.text("version"))
    return {}


def _search_versions(context: Context) -> Any:
    fields = context.fields
    found, token = registered.search_versions(
        context.store,
        context.text("filter"),
        fields.get("max_results", registered.MAX_VERSIONS),
        fields.get("order_by", ()),
        fields.get("page_token") or None,
    )
    out: dict[str, Any] = {"model_versions": [_version(context, each) for each in found]} if found else {}
    return out | ({"next_page_token": token} if token else {})


def _download_uri(context: Context) -> Any:
    found = registered.get_version(context.store, context.text("name"), context.text("version"))
    uri = _uri(context, found)
    base = registered.source_of(found) if uri is None else f"{uri}/{found.path}".rstrip("/")
    return {"artifact_uri": base}


READ, LOG = Right.READ, Right.LOG
_TEXT: Final = ("string", "required")
_NAME: Final = Message({"name": STRING}, {"name": _TEXT})
_ONE: Final = Message({"name": STRING, "version": STRING}, {"name": _TEXT, "version": _TEXT})
_SEARCH: Final = Message(
    {"filter": STRING, "max_results": INT, "order_by": Many(STRING), "page_token": STRING},
    {
        "filter": ("string",),
        "max_results": ("int",),
        "order_by": ("array", "strings"),
        "page_token": ("string",),
    },
)
_LATEST: Final = Message(
    {"name": STRING, "stages": Many(STRING)}, {"name": _TEXT, "stages": ("array", "strings")}
)
_ALIAS: Final = Message({"name": STRING, "alias": STRING}, {"name": _TEXT, "alias": _TEXT})
_M: Final = "registered-models"
_V: Final = "model-versions"
ROUTES: Final = [
    Route(
        "POST", f"{_M}/create", LOG,
        Message({"name": STRING, "tags": Many(TAG), "description": STRING},
                {"name": _TEXT, "tags": ("array",), "description": ("string",)}), _create,
    ),
    Route("GET", f"{_M}/get", READ, _NAME, _get),
    Route("GET", f"{_M}/search", READ, _SEARCH, _search),
    Route(
        "PATCH", f"{_M}/update", LOG,
        Message({"name": STRING, "description": STRING}, {"name": _TEXT, "description": ("string",)}),
        _update,
    ),
    Route(
        "POST", f"{_M}/rename", LOG,
        Message({"name": STRING, "new_name": STRING}, {"name": _TEXT, "new_name": _TEXT}), _rename,
    ),
    Route("DELETE", f"{_M}/delete", LOG, _NAME, _delete),
    Route("GET", f"{_M}/get-latest-versions", READ, _LATEST, _latest),
    Route("POST", f"{_M}/get-latest-versions", READ, _LATEST, _latest),
    Route(
        "POST", f"{_M}/set-tag", LOG,
        Message({"name": STRING, **TAG}, {"name": _TEXT, "key": _TEXT, "value": ("string",)}), _set_tag,
    ),
    Route(
        "DELETE", f"{_M}/delete-tag", LOG,
        Message({"name": STRING, "key": STRING}, {"name": _TEXT, "key": _TEXT}), _delete_tag,
    ),
    Route(
        "POST", f"{_M}/alias", LOG,
        Message({"name": STRING, "alias": STRING, "version": STRING},
                {"name": _TEXT, "alias": _TEXT, "version": _TEXT}), _set_alias,
    ),
    Route("DELETE", f"{_M}/alias", LOG, _ALIAS, _delete_alias),
    Route("GET", f"{_M}/alias", READ, _ALIAS, _by_alias),
    Route(
        "POST", f"{_V}/create", LOG,
        Message({"name": STRING, "source": STRING, "run_id": STRING, "tags": Many(TAG), "run_link": STRING,
                 "description": STRING, "model_id": STRING},
                {"name": _TEXT, "source": _TEXT, "run_id": ("string",), "tags": ("array",),
                 "run_link": ("string",), "description": ("string",), "model_id": ("string",)}),
        _create_version,
    ),
    Route("GET", f"{_V}/get", READ, _ONE, _get_version),
    Route(
        "PATCH", f"{_V}/update", LOG,
        Message({"name": STRING, "version": STRING, "description": STRING},
                {"name": _TEXT, "version": _TEXT, "description": ("string",)}), _update_version,
    ),
    Route(
        "POST", f"{_V}/transition-stage", LOG,
        Message({"name": STRING, "version": STRING, "stage": STRING, "archive_existing_versions": BOOL},
                {"name": _TEXT, "version": _TEXT, "stage": _TEXT}), _transition,
    ),
    Route("DELETE", f"{_V}/delete", LOG, _ONE, _delete_version),
    Route("GET", f"{_V}/search", READ, _SEARCH, _search_versions),
    Route("GET", f"{_V}/get-download-uri", READ, _ONE, _download_uri),
    Route(
        "POST", f"{_V}/set-tag", LOG,
        Message({"name": STRING, "version": STRING, **TAG},
                {"name": _TEXT, "version": _TEXT, "key": _TEXT, "value": ("string",)}), _set_tag,
    ),
    Route(
        "DELETE", f"{_V}/delete-tag", LOG,
        Message({"name": STRING, "version": STRING, "key": STRING},
                {"name": _TEXT, "version": _TEXT, "key": _TEXT}), _delete_tag,
    ),
]  # fmt: skip
