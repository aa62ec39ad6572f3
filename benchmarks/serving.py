"""Measure serving and models, beside MLflow where it is installed: the same model, the same requests, one run.

python benchmarks/serving.py --peer-python ~/mlflow-venv/bin/python --write     # everything; about ten minutes
python benchmarks/serving.py --only serve --seconds 3
python benchmarks/serving.py --rows 100000                                      # a smaller batch
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
import urllib.request
from pathlib import Path

TOP = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
CLIENTS = 16
PARTS = ["serve", "swap", "log", "batch"]
ONE_ROW = {"dataframe_split": {"columns": ["age", "calls"], "data": [[41.5, 3.0]]}}

TRAIN = """
import sys
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
generator = np.random.default_rng(1)
table = pd.DataFrame({"age": generator.uniform(18, 80, 500), "calls": generator.uniform(0, 9, 500)})
model = LogisticRegression().fit(table, table["age"] > 45)
"""
SAVE = {
    "gml": "import gml.sklearn\ngml.sklearn.save_model(model, sys.argv[1], input_example=table[:5])",
    "MLflow": "import mlflow\nmlflow.sklearn.save_model(model, sys.argv[1], input_example=table[:5])",
}
# A model of 100 MB that costs no time to train: a nearest-neighbour table.
LARGE = """
import sys, time
import numpy as np
from sklearn.neighbors import KNeighborsRegressor
data = np.random.default_rng(1).normal(size=(1_300_000, 9))
model = KNeighborsRegressor(algorithm="brute").fit(data, data[:, 0])
"""
LOG = {
    "gml": """
    import gml, gml.sklearn
    start = time.perf_counter()
    with gml.start_run():
        gml.sklearn.log_model(model, name="model", registered_model_name="large")
    print(time.perf_counter() - start)
    """,
    "MLflow": """
    import mlflow
    mlflow.set_tracking_uri("sqlite:///mlflow.db")
    mlflow.set_experiment("x")
    start = time.perf_counter()
    with mlflow.start_run():
        mlflow.sklearn.log_model(model, name="model", registered_model_name="large")
    print(time.perf_counter() - start)
    """,
}
LOAD = """
import hashlib, json, subprocess, time
import gml, gml.sklearn
import skops.io
from pathlib import Path
gml.load_model("models:/large/1")
start = time.perf_counter()
gml.load_model("models:/large/1")
ours = time.perf_counter() - start
subprocess.run(["gml", "artifacts", "get", "@", "model/model.skops", "-o", "."], check=True, stdout=subprocess.DEVNULL)
path = next(Path(".").rglob("model.skops"))
start = time.perf_counter()
data = path.read_bytes()
hashlib.sha256(data).hexdigest()
skops.io.loads(data, trusted=skops.io.get_untrusted_types(data=data))
print(json.dumps([ours, time.perf_counter() - start]))
"""
BATCH = """
import sys, time
import pandas as pd
import pyarrow.parquet as pq
import gml
model = gml.load_model(sys.argv[1])
start = time.perf_counter()
pd.DataFrame({"prediction": model.predict(pd.read_parquet("batch.parquet"))}).to_parquet("loop.parquet")
print(time.perf_counter() - start)
"""


def python(executable: str, text: str, *args: str, cwd: Path, env: dict[str, str]) -> str:
    done = subprocess.run(
        [executable, "-W", "ignore", "-c", textwrap.dedent(text), *args],
        cwd=cwd, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout.strip()


def environ(home: Path, executable: str) -> dict[str, str]:
    return {
        **os.environ, "HOME": str(home), "GIT_AUTHOR_NAME": "b", "GIT_AUTHOR_EMAIL": "b@example.org",
        "GIT_COMMITTER_NAME": "b", "GIT_COMMITTER_EMAIL": "b@example.org", "GIT_CONFIG_GLOBAL": os.devnull,
        "PATH": f"{Path(executable).parent}:{BIN}:{os.environ['PATH']}", "MLFLOW_DISABLE_TELEMETRY": "true",
    }  # fmt: skip


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Server:
    """A scoring server; knows how long it took until the first answer, and its workers' memory."""

    def __init__(self, command: list[str], cwd: Path, env: dict[str, str]) -> None:
        self.port = free_port()
        start = time.perf_counter()
        self.process = subprocess.Popen(
            [*command, "-p", str(self.port)], cwd=cwd, env=env, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        body = json.dumps(ONE_ROW).encode()
        while True:
            if self.process.poll() is not None:
                raise SystemExit(f"{command} ended with {self.process.returncode}")
            try:
                status, _ = asyncio.run(ask(self.port, body))
            except (OSError, asyncio.IncompleteReadError):
                time.sleep(0.005)
                continue
            if status == 200:
                break
        self.first = time.perf_counter() - start

    def memory(self) -> float:
        """Return the proportional memory of all of its processes, in MB."""
        import psutil

        top = psutil.Process(self.process.pid)
        return sum(one.memory_full_info().pss for one in [top, *top.children(recursive=True)]) / 1e6

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(30)


def request(body: bytes) -> bytes:
    head = f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(re.search(rb"(?i)content-length: *(\d+)", head).group(1))
    return int(head.split(b" ", 2)[1]), await reader.readexactly(length)


async def ask(port: int, body: bytes) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 26)
    try:
        writer.write(request(body))
        return await answer(reader)
    finally:
        writer.close()


async def load(port: int, body: bytes, seconds: float) -> tuple[float, float]:
    """Return requests a second and the 99th percentile in ms, of 16 clients that each wait for their answer."""
    text, times = request(body), []
    until = time.perf_counter() + seconds

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 26)
        while time.perf_counter() < until:
            start = time.perf_counter()
            writer.write(text)
            status, _ = await answer(reader)
            if status != 200:
                raise SystemExit(f"an answer was {status}")
            times.append(time.perf_counter() - start)
        writer.close()

    start = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    took = time.perf_counter() - start
    return len(times) / took, statistics.quantiles(times, n=100)[98] * 1e3


def measure_server(command: list[str], cwd: Path, env: dict[str, str], seconds: float, workers: int) -> dict:
    rows = [[18 + at % 60, at % 9 + 0.5] for at in range(1_000)]
    many = json.dumps({"dataframe_split": {"columns": ["age", "calls"], "data": rows}}).encode()
    one = json.dumps(ONE_ROW).encode()
    server = Server(command, cwd, env)
    try:
        asyncio.run(load(server.port, one, 0.5))
        rate, tail = asyncio.run(load(server.port, one, seconds))
        rate_many, tail_many = asyncio.run(load(server.port, many, seconds))
        memory = server.memory() / workers
    finally:
        server.stop()
    return {
        "first": server.first, "rate": rate, "tail": tail, "rate_many": rate_many, "tail_many": tail_many,
        "memory": memory,
    }  # fmt: skip


def serve(args: argparse.Namespace, folder: Path, home: Path) -> list[tuple[str, ...]]:
    found: dict[str, dict] = {}
    sides = {"gml": sys.executable, **({"MLflow": args.peer_python} if args.peer_python else {})}
    for side, executable in sides.items():
        env = environ(home, executable)
        python(executable, TRAIN + SAVE[side], str(folder / side), cwd=folder, env=env)
        name = {"gml": [str(BIN / "gml")], "MLflow": [executable, "-m", "mlflow"]}[side]
        more = {"gml": [], "MLflow": ["--env-manager", "local"]}[side]
        command = [*name, "models", "serve", "-m", str(folder / side), "--workers", str(args.workers), *more]
        found[side] = measure_server(command, folder, env, args.seconds, args.workers)
    ours, peer = found["gml"], found.get("MLflow")
    lines = (
        ("small sklearn model, 1 row of JSON, 16 clients", "rate", "requests/s", True, ">= 3 times"),
        ("the same, 99th percentile", "tail", "ms", False, "lower"),
        ("1,000 rows in `dataframe_split`, 16 clients", "rate_many", "requests/s", True, ">= 1.5 times"),
        ("the same, 99th percentile", "tail_many", "ms", False, "–"),
        ("from `serve` to the first answer", "first", "s", False, "<= 0.5 of it"),
        ("memory a worker (proportional)", "memory", "MB", False, "<= 0.5 of it"),
    )
    return [row(what, unit, ours[key], peer and peer[key], up, aim) for what, key, unit, up, aim in lines]


def row(what: str, unit: str, ours: float, peer: float | None, up: bool, aim: str) -> tuple[str, ...]:
    if peer is None:
        return what, f"{ours:,.3g} {unit}", "–", "–", aim
    better = ours / peer if up else peer / ours
    return what, f"{figure(ours)} {unit}", f"{figure(peer)} {unit}", f"{better:.2g}", aim


def figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def swap(args: argparse.Namespace, folder: Path, home: Path) -> list[tuple[str, ...]]:
    """Exchange the model while clients ask; count what was lost."""
    env = environ(home, sys.executable)
    for name in ("a", "b"):
        python(sys.executable, TRAIN + SAVE["gml"], str(folder / name), cwd=folder, env=env)
    link = folder / "current"
    link.symlink_to(folder / "a")
    command = [str(BIN / "gml"), "models", "serve", "-m", str(link), "--reload-on-promotion", "--poll", "0.1"]
    server = Server(command, folder, env)
    text = request(json.dumps(ONE_ROW).encode())
    answered, lost = 0, 0
    done = asyncio.Event()

    async def client() -> None:
        nonlocal answered, lost
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        while answered + lost < args.requests:
            try:
                writer.write(text)
                status, _ = await answer(reader)
            except (OSError, asyncio.IncompleteReadError):
                status = 0
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            answered, lost = answered + (status == 200), lost + (status != 200)
        writer.close()

    async def exchange() -> None:
        turn = 0
        while not done.is_set():
            turn += 1
            new = folder / "new"
            new.symlink_to(folder / "ab"[turn % 2])
            new.replace(link)
            await asyncio.sleep(0.5)

    async def both() -> None:
        changing = asyncio.create_task(exchange())
        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        done.set()
        await changing

    try:
        asyncio.run(both())
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as page:
            swaps = int(re.search(r"gml_model_swaps_total (\d+)", page.read().decode()).group(1))
    finally:
        server.stop()
    what = f"{answered + lost:,} requests while the model was exchanged {swaps} times"
    return [(what, f"{lost} lost", "–", "–", "0 lost")]


def log(args: argparse.Namespace, folder: Path, home: Path) -> list[tuple[str, ...]]:
    times: dict[str, float] = {}
    sides = {"gml": sys.executable, **({"MLflow": args.peer_python} if args.peer_python else {})}
    for side, executable in sides.items():
        place = folder / f"log-{side}"
        place.mkdir()
        env = environ(home, executable)
        subprocess.run(["git", "init", "-q", str(place)], check=True, env=env)
        said = python(executable, LARGE + textwrap.dedent(LOG[side]), cwd=place, env=env)
        times[side] = float(said.splitlines()[-1])
    rows = [
        row("log_model + register, 100 MB", "s", times["gml"], times.get("MLflow"), False, "<= 0.5 of it")
    ]
    said = python(sys.executable, LOAD, cwd=folder / "log-gml", env=environ(home, sys.executable))
    ours, bound = json.loads(said.splitlines()[-1])
    what = "load it again, verified (beside: skops's own load + sha256)"
    rows.append((what, f"{figure(ours)} s", f"{figure(bound)} s", f"{bound / ours:.2g}", "<= 1.1 of it"))
    return rows


def batch(args: argparse.Namespace, folder: Path, home: Path) -> list[tuple[str, ...]]:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    env = environ(home, sys.executable)
    model = folder / "batch-model"
    python(sys.executable, TRAIN + SAVE["gml"], str(model), cwd=folder, env=env)
    generator = np.random.default_rng(1)
    schema = pa.schema([("age", pa.float64()), ("calls", pa.float64())])
    with pq.ParquetWriter(folder / "batch.parquet", schema) as writer:
        for at in range(0, args.rows, 1_000_000):
            count = min(1_000_000, args.rows - at)
            columns = [generator.uniform(18, 80, count), generator.uniform(0, 9, count)]
            writer.write_table(pa.table(columns, schema=schema))
    command = [
        str(BIN / "gml"),
        "models",
        "predict",
        "-m",
        str(model),
        "-i",
        "batch.parquet",
        "-o",
        "out.parquet",
    ]
    start = time.perf_counter()
    peak = watched(command, folder, env)
    seconds = time.perf_counter() - start
    loop = float(python(sys.executable, BATCH, str(model), cwd=folder, env=env).splitlines()[-1])
    return [
        row(f"batch of {args.rows:,} rows of Parquet (beside: pandas, all at once)", "rows/s",
            args.rows / seconds, args.rows / loop, True, "stated"),
        (f"the same, largest memory (the file has {(folder / 'batch.parquet').stat().st_size / 1e6:.0f} MB)",
         f"{peak:.0f} MB", "–", "–", "bounded"),
    ]  # fmt: skip


def watched(command: list[str], cwd: Path, env: dict[str, str]) -> float:
    """Run a command and return its largest memory in MB."""
    process = subprocess.Popen(command, cwd=cwd, env=env, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command} ended with {status}")
    return usage.ru_maxrss / 1024


def write(rows: list[tuple[str, ...]]) -> None:
    path = TOP / "docs" / "benchmarks.md"
    text = path.read_text(encoding="utf-8")
    table = "| what | gml | beside it | times better | aim |\n|---|---:|---:|---:|---|"
    table += "".join(f"\n| {' | '.join(one)} |" for one in rows)
    begin, end = "<!-- serving: begin -->", "<!-- serving: end -->"
    text = re.sub(rf"{begin}.*?{end}", lambda _: f"{begin}\n{table}\n{end}", text, flags=re.DOTALL)
    path.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--peer-python", help="Python of an environment with MLflow and scikit-learn")
    parser.add_argument("--seconds", type=float, default=10.0, help="of load for each figure")
    parser.add_argument("--requests", type=int, default=10_000, help="while the model is exchanged")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    args = parser.parse_args()
    rows: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory(prefix="gml-serving-") as scratch:
        folder = Path(scratch)
        home = folder / "home"
        home.mkdir()
        for part in args.only:
            for line in {"serve": serve, "swap": swap, "log": log, "batch": batch}[part](args, folder, home):
                rows.append(line)
                print(" | ".join(line), flush=True)
    if args.write:
        write(rows)


if __name__ == "__main__":
    main()
