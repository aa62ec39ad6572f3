"""The application without a network: routes, token, limits, time-outs, metrics, exchange of the model."""

import asyncio
import json
import threading

import pytest
from serving_lab import save_linear

from gml.models.files import ModelFiles
from gml.models.flavor import LoadOptions
from gml.serving import holder
from gml.serving.app import Limits, ScoringApp
from gml.serving.metrics import Metrics
from gml.tracking.models.resolve import Resolved

GOOD = json.dumps({"dataframe_split": {"columns": ["age", "calls"], "data": [[20.0, 1]]}}).encode()


class Fake:
    """A scorer whose predictions take as long as the test wants."""

    def __init__(self, wait=None):
        self.wait = wait
        self.example = None

    def score(self, body, content_type):
        from gml.serving.errors import Answer

        if self.wait is not None:
            self.wait.wait(30)
        return Answer(200, b"{}", rows=2)


def made(scorer, **kwargs):
    return holder.Holder(holder.Served(scorer, "churn version 4", "4", "ab" * 32), **kwargs)


def ask(app, path="/invocations", body=GOOD, method=None, chunks=None, **headers):
    return asyncio.run(ask_async(app, path, body, method, chunks, **headers))


async def ask_async(app, path="/invocations", body=GOOD, method=None, chunks=None, **headers):
    head = [(b"content-type", b"application/json")]
    head += [(key.replace("_", "-").encode(), value.encode()) for key, value in headers.items()]
    scope = {
        "type": "http",
        "path": path,
        "method": method or ("POST" if path == "/invocations" else "GET"),
        "headers": head,
    }
    parts = list(chunks) if chunks is not None else [body]
    sent = []

    async def receive():
        if not parts:
            return {"type": "http.disconnect"}
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    if not sent:
        return None, {}, b""
    facts = {key.decode(): value.decode() for key, value in sent[0]["headers"]}
    return sent[0]["status"], facts, sent[1]["body"]


@pytest.fixture
def app(scorer):
    return ScoringApp(made(scorer))


def test_routes(app):
    for path in ("/ping", "/health"):
        status, facts, body = ask(app, path)
        assert (status, facts["content-type"], body) == (200, "application/json", b"\n")
    assert ask(app, "/version")[2].decode()[0].isdigit()
    assert ask(app, "/nothing")[0] == 404
    for path, method in [
        ("/invocations", "GET"),
        ("/invocations", "PUT"),
        ("/ping", "POST"),
        ("/ping", "HEAD"),
    ]:
        status, facts, _ = ask(app, path, method=method)
        assert status == 405
        assert facts["allow"] in {"GET", "POST"}
    assert ask(app, "/../etc/passwd")[0] == 404


def test_a_prediction_and_what_is_counted(app):
    for _ in range(3):
        status, facts, body = ask(app)
        assert (status, json.loads(body)) == (200, {"predictions": [0]})
        assert facts["content-length"] == str(len(body))
    ask(app, body=b"{")
    page = ask(app, "/metrics")[2].decode()
    assert 'gml_requests_total{path="/invocations",status="200"} 3' in page
    assert 'gml_requests_total{path="/invocations",status="400"} 1' in page
    assert "gml_predictions_total 3" in page
    assert 'gml_request_seconds_bucket{le="+Inf"} 4' in page
    assert 'gml_model_info{model="churn version 4",version="4"' in page


def test_metrics_of_all_workers_are_added_up(scorer, tmp_path):
    other = Metrics(tmp_path)
    other.request("/invocations", 200, 0.01, 5)
    other._write()
    (tmp_path / f"metrics-{__import__('os').getpid()}.json").rename(tmp_path / "metrics-1.json")
    (tmp_path / "metrics-2.json").write_text("cut")
    app = ScoringApp(made(scorer), counters=Metrics(tmp_path))
    ask(app)
    page = ask(app, "/metrics")[2].decode()
    assert 'gml_requests_total{path="/invocations",status="200"} 2' in page
    assert "gml_predictions_total 6" in page


def test_the_description_has_the_models_own_columns(app):
    document = json.loads(ask(app, "/openapi.json")[2])
    body = document["paths"]["/invocations"]["post"]["requestBody"]["content"]["application/json"]
    records = body["schema"]["oneOf"][1]["properties"]["dataframe_records"]["items"]
    assert records["properties"] == {
        "age": {"type": "number", "format": "double"},
        "calls": {"type": "integer", "format": "int64"},
    }
    assert records["required"] == ["age", "calls"]
    assert ask(app, body=json.dumps(body["example"]).encode())[0] == 200


def test_a_token_guards_all_but_the_health(scorer):
    app = ScoringApp(made(scorer), token="secret")
    for path in ("/invocations", "/version", "/metrics", "/openapi.json"):
        for given in (
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": "secret"},
            {"authorization": ""},
        ):
            status, facts, body = ask(app, path, **given)
            assert status == 401
            assert facts["www-authenticate"] == "Bearer"
            assert json.loads(body)["error_code"] == "UNAUTHENTICATED"
        assert ask(app, path, authorization="Bearer secret")[0] == 200
    assert ask(app, "/ping")[0] == 200


def test_bodies_that_are_too_large(scorer):
    app = ScoringApp(made(scorer), Limits(max_body=1000))
    assert ask(app, content_length="1001")[0] == 413
    assert ask(app, body=b"x" * 1001)[0] == 413
    status, _, body = ask(app, chunks=[b"x" * 600, b"x" * 600, b"x"])
    assert (status, json.loads(body)["error_code"]) == (413, "REQUEST_LIMIT_EXCEEDED")
    assert ask(app, chunks=[GOOD[:20], GOOD[20:]])[0] == 200


def test_a_client_that_leaves_in_the_middle(app):
    async def leave():
        scope = {"type": "http", "path": "/invocations", "method": "POST", "headers": []}
        messages = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
        sent = []

        async def receive():
            return messages.pop(0)

        async def send(message):
            sent.append(message)

        await app(scope, receive, send)
        return sent

    assert asyncio.run(leave()) == []
    assert ask(app)[0] == 200


def test_a_model_that_hangs_is_a_504_and_the_health_says_so():
    wait = threading.Event()
    app = ScoringApp(made(Fake(wait)), Limits(timeout=0.05, threads=2))
    assert ask(app)[0] == 504
    assert ask(app, "/ping")[0] == 200
    assert ask(app)[2] == b"Request processing time exceeded limit"
    assert ask(app, "/ping")[0] == 503
    assert ask(app)[0] == 504  # waits in the queue, and is taken out of it
    wait.set()
    app._pool.submit(int).result()
    app._pool.submit(int).result()
    assert ask(app, "/ping")[0] == 200
    assert ask(app)[0] == 200


def test_too_many_requests_at_once():
    wait = threading.Event()
    app = ScoringApp(made(Fake(wait)), Limits(threads=1, max_waiting=2))

    async def crowd():
        asked = [asyncio.create_task(ask_async(app)) for _ in range(8)]
        done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        refused = [task.result()[0] for task in done]
        wait.set()
        return refused, [(await task)[0] for task in asked]

    refused, statuses = asyncio.run(crowd())
    assert set(refused) == {429}
    assert statuses.count(200) + statuses.count(429) == 8
    assert statuses.count(200) >= 2


@pytest.mark.parametrize("kind", ["json", "text"])
def test_a_line_for_each_request(scorer, capsys, kind):
    ask(ScoringApp(made(scorer), access_log=kind))
    (line,) = capsys.readouterr().err.splitlines()
    if kind == "json":
        facts = json.loads(line)
        assert (facts["status"], facts["predictions"], facts["version"]) == (200, 1, "4")
        assert facts["bytes"] == len(GOOD)
    else:
        assert " POST /invocations 200 " in line


# --- another model ----------------------------------------------------------------------------


def found(folder):
    return Resolved(str(folder), ModelFiles.of_folder(folder), name="churn", version=5)


def load(resolved):
    return holder.load(resolved, LoadOptions())


def test_another_model_is_verified_and_exchanged(linear, table, tmp_path):
    other = save_linear(tmp_path / "other", table, (1, 1, 0, 0))
    place = {"now": linear}
    held = holder.Holder(load(found(linear)), lambda: found(place["now"]), load)
    app = ScoringApp(held)
    assert not held.check()
    assert json.loads(ask(app)[2]) == {"predictions": [0]}
    place["now"] = other
    assert held.check()
    assert json.loads(ask(app)[2]) == {"predictions": [1]}
    assert "gml_model_swaps_total 1" in ask(app, "/metrics")[2].decode()
    assert not held.check()


def test_a_bad_model_never_replaces_a_good_one(linear, table, tmp_path, caplog):
    bad = save_linear(tmp_path / "bad", table, (1, 1, 0, 0))
    import pickle

    (bad / "model.skops").write_bytes(pickle.dumps(1))
    place = {"now": bad}
    held = holder.Holder(load(found(linear)), lambda: found(place["now"]), load)
    app = ScoringApp(held)
    assert not held.check()
    assert not held.check()
    assert held.failures == 1, "the same bad model is not loaded again and again"
    assert "stays in service" in caplog.text
    place["now"] = tmp_path / "gone"
    assert not held.check()
    assert held.failures == 2
    assert json.loads(ask(app)[2]) == {"predictions": [0]}


def test_a_model_that_changes_while_it_is_loaded_is_refused(linear, table, tmp_path):
    folder = save_linear(tmp_path / "model", table)
    resolved = found(folder)
    resolved.files.digest()
    resolved.files.release()
    (folder / "model.skops").write_bytes((linear / "model.skops").read_bytes()[:-1] + b"x")
    from gml.domain.errors import CorruptError

    with pytest.raises(CorruptError, match="does not match its digest"):
        load(resolved)


def test_requests_in_flight_keep_their_model(table, tmp_path, linear):
    wait = threading.Event()

    class Slow(Fake):
        def score(self, body, content_type):
            wait.wait(30)
            from gml.serving.errors import Answer

            return Answer(200, b'"old"')

    held = made(Slow(), find=lambda: found(linear), load=load)
    app = ScoringApp(held)

    async def both():
        slow = asyncio.create_task(ask_async(app))
        await asyncio.sleep(0)
        await asyncio.to_thread(held.check)
        new = await ask_async(app)
        wait.set()
        return (await slow)[2], new[2]

    old, new = asyncio.run(both())
    assert old == b'"old"'
    assert json.loads(new) == {"predictions": [0]}


def test_the_watch_ends_with_the_server(linear):
    held = holder.Holder(load(found(linear)), lambda: found(linear), load)
    thread = held.watch(0.01)
    held.close()
    thread.join(10)
    assert not thread.is_alive()
