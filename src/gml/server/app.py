"""The ASGI application: finds the route of a request, checks who asks, answers. Delivery only."""

from __future__ import annotations

import json
import logging
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, quote

import anyio
import anyio.to_thread
import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from gml._version import __version__
from gml.domain.errors import GmlError
from gml.server import files, models, native, openapi, pages, registry, tracking
from gml.server.access import COOKIE
from gml.server.context import Context
from gml.server.counters import Counters
from gml.server.routes import Right, Route, Table
from gml.server.wire.requests import Message, body_of, from_query, read
from gml.server.wire.status import status_of
from gml.service.errors import ServiceError, translate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Receive, Scope, Send

    from gml.server.access import Access
    from gml.service import Store

log = logging.getLogger("gml.server")

MAX_BODY: Final = 32 * 1024 * 1024
BODY_SECONDS: Final = 60.0
IDLE_EVERY: Final = 30.0
API: Final = ("/api/2.0", "/ajax-api/2.0")
REPOSITORIES: Final = "/repos/"
MLFLOW_VERSION: Final = "3.17.2"
_JSON: Final = "application/json"
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'self'; sandbox",
    "Cache-Control": "no-store",
}


def table() -> Table:
    """Return all routes."""
    out = Table()
    for prefix in API:
        for route in (*tracking.ROUTES, *models.ROUTES, *registry.ROUTES):
            out.add(_under(f"{prefix}/mlflow/", route))
        for route in files.PROXY_ROUTES:
            out.add(_under(f"{prefix}/", route))
    for route in files.UI_ROUTES:
        out.add(_under(f"{API[1]}/mlflow/", route))
    for route in (*files.ROOT_ROUTES, *native.ROUTES, *_OWN, *pages.ROUTES):
        out.add(route)
    return out


def _under(prefix: str, route: Route) -> Route:
    from dataclasses import replace

    return replace(route, path=prefix + route.path)


class App:
    """Answers for one or several repositories.

    Args:
        stores: by name; the one named "" answers at the root, the others below `/repos/NAME`.
        access: who may ask.
        root_path: prefix that a proxy in front has taken off.
    """

    def __init__(self, stores: Mapping[str, Store], access: Access, root_path: str = "") -> None:
        self.stores = dict(stores)
        self.access = access
        self.root_path = root_path.rstrip("/")
        self.table = table()
        self.counters = Counters()
        self.stopping = False
        self.pages = pages.Pages(lambda: self.stopping)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or take part in start and end of the server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        began = time.perf_counter()
        name = "-"
        response: Response
        try:
            name, response = await self._answer(request)
        except ClientDisconnect:
            self.counters.add(request.method, name, 499, time.perf_counter() - began)
            return
        for key, value in _HEADERS.items():
            response.headers.setdefault(key, value)
        try:
            await response(scope, receive, send)
        finally:
            seconds = time.perf_counter() - began
            self.counters.add(request.method, name, response.status_code, seconds)
            if log.isEnabledFor(logging.INFO):
                log.info(
                    "request",
                    extra={
                        "facts": {
                            "method": request.method,
                            "route": name,
                            "status": response.status_code,
                            "ms": round(seconds * 1000, 2),
                            "user": scope.get("gml.user", ""),
                        }
                    },
                )

    async def _live(self, receive: Receive, send: Send) -> None:
        async with AsyncExitStack() as stack:
            group = await stack.enter_async_context(anyio.create_task_group())
            while True:
                message = await receive()
                if message["type"] == "lifespan.startup":
                    group.start_soon(self._keep_house)
                    await send({"type": "lifespan.startup.complete"})
                else:
                    group.cancel_scope.cancel()
                    failed = ""
                    with anyio.CancelScope(shield=True):
                        for store in self.stores.values():
                            try:
                                await anyio.to_thread.run_sync(store.close)
                            except GmlError as error:
                                failed = str(error)
                                log.error("gml: %s", error)  # noqa: TRY400 - one line, no traceback
                        ending = {"type": "lifespan.shutdown.failed", "message": failed}
                        await send(ending if failed else {"type": "lifespan.shutdown.complete"})
                    return

    async def _keep_house(self) -> None:
        while True:
            await anyio.sleep(IDLE_EVERY)
            for store in self.stores.values():
                try:
                    await anyio.to_thread.run_sync(store.live.close_idle)
                except GmlError as error:
                    log.warning("gml: %s", error)

    def top(self, store: Store) -> str:
        """Return the path of a repository, as browsers see it."""
        name = next((name for name, each in self.stores.items() if each is store), "")
        return self.root_path + (f"{REPOSITORIES}{quote(name, safe='')}" if name else "")

    # --- one request --------------------------------------------------------------------------

    async def _answer(self, request: Request) -> tuple[str, Response]:
        """Return the route's path and the response."""
        method = "GET" if request.method == "HEAD" else request.method
        path = request.scope["path"]
        if self.root_path and path.startswith(f"{self.root_path}/"):
            path = path[len(self.root_path) :]
        if not (path == "/health" or self.access.is_host(request.headers.get("host"))):
            return "-", PlainTextResponse("Invalid Host header - possible DNS rebinding attack detected", 403)
        repository = ""
        if path.startswith(REPOSITORIES):
            repository, _, rest = path[len(REPOSITORIES) :].partition("/")
            path = f"/{rest}"
        route, values, known = self.table.find(method, path)
        if route is None:
            # Not said to strangers, who could find out what there is.
            text, status = ("Method Not Allowed", 405) if known else ("Not Found", 404)
            refused = self._refuse(request, Right.READ)
            return "-", refused or _html(f"{status} {text}", status)
        refused = self._refuse(request, route.right)
        if refused is not None:
            return route.path, refused
        store = self.stores.get(repository)
        if store is None:
            return route.path, _html("404 Not Found", 404)
        context = Context(store, path=values, query=dict(request.query_params))
        try:
            return route.path, await self._run(route, context, request)
        except ServiceError as error:
            return route.path, problem(error)
        except GmlError as error:
            return route.path, problem(translate(error))

    def _refuse(self, request: Request, wanted: Right) -> Response | None:
        if wanted == Right.OPEN:
            return None
        if request.method not in _SAFE and not self.access.is_own_origin(request.headers.get("origin")):
            return PlainTextResponse("Cross-origin request blocked", 403)
        right, name = self.access.right_of(request.headers, request.cookies)
        request.scope["gml.user"] = name
        if right >= wanted:
            return None
        if right == Right.OPEN:
            response = problem(ServiceError("You need a token; see `gml server --help`", "UNAUTHENTICATED"))
            response.headers["WWW-Authenticate"] = 'Basic realm="gml", Bearer'
            return response
        return problem(
            ServiceError(
                f"Your token may {right.name.lower()}, not {wanted.name.lower()}", "PERMISSION_DENIED"
            )
        )

    async def _run(self, route: Route, context: Context, request: Request) -> Response:
        if route.raw is not None:
            return await route.raw(context, request)
        if route.answer is None:
            return await _own(self, route, context, request)
        answer = route.answer
        if route.message is not None:
            sent = await self._sent(route.message, request)
            message = route.message

            def work() -> Any:
                value = sent() if callable(sent) else sent
                context.fields = read(message, value)
                return answer(context)
        else:

            def work() -> Any:
                return answer(context)

        return reply(await anyio.to_thread.run_sync(work))

    async def _sent(self, message: Message, request: Request) -> Any:
        """Return what the request has, or a function that reads it, which may take a while."""
        if request.method in {"GET", "HEAD"}:
            query = request.scope["query_string"].decode("latin-1")
            try:
                pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=1_000)
            except ValueError:
                raise ServiceError("The query string has too many parameters") from None
            if pairs or not request.headers.get("content-type"):
                return from_query(message, pairs)
        data = await bounded_body(request)
        kind = request.headers.get("content-type")
        return lambda: body_of(data, kind)


async def bounded_body(request: Request, most: int = MAX_BODY) -> bytes:
    """Return the body of a request.

    Raises:
        ServiceError: it is larger than a request may be, or comes too slowly.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared[:20]) > most:
        raise _too_large(most)
    parts: list[bytes] = []
    size = 0
    try:
        with anyio.fail_after(BODY_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size > most:
                    raise _too_large(most)
                parts.append(chunk)
    except TimeoutError:
        raise ServiceError(f"The request took longer than {BODY_SECONDS:g} s", "REQUEST_TIMEOUT") from None
    return b"".join(parts)


def _too_large(most: int) -> ServiceError:
    return ServiceError(f"A request has at most {most} bytes", "REQUEST_TOO_LARGE")


_MORE_STATUS: Final = {"REQUEST_TOO_LARGE": 413, "REQUEST_TIMEOUT": 408, "RANGE": 416, "CANCELLED": 499}
_AS_MLFLOW: Final = {"REQUEST_TOO_LARGE": "INVALID_PARAMETER_VALUE", "RANGE": "INVALID_PARAMETER_VALUE",
                     "REQUEST_TIMEOUT": "DEADLINE_EXCEEDED"}  # fmt: skip


def problem(error: ServiceError) -> Response:
    """Return the response of an error."""
    code = _AS_MLFLOW.get(error.code, error.code)
    status = _MORE_STATUS.get(error.code, status_of(error.code))
    return reply({"error_code": code, "message": str(error)}, status)


def reply(value: Any, status: int = 200) -> Response:
    """Return a value as a JSON response; NaN and infinities are text, as everywhere in MLflow's API."""
    try:
        data = orjson.dumps(value)
    except (TypeError, orjson.JSONEncodeError):
        # Halves of surrogate pairs, and integers of more than 64 bits.
        data = json.dumps(value).encode()
    return Response(data, status, media_type=_JSON)


def _html(text: str, status: int) -> Response:
    page = f"<!doctype html>\n<html lang=en>\n<title>{text}</title>\n<h1>{text.partition(' ')[2]}</h1>\n"
    return Response(page, status, media_type="text/html")


# --- the server's own routes ------------------------------------------------------------------

_HEALTH: Final = Route("GET", "/health", Right.OPEN, summary="OK while the server answers")
_VERSION: Final = Route("GET", "/version", Right.READ, summary="The version of MLflow's API that is spoken")
_METRICS: Final = Route("GET", "/metrics", Right.READ, summary="Counters for Prometheus")
_LOGIN: Final = Route("GET", "/login", Right.OPEN, summary="Opens a session with a code that works once")
_HOME: Final = Route("GET", "/", Right.READ, summary="What there is")
_DESCRIPTION: Final = Route("GET", f"{native.PREFIX}/openapi.json", Right.READ, summary="This description")
_INFO: Final = [
    Route("GET", f"/{kind}/3.0/mlflow/server-info", Right.READ, summary="What the server can do")
    for kind in ("api", "ajax-api")
]
_OWN: Final = [_HEALTH, _VERSION, _METRICS, _LOGIN, _HOME, _DESCRIPTION, *_INFO]


async def _own(app: App, route: Route, context: Context, request: Request) -> Response:
    if route is _HEALTH:
        return PlainTextResponse("OK")
    if route in pages.ROUTES:
        path = None if route is pages.ROUTES[0] else context.path.get("path", "")
        return app.pages.answer(context.store, app.top(context.store), path)
    if route is _VERSION:
        return PlainTextResponse(MLFLOW_VERSION)
    if route is _METRICS:
        open_runs = {name: store.live.count for name, store in app.stores.items()}
        return PlainTextResponse(app.counters.text(open_runs), media_type="text/plain; version=0.0.4")
    if route is _DESCRIPTION:
        return reply(openapi.describe(native.ROUTES))
    if route is _LOGIN:
        session = app.access.open_session(context.query.get("code", ""))
        if session is None:
            return problem(ServiceError("This link was used already, or never given", "UNAUTHENTICATED"))
        response = RedirectResponse(f"{app.root_path}/", 303)
        response.set_cookie(
            COOKIE, session, httponly=True, samesite="strict", secure=request.url.scheme == "https"
        )
        return response
    if route is _HOME and "text/html" in request.headers.get("accept", ""):
        return RedirectResponse(f"{app.top(context.store)}{pages.PREFIX}/")
    if route is _HOME:
        return PlainTextResponse(
            f"gml {__version__}\n\nMLflow's API   /api/2.0/mlflow/\ngml's API      {native.PREFIX}/\n"
            f"description    {native.PREFIX}/openapi.json\nmetrics        /metrics\n"
            f"pages          {pages.PREFIX}/\n"
        )
    return reply(
        {
            "store_type": None,
            "workspaces_enabled": False,
            "trace_archival_enabled": False,
            "multipart_uploads_enabled": False,
            "multipart_downloads_enabled": False,
            "presigned_upload_urls_supported": False,
            "presigned_download_urls_supported": False,
            "features_enabled": {"gateway": False},
        }
    )
