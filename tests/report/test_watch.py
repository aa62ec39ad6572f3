"""`gml ls --watch` beside real trainings; the tests wait for what they expect, never for a time."""

import json
import os
import pty
import select
import signal
import subprocess
import sys

import pytest

from gml.tracking.reader import Reader
from gml.tracking.report.live import Follower

TRAINING = """
import sys, gml
run = None
for line in sys.stdin:
    word, *rest = line.split()
    if word == "start":
        run = gml.start_run(run_name=rest[0]); print(run.run_id, flush=True)
    elif word == "log":
        gml.log_metric(rest[0], float(rest[1]), step=int(rest[2])); print("ok", flush=True)
    elif word == "param":
        gml.log_param(rest[0], rest[1]); print("ok", flush=True)
    elif word == "end":
        gml.end_run(); print("ok", flush=True)
    elif word == "die":
        import os; os.kill(os.getpid(), 9)
"""


class Training:
    def __init__(self, repo):
        self.child = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", TRAINING], cwd=repo.path, env=repo.env(GML_CODE="none"),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def say(self, text):
        self.child.stdin.write(f"{text}\n")
        self.child.stdin.flush()
        return self.child.stdout.readline().strip()

    def close(self):
        if self.child.poll() is None:
            self.child.stdin.close()
        self.child.wait(timeout=60)
        self.child.stdout.close()


@pytest.fixture
def training(repo):
    made = []

    def make():
        made.append(Training(repo))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def watching(start):
    """Return a function that starts `gml ls --watch` and gives its lines."""
    made = []

    def make(*args):
        child = start("ls", *args)
        made.append(child)
        return child

    yield make
    for child in made:
        if child.poll() is None:
            child.kill()
        child.communicate(timeout=60)


def until(child, wanted):
    """Read lines until one satisfies, and return it."""
    for line in child.stdout:
        text = line.decode().rstrip("\n")
        if wanted(text):
            return text
    raise AssertionError(child.stderr.read().decode())


def leave(child):
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (0, b""), (out, err)


def test_a_line_per_change_in_a_pipe(training, watching):
    one = training()
    run_id = one.say("start forest")
    child = watching("--watch=0.05")
    assert "forest\tRUNNING" in until(child, lambda line: run_id[-8:] in line)
    one.say("log loss 0.5 1")
    assert "loss=0.5@1" in until(child, lambda line: "loss" in line)
    two = training()
    two.say("start boost")
    until(child, lambda line: "boost\tRUNNING" in line)
    two.say("log loss 0.25 7")
    line = until(child, lambda line: "loss" in line)
    assert "boost" in line
    assert line.endswith("loss=0.25@7")
    one.say("end")
    until(child, lambda line: "forest\tFINISHED" in line)
    two.child.stdin.write("die\n")
    two.child.stdin.flush()
    two.child.wait(timeout=60)
    until(child, lambda line: "boost\tKILLED" in line)
    leave(child)


def test_objects_and_conditions(training, watching):
    one, two = training(), training()
    one.say("start forest")
    run_id = two.say("start boost")
    child = watching("metrics.auc > 0.5", "--json", "--watch=0.05")
    one.say("log auc 0.25 1")
    two.say("log auc 0.75 2")
    found = json.loads(until(child, lambda line: True))
    assert found == {
        "run_id": run_id, "name": "boost", "status": "RUNNING",
        "metrics": {"auc": {"last": 0.75, "step": 2, "count": 1}},
    }  # fmt: skip
    leave(child)


def test_it_is_redrawn_on_a_terminal(training, repo, start):
    one = training()
    one.say("start forest")
    one.say("log loss 0.5 1")
    ours, theirs = pty.openpty()
    child = start("ls", "--watch", "0.05", streams={"stdout": theirs, "stderr": theirs, "stdin": theirs})
    os.close(theirs)
    seen = bytearray()

    def screen(wanted):
        while wanted not in seen:
            assert select.select([ours], [], [], 60)[0], bytes(seen)
            seen.extend(os.read(ours, 65536))

    screen(b"forest")
    screen(b"0.5")
    one.say("log loss 0.125 2")
    screen(b"0.125")
    one.say("end")
    screen(b"FINISHED")
    child.send_signal(signal.SIGINT)
    while True:
        try:
            if not os.read(ours, 65536):
                break
        except OSError:
            break
    assert child.wait(timeout=60) == 0
    os.close(ours)


@pytest.mark.parametrize("option", [["--csv"], ["--at", "today"], ["--deleted"], ["--sort", "name"]])
def test_what_does_not_go_together_is_refused(cli, option):
    assert "--watch goes with" in cli("ls", "--watch", *option, code=2).err


def test_a_look_reads_only_what_was_appended(training, repo, monkeypatch):
    one = training()
    run_id = one.say("start forest")
    one.say("param lr 1")
    for step in range(50):
        one.say(f"log loss {step} {step}")
    follower = Follower(Reader(repo.workspace()))
    (first,) = follower.look()
    assert (first.run.run_id, first.run.params, first.news) == (run_id, {"lr": "1"}, True)
    assert first.run.metrics["loss"].count == 50
    (second,) = follower.look()
    assert (second.changed, second.news) == (frozenset(), False)
    session = follower._reader.live[run_id]
    read = []
    add = session.fold.history.add
    monkeypatch.setattr(session.fold.history, "add", lambda *point: (read.append(point), add(*point)))
    one.say("log loss 9 50")
    (third,) = follower.look()
    assert third.changed == {"loss"}
    assert [(key, value, step) for key, value, _, step in read] == [("loss", 9.0, 50)]
    assert session.segments == []
    one.say("end")
    (last,) = follower.look()
    assert (last.run.status, last.run.live, last.news) == ("FINISHED", False, True)
    (still,) = follower.look()
    assert (still.run, still.news) == (last.run, False)


def test_a_run_that_is_resumed_is_followed_again(training, repo):
    one = training()
    run_id = one.say("start forest")
    one.say("log loss 1 1")
    follower = Follower(Reader(repo.workspace()))
    follower.look()
    one.say("end")
    (ended,) = follower.look()
    assert ended.run.status == "FINISHED"
    child = repo.start(
        "import gml, sys\nwith gml.start_run(run_id=sys.argv[1]):\n"
        " gml.log_metric('loss', 2, step=2)\n print('ready', flush=True)\n sys.stdin.read()",
        run_id,
    )
    # Its standard input is empty, so that it may have ended by the time we look: both are right.
    assert child.stdout.readline() == "ready\n"
    (again,) = follower.look()
    assert again.run.status in {"RUNNING", "FINISHED"}
    _, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    (done,) = follower.look()
    assert done.run.status == "FINISHED"
