"""Slurm, through its commands: sbatch, squeue, scancel."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING, Final

from gml.domain.errors import InvalidValueError, NotFoundError, RemoteError
from gml.projects.backends.port import ENDED, RUNNING, WAITING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gml.projects.backends.port import Task

_OPTION: Final = re.compile(r"[a-z][a-z0-9-]*")
# What gml itself says to sbatch, and what would make sbatch's answer another one.
_OURS: Final = frozenset(
    {"job-name", "output", "error", "chdir", "export", "parsable", "wait", "wrap", "array", "test-only"}
)
_WAITING: Final = frozenset(
    {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "SUSPENDED"}
)
_PATIENCE: Final = 60


class SlurmBackend:
    """Jobs of `sbatch`.

    The options of a task are those of sbatch without their dashes, such as
    `{"partition": "gpu", "time": "01:00:00", "gres": "gpu:1"}`, and `setup`: shell lines that run before the
    command, such as `module load cuda`.

    Args:
        environ: environment variables; PATH finds the commands.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = dict(environ)

    def submit(self, task: Task) -> str:
        """See `Backend.submit`."""
        options = []
        for name, value in task.options.items():
            if name == "setup":
                continue
            if not _OPTION.fullmatch(str(name)) or name in _OURS:
                raise InvalidValueError(
                    f"{name!r} is no option that can be given to sbatch", hint="such as partition, time, gres"
                )
            if isinstance(value, bool):
                options += [f"--{name}"] if value else []
            elif isinstance(value, (str, int, float)):
                options.append(f"--{name}={value}")
            else:
                raise InvalidValueError(f"the option {name!r} of sbatch is a text or number")
        said = self._ask(
            ["sbatch", "--parsable", f"--job-name={task.name}", f"--output={_literal(task.output)}",
             f"--chdir={task.cwd}", "--export=ALL", *options],
            script(task), {**self._environ, **task.variables},
        )  # fmt: skip
        job = said.strip().splitlines()[-1].partition(";")[0] if said.strip() else ""
        if not job.isdigit():
            raise RemoteError(f"sbatch answered {said.strip()!r:.200} instead of the number of a job")
        return job

    def state(self, job: str) -> str:
        """See `Backend.state`."""
        try:
            said = self._ask(["squeue", "--noheader", "--format=%T", f"--jobs={job}"]).split()
        except RemoteError as error:
            # Some minutes after its end a job is forgotten.
            if "invalid job id" in str(error).lower():
                return ENDED
            raise
        if not said or not set(said) & (
            _WAITING | {"RUNNING", "COMPLETING", "STAGE_OUT", "SIGNALING", "RESIZING"}
        ):
            return ENDED
        return WAITING if set(said) <= _WAITING else RUNNING

    def cancel(self, job: str) -> None:
        """See `Backend.cancel`."""
        if self.state(job) != ENDED:
            self._ask(["scancel", job])

    def _ask(
        self, argv: Sequence[str], text: str | None = None, environ: Mapping[str, str] | None = None
    ) -> str:
        program = shutil.which(argv[0], path=self._environ.get("PATH", os.defpath))
        if program is None:
            raise NotFoundError(
                f"{argv[0]} was not found", hint="the slurm backend needs Slurm's commands on PATH"
            )
        try:
            done = subprocess.run(
                [program, *argv[1:]], input=text, env=dict(environ or self._environ), capture_output=True,
                text=True, timeout=_PATIENCE, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise RemoteError(
                f"{argv[0]} did not answer within {_PATIENCE} s", hint="is the controller up? try sinfo"
            ) from None
        except OSError as error:
            raise RemoteError(f"{argv[0]} cannot be run: {error.strerror}") from error
        if done.returncode:
            lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
            raise RemoteError(f"{argv[0]} refused: {lines[0] if lines else f'exit code {done.returncode}'}")
        return done.stdout


def script(task: Task) -> str:
    """Return the batch script of a task: the words of its command quoted, the setup as the user wrote it."""
    setup = task.options.get("setup", "")
    if isinstance(setup, (list, tuple)):
        setup = "\n".join(map(str, setup))
    lines = ["#!/bin/bash", "set -e", *([str(setup)] if setup else []), f"exec {shlex.join(task.argv)}"]
    return "\n".join(lines) + "\n"


def _literal(path: object) -> str:
    # sbatch replaces %j and the like in names of files.
    return str(path).replace("%", "%%")
