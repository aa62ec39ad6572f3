"""Measures `gml import mlflow` on a store of many runs, made without MLflow.

    python benchmarks/mlflow_import.py                       # 10,000 runs, 1 M points, file store and SQLite
    python benchmarks/mlflow_import.py --runs 500 --peer /path/to/venv/bin/mlflow

With --peer MLflow's own `migrate-filestore` moves the same file store into SQLite, for comparison.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

KEYS = ("loss", "auc", "val/loss", "val/auc", "lr")


def runs(count, points):
    chance = random.Random(7)
    each = points // count // len(KEYS)
    for number in range(count):
        start = 1_700_000_000_000 + number * 60_000
        yield {
            "id": f"{chance.getrandbits(128):032x}",
            "start": start,
            "params": {f"p{i}": str(chance.random()) for i in range(10)},
            "metrics": {key: [(start + s * 100, chance.random(), s) for s in range(each)] for key in KEYS},
        }


def write_files(root, count, points):
    folder = root / "1"
    (folder / "tags").mkdir(parents=True)
    (folder / "meta.yaml").write_text(
        "artifact_location: mlruns/1\ncreation_time: 1700000000000\nexperiment_id: '1'\n"
        "last_update_time: 1700000000000\nlifecycle_stage: active\nname: bench\n"
    )
    for run in runs(count, points):
        path = folder / run["id"]
        for name in ("params", "metrics/val", "tags", "artifacts"):
            (path / name).mkdir(parents=True)
        (path / "meta.yaml").write_text(
            f"artifact_uri: {path}/artifacts\nend_time: {run['start'] + 50000}\nentry_point_name: ''\n"
            f"experiment_id: '1'\nlifecycle_stage: active\nrun_id: {run['id']}\nrun_name: run\nrun_uuid: {run['id']}\n"
            f"source_name: ''\nsource_type: 4\nsource_version: ''\nstart_time: {run['start']}\nstatus: 3\ntags: []\n"
            "user_id: ada\n"
        )
        for key, value in run["params"].items():
            (path / "params" / key).write_text(value)
        for key, value in (
            ("mlflow.user", "ada"),
            ("mlflow.runName", "run"),
            ("mlflow.source.type", "LOCAL"),
        ):
            (path / "tags" / key).write_text(value)
        for key, history in run["metrics"].items():
            (path / "metrics" / key).write_text("".join(f"{t} {v!r} {s}\n" for t, v, s in history))


def write_sqlite(file, count, points):
    db = sqlite3.connect(file)
    db.executescript("""
        CREATE TABLE experiments (experiment_id INTEGER PRIMARY KEY, name TEXT, artifact_location TEXT,
            lifecycle_stage TEXT, creation_time BIGINT, last_update_time BIGINT);
        CREATE TABLE experiment_tags (key TEXT, value TEXT, experiment_id INTEGER);
        CREATE TABLE runs (run_uuid TEXT PRIMARY KEY, name TEXT, user_id TEXT, status TEXT, start_time BIGINT,
            end_time BIGINT, lifecycle_stage TEXT, artifact_uri TEXT, experiment_id INTEGER);
        CREATE TABLE params (key TEXT, value TEXT, run_uuid TEXT);
        CREATE TABLE tags (key TEXT, value TEXT, run_uuid TEXT);
        CREATE TABLE metrics (key TEXT, value FLOAT, timestamp BIGINT, run_uuid TEXT, step BIGINT, is_nan BOOLEAN);
        INSERT INTO experiments VALUES (1, 'bench', '', 'active', 1700000000000, 1700000000000);
    """)
    for run in runs(count, points):
        key = run["id"]
        db.execute(
            "INSERT INTO runs VALUES (?, 'run', 'ada', 'FINISHED', ?, ?, 'active', '', 1)",
            (key, run["start"], run["start"] + 50_000),
        )
        db.executemany("INSERT INTO params VALUES (?, ?, ?)", [(k, v, key) for k, v in run["params"].items()])
        db.execute("INSERT INTO tags VALUES ('mlflow.user', 'ada', ?)", (key,))
        db.executemany(
            "INSERT INTO metrics VALUES (?, ?, ?, ?, ?, 0)",
            [(k, v, t, key, s) for k, history in run["metrics"].items() for t, v, s in history],
        )
    for table in ("params", "tags", "metrics"):
        db.execute(f"CREATE INDEX {table}_run ON {table} (run_uuid)")
    db.commit()
    db.close()


def measure(what, command, cwd):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    took = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{what:<34} {took:7.1f} s   {cpu:7.1f} s CPU   exit {done.returncode}")
    if done.returncode:
        print(done.stderr[-2000:])
    return {"what": what, "seconds": round(took, 2), "cpu": round(cpu, 2), "exit": done.returncode}


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--runs", type=int, default=10_000)
    ask.add_argument("--points", type=int, default=None, help="in all; 100 a run by default")
    ask.add_argument("--peer", help="mlflow's command, to measure its migration of the file store")
    ask.add_argument("--json", type=Path)
    given = ask.parse_args()
    points = given.points or 100 * given.runs
    gml = Path(sys.executable).with_name("gml")
    found = []
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        write_files(place / "mlruns", given.runs, points)
        write_sqlite(place / "mlflow.db", given.runs, points)
        print(f"{given.runs} runs, {points} points")
        for what, source in (("files", "mlruns"), ("sqlite", "sqlite:///mlflow.db")):
            repo = place / f"repo-{what}"
            subprocess.run(["git", "init", "-q", str(repo)], check=True)
            command = [str(gml), "-C", str(repo), "import", "mlflow", source]
            found.append(measure(f"gml import mlflow, {what}", command, place))
            found.append(measure("  again, nothing new", command, place))
            size = sum(f.stat().st_size for f in (repo / ".git").rglob("*") if f.is_file())
            print(f"{'  repository':<34} {size / 1e6:7.1f} MB")
        if given.peer:
            os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
            command = [
                given.peer,
                "migrate-filestore",
                "--source",
                "mlruns",
                "--target",
                "sqlite:///moved.db",
            ]
            found.append(measure("mlflow migrate-filestore", command, place))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
