"""The page is one file without scripts, whole and inert whatever the runs hold."""

import math
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from hostile import CORPUS
from hypothesis import given, settings
from hypothesis import strategies as st
from test_markdown import made, report

from gml.tracking.report.page import MAX_CHARTS, MAX_PATCH_LINES, page
from gml.tracking.report.svg import chart, scale

TAGS = {
    "html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "b", "code", "div", "span", "table",
    "thead", "tbody", "tr", "th", "td", "section", "figure", "figcaption", "svg", "g", "path", "circle",
    "text", "details", "summary", "pre", "footer",
}  # fmt: skip
ATTRIBUTES = {
    "lang", "charset", "http-equiv", "content", "name", "class", "title", "viewbox", "role", "aria-label",
    "d", "cx", "cy", "r", "x", "y", "open",
}  # fmt: skip
VOID = {"meta"}


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    monkeypatch.setattr("gml.tracking.report.sections.environment_facts", lambda reader, run: {})


class Checker(HTMLParser):
    """Checks that only our own tags and attributes are there, and every tag is closed."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.stack = []
        self.text = []
        self.seen = set()

    def handle_starttag(self, tag, attributes):
        assert tag in TAGS, tag
        assert {name for name, _ in attributes} <= ATTRIBUTES, attributes
        self.seen.add(tag)
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def handle_comment(self, data):
        raise AssertionError(data)

    def unknown_decl(self, data):
        raise AssertionError(data)


def check(text):
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert checker.stack == []
    # Nothing is loaded from anywhere.
    assert not re.search(r"""\b(?:src|href|srcset|action|data)\s*=\s*["']""", re.sub("&[^;]+;", "", text))
    assert "url(" not in text.split("</style>")[0]
    assert "@import" not in text
    return "".join(checker.text), checker.seen


def pair(patch=""):
    a = made("a1", {"lr": "1"}, {"loss": [3, 2, 1], "auc": [0.5]}, name="forest")
    b = made("b2", {"lr": "2"}, {"loss": [1, math.nan, 3], "auc": [0.75]}, name="boost")
    return report(b, a, champion="metrics.auc", patch=patch)


def hostile():
    runs = []
    for at, text in enumerate(CORPUS):
        params = {other: f"{other}{at}" for other in CORPUS}
        runs.append(made(text, params, {text: [1, at], "same": [0, at]}, {text: text}, name=text))
    patch = "".join(
        f"diff --git a/{text} b/{text}\n--- a/{text}\n+++ b/{text}\n@@ -1 +1 @@\n-{text}\n+{text}\n"
        for text in CORPUS
    )
    return report(*runs, patch=patch, everything=True, champion=CORPUS[0])


def test_the_page_is_whole(tmp_path):
    patch = "diff --git a/x.py b/x.py\n--- a/x.py\n+++ b/x.py\n@@ -1 +1 @@\n-old\t<b>\n+new\n"
    text, seen = check(page(pair(patch)))
    assert "2 runs compared" in text
    assert "★ boost has the greatest auc: 0.75" in text
    assert "-old\t<b>" in text
    assert {"svg", "path", "circle", "details", "table"} <= seen
    assert "prefers-color-scheme:dark" in text
    assert 'name="viewport"' in page(pair())


def test_the_command_writes_it(train, cli, repo):
    a = train("a", {"lr": 1}, {"loss": list(np.linspace(0, 1, 300))})
    b = train("b", {"lr": 2}, {"loss": list(np.linspace(1, 0, 300))})
    done = cli("diff", a, b, "--html", "out.html")
    assert (done.out, done.err) == ("", "wrote out.html\n")
    text = (repo.path / "out.html").read_text("utf-8")
    check(text)
    assert text.count("<svg") == 1
    assert cli("diff", a, b, "--html", "-").out == text


def test_hostile_text_stays_text():
    written = page(hostile())
    written.encode()
    text, _ = check(written)
    for each in ("<script>window.pwned=1</script>", "<img src=x onerror"):
        assert each in text
    assert "<script" not in written
    assert "<img" not in written
    assert written.count("<style>") == 1


def browser():
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no chromium on the PATH")
    return found


def test_a_browser_runs_nothing_of_it(tmp_path):
    chromium = browser()
    # Without the policy of the page, and with a script that tells what happened: escaping alone must hold.
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page(hostile()))
    probe = (
        "<script>addEventListener('load',()=>{document.querySelectorAll('*').forEach(e=>"
        "['click','mouseover','focus'].forEach(k=>e.dispatchEvent(new MouseEvent(k,{bubbles:true}))));"
        "document.title='pwned='+window.pwned+' scripts='+document.scripts.length"
        "+' images='+document.images.length+' links='+document.links.length})</script>"
    )
    file = tmp_path / "page.html"
    file.write_text(text.replace("</body>", f"{probe}</body>"), "utf-8")
    done = subprocess.run(
        [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000",
         f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", file.as_uri()],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "<title>pwned=undefined scripts=1 images=0 links=0</title>" in done.stdout


def test_limits_are_said():
    hunk = "".join(f"+{n}\n" for n in range(MAX_PATCH_LINES + 50))
    metrics = {f"m{n:03}": [n, n + 1] for n in range(MAX_CHARTS + 5)}
    runs = [made(f"r{n}", {"p": str(n)}, metrics if n < 2 else {}) for n in range(30)]
    one = f"diff --git a/x b/x\n@@ -0,0 +1,{MAX_PATCH_LINES + 50} @@\n{hunk}"
    found = report(*runs[:2], patch=one)
    text, _ = check(page(found))
    assert f"5 of {MAX_CHARTS + 5} curves are left out" in text
    assert f"51 of {MAX_PATCH_LINES + 51:,} lines are left out" in text
    text, _ = check(page(report(*runs)))
    assert "6 of 30 runs are left out" in text


numbers = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(numbers, max_size=6))
@settings(max_examples=100, deadline=None)
def test_axes_are_finite_and_few(values):
    axis = scale(values)
    assert 1 <= len(axis.ticks) <= 12
    assert all(math.isfinite(axis.share(value)) for value in [*values, *axis.ticks])
    assert all(-0.01 <= axis.share(value) <= 1.01 for value in values)


@given(st.lists(st.tuples(st.integers(-(2**62), 2**62), st.floats()), max_size=30))
@settings(max_examples=60, deadline=None)
def test_any_curve_can_be_drawn(points):
    points.sort(key=lambda point: point[0])
    steps = np.array([step for step, _ in points], np.int64)
    values = np.array([value for _, value in points], np.float64)
    drawn = chart("m", [("run", 0, (steps, steps, values))])
    for places in re.findall(r'\b(?:cx|cy|x|y)="([^"]*)"', drawn):
        assert -5 <= float(places) <= 500
    assert "nan" not in re.sub("<title>.*?</title>", "", drawn)
