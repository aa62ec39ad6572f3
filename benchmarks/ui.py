"""The pages in a real Chromium: how fast they come, how many bytes, how soon a logged point is on the screen.

MLflow's UI is measured in the same browser on the same number of runs where `--peer-python` has it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from run import DOCS, has_mlflow, machine, prepared, prepared_peer, version

BEGIN, END = "<!-- ui: begin -->", "<!-- ui: end -->"
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
NAMES = ("runs", "compare", "live", "site")
DRAWN = """() => { const all = [...document.querySelectorAll('.chart[data-key] canvas')];
    return all.length > 0 && all.slice(0, 1).every(c => c.width > 100
        && c.getContext('2d').getImageData(60, 0, c.width - 70, c.height - 40).data.some(v => v > 0)); }"""
CURVES = """
import math, random, sys
import gml
runs, points = int(sys.argv[1]), int(sys.argv[2])
random.seed(7)
with gml.batch():
    for n in range(runs):
        with gml.start_run(run_name=f"run-{n}"):
            gml.log_params({"lr": random.random(), "depth": n % 7})
            for step in range(points):
                gml.log_metric("loss", math.exp(-step / points * (1 + n % 5)) + random.gauss(0, 0.02), step=step)
"""
MLFLOW_CURVES = """
import math, random, sys, time
from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient
runs, points = int(sys.argv[1]), int(sys.argv[2])
client = MlflowClient("sqlite:///curves.db")
random.seed(7)
for n in range(runs):
    run = client.create_run("0", run_name=f"run-{n}").info.run_id
    client.log_batch(run, params=[Param("lr", str(random.random())), Param("depth", str(n % 7))])
    values = [math.exp(-s / points * (1 + n % 5)) + random.gauss(0, 0.02) for s in range(points)]
    for at in range(0, points, 1000):
        client.log_batch(run, metrics=[Metric("loss", values[s], 1_750_000_000_000 + s, s) for s in range(at, min(points, at + 1000))])
    client.set_terminated(run)
    print(run)
"""
LIVE = """
import sys, time
import gml
rate, seconds, begin = 1000, float(sys.argv[1]), float(sys.argv[2])
start = time.time()
for n in range(int(rate * seconds)):
    wait = start + n / rate - time.time()
    if wait > 0:
        time.sleep(wait)
    gml.log_metric("clock", time.time() - begin, step=n)
"""


def main() -> None:
    """Parse the command line, measure, print, perhaps write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=NAMES, choices=NAMES)
    parser.add_argument("--sizes", nargs="*", default=["10000", "100000"], help="runs of the table")
    parser.add_argument("--curves", nargs=2, type=int, default=[100, 10_000], metavar=("RUNS", "POINTS"))
    parser.add_argument("--seconds", type=float, default=10, help="how long the live training goes on")
    parser.add_argument("--site", default="10000", help="runs of the site")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--peer-python", default="", help="interpreter that has mlflow")
    parser.add_argument("--keep", type=Path, help="generated repositories, as of run.py; they are copied")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory(prefix="gml-ui-bench-") as scratch, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        lines = Bench(options, Path(scratch), browser).table()
        browser.close()
    if options.write:
        text = DOCS.read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        after = rest.partition(END)[2]
        DOCS.write_text(f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{after}", encoding="utf-8")


class Bench:
    """One run of the benchmark."""

    def __init__(self, options: argparse.Namespace, scratch: Path, browser: Any) -> None:
        self.options = options
        self.scratch = scratch
        self.browser = browser
        self.store = options.keep or scratch / "generated"
        self.store.mkdir(parents=True, exist_ok=True)
        self.peer = options.peer_python if options.peer_python and has_mlflow(options.peer_python) else ""
        self.environ = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "HOME": str(scratch)}
        for role in ("AUTHOR", "COMMITTER"):
            self.environ |= {f"GIT_{role}_NAME": "me", f"GIT_{role}_EMAIL": "me@example.org"}

    def table(self) -> list[str]:
        theirs = (
            f", MLflow {version(self.peer, 'mlflow')} on SQLite" if self.peer else ", MLflow not measured"
        )
        with_browser = f", Chromium {self.browser.version}"
        lines = [f"{machine()}; gml {version(sys.executable, 'gml')}{theirs}{with_browser}.", ""]
        lines += ["| what | gml | MLflow | aim |", "|---|---:|---:|---|"]
        print("\n".join(lines), flush=True)
        for name in self.options.only:
            for row in getattr(self, name)():
                lines.append("| " + " | ".join(row) + " |")
                print(lines[-1], flush=True)
        return lines

    # --- the table of runs --------------------------------------------------------------------

    def runs(self) -> Iterator[tuple[str, ...]]:
        for size in self.options.sizes:
            place = prepared(size, self.store)()
            copy = self.scratch / f"runs-{size}"
            shutil.copytree(place, copy, symlinks=True)
            with self.gml_ui(copy) as link:
                ours = self.visits(link, "/", "#runs tr[data-run]", "navigation")
            shutil.rmtree(copy)
            theirs: tuple[str, ...] = ("–", "–", "–")
            if self.peer:
                place = prepared_peer(size, self.store, self.peer)()
                database = self.scratch / f"mlflow-{size}.db"
                shutil.copy(place / "mlflow.db", database)
                with self.mlflow_ui(database) as top:
                    name = f"text=run-{int(size) - 1}"
                    theirs = self.visits(top, "/#/experiments/1/runs", name, "runs/search")
            count = f"{int(size):,}"
            yield f"page of runs at {count}: server", ours[0], theirs[0], "<= 0.3 s"
            yield f"page of runs at {count}: interactive", ours[1], theirs[1], "<= 1 s, 5 times MLflow's"
            yield f"page of runs at {count}: bytes, first visit", ours[2], theirs[2], "<= 1.5 MB"

    def visits(self, link: str, path: str, selector: str, entry: str) -> tuple[str, str, str]:
        """Return server time, time until rows are there and bytes: medians of visits with an empty cache."""
        top = link.split("/login", maxsplit=1)[0]
        server, ready, size = [], [], []
        login = self.browser.new_context(viewport={"width": 1280, "height": 800})
        login.new_page().goto(link)
        cookies = login.cookies()
        for _ in range(self.options.repeat):
            context = self.browser.new_context(viewport={"width": 1280, "height": 800})
            context.add_cookies(cookies)
            page = context.new_page()
            total = [0]
            session = context.new_cdp_session(page)
            session.send("Network.enable")
            session.on("Network.loadingFinished", lambda told, total=total: total.__setitem__(0, total[0] + told["encodedDataLength"]))  # fmt: skip
            page.goto(f"{top}{path}", wait_until="commit")
            page.wait_for_selector(selector, timeout=120_000)
            page.wait_for_function("() => document.readyState === 'complete'")
            ready.append(page.evaluate("() => performance.now()") / 1000)
            told = page.evaluate(
                """what => { const all = performance.getEntriesByType(what === 'navigation' ? what : 'resource')
                    .filter(e => what === 'navigation' || e.name.includes(what));
                    return Math.max(0, ...all.map(e => e.responseEnd - e.requestStart)); }""",
                entry,
            )
            server.append(told / 1000)
            size.append(total[0])
            context.close()
        login.close()
        kilo = statistics.median(size) / 1000
        return f"{statistics.median(server):.3f} s", f"{statistics.median(ready):.2f} s", f"{kilo:,.0f} kB"

    # --- comparison ---------------------------------------------------------------------------

    def compare(self) -> Iterator[tuple[str, ...]]:
        runs, points = self.options.curves
        repo = self.repository("curves")
        self.python(CURVES, repo, runs, points)
        with self.gml_ui(repo) as link:
            top = link.split("/login")[0]
            page = self.browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
            page.goto(link)
            listed = subprocess.run([sys.executable, "-m", "gml", "ls", "--json", "-n", str(runs)], cwd=repo,
                                    env=self.environ, capture_output=True, check=True)  # fmt: skip
            ids = [run["run_id"] for run in json.loads(listed.stdout)]
            seconds = []
            for _ in range(self.options.repeat):
                page.goto("about:blank")
                page.goto(f"{top}/compare?runs={','.join(ids)}", wait_until="commit")
                page.wait_for_function(DRAWN, timeout=120_000)
                seconds.append(page.evaluate("() => performance.now()") / 1000)
            frames = self.hover(page)
        theirs = self.mlflow_compare(runs, points) if self.peer else "–"
        what = f"{runs} runs x {points:,} points"
        yield f"compare {what}: curves drawn", f"{statistics.median(seconds):.2f} s", theirs, "<= 2 s"
        yield f"compare {what}: a frame while hovering, median", f"{frames:.0f} ms", "–", "smooth"

    def hover(self, page: Any) -> float:
        """Return the median time of drawing all charts again for a new place of the pointer."""
        box = page.locator(".chart[data-key] canvas").first.bounding_box()
        page.evaluate(
            """() => { window.frames_ = []; let last = performance.now();
                const tick = now => { window.frames_.push(now - last); last = now; requestAnimationFrame(tick); };
                requestAnimationFrame(tick); }"""
        )
        for at in range(60):
            page.mouse.move(box["x"] + 60 + at * (box["width"] - 80) / 60, box["y"] + 60)
        return statistics.median(page.evaluate("() => window.frames_.slice(1)"))

    def mlflow_compare(self, runs: int, points: int) -> str:
        """Return how long MLflow takes until the lines of the metric of all runs are drawn."""
        place = self.scratch / "mlflow-curves"
        place.mkdir()
        script = place / "fill.py"
        script.write_text(MLFLOW_CURVES)
        done = subprocess.run([self.peer, str(script), str(runs), str(points)], cwd=place, env=self.environ,
                              capture_output=True, text=True, check=True)  # fmt: skip
        ids = re.findall(r"^[0-9a-f]{32}$", done.stdout, re.MULTILINE)
        query = (
            f'runs={json.dumps(ids)}&metric="loss"&experiments=["0"]&plot_metric_keys=["loss"]&x_axis="step"'
        )
        with self.mlflow_ui(place / "curves.db") as top:
            page = self.browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
            page.goto(f"{top}/#/metric/loss?{query}", wait_until="commit")
            try:
                page.wait_for_selector(".js-plotly-plot .scatterlayer .trace", timeout=180_000)
            except Exception as error:  # noqa: BLE001 - whatever a browser says of it
                return f"not drawn within 180 s ({type(error).__name__})"
            return f"{page.evaluate('() => performance.now()') / 1000:.2f} s"

    # --- live ---------------------------------------------------------------------------------

    def live(self) -> Iterator[tuple[str, ...]]:
        import psutil

        repo = self.repository("live")
        begin = time.time()
        with self.gml_ui(repo) as link:
            server = next(p for p in psutil.process_iter(["cmdline"]) if p.pid == self.child)
            training = subprocess.Popen(
                [sys.executable, "-m", "gml", "log", "-q", "-n", "live", "--", sys.executable, "-c", LIVE,
                 str(self.options.seconds), str(begin)],
                cwd=repo, env=self.environ,
            )  # fmt: skip
            page = self.browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
            page.goto(link)
            page.wait_for_selector("#runs tr[data-run], #news a", timeout=60_000)
            page.goto(link.split("/login")[0])
            page.click("#runs a:has-text('live')")
            page.wait_for_selector("tr[data-metric=clock] [data-cell=last]")
            used, since, lags = sum(server.cpu_times()[:2]), time.time(), []
            while training.poll() is None and time.time() - since < self.options.seconds - 4:
                shown = float(page.text_content("tr[data-metric=clock] [data-cell=last]"))
                lags.append(time.time() - begin - shown)
                page.wait_for_timeout(40)
            share = (sum(server.cpu_times()[:2]) - used) / (time.time() - since)
            training.wait()
        worst = sorted(lags)[int(0.95 * len(lags))]
        what = "1,000 points/s: from `log_metric` to the screen"
        yield f"{what}, 95 % of the time", f"<= {worst:.2f} s", "–", "<= 2 s"
        yield "the same: CPU of `gml ui`", f"{100 * share:.1f} %", "–", "< 10 %"

    # --- site ---------------------------------------------------------------------------------

    def site(self) -> Iterator[tuple[str, ...]]:
        size = self.options.site
        repo = self.scratch / "site-repo"
        shutil.copytree(prepared(size, self.store)(), repo, symlinks=True)
        public = self.scratch / "public"
        first = self.build(repo, public, size)
        self.python("import gml\nwith gml.start_run(run_name='new'):\n    gml.log_metric('m1', 1)\n", repo)
        second = self.build(repo, public, str(int(size) + 1))
        total = sum(path.stat().st_size for path in public.rglob("*") if path.is_file())
        count = f"{int(size):,}"
        yield f"`gml site build`, {count} runs", f"{first:.1f} s, {total / 1e6:.0f} MB", "–", "<= 60 s"
        yield "the same after one more run", f"{second:.2f} s", "–", "<= 3 s"

    def build(self, repo: Path, public: Path, limit: str) -> float:
        before = time.perf_counter()
        command = [sys.executable, "-m", "gml", "site", "build", "-o", str(public), "--limit", "1000000"]
        subprocess.run(command, cwd=repo, env=self.environ, check=True, capture_output=True)
        del limit
        return time.perf_counter() - before

    # --- help ---------------------------------------------------------------------------------

    def repository(self, name: str) -> Path:
        path = self.scratch / name
        subprocess.run(["git", "init", "-q", str(path)], check=True, env=self.environ)
        subprocess.run(["git", "commit", "-q", "--allow-empty", "-m", "start"], cwd=path, check=True, env=self.environ)  # fmt: skip
        return path

    def python(self, script: str, repo: Path, *arguments: object) -> None:
        command = [sys.executable, "-c", script, *map(str, arguments)]
        subprocess.run(command, cwd=repo, env=self.environ, check=True, capture_output=True)

    @contextmanager
    def gml_ui(self, repo: Path) -> Iterator[str]:
        command = [sys.executable, "-m", "gml", "ui", "--port", "0", "--no-browser"]
        child = subprocess.Popen(command, cwd=repo, env=self.environ, stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)  # fmt: skip
        self.child = child.pid
        try:
            yield re.search(r"http\S+", child.stdout.readline())[0]
        finally:
            child.terminate()
            child.wait()

    @contextmanager
    def mlflow_ui(self, database: Path) -> Iterator[str]:
        port = 5973
        command = [self.peer, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{database}", "--port", str(port), "--workers", "1"]  # fmt: skip
        log = (self.scratch / "mlflow.log").open("w")
        child = subprocess.Popen(command, cwd=database.parent, env=self.environ, stdout=log, stderr=log, start_new_session=True)  # fmt: skip
        top = f"http://127.0.0.1:{port}"
        try:
            wait(lambda: urllib.request.urlopen(f"{top}/health", timeout=2).status == 200, 180)
            yield top
        finally:
            os.killpg(child.pid, 15)
            child.wait()
            log.close()


def wait(ready: Callable[[], bool], seconds: float) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while True:
        try:
            if ready():
                return
        except OSError:
            pass
        if time.monotonic() > end:
            raise SystemExit("a server did not come up")
        time.sleep(0.2)


if __name__ == "__main__":
    main()
