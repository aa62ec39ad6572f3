"""Files to be stored, the same for each tool."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

MB = 1_000_000
LINE = 64


def random_file(path: Path, size: int, seed: int = 0) -> Path:
    """Write random bytes, the same for the same seed."""
    draw = np.random.default_rng(seed)
    with path.open("wb") as out:
        for start in range(0, size, 16 * MB):
            out.write(draw.bytes(min(16 * MB, size - start)))
    return path


def many_files(folder: Path, count: int, size: int) -> Path:
    """Write many small files."""
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"{number:05}.bin").write_bytes(os.urandom(size))
    return folder


def checkpoint(path: Path, size: int, step: int) -> Path:
    """Write a checkpoint of twenty layers of which two, others at each step, were trained."""
    layer = size // 20
    with path.open("wb") as out:
        for number in range(20):
            trained = number in {step % 20, (7 * step + 3) % 20}
            seed = 1000 * (step + 1) + number if trained else number
            out.write(np.random.default_rng(seed).bytes(layer))
    return path


def table(path: Path, size: int, inserted: int = 0) -> Path:
    """Write a CSV file of random digits, with so many rows inserted at random places."""
    rows = size // LINE
    places = sorted(np.random.default_rng(5).integers(0, rows, inserted).tolist())
    done = 0
    with path.open("wb") as out:
        for block in range(0, rows, 200_000):
            lines = _lines(min(200_000, rows - block), block)
            here = [place for place in places if block <= place < block + 200_000]
            at = 0
            for place in here:
                out.write(lines[at * LINE : (place - block) * LINE])
                out.write(_lines(1, 10**9 + done))
                done += 1
                at = place - block
            out.write(lines[at * LINE :])
    return path


def _lines(count: int, seed: int) -> bytes:
    digits = np.random.default_rng(seed).integers(48, 58, (count, LINE), dtype=np.uint8)
    digits[:, 8:-1:8] = ord(",")
    digits[:, -1] = ord("\n")
    return digits.tobytes()


def parquet(path: Path, size: int, groups: int) -> Path:
    """Write a Parquet file of so many equal row groups; `size` is that of ten."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = size // 10 // 64
    schema = pa.schema([(f"x{number}", pa.float64()) for number in range(8)])
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=False) as writer:
        for group in range(groups):
            draw = np.random.default_rng(group)
            writer.write_table(pa.table([draw.random(rows) for _ in range(8)], schema), row_group_size=rows)
    return path


def sparse(path: Path, size: int) -> Path:
    """Write a file that is mostly a hole, with random bytes here and there."""
    with path.open("wb") as out:
        for start in range(0, size, 100 * MB):
            out.seek(start)
            out.write(os.urandom(MB))
        out.truncate(size)
    return path
