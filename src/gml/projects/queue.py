"""A queue of commands for one machine: files that any process may work off.

A job is one JSON file that is only ever replaced whole. Whoever works on it holds the lock of a file beside
it, and so does the command itself: a job that says it is running while nobody holds its lock was interrupted,
and is taken again. Where only the worker died, its command goes on, and the job is not begun twice at once.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gml.domain.errors import ConflictError, InvalidValueError, NotFoundError, StorageError
from gml.fs import OPEN_FLAGS, locked, storage_error, try_lock, write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import FrameType

WAITING: Final = "waiting"
RUNNING: Final = "running"
DONE: Final = "done"
FAILED: Final = "failed"
ENDED: Final = (DONE, FAILED)
GRACE_SECONDS: Final = 10.0
_NOT_STARTED: Final = 127
_POLL: Final = 0.2


@dataclass(frozen=True, slots=True)
class Job:
    """A command that waits, runs, or has ended.

    Attributes:
        number: from 1, in the order in which jobs were added.
        argv: the command line; never goes through a shell.
        cwd: where it runs.
        state: `waiting`, `running`, `done` or `failed`.
        added: seconds since the epoch; as are `started` and `ended`.
        started: when it last began.
        ended: when it ended.
        exit_code: what it exited with, 128 + n where signal n ended it.
        attempts: how often it was begun.
    """

    number: int
    argv: tuple[str, ...]
    cwd: str
    state: str = WAITING
    added: float = 0.0
    started: float | None = None
    ended: float | None = None
    exit_code: int | None = None
    attempts: int = 0


class Taken(NamedTuple):
    """A job that is being worked on.

    Attributes:
        job: the job.
        lock: file descriptor of its lock, which its command inherits.
    """

    job: Job
    lock: int


class JobQueue:
    """The queue of a clone.

    Args:
        folder: where its files are; made when the first job is added.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, argv: Sequence[str], cwd: Path) -> Job:
        """Add a command at the end.

        Raises:
            InvalidValueError: it is empty, or has a zero byte.
            StorageError: it cannot be written.
        """
        if not argv or not argv[0] or any("\0" in word for word in argv):
            raise InvalidValueError("a job needs a command", hint="gml queue add -- python train.py --lr 0.1")
        with self._changing():
            number = max((job.number for job in self._jobs()), default=self._last_number()) + 1
            job = Job(number, tuple(argv), str(cwd), added=time.time())
            self._write(job)
            write_atomic(self._folder / "last", str(number).encode())
        return job

    def jobs(self) -> list[Job]:
        """Return all jobs, oldest first; one whose worker has died is waiting again.

        Raises:
            StorageError: a file cannot be read, or is damaged.
        """
        if not self._folder.is_dir():
            return []
        with self._changing():
            return self._jobs()

    def _jobs(self) -> list[Job]:
        found = [self._read(path) for path in self._folder.glob("*.json")]
        return sorted((self._as_it_is(job) for job in found), key=lambda job: job.number)

    def _get(self, number: int) -> Job:
        if not self._path(number).is_file():
            raise NotFoundError(f"there is no job {number}", hint="`gml queue ls` lists them")
        return self._as_it_is(self._read(self._path(number)))

    def remove(self, number: int) -> Job:
        """Remove a job that is not running, with its output.

        Raises:
            NotFoundError: there is none of this number.
            ConflictError: it is running.
        """
        with self._changing():
            job = self._get(number)
            if job.state == RUNNING:
                raise ConflictError(f"job {number} is running", hint="stop its worker first")
            for suffix in (".log", ".lock", ".json"):
                self._path(number).with_suffix(suffix).unlink(missing_ok=True)
        return job

    def retry(self, number: int) -> Job:
        """Let a job that has ended wait again.

        Raises:
            NotFoundError: there is none of this number.
            ConflictError: it has not ended.
        """
        with self._changing():
            job = self._get(number)
            if job.state not in ENDED:
                raise ConflictError(f"job {number} is {job.state}")
            again = replace(job, state=WAITING, started=None, ended=None, exit_code=None)
            self._write(again)
        return again

    def output(self, number: int) -> Path:
        """Return the file that has what a job printed; it may not exist yet.

        Raises:
            NotFoundError: there is no such job.
        """
        with self._changing():
            return self._path(self._get(number).number).with_suffix(".log")

    # --- working ------------------------------------------------------------------------------

    @contextmanager
    def next_job(self) -> Iterator[Taken | None]:
        """Give the oldest waiting job, which is running as long as the context is open; None without one.

        A job that is not ended when the context closes waits again.
        """
        fd = -1
        job = None
        with self._changing():
            for each in self._jobs():
                if each.state != WAITING:
                    continue
                fd = self._open_lock(each.number)
                if try_lock(fd):
                    job = replace(each, state=RUNNING, started=time.time(), attempts=each.attempts + 1)
                    self._write(job)
                    break
                os.close(fd)
        try:
            yield None if job is None else Taken(job, fd)
        finally:
            if job is not None:
                with self._changing():
                    if self._read(self._path(job.number)).state == RUNNING:
                        self._write(replace(job, state=WAITING, started=None))
                os.close(fd)

    def end(self, job: Job, exit_code: int) -> Job:
        """Record how a job ended."""
        ended = replace(job, state=FAILED if exit_code else DONE, ended=time.time(), exit_code=exit_code)
        with self._changing():
            self._write(ended)
        return ended

    # --- files --------------------------------------------------------------------------------

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:08}.json"

    def _changing(self) -> Any:
        return locked(self._folder / "lock")

    def _open_lock(self, number: int) -> int:
        path = self._path(number).with_suffix(".lock")
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | OPEN_FLAGS, 0o666)
        except OSError as error:
            raise storage_error(error, f"cannot lock {path}") from error

    def _as_it_is(self, job: Job) -> Job:
        if job.state != RUNNING:
            return job
        fd = self._open_lock(job.number)
        try:
            return replace(job, state=WAITING, started=None) if try_lock(fd) else job
        finally:
            os.close(fd)

    def _last_number(self) -> int:
        # Numbers of removed jobs are not given away again.
        try:
            return int((self._folder / "last").read_text("ascii"))
        except (OSError, ValueError):
            return 0

    def _write(self, job: Job) -> None:
        write_atomic(self._path(job.number), json.dumps(asdict(job), indent=1, sort_keys=True).encode())

    def _read(self, path: Path) -> Job:
        try:
            data = json.loads(path.read_bytes())
            return Job(**{**data, "argv": tuple(data["argv"])})
        except OSError as error:
            raise storage_error(error, f"cannot read {path}") from error
        except (ValueError, TypeError, KeyError) as error:
            raise StorageError(f"{path} is damaged", hint="remove the file; the job is lost") from error


class Worker:
    """Runs the jobs of a queue, one after the other.

    Args:
        queue: the queue.
        environ: environment variables of the jobs.
        told: called when a job begins and when it has ended.
    """

    def __init__(self, queue: JobQueue, environ: Mapping[str, str], told: Callable[[Job], None]) -> None:
        self._queue = queue
        self._environ = dict(environ)
        self._told = told
        self._child: subprocess.Popen[bytes] | None = None
        self._stopped_at: float | None = None

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Stop after the job that runs, which is asked to end and waits in the queue again."""
        self._stopped_at = self._stopped_at or time.monotonic()
        if self._child is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, number)

    @property
    def stopped(self) -> bool:
        """Whether it was asked to stop."""
        return self._stopped_at is not None

    def work(self, *, wait: bool = False) -> list[Job]:
        """Run jobs until none is waiting, or, with `wait`, until it is stopped; returns those that ended."""
        ended: list[Job] = []
        while not self.stopped:
            with self._queue.next_job() as taken:
                if taken is not None:
                    self._told(taken.job)
                    code = self._run(taken)
                    if not self.stopped:
                        ended.append(self._queue.end(taken.job, code))
                        self._told(ended[-1])
            if taken is None:
                if not wait:
                    break
                time.sleep(_POLL)
        return ended

    def _run(self, taken: Taken) -> int:
        job = taken.job
        with self._queue.output(job.number).open("ab") as output:
            try:
                # A group of its own: Ctrl-C reaches it through `stop`, once.
                child = subprocess.Popen(
                    list(job.argv), cwd=job.cwd, env=self._environ, start_new_session=True,
                    stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                    pass_fds=(taken.lock,),
                )  # fmt: skip
            except OSError as error:
                output.write(f"gml: cannot run {job.argv[0]}: {error.strerror}\n".encode())
                return _NOT_STARTED
            self._child = child
            while True:
                with suppress(subprocess.TimeoutExpired):
                    child.wait(_POLL)
                    break
                if self._stopped_at is not None and time.monotonic() - self._stopped_at > GRACE_SECONDS:
                    with suppress(ProcessLookupError):
                        os.killpg(child.pid, signal.SIGKILL)
            self._child = None
        return child.returncode if child.returncode >= 0 else 128 - child.returncode


def run_workers(
    queue: JobQueue, slots: Sequence[Mapping[str, str]], told: Callable[[Job], None], *, wait: bool
) -> tuple[list[Job], bool]:
    """Run jobs on several workers until none is waiting; SIGINT and SIGTERM stop them.

    Args:
        queue: the queue.
        slots: the environment variables of each worker.
        told: called when a job begins and when it has ended, from several threads.
        wait: wait for new jobs instead of returning when there are none.

    Returns:
        The jobs that ended, and whether the workers were stopped.

    Raises:
        GmlError: what the first worker that failed raised; the others went on.
    """
    workers = [Worker(queue, environ, told) for environ in slots]

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        for worker in workers:
            worker.stop(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with ThreadPoolExecutor(len(workers)) as pool:
            results = [pool.submit(worker.work, wait=wait) for worker in workers]
        ended = [job for result in results for job in result.result()]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return ended, any(worker.stopped for worker in workers)
