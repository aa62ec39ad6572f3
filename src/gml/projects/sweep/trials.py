"""One trial: a command as a run that is nested in the sweep's run."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gml.domain.run import FAILED, FINISHED, KILLED
from gml.tracking.capture.patterns import MetricPattern
from gml.tracking.reader import LiveSession
from gml.tracking.start import ENV_ACTIVE, ENV_JOURNAL, ENV_RUN_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from gml.tracking.recorder import Recorder
    from gml.workspace import Workspace

TAG_TRIAL: Final = "gml.sweep.trial"
TAG_STATE: Final = "gml.sweep.state"
PRUNED: Final = "pruned"
LOGS: Final = "logs"
GRACE_SECONDS: Final = 10.0
_MAX_OUTPUT: Final = 32 << 20


@dataclass(slots=True)
class Trial:
    """A trial that runs.

    Attributes:
        number: from 0.
        values: what was varied.
        recorder: of its run.
        child: its process.
        pruned: it was stopped for being worse than the others.
        stop_at: when it is killed, having been asked to end; None as long as it was not.
    """

    number: int
    values: dict[str, str]
    recorder: Recorder
    child: subprocess.Popen[bytes]
    pruned: bool = False
    stop_at: float | None = None

    @property
    def run_id(self) -> str:
        """Id of its run."""
        return self.recorder.run_id

    def stop(self) -> None:
        """Ask the process to end, and after a while make it."""
        now = time.monotonic()
        if self.stop_at is None:
            self.stop_at = now + GRACE_SECONDS
            _signal(self.child, signal.SIGTERM)
        elif now >= self.stop_at:
            _signal(self.child, signal.SIGKILL)


def spawn(
    workspace: Workspace,
    recorder: Recorder,
    argv: Sequence[str],
    cwd: Path,
    variables: Mapping[str, str],
    ended: Callable[[str], None],
) -> subprocess.Popen[bytes]:
    """Start the process of a trial; its output goes to files of its run.

    Args:
        workspace: the repository.
        recorder: the trial's run.
        argv: its command.
        cwd: where it runs.
        variables: environment variables to set.
        ended: called with the run's id, from another thread, when the process has ended.

    Raises:
        OSError: it cannot be started.
    """
    environ = {**workspace.environ, **variables}
    environ[ENV_RUN_ID] = environ["MLFLOW_RUN_ID"] = recorder.run_id
    environ[ENV_JOURNAL] = str(recorder.path.parent)
    environ.pop(ENV_ACTIVE, None)
    where = workspace.store.location
    environ["GML_REPO"] = str(where.worktree or where.git_dir)
    folder = recorder.path / LOGS
    folder.mkdir(exist_ok=True)
    with (folder / "stdout.txt").open("wb") as out, (folder / "stderr.txt").open("wb") as err:
        child = subprocess.Popen(
            list(argv),
            cwd=cwd,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            process_group=0,
        )

    def watch() -> None:
        child.wait()
        ended(recorder.run_id)

    threading.Thread(target=watch, name="gml-trial", daemon=True).start()
    return child


def take_output(recorder: Recorder, patterns: Sequence[str]) -> None:
    """Log the metrics that patterns find in a trial's output, which has ended."""
    if not patterns:
        return
    readers = [MetricPattern(text) for text in patterns]
    for name in ("stdout.txt", "stderr.txt"):
        with suppress(OSError), (recorder.path / LOGS / name).open("rb") as file:
            for line in file.read(_MAX_OUTPUT).decode("utf-8", "replace").splitlines():
                for reader in readers:
                    for key, value, step in reader.feed(line):
                        recorder.metric(key, value, step, None)


def metric_points(recorder: Recorder, metric: str) -> dict[int, float]:
    """Return what a trial has logged of a metric so far, by step."""
    document = LiveSession(recorder.path).document()
    found = {int(step): float(value) for step, _, value in document.get("history", {}).get(metric, ())}
    last = document.get("metrics", {}).get(metric)
    if last is not None:
        found[int(last["step"])] = float(last["last"])
    return found


def outcome(child: subprocess.Popen[bytes], *, stopped: bool) -> tuple[str, dict[str, Any]]:
    """Return status and process facts of a trial that has ended.

    Args:
        child: its process.
        stopped: it was asked to end. One that ends well all the same has finished.
    """
    code = child.returncode
    if code is not None and code < 0:
        asked = stopped or -code in {signal.SIGTERM, signal.SIGINT, signal.SIGKILL}
        return (KILLED if asked else FAILED), {"signal": signal.Signals(-code).name}
    return (FINISHED if code == 0 else KILLED if stopped else FAILED), {"exit_code": code}


def _signal(child: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)
