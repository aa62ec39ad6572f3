"""Jobs wait, run once at a time, and are not lost when whoever works on them dies."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import contextmanager

import pytest

from gml.domain.errors import ConflictError, InvalidValueError, NotFoundError, StorageError
from gml.projects.queue import DONE, FAILED, RUNNING, WAITING, JobQueue, Worker


@pytest.fixture
def queue(tmp_path):
    return JobQueue(tmp_path / "queue")


def work(queue: JobQueue, **environ: str) -> list[tuple[int, str]]:
    said = []
    Worker(queue, {**os.environ, **environ}, lambda job: said.append((job.number, job.state))).work()
    return said


@contextmanager
def until(seconds: float = 30.0):
    end = time.monotonic() + seconds

    def wait(condition):
        while not condition():
            assert time.monotonic() < end, "it did not happen in time"
            time.sleep(0.02)

    yield wait


def test_jobs_run_in_order_and_say_how_they_ended(queue, tmp_path):
    queue.add(["sh", "-c", "pwd; echo $GPU"], tmp_path)
    queue.add(["sh", "-c", "exit 3"], tmp_path)
    queue.add(["sh", "-c", "kill -TERM $$"], tmp_path)
    queue.add(["/no/such/program"], tmp_path)
    assert work(queue, GPU="1") == [
        (1, RUNNING), (1, DONE), (2, RUNNING), (2, FAILED), (3, RUNNING), (3, FAILED), (4, RUNNING), (4, FAILED),
    ]  # fmt: skip
    assert [job.exit_code for job in queue.jobs()] == [0, 3, 143, 127]
    assert queue.output(1).read_text() == f"{tmp_path}\n1\n"
    assert "cannot run /no/such/program" in queue.output(4).read_text()
    assert work(queue) == []
    queue.retry(2)
    assert work(queue) == [(2, RUNNING), (2, FAILED)]
    assert queue.jobs()[1].attempts == 2


def test_numbers_are_not_given_twice(queue, tmp_path):
    assert [queue.add(["true"], tmp_path).number for _ in range(3)] == [1, 2, 3]
    for number in (3, 2, 1):
        queue.remove(number)
    assert queue.jobs() == []
    assert queue.add(["true"], tmp_path).number == 4


def test_what_makes_no_sense_is_refused(queue, tmp_path):
    for argv in ([], [""], ["a\0b"]):
        with pytest.raises(InvalidValueError, match="a job needs a command"):
            queue.add(argv, tmp_path)
    with pytest.raises(NotFoundError, match="there is no job 7"):
        queue.remove(7)
    queue.add(["true"], tmp_path)
    with pytest.raises(ConflictError, match="job 1 is waiting"):
        queue.retry(1)
    with queue.next_job() as taken:
        assert taken.job.number == 1
        with pytest.raises(ConflictError, match="job 1 is running"):
            queue.remove(1)
        with queue.next_job() as other:
            assert other is None
    assert [job.state for job in queue.jobs()] == [WAITING]
    (tmp_path / "queue/00000001.json").write_text('{"number": 1')
    with pytest.raises(StorageError, match="damaged"):
        queue.jobs()


def test_a_killed_worker_loses_no_job_and_its_command_is_not_run_twice_at_once(repo, start):
    repo.file("slow.py", "import time, sys, pathlib\npathlib.Path('began').open('a').write('x')\n"
              "while not pathlib.Path('go').exists(): time.sleep(0.02)\n")  # fmt: skip
    queue = JobQueue(repo.path / ".git/gml/queue")
    queue.add([sys.executable, "slow.py"], repo.path)
    worker = start("queue", "work")
    began = repo.path / "began"
    with until() as wait:
        wait(lambda: began.exists() and began.read_text())
        worker.kill()
        worker.communicate()
        # The command goes on without its worker, so nobody else takes the job.
        assert [job.state for job in queue.jobs()] == [RUNNING]
        assert work(queue) == []
        repo.file("go")
        wait(lambda: queue.jobs()[0].state == WAITING)
    assert work(queue) == [(1, RUNNING), (1, DONE)]
    assert began.read_text() == "xx"


def test_ctrl_c_ends_the_command_and_keeps_the_job(repo, start):
    repo.file("slow.py", "import time, pathlib\npathlib.Path('began').touch()\ntime.sleep(100)\n")
    queue = JobQueue(repo.path / ".git/gml/queue")
    queue.add([sys.executable, "slow.py"], repo.path)
    worker = start("queue", "work", "--gpus", "0,1")
    with until() as wait:
        wait((repo.path / "began").exists)
    worker.send_signal(signal.SIGINT)
    _, err = worker.communicate(timeout=60)
    assert worker.returncode == 130
    assert b"gml: stopped; `gml queue work` goes on" in err
    assert [(job.state, job.attempts) for job in queue.jobs()] == [(WAITING, 1)]


def test_the_commands(repo, gml):
    assert gml("queue", "ls", "--json").json == []
    assert gml("queue", "add", 'gml log -q -n "my run" -- python train.py').out == "1\n"
    assert gml("queue", "add", "--", "false").out == "2\n"
    done = gml("queue", "work", "--jobs", "2", code=1)
    assert "job 2 failed (1)" in done.err
    first, second = gml("queue", "ls", "--json").json
    assert first["command"] == ["gml", "log", "-q", "-n", "my run", "--", "python", "train.py"]
    assert (first["state"], first["exit_code"], first["attempts"]) == ("done", 0, 1)
    assert (second["state"], second["exit_code"]) == ("failed", 1)
    assert gml("queue", "log", "1").out == "training\n"
    assert gml("ls", "--json").json[0]["name"] == "my run"
    assert gml("queue", "ls").out.splitlines()[2].startswith("2\tfailed")
    gml("queue", "retry", "2")
    gml("queue", "rm", "1", "2")
    assert gml("queue", "ls", "--json").json == []
    for args, told in (
        (("add", "a 'b"), "cannot be split into words"),
        (("work", "--gpus", ","), "--gpus names no GPU; --gpus 0,1"),
        (("work", "--gpus", "0,1", "--jobs", "3"), "do not go together"),
        (("rm", "9"), "there is no job 9"),
    ):
        assert told in gml("queue", *args, code=None).err
