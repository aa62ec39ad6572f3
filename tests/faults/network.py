"""Pushes and fetches whose connection is cut, over `git daemon` behind a proxy that cuts."""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from lab import Known, Row, check, fsck, git, new_repo, worker

if TYPE_CHECKING:
    from pathlib import Path

STEP = 65_536
LEDGER = "refs/gml/ledger"


class Cutter:
    """A proxy that passes so many bytes on and then cuts the connection.

    Attributes:
        up: bytes from the client that pass; None for all.
        down: bytes from the server that pass; None for all.
        reset: end with a reset instead of an end of file.
    """

    def __init__(self, port: int) -> None:
        self.up: int | None = None
        self.down: int | None = None
        self.reset = False
        self.cut = 0
        self._server = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server))
                for source, target, limit in ((client, server, self.up), (server, client, self.down)):
                    threading.Thread(target=self._pump, args=(source, target, limit), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, limit: int | None) -> None:
        left = limit
        with suppress(OSError):
            while data := source.recv(16_384):
                part = data if left is None else data[:left]
                target.sendall(part)
                if left is not None:
                    left -= len(part)
                    if left <= 0:
                        self.cut += 1
                        self._end(source, target)
                        return
            target.shutdown(socket.SHUT_WR)

    def _end(self, *ends: socket.socket) -> None:
        for end in ends:
            with suppress(OSError):
                if self.reset:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        self._listener.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@contextmanager
def daemon(top: Path):
    """Run `git daemon` over a directory; yields its port."""
    port = _free_port()
    process = subprocess.Popen(
        ["git", "daemon", "--reuseaddr", "--listen=127.0.0.1", f"--port={port}", "--export-all",
         "--enable=receive-pack", f"--base-path={top}", str(top)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        end = time.monotonic() + 30
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if time.monotonic() > end:
                raise TimeoutError
            time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait()


def transfers(top: Path, direction: str, *, runs: int = 35, step: int = STEP) -> Row:
    """Cut a push or a fetch after every 64 KiB; then let it through."""
    row = Row(f"{direction} cut at every {step // 1024} KiB, git and dulwich by turns")
    if subprocess.run(["git", "daemon", "--help"], capture_output=True, check=False).returncode not in {
        0,
        129,
    }:
        row.skipped = "no git daemon on this machine"
        return row
    known = Known()
    repo = new_repo(top / "origin", remote=True)
    bare = top / "origin" / "bare.git"
    with worker(repo) as process:
        for number in range(runs):
            known.note(process.do("bulky", number)[0])
        if direction == "fetch":
            process.do("push")
    with daemon(top) as port:
        cutter = Cutter(port)
        try:
            size, cut = runs * 60_000, step
            while cut < size:
                engine = ("git", "dulwich")[row.trials % 2]
                cutter.reset = row.trials % 4 > 1
                where = f"{engine} at {cut}"
                if direction == "push":
                    _cut_push(top, repo, cutter, cut, engine, where, row, known)
                else:
                    _cut_fetch(top, bare, cutter, cut, engine, where, row, known)
                cut += step
        finally:
            cutter.close()
    if cutter.cut < row.trials:
        row.add(f"only {cutter.cut} of {row.trials} connections were cut", "blocked")
    check(repo, row, known, direction)
    return row


def _exchange(repo: Path, url: str, engine: str, which: str) -> str:
    """Push to or pull from an address; return what went wrong, empty when nothing did."""
    from gml.domain.errors import GmlError
    from gml.git.connect import connect
    from gml.sync.pull import pull
    from gml.sync.push import push
    from gml.sync.remotes import Remote, names_of
    from gml.workspace import Workspace

    git(repo, "remote", "set-url", "origin", url)
    workspace = Workspace.open(repo)
    remote = Remote(
        "origin", names_of(workspace, "origin"), connect(workspace.store, "origin", engine=engine)
    )
    try:
        if which == "push":
            push(workspace, remote, pause=lambda _: None)
        else:
            pull(workspace, remote)
    except GmlError as error:
        return error.message
    return ""


def _cut_push(
    top: Path, repo: Path, cutter: Cutter, cut: int, engine: str, where: str, row: Row, known: Known
) -> None:
    bare = top / "push.git"
    shutil.rmtree(bare, ignore_errors=True)
    subprocess.run(["git", "init", "-q", "--bare", str(bare)], check=True)
    for name in git(repo, "for-each-ref", "--format=%(refname)", "refs/gml/remotes").splitlines():
        git(repo, "update-ref", "-d", name)
    url = f"git://127.0.0.1:{cutter.port}/{bare.name}"
    tip = git(repo, "rev-parse", LEDGER)
    cutter.up = cut
    said = _exchange(repo, url, engine, "push")
    cutter.up = None
    row.trials += 1
    there = _settled(bare)
    if there not in {"", tip}:
        row.add(f"{where}: the ledger there is {there}", "corrupt")
    if not said:
        row.acknowledged += 1
        if there != tip:
            row.add(f"{where}: said to be pushed, and is not there")
    fsck(bare, row, where)
    again = _exchange(repo, url, engine, "push")
    if again or _settled(bare) != tip:
        row.add(f"{where}: again: {again}", "blocked")


def _settled(bare: Path) -> str:
    """Return the ledger there once the receiver of a cut connection has ended."""
    for _ in range(100):
        if not list((bare / "objects").glob("tmp_objdir-incoming-*")):
            break
        time.sleep(0.05)
    return git(bare, "for-each-ref", "--format=%(objectname)", LEDGER)


def _cut_fetch(
    top: Path, bare: Path, cutter: Cutter, cut: int, engine: str, where: str, row: Row, known: Known
) -> None:
    shutil.rmtree(top / "clone", ignore_errors=True)
    repo = new_repo(top / "clone")
    git(repo, "remote", "add", "origin", f"git://127.0.0.1:{cutter.port}/origin/{bare.name}")
    url = git(repo, "remote", "get-url", "origin")
    tip = git(bare, "rev-parse", LEDGER)
    cutter.down = cut
    said = _exchange(repo, url, engine, "pull")
    cutter.down = None
    row.trials += 1
    here = git(repo, "for-each-ref", "--format=%(objectname)", LEDGER)
    if here not in {"", tip}:
        row.add(f"{where}: the ledger here is {here}", "corrupt")
    if not said and here != tip:
        row.add(f"{where}: said to be pulled, and is not here")
    fsck(repo, row, where)
    again = _exchange(repo, url, engine, "pull")
    if again or git(repo, "for-each-ref", "--format=%(objectname)", LEDGER) != tip:
        row.add(f"{where}: again: {again}", "blocked")
    if row.trials % 10 == 1:
        check(repo, row, known, where)
