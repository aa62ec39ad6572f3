"""What gml does while training: each mode does its work and prints one figure."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import gml
from gml.tracking import active
from gml.workspace import Workspace


def metrics(count: int) -> float:
    with gml.start_run():
        gml.log_metric("loss", 0.0)
        begin = time.perf_counter()
        for step in range(count):
            gml.log_metric("loss", step * 0.5, step=step)
        return count / (time.perf_counter() - begin)


def one(number: int) -> None:
    with gml.start_run():
        gml.log_params({f"p{k}": k * number for k in range(10)})
        gml.log_metrics({f"m{k}": k * number * 0.1 for k in range(10)})


def single(count: int) -> float:
    one(0)
    begin = time.perf_counter()
    for number in range(count):
        one(number)
    return count / (time.perf_counter() - begin)


def one_more() -> float:
    """Return milliseconds for a run in a repository that has some, the median of 30."""
    import statistics

    one(0)
    times = []
    for number in range(30):
        begin = time.perf_counter()
        one(number)
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1000


def bulk(count: int) -> float:
    one(0)
    begin = time.perf_counter()
    with gml.batch():
        for number in range(count):
            one(number)
    return count / (time.perf_counter() - begin)


def fleet(processes: int, runs: int) -> float:
    """Start processes, let them begin together, and check afterwards that nothing is missing."""
    children = [
        subprocess.Popen(
            [sys.executable, __file__, "member", str(runs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(processes)
    ]
    for child in children:
        child.stdout.readline()
    begin = time.perf_counter()
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    made = [child.communicate()[0].split() for child in children]
    took = time.perf_counter() - begin
    if any(child.returncode for child in children):
        raise SystemExit("a process failed")
    ledger = Workspace.open().ledger.view()
    lost = [run_id for ids in made for run_id in ids if ledger.entry(run_id) is None]
    if lost or sum(map(len, made)) != processes * runs:
        raise SystemExit(f"{len(lost)} runs were lost")
    return processes * runs / took


def member(runs: int) -> None:
    one(0)
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(runs):
        one(number)
        print(active.last_id(), flush=True)


def resident() -> float:
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))


def memory(count: int) -> float:
    one(0)
    before = resident()
    with gml.start_run():
        for step in range(count):
            gml.log_metric("loss", step * 0.5, step=step)
    return resident() - before


if __name__ == "__main__":
    os.environ.setdefault("GML_CHECKPOINT", "600")
    mode, *numbers = sys.argv[1:]
    result = globals()[mode](*map(int, numbers))
    if result is not None:
        print(result)
