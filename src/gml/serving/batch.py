"""Predictions of whole files, a part at a time: memory does not grow with the file."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Self

from gml.domain.errors import InvalidValueError, NotFoundError, UsageError
from gml.fs import storage_error
from gml.models import parse
from gml.models.enforce import SchemaError
from gml.models.flavor import need
from gml.serving import encode
from gml.serving.protocol import Scorer

if TYPE_CHECKING:
    from gml.models.loaded import PyFuncModel
    from gml.models.schema import Schema

Progress = Callable[[int, int | None], None]
KINDS: Final = ("csv", "json", "jsonl", "parquet")


@dataclass(frozen=True)
class BatchOptions:
    """How a file is predicted.

    Attributes:
        kind: format of the input; by its name where it is None.
        rows: rows at a time.
        progress: called with rows done and rows in all, where that is known.
    """

    kind: str | None = None
    rows: int = 65_536
    progress: Progress | None = None


def predict_file(model: PyFuncModel, source: str | None, target: str | None, options: BatchOptions) -> int:
    """Predict every row of a file.

    Args:
        model: the model.
        source: CSV, JSON (a request of the scoring protocol), JSON lines or Parquet; standard input for None.
        target: CSV, JSON lines, JSON or Parquet by its name; JSON on standard output for None. It appears
            when it is whole.
        options: the rest.

    Returns:
        How many rows.

    Raises:
        NotFoundError: the input does not exist.
        UsageError: a format that is not known.
        InvalidValueError: rows that do not fit the signature; says which.
    """
    kind = options.kind or _kind(source)
    if kind == "json":
        return _predict_request(model, source, target)
    signature = model.metadata.signature
    parts = _parts(kind, source, options, signature.inputs if signature is not None else None)
    with _Writer(target) as writer:
        done = 0
        for part, total in parts:
            try:
                predictions = model.predict(part)
            except SchemaError as error:
                raise InvalidValueError(f"rows {done + 1} to {done + len(part)}: {error.message}") from error
            writer.write(predictions)
            done += len(part)
            if options.progress is not None:
                options.progress(done, total)
    return done


def _kind(path: str | None) -> str:
    if path is None:
        return "json"
    ending = Path(path).suffix.lower().lstrip(".")
    if ending not in KINDS:
        raise UsageError(
            f"{path!r} is of no known format", hint=f"it ends in .{', .'.join(KINDS)}; or say -t"
        )
    return ending


def _predict_request(model: PyFuncModel, source: str | None, target: str | None) -> int:
    body = sys.stdin.buffer.read() if source is None else _read(source)
    scorer = Scorer(model)
    answer = scorer.score(body, "application/json")
    if answer.status != 200:
        raise InvalidValueError(str(json.loads(answer.body)["message"]))
    if target is None:
        sys.stdout.write(answer.body.decode() + "\n")
        return answer.rows
    if _kind(target) == "json":
        Path(target).write_bytes(answer.body + b"\n")
        return answer.rows
    with _Writer(target) as writer:
        writer.write(json.loads(answer.body)["predictions"])
    return answer.rows


def _read(source: str) -> bytes:
    try:
        return Path(source).read_bytes()
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {source}") from None
    except OSError as error:
        raise storage_error(error, f"cannot read {source}") from error


def _parts(
    kind: str, source: str | None, options: BatchOptions, schema: Schema | None
) -> Iterator[tuple[Any, int | None]]:
    if source is not None and not Path(source).is_file():
        raise NotFoundError(f"there is no file {source}")
    if kind == "parquet":
        return _parquet_parts(source, options.rows)
    return _text_parts(kind, source, options.rows, schema)


def _parquet_parts(source: str | None, rows: int) -> Iterator[tuple[Any, int | None]]:
    parquet = need("pyarrow.parquet", "gitml[parquet]")
    file: Any = source if source is not None else io.BytesIO(sys.stdin.buffer.read())
    try:
        opened = parquet.ParquetFile(file, memory_map=source is not None)
    except Exception as error:
        raise InvalidValueError(f"{source or 'standard input'} is not Parquet: {error}") from error
    total = opened.metadata.num_rows
    for batch in opened.iter_batches(batch_size=rows):
        yield batch.to_pandas(), total


def _text_parts(
    kind: str, source: str | None, rows: int, schema: Schema | None
) -> Iterator[tuple[Any, int | None]]:
    import pandas as pd

    file: Any = source if source is not None else sys.stdin
    try:
        if kind == "csv":
            reader: Any = pd.read_csv(file, chunksize=rows, dtype=parse.csv_types(schema))
        else:
            reader = pd.read_json(file, lines=True, chunksize=rows)
        with reader:
            for part in reader:
                yield part, None
    except (ValueError, UnicodeDecodeError) as error:
        raise InvalidValueError(f"{source or 'standard input'} is not {kind}: {error}") from error


class _Writer:
    """A file of predictions that appears under its name when it is whole."""

    def __init__(self, target: str | None) -> None:
        self._target = None if target is None else Path(target)
        self._kind = "jsonl" if target is None else _kind(target)
        self._temporary = (
            None if self._target is None else self._target.with_name(f".{self._target.name}.part")
        )
        self._file: BinaryIO | None = None
        self._parquet: Any = None
        self._first = True

    def __enter__(self) -> Self:
        try:
            if self._temporary is not None:
                self._temporary.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._temporary.open("wb")
        except OSError as error:
            raise storage_error(error, f"cannot write {self._target}") from error
        return self

    def write(self, raw: Any) -> None:
        """Append predictions."""
        if self._kind == "json":
            body = encode.predictions(raw, wrapped=False)[1:-1]
            self._put(b"[" if self._first else b"," if body else b"")
            self._put(body)
        else:
            self._table(_frame(raw))
        self._first = False

    def _table(self, frame: Any) -> None:
        if self._kind == "csv":
            self._put(frame.to_csv(index=False, header=self._first).encode())
        elif self._kind == "jsonl":
            self._put(frame.to_json(orient="records", lines=True).encode())
        else:
            arrow = need("pyarrow", "gitml[parquet]")
            table = arrow.Table.from_pandas(frame, preserve_index=False)
            if self._parquet is None:
                self._parquet = need("pyarrow.parquet", "gitml[parquet]").ParquetWriter(
                    self._file, table.schema
                )
            self._parquet.write_table(table.cast(self._parquet.schema))

    def _put(self, data: bytes) -> None:
        if self._file is None:
            sys.stdout.buffer.write(data)
            return
        self._file.write(data)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None and self._kind == "json":
            self._put(b"[]\n" if self._first else b"]\n")
        if self._parquet is not None:
            self._parquet.close()
        if self._file is not None:
            self._file.close()
        if self._temporary is None or self._target is None:
            return
        if kind is None:
            self._temporary.replace(self._target)
        else:
            with suppress(OSError):
                self._temporary.unlink(missing_ok=True)


def _frame(raw: Any) -> Any:
    import numpy as np
    import pandas as pd

    if isinstance(raw, pd.DataFrame):
        return raw
    if isinstance(raw, pd.Series):
        return pd.DataFrame({"prediction": raw.to_numpy()})
    array = np.asarray(raw)
    if array.ndim == 2 and array.dtype != object:
        return pd.DataFrame(array, columns=[f"prediction_{at}" for at in range(array.shape[1])])
    if isinstance(raw, list) and raw and isinstance(raw[0], dict):
        return pd.DataFrame(raw)
    return pd.DataFrame({"prediction": list(raw) if array.ndim else [raw]})
