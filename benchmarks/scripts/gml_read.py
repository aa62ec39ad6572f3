"""What gml does when it is asked: each mode does its work and prints one figure."""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

GML = str(Path(sysconfig.get_path("scripts")) / "gml")
QUERY = "metrics.m1 > 0.9 and params.p0 in ('rf', 'xgb')"


def seconds(arguments: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def command(*arguments: str) -> float:
    with_index()
    return seconds([GML, *arguments])


def with_index() -> None:
    """Bring the index up to date, as any earlier command would have done."""
    if "ls" in sys.argv or "show" in sys.argv or "short" in sys.argv:
        assert reader().index


def reader():
    from gml.tracking.reader import Reader
    from gml.workspace import Workspace

    return Reader(Workspace.open())


def short() -> float:
    read = reader()
    old = read.index.match_names("run-500")[0]
    return seconds([GML, "show", old[-8:]])


def import_() -> float:
    return seconds([sys.executable, "-c", "import gml"]) - seconds([sys.executable, "-c", "pass"])


def query() -> float:
    from gml.index.query import parse, parse_order

    index = reader().index
    times = []
    for _ in range(9):
        begin = time.perf_counter()
        found = index.search(parse(QUERY), parse_order(["metrics.m1 DESC"]), now_ms=0, limit=100)
        times.append(time.perf_counter() - begin)
        assert len(found) == min(100, len(index.search(parse(QUERY), now_ms=0)))
    return statistics.median(times) * 1000


def records() -> float:
    times = []
    for _ in range(5):
        read = reader()
        begin = time.perf_counter()
        assert read.search(None, now_ms=0, limit=1000)
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1000


def build() -> float:
    for path in Path(".git/gml").glob("index.sqlite*"):
        path.unlink()
    read = reader()
    begin = time.perf_counter()
    assert read.index
    return time.perf_counter() - begin


def one_more() -> float:
    import gml

    assert reader().index
    times = []
    for _ in range(7):
        with gml.start_run():
            gml.log_metric("m1", 0.5)
        read = reader()
        begin = time.perf_counter()
        assert read.index
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1000


def export() -> float:
    assert reader().index
    return seconds([GML, "export", "-o", "runs.csv"])


def export_memory() -> float:
    """Return the most anonymous memory (MB): pages of mapped files are the system's to take back."""
    child = subprocess.Popen([GML, "export", "-o", "runs.csv"], stderr=subprocess.DEVNULL)
    most = 0
    while child.poll() is None:
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
            most = max(most, int(next(line for line in lines if line.startswith("RssAnon")).split()[1]))
        time.sleep(0.02)
    assert child.returncode == 0
    return most / 1024


def bytes_a_run() -> float:
    files = [path for path in Path(".git/objects").rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files) / count()


def index_bytes_a_run() -> float:
    assert reader().index
    return Path(".git/gml/index.sqlite").stat().st_size / count()


def count() -> int:
    return sum(reader().index.counts().values())


def history(points: str) -> float:
    import gml

    run_id = curve(int(points))
    gml.metric_history(run_id, "warm")
    begin = time.perf_counter()
    assert len(gml.metric_history(run_id, "loss")) == int(points)
    return time.perf_counter() - begin


def curve(points: int) -> str:
    import gml

    with gml.start_run() as run:
        gml.log_metric("warm", 1)
        for step in range(points):
            gml.log_metric("loss", 1 / (step + 1), step=step)
    return run.run_id


def curves(points: str) -> float:
    first, second = curve(int(points)), curve(int(points))
    with contextlib.suppress(AssertionError):
        with_index()
    return seconds([GML, "diff", first, second])


if __name__ == "__main__":
    mode, *arguments = sys.argv[1:]
    print(globals()["import_" if mode == "import" else mode](*arguments))
