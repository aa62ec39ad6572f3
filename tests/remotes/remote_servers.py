"""Real servers on loopback for the tests of remotes, each a process of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY, SECRET = "a-long-access-key", "a-long-secret-key"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def rclone() -> str:
    found = shutil.which("rclone", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip("rclone is not installed")
    return found


@contextmanager
def running(argv: list[str], port: int, log: Path, **environ: str) -> Iterator[str]:
    """Start a server, wait until it accepts connections, stop it at the end; gives `host:port`."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
            env={**os.environ, **environ},
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{argv[0]} did not start: {log.read_text('utf-8', 'replace')}")
            time.sleep(0.02)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


@contextmanager
def rclone_s3(folder: Path) -> Iterator[str]:
    """Serve the folders below `folder` as buckets; gives the endpoint URL."""
    port = free_port()
    argv = [rclone(), "serve", "s3", "--auth-key", f"{KEY},{SECRET}", "--addr", f"127.0.0.1:{port}",
            "--config", os.devnull, "--vfs-cache-mode", "off", str(folder)]  # fmt: skip
    with running(argv, port, folder.with_name(f"{folder.name}-s3.log"), HOME=str(folder.parent)) as address:
        yield f"http://{address}"


@contextmanager
def rclone_serve(kind: str, folder: Path, *more: str) -> Iterator[str]:
    """Serve a folder over `webdav` or `sftp`; gives `host:port`."""
    port = free_port()
    argv = [rclone(), "serve", kind, "--addr", f"127.0.0.1:{port}", "--user", KEY, "--pass", SECRET,
            "--config", os.devnull, "--vfs-cache-mode", "writes",
            "--cache-dir", str(folder.with_name("vfs-cache")), *more, str(folder)]  # fmt: skip
    log = folder.with_name(f"{folder.name}-{kind}.log")
    with running(argv, port, log, HOME=str(folder.parent)) as address:
        yield address


@contextmanager
def moto_s3(log: Path) -> Iterator[str]:
    """Start moto's S3 server, which enforces conditional writes; gives the endpoint URL."""
    port = free_port()
    argv = [sys.executable, "-c", "from moto.server import main; import sys; main(sys.argv[1:])",
            "-H", "127.0.0.1", "-p", str(port)]  # fmt: skip
    with running(argv, port, log) as address:
        yield f"http://{address}"


def make_bucket(endpoint: str, name: str) -> None:
    """Make an S3 bucket."""
    import s3fs

    system = s3fs.S3FileSystem(**options(endpoint), skip_instance_cache=True)
    system.mkdir(name)


def options(endpoint: str, key: str = KEY, secret: str = SECRET) -> dict[str, object]:
    """Return what an S3 file system needs to reach a server here."""
    return {
        "key": key,
        "secret": secret,
        "client_kwargs": {"endpoint_url": endpoint, "region_name": "eu-x-1"},
    }


def answers(url: str) -> bool:
    """Whether an HTTP server answers at all."""
    with suppress(urllib.error.URLError, OSError):
        urllib.request.urlopen(url, timeout=5).close()
        return True
    return False
