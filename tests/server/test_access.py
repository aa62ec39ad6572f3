"""Who may ask: every route without a token, with a wrong host, from another page, with too small a role."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest

from gml.domain.errors import UsageError
from gml.server.access import Access, User, digest, read_users
from gml.server.app import table
from gml.server.routes import Right

ROUTES = table().routes
OPEN = {"/health", "/login"}


def filled(path: str) -> str:
    return re.sub(r"\{\w+\*?\}", "x", path)


def test_every_route_says_its_right():
    assert len(ROUTES) > 90
    assert {route.path for route in ROUTES if route.right == Right.OPEN} == OPEN
    for route in ROUTES:
        assert isinstance(route.right, Right)
        changes = route.method != "GET" and not ("search" in route.path or "get-latest" in route.path)
        assert (route.right >= Right.LOG) == changes, route


def test_no_route_answers_without_a_token(client):
    client.token = None
    for route in ROUTES:
        answer = client.send(route.method, filled(route.path), b"{}", Content_Type="application/json")
        if route.path == "/health":
            assert (answer.status, answer.body) == (200, b"OK")
        else:
            assert answer.status == 401, (route.method, route.path, answer.status)
            assert answer.json["error_code"] == "UNAUTHENTICATED"


@pytest.mark.parametrize(
    "host", ["evil.example", "10.0.0.1", "127.0.0.1.evil.example", "localhost@evil", "", "127.0.0.1:x"]
)
def test_no_route_answers_to_another_host(client, host):
    for route in ROUTES if host == "evil.example" else ROUTES[:3]:
        if route.path != "/health":
            answer = client.send(route.method, filled(route.path), b"{}", Host=host)
            assert answer.status == 403, (route.method, route.path, answer.status)


def test_what_is_not_there_is_not_told_to_strangers(client):
    client.token = None
    assert client.send("GET", "/nothing").status == 401
    assert client.send("PUT", "/api/2.0/mlflow/runs/get").status == 401
    client.token = "reader"
    assert client.send("GET", "/nothing").status == 404
    assert client.send("PUT", "/api/2.0/mlflow/runs/get").status == 405
    assert client.send("GET", "/repos/none/api/2.0/mlflow/runs/get?run_id=x").status == 404


def test_a_wrong_and_an_expired_token_are_refused(client):
    for token in ("wrong", "late", "", "boss "):
        client.token = None
        assert client.send("GET", "/version", Authorization=f"Bearer {token}x").status == 401
    assert client.send("GET", "/version", Authorization="Bearer late").status == 401
    assert client.send("GET", "/version", Authorization="Basic !!!").status == 401
    assert client.send("GET", "/version", Authorization="Digest boss").status == 401
    basic = base64.b64encode(b"anybody:boss").decode()
    assert client.send("GET", "/version", Authorization=f"Basic {basic}").status == 200


def test_a_reader_cannot_write(client):
    client.token = "reader"
    answer = client.post("runs/create", {})
    assert (answer.status, answer.json["error_code"]) == (403, "PERMISSION_DENIED")
    assert client.post("runs/search", {"experiment_ids": ["0"]}).json == {}
    client.token = "logger"
    assert client.post("runs/create", {}).status == 200


def test_writes_come_from_no_other_page(client):
    foreign = {"Origin": "http://evil.example", "Content_Type": "application/json"}
    assert client.send("POST", "/api/2.0/mlflow/runs/create", b"{}", **foreign).status == 403
    own = {"Origin": "http://localhost:5000", "Content_Type": "application/json"}
    assert client.send("POST", "/api/2.0/mlflow/runs/create", b"{}", **own).status == 200
    null = {"Origin": "null", "Content_Type": "application/json"}
    assert client.send("POST", "/api/2.0/mlflow/runs/create", b"{}", **null).status == 403
    answer = client.send("GET", "/version", Origin="http://evil.example")
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_the_link_opens_one_session(serve, repo):
    running = serve(repo)
    client, access = running.client, running.access
    code = access.new_code(User("boss", Right.ADMIN, digest("boss")))
    client.token = None
    answer = client.send("GET", f"/login?code={code}")
    assert answer.status == 303
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    session = cookie.split(";")[0]
    assert client.send("GET", "/", Cookie=session).status == 200
    assert client.send("GET", f"/login?code={code}").status == 401
    assert client.send("GET", "/login").status == 401
    assert client.send("GET", "/", Cookie=f"{session}x").status == 401


def test_answers_say_how_they_may_be_shown(client):
    headers = client.send("GET", "/version").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "SAMEORIGIN"
    assert "default-src 'none'" in headers["content-security-policy"]


def test_users_are_read_from_a_file(tmp_path):
    path = tmp_path / "users"
    sha = hashlib.sha256(b"secret").hexdigest()
    path.write_text(f"# people\nada log {sha}\nbob read {sha} 2000-01-01  # left\n")
    ada, bob = read_users(path)
    assert (ada.name, ada.right, ada.expires) == ("ada", Right.LOG, None)
    assert bob.expires == 946684800.0
    access = Access([ada], {"h"})
    assert access.right_of({"authorization": "Bearer secret"}, {}) == (Right.LOG, "ada")
    assert access.right_of({}, {}) == (Right.OPEN, "")
    for line in (
        "ada",
        f"ada root {sha}",
        "ada log abc",
        f"ada log {sha} tomorrow",
        f"ada log {sha.upper()}",
    ):
        path.write_text(line)
        with pytest.raises(UsageError):
            read_users(path)
