"""The pages of `gml ui` beside the API: who may read the API may look at them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from starlette.responses import RedirectResponse, Response

from gml.server.routes import Right, Route
from gml.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from gml.service import Store

PREFIX: Final = "/ui"
ROUTES: Final = [
    Route("GET", PREFIX, Right.READ, summary="To the pages"),
    Route("GET", f"{PREFIX}/", Right.READ, summary="The table of runs"),
    Route("GET", f"{PREFIX}/{{path*}}", Right.READ, summary="A page"),
]


class Pages:
    """The pages of every repository of a server, each made when it is first asked for.

    Args:
        stopping: whether the server is about to end, which streams must not wait for.
    """

    def __init__(self, stopping: Callable[[], bool]) -> None:
        self._stopping = stopping
        self._lock = threading.Lock()
        self._apps: dict[str, ASGIApp] = {}

    def answer(self, store: Store, top: str, path: str | None) -> Response:
        """Return the answer to a request.

        Args:
            store: the repository.
            top: path of the repository on this server, as browsers see it.
            path: what stands after the prefix, None for the prefix alone.
        """
        if path is None:
            return RedirectResponse(f"{top}{PREFIX}/")
        return _Page(self._app(store, f"{top}{PREFIX}"), f"/{path}")

    def _app(self, store: Store, prefix: str) -> ASGIApp:
        from gml.ui.app import create_pages

        with self._lock:
            if prefix not in self._apps:
                place = store.workspace.store.location
                # Pages have a repository object of their own: a reader of it waits for no request of the API.
                space = Workspace.open(place.worktree or place.common_dir)
                self._apps[prefix] = create_pages(space, prefix, stopping=self._stopping)
            return self._apps[prefix]


class _Page(Response):
    """An answer that another application gives, with headers of its own."""

    def __init__(self, app: ASGIApp, path: str) -> None:
        super().__init__()
        self._app = app
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def passed(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.status_code = message["status"]
            await send(message)

        inner = {**scope, "path": self._path, "raw_path": self._path.encode(), "root_path": ""}
        await self._app(inner, receive, passed)
