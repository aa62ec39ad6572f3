"""The scoring server as an ASGI application: routes, limits, time-outs, token, metrics, log."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gml._version import __version__
from gml.serving import metrics, openapi
from gml.serving.errors import JSON, Answer, error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from gml.serving.holder import Holder
    from gml.serving.predictions import PredictionLog

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

log = logging.getLogger("gml.serving")

_ROUTES: Final = {
    "/invocations": "POST",
    "/ping": "GET",
    "/health": "GET",
    "/version": "GET",
    "/metrics": "GET",
    "/openapi.json": "GET",
}
_OPEN: Final = frozenset({"/ping", "/health"})
_SERVER: Final = (b"server", f"gml/{__version__}".encode())


@dataclass(frozen=True)
class Limits:
    """What a server allows.

    Attributes:
        max_body: bytes of a request.
        timeout: seconds for an answer.
        threads: predictions that a worker makes at the same time.
        max_waiting: requests that may wait for a thread.
    """

    max_body: int = 256 << 20
    timeout: float = 60.0
    threads: int = 2
    max_waiting: int = 1024


class ScoringApp:
    """Answers the scoring protocol with the model that a holder has.

    Args:
        holder: has the model.
        limits: what is allowed.
        token: what clients must send as `Authorization: Bearer`; None for everybody.
        counters: where requests are counted.
        access_log: `json`, `text` or `none`.
        predictions: keeps a sample of requests and answers; None for nothing.
    """

    def __init__(
        self,
        holder: Holder,
        limits: Limits | None = None,
        *,
        token: str | None = None,
        counters: metrics.Metrics | None = None,
        access_log: str = "none",
        predictions: PredictionLog | None = None,
    ) -> None:
        self.holder = holder
        self.limits = limits or Limits()
        self._token = token.encode() if token else None
        self.counters = counters or metrics.Metrics()
        self._access_log = access_log
        self._predictions = predictions
        self._pool = ThreadPoolExecutor(self.limits.threads, thread_name_prefix="gml-predict")
        self._stuck = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection event, as ASGI has them."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                self.holder.close()
                if self._predictions is not None:
                    await asyncio.to_thread(self._predictions.close)
                self._pool.shutdown(wait=False, cancel_futures=True)
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        path = str(scope["path"])
        known = path if path in _ROUTES else "other"
        self.counters.in_flight += 1
        try:
            answer, size = await self._answer(scope, receive)
        except _ClientLeftError:
            self.counters.request(known, 499, time.perf_counter() - started, 0)
            return
        finally:
            self.counters.in_flight -= 1
        seconds = time.perf_counter() - started
        self.counters.request(known, answer.status, seconds, answer.rows)
        headers = [
            (b"content-type", answer.media_type.encode()),
            (b"content-length", str(len(answer.body)).encode()),
            _SERVER,
        ]
        if answer.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if answer.status == 405:
            headers.append((b"allow", _ROUTES[path].encode()))
        with suppress(OSError):
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            await send({"type": "http.response.body", "body": answer.body})
        if self._access_log != "none":
            self._say(scope, answer, seconds, size)

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[Answer, int]:
        path, method = str(scope["path"]), str(scope["method"])
        wanted = _ROUTES.get(path)
        if wanted is None:
            return Answer(404, b'{"detail":"Not Found"}'), 0
        if method != wanted:
            return Answer(405, b'{"detail":"Method Not Allowed"}'), 0
        headers = {key.lower(): value for key, value in scope["headers"]}
        if self._token is not None and path not in _OPEN:
            given = headers.get(b"authorization", b"")
            if not hmac.compare_digest(given, b"Bearer " + self._token):
                return error("UNAUTHENTICATED", "a token is needed: Authorization: Bearer ..."), 0
        if path != "/invocations":
            return self._page(path), 0
        return await self._invocation(headers, receive)

    def _page(self, path: str) -> Answer:
        served = self.holder.current
        if path in _OPEN:
            # A worker whose threads all hang cannot answer any more.
            return Answer(200 if self._stuck < self.limits.threads else 503, b"\n")
        if path == "/version":
            return Answer(200, __version__.encode())
        if path == "/metrics":
            body = self.counters.text(
                label=served.label,
                version=served.version,
                digest=served.digest,
                loaded=served.loaded,
                swaps=self.holder.swaps,
                failures=self.holder.failures,
            )
            return Answer(200, body.encode(), metrics.CONTENT_TYPE)
        document = openapi.describe(served.scorer.model.metadata, served.label, served.scorer.example)
        return Answer(200, json.dumps(document).encode())

    async def _invocation(self, headers: dict[bytes, bytes], receive: Receive) -> tuple[Answer, int]:
        limits = self.limits
        length = headers.get(b"content-length", b"")
        too_large = error("REQUEST_LIMIT_EXCEEDED", f"the body has more than {limits.max_body} bytes")
        if length.isdigit() and int(length) > limits.max_body:
            return too_large, int(length)
        body = await _read(receive, limits.max_body)
        if body is None:
            return too_large, limits.max_body
        if self._waiting() > limits.max_waiting:
            return error("RESOURCE_EXHAUSTED", "too many requests wait already"), len(body)
        content_type = headers.get(b"content-type", b"").decode("latin-1")
        served = self.holder.current
        started = time.perf_counter()
        future = self._pool.submit(served.scorer.score, body, content_type)
        try:
            answer = await asyncio.wait_for(asyncio.wrap_future(future), limits.timeout)
        except TimeoutError:
            if future.running():
                self._stuck += 1
                future.add_done_callback(self._freed)
                self._leave_if_stuck()
            return Answer(504, b"Request processing time exceeded limit"), len(body)
        if self._predictions is not None and answer.status == 200:
            latency = time.perf_counter() - started
            self._predictions.add(served, latency, answer.rows, content_type, body, answer.body)
        return answer, len(body)

    def _waiting(self) -> int:
        return self._pool._work_queue.qsize()  # noqa: SLF001 - the pool has no other way to tell

    def _freed(self, _: object) -> None:
        self._stuck -= 1

    def _leave_if_stuck(self) -> None:
        """End a worker all of whose threads hang; its supervisor starts another one."""
        if self._stuck >= self.limits.threads and os.environ.get("GML_SERVE_WORKER"):
            log.error("gml: all %d threads hang in the model; the worker is replaced", self.limits.threads)
            asyncio.get_running_loop().call_later(1.0, os._exit, 70)

    def _say(self, scope: Scope, answer: Answer, seconds: float, size: int) -> None:
        served = self.holder.current
        facts = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "method": scope["method"],
            "path": scope["path"],
            "status": answer.status,
            "ms": round(seconds * 1000, 3),
            "bytes": size,
            "predictions": answer.rows,
            "version": served.version,
            "digest": served.digest[:12],
        }
        if self._access_log == "json":
            line = json.dumps(facts)
        else:
            line = f"{facts['time']} {facts['method']} {facts['path']} {facts['status']} {facts['ms']} ms"
        with suppress(OSError, ValueError):
            sys.stderr.write(f"{line}\n")


class _ClientLeftError(Exception):
    """The client closed the connection before its request was complete."""


async def _read(receive: Receive, limit: int) -> bytes | None:
    """Return the body, None when it is longer than allowed."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise _ClientLeftError
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        return body if len(body) <= limit else None
    parts, size = [body], len(body)
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _ClientLeftError
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            return None
    return b"".join(parts)


__all__ = ["JSON", "Limits", "ScoringApp"]
