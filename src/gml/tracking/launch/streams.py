"""Passing a child's output through as it comes, and keeping a bounded copy of it."""

from __future__ import annotations

import os
import selectors
import sys
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HEAD_BYTES: Final = 5 * 1024 * 1024
TAIL_BYTES: Final = 5 * 1024 * 1024
READ_BYTES: Final = 1 << 16


class LogKeeper:
    """Keeps the first 5 MB of a stream on disk as it comes, and the last 5 MB in memory.

    Args:
        path: file that grows while the command runs, so that it outlives this process.
        head: bytes to keep from the beginning.
        tail: bytes to keep from the end.
    """

    def __init__(self, path: Path, head: int = HEAD_BYTES, tail: int = TAIL_BYTES) -> None:
        self.path = path
        self._room = head
        self._limit = tail
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self._dropped = 0
        self._file = None
        with suppress(OSError):
            path.parent.mkdir(exist_ok=True)
            self._file = path.open("wb", buffering=0)

    def write(self, data: bytes) -> None:
        """Take more of the stream; never raises because of the disk."""
        if self._room and self._file is not None:
            part, data = data[: self._room], data[self._room :]
            try:
                self._file.write(part)
            except OSError:
                self._file = None
            self._room -= len(part)
        if data:
            self._tail.append(data)
            self._tail_size += len(data)
            while self._tail_size - len(self._tail[0]) >= self._limit:
                gone = len(self._tail.popleft())
                self._tail_size -= gone
                self._dropped += gone

    def close(self) -> None:
        """Write what is still in memory behind a line that says how much was left out."""
        if self._file is None:
            return
        with suppress(OSError), self._file as file:
            if self._dropped:
                file.write(f"\n[gml: {self._dropped} bytes left out here]\n".encode())
            for part in self._tail:
                file.write(part)


class LineFeeder:
    """Cuts a stream into lines for the metric patterns."""

    def __init__(self, take: Callable[[str], None]) -> None:
        self._take = take
        self._rest = b""

    def write(self, data: bytes) -> None:
        """Take more of the stream."""
        # A progress bar goes back to the start of its line instead of beginning another one.
        *lines, self._rest = (self._rest + data).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            self._take(line.decode("utf-8", "replace"))
        if len(self._rest) > 1 << 20:
            self._rest = self._rest[-4096:]

    def close(self) -> None:
        """Take the last line, which had no end."""
        if self._rest:
            self._take(self._rest.decode("utf-8", "replace"))


class Relay:
    """One stream of the child: a pseudo-terminal where ours is a terminal, a pipe otherwise.

    So a script behaves as it does without gml: colours and progress bars on a terminal, plain text in
    a pipe.

    Args:
        target: file descriptor to pass the bytes on to.
        sinks: further takers of the bytes.
    """

    def __init__(self, target: int, sinks: list[LogKeeper | LineFeeder]) -> None:
        self.target: int | None = target
        self.sinks = sinks
        self.source, self.child_end = _open_terminal(target) if _is_terminal(target) else os.pipe()

    def pump(self) -> bool:
        """Pass on what is there; False at the end of the stream."""
        try:
            data = os.read(self.source, READ_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            # A pseudo-terminal says EIO when the last process that had it open is gone.
            return False
        if not data:
            return False
        self._pass_on(data)
        for sink in self.sinks:
            sink.write(data)
        return True

    def _pass_on(self, data: bytes) -> None:
        view = memoryview(data)
        while view and self.target is not None:
            try:
                view = view[os.write(self.target, view) :]
            except BlockingIOError:
                with selectors.DefaultSelector() as room:
                    room.register(self.target, selectors.EVENT_WRITE)
                    room.select(1.0)
            except OSError:
                # Whoever read our output has left; the training goes on and the log is kept.
                self.target = None

    def close_child_end(self) -> None:
        """Close the end that only the child needs."""
        os.close(self.child_end)

    def close(self) -> None:
        """End the stream for all takers."""
        os.close(self.source)
        for sink in self.sinks:
            sink.close()


def _is_terminal(fd: int) -> bool:
    try:
        return os.isatty(fd) and sys.platform != "win32"
    except OSError:
        return False


def same_terminal(one: int, two: int) -> bool:
    """Whether two file descriptors are the same terminal."""
    return _is_terminal(one) and _is_terminal(two) and os.ttyname(one) == os.ttyname(two)


def _open_terminal(like: int) -> tuple[int, int]:
    import pty
    import termios

    source, child_end = pty.openpty()
    with suppress(OSError, termios.error):
        settings = termios.tcgetattr(child_end)
        settings[1] &= ~termios.OPOST
        termios.tcsetattr(child_end, termios.TCSANOW, settings)
    copy_window_size(like, child_end)
    return source, child_end


def copy_window_size(source: int, target: int) -> None:
    """Give a pseudo-terminal the size of the real one."""
    import fcntl
    import termios

    with suppress(OSError):
        size = fcntl.ioctl(source, termios.TIOCGWINSZ, b"\0" * 8)
        fcntl.ioctl(target, termios.TIOCSWINSZ, size)


def drain(relays: list[Relay]) -> None:
    """Pass on what is left after the child has gone, without waiting for grandchildren that stay."""
    for relay in relays:
        os.set_blocking(relay.source, False)
        # Not `select`, which ends at descriptor 1,024.
        with selectors.DefaultSelector() as ready:
            ready.register(relay.source, selectors.EVENT_READ)
            while ready.select(0) and relay.pump():
                pass
