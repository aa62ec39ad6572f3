"""Measure the artifact store beside DVC, git-lfs, borg and the AWS command, and print one table.

    python benchmarks/artifacts.py --peers ~/peers/bin                 # everything, about an hour
    python benchmarks/artifacts.py --only put small --scale 0.1        # a trial
    python benchmarks/artifacts.py --peers ~/peers/bin --write         # into docs/benchmarks.md

`--peers` is the directory that has `dvc` and `aws`; `git lfs` and `borg` are looked for on PATH. A tool that
is not there is left out. Each figure is the median of fresh processes in fresh repositories.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "scripts"), str(HERE.parent / "tests" / "remotes"), str(HERE)]

import files  # noqa: E402
from latency import delaying  # noqa: E402
from remote_servers import KEY, SECRET, make_bucket, rclone_s3  # noqa: E402
from tools import Aws, Borg, Dvc, FailedError, Gml, Lfs, Tool, peak_memory  # noqa: E402

from run import machine  # noqa: E402

DOCS = HERE.parent / "docs" / "benchmarks.md"
BEGIN, END = "<!-- artifacts: begin -->", "<!-- artifacts: end -->"
LOCAL: tuple[type[Tool], ...] = (Gml, Dvc, Lfs, Borg)
COLUMNS = ("gml", "dvc", "git-lfs", "borg", "aws s3 cp")
_moments = itertools.count()


@dataclass
class Row:
    """A row of the table: cells by tool, and what they are compared with."""

    what: str
    aim: str
    cells: dict[str, str] = field(default_factory=dict)
    bound: str = "–"


@dataclass
class Bench:
    """What the rows need."""

    scratch: Path
    scale: float
    repeat: int
    peers: Path
    count: int = 0

    def size(self, count: float) -> int:
        """Return a size or a number of files, scaled."""
        return max(1, int(count * self.scale))

    def fresh(self, kind: type[Tool], endpoint: str = "") -> Tool:
        """Return a tool in a new folder."""
        self.count += 1
        return kind(self.scratch / f"{kind.__name__.lower()}-{self.count}", endpoint, self.peers)

    def has(self, kind: type[Tool]) -> bool:
        """Whether a tool is here."""
        program = {"gml": "gml", "dvc": "dvc", "git-lfs": "git-lfs", "borg": "borg", "aws s3 cp": "aws"}[
            kind.name
        ]
        return kind is Gml or shutil.which(program, path=f"{self.peers}:{os.environ['PATH']}") is not None

    def times(self, kind: type[Tool], work: Callable[[Tool], float], repeat: int | None = None) -> float:
        """Return the median of some work in fresh folders."""
        taken = []
        for _ in range(repeat or self.repeat):
            tool = self.fresh(kind)
            try:
                taken.append(work(tool))
            finally:
                shutil.rmtree(tool.place, ignore_errors=True)
        return statistics.median(taken)

    def each(self, row: Row, kinds: tuple[type[Tool], ...], work: Callable[[type[Tool]], str]) -> Row:
        """Fill a row; a tool that fails says so."""
        for kind in kinds:
            if self.has(kind):
                try:
                    row.cells[kind.name] = work(kind)
                except FailedError as error:
                    print(f"  {error}", file=sys.stderr)
                    row.cells[kind.name] = "fails"
        return row


def place(tool: Tool, source: Path, name: str) -> None:
    """Put a copy of a file or folder where a tool works; a link, where the tool would only read it."""
    target = tool.place / name
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)
        # Facts that the tool may remember must be old enough to be believed, and git tells times by seconds.
        moment = time.time() - 86_400 + 10 * next(_moments)
        os.utime(target, (moment, moment))


def hash_bound(path: Path) -> float:
    """Return the seconds that two SHA-256 of a file take at the same time, each on a core of its own."""
    began = time.perf_counter()
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(_hash, [path, path]))
    return time.perf_counter() - began


def _hash(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def put(bench: Bench) -> list[Row]:
    """One new file of random bytes, and the same back."""
    data = files.random_file(bench.scratch / "big.bin", bench.size(1e9))
    row = Row(
        f"put {mb(data)} of random bytes, cold process", "faster than all that hash; >= 0.7 of the bound"
    )
    back = Row("get it, verified", ">= 0.7 of reading and hashing")
    seconds: dict[str, float] = {}

    def store(kind: type[Tool]) -> str:
        def work(tool: Tool) -> float:
            place(tool, data, "big.bin")
            return tool.put("big.bin")

        seconds[kind.name] = bench.times(kind, work)
        return f"{seconds[kind.name]:.2f} s"

    def fetch(kind: type[Tool]) -> str:
        def work(tool: Tool) -> float:
            place(tool, data, "big.bin")
            tool.put("big.bin")
            return tool.get("big.bin")

        seconds[kind.name] = bench.times(kind, work)
        return f"{seconds[kind.name]:.2f} s"

    bench.each(row, LOCAL, store)
    bound = statistics.median(hash_bound(data) for _ in range(3))
    row.bound = f"{bound:.2f} s ({bound / seconds['gml']:.2f}): SHA-256 twice, on two cores"
    bench.each(back, LOCAL, fetch)
    began = time.perf_counter()
    _hash(data)
    bound = time.perf_counter() - began
    back.bound = f"{bound:.2f} s ({bound / seconds['gml']:.2f}): read and SHA-256"
    return [row, back]


def again(bench: Bench) -> list[Row]:
    """The same file again, as a library call."""
    from gml.cas.local import LocalStore

    data = files.random_file(bench.scratch / "again.bin", bench.size(1e9))
    os.utime(data, (time.time() - 60, time.time() - 60))
    time.sleep(2.5)  # the time of its last change must be older than what a file system's clock can hide
    store = LocalStore(bench.scratch / "again-store")
    store.put_file(data)
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        store.put_file(data)
        taken.append(time.perf_counter() - began)
    row = Row("put the same file again, library call (borg: cold process)", "<= 50 ms")
    row.cells["gml"] = f"{statistics.median(taken) * 1000:.1f} ms"

    def twice(tool: Tool) -> float:
        place(tool, data, "again.bin")
        tool.put("again.bin")
        return tool.put("again.bin")

    bench.each(row, (Borg,), lambda kind: f"{bench.times(kind, twice):.2f} s")
    return [row]


def small(bench: Bench) -> list[Row]:
    """Many small files."""
    count = bench.size(10_000)
    data = files.many_files(bench.scratch / "small-files", count, 2_000)

    def work(tool: Tool) -> float:
        place(tool, data, "small")
        return tool.put("small")

    row = Row(f"put {count:,} files of 2 KB, durable, cold process", "<= 0.8 s")
    return [bench.each(row, LOCAL, lambda kind: f"{bench.times(kind, work):.2f} s")]


def versions(bench: Bench, what: str, name: str, make: Callable[[Path, int], Path], count: int) -> list[Row]:
    """Several versions of a file, one put after the other."""
    row = Row(what, "stored within 1.15x of borg's, faster")

    def work(kind: type[Tool]) -> str:
        tool = bench.fresh(kind)
        try:
            taken = 0.0
            for step in range(count):
                made = make(bench.scratch / f"made-{name}", step)
                (tool.place / name).unlink(missing_ok=True)
                place(tool, made, name)
                made.unlink()
                taken += tool.put(name)
            return f"{taken:.1f} s, {tool.stored() / 1e6:,.0f} MB"
        finally:
            shutil.rmtree(tool.place, ignore_errors=True)

    return [bench.each(row, LOCAL, work)]


def checkpoints(bench: Bench) -> list[Row]:
    """Ten checkpoints that share most layers."""
    size = bench.size(5e8)
    what = f"10 checkpoints of {size / 1e6:,.0f} MB, 90 % of the layers frozen"
    return versions(bench, what, "model.bin", lambda path, step: files.checkpoint(path, size, step), 10)


def csv(bench: Bench) -> list[Row]:
    """A table, and the same with some rows more."""
    size = bench.size(1e9)
    what = f"CSV of {size / 1e6:,.0f} MB, then with 100 rows inserted"
    return versions(bench, what, "table.csv", lambda path, step: files.table(path, size, 100 * step), 2)


def parquet(bench: Bench) -> list[Row]:
    """A Parquet file, and the same with one row group more."""
    size = bench.size(5e8)
    what = f"Parquet of {size / 1e6:,.0f} MB in 10 row groups, then with one more"
    return versions(bench, what, "table.parquet", lambda path, step: files.parquet(path, size, 10 + step), 2)


def s3(bench: Bench, *, delay: float = 0.0) -> list[Row]:
    """Push and pull over S3 of a few large files and of many small ones."""
    rows = []
    large = bench.scratch / "s3-large"
    if not large.exists():
        large.mkdir()
        for number in range(4):
            files.random_file(large / f"{number}.bin", bench.size(5e8), number)
        files.many_files(bench.scratch / "s3-many", bench.size(5_000), 20_000)
    more = f", {delay * 1000:.0f} ms more latency" if delay else ""
    for folder in (large, bench.scratch / "s3-many"):
        count = len(list(folder.iterdir()))
        what = f"{count:,} files, {sum(path.stat().st_size for path in folder.iterdir()) / 1e6:,.0f} MB, S3 on loopback{more}"
        pushed, pulled = (
            Row(f"push {what}", ">= 0.9 of `aws s3 cp`"),
            Row(f"pull {what}", ">= 0.9 of `aws s3 cp`"),
        )
        for kind in (Gml, Dvc, Aws):
            if bench.has(kind):
                try:
                    taken = [s3_once(bench, kind, folder, delay) for _ in range(bench.repeat)]
                except FailedError as error:
                    print(f"  {error}", file=sys.stderr)
                    pushed.cells[kind.name] = pulled.cells[kind.name] = "fails"
                else:
                    pushed.cells[kind.name] = f"{statistics.median(push for push, _ in taken):.2f} s"
                    pulled.cells[kind.name] = f"{statistics.median(pull for _, pull in taken):.2f} s"
        rows += [pushed, pulled]
    return rows


def s3_once(bench: Bench, kind: type[Tool], folder: Path, delay: float) -> tuple[float, float]:
    """Return the seconds of a push and of a pull with a new server."""
    with ExitStack() as stack:
        served = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=bench.scratch))) / "s3"
        served.mkdir()
        endpoint = stack.enter_context(rclone_s3(served))
        make_bucket(endpoint, "bench")
        if delay:
            endpoint = stack.enter_context(delaying(endpoint, delay))
        tool = bench.fresh(kind, endpoint)
        stack.callback(shutil.rmtree, tool.place, ignore_errors=True)
        if isinstance(tool, Aws):
            return tool.push_folder(str(folder)), tool.pull_folder()
        place(tool, folder, "data")
        tool.put("data")
        return tool.push(), tool.pull()  # type: ignore[attr-defined]


def s3_slow(bench: Bench) -> list[Row]:
    """The same with 20 ms latency."""
    return s3(bench, delay=0.02)


def memory(bench: Bench) -> list[Row]:
    """Memory while a very large file is put."""
    size = bench.size(2e10)
    tool = bench.fresh(Gml)
    files.sparse(tool.place / "sparse.bin", size)
    row = Row(f"peak memory while putting {size / 1e9:,.0f} GB (sparse)", "< 200 MB")
    row.cells["gml"] = (
        f"{peak_memory(['gml', 'artifacts', 'put', '@', 'sparse.bin'], tool.place, tool.environ):,.0f} MB"
    )
    shutil.rmtree(tool.place)
    return [row]


ROWS: dict[str, Callable[[Bench], list[Row]]] = {
    "put": put, "again": again, "small": small, "checkpoints": checkpoints, "csv": csv, "parquet": parquet,
    "s3": s3, "s3-slow": s3_slow, "memory": memory,
}  # fmt: skip


def mb(path: Path) -> str:
    """Return the size of a file for people."""
    return f"{path.stat().st_size / 1e6:,.0f} MB"


def versions_of(bench: Bench) -> str:
    """Return the versions of the tools that are here."""
    import re
    import subprocess

    found = []
    for kind, argv in ((Gml, ["gml", "--version"]), (Dvc, ["dvc", "--version"]), (Lfs, ["git", "lfs", "version"]),
                       (Borg, ["borg", "--version"]), (Aws, ["aws", "--version"])):  # fmt: skip
        if bench.has(kind):
            path = f"{Path(sys.executable).parent}:{bench.peers}:{os.environ['PATH']}"
            environ = {**os.environ, "PATH": path if kind is Gml else f"{bench.peers}:{os.environ['PATH']}"}
            program = shutil.which(argv[0], path=environ["PATH"])
            text = subprocess.run(
                [str(program), *argv[1:]], env=environ, capture_output=True, text=True, check=False
            )
            match = re.search(r"\d+\.\d+(\.\d+)?", text.stdout + text.stderr)
            found.append(f"{kind.name} {match[0] if match else '?'}")
    return ", ".join(found)


def main() -> None:
    """Parse the command line, run what was asked for, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", default=[], choices=[*ROWS, []], help="rows: " + ", ".join(ROWS))
    parser.add_argument("--scale", type=float, default=1.0, help="share of the sizes, for a trial")
    parser.add_argument("--repeat", type=int, default=3, help="fresh processes for each figure")
    parser.add_argument(
        "--peers", type=Path, default=Path(sys.executable).parent, help="directory of dvc and aws"
    )
    parser.add_argument("--folder", type=Path, help="where to work; needs about 40 GB at full scale")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    options = parser.parse_args()
    os.environ.update(BENCH_KEY=KEY, BENCH_SECRET=SECRET)
    with tempfile.TemporaryDirectory(prefix="gml-bench-", dir=options.folder) as scratch:
        bench = Bench(Path(scratch), options.scale, options.repeat, options.peers.absolute())
        lines = [
            f"{machine()}; {versions_of(bench)}.", "",
            f"| what | {' | '.join(COLUMNS)} | bound (share of it) | aim |",
            f"|---|{'---:|' * len(COLUMNS)}---|---|",
        ]  # fmt: skip
        print("\n".join(lines), flush=True)
        for name, measure in ROWS.items():
            if options.only and name not in options.only:
                continue
            for row in measure(bench):
                cells = " | ".join(row.cells.get(column, "–") for column in COLUMNS)
                lines.append(f"| {row.what} | {cells} | {row.bound} | {row.aim} |")
                print(lines[-1], flush=True)
    if options.write:
        text = DOCS.read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        _, _, after = rest.partition(END)
        DOCS.write_text(f"{before}{BEGIN}\n{chr(10).join(lines)}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
