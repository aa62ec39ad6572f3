"""Measures decision 0001: what one more run costs with two and with three directory levels.

python docs/decisions/measure_layout.py
"""

# ruff: noqa: INP001, T201

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gml.domain.ids import new_run_id
from gml.git.discover import open_store
from gml.git.port import Identity
from gml.ledger.ledger import Batch, Ledger

START = 0x0198_3C00_0000
MINUTE = 60_000
HOURS = 4 * 60 * MINUTE
PROBES = 10
LAYOUTS = {"runs/0198/3c/": (4, 6), "runs/0198/3c/1f/": (4, 6, 8)}


def path(run_id: str, cuts: tuple[int, ...]) -> str:
    """Return the path of a run's record in a layout."""
    parts = [run_id[a:b] for a, b in zip((0, *cuts), cuts, strict=False)]
    return "/".join(["runs", *parts, f"{run_id}.json"])


def record(run_id: str) -> bytes:
    """Return a record of usual size."""
    params = {f"param{n}": str(n / 7) for n in range(10)}
    metrics = {f"metric{n}": {"last": n / 3, "step": n, "timestamp": START} for n in range(10)}
    document = {"run_id": run_id, "params": params, "metrics": metrics, "session": secrets.token_hex(8)}
    return json.dumps(document, indent=0).encode()


def stored(repo: Path) -> int:
    """Return the bytes of all objects, loose and packed."""
    return sum(f.stat().st_size for f in (repo / ".git/objects").rglob("*") if f.is_file())


def measure(cuts: tuple[int, ...], count: int, span: int, after: int) -> tuple[float, float]:
    """Return bytes and milliseconds of one commit with one run, after `count` runs within `span` ms."""
    with tempfile.TemporaryDirectory() as top:
        repo = Path(top)
        subprocess.run(["git", "init", "-q", top], check=True)
        ledger = Ledger(open_store(repo, environ={}), identity=Identity("m", "m@localhost"))
        newest = None
        changes: dict[str, bytes | None] = {}
        for number in range(count):
            newest = new_run_id(START + number * span // count, secrets.token_bytes(10), after=newest)
            changes[path(newest, cuts)] = record(newest)
        ledger.append(lambda _: Batch(changes, "before\n"))
        before, begun = stored(repo), time.perf_counter()
        for number in range(PROBES):
            one = new_run_id(START + span + after + number * 10, secrets.token_bytes(10), after=newest)
            ledger.append(lambda _, one=one: Batch({path(one, cuts): record(one)}, "one\n"))
        return (stored(repo) - before) / PROBES, (time.perf_counter() - begun) / PROBES * 1000


def main() -> None:
    """Print the table of the decision."""
    print("| case | " + " | ".join(f"`{name}` bytes | ms" for name in LAYOUTS) + " |")
    print("|---|" + "---:|---:|" * len(LAYOUTS))
    for text, count, span, after in (
        ("1,000 runs within a minute, one more at once", 1_000, MINUTE, 1),
        ("10,000 runs within a minute, one more at once", 10_000, MINUTE, 1),
        ("10,000 runs within a minute, one more 5 minutes later", 10_000, MINUTE, 5 * MINUTE),
        ("10,000 runs within 4 hours, one more at once", 10_000, HOURS, 1),
        ("100,000 runs within 4 hours, one more at once", 100_000, HOURS, 1),
    ):
        cells = [
            f"{size:,.0f} | {ms:.1f}"
            for size, ms in (measure(c, count, span, after) for c in LAYOUTS.values())
        ]
        print(f"| {text} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
