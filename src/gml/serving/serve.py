"""Running the scoring server: one process, or several that share a socket under a supervisor."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import StorageError
from gml.models.flavor import need
from gml.serving import holder
from gml.serving.app import Limits, ScoringApp
from gml.serving.metrics import Metrics
from gml.serving.predictions import PredictionLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from gml.models.flavor import LoadOptions
    from gml.tracking.models.resolve import Resolved

log = logging.getLogger("gml.serving")

_RESTARTS: Final = 5
_QUICK: Final = 10.0


@dataclass(frozen=True)
class ServeOptions:
    """How a model is served.

    Attributes:
        host, port: where; port 0 takes a free one.
        workers: processes.
        limits: body, time, threads.
        token: what clients must send.
        poll: seconds between looks for another version; 0 never looks.
        access_log: `json`, `text` or `none`.
        drain: seconds that running requests get when the server ends.
        sample: share of predictions that is logged.
        log_to: folder for them.
        ready: called with host and port once requests are accepted.
    """

    host: str = "127.0.0.1"
    port: int = 5000
    workers: int = 1
    limits: Limits = field(default_factory=Limits)
    token: str | None = None
    poll: float = 0.0
    access_log: str = "none"
    drain: float = 30.0
    sample: float = 0.0
    log_to: Path | None = None
    ready: Callable[[str, int], None] | None = None


def serve(
    find: Callable[[], Resolved], load_options: Callable[[Resolved], LoadOptions], options: ServeOptions
) -> None:
    """Serve a model until a signal ends it.

    Args:
        find: finds the model; called again where another version may come.
        load_options: how far a found model may be trusted.
        options: the rest.

    Raises:
        GmlError: the model cannot be loaded, or the port is taken.
    """
    need("uvicorn", "gitml[serving]")
    if options.sample > 0:
        need("pyarrow.parquet", "gitml[parquet]")

    def load(found: Resolved) -> holder.Served:
        return holder.load(found, load_options(found))

    listener = _listen(options.host, options.port)
    try:
        served = load(find())
        made = holder.Holder(served, find if options.poll > 0 else None, load)
        if options.workers <= 1:
            _run(made, listener, options, None)
        else:
            _Supervisor(made, listener, options).run()
    finally:
        listener.close()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise StorageError(
            f"cannot listen on {host}:{port}: {error.strerror}", hint="choose another port with -p"
        ) from error
    listener.set_inheritable(True)
    return listener


def _run(made: holder.Holder, listener: socket.socket, options: ServeOptions, shared: Path | None) -> None:
    """Serve in this process."""
    import uvicorn

    log_file = None
    if options.sample > 0 and options.log_to is not None:
        log_file = PredictionLog(options.log_to, options.sample)
    app = ScoringApp(
        made,
        options.limits,
        token=options.token,
        counters=Metrics(shared),
        access_log=options.access_log,
        predictions=log_file,
    )
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="on",
        server_header=False,
        date_header=True,
        timeout_graceful_shutdown=int(options.drain),
        timeout_keep_alive=75,
    )
    if options.poll > 0:
        made.watch(options.poll)
    server = _server(config, options if shared is None else None)
    asyncio.run(server.serve(sockets=[listener]))


def _server(config: Any, options: ServeOptions | None) -> Any:
    """Return a server that says when requests are accepted."""
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if options is not None and options.ready is not None and sockets:
                host, port = sockets[0].getsockname()[:2]
                options.ready(str(host), int(port))

    return Server(config)


class _Supervisor:
    """Starts workers by fork, so that they share the memory of the loaded model, and replaces dead ones."""

    def __init__(self, made: holder.Holder, listener: socket.socket, options: ServeOptions) -> None:
        self._made = made
        self._listener = listener
        self._options = options
        self._workers: dict[int, float] = {}
        self._stopping = False
        self._failures = 0
        self._shared = Path(tempfile.mkdtemp(prefix="gml-serve-"))

    def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        try:
            for _ in range(self._options.workers):
                self._start()
            if self._options.ready is not None:
                host, port = self._listener.getsockname()[:2]
                self._options.ready(str(host), int(port))
            self._supervise()
        finally:
            shutil.rmtree(self._shared, ignore_errors=True)

    def _start(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            self._workers[pid] = time.monotonic()
            return
        code = 1
        try:
            os.environ["GML_SERVE_WORKER"] = "1"
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            _run(self._made, self._listener, self._options, self._shared)
            code = 0
        except BaseException:
            log.exception("gml: a worker failed")
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _stop(self, *_: object) -> None:
        self._stopping = True
        for pid in self._workers:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def _supervise(self) -> None:
        while self._workers:
            try:
                pid, status = os.wait()
            except InterruptedError:
                continue
            except ChildProcessError:
                return
            started = self._workers.pop(pid, 0.0)
            if self._stopping:
                continue
            self._failures = self._failures + 1 if time.monotonic() - started < _QUICK else 1
            log.warning("gml: worker %d ended (%s)", pid, _how(status))
            if self._failures > _RESTARTS * self._options.workers:
                self._stop()
                raise StorageError(
                    "the workers end as soon as they start", hint="`gml models validate` shows why"
                )
            self._start()


def _how(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)}"
    return f"exit code {os.waitstatus_to_exitcode(status)}"
