"""Train, kill -9, recover, and look whether everything that was acknowledged is there.

    python tests/tracking/kill_loop.py 200

Each training is a process that logs metrics, params, tags and small artifacts, ends runs and starts new
ones, and writes a line to a pipe after each call returned. It is killed after a random number of lines.
Now and then the recovery is killed as well. At the end the ledger must hold every acknowledged thing once.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve()


# --- the child ----------------------------------------------------------------------------------


def say(*what: object) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


def train(seed: int, limit: int | None = None) -> None:
    """Log until the process is killed, or for `limit` steps."""
    import gml

    rng = random.Random(seed)
    length = rng.choice([20, 150, 1_000_000])
    run = gml.start_run(run_name=f"training-{seed}")
    say("start", run.run_id)
    if seed % 3 == 0:
        threading.Thread(target=_log_on, args=(gml, run.run_id), daemon=True).start()
    step = 0
    while limit is None or step < limit:
        step += 1
        _one_call(gml, run.run_id, rng.random(), step)
        if rng.random() < 0.005:
            run.recorder.checkpoint()
        if step % length == 0:
            gml.end_run()
            say("end", run.run_id)
            run = gml.start_run(run_name=f"training-{seed}")
            say("start", run.run_id)
    gml.end_run()
    say("end", run.run_id)


def _one_call(gml, run_id: str, dice: float, step: int) -> None:
    if dice < 0.8:
        gml.log_metric("loss", 1.0 / step, step=step)
        say("m", run_id, "loss", step)
    elif dice < 0.9:
        gml.log_metrics({"auc": step, "f1": -step}, step=step)
        say("m", run_id, "auc", step)
        say("m", run_id, "f1", step)
    elif dice < 0.94:
        gml.log_params({f"p{step}": step, f"q{step}": "x" * 50})
        say("p", run_id, f"p{step}", str(step))
        say("p", run_id, f"q{step}", "x" * 50)
    elif dice < 0.97:
        gml.set_tag("epoch", step)
        say("t", run_id, "epoch", str(step))
    else:
        gml.log_text(f"artifact {step}\n" * 9, f"out/{step}.txt")
        say("a", run_id, f"out/{step}.txt", hashlib.sha256(f"artifact {step}\n".encode() * 9).hexdigest())


def _log_on(gml, run_id: str) -> None:
    step = 0
    while True:
        step += 1
        run = gml.active_run()
        if run is not None and run.run_id == run_id:
            gml.log_metric("thread", step, step=step, run_id=run_id)
            say("m", run_id, "thread", step)
        else:
            return


def recover() -> None:
    from gml.tracking.commit import commit_sessions
    from gml.workspace import Workspace

    workspace = Workspace.open()
    say("ready")
    commit_sessions(workspace)


# --- the parent ---------------------------------------------------------------------------------


@dataclass
class Acknowledged:
    """What calls returned from, by run."""

    runs: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    points: set[tuple[str, str, int]] = field(default_factory=set)
    params: dict[tuple[str, str], str] = field(default_factory=dict)
    tags: dict[tuple[str, str], int] = field(default_factory=dict)
    files: dict[tuple[str, str], str] = field(default_factory=dict)

    def read(self, lines: list[bytes]) -> None:
        for line in lines:
            if not line.endswith(b"\n"):
                continue
            kind, *rest = json.loads(line)
            if kind == "start":
                self.runs.add(rest[0])
            elif kind == "end":
                self.ended.add(rest[0])
            elif kind == "m":
                self.points.add((rest[0], rest[1], rest[2]))
            elif kind == "p":
                self.params[rest[0], rest[1]] = rest[2]
            elif kind == "t":
                self.tags[rest[0], rest[1]] = int(rest[2])
            elif kind == "a":
                self.files[rest[0], rest[1]] = rest[2]


def spawn(repo: Path, *args: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, str(HERE), *args], cwd=repo, stdout=subprocess.PIPE, bufsize=0)


def kill_after(child: subprocess.Popen[bytes], lines: int) -> list[bytes]:
    """Read so many lines, kill -9, and return everything that was said."""
    assert child.stdout is not None
    said = b""
    while said.count(b"\n") < lines and (chunk := os.read(child.stdout.fileno(), 1 << 16)):
        said += chunk
    child.send_signal(signal.SIGKILL)
    said += child.stdout.read()
    child.stdout.close()
    child.wait()
    return said.splitlines(keepends=True)


def lost(repo: Path, known: Acknowledged) -> list[str]:
    """Return what was acknowledged and is not in the repository exactly once."""
    from gml.domain.errors import GmlError
    from gml.tracking.contents import open_artifact
    from gml.tracking.reader import Reader
    from gml.workspace import Workspace

    reader = Reader(Workspace.open(repo))
    runs = {run_id: reader.run(run_id) for run_id in known.runs}
    missing = [f"run {run_id}" for run_id, run in runs.items() if run is None]
    found: Counter[tuple[str, str, int]] = Counter()
    for run_id, run in runs.items():
        for key in run.metrics if run is not None else ():
            found.update((run_id, key, step) for step in reader.history(run, key)[0])
    missing += [f"point {point}" for point in known.points if not found[point]]
    missing += [f"point {point} is there {count} times" for point, count in found.items() if count != 1]
    runs = {run_id: run for run_id, run in runs.items() if run is not None}
    for (run_id, key), value in known.params.items():
        if run_id in runs and runs[run_id].params.get(key) != value:
            missing.append(f"param {key} of {run_id}")
    for (run_id, key), value in known.tags.items():
        if run_id in runs and int(runs[run_id].tags.get(key, -1)) < value:
            missing.append(f"tag {key} of {run_id}")
    for (run_id, name), digest in known.files.items():
        if run_id not in runs:
            continue
        try:
            with open_artifact(reader, runs[run_id], name) as file:
                whole = hashlib.sha256(file.read()).hexdigest() == digest
        except GmlError:
            whole = False
        if not whole:
            missing.append(f"artifact {name} of {run_id}")
    missing += [
        f"the end of {run_id}" for run_id in known.ended & runs.keys() if runs[run_id].status != "FINISHED"
    ]
    missing += [str(error) for error in reader.damaged]
    return missing


def loop(repo: Path, trainings: int, seed: int) -> Acknowledged:
    """Run and kill trainings; now and then kill the recovery twice, then let it finish."""
    rng = random.Random(seed)
    known = Acknowledged()
    for number in range(trainings):
        known.read(kill_after(spawn(repo, "train", str(number)), rng.randint(1, 600)))
        if rng.random() < 0.3:
            for _ in range(2):
                child = spawn(repo, "recover")
                os.read(child.stdout.fileno(), 100)
                # Spread over what a recovery takes: it is killed early, late or not at all.
                threading.Event().wait(rng.random() * 0.03)
                kill_after(child, 0)
        if rng.random() < 0.3:
            subprocess.run(
                [sys.executable, str(HERE), "recover"], cwd=repo, check=True, stdout=subprocess.DEVNULL
            )
    subprocess.run([sys.executable, str(HERE), "recover"], cwd=repo, check=True, stdout=subprocess.DEVNULL)
    return known


def main(trainings: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(HOME=folder, GIT_CONFIG_GLOBAL="/dev/null", GIT_CONFIG_NOSYSTEM="1")
        repo = Path(folder, "repo")
        subprocess.run(["git", "init", "-q", str(repo)], check=True)
        known = loop(repo, trainings, seed=random.randrange(1 << 30))
        missing = lost(repo, known)
        check = subprocess.run(["git", "-C", str(repo), "fsck", "--strict"], check=False, capture_output=True)
    for line in missing[:20]:
        print(line, file=sys.stderr)
    print(
        f"trainings {trainings}, runs {len(known.runs)}, acknowledged points {len(known.points)}, "
        f"params {len(known.params)}, artifacts {len(known.files)}, lost {len(missing)}, "
        f"fsck {'clean' if check.returncode == 0 else 'FAILED'}"
    )
    return bool(missing or check.returncode)


if __name__ == "__main__":
    if sys.argv[1] == "train":
        train(int(sys.argv[2]))
    elif sys.argv[1] == "recover":
        recover()
    else:
        sys.exit(main(int(sys.argv[1])))
