"""Measures `gml server` and the plug-in beside MLflow on SQLite, with MLflow's own client code.

    python benchmarks/server.py --peer /venv/with/mlflow/and/gml/bin/python            # 10,000 runs
    python benchmarks/server.py --peer ... --runs 500 --seconds 2                      # a small try
    python benchmarks/server.py --peer ... --update docs/benchmarks.md                 # write the table there
    python benchmarks/server.py --peer ... --postgres postgresql://user@host/db        # PostgreSQL too

The peer's environment has mlflow and gml (`pip install 'gitml[mlflow]'`).
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

TOKEN = "secret"
BEGIN, END = "<!-- server: begin -->\n", "<!-- server: end -->\n"
API = "/api/2.0/mlflow/"
CLIENT = """
import sys, time
from mlflow import MlflowClient
c = MlflowClient()
def go(n):
    for _ in range(n):
        r = c.create_run("0").info.run_id
        c.log_param(r, "a", 1); c.log_metric(r, "m", 0.5); c.set_terminated(r)
go(3)
end, n, start = time.perf_counter() + float(sys.argv[1]), 0, time.perf_counter()
while time.perf_counter() < end:
    go(5); n += 5
sys.__stderr__.write("\\nRATE %f\\n" % (n / (time.perf_counter() - start)))
"""


class Client:
    """Keeps one connection."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        self.headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}

    def post(self, path, **values):
        self.connection.request(
            "POST", path if path[0] == "/" else API + path, json.dumps(values), self.headers
        )
        answer = self.connection.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status} {data[:300]!r}")
        return json.loads(data)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


def memory(pid):
    """Return resident megabytes of a process and its children."""
    pids, total = [pid], 0
    for each in pids:
        with open(f"/proc/{each}/smaps_rollup") as file:
            total += next(int(line.split()[1]) for line in file if line.startswith("Pss:"))
        for task in Path(f"/proc/{each}/task").iterdir():
            pids += [int(child) for child in (task / "children").read_text().split()]
    return total / 1024


@contextmanager
def server(command, cwd):
    port = free_port()
    began = time.perf_counter()
    child = subprocess.Popen(
        [*command, "--port", str(port)], cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "GML_SERVER_TOKEN": TOKEN, "MLFLOW_DISABLE_TELEMETRY": "true"}, start_new_session=True,
    )  # fmt: skip
    try:
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    break
            except OSError:
                time.sleep(0.01)
        yield port, time.perf_counter() - began, child.pid
    finally:
        os.killpg(child.pid, 15)
        child.wait(60)


def batches(port, seconds, clients):
    """Return batches of 100 metrics a second of several clients, each with a run of its own."""
    counts, errors = [0] * clients, []
    end = time.perf_counter() + seconds

    def work(number):
        try:
            client = Client(port)
            run = client.post("runs/create", experiment_id="0", start_time=1)["run"]["info"]["run_id"]
            while time.perf_counter() < end:
                metrics = [
                    {"key": f"k{i}", "value": 0.5, "timestamp": 1, "step": counts[number]} for i in range(100)
                ]
                client.post("runs/log-batch", run_id=run, metrics=metrics)
                counts[number] += 1
            client.post("runs/update", run_id=run, status="FINISHED", end_time=2)
        except (OSError, RuntimeError, ValueError) as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return sum(counts) / (time.perf_counter() - start)


def searches(port, seconds, **query):
    """Return p50 and p99 in milliseconds of one search, asked again and again."""
    client, took = Client(port), []
    client.post("runs/search", **query)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(took) < 5:
        start = time.perf_counter()
        client.post("runs/search", **query)
        took.append((time.perf_counter() - start) * 1000)
    took.sort()
    return statistics.median(took), took[min(len(took) - 1, int(len(took) * 0.99))]


def store(place, count):
    """Write a file store of many runs; both sides import it, so that both have the same."""
    sys.path.insert(0, str(Path(__file__).parent))
    import mlflow_import

    mlflow_import.write_files(place / "mlruns", count, count * 10)
    return place / "mlruns"


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--peer", required=True, help="python of an environment with mlflow and gml")
    ask.add_argument("--runs", type=int, default=10_000)
    ask.add_argument("--seconds", type=float, default=10.0)
    ask.add_argument("--clients", type=int, default=16)
    ask.add_argument("--postgres", help="URI of an empty database, to measure MLflow on it too")
    ask.add_argument("--update", type=Path, help="page to write the table into")
    given = ask.parse_args()
    random.seed(7)
    rows = {}
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        files = store(place, given.runs)
        repo = place / "repo"
        subprocess.run(["git", "init", "-q", str(repo)], check=True)
        environ = {**os.environ, "MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}
        subprocess.run([given.peer, "-m", "gml", "-C", str(repo), "import", "mlflow", str(files)], check=True)
        subprocess.run(
            [given.peer, "-m", "mlflow", "migrate-filestore", "--source", str(place), "--target",
             f"sqlite:///{place}/mlflow.db", "--no-progress"], check=True, env=environ, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        sides = {"gml": ([given.peer, "-m", "gml", "-C", str(repo), "server"], f"gml://{repo}")}
        uris = {"SQLite": f"sqlite:///{place}/mlflow.db"}
        if given.postgres:
            uris["PostgreSQL"] = given.postgres
        for label, uri in uris.items():
            command = [given.peer, "-m", "mlflow", "server", "--backend-store-uri", uri, "--workers", "4"]
            sides[f"MLflow, {label}"] = (command, uri)
        for label, (command, uri) in sides.items():
            with server(command, place) as (port, started, pid):
                client = Client(port)
                found = client.post("experiments/search", max_results=10)["experiments"]
                experiment = next((e["experiment_id"] for e in found if e["name"] == "bench"), None)
                row = rows[label] = {"start, s": started}
                if experiment is not None:
                    filtered = searches(
                        port, given.seconds, experiment_ids=[experiment], max_results=100,
                        filter="metrics.auc > 0.5 and params.p1 != 'x'", order_by=["metrics.auc DESC"],
                    )  # fmt: skip
                    first = searches(
                        port, given.seconds, experiment_ids=[experiment], max_results=100,
                        order_by=["attributes.start_time DESC"],
                    )  # fmt: skip
                    row |= {"filtered search, p50 ms": filtered[0], "filtered search, p99 ms": filtered[1]}
                    row |= {
                        "runs table of the UI, p50 ms": first[0],
                        "runs table of the UI, p99 ms": first[1],
                    }
                row[f"log-batch of 100 metrics, {given.clients} clients, batches/s"] = batches(
                    port, given.seconds, given.clients
                )
                row["memory, MB"] = memory(pid)
            done = subprocess.run(
                [given.peer, "-c", CLIENT, str(given.seconds)], env={**environ, "MLFLOW_TRACKING_URI": uri},
                cwd=place, capture_output=True, text=True, check=False,
            )  # fmt: skip
            rate = next((line for line in done.stderr.splitlines() if line.startswith("RATE")), None)
            if rate is None:
                raise RuntimeError(done.stderr[-2000:])
            row["in process: create, log, end, runs/s"] = float(rate.split()[1])
            print(label, {key: round(value, 2) for key, value in row.items()}, flush=True)
    names = list(rows)
    lines = [f"| {given.runs:,} runs | {' | '.join(names)} |", f"|---|{'---:|' * len(names)}"]
    for key in rows["gml"]:
        cells = [f"{rows[name][key]:,.1f}" if key in rows[name] else "-" for name in names]
        lines.append(f"| {key} | {' | '.join(cells)} |")
    table = "\n".join(lines) + "\n"
    print(table)
    if given.update:
        text = given.update.read_text()
        before, _, rest = text.partition(BEGIN)
        _, _, after = rest.partition(END)
        if not rest:
            before, after = text.rstrip() + "\n\n", ""
        given.update.write_text(before + BEGIN + table + END + after)


if __name__ == "__main__":
    main()
