"""The pages as an ASGI application. Every route reads; none changes anything."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import orjson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from gml.domain.errors import GmlError, NotFoundError
from gml.tracking.contents import artifact, open_artifact
from gml.ui import live
from gml.ui.access import COOKIE, LOGIN, Guarded, Sessions, WithHeaders
from gml.ui.links import PAGES, Links
from gml.ui.pages import artifact as artifact_page
from gml.ui.pages import compare as compare_page
from gml.ui.pages import curves as curves_page
from gml.ui.pages import others
from gml.ui.pages import registry as registry_page
from gml.ui.pages import run as run_page
from gml.ui.pages import runs as runs_page
from gml.ui.render import render
from gml.ui.source import Source, run_or_404

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from starlette.requests import Request
    from starlette.types import ASGIApp

    from gml.tracking.reader import Reader
    from gml.workspace import Workspace

    Page = Callable[[Reader, Request], Response]

USED: Final = (
    "This link was used already, or is not of this server. Press Enter where `gml ui` runs for a new one."
)
CHUNK: Final = 1 << 20
HERE: Final = {f"{key}.html": key for key in PAGES}
STATUS: Final = {2: 400, 4: 404, 5: 409, 7: 400, 8: 503, 9: 500, 10: 503}


class Pages:
    """The handlers of one repository.

    Args:
        source: where runs come from.
        sessions: who may log in; None where something in front has checked.
        prefix: path below which the pages are, as browsers see it.
        stopping: whether streams have to end.
    """

    def __init__(
        self,
        source: Source,
        sessions: Sessions | None,
        prefix: str = "",
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.source = source
        self.sessions = sessions
        self.stopping = stopping
        self.to = Links(prefix)
        root = source.workspace.store.location
        self.title = (root.worktree or root.common_dir).name.removesuffix(".git") or "gml"

    def routes(self) -> list[Route | Mount]:
        """Return what is answered."""
        pages: dict[str, Page] = {
            "/": self.runs,
            "/runs.csv": self.csv,
            "/runs/{run_id}": self.run,
            "/runs/{run_id}/files/{path:path}": self.file,
            "/runs/{run_id}/raw/{path:path}": self.raw,
            "/compare": self.compare,
            "/history": self.history,
            "/experiments": self.experiments,
            "/registry": self.registry,
            "/registry/{model}": self.model,
            "/registry/{model}/{number:int}": self.version,
            "/help": self.help,
            "/data/curves": self.curves,
            "/data/search": self.search,
        }
        routes: list[Route | Mount] = [Route(path, self._page(page)) for path, page in pages.items()]
        routes.append(Route(LOGIN, self.login))
        routes.append(Route("/live", self.live))
        routes.append(Mount("/static", StaticFiles(packages=[("gml.ui", "static")])))
        return routes

    def _page(self, page: Page) -> Callable[[Request], Any]:
        def answer(request: Request) -> Response:
            try:
                with self.source.reader() as reader:
                    return page(reader, request)
            except GmlError as error:
                return self._wrong(request, error)

        async def handler(request: Request) -> Response:
            return await run_in_threadpool(answer, request)

        return handler

    def _wrong(self, request: Request, error: GmlError) -> Response:
        status = STATUS.get(error.exit_code, 500)
        if request.scope["path"].startswith("/data/"):
            return JSONResponse({"error": str(error)}, status)
        return self._html("error.html", status, message=str(error), status=status)

    def _html(self, template: str, code: int = 200, **values: Any) -> HTMLResponse:
        here = HERE.get(template, "")
        page = render(template, self.to, repository=self.title, here=here, **values)
        return HTMLResponse(page, code, headers={"cache-control": "no-store"})

    # --- pages --------------------------------------------------------------------------------

    async def login(self, request: Request) -> Response:
        """Exchange the code of the one-time link for a cookie."""
        if self.sessions is None:
            return RedirectResponse(self.to.root)
        cookie = self.sessions.redeem(request.query_params.get("code", ""))
        if cookie is None:
            return PlainTextResponse(USED, 401, headers={"cache-control": "no-store"})
        answer = RedirectResponse(self.to.root, 303, headers={"cache-control": "no-store"})
        answer.set_cookie(COOKIE, cookie, httponly=True, samesite="strict", path="/")
        return answer

    def runs(self, reader: Reader, request: Request) -> Response:
        """Return the table of runs."""
        wanted = runs_page.Wanted.of(request.query_params)
        table = runs_page.table(reader, wanted, self.to)
        return self._html("runs.html", 400 if table.error else 200, table=table, wanted=wanted)

    def csv(self, reader: Reader, request: Request) -> Response:
        """Return the table as CSV."""
        text = runs_page.as_csv(reader, runs_page.Wanted.of(request.query_params))
        headers = {"content-disposition": 'attachment; filename="runs.csv"'}
        return Response(text, media_type="text/csv; charset=utf-8", headers=headers)

    def run(self, reader: Reader, request: Request) -> Response:
        """Return the page of a run."""
        found = run_or_404(reader, request.path_params["run_id"])
        if found.run_id != request.path_params["run_id"]:
            return RedirectResponse(self.to.run(found.run_id))
        return self._html("run.html", page=run_page.page(reader, found))

    def file(self, reader: Reader, request: Request) -> Response:
        """Return the page of a file."""
        found = run_or_404(reader, request.path_params["run_id"])
        shown = artifact_page.preview(reader, found, request.path_params["path"])
        return self._html("file.html", run=found, file=shown)

    def raw(self, reader: Reader, request: Request) -> Response:
        """Return the bytes of a file; what may hold script is sandboxed, what is unknown is an attachment."""
        path = request.path_params["path"]
        found = run_or_404(reader, request.path_params["run_id"])
        facts = artifact(found, path)
        kind = artifact_page.media_type(path)
        file = open_artifact(reader, found, path)

        def body() -> Iterator[bytes]:
            with file:
                while chunk := file.read(CHUNK):
                    yield chunk

        name = quote(path.rpartition("/")[2])
        shown = kind != "application/octet-stream" and request.query_params.get("download") != "1"
        headers = {
            "content-length": str(facts.size),
            "content-security-policy": artifact_page.SANDBOX,
            "content-disposition": f"{'inline' if shown else 'attachment'}; filename*=UTF-8''{name}",
            "cache-control": "private, max-age=3600",
        }
        return StreamingResponse(body(), media_type=kind, headers=headers)

    def compare(self, reader: Reader, request: Request) -> Response:
        """Return runs side by side."""
        given = request.query_params
        ids = _ids(request)
        pair = (given["a"], given["b"]) if "a" in given and "b" in given else None
        return self._html("compare.html", page=compare_page.comparison(reader, ids, self.to, pair))

    def history(self, reader: Reader, request: Request) -> Response:
        """Return a metric along the code."""
        given = request.query_params
        page = others.along_the_code(
            reader, given.get("metric", ""), given.get("branch", ""), given.getlist("x")
        )
        return self._html("history.html", page=page)

    def experiments(self, reader: Reader, request: Request) -> Response:  # noqa: ARG002
        """Return the experiments."""
        return self._html("experiments.html", rows=others.experiments(reader))

    def registry(self, reader: Reader, request: Request) -> Response:  # noqa: ARG002
        """Return all models and what is proposed."""
        found = registry_page.board(registry_page.open_registry(reader.workspace))
        return self._html("registry.html", page=found)

    def model(self, reader: Reader, request: Request) -> Response:
        """Return one model."""
        registry = registry_page.open_registry(reader.workspace)
        found = registry_page.model_page(registry, request.path_params["model"])
        return self._html("model.html", page=found)

    def version(self, reader: Reader, request: Request) -> Response:
        """Return one version beside the champion."""
        registry = registry_page.open_registry(reader.workspace)
        given = request.path_params
        found = registry_page.version_page(registry, given["model"], given["number"])
        return self._html("version.html", page=found)

    def help(self, reader: Reader, request: Request) -> Response:  # noqa: ARG002
        """Return keys and query language."""
        return self._html("help.html")

    # --- data ---------------------------------------------------------------------------------

    def curves(self, reader: Reader, request: Request) -> Response:
        """Return points of some metrics of some runs."""
        given = request.query_params
        ids = _ids(request)
        if len(ids) > compare_page.MOST:
            return JSONResponse({"error": f"at most {compare_page.MOST} runs at once"}, 400)
        runs = [reader.resolve(run_id) for run_id in dict.fromkeys(ids)]
        keys = curves_page.keys_of(runs, given.getlist("key"))[: curves_page.MAX_KEYS]
        points = given.get("points", "")
        most = max(50, min(int(points), 5_000)) if points.isdecimal() else curves_page.POINTS
        found = curves_page.curves(reader, runs, keys, most, self.source.curves)
        names = {run.run_id: {"name": run.name, "start": run.start_time} for run in runs}
        return _json({"runs": names, "curves": found})

    def search(self, reader: Reader, request: Request) -> Response:
        """Return what a few typed letters may mean."""
        return _json({"found": others.search(reader, request.query_params.get("q", "")[:200], self.to)})

    async def live(self, request: Request) -> Response:
        """Return a stream of what running trainings log."""

        async def gone() -> bool:
            return self.stopping() or await request.is_disconnected()

        stream = live.events(self.source, _ids(request)[:50], gone)
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(stream, media_type="text/event-stream", headers=headers)


def _ids(request: Request) -> list[str]:
    given = request.query_params.getlist("runs")
    return [run_id for text in given for run_id in text.split(",") if run_id]


def _json(value: Any) -> Response:
    try:
        text = orjson.dumps(value)
    except TypeError:
        text = json.dumps(value).encode()  # halves of surrogate pairs
    return Response(text, media_type="application/json", headers={"cache-control": "no-store"})


def create_app(
    workspace: Workspace, *, hosts: Collection[str] = (), sessions: Sessions | None = None
) -> ASGIApp:
    """Return the application for a repository.

    Args:
        workspace: the repository.
        hosts: exact values of the header `Host` that are answered.
        sessions: token and cookies; None where something in front has checked who asks.

    Example:
        >>> app = create_app(Workspace.open(), hosts=["127.0.0.1:5001"])  # doctest: +SKIP
    """
    pages = Pages(Source(workspace), sessions)
    with suppress(GmlError), pages.source.reader():
        pass  # the first page should not wait for the libraries
    return Guarded(_application(pages), hosts, sessions)


def create_pages(workspace: Workspace, prefix: str, stopping: Callable[[], bool]) -> ASGIApp:
    """Return the application for a server that has checked who asks and for which host.

    Args:
        workspace: the repository; nobody else uses this object.
        prefix: path below which the pages are, as browsers see it.
        stopping: whether streams have to end.
    """
    return WithHeaders(_application(Pages(Source(workspace), None, prefix, stopping)))


def _application(pages: Pages) -> ASGIApp:
    def not_found(request: Request, error: Exception) -> Response:  # noqa: ARG001
        return pages._wrong(request, NotFoundError("there is no such page"))  # noqa: SLF001

    app: Any = Starlette(routes=pages.routes(), exception_handlers={404: not_found})
    # An event stream must not wait for a full block of a compressor: Starlette's leaves it alone.
    app.add_middleware(GZipMiddleware, minimum_size=1_000, compresslevel=5)
    answering: ASGIApp = app
    return answering
