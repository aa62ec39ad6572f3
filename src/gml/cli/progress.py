"""How far a transfer is: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click

from gml.cli.output import size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gml.cas.exchange import Progress

_EVERY: Final = 10.0
"""Seconds between two lines in a log."""


class _Lines:
    """A line at the begin of a transfer that has something to do, and one every ten seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._what = ""
        self._files = self._size = self._done = self._arrived = 0
        self._next = 0.0

    def begin(self, what: str, files: int, total: int) -> None:
        with self._lock:
            self._what, self._files, self._size = what, files, total
            self._done = self._arrived = 0
            self._next = time.monotonic() + _EVERY
        if files:
            click.echo(f"gml: {what}: {files} files, {size(total)}", err=True)

    def advance(self, count: int) -> None:
        with self._lock:
            self._arrived += count
            self._say()

    def file_done(self) -> None:
        with self._lock:
            self._done += 1
            self._say()

    def _say(self) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _EVERY
        share = f"{100 * self._arrived // self._size} %" if self._size else ""
        done = f"{self._done} of {self._files} files, {size(self._arrived)} of {size(self._size)}"
        click.echo(f"gml: {self._what}: {done} {share}".rstrip(), err=True)


class _Bar:
    """A bar of rich with files, bytes, speed and the time that is left."""

    def __init__(self, progress: Any) -> None:
        self._progress = progress
        self._task: Any = None
        self._files = 0
        self._done = 0
        self._lock = threading.Lock()

    def begin(self, what: str, files: int, total: int) -> None:
        with self._lock:
            self._files, self._done = files, 0
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._task = self._progress.add_task(what, total=max(total, 1), files=f"0/{files} files")

    def advance(self, count: int) -> None:
        self._progress.update(self._task, advance=count)

    def file_done(self) -> None:
        with self._lock:
            self._done += 1
            self._progress.update(self._task, files=f"{self._done}/{self._files} files")


@contextmanager
def transfer_progress(*, quiet: bool = False) -> Iterator[Progress]:
    """Give what shows a transfer on standard error; nothing with `quiet`."""
    from gml.cas.exchange import Quiet

    if quiet:
        yield Quiet()
        return
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TextColumn("{task.fields[files]}"),
        TransferSpeedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield _Bar(progress)
