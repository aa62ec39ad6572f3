"""Runs and metric points as flat rows: CSV, JSON, JSON lines and Parquet, written as they come.

Nothing here is kept for longer than one run, or one batch of Parquet rows.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Final

import orjson

from gml.domain.errors import MissingPackageError
from gml.domain.metrics import number_to_json
from gml.index.as_mlflow import mlflow_tags

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from gml.domain.run import Run
    from gml.ledger.history import Columns

FORMATS: Final = ("csv", "json", "jsonl", "parquet")
TEXT: Final = "text"
INTEGER: Final = "integer"
REAL: Final = "real"
BOOLEAN: Final = "boolean"

# name -> type of the columns that every export of runs has.
FIXED: Final = {
    "run_id": TEXT, "name": TEXT, "experiment_id": TEXT, "experiment": TEXT, "status": TEXT, "user": TEXT,
    "start_time": INTEGER, "end_time": INTEGER, "lifecycle_stage": TEXT, "parent_run_id": TEXT,
    "code.commit": TEXT, "code.branch": TEXT, "code.dirty": BOOLEAN,
}  # fmt: skip
POINTS: Final = {"run_id": TEXT, "key": TEXT, "step": INTEGER, "timestamp": INTEGER, "value": REAL}

_BATCH: Final = 20_000
_CELLS: Final = 250_000


@dataclass(frozen=True, slots=True)
class Keys:
    """The params, metrics and tags that get a column, in order."""

    params: Sequence[str] = ()
    metrics: Sequence[str] = ()
    tags: Sequence[str] = field(default=())

    def columns(self) -> dict[str, str]:
        """Return name -> type of all columns of an export of runs.

        Example:
            >>> list(Keys(["lr"], ["auc"]).columns())[-2:]
            ['params.lr', 'metrics.auc']
        """
        return {
            **FIXED,
            **{f"params.{key}": TEXT for key in self.params},
            **{f"metrics.{key}": REAL for key in self.metrics},
            **{f"tags.{key}": TEXT for key in self.tags},
        }


def run_row(run: Run, experiments: Mapping[str, str]) -> dict[str, Any]:
    """Return a run as one flat row; what it does not have is not in it, or None among the fixed columns."""
    source = run.source
    dirty = source.get("dirty")
    row: dict[str, Any] = {
        "run_id": run.run_id,
        "name": run.name,
        "experiment_id": run.experiment_id,
        "experiment": experiments.get(run.experiment_id, run.experiment_id),
        "status": run.status,
        "user": run.user,
        "start_time": run.start_time,
        "end_time": run.end_time,
        "lifecycle_stage": run.lifecycle_stage,
        "parent_run_id": run.parent_run_id,
        "code.commit": _text(source.get("commit")),
        "code.branch": _text(source.get("branch")),
        "code.dirty": dirty if isinstance(dirty, bool) else None,
    }
    row.update((f"params.{key}", value) for key, value in run.params.items())
    row.update((f"metrics.{key}", summary.last) for key, summary in run.metrics.items())
    row.update((f"tags.{key}", value) for key, value in mlflow_tags(run).items())
    return row


def point_rows(
    runs: Iterable[Run], history: Callable[[Run, str], Columns]
) -> Iterator[tuple[str, str, Columns]]:
    """Yield run id, metric, and its steps, timestamps (milliseconds) and values, one metric at a time."""
    for run in runs:
        for key in sorted(run.metrics):
            yield run.run_id, key, history(run, key)


def write_runs(
    out: IO[bytes], form: str, rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str]
) -> int:
    """Write rows and return how many there were.

    Args:
        out: a binary file object.
        form: one of FORMATS.
        rows: column -> value; columns that are missing are empty.
        columns: name -> type. JSON has what a row has, the others have all of them.

    Raises:
        MissingPackageError: Parquet needs pyarrow.
    """
    match form:
        case "csv":
            return _write_csv(out, ([row.get(name) for name in columns] for row in rows), list(columns))
        case "parquet":
            size = max(1, min(_BATCH, _CELLS // max(1, len(columns))))
            names = list(columns)
            return _write_parquet(
                out,
                columns,
                ({n: [row.get(n) for row in batch] for n in names} for batch in _batches(rows, size)),
            )
        case _:
            return _write_json(out, rows, lines=form == "jsonl")


def write_points(out: IO[bytes], form: str, metrics: Iterable[tuple[str, str, Columns]]) -> int:
    """Write metric points, one a row, and return how many there were; arguments as `write_runs`."""
    if form == "parquet":
        return _write_parquet(out, POINTS, _point_batches(metrics))
    rows = (
        (run_id, key, step, time, value)
        for run_id, key, columns in metrics
        for step, time, value in zip(*(column.tolist() for column in columns), strict=True)
    )
    if form == "csv":
        return _write_csv(out, rows, list(POINTS))
    return _write_json(out, (dict(zip(POINTS, row, strict=True)) for row in rows), lines=form == "jsonl")


def require_parquet() -> Any:
    """Return pyarrow with its Parquet module.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError:
        raise MissingPackageError("Parquet needs pyarrow", hint="pip install pyarrow") from None
    return pa


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _write_csv(out: IO[bytes], rows: Iterable[Sequence[Any]], columns: Sequence[str]) -> int:
    text = io.TextIOWrapper(out, "utf-8", newline="", write_through=False)
    count = 0
    try:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            writer.writerow([_cell(value) for value in row])
            count += 1
        text.flush()
    finally:
        text.detach()
    return count


def _cell(value: Any) -> Any:
    if value.__class__ is float:
        return repr(value)
    return {True: "true", False: "false"}[value] if value.__class__ is bool else value


def _write_json(out: IO[bytes], rows: Iterable[Mapping[str, Any]], *, lines: bool) -> int:
    count = 0
    for row in rows:
        # NaN and infinities become text, as everywhere in gml's JSON.
        value = {k: number_to_json(v) if v.__class__ is float else v for k, v in row.items()}
        out.write((b"" if lines else b",\n" if count else b"[\n") + orjson.dumps(value))
        if lines:
            out.write(b"\n")
        count += 1
    if not lines:
        out.write(b"\n]\n" if count else b"[]\n")
    return count


def _write_parquet(
    out: IO[bytes], columns: Mapping[str, str], batches: Iterable[Mapping[str, Sequence[Any]]]
) -> int:
    pa = require_parquet()
    types = {TEXT: pa.string(), INTEGER: pa.int64(), REAL: pa.float64(), BOOLEAN: pa.bool_()}
    schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
    count = 0
    with pa.parquet.ParquetWriter(out, schema) as writer:
        for batch in batches:
            arrays = [pa.array(batch[name], types[kind], from_pandas=False) for name, kind in columns.items()]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            count += len(arrays[0])
    return count


def _batches(rows: Iterable[Mapping[str, Any]], size: int) -> Iterator[list[Mapping[str, Any]]]:
    batch: list[Mapping[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _point_batches(metrics: Iterable[tuple[str, str, Columns]]) -> Iterator[dict[str, list[Any]]]:
    """Gather short metrics and cut long ones, so that a batch is worth a row group and bounded."""
    batch: dict[str, list[Any]] = {name: [] for name in POINTS}
    for run_id, key, (steps, times, values) in metrics:
        for start in range(0, len(steps), _BATCH):
            part = slice(start, start + _BATCH)
            batch["step"] += steps[part].tolist()
            batch["timestamp"] += times[part].tolist()
            batch["value"] += values[part].tolist()
            added = len(batch["step"]) - len(batch["key"])
            batch["run_id"] += [run_id] * added
            batch["key"] += [key] * added
            if len(batch["key"]) >= _BATCH:
                yield batch
                batch = {name: [] for name in POINTS}
    if batch["key"]:
        yield batch
