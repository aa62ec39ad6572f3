"""What the pages answer, to whom, and that no text of a run does anything on them."""

from __future__ import annotations

import csv
import io
import json
from html.parser import HTMLParser
from urllib.parse import quote

import pytest
from hostile_pages import HOST, HOSTILE
from starlette.testclient import TestClient

from gml.ui.access import POLICY
from gml.ui.app import create_app

ALLOWED = {"/static/page.js", "/static/runs.js", "/static/run.js", "/static/compare.js", "/static/file.js"}


class Page(HTMLParser):
    """The parts of a page that could do something, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.dangers: list[str] = []
        self.links: list[str] = []
        self.texts: list[str] = []
        self.data: dict[str, str] = {}
        self._script: str | None = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.dangers += [f"{tag} {name}" for name in given if name.startswith("on") or name == "style"]
        if tag == "script":
            if given.get("type") == "application/json":
                self._script = given["id"]
                self.data[self._script] = ""
            elif given.get("src") not in ALLOWED or given.get("type") != "module":
                self.dangers.append(f"script {given}")
        if tag in {"object", "embed", "base", "meta"} and "http-equiv" in given:
            self.dangers.append(tag)
        if (tag == "iframe" and given.get("sandbox") not in {"", None}) or (
            tag == "iframe" and "sandbox" not in given
        ):
            self.dangers.append(f"iframe {given}")
        for name in ("href", "src", "action"):
            if name in given:
                self.links.append(given[name])
                if not given[name].startswith(("/", "#")):
                    self.dangers.append(f"{name}={given[name]}")

    def handle_endtag(self, tag):
        if tag == "script":
            self._script = None

    def handle_data(self, data):
        if self._script is not None:
            self.data[self._script] += data
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def look(site, address: str, status: int = 200) -> Page:
    answer = site.get(address)
    assert answer.status_code == status, (address, answer.text[:500])
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    page = Page(answer.text)
    assert page.dangers == []
    for content in page.data.values():
        json.loads(content)
    return page


def every_page(run_ids) -> list[str]:
    hostile = run_ids[HOSTILE[0]]
    everything = ",".join(run_ids.values())
    files = ("page.html", "picture.svg", "table.csv", "tree.json", "notes & <b>more<_b>.txt", "data.bin")
    return [
        "/", "/?all=1", "/?deleted=1", "/?group=params.p0&all=1", "/?cols=tags.t0,params.p1", "/experiments",
        "/history", "/history?metric=loss&branch=main", "/help",
        "/registry", "/registry/churn", "/registry/churn/1", "/registry/churn/2", f"/runs/{hostile}",
        *(f"/runs/{hostile}/files/{quote(name)}" for name in files),
        f"/compare?runs={everything}", f"/compare?runs={hostile}",
    ]  # fmt: skip


def test_no_text_of_a_run_does_anything_on_any_page(site, run_ids):
    seen = ""
    for address in every_page(run_ids):
        seen += look(site, address).text
    assert HOSTILE[0] in seen
    assert "window.pwned" in seen
    assert "\\u202egnp.exe\\u2066\\x1b[31m" in seen
    assert "\u202e" not in seen
    assert "'-window.pwned-'{{ 7 * 7 }}${7 * 7}" in seen
    assert "'-window.pwned-'49" not in seen


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_an_address_does_anything(site, text):
    for address, status in (
        ("/?q={}", 400), ("/?sort={}", 400), ("/?x={}", 200), ("/?cols={}", 200), ("/?group={}", 200),
        ("/history?metric={}", 200), ("/history?branch={}", 200), ("/runs/{}", 404), ("/compare?runs={}", 404),
    ):  # fmt: skip
        page = look(site, address.format(quote(f"{text} ", safe="")), status)
        assert "Traceback" not in page.text


def test_links_of_the_pages_lead_somewhere(site, run_ids):
    links = set()
    for address in every_page(run_ids):
        links |= set(look(site, address).links)
    for link in links:
        if link.startswith("/") and not link.startswith(("/login", "/live", "/compare#")):
            assert site.get(link).status_code in {200, 307}, link


def test_the_table_sorts_filters_pages_and_picks_columns(site):
    def names(address: str) -> list[str]:
        from re import findall

        return findall(r'<a href="/runs/[^"]*">(m-[^<]*)</a>', site.get(address).text)

    assert names("/?x=churn&sort=params.lr")[:2] in (["m-0.1-3", "m-0.1-2"], ["m-0.1-2", "m-0.1-3"])
    assert names("/?q=params.depth+%3D+3&sort=-metrics.auc") == ["m-0.8-3", "m-0.3-3", "m-0.1-3"]
    page = look(site, "/?x=churn&cols=params.lr,metrics.auc")
    assert "lr auc" in page.text
    assert "depth" not in " ".join(page.texts[: page.texts.index("auc") + 2])
    assert "same" not in look(site, "/?q=name+like+'m-%25'").text.split("Skip")[1].split("m-0.8-3")[0]
    assert "same" in look(site, "/?q=name+like+'m-%25'&all=1").text
    assert "lr = 0.3 2" in look(site, "/?q=name+like+'m-%25'&group=params.lr").text


def test_many_runs_are_paged(make_repo):
    repo = make_repo("many")
    repo.python(
        "import gml\nwith gml.batch():\n for n in range(120):\n  with gml.start_run(run_name=f'r{n}'): pass"
    )
    site = TestClient(create_app(repo.workspace(), hosts=[HOST]), base_url=f"http://{HOST}")
    assert "1\u201350 of 120 runs" in look(site, "/").text
    last = look(site, "/?page=2")
    assert "101\u2013120 of 120 runs" in last.text
    assert any("page=1" in link for link in last.links)
    assert not any("page=3" in link for link in last.links)
    assert "1\u201350 runs" in look(site, "/?q=name+like+'r%25'").text
    assert "No run matches" in look(site, "/?q=name+like+'r%25'&page=9").text


def test_a_wrong_query_is_shown_with_its_place(site):
    text = site.get("/?q=metrics.auc+%3E+0.9+and+stauts+%3D+'x'").text
    assert "^" in text
    assert "status" in Page(text).text


def test_csv_has_full_values_and_starts_no_formula(site, runs_repo):
    answer = site.get("/runs.csv?q=name+like+'m-%25'")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["name"] for row in rows][-1] == "m-0.1-2"
    assert rows[-1]["metrics.loss"] == repr(1 / (59 * 0.1 + 1))
    from gml.ui.pages.runs import _harmless

    assert [_harmless(cell) for cell in ("=1+1", "-3.5", "@x", "a", 5)] == ["'=1+1", "-3.5", "'@x", "a", 5]


def test_curves_keep_gaps_and_extremes(site, run_ids):
    ids = f"{run_ids['m-0.1-2']},{run_ids['m-0.8-3']}"
    told = site.get(f"/data/curves?runs={ids}&points=50").json()
    assert set(told["curves"]) == {"auc", "loss", "odd"}
    curve = told["curves"]["loss"][run_ids["m-0.1-2"]]
    assert curve["value"][0] == 1.0
    assert curve["step"][-1] == 59
    odd = told["curves"]["odd"][run_ids["m-0.1-2"]]
    assert (odd["step"], odd["value"]) == ([-5, 1], [None, None])
    assert site.get("/data/curves?runs=nothing").status_code == 404
    assert site.get("/data/curves?runs=" + ",".join(str(n) for n in range(300))).status_code == 400


def test_a_long_curve_keeps_its_peak_and_its_gaps_as_a_band():
    import numpy as np

    from gml.ui.pages.curves import curve

    steps = np.arange(10_000)
    values = np.ones(10_000)
    values[777], values[4_242] = 9.0, -9.0
    values[5_000:5_100] = np.nan
    values[6_000] = np.inf
    told = curve((steps, steps * 10, values), 100)
    assert {len(column) for column in told.values()} == {100}
    assert (max(v for v in told["high"] if v is not None), min(v for v in told["low"] if v is not None)) == (
        9,
        -9,
    )
    assert [at for at, v in enumerate(told["value"]) if v is None] == [50]
    assert told["value"][60] == pytest.approx(1)
    assert told["step"][-1] == 9_999
    huge = curve((steps, steps, np.full(10_000, 1.7e308)), 100)
    assert huge["value"][0] == pytest.approx(1.7e308)
    equal = curve((np.zeros(10_000, int), steps, -values), 100)
    assert set(equal["step"]) == {0}


def test_pinned_runs_stay_on_top(site, run_ids):
    def order(address: str) -> list[str]:
        from re import findall

        return findall(r'<tr data-run="([^"]*)"', site.get(address).text)

    plain = order("/?x=churn")
    pinned = order(f"/?x=churn&pin={plain[-1]},nothing,{run_ids['elsewhere']}")
    assert pinned[:2] == [plain[-1], run_ids["elsewhere"]]
    assert pinned[2:] == plain[:-1]
    text = look(site, f"/?pin={plain[-1]}&group=params.lr").text
    assert "pinned 1" in text


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("https://github.com/ada/churn.git", "https://github.com/ada/churn/commit/"),
        ("git@gitlab.example.org:group/sub/churn.git", "https://gitlab.example.org/group/sub/churn/commit/"),
        ("ssh://git@host.example.org:2222/ada/churn", "https://host.example.org/ada/churn/commit/"),
        ("https://ada:secret@host.example.org:8443/ada/churn", "https://host.example.org:8443/ada/churn/commit/"),
        ("git@bitbucket.org:ada/churn.git", "https://bitbucket.org/ada/churn/commits/"),
        ("/srv/git/churn.git", ""), ("file:///srv/git/churn", ""), ("C:/git/churn", ""), ("../churn", ""),
        ("javascript:alert(1)", ""), ("javascript://x.org/%0aalert(1)", ""), ("data:text/html,x", ""),
        ('https://x.org/a/b"onclick="x', ""), ("https://x.org/a/../b c", ""), (None, ""),
    ],
)  # fmt: skip
def test_a_commit_leads_to_the_forge_of_its_remote(remote, address):
    from gml.ui.pages.forge import commit_address

    oid = "0123456789" * 4
    assert commit_address(remote, oid) == (address + oid if address else "")
    assert commit_address(remote, "HEAD") == ""


def test_search_finds_runs_experiments_and_pages(site, run_ids):
    found = site.get("/data/search?q=m-0.8").json()["found"]
    assert [hit["title"] for hit in found] == ["m-0.8-3", "m-0.8-2"]
    assert [h["kind"] for h in site.get("/data/search?q=churn").json()["found"]] == ["experiment"]
    assert site.get(f"/data/search?q={run_ids['elsewhere'][-6:]}").json()["found"][0]["title"] == "elsewhere"
    assert [h["to"] for h in site.get("/data/search").json()["found"]] == [
        "/",
        "/experiments",
        "/history",
        "/registry",
        "/help",
    ]


def test_bytes_of_a_file_are_whole_and_cannot_act(site, run_ids):
    run_id = run_ids[HOSTILE[0]]
    page = site.get(f"/runs/{run_id}/raw/page.html")
    assert page.text.startswith("<h1>hello</h1>")
    assert page.headers["content-security-policy"].startswith("sandbox;")
    svg = site.get(f"/runs/{run_id}/raw/picture.svg")
    assert svg.headers["content-type"] == "image/svg+xml"
    assert "script-src" not in svg.headers["content-security-policy"]
    assert svg.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    unknown = site.get(f"/runs/{run_id}/raw/data.bin")
    assert unknown.headers["content-disposition"].startswith("attachment")
    assert unknown.content == b"x"
    for path in ("..%2f..%2fetc/passwd", "../../../etc/passwd", "/etc/passwd", "nothing.txt", "%2e%2e/x"):
        assert site.get(f"/runs/{run_id}/raw/{path}").status_code == 404
        assert site.get(f"/runs/{run_id}/files/{path}").status_code == 404


def test_models_are_shown_with_their_proof_and_beside_the_champion(site):
    board = look(site, "/registry").text
    assert "no policy: whoever can push may promote" in board
    assert "churn v1 v2" in board
    model = look(site, "/registry/churn").text
    assert "stage churn Production holds v1 (turn 1)" in model
    assert "approved nobody: there is no policy" in model
    assert model.index("registered v2") < model.index("registered v1")
    version = look(site, "/registry/churn/2").text
    assert "Beside v1, which Production holds" in version
    assert "lr 0.1 0.8" in version
    for address in ("/registry/none", "/registry/churn/3", "/registry/churn/0"):
        look(site, address, 404)


# --- who may see it -----------------------------------------------------------------------------


def all_routes() -> list[str]:
    run_id = "0" * 32
    return ["/", "/runs.csv", f"/runs/{run_id}", f"/runs/{run_id}/files/a", f"/runs/{run_id}/raw/a", "/compare",
            "/history", "/experiments", "/help", "/registry", "/registry/a", "/registry/a/1", "/data/curves", "/data/search", "/live", "/static/gml.css"]  # fmt: skip


def test_every_route_wants_the_token_and_the_right_host(runs_repo, sessions):
    from starlette.routing import Mount

    from gml.ui.app import Pages
    from gml.ui.source import Source

    declared = Pages(Source(runs_repo.workspace()), sessions).routes()
    paths = {route.path for route in declared if not isinstance(route, Mount)}
    assert len(paths - {"/login"}) == len(all_routes()) - 1
    app = create_app(runs_repo.workspace(), hosts=[HOST], sessions=sessions)
    stranger = TestClient(app, base_url=f"http://{HOST}", follow_redirects=False)
    known = {"authorization": f"Bearer {sessions.token}"}
    for path in all_routes():
        for headers in (
            {},
            {"authorization": "Bearer wrong"},
            {"cookie": "gml-session=wrong"},
            {"cookie": "\x01;="},
        ):
            assert stranger.get(path, headers=headers).status_code == 401
        for host in ("evil.example", "127.0.0.1", "127.0.0.1:5001.evil.example", "10.127.0.0.1:5001", ""):
            assert stranger.get(path, headers={**known, "host": host}).status_code == 421
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
            assert stranger.request(method, path, headers=known).status_code == 405


def test_a_link_opens_one_browser_once(runs_repo, sessions):
    app = create_app(runs_repo.workspace(), hosts=[HOST], sessions=sessions)
    code = sessions.new_code()
    first = TestClient(app, base_url=f"http://{HOST}", follow_redirects=False)
    answer = first.get(f"/login?code={code}")
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert first.get("/").status_code == 200
    second = TestClient(app, base_url=f"http://{HOST}", follow_redirects=False)
    assert second.get(f"/login?code={code}").status_code == 401
    assert second.get("/login").status_code == 401
    assert second.get("/").status_code == 401
