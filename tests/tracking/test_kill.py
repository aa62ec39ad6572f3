"""Acknowledged means kept: `kill -9` at any moment, also while a run ends and while it is recovered."""

from __future__ import annotations

import json

import kill_loop
import pytest

from gml.tracking.commit import commit_sessions
from gml.tracking.contents import open_artifact
from gml.tracking.journal.session import sweep
from gml.tracking.reader import Reader

# A process forks children that do one thing and are killed before their n-th operation on a file
# (open, lock, rename, remove, ...) until one gets to the end: every point in between is visited.
KILLED_EVERYWHERE = """
import json, os, signal, sys, warnings
import gml
from gml import fs
from gml.tracking.commit import commit_sessions
from gml.workspace import Workspace

EVENTS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.scandir", "fcntl.flock"}
what, times = sys.argv[1], int(sys.argv[2])

class Killer:
    def __init__(self):
        self.left = None
    def __call__(self, event, arguments):
        if self.left is not None and event in EVENTS:
            self.left -= 1
            if self.left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

killer = Killer()
sys.addaudithook(killer)

def run(number):
    with gml.start_run(run_name=f"run-{number}") as active:
        gml.log_params({"a": 1, "b": "two"})
        for step in range(150):
            gml.log_metric("loss", step / 7, step=step)
        gml.log_metric("one", number)
        gml.set_tag("number", number)
        gml.log_text(f"artifact of {number}", "out/file.txt")
        os.write(1, json.dumps([number, active.run_id]).encode() + b"\\n")
        if what == "end":
            killer.left = number
    killer.left = None

def begin(number):
    killer.left = number
    active = gml.start_run(run_name=f"run-{number}", tags={"a": "b"})
    killer.left = None
    os.write(1, json.dumps([number, active.run_id]).encode() + b"\\n")
    gml.end_run()

def recover(number):
    workspace = Workspace.open()
    killer.left = number
    commit_sessions(workspace)
    killer.left = None

def in_child(work, number):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work(number)
            code = 0
        finally:
            os._exit(code)
    status = os.waitpid(pid, 0)[1]
    assert status in (0, signal.SIGKILL), status
    return status == 0

# Imports once, here; forking beside the (idle) thread of the journal is what trainings do as well.
warnings.simplefilter("ignore", DeprecationWarning)
with gml.start_run(run_name="warm up"):
    gml.log_metrics({"loss": 1})
    for value in range(150):
        gml.log_metric("loss", value)
    gml.log_text("a", "a.txt")

fs.STALE_AFTER = 0.02
number, done = 0, False
if what in {"end", "start"}:
    while not done:
        done = in_child(run if what == "end" else begin, number)
        assert in_child(recover, 10_000)
        number += 1
else:
    # The second recovery is killed at the same distance, in what the first one left.
    def abandon(number):
        active = gml.start_run(run_name=f"run-{number}")
        gml.log_params({"a": 1, "b": "two"})
        for step in range(150):
            gml.log_metric("loss", step / 7, step=step)
        gml.log_metric("one", number)
        gml.set_tag("number", number)
        gml.log_text(f"artifact of {number}", "out/file.txt")
        os.write(1, json.dumps([number, active.run_id]).encode() + b"\\n")
        os.kill(os.getpid(), signal.SIGKILL)
    while not done:
        in_child(abandon, number)
        done = all([in_child(recover, number) for _ in range(times)])
        assert in_child(recover, 10_000)
        number += 1
print(json.dumps(["visited", number]))
"""


def check_runs(repo, lines: list[list]) -> None:
    reader = Reader(repo.workspace())
    assert not reader.live
    for number, run_id in lines:
        run = reader.run(run_id)
        assert (run.name, run.params, run.tags) == (
            f"run-{number}",
            {"a": "1", "b": "two"},
            {"number": str(number)},
        )
        steps, _, values = reader.history(run, "loss")
        assert list(steps) == list(range(150))
        assert [v * 7 for v in values] == pytest.approx(list(range(150)))
        assert list(reader.history(run, "one")[2]) == [number]
        with open_artifact(reader, run, "out/file.txt") as file:
            assert file.read() == f"artifact of {number}".encode()
        assert run.status in {"FINISHED", "KILLED"}
        assert run.end_time is not None


@pytest.mark.parametrize("what", ["end", "recover"])
def test_a_kill_before_any_file_operation_of_end_run_or_of_two_recoveries_loses_nothing(repo, what):
    said = repo.python(KILLED_EVERYWHERE, what, 2)
    *lines, visited = [json.loads(line) for line in said.splitlines()]
    assert visited[1] > 20
    assert [number for number, _ in lines] == list(range(visited[1]))
    commit_sessions(repo.workspace())
    check_runs(repo, lines)


def test_a_kill_before_any_file_operation_of_start_run_leaves_no_half_run(repo):
    said = repo.python(KILLED_EVERYWHERE, "start", 1)
    *lines, visited = [json.loads(line) for line in said.splitlines()]
    assert visited[1] > 10
    workspace = repo.workspace()
    sweep(workspace.journal_root)
    assert [p for p in workspace.journal_root.iterdir() if p.name != ".ranks"] == []
    reader = Reader(workspace)
    begun = [run for run in reader.runs() if run.name != "warm up"]
    assert reader.damaged == []
    assert {run_id for _, run_id in lines} <= {run.run_id for run in begun}
    assert all(run.name.startswith("run-") and run.source for run in begun)
    assert {run.status for run in begun} == {"FINISHED", "KILLED"}
    assert all(run.tags == {"a": "b"} for run in begun if run.status == "FINISHED")


def test_trainings_killed_at_random_moments_lose_nothing_that_was_acknowledged(repo):
    known = kill_loop.loop(repo.path, 15, seed=2)
    assert len(known.points) > 200
    assert known.params
    assert known.files
    assert kill_loop.lost(repo.path, known) == []
