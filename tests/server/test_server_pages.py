"""The pages beside the API: for whoever may read, below any prefix, and moving."""

from __future__ import annotations

import json
import re

import pytest


@pytest.fixture
def logged(client):
    run_id = client.run(run_name="seen")
    client.ok("runs/log-metric", run_id=run_id, key="loss", value=0.5, timestamp=1)
    return client, run_id


def test_whoever_may_read_sees_runs_as_they_are_written(logged):
    client, run_id = logged
    client.token = "reader"
    page = client.send("GET", "/ui/")
    assert page.status == 200
    assert "default-src 'none'; script-src 'self'" in page.headers["content-security-policy"]
    assert f'href="/ui/runs/{run_id}"' in page.body.decode()
    assert "seen" in client.send("GET", f"/ui/runs/{run_id}").body.decode()
    assert client.send("GET", "/ui/runs/none").status == 404
    assert client.send("GET", f"/ui/data/curves?runs={run_id}").json["runs"][run_id]["name"] == "seen"
    assert client.send("GET", "/", Accept="text/html,*/*").headers["location"].endswith("/ui/")
    assert client.send("POST", "/ui/").status == 405
    assert client.send("GET", "/ui/../version").status in {200, 404}
    # An event stream is passed on as it comes.
    with client.raw() as raw:
        raw.sendall(b"GET /ui/live HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer reader\r\n\r\n")
        got = b""
        while run_id.encode() not in got:
            got += raw.recv(65536)
    event = json.loads(re.search(rb"\ndata: (.*)\n", got)[1])
    assert (event["name"], event["status"]) == ("seen", "RUNNING")


def test_links_stay_below_the_prefix_of_a_proxy_and_a_repository(serve, make_repo):
    client = serve(make_repo("one"), "/ml", other=make_repo("two")).client
    for prefix in ("/ml/ui/", "/ml/repos/other/ui/"):
        text = client.send("GET", prefix).body.decode()
        links = re.findall(r'(?:href|src|action)="([^"]*)"', text)
        assert len(links) > 8
        assert all(link.startswith((prefix, "#")) for link in links), links
        assert client.send("GET", f"{prefix}static/page.js").status == 200
