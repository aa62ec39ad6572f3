"""Runs that are too large, too many, gone, or growing: every page still answers."""

from __future__ import annotations

import pytest
from hostile_pages import HOST
from starlette.testclient import TestClient

from gml.domain.run import Artifact
from gml.ui.app import create_app
from gml.ui.pages.run import kind_of
from gml.ui.site.build import build


@pytest.fixture
def pages(repo):
    return TestClient(create_app(repo.workspace(), hosts=[HOST]), base_url=f"http://{HOST}")


def test_the_longest_values_and_five_thousand_metrics(repo, pages, tmp_path):
    repo.python(
        """
import gml
with gml.start_run(run_name="large"):
    gml.log_param("long", "x" * 6000)
    gml.set_tag("longer", "<b>" * 2_600)
    for step in range(2):
        gml.log_metrics({f"m{n}": n * step for n in range(5_000)}, step=step)
with gml.start_run(run_name="equal"):
    for value in (1.0, float("inf"), 2.0, float("nan"), 3.0):
        gml.log_metric("m1", value, step=-7)
"""
    )
    large, equal = (
        pages.get(f"/data/search?q={name}").json()["found"][0]["to"] for name in ("large", "equal")
    )
    ids = [to.rpartition("/")[2] for to in (large, equal)]
    for address in (
        "/",
        "/?all=1",
        "/?cols=tags.longer,params.long",
        large,
        f"/compare?runs={','.join(ids)}",
    ):
        answer = pages.get(address)
        assert answer.status_code == 200
        assert len(answer.content) < 6_000_000
        assert "<b><b>" not in answer.text
    told = pages.get(f"/data/curves?runs={ids[0]}").json()["curves"]
    assert len(told) == 60
    curve = pages.get(f"/data/curves?runs={ids[1]}").json()["curves"]["m1"][ids[1]]
    assert curve["step"] == [-7] * 5
    assert curve["value"].count(None) == 2
    assert build(repo.workspace(), tmp_path / "public").runs == 2
    assert (tmp_path / "public" / "runs" / f"{ids[0]}.js").stat().st_size < 500_000


def test_a_file_of_two_gigabytes_is_offered_and_not_read():
    for name in ("video.mp4", "table.csv", "tree.json", "page.html", "picture.png", "log.txt", "sound.wav"):
        assert kind_of(name, Artifact("0" * 64, 2 << 30)) == ""


def test_a_run_that_is_deleted_while_pages_are_open(repo, pages):
    repo.python("import gml\nfor n in 'ab':\n with gml.start_run(run_name=n): gml.log_metric('loss', 1)")
    assert "1\u20132 of 2 runs" in pages.get("/").text
    run = pages.get("/data/search?q=a").json()["found"][-1]["to"]
    repo.python("import sys; from gml.cli.main import run; sys.exit(run(['rm', 'a']))")
    assert "1\u20131 of 1 runs" in pages.get("/").text
    assert "deleted</span>" in pages.get(run).text
    assert "1\u20131 of 1 runs" in pages.get("/?deleted=1").text
    repo.python("import gml\nwith gml.start_run(run_name='late'): pass")
    assert "late" in pages.get("/").text


def test_what_is_not_there_is_said(repo, pages):
    repo.python(
        "import gml\nfor n in 'ab':\n with gml.start_run(run_name=n): gml.log_text('x' * 99, 'a.txt')"
    )
    run_id = next(r.run_id for r in repo.workspace().ledger.view().runs() if r.name == "a")
    assert pages.get(f"/runs/{run_id}/files/a.txt").status_code == 200
    assert pages.get(f"/runs/{run_id}/files/b.txt").status_code == 404
    assert pages.get("/runs/" + "0" * 32).status_code == 404
    assert pages.get(f"/compare?runs={run_id},{'0' * 32}").status_code == 404
