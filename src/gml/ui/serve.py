"""Serving the pages on this machine until somebody presses Ctrl-C."""

from __future__ import annotations

import socket
import sys
import threading
from typing import TYPE_CHECKING

from gml.domain.errors import MissingPackageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gml.workspace import Workspace

LOCAL = ("127.0.0.1", "localhost", "[::1]")


def serve(
    workspace: Workspace,
    host: str,
    port: int,
    ready: Callable[[str], object],
    *,
    say: Callable[[str], object],
) -> None:
    """Serve the pages of a repository.

    Args:
        workspace: the repository.
        host: address to listen on.
        port: port to listen on; 0 takes a free one.
        ready: called with the one-time link when requests are answered.
        say: called with further links, when Enter is pressed on a terminal.

    Raises:
        UsageError: the address cannot be listened on.
        MissingPackageError: a package that serves is not installed.
    """
    try:
        import uvicorn

        from gml.ui.access import LOGIN, Sessions
        from gml.ui.app import create_app
    except ImportError as error:
        raise MissingPackageError(
            f"gml ui needs a package that is not installed ({error.name})", hint="pip install 'gitml[server]'"
        ) from None
    listener = _listen(host, port)
    port = listener.getsockname()[1]
    name = f"[{host}]" if ":" in host else host
    shown = "127.0.0.1" if host in {"0.0.0.0", "::"} else name  # noqa: S104 - compared, not bound
    hosts = {f"{each}:{port}" for each in (*LOCAL, name, socket.gethostname())}
    sessions = Sessions()
    app = create_app(workspace, hosts=hosts, sessions=sessions)

    def link() -> str:
        return f"http://{shown}:{port}{LOGIN}?code={sessions.new_code()}"

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready(link())

    config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, lifespan="off")
    config.timeout_graceful_shutdown = 2  # streams of open pages would never end by themselves
    server = Server(config)
    if sys.stdin is not None and sys.stdin.isatty():
        threading.Thread(target=_more_links, args=(link, say), daemon=True).start()
    server.run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise UsageError(
            f"cannot listen on {host}:{port}: {error.strerror or error}", hint="--port 0 takes a free port"
        ) from None
    return listener


def _more_links(link: Callable[[], str], say: Callable[[str], object]) -> None:
    for _ in sys.stdin:
        say(f"gml: {link()}")
