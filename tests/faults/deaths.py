"""Death at random moments, signals, many writers, wrong clocks, and power cuts."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from lab import Known, Row, check, fsck, git, image, kill_loop, mount, new_repo, unmount, worker

if TYPE_CHECKING:
    from pathlib import Path

DECADE = 315_000_000


def random_kills(top: Path, trainings: int, seed: int = 1) -> Row:
    """Kill trainings at random moments; now and then the recovery as well, twice."""
    row = Row("kill -9 at a random moment of a training; of every third recovery, twice", trials=trainings)
    repo = new_repo(top)
    # In parts, as the runs of one journal directory are looked at again and again.
    for part in range(0, trainings, 50):
        known = kill_loop.loop(repo, min(50, trainings - part), seed * 1000 + part)
        whole = Known(**vars(known))
        check(repo, row, whole, f"trainings from {part}")
    return row


def signals(top: Path, trials: int) -> Row:
    """SIGTERM and Ctrl-C in `gml log`: the command gets the signal, and the run is closed as KILLED."""
    row = Row("SIGTERM and SIGINT in gml log")
    repo = new_repo(top)
    work = "import time; print('ready', flush=True); time.sleep(60)"
    for number in range(trials):
        name = f"signal-{number}"
        child = subprocess.Popen(
            [sys.executable, "-m", "gml", "-C", str(repo), "log", "-n", name, "--", sys.executable, "-c", work],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        child.stdout.readline()
        row.trials += 1
        if number % 2:
            child.send_signal(signal.SIGTERM)
        else:
            os.killpg(child.pid, signal.SIGINT)
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            row.add(f"{name} goes on", "blocked")
            os.killpg(child.pid, signal.SIGKILL)
        child.stdout.close()
        done = subprocess.run(
            [sys.executable, "-m", "gml", "-C", str(repo), "ls", "--json"], capture_output=True, text=True, check=False
        )  # fmt: skip
        found = {run["name"]: run for run in json.loads(done.stdout)} if not done.returncode else {}
        row.acknowledged += 1
        if name not in found:
            row.add(name)
        elif found[name]["status"] != "KILLED" or not found[name]["end_time"]:
            row.add(f"{name} is {found[name]['status']}", "blocked")
    fsck(repo, row, "signals")
    return row


def crowds(top: Path, sizes: tuple[int, ...]) -> Row:
    """Many processes that log at once."""
    row = Row(f"{', '.join(map(str, sizes))} writers at once", trials=len(sizes))
    repo = new_repo(top)
    known = Known()
    with worker(repo) as process:
        for size in sizes:
            said, code = process.do("crowd", size)
            known.note(said)
            if code or any(line[0] == "error" for line in said):
                row.add(f"{size} writers: {said[-1]}", "blocked")
    if len(known.ended) != 3 * sum(sizes):
        row.add(f"{len(known.ended)} of {3 * sum(sizes)} runs ended", "blocked")
    check(repo, row, known, "crowds")
    return row


def collectors(top: Path, seconds: float) -> Row:
    """`gml gc`, `git gc` and `git repack` beside two writers."""
    row = Row("gml gc, git gc and git repack beside writers")
    repo = new_repo(top)
    known = Known()
    with worker(repo) as one, worker(repo) as two:
        for each in (one, two):
            each.begin("many", 1)
            each.send_go()
        end, number = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            number += 1
            if number % 3 == 0:
                done = subprocess.run(
                    [sys.executable, "-m", "gml", "-C", str(repo), "gc"], capture_output=True, check=False
                )
                if done.returncode:
                    row.add(f"gml gc: {done.stderr[:200]!r}", "blocked")
            else:
                # They may lose a race for a lock file; what counts is that nobody else does.
                git(repo, *(("gc", "-q") if number % 3 == 1 else ("repack", "-adlq")), check=False)
            row.trials += 1
        for each in (one, two):
            said = each.kill_child()
            known.note(said)
            for line in said:
                if line[0] == "error":
                    row.add(f"a writer: {line[1:]}", "blocked")
    check(repo, row, known, "gc beside writers")
    return row


def clocks(top: Path, trials: int) -> Row:
    """Writers whose clocks are ten years ahead and behind, by turns."""
    row = Row("clocks ten years ahead and behind by turns")
    repo = new_repo(top)
    known = Known()
    order = []
    with worker(repo, SKEW=str(DECADE)) as process:
        for number in range(trials):
            for operation in ("log", "edit", *(("register",) if number % 3 == 0 else ())):
                said, code = process.do(operation, number)
                known.note(said)
                order += [line[1] for line in said if line[0] == "end"]
                if code:
                    row.add(f"{operation} {number}: {said}", "blocked")
            row.trials += 1
    check(repo, row, known, "clocks")
    # Ids and commit times follow the order of the work, whatever the clocks say.
    if order != sorted(order):
        row.add("newer runs have smaller ids", "corrupt")
    lines = git(repo, "log", "--format=%ct %H", "--first-parent", "refs/gml/ledger").splitlines()
    times = [int(line.split()[0]) for line in lines]
    if times != sorted(times, reverse=True):
        row.add("commit times go back", "corrupt")
    return row


def power_cuts(top: Path, images: int, seed: int = 1) -> Row:
    """Copy the device below a mounted ext4 while writers write to it, and see what the copy holds.

    What has not been synced is in the page cache of the mounted file system and not in the copy. The
    writer stands still while it is copied, and a copy counts when a second look finds the device unchanged.
    """
    row = Row("power cut: an ext4 image copied while writing, then mounted")
    disk, place = top / "disk.img", top / "disk"
    row.skipped = image(disk, place, megabytes=192)
    if row.skipped:
        return row
    rng = random.Random(seed)
    try:
        repo = new_repo(place)
        os.sync()
        known = Known()
        with worker(repo) as process:
            known.note(process.do("log", 0)[0])
            process.begin("many", 1)
            process.send_go()
            while row.trials < images:
                known.note(process.listen(rng.uniform(0.2, 1.0)))
                with process.frozen():
                    known.note(process.listen(0))
                    copy = _copy(disk, top / "copy.img")
                    if copy is not None:
                        row.trials += 1
                        # A place of its own: libgit2 remembers packs by their path.
                        _after_cut(copy, top / f"copy-{row.trials}", known.durable(), row)
            process.kill_child()
    finally:
        unmount(place)
    return row


def _copy(disk: Path, copy: Path) -> Path | None:
    subprocess.run(["cp", "--sparse=always", str(disk), str(copy)], check=True)
    same = subprocess.run(["cmp", "-s", str(disk), str(copy)], check=False).returncode == 0
    return copy if same else None


def _after_cut(copy: Path, place: Path, known: Known, row: Row) -> None:
    failed = mount(copy, place)
    if failed:
        row.add(f"image {row.trials}: {failed}", "corrupt")
        return
    try:
        check(place / "repo", row, known, f"image {row.trials}")
    finally:
        unmount(place)
