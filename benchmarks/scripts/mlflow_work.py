"""The same work with MLflow on SQLite: each mode prints one figure."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

QUERY = "metrics.m1 > 0.9 and params.p0 = 'rf'"


def open_mlflow():
    import logging

    import mlflow

    logging.disable(logging.WARNING)
    mlflow.set_tracking_uri(f"sqlite:///{Path.cwd()}/mlflow.db")
    mlflow.set_experiment("churn")
    return mlflow


def metrics(count: int) -> float:
    mlflow = open_mlflow()
    with mlflow.start_run():
        mlflow.log_metric("loss", 0.0)
        begin = time.perf_counter()
        for step in range(count):
            mlflow.log_metric("loss", step * 0.5, step=step)
        return count / (time.perf_counter() - begin)


def one(mlflow, number: int) -> None:
    with mlflow.start_run():
        mlflow.log_params({f"p{k}": k * number for k in range(10)})
        mlflow.log_metrics({f"m{k}": k * number * 0.1 for k in range(10)})


def runs(count: int) -> float:
    mlflow = open_mlflow()
    one(mlflow, 0)
    begin = time.perf_counter()
    for number in range(count):
        one(mlflow, number)
    return count / (time.perf_counter() - begin)


def version() -> float:
    begin = time.perf_counter()
    subprocess.run(
        [str(Path(sys.executable).parent / "mlflow"), "--version"], check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - begin


def import_() -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import mlflow"], check=True)
    return time.perf_counter() - begin


def generate(count: int) -> float:
    """Insert the runs of `generate.py` by SQL: through the API it would take hours."""
    import random
    import sqlite3

    open_mlflow()
    rnd = random.Random(1)
    connection = sqlite3.connect("mlflow.db")
    connection.execute("PRAGMA synchronous = OFF")
    (experiment,) = connection.execute(
        "SELECT experiment_id FROM experiments WHERE name = 'churn'"
    ).fetchone()
    start = 1_750_000_000_000
    for number in range(count):
        begun = start + number * 120_000
        run_id = f"{number:032x}"
        connection.execute(
            "INSERT INTO runs (run_uuid, name, source_type, user_id, status, start_time, end_time,"
            " lifecycle_stage, artifact_uri, experiment_id) VALUES (?,?,?,?,?,?,?,?,?,?)",
            (
                run_id,
                f"run-{number}",
                "LOCAL",
                "me",
                "FINISHED",
                begun,
                begun + 60_000,
                "active",
                "x",
                experiment,
            ),
        )
        connection.executemany(
            "INSERT INTO params (key, value, run_uuid) VALUES (?,?,?)",
            [
                (f"p{k}", str(rnd.random()) if k else rnd.choice(["rf", "xgb", "lgbm"]), run_id)
                for k in range(20)
            ],
        )
        connection.executemany(
            "INSERT INTO tags (key, value, run_uuid) VALUES (?,?,?)",
            [(f"t{k}", f"v{rnd.randrange(10)}", run_id) for k in range(5)],
        )
        rows = [(f"m{k}", rnd.random(), begun, run_id, 0, 100) for k in range(20)]
        for table in ("metrics", "latest_metrics"):
            connection.executemany(
                f"INSERT INTO {table} (key, value, timestamp, run_uuid, is_nan, step) VALUES (?,?,?,?,?,?)",
                rows,
            )
    # Without statistics SQLite chooses a plan that takes 22 s instead of half a second for the query.
    connection.execute("ANALYZE")
    connection.commit()
    return count


def timed(times: int, **arguments) -> float:
    mlflow = open_mlflow()
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("churn").experiment_id
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        client.search_runs([experiment], **arguments)
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken) * 1000


def query() -> float:
    return timed(5, filter_string=QUERY, order_by=["metrics.m1 DESC"], max_results=100)


def records() -> float:
    return timed(3, max_results=1000)


if __name__ == "__main__":
    mode, *numbers = sys.argv[1:]
    print(globals()["import_" if mode == "import" else mode](*map(int, numbers)))
