"""Starting the server: which repositories, which address, who may ask; then uvicorn until told to stop."""

from __future__ import annotations

import ipaddress
import json
import logging
import secrets
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import StorageError, UsageError
from gml.server.access import Access, User, digest, read_users
from gml.server.routes import Right
from gml.service import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import FrameType

log = logging.getLogger("gml.server")

LOCAL: Final = ("127.0.0.1", "localhost", "::1")
SHUTDOWN_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class Settings:
    """What a server is told.

    Attributes:
        host: address to listen at.
        port: 0 for any that is free.
        repositories: name -> path; the one named "" answers at the root.
        hosts: further names that the Host header may have.
        token: for everything; made up where there is neither this nor a users file.
        users: file of users with roles.
        open: callers without a token may do everything; only on this machine.
        root_path: prefix that a proxy in front takes off.
        proxies: addresses whose forwarded headers are believed.
        json_log: a line of JSON for each request.
    """

    host: str = "127.0.0.1"
    port: int = 5000
    repositories: Mapping[str, Path | None] = field(default_factory=lambda: {"": None})
    hosts: Sequence[str] = ()
    token: str | None = None
    users: Path | None = None
    open: bool = False
    root_path: str = ""
    proxies: Sequence[str] = ()
    json_log: bool = False


def serve(settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; what was acknowledged is in the repositories when this returns.

    Args:
        settings: see there.
        announce: is told each line for the user.

    Raises:
        UsageError: the settings contradict each other.
        StorageError: the address is taken.
    """
    import uvicorn

    from gml.server.app import App

    listening = _listen(settings.host, settings.port)
    try:
        stores = {name: Store.open(path) for name, path in settings.repositories.items()}
    except BaseException:
        listening.close()
        raise
    port = int(listening.getsockname()[1])
    access, told = _access(settings, port)
    app = App(stores, access, settings.root_path)
    logging_ = _log_to_stderr(json_lines=settings.json_log)
    for line in told:
        announce(line)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        proxy_headers=bool(settings.proxies),
        forwarded_allow_ips=",".join(settings.proxies) or "127.0.0.1",
        h11_max_incomplete_event_size=64 * 1024,
    )

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            app.stopping = True  # streams of open pages would never end by themselves
            super().handle_exit(sig, frame)

    try:
        Server(config).run(sockets=[listening])
    finally:
        listening.close()
        log.removeHandler(logging_)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        out = socket.socket(family, kind, proto)
        out.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        out.bind(address)
    except OSError as error:
        raise StorageError(
            f"cannot listen at {host}:{port}: {error.strerror or error}", hint="choose another: --port"
        ) from None
    return out


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _access(settings: Settings, port: int) -> tuple[Access, list[str]]:
    """Return the rules, and what the user is told."""
    anywhere = settings.host in {"0.0.0.0", "::", ""}  # noqa: S104 - compared, not bound
    hosts = {*LOCAL, *settings.hosts} | (set() if anywhere else {settings.host})
    shown = "127.0.0.1" if anywhere else settings.host
    url = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}{settings.root_path}"
    if settings.open:
        if not _is_local(settings.host):
            raise UsageError(
                "without tokens the server is for this machine only", hint="leave out --no-token, or --host"
            )
        return Access([], hosts, Right.ADMIN), [f"gml server: {url}/ (anybody on this machine may write)"]
    users = read_users(settings.users) if settings.users else []
    lines: list[str] = []
    if settings.token or not users:
        token = settings.token or secrets.token_urlsafe(24)
        owner = User("owner", Right.ADMIN, digest(token))
        users.append(owner)
        access = Access(users, hosts)
        lines.append(f"gml server: {url}/login?code={access.new_code(owner)}")
        if not settings.token:
            lines.append(f"for clients: export MLFLOW_TRACKING_URI={url} MLFLOW_TRACKING_TOKEN={token}")
        return access, lines
    return Access(users, hosts), [f"gml server: {url}/ ({len(users)} users)"]


class _Lines(logging.Formatter):
    """A record as a line: of JSON, or for people."""

    def __init__(self, *, json_lines: bool) -> None:
        super().__init__()
        self._json = json_lines

    def format(self, record: logging.LogRecord) -> str:
        facts: dict[str, Any] = getattr(record, "facts", {})
        if self._json:
            entry = {"time": round(time.time(), 3), "level": record.levelname, "event": record.getMessage()}
            return json.dumps(entry | facts)
        text = " ".join([record.getMessage(), *(f"{key}={value}" for key, value in facts.items())])
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def _log_to_stderr(*, json_lines: bool) -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines(json_lines=json_lines))
    log.addHandler(handler)
    log.setLevel(logging.INFO if json_lines else logging.WARNING)
    log.propagate = False
    return handler
