"""An HTTP proxy that breaks things on purpose, one request at a time.

A fault is armed for the next requests that its `match` accepts; each use counts down. Whatever is
not matched passes unharmed.
"""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "proxy-connection", "expect"}


@dataclass
class Fault:
    """One way of breaking a request or its answer.

    Attributes:
        kind: `status` (answer with `code`, upstream untouched), `done-then-status` (upstream does it,
            the answer is lost), `cut` (answer ends after `at` bytes), `reset` (the same by a TCP
            reset), `short` (answer is truncated at `at` with a length that fits), `flip` (one bit of
            the answer's byte `at`), `slow` (answer in small pieces), `stall` (no answer for a while,
            then a reset), `refuse-upload` (connection ends after `at` bytes of the request's body),
            `short-upload`, `flip-upload` (the server gets another body).
        times: how many matching requests it hits; a large number for all.
        match: which requests, by method and path.
        at: byte position.
        code: HTTP status.
        seconds: of `stall` and between the pieces of `slow`.
    """

    kind: str
    times: int = 1
    match: Callable[[str, str], bool] = lambda _method, _path: True
    at: int = 0
    code: int = 503
    seconds: float = 0.01


@dataclass
class Proxy:
    """The running proxy.

    Attributes:
        url: where clients connect.
        faults: armed faults, the first that matches is used.
        seen: (method, path, fault or empty) of each request.
        latency: seconds that each request waits.
    """

    url: str
    faults: list[Fault] = field(default_factory=list)
    seen: list[tuple[str, str, str]] = field(default_factory=list)
    latency: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and fault.match(method, path):
                    fault.times -= 1
                    self.seen.append((method, path, fault.kind))
                    return fault
            self.seen.append((method, path, ""))
            return None

    def arm(self, *faults: Fault) -> None:
        with self.lock:
            self.faults[:] = faults
            self.seen.clear()

    def used(self) -> int:
        return sum(1 for _, _, kind in self.seen if kind)


def _reset(connection: socket.socket) -> None:
    # Linger of zero seconds: close sends RST instead of FIN.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with suppress(OSError):
        connection.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    proxy: Proxy
    upstream: str

    def log_message(self, *_args: object) -> None:
        pass

    def _forward(self) -> None:
        fault = self.proxy.take(self.command, self.path)
        kind = fault.kind if fault else ""
        if self.proxy.latency:
            time.sleep(self.proxy.latency)
        if fault and kind == "refuse-upload":
            self.rfile.read(min(fault.at, int(self.headers.get("Content-Length") or 0)))
            self._drop()
            return
        body = self._body()
        if fault and kind == "stall":
            time.sleep(fault.seconds)
            self._drop()
            return
        if fault and kind == "status":
            self._answer(fault.code, [], b"")
            return
        if fault and body and kind == "short-upload":
            body = body[: fault.at]
        if fault and body and kind == "flip-upload":
            body = _flipped(body, fault.at)
        try:
            status, headers, data = self._ask(body)
        except OSError:
            self._drop()
            return
        if fault and kind == "done-then-status":
            self._answer(fault.code, [], b"")
        elif fault and data and self.command != "HEAD":
            self._break(fault, status, headers, data)
        else:
            self._answer(status, headers, data)

    def _break(self, fault: Fault, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
        match fault.kind:
            case "short":
                self._answer(status, headers, data[: fault.at])
            case "flip":
                self._answer(status, headers, _flipped(data, fault.at))
            case "cut" | "reset":
                self._head(status, headers, len(data))
                self.wfile.write(data[: fault.at])
                self.wfile.flush()
                if fault.kind == "reset":
                    self._drop()
                else:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
            case "slow":
                self._head(status, headers, len(data))
                step = max(1, len(data) // 8)
                for start in range(0, len(data), step):
                    self.wfile.write(data[start : start + step])
                    self.wfile.flush()
                    time.sleep(fault.seconds)
            case _:
                self._answer(status, headers, data)

    def _drop(self) -> None:
        self.close_connection = True
        # The reading and writing files hold the descriptor open; without this no reset is sent.
        self.rfile.close()
        with suppress(OSError):
            self.wfile.close()
        _reset(self.connection)

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            pieces = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(pieces)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.upstream, timeout=60)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in HOP:
                    connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            answer = connection.getresponse()
            data = answer.read()
            return answer.status, answer.getheaders(), data
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error
        finally:
            connection.close()

    def _head(self, status: int, headers: list[tuple[str, str]], length: int) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in HOP:
                self.send_header(name, value)
        if status not in {204, 304}:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
        length = len(data)
        if self.command == "HEAD":
            length = next((int(v) for n, v in headers if n.lower() == "content-length"), 0)
            data = b""
        with suppress(OSError):
            self._head(status, headers, length)
            self.wfile.write(data)
            self.wfile.flush()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do_OPTIONS = _forward  # noqa: N815
    do_PROPFIND = do_MKCOL = do_MOVE = do_COPY = _forward  # noqa: N815


def _flipped(data: bytes, at: int) -> bytes:
    at %= len(data)
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, _request: object, _address: object) -> None:
        pass  # clients that leave in the middle are what this is for


@contextmanager
def breaking_proxy(upstream: str) -> Iterator[Proxy]:
    """Run a proxy in front of an HTTP server (URL or host:port)."""
    target = urlsplit(upstream).netloc if "://" in upstream else upstream
    handler = type("Handler", (_Handler,), {"upstream": target})
    with _Server(("127.0.0.1", 0), handler) as server:
        proxy = handler.proxy = Proxy(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()
