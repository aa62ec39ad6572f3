"""Measures chunk sizes and cutters for decision 0020.

python docs/decisions/measure_chunks.py            # sizes: what versions cost, how many chunks there are
python docs/decisions/measure_chunks.py cutters    # speed; fastcdc from PyPI is compared where installed
"""

# ruff: noqa: INP001, T201, S311
from __future__ import annotations

import hashlib
import random
import sys
import time

import numpy as np

from gml.cas import chunking

MB = 1_000_000


def digests(data: bytes) -> list[tuple[bytes, int]]:
    """Return the digest and length of each chunk."""
    ends = chunking.Cutter().cuts(data, final=True)
    return [
        (hashlib.sha256(memoryview(data)[start:end]).digest(), end - start)
        for start, end in zip([0, *ends[:-1]], ends, strict=True)
    ]


def stored(versions: list[bytes]) -> tuple[int, int]:
    """Return how many bytes and how many chunks all versions take together."""
    known: dict[bytes, int] = {}
    for data in versions:
        known.update(digests(data))
    return sum(known.values()), len(known)


def table(rows: int) -> list[bytes]:
    """Return the rows of a CSV file."""
    draw = random.Random(1)
    return [b"%d,%.6f,%.6f,red,%d\n" % (row, draw.random(), draw.random(), row % 9) for row in range(rows)]


def cases() -> dict[str, list[bytes]]:
    """Return versions of files: a table with rows inserted anywhere, checkpoints, a file that grows."""
    draw = random.Random(2)
    rows = table(5_000_000)
    before = b"".join(rows)
    for _ in range(100):
        rows.insert(draw.randrange(len(rows)), b"5,0.5,0.5,blue,5\n")
    layers = np.random.default_rng(3)
    frozen = layers.bytes(90 * MB)
    return {
        "200 MB table, 100 rows inserted": [before, b"".join(rows)],
        "5 checkpoints of 100 MB, 90 % frozen": [
            frozen[: 45 * MB] + layers.bytes(10 * MB) + frozen[45 * MB :] for _ in range(5)
        ],
        "100 MB file, 5 MB appended twice": [frozen, frozen + bytes(5 * MB), frozen + bytes(10 * MB)],
    }


def sizes() -> None:
    """Print what each choice of sizes costs."""
    found = cases()
    for name, versions in found.items():
        print(f"{name}: {sum(map(len, versions)) / MB:.0f} MB")
    print("| least, greatest | mean | chunks | " + " | ".join(found) + " |")
    for low, bits, high in ((16, 7, 128), (64, 8, 512), (128, 9, 1024), (256, 10, 2048), (512, 12, 8192)):
        chunking.MIN_CHUNK, chunking._BITS, chunking.MAX_CHUNK = low << 10, bits, high << 10  # noqa: SLF001
        results = [stored(versions) for versions in found.values()]
        total, count = sum(size for size, _ in results), sum(number for _, number in results)
        shown = " | ".join(f"{size / MB:.1f} MB" for size, _ in results)
        print(f"| {low} KiB, {high} KiB | {total / count / 1024:.0f} KiB | {count} | {shown} |")


def cutters() -> None:
    """Print seconds of processor time for 1 GB."""
    data = np.random.default_rng(1).bytes(256 * MB)

    def clock(name: str, run: object) -> None:
        best = float("inf")
        for _ in range(5):
            start = time.process_time()
            run()  # type: ignore[operator]
            best = min(best, time.process_time() - start)
        print(f"{name:30} {best * 1000 / 256:.2f} s/GB")

    clock("hashlib.sha256", lambda: hashlib.sha256(data).digest())
    clock("gml.cas.chunking", lambda: chunking.Cutter().cuts(data, final=True))
    clock("  zeros", lambda: chunking.Cutter().cuts(bytes(256 * MB), final=True))
    text = b"".join(table(6_000_000))[: 256 * MB]
    clock("  a table", lambda: chunking.Cutter().cuts(text, final=True))
    try:
        import fastcdc
    except ImportError:
        print("fastcdc is not installed")
        return
    sizes = (128 << 10, 256 << 10, 1 << 20)
    clock("fastcdc", lambda: sum(1 for _ in fastcdc.fastcdc(data, *sizes)))


if __name__ == "__main__":
    cutters() if "cutters" in sys.argv else sizes()
