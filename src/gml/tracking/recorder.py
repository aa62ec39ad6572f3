"""What a process does for a live run: append to its journal, checkpoint it, leave it.

Nothing here raises because of storage once the recorder exists; bad arguments raise at once.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

from gml import fs
from gml.domain.errors import GmlError, InvalidValueError
from gml.domain.names import (
    MAX_PARAM_VALUE,
    MAX_STEP,
    MAX_TAG_VALUE,
    TAG_LOST,
    TAG_RUN_NAME,
    check_integer,
    check_key,
    check_metric_value,
    check_run_name,
    check_value,
)
from gml.tracking.capture.keys import is_number
from gml.tracking.journal import session as journal
from gml.tracking.journal.appender import CLOSED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from gml.tracking.journal.fold import SessionFold
    from gml.workspace import Workspace

log = logging.getLogger("gml")

SYNC_EVERY: Final = 1.0


def now_ms() -> int:
    """Return milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def process_facts(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return what a process file says about its writer."""
    facts: dict[str, Any] = {"pid": os.getpid(), "host": os.uname().nodename if hasattr(os, "uname") else ""}
    for name in ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK"):
        if environ.get(name, "").isdigit():
            facts["rank"] = int(environ[name])
            break
    return facts


class Recorder:
    """This process's hand on a live run.

    Args:
        run_id: the run.
        membership: its journal, joined.
        workspace: opens the repository; called only when something beyond the journal is needed.
        owner: this process decides the run's status and commits it at the end.
        checkpoint: seconds between commits while the run goes on; 0 turns them off.
    """

    def __init__(
        self,
        run_id: str,
        membership: journal.Membership,
        workspace: Callable[[], Workspace],
        *,
        owner: bool,
        checkpoint: float = 0.0,
    ) -> None:
        self.run_id = run_id
        self.owner = owner
        self.open_workspace = workspace
        self.ended = False
        self.status: str | None = None
        self.end_time: int | None = None
        self._membership = membership
        self._own = membership.own
        self._prefixes: dict[str, bytes] = {}
        self._lock = threading.RLock()
        self._fold: SessionFold | None = None
        self._durable_name = False
        self._at_end: list[Callable[[], object]] = []
        self._after_end: list[Callable[[], object]] = []
        self._checkpoint = checkpoint
        self._next_checkpoint = time.monotonic() + checkpoint
        _KEEPER.add(self)

    @property
    def path(self) -> Path:
        """The run's journal directory."""
        return self._membership.path

    @property
    def header(self) -> dict[str, Any]:
        """What the session's first line says: experiment, name, user, start time."""
        return self._membership.shared.header

    @property
    def params(self) -> dict[str, str]:
        """Params known so far, those of other processes included as long as the run goes on."""
        self._membership.shared.refresh()
        return dict(self._membership.shared.params)

    @property
    def name(self) -> str:
        """The run's name, as the process that renamed it last said."""
        self._membership.shared.refresh()
        return self._membership.shared.name or str(self.header.get("name", ""))

    @property
    def guessed_params(self) -> dict[str, str]:
        """Params that were taken from the command line, also those that were logged since."""
        return dict(self._membership.shared.guesses)

    @property
    def unwritten(self) -> int:
        """Bytes that were logged and wait in memory because the disk is full or failing."""
        return self._own.unwritten + self._membership.shared.appender.unwritten

    # --- logging ------------------------------------------------------------------------------

    def metric(self, key: str, value: Any, step: Any, timestamp: int | None) -> None:
        """Append one metric point."""
        prefix = self._prefixes.get(key) or self._prefix(key)
        if value.__class__ is not float:
            value = check_metric_value(value, key)
        if step.__class__ is not int:
            step = 0 if step is None else check_integer(step, "step")
        elif not -MAX_STEP <= step <= MAX_STEP:
            check_integer(step, "step")
        if timestamp is None:
            timestamp = time.time_ns() // 1_000_000
        text = repr(value).encode() if value - value == 0.0 else _SPECIAL[repr(value)]
        body = b"%b%b,%d,%d]" % (prefix, text, timestamp, step)
        if not self._own.write(b"%08x %b\n" % (crc32(body), body)) and self._own.fd < 0:
            self._rejoin(b"%08x %b\n" % (crc32(body), body))

    def _prefix(self, key: Any) -> bytes:
        checked = check_key(key, "metric")
        prefix = b'["m",%b,' % json.dumps(checked).encode()
        if len(self._prefixes) < 100_000:
            self._prefixes[checked] = prefix
        return prefix

    def metrics(self, values: Mapping[str, Any], step: Any, timestamp: int | None) -> None:
        """Append several points in one write; nothing is logged when one is bad."""
        step = 0 if step is None else check_integer(step, "step")
        stamp = now_ms() if timestamp is None else check_timestamp(timestamp)
        lines = []
        for key, raw in _pairs(values, "metrics"):
            value = check_metric_value(raw, key)
            text = repr(value).encode() if value - value == 0.0 else _SPECIAL[repr(value)]
            body = b"%b%b,%d,%d]" % (self._prefixes.get(key) or self._prefix(key), text, stamp, step)
            lines.append(b"%08x %b\n" % (crc32(body), body))
        data = b"".join(lines)
        if data and not self._own.write(data) and self._own.fd < 0:
            self._rejoin(data)

    def points(self, points: Iterable[tuple[str, float, int, int]]) -> None:
        """Append points of many metrics in one write; nothing is logged when one is bad.

        Args:
            points: key, value, timestamp and step each.
        """
        lines = []
        for key, value, timestamp, step in points:
            number = check_metric_value(value, key)
            text = repr(number).encode() if number - number == 0.0 else _SPECIAL[repr(number)]
            body = b"%b%b,%d,%d]" % (
                self._prefixes.get(key) or self._prefix(key), text, check_timestamp(timestamp),
                check_integer(step, "step"),
            )  # fmt: skip
            lines.append(b"%08x %b\n" % (crc32(body), body))
        data = b"".join(lines)
        if data and not self._own.write(data) and self._own.fd < 0:
            self._rejoin(data)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Append params; all or none.

        Raises:
            ConflictError: one has another value already.
            InvalidValueError: a key or value is not legal.
        """
        known = self._membership.shared.params
        checked = {}
        for name, value in _pairs(params, "params"):
            key, text = check_key(name, "param"), check_value(value, "param", MAX_PARAM_VALUE)
            old = known.get(key)
            checked[key] = old if old is not None and _mean_the_same(old, text) else text
        self._append([], params=checked)

    def guess_params(self, params: Mapping[str, str]) -> None:
        """Append params that nobody has logged; a value that somebody logs later counts instead.

        Raises:
            InvalidValueError: a key or value is not legal.
        """
        self._append(
            [["P", check_key(key, "param"), check_value(value, "param", MAX_PARAM_VALUE)]
             for key, value in params.items()]
        )  # fmt: skip

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Append tags; a later value replaces an earlier one. `mlflow.runName` renames the run."""
        events = []
        for key, value in _pairs(tags, "tags"):
            text = check_value(value, "tag", MAX_TAG_VALUE)
            if check_key(key, "tag") == TAG_RUN_NAME:
                events.append(["set", "name", check_run_name(text)])
            else:
                events.append(["t", key, text])
        self._append(events)

    def delete_tag(self, key: str) -> None:
        """Append the removal of a tag."""
        self._append([["T", check_key(key, "tag")]])

    def append(self, *events: list[Any]) -> None:
        """Append other events of the journal format."""
        self._append(list(events))

    def _append(self, events: list[list[Any]], *, params: Mapping[str, str] | None = None) -> None:
        with self._lock:
            self._live().shared.append(events, params=params)

    def stage_dir(self) -> Path:
        """Directory for small files on their way into git."""
        return self._live().staged

    def system_metrics(self, values: Mapping[str, float]) -> None:
        """Append system metrics with the time since the run's start in seconds as step."""
        started = int(self.header.get("start_time", 0))
        self.metrics(values, max(0, (now_ms() - started) // 1000), None)

    # --- processes ----------------------------------------------------------------------------

    def _live(self) -> journal.Membership:
        if self._own.fd < 0:
            self._rejoin(b"")
        return self._membership

    def _rejoin(self, data: bytes) -> None:
        """Open files of our own after a fork, or after the run was ended in this process."""
        with self._lock:
            if self._own.fd < 0:
                params = self._membership.shared.params
                joined = journal.join(self.path.parent, self.run_id, process_facts(os.environ), params)
                if joined is None:
                    joined = self._resume(params)
                self._membership, self._own = joined, joined.own
                if not self.ended:
                    _KEEPER.add(self)
            if data:
                self._own.write(data)

    def _resume(self, params: Mapping[str, str]) -> journal.Membership:
        late = {"session": journal.new_session_id(), "role": journal.RESUME, "late": True}
        header = dict(self.header) | late
        return journal.create(self.path.parent, self.run_id, header, [], process_facts(os.environ), params)

    def forget(self) -> None:
        """After a fork, in the child: leave the parent's files to the parent."""
        self._lock = threading.RLock()
        self._fold = None
        self.owner = False
        with suppress(OSError):
            self._membership.close()

    # --- commits ------------------------------------------------------------------------------

    def tick(self) -> None:
        """Once a second: sync the journal, and commit a checkpoint when one is due."""
        if self.ended or self._own.fd < 0:
            return
        self._own.sync()
        self._membership.shared.appender.sync()
        if not self._durable_name:
            self._durable_name = True
            try:
                for directory in (self.path, self.path.parent):
                    fs.fsync_directory(directory)
            except OSError as error:
                log.warning("gml: cannot sync %s (%s)", self.path, error.strerror or error)
        if self.owner and self._checkpoint > 0 and time.monotonic() >= self._next_checkpoint:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Commit what was logged so far; trouble is logged and the journal stays."""
        self._next_checkpoint = time.monotonic() + self._checkpoint
        with self._lock:
            if not self.ended:
                self._commit(live=True)

    def on_end(self, callback: Callable[[], object]) -> None:
        """Call something when the run is left, while it can still be logged to."""
        self._at_end.append(callback)

    def after_end(self, callback: Callable[[], object]) -> None:
        """Call something when this process, the run's owner, has committed it; trouble there is a warning."""
        self._after_end.append(callback)

    def end(self, status: str | None, end_time: int | None = None, *, defer: bool = False) -> None:
        """Leave the run; its owner also sets the status and commits.

        Args:
            status: the run's final status, or None to leave it to others.
            end_time: milliseconds since the epoch; now by default.
            defer: leave the commit to a later call of `commit_sessions`.
        """
        callbacks, self._at_end = self._at_end, []
        for callback in callbacks:
            callback()
        with self._lock:
            if self.ended:
                return
            lost = self._own.given_up + self._membership.shared.appender.given_up
            if lost:
                self._append([["t", TAG_LOST, f"{lost} lines: the disk was full or failing"]])
            if status is not None and not self.header.get("late"):
                self.status, self.end_time = status, end_time or now_ms()
                self._append([["status", status, self.end_time]])
            self.ended = True
            _KEEPER.remove(self)
            # Whoever logs from now on, such as a thread that was not joined, opens a session of its own.
            own, self._own = self._own, CLOSED
            if own.fd < 0:  # a forked child that logged nothing has nothing to leave
                return
            self._membership.end()
            if self.owner and not defer:
                self._commit(live=False)
            elif not defer:
                # A batch makes its runs durable by committing them; here somebody else will, some time.
                own.sync(anyway=True)
                self._membership.shared.appender.sync(anyway=True)
            unwritten = own.unwritten + self._membership.shared.appender.unwritten
            if unwritten or lost:
                log.warning(
                    "gml: run %s: %d bytes and %d lines before them could not be written and are lost",
                    self.run_id, unwritten, lost,
                )  # fmt: skip
            self._membership.close()
        later, self._after_end = self._after_end, []
        for callback in later:
            try:
                callback()
            except Exception as error:  # noqa: BLE001 - training never dies of tracking
                log.warning("gml: after run %s: %s", self.run_id, error)

    def _commit(self, *, live: bool) -> None:
        try:
            # Here, as the disk may fail, or the package be upgraded, between the import and this moment.
            from gml.tracking.commit import commit_sessions, sealer
            from gml.tracking.journal.fold import SessionFold

            workspace = self.open_workspace()
            if self._fold is None:
                self._fold = SessionFold(self.path, sealer(workspace), self._membership.session)
            commit_sessions(workspace, self._fold, own_live=live, others=not live)
        except Exception as error:  # noqa: BLE001 - training never dies of tracking
            self._fold = None
            log.warning(
                "gml: run %s is not in the ledger yet (%s); it is kept in %s and `gml recover` commits it",
                self.run_id,
                error,
                self.path,
            )


_SPECIAL: Final = {"nan": b'"NaN"', "inf": b'"Infinity"', "-inf": b'"-Infinity"'}


def check_timestamp(value: Any) -> int:
    """Return a timestamp in milliseconds since the epoch.

    Raises:
        InvalidValueError: not an integer, or negative.
    """
    number = check_integer(value, "timestamp")
    if number < 0:
        raise InvalidValueError(f"timestamp {number} is negative", hint="use milliseconds since the epoch")
    return number


def _mean_the_same(one: str, other: str) -> bool:
    """Whether two texts are one number or truth value, as in `--lr 1e-3` and `args.lr`."""
    if one.lower() == other.lower() and one.lower() in {"true", "false"}:
        return True
    return is_number(one) and is_number(other) and float(one) == float(other)


def _pairs(values: Mapping[str, Any], what: str) -> Iterable[tuple[str, Any]]:
    if not hasattr(values, "items"):
        raise InvalidValueError(f"{what} are a dict of names and values, not {type(values).__name__}")
    return values.items()


class _Keeper:
    """The one background thread: syncs journals every second and commits checkpoints."""

    def __init__(self) -> None:
        self._recorders: weakref.WeakSet[Recorder] = weakref.WeakSet()
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._lock = threading.Lock()

    def add(self, recorder: Recorder) -> None:
        with self._lock:
            self._recorders.add(recorder)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="gml-journal", daemon=True)
                self._thread.start()

    def remove(self, recorder: Recorder) -> None:
        with self._lock:
            self._recorders.discard(recorder)

    def _run(self) -> None:
        while not self._wake.wait(SYNC_EVERY):
            with self._lock:
                current = list(self._recorders)
            for recorder in current:
                try:
                    recorder.tick()
                except (OSError, GmlError) as error:
                    log.warning("gml: run %s: %s", recorder.run_id, error)

    def after_fork(self) -> None:
        recorders = list(self._recorders)
        self.__init__()  # type: ignore[misc]
        for recorder in recorders:
            recorder.forget()


_KEEPER: Final = _Keeper()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_KEEPER.after_fork)
