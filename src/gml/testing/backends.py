"""What every backend must do. Derive a test class and give it the fixture `backend`."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gml.projects.backends.port import ENDED, Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from gml.projects.backends.port import Backend

PATIENCE: Final = 60.0
WORDS: Final = (
    "plain",
    "two words",
    "quo'te",
    'dou"ble',
    "$HOME `id`",
    "a;b|c&d",
    "*?[",
    "tab\tnew\nline",
    "--x=%j",
    "é",
    "",
)


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that a scheduler does in its own time."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"it did not happen within {PATIENCE:g} s"
        time.sleep(0.05)


class BackendConformance:
    """Tests of a `Backend`; they need a fixture `backend`, and `options` where its tasks need some."""

    def test_a_task_runs_where_it_should_with_the_very_words(self, backend: Backend, tmp_path: Path) -> None:
        """Neither a shell nor the scheduler changes the command line, the directory or the variables."""
        place = tmp_path / "a place"
        place.mkdir()
        script = (
            "import json, os, sys\n"
            "json.dump([sys.argv[1:], os.getcwd(), os.environ['TOLD_BY_TEST']], open('told', 'w'))"
        )
        task = Task(
            "test",
            [sys.executable, "-c", script, *WORDS],
            place,
            tmp_path / "out.txt",
            {"TOLD_BY_TEST": "a b $c"},
        )
        job = backend.submit(task)
        until(lambda: backend.state(job) == ENDED)
        said = (place / "told").read_text("utf-8") if (place / "told").exists() else ""
        assert said, task.output.read_text("utf-8")
        words, cwd, variable = json.loads(said)
        assert words == list(WORDS)
        assert Path(cwd) == place.resolve()
        assert variable == "a b $c"

    def test_output_goes_to_the_file(self, backend: Backend, tmp_path: Path) -> None:
        """Both streams, also of a command that fails."""
        script = "import sys; print('to out', flush=True); sys.stderr.write('to err'); sys.exit(3)"
        task = Task("test", [sys.executable, "-c", script], tmp_path, tmp_path / "100%j.txt")
        job = backend.submit(task)
        until(lambda: backend.state(job) == ENDED)
        assert {"to out", "to err"} <= set(task.output.read_text("utf-8").splitlines())

    def test_a_task_that_is_cancelled_stops(self, backend: Backend, tmp_path: Path) -> None:
        """And cancelling it again is no error."""
        script = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(1000)"
        task = Task("test", [sys.executable, "-c", script], tmp_path, tmp_path / "out.txt")
        job = backend.submit(task)
        until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text("utf-8") != "")
        assert backend.state(job) != ENDED
        backend.cancel(job)
        until(lambda: backend.state(job) == ENDED)
        pid = int((tmp_path / "pid").read_text("utf-8"))
        until(lambda: not _alive(pid))
        backend.cancel(job)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie waits for a parent that has other things to do.
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text("utf-8", "replace").rpartition(")")[2].split()[0] != "Z"
