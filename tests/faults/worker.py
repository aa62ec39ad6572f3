"""One process that does what it is told in children of its own, each of which may be killed from outside.

It imports once; then, for each line `OPERATION NUMBER` on standard input, it forks a child that says its
process id, waits for a line, does the operation, and says what was acknowledged.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings


def say(*what: object) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


def log(number: int) -> None:
    """A whole run."""
    import gml

    run = gml.start_run(run_name=f"run-{number}")
    say("start", run.run_id)
    gml.log_params({"a": number})
    say("p", run.run_id, "a", str(number))
    for step in range(3):
        gml.log_metric("loss", 1.0 / (step + 1), step=step)
        say("m", run.run_id, "loss", step)
    text = f"artifact {number}\n" * 9
    gml.log_text(text, "out/file.txt")
    import hashlib

    say("a", run.run_id, "out/file.txt", hashlib.sha256(text.encode()).hexdigest())
    gml.end_run()
    say("end", run.run_id)


def edit(number: int) -> None:
    """A tag of the newest run."""
    from gml.tracking.edits import tag_runs
    from gml.tracking.reader import Reader
    from gml.workspace import Workspace

    workspace = Workspace.open()
    run = next(Reader(workspace).runs())
    tag_runs(workspace, [run.run_id], {"epoch": str(number)})
    say("t", run.run_id, "epoch", str(number))


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
    """Runs without end."""
    while True:
        log(number)
        number += 1


def runs(number: int) -> None:
    """Five runs."""
    for one in range(5):
        log(number * 100 + one)


OPERATIONS = {f.__name__: f for f in (log, edit, recover, push, pull, gc, many, runs)}


def child(name: str, number: int) -> None:
    say("pid", os.getpid())
    sys.stdin.readline()
    if name != "recover":
        skew = float(os.environ.get("SKEW", "0"))
        if skew:
            real = time.time
            time.time = lambda: real() + skew
    try:
        OPERATIONS[name](number)
    except Exception as error:
        say("error", type(error).__name__, " ".join(str(error).split())[:300])
        os._exit(3)
    os._exit(0)


def main() -> None:
    warnings.simplefilter("ignore", DeprecationWarning)
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
