"""A TCP proxy that lets every byte wait, as a longer way would; run in a process of its own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)

    async def read() -> None:
        data = b"x"
        while data:
            try:
                data = await reader.read(1 << 20)
            except OSError:
                data = b""
            await waiting.put((time.monotonic() + delay, data))

    task = asyncio.create_task(read())
    try:
        while True:
            due, data = await waiting.get()
            rest = due - time.monotonic()
            if rest > 0:
                await asyncio.sleep(rest)
            if not data:
                break
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        pass
    finally:
        task.cancel()


async def _serve(host: str, port: int, delay: float) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            there, back = await asyncio.open_connection(host, port, limit=4 << 20)
            # Half of it on each way: together one round trip takes so much longer.
            await asyncio.gather(_pass_on(reader, back, delay / 2), _pass_on(there, writer, delay / 2))
            back.close()
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=4 << 20, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


@contextmanager
def delaying(endpoint: str, delay: float) -> Iterator[str]:
    """Run the proxy in front of an endpoint; gives the URL of the proxy."""
    target = urlsplit(endpoint)
    argv = [sys.executable, __file__, str(target.hostname), str(target.port), str(delay)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
