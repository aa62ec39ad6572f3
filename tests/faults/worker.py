"""One process that does what it is told in children of its own, each of which may be killed from outside.

It imports once; then, for each line `OPERATION NUMBER` on standard input, it forks a child that says its
process id, waits for a line, does the operation, and says what was acknowledged.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import resource
import signal
import sys
import time
import warnings
from pathlib import Path


def say(*what: object) -> None:
    line = json.dumps(what).encode() + b"\n"
    try:
        os.write(1, line)
    except OSError:
        # The fault hit this line instead of what is tested.
        os.write(1, line)


class Heard(logging.Handler):
    """Counts warnings: a call that warned did not acknowledge."""

    count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += record.levelno >= logging.WARNING


HEARD = Heard()


def kept(*what: object) -> None:
    """Acknowledge what a call returned from, unless something was warned about in this process."""
    if not HEARD.count:
        say(*what)


def log(number: int) -> None:
    """A whole run."""
    import gml

    run = gml.start_run(run_name=f"run-{number}")
    kept("start", run.run_id)
    say("began")
    gml.log_params({"a": number})
    kept("p", run.run_id, "a", str(number))
    for step in range(3):
        gml.log_metric("loss", 1.0 / (step + 1), step=step)
        kept("m", run.run_id, "loss", step)
    text = f"artifact {number}\n" * 9
    gml.log_text(text, "out/file.txt")
    kept("a", run.run_id, "out/file.txt", hashlib.sha256(text.encode()).hexdigest())
    gml.end_run()
    kept("end", run.run_id)


def bulky(number: int) -> None:
    """A run with artifacts that do not compress."""
    import random

    import gml

    data = random.Random(number).randbytes(60_000)
    path = f"bulk-{number}.bin"
    with Path(path).open("wb") as file:
        file.write(data)
    with gml.start_run(run_name=f"bulk-{number}") as run:
        gml.log_artifact(path)
    Path(path).unlink()
    kept("start", run.run_id)
    kept("a", run.run_id, path, hashlib.sha256(data).hexdigest())
    kept("end", run.run_id)


def abandon(number: int) -> None:
    """A run whose process dies in the middle."""
    import gml

    run = gml.start_run(run_name=f"abandoned-{number}")
    kept("start", run.run_id)
    for step in range(40):
        gml.log_metric("loss", 1.0 / (step + 1), step=step)
        kept("m", run.run_id, "loss", step)
    gml.log_text("left\n", "out/left.txt")
    kept("a", run.run_id, "out/left.txt", hashlib.sha256(b"left\n").hexdigest())
    os.kill(os.getpid(), signal.SIGKILL)


def register(number: int) -> None:
    """The next version of a model, of the newest run that has the file."""
    from gml.registry.branch import Registry
    from gml.registry.register import register as make
    from gml.tracking.reader import Reader
    from gml.workspace import Workspace

    workspace = Workspace.open()
    # Another writer's run may still be on its way into the ledger.
    kept_runs = workspace.ledger.view()
    run = next(
        run
        for run in Reader(workspace).runs()
        if "out/file.txt" in run.artifacts and kept_runs.entry(run.run_id) is not None
    )
    made = make(Registry(workspace), "churn", run.run_id, "out/file.txt", f"number {number}")
    kept("v", "churn", made.version.version, run.run_id)


def edit(number: int) -> None:
    """A tag of the newest run."""
    from gml.tracking.edits import tag_runs
    from gml.tracking.reader import Reader
    from gml.workspace import Workspace

    workspace = Workspace.open()
    run = next(Reader(workspace).runs())
    tag_runs(workspace, [run.run_id], {"epoch": str(number)})
    kept("t", run.run_id, "epoch", str(number))


def recover(_: int) -> None:
    """Everything that waits is committed."""
    from gml.tracking.commit import commit_sessions
    from gml.workspace import Workspace

    commit_sessions(Workspace.open())


def push(_: int) -> None:
    """Everything goes to the remote; acknowledged is the tip."""
    from gml.sync.push import push as send
    from gml.sync.remotes import open_remote
    from gml.workspace import Workspace

    workspace = Workspace.open()
    send(workspace, open_remote(workspace))
    say("pushed", workspace.ledger.tip())


def pull(_: int) -> None:
    """Everything of the remote is taken in; acknowledged is what it had."""
    from gml.sync.pull import pull as receive
    from gml.sync.remotes import open_remote
    from gml.sync.seen import read_seen
    from gml.workspace import Workspace

    workspace = Workspace.open()
    remote = open_remote(workspace)
    receive(workspace, remote)
    say("pulled", read_seen(workspace.store, remote.names).ledger)


def gc(_: int) -> None:
    """The repository is packed."""
    from gml.sync.upkeep import collect
    from gml.workspace import Workspace

    collect(Workspace.open())
    say("packed")


def many(number: int) -> None:
    """Runs without end, some of them tagged or registered."""
    while True:
        log(number)
        if number % 4 == 0:
            edit(number)
        if number % 6 == 0:
            register(number)
        number += 1


def runs(number: int) -> None:
    """Five runs."""
    for one in range(5):
        log(number * 100 + one)


def crowd(number: int) -> None:
    """So many processes at once that log three runs each."""
    pids = []
    for one in range(number):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                for turn in range(3):
                    log(one * 10 + turn)
                code = 0
            finally:
                os._exit(code)
        pids.append(pid)
    for pid in pids:
        if os.waitpid(pid, 0)[1]:
            say("error", "Crowd", "a writer failed")


WORK = (log, bulky, edit, recover, register, push, pull, gc, many, runs, crowd, abandon)
OPERATIONS = {work.__name__: work for work in WORK}


def child(name: str, number: int) -> None:
    say("pid", os.getpid())
    sys.stdin.readline()
    skew = float(os.environ.get("SKEW", "0")) * (-1 if number % 2 else 1)
    if skew:
        real = time.time
        time.time = lambda: real() + skew
    if "FSIZE" in os.environ and name != "recover":
        limit = int(os.environ["FSIZE"])
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        OPERATIONS[name](number)
    except Exception as error:
        say("error", type(error).__name__, " ".join(str(error).split())[:300])
        os._exit(3)
    os._exit(0)


def main() -> None:
    warnings.simplefilter("ignore", DeprecationWarning)
    logging.getLogger("gml").addHandler(HEARD)
    from gml import fs
    from gml.workspace import Workspace

    fs.STALE_AFTER = 0.05
    Workspace.open()
    say("ready")
    while True:
        line = sys.stdin.readline()
        if not line:
            return
        name, number = line.split()
        pid = os.fork()
        if pid == 0:
            child(name, int(number))
        status = os.waitpid(pid, 0)[1]
        say("done", os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
