"""A real server in a thread, and a client that sends what it is told, byte by byte where it matters."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import uvicorn

from gml.server.access import Access, User, digest
from gml.server.app import App
from gml.server.routes import Right
from gml.service import Store

API = "/api/2.0/mlflow/"
TOKENS = {"reader": Right.READ, "logger": Right.LOG, "boss": Right.ADMIN}


@dataclass
class Answer:
    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Client:
    """Calls a server; `boss` may do everything."""

    port: int
    app: App
    token: str | None = "boss"
    headers: dict[str, str] = field(default_factory=dict)

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        sent = {"Host": f"127.0.0.1:{self.port}", **self.headers}
        if self.token:
            sent["Authorization"] = f"Bearer {self.token}"
        sent |= {key.replace("_", "-"): value for key, value in headers.items()}
        try:
            connection.request(method, path, body, sent)
            got = connection.getresponse()
            return Answer(got.status, got.read(), {key.lower(): value for key, value in got.getheaders()})
        finally:
            connection.close()

    def post(self, path: str, values: Any, method: str = "POST") -> Answer:
        where = path if path.startswith("/") else API + path
        return self.send(method, where, json.dumps(values), Content_Type="application/json")

    def get(self, path: str, /, **values: Any) -> Answer:
        where = path if path.startswith("/") else API + path
        return self.send("GET", where + ("?" + urlencode(values, doseq=True) if values else ""))

    def ok(self, path: str, /, **values: Any) -> Any:
        answer = self.post(path, values)
        assert answer.status == 200, answer.body
        return answer.json

    def run(self, **values: Any) -> str:
        return self.ok("runs/create", **values)["run"]["info"]["run_id"]

    def file(self, run_id: str, name: str) -> str:
        return f"/api/2.0/mlflow-artifacts/artifacts/0/{run_id}/artifacts/{quote(name)}"

    def raw(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)


class Running:
    """A server in a thread."""

    def __init__(self, stores: dict[str, Store], root_path: str = "") -> None:
        users = [User(name, right, digest(name)) for name, right in TOKENS.items()]
        users.append(User("late", Right.ADMIN, digest("late"), expires=1.0))
        self.access = Access(users, {"127.0.0.1", "localhost"})
        self.app = App(stores, self.access, root_path)
        self.listening = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(self.app, log_config=None, access_log=False, lifespan="on")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.listening]})
        self.thread.start()
        end = time.monotonic() + 20
        while not self.server.started and time.monotonic() < end:
            time.sleep(0.005)
        assert self.server.started
        self.client = Client(self.listening.getsockname()[1], self.app)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(30)
        assert not self.thread.is_alive()
        self.listening.close()


@pytest.fixture
def serve():
    """Return a function that serves a repository, and stops all servers after the test."""
    running: list[Running] = []

    def start(repo, root_path: str = "", **more) -> Running:
        stores = {"": Store.open(repo.path, repo.env())}
        stores |= {name: Store.open(other.path, other.env()) for name, other in more.items()}
        running.append(Running(stores, root_path))
        return running[-1]

    yield start
    for each in running:
        each.stop()


@pytest.fixture
def client(serve, repo) -> Client:
    """Return a client of a server of one repository."""
    return serve(repo).client
