"""Artifacts over HTTP: the proxy that clients upload through and download from, and the UI's downloads.

A path is taken apart into an id and a name that are looked up; it never becomes a path of the file system.
"""

from __future__ import annotations

import mimetypes
import unicodedata
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import anyio.to_thread
from starlette.responses import JSONResponse, Response, StreamingResponse

from gml.server.routes import Right, Route
from gml.server.streams import CHUNK, chunks, upload
from gml.server.wire import shapes
from gml.server.wire.requests import STRING, Message
from gml.service import artifacts, models, registered
from gml.service.errors import MISSING, ServiceError

if TYPE_CHECKING:
    from starlette.requests import Request

    from gml.server.context import Context
    from gml.service import Store

PROXY: Final = "mlflow-artifacts/artifacts"
# What a browser may show must not be able to run: everything that reads as text is sent as plain text.
_TEXT: Final = frozenset(
    [
        ".txt",
        ".log",
        ".err",
        ".cfg",
        ".conf",
        ".cnf",
        ".cf",
        ".ini",
        ".properties",
        ".prop",
        ".hocon",
        ".toml",
        ".yaml",
        ".yml",
        ".xml",
        ".json",
        ".js",
        ".py",
        ".csv",
        ".tsv",
        ".md",
        ".rst",
        ".jsonl",
        ".html",
        ".htm",
        ".svg",
        ".r",
        ".sh",
    ]
)
_TEXT_NAMES: Final = frozenset({"MLmodel", "MLproject"})


def _type_of(name: str) -> str:
    base = name.rpartition("/")[2]
    suffix = f".{base.rpartition('.')[2].lower()}" if "." in base else ""
    if base in _TEXT_NAMES or suffix in _TEXT:
        return "text/plain"
    return mimetypes.guess_type(base)[0] or "application/octet-stream"


def _disposition(name: str) -> str:
    base = name.rpartition("/")[2]
    plain = unicodedata.normalize("NFKD", base).encode("ascii", "ignore").decode() or "download"
    shown = "".join(c if c.isprintable() and c not in '"\\' else "_" for c in plain)
    value = f'attachment; filename="{shown}"'
    return value if base.isascii() else f"{value}; filename*=UTF-8''{quote(base, safe='')}"


async def send(store: Store, run_id: str, path: str, request: Request) -> Response:
    """Return the response that has a file of a run; whole, or the one part that was asked for."""

    def first() -> tuple[Any, int, bytes]:
        file, size = artifacts.open_file(store, run_id, path)
        try:
            # A small file that is not what its digest says is refused before anything is sent.
            return file, size, file.read(CHUNK)
        except BaseException:
            file.close()
            raise

    file, size, head = await anyio.to_thread.run_sync(first)
    headers = {
        "Content-Disposition": _disposition(path),
        "Content-Type": _type_of(path),
        "Accept-Ranges": "bytes",
    }
    wanted = _range(request.headers.get("range"), size)
    if wanted is not None:
        return await _part(file, head, size, wanted, headers)
    return StreamingResponse(chunks(file, head), headers=headers | {"Content-Length": str(size)})


def _range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return first and last byte of a request for one part; None for the whole."""
    if header is None or not header.startswith("bytes=") or "," in header:
        return None
    start, dash, end = header[6:].strip().partition("-")
    if not dash or not (start + end).isdigit():
        return None
    first = int(start) if start else max(0, size - int(end))
    last = min(int(end), size - 1) if start and end else size - 1
    if first > last or first >= size:
        raise ServiceError("The range is outside of the file", "RANGE")
    return first, last


async def _part(
    file: Any, head: bytes, size: int, wanted: tuple[int, int], headers: dict[str, str]
) -> Response:
    first, last = wanted

    async def body() -> Any:
        at = 0
        async for chunk in chunks(file, head):
            begin, end = max(first - at, 0), min(last + 1 - at, len(chunk))
            at += len(chunk)
            if begin < end:
                yield chunk[begin:end]
            if at > last:
                return

    more = {"Content-Range": f"bytes {first}-{last}/{size}", "Content-Length": str(last - first + 1)}
    return StreamingResponse(body(), status_code=206, headers=headers | more)


# --- the proxy --------------------------------------------------------------------------------


async def _download(context: Context, request: Request) -> Response:
    path = artifacts.check_path(context.path["path"])

    def look_up() -> tuple[str, str]:
        return artifacts.locate(context.store, path)

    run_id, name = await anyio.to_thread.run_sync(look_up)
    return await send(context.store, run_id, name, request)


async def _upload(context: Context, request: Request) -> Response:
    path = artifacts.check_path(context.path["path"])
    store = context.store

    def look_up() -> tuple[str, str]:
        run_id, name = artifacts.locate(store, path)
        artifacts.writable(store, run_id)
        return run_id, name

    run_id, name = await anyio.to_thread.run_sync(look_up)
    await upload(request, lambda stream: artifacts.put(store, run_id, name, stream))
    return JSONResponse({})


def _list(context: Context) -> Any:
    path = artifacts.check_path(context.text("path"))
    try:
        run_id, name = artifacts.locate(context.store, path)
    except ServiceError as error:
        if error.code != MISSING:
            raise
        return {}
    found = shapes.files(artifacts.listing(context.store.run(run_id), name), base=True)
    return {"files": found} if found else {}


def _remove(context: Context) -> Any:
    run_id, name = artifacts.locate(context.store, artifacts.check_path(context.path["path"]))
    artifacts.remove(context.store, run_id, name)
    return {}


def _no_parts(context: Context) -> Any:  # noqa: ARG001
    raise ServiceError(
        "Uploads in parts are not supported here: send the file in one request", "NOT_IMPLEMENTED"
    )


def _no_urls(context: Context) -> Any:  # noqa: ARG001
    raise ServiceError("Presigned URLs are not supported here: use the artifact proxy", "NOT_IMPLEMENTED")


# --- downloads of MLflow's UI -----------------------------------------------------------------


async def _get_artifact(context: Context, request: Request) -> Response:
    run_id = context.query.get("run_id") or context.query.get("run_uuid") or ""
    path = artifacts.check_path(context.query.get("path", ""))
    return await send(context.store, run_id, path, request)


async def _model_file(context: Context, request: Request) -> Response:
    path = artifacts.check_path(context.query.get("artifact_file_path", ""))
    model_id = context.path["model_id"]

    def look_up() -> None:
        models.get(context.store, model_id)

    await anyio.to_thread.run_sync(look_up)
    return await send(context.store, model_id, path, request)


async def _version_file(context: Context, request: Request) -> Response:
    path = artifacts.check_path(context.query.get("path", ""))
    name, version = context.query.get("name", ""), context.query.get("version", "")

    def look_up() -> tuple[str, str]:
        found = registered.get_version(context.store, name, version)
        return found.owner, "/".join(part for part in (found.path, path) if part)

    owner, inner = await anyio.to_thread.run_sync(look_up)
    return await send(context.store, owner, inner, request)


async def _upload_of_ui(context: Context, request: Request) -> Response:
    run_id = context.query.get("run_uuid") or ""
    path = context.query.get("path")
    for name, value in (("run_uuid", run_id), ("path", path)):
        if not value:
            raise ServiceError(f"Request must specify {name}.")
    name = artifacts.check_path(path or "")
    if int(request.headers.get("content-length") or 0) > 10 * CHUNK:
        raise ServiceError("Artifact size is too large. Max size is 10MB.")
    store = context.store

    def look_up() -> None:
        artifacts.writable(store, run_id)

    await anyio.to_thread.run_sync(look_up)
    await upload(request, lambda stream: artifacts.put(store, run_id, name, stream))
    return JSONResponse({})


READ, LOG = Right.READ, Right.LOG
PROXY_ROUTES: Final = [
    Route("GET", PROXY, READ, Message({"path": STRING}), _list),
    Route("GET", f"{PROXY}/{{path*}}", READ, raw=_download),
    Route("PUT", f"{PROXY}/{{path*}}", LOG, raw=_upload),
    Route("DELETE", f"{PROXY}/{{path*}}", LOG, None, _remove),
    Route("POST", "mlflow-artifacts/mpu/create/{path*}", LOG, None, _no_parts),
    Route("POST", "mlflow-artifacts/mpu/complete/{path*}", LOG, None, _no_parts),
    Route("POST", "mlflow-artifacts/mpu/abort/{path*}", LOG, None, _no_parts),
    Route("GET", "mlflow-artifacts/presigned/{path*}", READ, None, _no_urls),
]
UI_ROUTES: Final = [
    Route("POST", "upload-artifact", LOG, raw=_upload_of_ui),
    Route("GET", "logged-models/{model_id}/artifacts/files", READ, raw=_model_file),
]
ROOT_ROUTES: Final = [
    Route("GET", "/get-artifact", READ, raw=_get_artifact),
    Route("GET", "/model-versions/get-artifact", READ, raw=_version_file),
]
