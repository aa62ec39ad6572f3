"""Artifacts through the server: up, down, listed, and never a path that leads elsewhere."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

TRAVERSALS = [
    "../x", "..%2fx", "%2e%2e/x", "%252e%252e%252fx", "a/../../x", "a/%2e%2e/%2e%2e/x", "..\\x", "a\\..\\..\\x",
    "%2fetc%2fpasswd", "/etc/passwd", "C:/x", "c:%5cx", "a%00b", "./x", "a/./b", "file:///etc/passwd", "~/x",
    "%25252e%25252e/x",
]  # fmt: skip


def test_small_and_large_files_go_and_come_back(client, repo):
    run_id = client.run()
    large = os.urandom(3_000_000)
    for name, data in (
        ("a/small.txt", b"hi"),
        ("a/b/large.bin", large),
        ("ünïcode name.txt", "ü".encode()),
        ("e", b""),
    ):
        assert client.send("PUT", client.file(run_id, name), data).status == 200
        answer = client.send("GET", client.file(run_id, name))
        assert (answer.status, answer.body) == (200, data)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-disposition"].startswith("attachment; ")
    assert client.get("artifacts/list", run_id=run_id).json["files"] == [
        {"path": "a", "is_dir": True},
        {"path": "e", "is_dir": False, "file_size": 0},
        {"path": "ünïcode name.txt", "is_dir": False, "file_size": 2},
    ]
    inside = client.get("artifacts/list", run_id=run_id, path="a").json["files"]
    assert [entry["path"] for entry in inside] == ["a/b", "a/small.txt"]
    proxy = client.get("/api/2.0/mlflow-artifacts/artifacts", path=f"0/{run_id}/artifacts/a").json["files"]
    assert [entry["path"] for entry in proxy] == ["b", "small.txt"]
    assert client.get("/api/2.0/mlflow-artifacts/artifacts", path="0/none/artifacts").json == {}
    client.ok("runs/update", run_id=run_id, status="FINISHED")
    assert client.send("GET", client.file(run_id, "a/b/large.bin")).body == large
    path = repo.workspace().state_dir / "cas"
    assert any(file.name == hashlib.sha256(large).hexdigest() for file in path.rglob("*"))
    answer = client.get("/get-artifact", run_uuid=run_id, path="a/small.txt")
    assert (answer.body, answer.headers["content-type"]) == (b"hi", "text/plain")
    assert client.get("/get-artifact", run_id=run_id, path="a").status == 400
    assert client.get("/get-artifact", run_id=run_id, path="no").json["message"] == "No such artifact: 'no'"


def test_files_can_be_replaced_and_removed(client):
    run_id = client.run()
    name = client.file(run_id, "a.txt")
    client.send("PUT", name, b"one")
    client.send("PUT", name, b"two")
    assert client.send("GET", name).body == b"two"
    client.ok("runs/update", run_id=run_id, status="FINISHED")
    client.send("PUT", name, b"three")  # also after the end
    assert client.send("GET", name).body == b"three"
    assert client.send("DELETE", name).json == {}
    assert client.send("GET", name).status == 404
    client.ok("runs/delete", run_id=run_id)
    assert client.send("PUT", name, b"four").status == 400


def test_a_part_of_a_file(client):
    run_id = client.run()
    data = bytes(range(256)) * 12_000
    client.send("PUT", client.file(run_id, "d.bin"), data)
    for header, expected in (
        ("bytes=0-3", data[:4]),
        ("bytes=1048570-1048590", data[1048570:1048591]),
        ("bytes=-5", data[-5:]),
    ):
        answer = client.send("GET", client.file(run_id, "d.bin"), Range=header)
        assert (answer.status, answer.body) == (206, expected)
        assert answer.headers["content-length"] == str(len(expected))
    assert client.send("GET", client.file(run_id, "d.bin"), Range="bytes=9999999-").status == 416
    assert client.send("GET", client.file(run_id, "d.bin"), Range="bytes=0-1,4-5").status == 200


def _outside(repo) -> dict[str, tuple[int, int]]:
    top = Path(repo.path).parent
    found = {}
    for path in top.rglob("*"):
        inside = path.relative_to(top).as_posix()
        if path.is_file() and "/.git/" not in inside:
            found[inside] = (path.stat().st_size, path.stat().st_mtime_ns)
    return found


@pytest.mark.parametrize("path", TRAVERSALS)
def test_no_path_leads_elsewhere(client, repo, path):
    run_id = client.run()
    client.send("PUT", client.file(run_id, "x"), b"fine")
    before = _outside(repo)
    proxy = f"/api/2.0/mlflow-artifacts/artifacts/0/{run_id}/artifacts/"
    plain = path.replace("\\", "%5c")
    for answer in (
        client.send("GET", proxy + plain),
        client.send("PUT", proxy + plain, b"evil"),
        client.send("DELETE", proxy + plain),
        client.get("artifacts/list", run_id=run_id, path=path),
        client.get("/get-artifact", run_id=run_id, path=path),
        client.get("/api/2.0/mlflow-artifacts/artifacts", path=f"0/{run_id}/artifacts/{path}"),
        client.send("POST", f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run_id}&path={plain}", b"evil"),
    ):
        assert answer.status in {400, 404}, answer.body
        assert b"root:" not in answer.body
    assert _outside(repo) == before
    listed = client.get("artifacts/list", run_id=run_id).json["files"]
    assert [entry["path"] for entry in listed] == ["x"]


def test_a_client_that_leaves_in_an_upload_leaves_nothing(client, repo):
    run_id = client.run()
    with client.raw() as connection:
        head = (
            f"PUT {client.file(run_id, 'half.bin')} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            "Authorization: Bearer boss\r\nContent-Length: 5000000\r\n\r\n"
        )
        connection.sendall(head.encode() + b"x" * 2_000_000)
    assert client.send("PUT", client.file(run_id, "whole.txt"), b"ok").status == 200
    listed = client.get("artifacts/list", run_id=run_id).json["files"]
    assert [entry["path"] for entry in listed] == ["whole.txt"]
    store = repo.workspace().state_dir / "cas" / "sha256"
    assert not store.exists() or not list(store.rglob("*/*"))


def test_what_is_not_supported_says_so(client):
    for path in ("create", "complete", "abort"):
        answer = client.post(
            f"/api/2.0/mlflow-artifacts/mpu/{path}/0/r/artifacts/x", {"path": "x", "num_parts": 1}
        )
        assert (answer.status, answer.json["error_code"]) == (501, "NOT_IMPLEMENTED")
    assert client.send("GET", "/api/2.0/mlflow-artifacts/presigned/0/r/artifacts/x").status == 501
