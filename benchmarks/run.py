"""Run the benchmarks and print one table: gml beside MLflow on SQLite, medians of fresh processes."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs" / "benchmarks.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


@dataclass(frozen=True)
class Benchmark:
    """One row of the table.

    Attributes:
        name: short name for `--only`.
        what: what is measured.
        unit: of the figure; figures that end in /s are better when greater, the others when smaller.
        ours: script and arguments for gml.
        aim: what we want, as text.
        theirs: script and arguments for MLflow, if there is a counterpart.
        repeat: fresh processes for ours.
        repository: name of a prepared repository that is shared, None for an empty one each time.
    """

    name: str
    what: str
    unit: str
    ours: tuple[str, ...]
    aim: str
    theirs: tuple[str, ...] = ()
    repeat: int = 3
    repository: str | None = None


GML = "gml_work.py"
MLFLOW = "mlflow_work.py"
READ = "gml_read.py"

BENCHMARKS = (
    Benchmark("metrics", "`log_metric` calls, one process, surviving kill -9", "calls/s", (GML, "metrics", "300000"), ">= 250,000", (MLFLOW, "metrics", "500")),
    Benchmark("bulk", "create + 10 params + 10 metrics + end, in `gml.batch()`", "runs/s", (GML, "bulk", "1000"), ">= 300", (MLFLOW, "runs", "100")),
    Benchmark("single", "the same, each run durable on its own", "runs/s", (GML, "single", "300"), ">= 100", (MLFLOW, "runs", "100")),
    Benchmark("fleet", "32 processes x 20 runs into a repository of 10,000 runs, once started", "runs/s", (GML, "fleet", "32", "20"), ">= 100, 0 lost, 0 failed", (), 2, "10000"),
    Benchmark("version", "`gml --version`", "s", (READ, "command", "--version"), "< 0.15", (MLFLOW, "version"), 5),
    Benchmark("import", "`import gml`", "s", (READ, "import"), "< 0.1", (MLFLOW, "import"), 5),
    Benchmark("memory", "memory added by logging 10 million metric points", "MB", (GML, "memory", "10000000"), "< 100", (), 1),
    Benchmark("ls", "`gml ls` in a repository of 100,000 runs, cold process", "s", (READ, "command", "ls"), "< 0.4", (), 5, "100000"),
    Benchmark("show", "`gml show @`, the same", "s", (READ, "command", "show"), "< 0.4", (), 5, "100000"),
    Benchmark("short", "`gml show` by the short id of an old run, the same", "s", (READ, "short"), "< 0.4", (), 5, "100000"),
    Benchmark("query", "two predicates + sort + top 100 at 100,000 runs, warm, library call", "ms", (READ, "query"), "<= 15", (MLFLOW, "query"), 3, "100000"),
    Benchmark("records", "latest 1,000 complete records at 100,000 runs", "ms", (READ, "records"), "<= 100", (MLFLOW, "records"), 3, "100000"),
    Benchmark("cold-query", "`gml ls` with the query, cold process", "s", (READ, "command", "ls", "metrics.m1 > 0.99 and params.p0 = 'rf'", "--sort", "-metrics.m1", "-n", "100"), "<= 0.4", (), 5, "100000"),
    Benchmark("index", "index of 100,000 runs from nothing", "s", (READ, "build"), "<= 15", (), 2, "100000"),
    Benchmark("one-more", "one more run seen by the index, at 100,000 runs", "ms", (READ, "one_more"), "<= 5", (), 2, "100000"),
    Benchmark("one-more-1k", "the same at 1,000 runs", "ms", (READ, "one_more"), "<= 5", (), 2, "1000"),
    Benchmark("history", "1 million points of a metric as DataFrame", "s", (READ, "history", "1000000"), "<= 0.5", (), 2),
    Benchmark("curves", "`gml diff` of two runs with curves of 100,000 points, cold process", "s", (READ, "curves", "100000"), "<= 0.5", (), 2),
)  # fmt: skip


def run_script(python: str, arguments: tuple[str, ...], cwd: Path) -> float:
    """Run a script in a directory and return the number in its last line."""
    environ = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "HOME": str(cwd), "PYTHONWARNINGS": "ignore"}
    environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    done = subprocess.run(
        [python, str(HERE / "scripts" / arguments[0]), *arguments[1:]],
        cwd=cwd, env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr[-3000:]}")
    return float(done.stdout.split()[-1])


def measure(python: str, arguments: tuple[str, ...], repeat: int, place: Callable[[], Path]) -> float:
    """Return the median of several fresh processes."""
    return statistics.median(run_script(python, arguments, place()) for _ in range(repeat))


def has_mlflow(python: str) -> bool:
    """Whether this interpreter can import MLflow, without importing it."""
    test = "import importlib.util, sys; sys.exit(importlib.util.find_spec('mlflow') is None)"
    return subprocess.run([python, "-c", test], check=False).returncode == 0


def main() -> None:
    """Parse the command line, run what was asked for, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], help="names of benchmarks")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has mlflow")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    parser.add_argument("--keep", type=Path, help="keep generated repositories here for the next time")
    options = parser.parse_args()
    unknown = set(options.only) - {b.name for b in BENCHMARKS}
    if unknown:
        parser.error(f"unknown benchmarks: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="gml-bench-") as scratch:
        table(options, Path(scratch))


def table(options: argparse.Namespace, scratch: Path) -> None:
    """Run the benchmarks and print their table as they go."""
    peer = has_mlflow(options.peer_python)
    store = options.keep or scratch
    store.mkdir(parents=True, exist_ok=True)
    lines = [
        f"{machine()}; gml {version(sys.executable, 'gml')}"
        + (
            f", MLflow {version(options.peer_python, 'mlflow')} on SQLite."
            if peer
            else ", MLflow not installed."
        ),
        "",
        "| what | gml | MLflow | times better | aim |",
        "|---|---:|---:|---:|---|",
    ]
    print("\n".join(lines), flush=True)
    count = 0

    def fresh() -> Path:
        nonlocal count
        count += 1
        path = scratch / f"fresh-{count}"
        subprocess.run(["git", "init", "-q", str(path)], check=True)
        return path

    for bench in BENCHMARKS:
        if options.only and bench.name not in options.only:
            continue
        place = fresh if bench.repository is None else prepared(bench.repository, store)
        ours = measure(sys.executable, bench.ours, bench.repeat, place)
        theirs = None
        if peer and bench.theirs:
            where = (
                fresh
                if bench.repository is None
                else prepared_peer(bench.repository, store, options.peer_python)
            )
            theirs = measure(options.peer_python, bench.theirs, max(1, bench.repeat - 2), where)
        row = f"| {bench.what} | {show(ours, bench.unit)} | {show(theirs, bench.unit)} | {ratio(ours, theirs, bench.unit)} | {bench.aim} |"
        print(row, flush=True)
        lines.append(row)
    if options.write:
        write(lines)


def prepared(size: str, store: Path) -> Callable[[], Path]:
    """Return where a repository of so many runs is, generated on first use."""

    def place() -> Path:
        path = store / f"gml-{size}"
        if not path.exists():
            building = store / f"building-{size}"
            shutil.rmtree(building, ignore_errors=True)
            subprocess.run(["git", "init", "-q", str(building)], check=True)
            run_script(sys.executable, ("generate.py", size), building)
            building.rename(path)
        return path

    return place


def prepared_peer(size: str, store: Path, python: str) -> Callable[[], Path]:
    """Return where MLflow's database of the same data is, generated on first use."""

    def place() -> Path:
        path = store / f"mlflow-{size}"
        if not path.exists():
            building = store / f"building-mlflow-{size}"
            shutil.rmtree(building, ignore_errors=True)
            building.mkdir()
            run_script(python, (MLFLOW, "generate", size), building)
            building.rename(path)
        return path

    return place


def show(value: float | None, unit: str) -> str:
    """Return a figure for people."""
    if value is None:
        return "–"
    number = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{number} {unit}"


def ratio(ours: float, theirs: float | None, unit: str) -> str:
    """Return how many times better ours is."""
    if theirs is None:
        return "–"
    times = ours / theirs if unit.endswith("/s") else theirs / ours
    return f"{times:,.0f}" if times >= 10 else f"{times:.1f}"


def machine() -> str:
    """Return the machine's name for the table."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return f"{os.cpu_count()} cores of {model}, {platform.system()}, Python {platform.python_version()}"


def version(python: str, package: str) -> str:
    """Return a package's version in an interpreter."""
    name = {"gml": "gitml"}.get(package, package)
    script = f"import importlib.metadata as m; print(m.version({name!r}))"
    return subprocess.run([python, "-c", script], capture_output=True, text=True, check=True).stdout.strip()


def write(lines: list[str]) -> None:
    """Replace the figures in docs/benchmarks.md."""
    text = DOCS.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCS.write_text(f"{before}{BEGIN}\n{chr(10).join(lines)}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
