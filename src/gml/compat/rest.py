"""A small client of MLflow's REST API: JSON, uploads and downloads, from several threads, with retries."""

from __future__ import annotations

import base64
import http.client
import json
import random
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any, BinaryIO, Final
from urllib.parse import unquote, urlencode, urlsplit

from gml.domain.errors import CorruptError, NotFoundError, RemoteError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

API: Final = "/api/2.0/mlflow/"
_ATTEMPTS: Final = 5
_TIMEOUT: Final = 120.0
_BUSY: Final = frozenset({429, 502, 503, 504})
_CHUNK: Final = 1 << 20


class Rest:
    """An MLflow server.

    Args:
        url: such as `https://mlflow.example.org`; credentials in it are used and never shown.
        environ: MLFLOW_TRACKING_TOKEN, _USERNAME and _PASSWORD, _INSECURE_TLS and _SERVER_CERT_PATH, as
            MLflow's own clients read them.

    Raises:
        UsageError: the URL is none.
    """

    def __init__(self, url: str, environ: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise UsageError(f"{url!r} is not the URL of a server", hint="such as http://localhost:5000")
        self._secure = parts.scheme == "https"
        self._host = parts.hostname
        self._port = parts.port
        self._base = parts.path.rstrip("/")
        port = f":{parts.port}" if parts.port else ""
        self.url = f"{parts.scheme}://{parts.hostname}{port}{self._base}"
        self._headers = _credentials(parts.username, parts.password, environ)
        self._tls: ssl.SSLContext | None = None
        if self._secure:
            self._tls = ssl.create_default_context(cafile=environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH"))
            if environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in {"true", "1"}:
                self._tls.check_hostname = False
                self._tls.verify_mode = ssl.CERT_NONE
        self._local = threading.local()

    # --- calls --------------------------------------------------------------------------------

    def get(self, path: str, /, **query: Any) -> dict[str, Any]:
        """Ask an endpoint below `/api/2.0/mlflow/`; raises as `call`."""
        wanted = {key: value for key, value in query.items() if value is not None}
        return self.call("GET", f"{API}{path}?{urlencode(wanted, doseq=True)}")

    def post(self, path: str, /, **body: Any) -> dict[str, Any]:
        """Send JSON to an endpoint below `/api/2.0/mlflow/`; raises as `call`."""
        return self.call("POST", API + path, {key: value for key, value in body.items() if value is not None})

    def call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Return the JSON object that a request is answered with.

        Raises:
            NotFoundError: the server does not have it, or not this endpoint.
            CorruptError: it cannot answer this request.
            RemoteError: it cannot be reached, or does not let us in.
        """
        data = None if body is None else json.dumps(body).encode()
        response = self._ask(method, path, data, {"Content-Type": "application/json"} if data else {})
        with response:
            raw = response.read()
        try:
            found = json.loads(raw or b"{}")
        except ValueError:
            raise RemoteError(
                f"{self.url} does not answer as an MLflow server", hint="is this the server's address?"
            ) from None
        return found if isinstance(found, dict) else {}

    def pages(self, method: str, path: str, key: str, /, **query: Any) -> Iterator[dict[str, Any]]:
        """Yield the entries of a list that comes in pages."""
        token: str | None = None
        while True:
            ask = self.get if method == "GET" else self.post
            answer = ask(path, **query, page_token=token)
            yield from answer.get(key, ())
            token = answer.get("next_page_token") or None
            if token is None:
                return

    def download(self, path: str) -> BinaryIO:
        """Return a stream with the bytes at a path of the server; raises as `call`."""
        return self._ask("GET", path, None, {})

    def upload(self, path: str, stream: BinaryIO, size: int) -> None:
        """Send a file to a path of the server; raises as `call`."""
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        with self._ask("PUT", path, stream, headers) as response:
            response.read()

    # --- connections --------------------------------------------------------------------------

    def _ask(self, method: str, path: str, data: Any, headers: dict[str, str]) -> http.client.HTTPResponse:
        attempts = 1 if hasattr(data, "read") else _ATTEMPTS
        problem = ""
        for attempt in range(attempts):
            if attempt:
                time.sleep(min(8.0, 0.25 * 2**attempt) * random.uniform(0.5, 1.0))  # noqa: S311
            connection = self._connection()
            try:
                connection.request(method, self._base + path, data, {**self._headers, **headers})
                response = self._local.response = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                self._drop()
                problem = str(error) or type(error).__name__
                continue
            if response.status < 300:
                return response
            text = response.read().decode("utf-8", "replace")
            if response.status in _BUSY:
                problem = f"it answers {response.status}"
                continue
            self._refuse(response.status, path, text)
        raise RemoteError(f"{self.url} cannot be reached ({problem})", hint="the same command goes on later")

    def _refuse(self, status: int, path: str, text: str) -> None:
        try:
            said = str(json.loads(text).get("message", ""))
        except (ValueError, AttributeError):
            said = ""
        where = unquote(path.partition("?")[0])
        if status in {401, 403}:
            raise RemoteError(
                f"{self.url} does not let us in ({status})",
                hint="set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
            )
        if status in {404, 405, 501}:
            raise NotFoundError(f"{self.url} has no {where}{f' ({said})' if said else ''}")
        raise CorruptError(f"{self.url} answers {status} to {where}{f': {said:.300}' if said else ''}")

    def _connection(self) -> http.client.HTTPConnection:
        # One for each thread. A response that was not read to its end leaves it unusable: then a new one.
        known: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        last: http.client.HTTPResponse | None = getattr(self._local, "response", None)
        busy = last is not None and not last.isclosed()
        if known is None or busy:
            if known is not None:
                known.close()
            if self._tls is not None:
                known = http.client.HTTPSConnection(
                    self._host, self._port, timeout=_TIMEOUT, context=self._tls, blocksize=_CHUNK
                )
            else:
                known = http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT, blocksize=_CHUNK)
            self._local.connection = known
        return known

    def _drop(self) -> None:
        known = getattr(self._local, "connection", None)
        if known is not None:
            known.close()
        self._local.connection = self._local.response = None


def _credentials(user: str | None, password: str | None, environ: Mapping[str, str]) -> dict[str, str]:
    token = environ.get("MLFLOW_TRACKING_TOKEN")
    user = unquote(user) if user else environ.get("MLFLOW_TRACKING_USERNAME")
    password = unquote(password) if password else environ.get("MLFLOW_TRACKING_PASSWORD")
    if user or password:
        pair = f"{user or ''}:{password or ''}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
    return {"Authorization": f"Bearer {token}"} if token else {}
