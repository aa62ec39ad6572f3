"""The fault matrix: `make faults`, or `python tests/faults/run.py --only kill --scale 0.1`.

Each line of the table is one kind of fault. *Acknowledged* counts what calls returned from without a
warning, *lost* what of it is missing afterwards or changed, *corrupt* what `git fsck --strict` or a reader
rejects, *blocked* what did not go on when the fault was over. A line that cannot be tried on this machine
says why.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import deaths
import disks
import network
import syscalls
from lab import Row

if TYPE_CHECKING:
    from collections.abc import Callable

DOCS = Path(__file__).resolve().parents[2] / "docs" / "durability.md"
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
SCRATCH = "GML_FAULTS_DIR"


@dataclass(frozen=True)
class Fault:
    """One line of the table: a short name, and what to do with a directory and a scale."""

    name: str
    work: Callable[[Path, float], Row]


def _step(base: int, scale: float) -> int:
    """Return the distance between calls that are visited: 1 visits all of them."""
    return max(1, round(base / min(1.0, scale)))


def _count(base: int, scale: float) -> int:
    return max(1, round(base * scale))


def _kill(operation: str, base: int = 1, times: int = 1) -> Callable[[Path, float], Row]:
    return lambda top, scale: syscalls.kill_everywhere(top, operation, step=_step(base, scale), times=times)


def _fail(error: str, operation: str, base: int = 1) -> Callable[[Path, float], Row]:
    return lambda top, scale: syscalls.fail_everywhere(top, error, operation, step=_step(base, scale))


FAULTS = (
    Fault("kill-push", _kill("push")),
    Fault("kill-gc", _kill("gc")),
    Fault("kill-log", _kill("log")),
    Fault("kill-register", _kill("register")),
    Fault("kill-edit", _kill("edit")),
    Fault("kill-pull", _kill("pull", 4)),
    Fault("kill-recover", _kill("recover", 2, times=2)),
    Fault("kill-random", lambda top, scale: deaths.random_kills(top, _count(500, scale))),
    Fault("power", lambda top, scale: deaths.power_cuts(top, _count(20, scale))),
    Fault("enospc-log", _fail("ENOSPC", "log")),
    Fault("eio-log", _fail("EIO", "log")),
    Fault("enospc-register", _fail("ENOSPC", "register")),
    Fault("eio-register", _fail("EIO", "register")),
    Fault("enospc-edit", _fail("ENOSPC", "edit")),
    Fault("eio-edit", _fail("EIO", "edit")),
    Fault("enospc-push", _fail("ENOSPC", "push", 2)),
    Fault("eio-push", _fail("EIO", "push", 2)),
    Fault("enospc-gc", _fail("ENOSPC", "gc", 2)),
    Fault("eio-gc", _fail("EIO", "gc", 2)),
    Fault("full", lambda top, scale: disks.full_disk(top, _count(6, scale))),
    Fault("fsize", lambda top, _: disks.file_limit(top)),
    Fault("read-only", lambda top, _: disks.read_only(top)),
    Fault("journal", lambda top, scale: disks.cut_journal(top, _step(1, scale))),
    Fault("push-cut", lambda top, scale: network.transfers(top, "push", runs=_count(35, scale))),
    Fault("fetch-cut", lambda top, scale: network.transfers(top, "fetch", runs=_count(35, scale))),
    Fault("damage", lambda top, scale: disks.damage(top, _count(16, scale))),
    Fault("locks", lambda top, _: disks.stale_locks(top)),
    Fault("clocks", lambda top, scale: deaths.clocks(top, _count(20, scale))),
    Fault("signals", lambda top, scale: deaths.signals(top, _count(10, scale))),
    Fault("writers", lambda top, _: deaths.crowds(top, (2, 4, 8, 32))),
    Fault("gc-beside", lambda top, scale: deaths.collectors(top, 20 * scale)),
)


def run(fault: Fault, scale: float) -> tuple[Row, float]:
    """Try one fault in a directory of its own."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"gml-{fault.name}-", dir=os.environ.get(SCRATCH)) as folder:
        try:
            row = fault.work(Path(folder), scale)
        except Exception:
            row = Row(fault.name)
            row.add(traceback.format_exc(limit=4), "blocked")
    return row, time.monotonic() - begun


def isolate(home: str) -> None:
    """Let nothing of the user's configuration reach the processes."""
    for name in [
        name for name in os.environ if name.startswith(("GIT_", "GML_", "MLFLOW_")) and name != SCRATCH
    ]:
        del os.environ[name]
    os.environ.update(HOME=home, GIT_CONFIG_GLOBAL="/dev/null", GIT_CONFIG_NOSYSTEM="1")
    os.environ.update(EMAIL="ada@example.org")


def table(rows: list[tuple[Row, float]], scale: float) -> str:
    """Return the table as Markdown."""
    git = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    lines = [
        (
            f"{platform.system()} {platform.release().split('-')[0]}, Python {platform.python_version()}, git {git}"
            f"{'' if scale == 1 else f'; scale {scale:g}'}."
        ),
        "",
        "| fault | trials | acknowledged | lost | corrupt | blocked | skipped |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for row, _ in rows:
        counts = (row.trials, row.acknowledged, row.lost, row.corrupt, row.blocked)
        lines.append(f"| {row.fault} | {' | '.join(f'{n:,}' for n in counts)} | {row.skipped} |")
    sums = [
        sum(getattr(row, name) for row, _ in rows)
        for name in ("trials", "acknowledged", "lost", "corrupt", "blocked")
    ]
    lines.append(f"| **all** | {' | '.join(f'{n:,}' for n in sums)} | |")
    return "\n".join(lines)


def write(text: str) -> None:
    """Put the table into docs/durability.md."""
    page = DOCS.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    DOCS.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def _tell(fault: Fault, future: Future[tuple[Row, float]]) -> None:
    """Say at once how a fault ended."""
    row, seconds = future.result()
    verdict = f"skipped: {row.skipped}" if row.skipped else "good" if row.good else "BAD"
    lines = [
        f"{fault.name}: {row.trials} trials in {seconds:.0f} s, {verdict}",
        *(f"    {d}" for d in row.details[:12]),
    ]
    print("\n".join(lines), file=sys.stderr, flush=True)


def main() -> int:
    """Parse the command line, try the faults in two processes' worth of threads, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="lines whose short name begins so; may be repeated",
    )
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the trials, such as 0.1")
    parser.add_argument("--jobs", type=int, default=2, help="faults that are tried at once")
    parser.add_argument("--write", action="store_true", help="put the table into docs/durability.md")
    parser.add_argument("--list", action="store_true", help="print the short names")
    options = parser.parse_args()
    chosen = [f for f in FAULTS if not options.only or f.name.startswith(tuple(options.only))]
    if options.list:
        print("\n".join(fault.name for fault in chosen))
        return 0
    if not chosen:
        parser.error("no fault has such a name; --list prints them")
    with tempfile.TemporaryDirectory(prefix="gml-home-") as home:
        isolate(home)
        with ThreadPoolExecutor(options.jobs) as pool:
            pending = [pool.submit(run, fault, options.scale) for fault in chosen]
            for fault, future in zip(chosen, pending, strict=True):
                future.add_done_callback(partial(_tell, fault))
            rows = [future.result() for future in pending]
    text = table(rows, options.scale)
    print(text)
    if options.write:
        write(text)
    return 0 if all(row.good for row, _ in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
