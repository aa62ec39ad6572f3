"""A folder of DVCLive: `metrics.json`, `params.yaml`, and a table for each metric in `plots/metrics`."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import yaml

from gml.compat import artifact_files
from gml.compat.foreign import ForeignRun, Losses
from gml.compat.gathered import Gathered, fingerprint, made_id
from gml.domain.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from gml.compat.foreign import Point


def read_dvclive(folder: Path, experiment: str) -> Gathered:
    """Return the one run of a folder; its other files are its artifacts.

    Raises:
        NotFoundError: there is no such folder.
        UsageError: DVCLive did not write it.
    """
    if not folder.is_dir():
        raise NotFoundError(f"there is no folder {folder}")
    tables = sorted((folder / "plots/metrics").rglob("*.tsv"))
    summary = folder / "metrics.json"
    if not tables and not summary.is_file():
        raise UsageError(
            f"{folder} has neither metrics.json nor plots/metrics", hint="give the folder dvclive/"
        )
    losses = Losses()
    stamp = max(
        int(file.stat().st_mtime * 1000) for file in [*tables, *([summary] if summary.is_file() else [])]
    )
    points: list[Point] = []
    for table in tables:
        points += _points(folder, table, stamp, losses)
    known = {key for key, *_ in points}
    if summary.is_file():
        try:
            flat = _flat(json.loads(summary.read_text("utf-8")))
        except (ValueError, OSError) as error:
            raise UsageError(f"{summary} cannot be read ({error})") from error
        for key, value in flat.items():
            if key not in known and key != "step" and isinstance(value, (int, float)):
                points.append((key, float(value), stamp, int(flat.get("step", 0) or 0)))
    params: dict[str, str] = {}
    for file in (folder / "params.yaml", folder.parent / "params.yaml"):
        if file.is_file():
            try:
                found = yaml.safe_load(file.read_text("utf-8"))
            except (OSError, ValueError, yaml.YAMLError):
                losses.add("params files that cannot be read", str(file))
                continue
            params = {key: str(value) for key, value in _flat(found).items()}
            break
    first = min((time for _, _, time, _ in points), default=stamp)
    run = ForeignRun(
        made_id("dvclive", folder.resolve()),
        experiment,
        folder.resolve().parent.name if folder.name == "dvclive" else folder.name,
        status="FINISHED",
        start=first,
        end=stamp,
        params=params,
        points=lambda: points,
        files=lambda: artifact_files.walk(folder, losses),
        fingerprint=fingerprint(artifact_files.fingerprint(folder), params),
    )
    return Gathered(str(folder), [run], losses)


def _points(folder: Path, table: Path, stamp: int, losses: Losses) -> list[Point]:
    key = table.relative_to(folder / "plots/metrics").with_suffix("").as_posix()
    found: list[Point] = []
    with table.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file, delimiter="\t")):
            try:
                step = int(row.get("step") or number)
                time = int(row["timestamp"]) if row.get("timestamp") else stamp
                value = next(v for k, v in row.items() if k not in {"step", "timestamp"} and v is not None)
                found.append((key, float(value), time, step))
            except (ValueError, StopIteration):
                losses.add("rows of tables that are no metric points", f"{table.name}, row {number + 1}")
    return found


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return a nested map as one with keys like `train/acc`."""
    if not isinstance(value, dict):
        return {prefix: value} if prefix else {}
    found: dict[str, Any] = {}
    for key, each in value.items():
        found |= _flat(each, f"{prefix}/{key}" if prefix else str(key))
    return found
