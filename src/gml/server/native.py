"""gml's own JSON API, `/api/gml/1/`: reading runs, metrics, files, differences (docs/server.md)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import anyio.to_thread

from gml.domain.metrics import number_to_json
from gml.domain.run import ACTIVE, DELETED
from gml.server.files import send
from gml.server.routes import Right, Route
from gml.server.wire.requests import INT32, STRING, Message
from gml.service import artifacts, history, pages, search
from gml.service.errors import ServiceError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from gml.domain.experiment import Experiment
    from gml.domain.run import Run
    from gml.server.context import Context

PREFIX: Final = "/api/gml/1"
DEFAULT_PAGE: Final = 100
MAX_PAGE: Final = 1_000
MAX_POINTS: Final = 10_000
STAGES: Final = {"active": (ACTIVE,), "deleted": (DELETED,), "all": (ACTIVE, DELETED)}
# Columns of a run beyond params.KEY, metrics.KEY and tags.KEY.
COLUMNS: Final = (
    "run_id", "name", "experiment_id", "experiment", "status", "user", "start_time", "end_time",
    "lifecycle_stage", "live", "params", "metrics", "tags", "source",
)  # fmt: skip


def run_json(run: Run, experiment: str) -> dict[str, Any]:
    """Return a run, its metrics with least, greatest and last value."""
    return {
        "run_id": run.run_id,
        "name": run.name,
        "experiment_id": run.experiment_id,
        "experiment": experiment,
        "status": run.status,
        "user": run.user,
        "start_time": run.start_time,
        "end_time": run.end_time,
        "lifecycle_stage": run.lifecycle_stage,
        "live": run.live,
        "params": dict(run.params),
        "metrics": {key: summary.to_json() for key, summary in run.metrics.items()},
        "tags": dict(run.tags),
        "source": dict(run.source),
    }


def _pick(shown: dict[str, Any], columns: list[str]) -> dict[str, Any]:
    out: dict[str, Any] = {"run_id": shown["run_id"]}
    for column in columns:
        section, dot, key = column.partition(".")
        if section not in COLUMNS:
            raise ServiceError(f"there is no column {column!r}; columns are {', '.join(COLUMNS)}")
        if not dot:
            out[section] = shown[section]
        elif isinstance(shown[section], dict) and key in shown[section]:
            out.setdefault(section, {})[key] = shown[section][key]
    return out


def _names(context: Context) -> dict[str, str]:
    with context.store.reading() as reader:
        return {each.experiment_id: each.name for each in reader.experiments()}


def _experiments(context: Context) -> Any:
    with context.store.reading() as reader:
        found = reader.experiments()
        counts = reader.index.counts()
    shown = [_experiment(each, counts) for each in found]
    return {"experiments": sorted(shown, key=lambda each: str(each["name"]))}


def _experiment(found: Experiment, counts: dict[tuple[str, str], int]) -> dict[str, Any]:
    return {
        "experiment_id": found.experiment_id,
        "name": found.name,
        "lifecycle_stage": found.lifecycle_stage,
        "creation_time": found.creation_time,
        "last_update_time": found.last_update_time,
        "tags": dict(found.tags),
        "runs": counts.get((found.experiment_id, ACTIVE), 0),
    }


def _runs(context: Context) -> Any:
    from gml.index.query import parse, parse_sort

    fields = context.fields
    size = fields.get("limit", DEFAULT_PAGE)
    if not 1 <= size <= MAX_PAGE:
        raise ServiceError(f"limit is 1 to {MAX_PAGE}, not {size}")
    stage = fields.get("stage", "active")
    if stage not in STAGES:
        raise ServiceError(f"stage is one of {', '.join(STAGES)}, not {stage!r}")
    query, sort = context.text("query").strip(), context.text("sort").strip()
    names = _names(context)
    wanted = None
    if fields.get("experiment"):
        wanted = {key for key, name in names.items() if fields["experiment"] in {key, name}}
        if not wanted:
            raise ServiceError(f"no experiment is named {fields['experiment']!r}", "RESOURCE_DOES_NOT_EXIST")
    try:
        parsed, orders = parse(query) if query else None, parse_sort(sort) if sort else ()
    except ValueError as error:
        raise ServiceError(str(error)) from None
    if parsed is not None and parsed.needs_history:
        raise ServiceError("a query over the API cannot ask for values at a step")
    offset = pages.decode(fields.get("page"))
    found = search.select(context.store, parsed, orders, wanted, STAGES[stage], offset, size + 1)
    columns = [each for each in context.text("columns").split(",") if each]
    shown = [run_json(run, names.get(run.experiment_id, "")) for run in found[:size]]
    out: dict[str, Any] = {"runs": [_pick(each, columns) for each in shown] if columns else shown}
    if len(found) > size:
        out["next_page"] = pages.encode(offset + size)
    return out


def _resolve(context: Context) -> Run:
    with context.store.reading() as reader:
        return reader.resolve(context.path["run"])


def _run(context: Context) -> Any:
    run = _resolve(context)
    shown = run_json(run, _names(context).get(run.experiment_id, ""))
    return shown | {"inputs": list(run.inputs), "outputs": list(run.outputs), "process": dict(run.process)}


def _metric(context: Context) -> Any:
    run = _resolve(context)
    key = context.path["key"]
    if key not in run.metrics:
        raise ServiceError(f"run {run.run_id} has no metric {key!r}", "RESOURCE_DOES_NOT_EXIST")
    most = context.fields.get("points", 1_000)
    if not 1 <= most <= MAX_POINTS:
        raise ServiceError(f"points is 1 to {MAX_POINTS}, not {most}")
    found = history.envelope(context.store, run.run_id, key, most)
    for name in ("min", "max", "last"):
        found[name] = [number_to_json(value) for value in found[name]]
    return {"run_id": run.run_id, "key": key, "summary": run.metrics[key].to_json(), **found}


def _files(context: Context) -> Any:
    run = _resolve(context)
    path = artifacts.check_path(context.text("path"))
    entries = [
        {"path": name, "size": size, "sha256": run.artifacts[name].sha256 if size is not None else None}
        for name, size in artifacts.listing(run, path)
    ]
    return {"run_id": run.run_id, "files": entries}


async def _file(context: Context, request: Request) -> Response:
    run = await anyio.to_thread.run_sync(_resolve, context)
    return await send(context.store, run.run_id, artifacts.check_path(context.path["path"]), request)


def _diff(context: Context) -> Any:
    from gml.tracking.compare import SECTIONS, compare_runs

    only = tuple(each for each in context.text("only").split(",") if each)
    unknown = [each for each in only if each not in SECTIONS]
    if unknown:
        raise ServiceError(f"there is no section {unknown[0]!r}; sections are {', '.join(SECTIONS)}")
    ids = []
    with context.store.reading() as reader:
        for name in ("a", "b"):
            if not context.text(name):
                raise ServiceError(f"the parameter {name!r} names a run, and is missing")
            ids.append(reader.resolve(context.text(name)).run_id)
    return context.store.with_points(
        ids[0], lambda reader, a: compare_runs(reader, a, reader.resolve(ids[1]), only)
    )


def _about(context: Context) -> Any:
    from gml._version import __version__

    with context.store.reading() as reader:
        tip = reader.view.commit
    return {"version": __version__, "ledger": tip, "time": int(time.time() * 1000)}


def _route(path: str, summary: str, answer: Any, fields: dict[str, Any] | None = None) -> Route:
    checks = {name: ("int",) for name, kind in (fields or {}).items() if kind == INT32}
    return Route("GET", f"{PREFIX}{path}", Right.READ, Message(fields or {}, checks), answer, summary=summary)


ROUTES: Final = [
    _route("", "Version of the server and commit of the ledger", _about),
    _route("/experiments", "All experiments with their number of active runs", _experiments),
    _route(
        "/runs", "Runs that match a query, newest first or sorted, in pages", _runs,
        {"query": STRING, "sort": STRING, "experiment": STRING, "stage": STRING, "columns": STRING,
         "limit": INT32, "page": STRING},
    ),
    _route("/runs/{run}", "One run, by id, unique beginning of it, name, or @", _run),
    _route(
        "/runs/{run}/metrics/{key*}", "The curve of a metric: least, greatest and last value of each part",
        _metric,
        {"points": INT32},
    ),
    _route("/runs/{run}/artifacts", "Files in a folder of a run", _files, {"path": STRING}),
    Route(
        "GET", f"{PREFIX}/runs/{{run}}/artifacts/{{path*}}", Right.READ, raw=_file,
        summary="Content of a file of a run",
    ),
    _route(
        "/diff", "Differences of two runs, their code included", _diff,
        {"a": STRING, "b": STRING, "only": STRING},
    ),
]  # fmt: skip
