"""Running a command as a tracked run: exit code, output and signals pass through."""

from __future__ import annotations

import logging
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import GmlError, NotFoundError, StorageError, UsageError
from gml.domain.run import FAILED, FINISHED, KILLED
from gml.tracking.capture.argv import params_from_argv
from gml.tracking.capture.patterns import MetricPattern
from gml.tracking.capture.system import check_installed
from gml.tracking.launch.files import WatchedFiles, collect_artifacts
from gml.tracking.launch.streams import (
    LineFeeder,
    LogKeeper,
    Relay,
    copy_window_size,
    drain,
    same_terminal,
)
from gml.tracking.start import ENV_ACTIVE, ENV_JOURNAL, ENV_RUN_ID, NewRun, start_new

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from gml.tracking.recorder import Recorder
    from gml.workspace import Workspace

log = logging.getLogger("gml")

POLL_SECONDS: Final = 1.0
LOGS: Final = "logs"
NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126
_WARNINGS: Final = ("SIGUSR1", "SIGUSR2", "SIGCONT")
_FORWARDED: Final = ("SIGTERM", "SIGHUP", *_WARNINGS)


@dataclass(frozen=True, slots=True)
class Launch:
    """What `gml log` was asked to do.

    Attributes:
        command: the command as argv; never goes through a shell.
        new: name, experiment, tags and params of the run.
        argv_params: take the command's own arguments as params.
        artifacts: paths and globs to keep when it has ended.
        metrics_files: files it writes metrics to.
        params_files: files it writes params to.
        automatic_files: also look at the well-known file names.
        captures: patterns of metrics in its output.
        system: sample CPU, memory and GPU while it runs; seconds between samples, 0 for not.
        keep_output: keep stdout and stderr as artifacts.
        variables: environment variables for the command, besides those of the workspace.
    """

    command: Sequence[str]
    new: NewRun
    argv_params: bool = True
    artifacts: Sequence[str] = ()
    metrics_files: Sequence[str] = ()
    params_files: Sequence[str] = ()
    automatic_files: bool = True
    captures: Sequence[str] = ()
    system: float = 0.0
    keep_output: bool = True
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def cwd(self) -> Path:
        """Where the command runs."""
        return self.new.cwd or Path.cwd()

    @property
    def environ(self) -> dict[str, str]:
        """Environment variables that are set for the command, those of the workspace left out."""
        return {**({} if self.new.cwd is None else {"PWD": str(self.new.cwd)}), **self.variables}

    def options(self) -> dict[str, Any]:
        """Return what differs from the defaults, as the record keeps it: a rerun needs the same."""
        found = {
            "artifacts": list(self.artifacts),
            "metrics_files": list(self.metrics_files),
            "params_files": list(self.params_files),
            "captures": list(self.captures),
            "params": sorted(self.new.params),
            "argv_params": None if self.argv_params else False,
            "automatic_files": None if self.automatic_files else False,
            "keep_output": None if self.keep_output else False,
            "system": self.system or None,
        }
        return {key: value for key, value in found.items() if value not in (None, [])}


class CommandNotFoundError(NotFoundError):
    """The command to track does not exist."""

    exit_code = NOT_FOUND


class CommandNotExecutableError(UsageError):
    """The command to track cannot be executed."""

    exit_code = NOT_EXECUTABLE


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a tracked command ended.

    Attributes:
        run_id: its run.
        name: the run's name.
        status: FINISHED, FAILED or KILLED.
        exit_code: what to exit with: the command's own code, 128 + n when signal n ended it.
        seconds: how long it took.
    """

    run_id: str
    name: str
    status: str
    exit_code: int
    seconds: float


def run_command(workspace: Workspace, launch: Launch) -> Outcome:
    """Run a command as a tracked run and wait for it.

    Raises:
        CommandNotFoundError: there is no such command; nothing was recorded.
        GmlError: the run could not be started; the command was not run.
    """
    executable = _find(launch.command[0], {**workspace.environ, **launch.environ}, launch.cwd)
    patterns = [MetricPattern(text) for text in launch.captures]
    if launch.system > 0:
        check_installed()
    with ExitStack() as cleanup:
        signals = _Signals()
        # From here on: a scheduler may warn at any time. Whoever wants to stop a start still can.
        cleanup.enter_context(_handling(dict.fromkeys(_WARNINGS, signals.forward)))
        recorder = _start(workspace, launch)
        started = time.monotonic()
        watched = WatchedFiles(
            recorder, launch.cwd, launch.metrics_files, launch.params_files, automatic=launch.automatic_files
        )
        relays = _relays(recorder, launch, patterns)
        cleanup.enter_context(_handling(signals.handlers(relays)))
        try:
            child = _spawn(executable, launch, recorder, workspace, relays)
        except OSError as error:
            recorder.append(["set", "process", {"error": str(error)}])
            recorder.end(FAILED)
            raise CommandNotExecutableError(f"cannot run {launch.command[0]}: {error.strerror}") from error
        signals.begin(child)
        with _system_monitor(recorder, child.pid, launch.system):
            _wait(child, relays, watched)
    status, code = _judge(child.returncode, interrupted=signals.interrupted)
    name = recorder.name
    _finish(recorder, launch, watched, child.returncode, status)
    return Outcome(recorder.run_id, name, status, code, time.monotonic() - started)


def _find(program: str, environ: Mapping[str, str], cwd: Path) -> str:
    path = cwd / program
    found = shutil.which(path if os.sep in program else program, path=environ.get("PATH"))
    if found is not None:
        return found
    if path.exists() and os.sep in program:
        hint = f"chmod +x {program}" if path.is_file() else "it is a directory"
        raise CommandNotExecutableError(f"cannot run {program}: not executable", hint=hint)
    if path.is_file():
        runner = {".py": "python ", ".sh": "bash ", ".R": "Rscript "}.get(path.suffix, "./")
        raise CommandNotFoundError(
            f"command {program!r} was not found", hint=f"did you mean: {runner}{program}"
        )
    raise CommandNotFoundError(f"command {program!r} was not found", hint="check its name and PATH")


def _start(workspace: Workspace, launch: Launch) -> Recorder:
    from dataclasses import replace

    from gml.tracking.capture.environment import capture_environment
    from gml.tracking.capture.interpreter import interpreter_of

    argv = list(launch.command)
    environ = {**workspace.environ, **launch.environ}
    params = dict(params_from_argv(argv)) if launch.argv_params else {}
    try:
        python = interpreter_of(argv, environ, launch.cwd)
        environment: dict[str, Any] | None = capture_environment(
            environ, launch.cwd, python=python, cache_dir=workspace.state_dir / "cache" / "python"
        )
    except (GmlError, OSError, ValueError) as error:
        log.warning("gml: the environment could not be captured (%s)", error)
        environment = {}
    options = launch.options()
    new = replace(
        launch.new, guesses={**params, **launch.new.guesses}, command=argv, environment=environment,
        facts={**({"launch": options} if options else {}), **launch.new.facts},
        parent=launch.new.parent or workspace.environ.get(ENV_RUN_ID) or workspace.environ.get(ENV_ACTIVE),
    )  # fmt: skip
    return start_new(workspace, new)


def _relays(recorder: Recorder, launch: Launch, patterns: list[MetricPattern]) -> list[Relay]:
    def take(line: str) -> None:
        for pattern in patterns:
            for key, value, step in pattern.feed(line):
                try:
                    recorder.metric(key, value, step, None)
                except GmlError as error:
                    log.warning("gml: %s", error)

    relays = []
    streams = [("stdout.txt", 1), ("stderr.txt", 2)]
    if same_terminal(1, 2):
        # One stream, so that the lines of both stay in their order, as they do without gml.
        streams = streams[:1]
    for name, fd in streams:
        sinks: list[LogKeeper | LineFeeder] = []
        if launch.keep_output:
            sinks.append(LogKeeper(recorder.path / LOGS / name))
        if patterns:
            sinks.append(LineFeeder(take))
        relays.append(Relay(fd, sinks))
    return relays


def _spawn(
    executable: str, launch: Launch, recorder: Recorder, workspace: Workspace, relays: list[Relay]
) -> subprocess.Popen[bytes]:
    environ = {**workspace.environ, **launch.environ}
    environ[ENV_RUN_ID] = recorder.run_id
    environ[ENV_JOURNAL] = str(recorder.path.parent)
    environ.pop(ENV_ACTIVE, None)
    where = workspace.store.location
    environ["GML_REPO"] = str(where.worktree or where.git_dir)
    try:
        return subprocess.Popen(
            list(launch.command),
            executable=executable,
            cwd=launch.new.cwd,
            stdout=relays[0].child_end,
            stderr=relays[-1].child_end,
            env=environ,
            # On a terminal Ctrl-C reaches the command by itself. Elsewhere it has a group of its own, so that
            # a signal to ours arrives once, forwarded.
            process_group=None if _shares_terminal() else 0,
        )
    finally:
        for relay in relays:
            relay.close_child_end()


def _wait(child: subprocess.Popen[bytes], relays: list[Relay], watched: WatchedFiles) -> None:
    """Pass output on until the child has ended, looking at its files once a second."""
    with selectors.DefaultSelector() as selector, _child_alarm(child) as alarm:
        for relay in relays:
            selector.register(relay.source, selectors.EVENT_READ, relay)
        selector.register(alarm, selectors.EVENT_READ, None)
        next_poll = time.monotonic() + POLL_SECONDS
        while child.poll() is None:
            for key, _ in selector.select(max(0.0, next_poll - time.monotonic())):
                if key.data is None:
                    with suppress(OSError):
                        os.read(alarm, 512)
                elif not key.data.pump():
                    selector.unregister(key.data.source)
            if time.monotonic() >= next_poll:
                watched.poll()
                next_poll = time.monotonic() + POLL_SECONDS
    drain(relays)
    for relay in relays:
        relay.close()


@contextmanager
def _child_alarm(child: subprocess.Popen[bytes]) -> Iterator[int]:
    """Give a file descriptor that becomes readable when the child ends, so that nobody has to poll."""
    import threading

    reader, writer = os.pipe()

    def watch() -> None:
        child.wait()
        os.write(writer, b"x")

    thread = threading.Thread(target=watch, name="gml-child", daemon=True)
    thread.start()
    try:
        yield reader
    finally:
        thread.join()
        os.close(reader)
        os.close(writer)


class _Signals:
    """Signals for the child; those that come before there is one wait for it."""

    def __init__(self) -> None:
        self.child: subprocess.Popen[bytes] | None = None
        self.interrupted = False
        self._shared = _shares_terminal()
        self._waiting: list[int] = []

    def begin(self, child: subprocess.Popen[bytes]) -> None:
        """Give the child what came before it."""
        self.child = child
        while self._waiting:
            self._pass_on(self._waiting.pop(0))

    def forward(self, number: int, frame: object) -> None:
        """Pass a signal on."""
        del frame
        if number in {signal.SIGTERM, getattr(signal, "SIGHUP", None)}:
            self.interrupted = True
        self._pass_on(number)

    def interrupt(self, number: int, frame: object) -> None:
        """Pass Ctrl-C on, unless the child, in our process group, has had it as well."""
        del frame
        self.interrupted = True
        if self.child is None or not self._shared:
            self._pass_on(number)

    def handlers(self, relays: list[Relay]) -> Mapping[str, Callable[[int, object], None]]:
        """Return what to do with each signal."""

        def resize(number: int, frame: object) -> None:
            del frame
            for relay in relays:
                if relay.target is not None and os.isatty(relay.target):
                    copy_window_size(relay.target, relay.source)
            if self.child is not None:
                self._pass_on(number)

        forwarded = dict.fromkeys(_FORWARDED, self.forward)
        return forwarded | {"SIGINT": self.interrupt, "SIGQUIT": self.interrupt, "SIGWINCH": resize}

    def _pass_on(self, number: int) -> None:
        if self.child is None:
            self._waiting.append(number)
        elif self.child.returncode is None:
            self.child.send_signal(number)


@contextmanager
def _handling(handlers: Mapping[str, Callable[[int, object], None]]) -> Iterator[None]:
    """Handle signals, those that our starter wants ignored excepted."""
    before = {}
    for name, handler in handlers.items():
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old if old is not None else signal.SIG_DFL)


def _shares_terminal() -> bool:
    """Whether Ctrl-C on the terminal reached the child as well."""
    if sys.platform == "win32":
        return True
    try:
        fd = os.open("/dev/tty", os.O_RDONLY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(fd)


@contextmanager
def _system_monitor(recorder: Recorder, pid: int, interval: float) -> Iterator[None]:
    if interval <= 0:
        yield
        return
    from gml.tracking.capture.system import SystemMonitor

    with SystemMonitor(pid, interval, recorder.system_metrics):
        yield


def _judge(returncode: int, *, interrupted: bool) -> tuple[str, int]:
    """Return status and exit code: signals that ask a program to stop make it KILLED."""
    code = returncode if returncode >= 0 else 128 - returncode
    asked = {getattr(signal, name, None) for name in ("SIGINT", "SIGQUIT", "SIGTERM", "SIGHUP", "SIGKILL")}
    if interrupted or (returncode < 0 and -returncode in asked):
        return KILLED, code
    return (FINISHED if returncode == 0 else FAILED), code


def _finish(recorder: Recorder, launch: Launch, watched: WatchedFiles, returncode: int, status: str) -> None:
    from gml.tracking.capture.system import peak_usage

    try:
        watched.finish()
        collect_artifacts(recorder, launch.cwd, launch.artifacts)
        process: dict[str, Any] = {"exit_code": returncode}
        if returncode < 0:
            process = {"signal": signal.Signals(-returncode).name}
        usage = peak_usage(children=True)
        process["max_memory_bytes"] = int(usage["system/max_memory_bytes"])
        process["cpu_seconds"] = round(
            usage["system/cpu_user_seconds"] + usage["system/cpu_system_seconds"], 3
        )
        recorder.append(["set", "process", process])
    except (StorageError, OSError, ValueError) as error:
        log.warning("gml: %s", error)
    recorder.end(status)
