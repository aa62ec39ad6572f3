"""The pages in a real Chromium: curves are drawn, running trainings move, keys work, nothing hostile acts."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hostile_pages import HOSTILE

from gml.ui.site.build import build
from gml.ui.site.report import report

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
TRAINING = """
import gml, sys
print("warming up", flush=True)
for step, line in enumerate(sys.stdin):
    gml.log_metric("loss", float(line), step=step)
    print("step", step, flush=True)
"""
INKED = """() => { const c = document.querySelector('.chart[data-key=loss] canvas');
    return c?.width > 100 && c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(v => v > 0); }"""
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def serve(repo):
    """Start `gml ui` and return the process with its link."""
    child = subprocess.Popen(
        [sys.executable, "-m", "gml", "ui", "--port", "0", "--no-browser"],
        cwd=repo.path,
        env=repo.env(PYTHONUNBUFFERED="1"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    return child, re.search(r"http\S+", child.stdout.readline())[0]


@pytest.fixture(scope="module")
def server(runs_repo):
    child, link = serve(runs_repo)
    yield link
    child.terminate()
    assert child.wait(timeout=20) in {0, -15}


@pytest.fixture(scope="module")
def page(chromium, server):
    """Return a page that is logged in; what it complains about is kept in `page.complaints`."""
    page = chromium.new_context(viewport={"width": 1200, "height": 800}).new_page()
    page.complaints = []
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on(
        "console",
        lambda told: (
            page.complaints.append(told.text)
            if "Content Security Policy" in told.text and "/raw/" not in told.location["url"]
            else None
        ),
    )
    page.on("dialog", lambda dialog: (page.complaints.append(dialog.message), dialog.dismiss()))
    page.on(
        "request",
        lambda r: (
            page.complaints.append(r.url)
            if "127.0.0.1" not in r.url and not r.url.startswith(("data:", "file:"))
            else None
        ),
    )
    page.goto(server)
    page.top = server.split("/login")[0]
    return page


def ink(page, selector: str) -> int:
    """Return how many pixels of a canvas are drawn on."""
    return page.eval_on_selector(
        selector,
        """c => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
                  let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n; }""",
    )


def ids(page) -> list[str]:
    return page.eval_on_selector_all("#runs tr[data-run]", "rows => rows.map(row => row.dataset.run)")


def test_runs_are_chosen_by_keys_and_compared(page):
    page.goto(f"{page.top}/?x=churn")
    page.keyboard.press("j")
    page.keyboard.press("x")
    page.keyboard.press("j")
    page.keyboard.press("x")
    assert page.text_content("#chosen") == "2"
    page.keyboard.press("c")
    page.wait_for_url("**/compare?runs=*")
    page.wait_for_function("() => document.querySelectorAll('.chart').length >= 3")
    page.wait_for_function("() => document.querySelector('.chart output') !== null")
    assert page.complaints == []


def test_curves_of_many_runs_are_drawn_and_hovered_together(page):
    page.goto(f"{page.top}/?q=name+like+'m-%25'")
    page.goto(f"{page.top}/compare?runs={','.join(ids(page))}")
    canvas = page.locator(".chart[data-key=loss] canvas")
    page.wait_for_function(
        """() => { const c = document.querySelector('.chart[data-key=loss] canvas');
                   return c.width > 300 && c.getContext('2d').getImageData(c.width / 2, 0, 1, c.height).data.some(v => v > 0); }"""
    )
    place = canvas.bounding_box()
    page.mouse.move(place["x"] + place["width"] / 2, place["y"] + 60)
    page.wait_for_function(
        "() => document.querySelector('.chart[data-key=auc] output').textContent.startsWith('step ')"
    )
    told = page.text_content(".chart[data-key=loss] output")
    assert "m-0.1-2" in told
    before = ink(page, "#parallel")
    page.click("#legend input >> nth=0")
    page.wait_for_function("() => !document.querySelector('#legend input').checked")
    assert ink(page, "#parallel") > 0 < before
    page.focus(".chart[data-key=loss] canvas")
    page.keyboard.press("ArrowRight")
    page.check("#log-y")
    page.fill("#find-chart", "auc")
    assert page.is_hidden(".chart[data-key=loss]")
    assert page.complaints == []


def test_a_training_moves_while_it_is_watched(page, runs_repo, make_repo, chromium):
    repo = make_repo("live")
    child, link = serve(repo)
    browser = chromium.new_context().new_page()
    try:
        browser.goto(link)
        assert "No runs yet" in browser.text_content("main")
        training = subprocess.Popen(
            [sys.executable, "-m", "gml", "log", "-q", "-n", "watched", "--", sys.executable, "-c",
             TRAINING],
            cwd=repo.path, env=repo.env(), stdin=subprocess.PIPE, text=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        browser.wait_for_selector("text=1 new run: show")
        browser.click("text=1 new run: show")
        browser.click("text=watched")
        browser.wait_for_selector(".status.running")
        for value in (5, 4):
            training.stdin.write(f"{value}\n")
        training.stdin.flush()
        browser.wait_for_selector("#metric-table [data-cell=last]:text-is('4'), tr[data-metric=loss]")
        training.stdin.write("3\n2.5\n")
        training.stdin.flush()
        browser.wait_for_selector("[data-cell=last]:text-is('2.5')")
        browser.wait_for_selector(".chart[data-key=loss] canvas")
        browser.wait_for_selector("#logs pre:has-text('step 3')")
        training.stdin.close()
        browser.wait_for_selector(".status.finished")
        assert training.wait(timeout=30) == 0
    finally:
        child.terminate()
        child.wait(timeout=20)


def test_nothing_hostile_acts(page, run_ids):
    hostile = run_ids[HOSTILE[0]]
    everything = ",".join(run_ids.values())
    for address in ("/", f"/runs/{hostile}", f"/compare?runs={everything}", f"/runs/{hostile}/files/page.html",
                    f"/runs/{hostile}/files/picture.svg", f"/runs/{hostile}/raw/picture.svg",
                    f"/runs/{hostile}/raw/page.html", f"/runs/{hostile}/files/tree.json", "/experiments"):  # fmt: skip
        page.goto(f"{page.top}{address}")
        page.wait_for_load_state("load")
        assert page.evaluate("() => window.pwned") is None
        assert page.title() != "pwned"
    page.keyboard.press("Control+k") if page.url.endswith("/experiments") else None
    page.fill("#palette-input", "<script>")
    page.wait_for_selector("#palette-list li")
    assert page.evaluate("() => window.pwned") is None
    assert page.complaints == []


def test_the_query_completes_and_a_phone_and_the_dark_are_served(page):
    page.goto(page.top)
    page.click("#query")
    page.keyboard.type("metrics.au")
    page.wait_for_selector("#completions li")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.input_value("#query") == "metrics.auc "
    page.keyboard.type("> 0.9")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=metrics.auc*")
    light = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") != light
    page.set_viewport_size({"width": 375, "height": 700})
    for address in ("/", "/history", f"/runs/{ids(page)[0]}", "/help"):
        page.goto(f"{page.top}{address}")
        wide = page.evaluate("() => document.documentElement.scrollWidth")
        assert wide <= 375, (address, wide)
    page.set_viewport_size({"width": 1200, "height": 800})
    assert page.complaints == []


def test_pages_without_a_server_are_drawn_from_files(page, runs_repo, run_ids, tmp_path):
    build(runs_repo.workspace(), tmp_path / "a b" / "public")
    top = (tmp_path / "a b" / "public").as_uri()
    page.goto(f"{top}/index.html")
    page.click("button:has-text('loss')")
    assert page.get_attribute("th[data-column='metrics.loss']", "aria-sort") == "descending"
    assert ids(page)[0] in (run_ids["m-0.1-2"], run_ids["m-0.1-3"])
    page.keyboard.press("Control+k")
    page.fill("#palette-input", "m-0.8-3")
    page.wait_for_selector("#palette-list li")
    page.keyboard.press("Enter")
    page.wait_for_url("**/runs/*.html")
    page.wait_for_function(INKED)
    page.goto(f"{top}/experiments.html")
    page.click("text=churn")
    page.check("#runs input[value] >> nth=1")
    page.check("#runs input[value] >> nth=2")
    page.keyboard.press("c")
    page.wait_for_url("**/compare.html?runs=*")
    page.wait_for_function(INKED)
    assert "Compare 2 runs" in page.text_content("h1")
    assert "0.8" in page.text_content("#tables")
    hostile = run_ids[HOSTILE[0]]
    for path in (f"runs/{hostile}.html", f"compare.html?runs={','.join(run_ids.values())}"):
        page.goto(f"{top}/{path}")
        page.wait_for_function(INKED)
        assert page.evaluate("() => window.pwned") is None
    for wanted in ([hostile], ["m-0.1-2", hostile]):
        file = tmp_path / "report.html"
        file.write_bytes(report(runs_repo.workspace(), wanted))
        page.goto(file.as_uri())
        page.wait_for_function(INKED)
        assert page.evaluate("() => window.pwned") is None
    assert page.complaints == []


def test_axe_finds_nothing_on_any_page_in_light_or_dark(page, run_ids):
    package = pytest.importorskip("axe_playwright_python")
    axe = (Path(package.__file__).parent / "axe.min.js").read_text("utf-8")
    hostile = run_ids[HOSTILE[0]]
    everything = ",".join(run_ids.values())
    addresses = ("/", "/?q=stauts+%3D+1", f"/runs/{hostile}", f"/compare?runs={everything}",
                 "/history?metric=auc", "/experiments", "/help", "/registry", "/registry/churn", "/registry/churn/2", f"/runs/{hostile}/files/tree.json",
                 f"/runs/{hostile}/files/table.csv", "/runs/none")  # fmt: skip
    # In the dark only colours differ: those of these have all of them.
    rich = ("/", f"/runs/{hostile}", f"/compare?runs={everything}")
    found = []
    for theme, some in (("light", addresses), ("dark", rich)):
        page.goto(page.top)
        page.evaluate(f"() => localStorage.setItem('gml-theme', '{theme}')")
        for address in some:
            page.goto(f"{page.top}{address}")
            page.evaluate(axe)
            only = "{}" if theme == "light" else "{runOnly: ['color-contrast']}"
            told = page.evaluate(f"() => axe.run(document, {only})")
            found += [(theme, address, v["id"], [n["html"] for n in v["nodes"]]) for v in told["violations"]]
    assert found == []
