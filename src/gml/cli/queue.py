"""`gml queue`: commands that run one after the other on this machine."""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING

import click

from gml.cli.common import json_option, open_workspace
from gml.cli.output import ago, duration, emit_json, table
from gml.domain.errors import UsageError

if TYPE_CHECKING:
    from gml.projects.queue import Job, JobQueue

NUMBERS = click.argument("numbers", nargs=-1, required=True, type=int, metavar="JOB...")


@click.group("queue")
def queue_command() -> None:
    """Let commands wait for their turn on this machine.

    \b
    Example:
      gml queue add "gml run . -P lr=0.1"
      gml queue work --gpus 0,1
    """


def _queue() -> JobQueue:
    from gml.projects.queue import JobQueue

    return JobQueue(open_workspace().state_dir / "queue")


@queue_command.command("add", context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND...")
def add_command(words: tuple[str, ...]) -> int:
    """Add a command: as words, or as one text with spaces. It will run in this directory.

    \b
    Example:
      gml queue add "gml run . -P lr=0.1"
      gml queue add -- gml log -x churn -- python train.py --lr 0.1
    """
    from pathlib import Path

    argv = list(words)
    if len(argv) == 1 and " " in argv[0]:
        try:
            argv = shlex.split(argv[0])
        except ValueError as error:
            raise UsageError(f"the command cannot be split into words: {error}") from None
    job = _queue().add(argv, Path.cwd())
    click.echo(job.number)
    return 0


@queue_command.command("ls")
@json_option
def ls_command(*, as_json: bool) -> int:
    """List the jobs, oldest first.

    \b
    Example:
      gml queue ls
    """
    jobs = _queue().jobs()
    if as_json:
        emit_json([_json(job) for job in jobs])
        return 0
    table(
        ["job", "state", "added", "took", "exit", "command"],
        [
            [str(job.number), job.state, ago(int(job.added * 1000)), _took(job),
             "" if job.exit_code is None else str(job.exit_code), shlex.join(job.argv)]
            for job in jobs
        ],
        right=["exit"],
    )  # fmt: skip
    return 0


def _took(job: Job) -> str:
    if job.started is None or job.ended is None:
        return ""
    return duration(int((job.ended - job.started) * 1000))


def _json(job: Job) -> dict[str, object]:
    def ms(seconds: float | None) -> int | None:
        return None if seconds is None else int(seconds * 1000)

    return {
        "job": job.number,
        "state": job.state,
        "command": list(job.argv),
        "cwd": job.cwd,
        "added": ms(job.added),
        "started": ms(job.started),
        "ended": ms(job.ended),
        "exit_code": job.exit_code,
        "attempts": job.attempts,
    }


@queue_command.command("work")
@click.option("-j", "--jobs", type=click.IntRange(1), metavar="N", help="How many run at once; 1 by default.")
@click.option(
    "--gpus", metavar="LIST", help="One at a time on each of these GPUs: sets CUDA_VISIBLE_DEVICES."
)
@click.option("--wait", is_flag=True, help="Wait for new jobs instead of ending when there are none.")
def work_command(jobs: int | None, gpus: str | None, *, wait: bool) -> int:
    """Run the jobs that wait, oldest first; exits with 1 if one of them failed.

    What a job prints goes to its log. Ctrl-C ends the jobs that run; they wait again, as they do when
    this process or the machine dies.

    \b
    Example:
      gml queue work
      gml queue work --gpus 0,1 --wait
    """
    from gml.projects.queue import FAILED, RUNNING, run_workers

    devices = [device.strip() for device in gpus.split(",") if device.strip()] if gpus is not None else []
    if gpus is not None and not devices:
        raise UsageError("--gpus names no GPU", hint="--gpus 0,1")
    if devices and jobs is not None and jobs != len(devices):
        raise UsageError(f"--jobs {jobs} and {len(devices)} GPUs do not go together", hint="leave --jobs out")
    queue = _queue()

    def told(job: Job) -> None:
        what = "begins" if job.state == RUNNING else f"{job.state} ({job.exit_code}) in {_took(job)}"
        click.echo(f"gml: job {job.number} {what}: {shlex.join(job.argv)}", err=True)

    slots = [{"CUDA_VISIBLE_DEVICES": device} for device in devices] or [{}] * (jobs or 1)
    ended, stopped = run_workers(queue, [{**os.environ, **slot} for slot in slots], told, wait=wait)
    if stopped:
        click.echo("gml: stopped; `gml queue work` goes on", err=True)
        return 130
    return 1 if any(job.state == FAILED for job in ended) else 0


@queue_command.command("log")
@click.argument("number", type=int, metavar="JOB")
def log_command(number: int) -> int:
    """Print what a job printed.

    \b
    Example:
      gml queue log 3
    """
    path = _queue().output(number)
    if path.is_file():
        with path.open("rb") as file:
            while data := file.read(1 << 16):
                sys.stdout.buffer.write(data)
    return 0


@queue_command.command("retry")
@NUMBERS
def retry_command(numbers: tuple[int, ...]) -> int:
    """Let jobs that ended wait again.

    \b
    Example:
      gml queue retry 3 4
    """
    queue = _queue()
    for number in numbers:
        queue.retry(number)
    return 0


@queue_command.command("rm")
@NUMBERS
def rm_command(numbers: tuple[int, ...]) -> int:
    """Remove jobs that do not run, and their output. Their runs stay.

    \b
    Example:
      gml queue rm 3
    """
    queue = _queue()
    for number in numbers:
        queue.remove(number)
    return 0
