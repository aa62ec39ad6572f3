"""Bodies of any size in bounded memory: from the event loop into a thread that reads, and back."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import anyio.to_thread

from gml.service.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import Request

CHUNK: Final = 1 << 20
_WAITING: Final = 8


class UploadReader:
    """The reading end of a request's body, for a thread."""

    def __init__(self) -> None:
        self._chunks: queue.Queue[bytes | None] = queue.Queue(_WAITING)
        self._rest = b""
        self._ended = False
        self.gone = threading.Event()

    def read(self, count: int = -1) -> bytes:
        """Return the next bytes, none at the end of the body.

        Raises:
            ServiceError: the client has left before the end.
        """
        while not self._ended and (count < 0 or len(self._rest) < count):
            chunk = self._chunks.get()
            if chunk is None:
                self._ended = True
            else:
                self._rest = self._rest + chunk if self._rest else chunk
                if count >= 0 and self._rest:
                    break
        if self.gone.is_set():
            raise ServiceError("The client has left in the middle of an upload", "CANCELLED")
        out = self._rest if count < 0 else self._rest[:count]
        self._rest = self._rest[len(out) :]
        return out

    def readable(self) -> bool:
        """Whether it can be read."""
        return True

    def put(self, chunk: bytes | None) -> None:
        """Add a part of the body, or None for its end; waits while the reader is behind."""
        while True:
            try:
                self._chunks.put(chunk, timeout=0.5)
            except queue.Full:
                if self.gone.is_set():
                    return
            else:
                return

    def offer(self, chunk: bytes) -> bool:
        """Add a part of the body unless the reader is behind."""
        try:
            self._chunks.put_nowait(chunk)
        except queue.Full:
            return False
        return True


async def upload(request: Request, take: Callable[[BinaryIO], Any]) -> Any:
    """Give the body of a request to a function that reads it as a file, and return what that returns.

    Raises:
        ServiceError: the client has left before the end; what was read is not to be kept.
    """
    from starlette.requests import ClientDisconnect

    reader = UploadReader()
    outcome: list[Any] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(take(reader))  # type: ignore[arg-type]
        except BaseException as error:  # noqa: BLE001 - raised again in the event loop
            failure.append(error)
        finally:
            done.set()
            reader.gone.set()

    done = threading.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.to_thread.run_sync, run)
        try:
            async for chunk in request.stream():
                if chunk and not done.is_set() and not reader.offer(chunk):
                    await anyio.to_thread.run_sync(reader.put, chunk)
        except ClientDisconnect:
            reader.gone.set()
        if not done.is_set():
            await anyio.to_thread.run_sync(reader.put, None)
        if reader.gone.is_set() and not done.is_set():
            reader.offer(b"")
    if failure:
        raise failure[0]
    return outcome[0]


async def chunks(file: BinaryIO, first: bytes = b"") -> AsyncIterator[bytes]:
    """Yield the content of a file, read in a thread; closes it."""
    try:
        if first:
            yield first
        while chunk := await anyio.to_thread.run_sync(file.read, CHUNK):
            yield chunk
    finally:
        file.close()
