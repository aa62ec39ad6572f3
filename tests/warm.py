"""`gml` without its start: a process that has imported it already forks for each command.

Starting Python and importing what gml needs costs a quarter of a second a command, which was most of the time
of all tests together. What runs here is still a process of its own, with its own environment, directory,
descriptors and exit code. Tests of the start itself, of signals and of sudden death use `support.GML`.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import warnings
from contextlib import suppress
from pathlib import Path

REAL = Path(sysconfig.get_path("scripts")) / "gml"
# What is read when Python starts: with other values a process of its own starts.
AT_START = ("LC_ALL", "LC_CTYPE", "LANG", "PYTHONPATH", "PYTHONIOENCODING", "PYTHONUTF8", "PYTHONHASHSEED")
CLIENT = """#!{python} -IS
import array, json, os, signal, socket, sys
if {start} != {{name: os.environ.get(name) for name in {names}}}:
    os.execv({real!r}, [{real!r}, *sys.argv[1:]])
line = socket.socket(socket.AF_UNIX)
line.connect({address!r})
told = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode("utf-8", "surrogateescape")
line.sendmsg([len(told).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
line.sendall(told)
answers = line.makefile("rb")
pid = int(answers.readline())
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda given, frame: os.kill(pid, given))
os._exit(int(answers.readline() or 1))
"""

_made: list[Path] = []


def command() -> Path:
    """Return a program that does what `gml` does; its server lives as long as this process."""
    if _made:
        return _made[0]
    folder = Path(tempfile.mkdtemp(prefix="gml-warm-"))
    address = str(folder / "socket")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("GML_", "GIT_"))}
    server = subprocess.Popen(
        [sys.executable, __file__, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ
    )
    assert server.stdout.readline() == b"ready\n"
    start = {name: environ.get(name) for name in AT_START}
    program = folder / "gml"
    program.write_text(
        CLIENT.format(python=sys.executable, names=AT_START, start=start, real=str(REAL), address=address)
    )
    program.chmod(0o755)
    _made.append(program)

    def end() -> None:
        server.stdin.close()
        server.stdout.close()
        server.wait()
        for path in (program, Path(address)):
            path.unlink(missing_ok=True)
        folder.rmdir()

    atexit.register(end)
    return program


def _serve(address: str) -> list[str]:
    """Wait for commands; returns, in a process of its own, the arguments of one."""
    import gc
    import selectors

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    os.write(1, b"ready\n")
    gc.freeze()
    ready = selectors.DefaultSelector()
    ready.register(listener, selectors.EVENT_READ)
    ready.register(0, selectors.EVENT_READ)
    while True:
        for key, _ in ready.select():
            if key.fileobj == 0:
                os._exit(0)
            line, _ = listener.accept()
            if os.fork() == 0:
                ready.close()
                listener.close()
                return _become(line)
            line.close()


def _become(line: socket.socket) -> list[str]:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    head, descriptors, _, _ = socket.recv_fds(line, 4, 3)
    wanted, told = int.from_bytes(head, "big"), b""
    while len(told) < wanted:
        told += line.recv(1 << 16)
    argv, cwd, environ = json.loads(told.decode("utf-8", "surrogateescape"))
    pid = os.fork()
    if pid:
        line.sendall(b"%d\n" % pid)
        for descriptor in descriptors:
            os.close(descriptor)
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        line.sendall(b"%d\n" % (code if code >= 0 else 128 - code))
        os._exit(0)
    line.close()
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environ)
    if environ.get("PYTHONWARNINGS") == "error":
        warnings.simplefilter("error")
    return list(argv)


def _import_everything() -> None:
    import importlib
    import pkgutil

    import gml

    skipped = (
        "gml.testing",
        "gml.ui",
        "gml.server",
        "gml.serving",
        "gml.models",
        "gml.compat",
        "gml.__main__",
    )
    for module in pkgutil.walk_packages(gml.__path__, "gml."):
        if not module.name.startswith(skipped):
            importlib.import_module(module.name)


def _leave(code: object) -> None:
    """End as an interpreter does, but without taking every module apart."""
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    sys.path.pop(0)
    _import_everything()
    sys.argv = ["gml", *_serve(sys.argv[1])]
    from gml.cli.main import main

    try:
        main()
    except SystemExit as end:
        _leave(end.code)
