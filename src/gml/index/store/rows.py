"""From a run to the rows of the index.

Most runs have a record and no edits. Theirs are made from the record's JSON: its metrics, which are most
of it, never become objects. Everything else goes through `gml.domain.run.fold`; a test holds both ways equal.
"""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING, Any, Final

import orjson

from gml.domain.errors import CorruptError
from gml.domain.ids import is_time_ordered
from gml.domain.metrics import MetricSummary
from gml.domain.run import fold
from gml.index.as_mlflow import mlflow_tags
from gml.index.query.fields import number_of
from gml.index.store import schema

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gml.domain.run import Document, Run
    from gml.ledger.view import RunEntry

# What a row is not made of, and metrics, which have their own way.
_UNUSED: Final = ("metrics", "artifacts", "history", "hist", "outputs", "process")
# What hand-made or damaged documents raise where they have another shape than the format says.
MISSHAPEN: Final = (AttributeError, TypeError, ValueError, KeyError, IndexError, OverflowError)
_MAX_INT: Final = (1 << 63) - 1
_LAST_OF_NUMBER: Final = frozenset("0123456789.nNfFyY")

Row = tuple[Any, ...]


class Rows:
    """Rows that wait for being inserted, those of one chunk of runs.

    Args:
        key_id: gives the number of (section, key).
    """

    def __init__(self, key_id: Callable[[int, str], int]) -> None:
        self._key_id = key_id
        self.runs: list[Row] = []
        self.details: list[Row] = []
        self.metrics: list[Row] = []
        self.texts: list[Row] = []
        self._shapes: dict[tuple[int, tuple[str, ...]], tuple[list[int], bytes]] = {}

    def add_record(self, rid: int, entry: RunEntry, record: Document) -> None:
        """Take a run that consists of its record alone.

        Raises:
            CorruptError: a value has a type that it cannot have.
        """
        try:
            small = {key: value for key, value in record.items() if key not in _UNUSED}
            self._add(rid, entry, fold(entry.run_id, small, ()), record.get("metrics") or {}, _from_json)
        except MISSHAPEN as error:
            raise _misshapen(entry, error) from None

    def add_run(self, rid: int, entry: RunEntry, run: Run) -> None:
        """Take a folded run; raises as `add_record`."""
        try:
            self._add(rid, entry, run, run.metrics, _from_summary)
        except MISSHAPEN as error:
            raise _misshapen(entry, error) from None

    def _add(
        self, rid: int, entry: RunEntry, run: Run, metrics: Mapping[str, Any], row: Callable[[int, Any], Row]
    ) -> None:
        # Everything is made before anything is kept: a damaged run must not leave half of its rows.
        bases, held = self._shape(schema.METRIC, metrics)
        metric_rows = [row(base + rid, data) for base, data in zip(bases, metrics.values(), strict=True)]
        text_rows: list[Row] = []
        for section, texts in ((schema.PARAM, run.params), (schema.TAG, mlflow_tags(run))):
            bases, ids = self._shape(section, texts)
            held += ids
            text_rows += [
                (base + rid, value, _number(value)) for base, value in zip(bases, texts.values(), strict=True)
            ]
        run_row = _run_row(rid, run)
        details = (
            rid,
            entry.record,
            entry.folder,
            held,
            orjson.dumps(dict(run.source)).decode(),
            orjson.dumps(dict(run.environment)).decode(),
            orjson.dumps([dict(each) for each in run.inputs]).decode() if run.inputs else "[]",
        )
        self.metrics += metric_rows
        self.texts += text_rows
        self.runs.append(run_row)
        self.details.append(details)

    def _shape(self, section: int, values: Mapping[str, Any]) -> tuple[list[int], bytes]:
        """Return the row ids of keys less the run's number, and the keys' numbers as bytes.

        Runs of one script have the same keys: they are looked up once, not once a run.
        """
        shape = (section, tuple(values))
        found = self._shapes.get(shape)
        if found is None:
            ids = array("I", (self._key_id(section, key) for key in values))
            found = [each << schema.SHIFT for each in ids], ids.tobytes()
            if len(self._shapes) < 256:
                self._shapes[shape] = found
        return found


def position(run_id: str, start_time: int) -> str:
    """Return what runs are ordered by where nobody asks for an order; greater is newer.

    Example:
        >>> position("01983c1f2ab470008000000000000000", 0), position("imported", 255)
        ('01983c1f2ab470008000000000000000', '0000000000ff-imported')
    """
    return run_id if is_time_ordered(run_id) else f"{max(0, start_time):012x}-{run_id}"


def _run_row(rid: int, run: Run) -> Row:
    for text in (run.name, run.experiment_id, run.status, run.user, run.lifecycle_stage):
        if text.__class__ is not str:
            raise TypeError(f"{text!r} is not text")
    dirty = run.source.get("dirty")
    return (
        rid,
        run.run_id,
        run.run_id[-schema.TAIL :][::-1],
        position(run.run_id, run.start_time),
        run.name,
        run.experiment_id,
        run.status,
        run.user,
        _integer(run.start_time),
        None if run.end_time is None else _integer(run.end_time),
        run.lifecycle_stage,
        int(dirty) if isinstance(dirty, bool) else None,
        run.parent_run_id,
    )


def _from_json(row_id: int, data: dict[str, Any]) -> Row:
    if "count" in data:
        return _from_summary(row_id, MetricSummary.from_json(data))
    last = data["last"]
    if last.__class__ is not float:
        last = float(last)
    return (row_id, None if last != last else last, _integer(data["step"]), None, None, None)  # noqa: PLR0124


def _from_summary(row_id: int, summary: MetricSummary) -> Row:
    last, low, high = _real(summary.last), _real(summary.min), _real(summary.max)
    step = _integer(summary.step)
    if summary.count == 1 and low == last == high:
        return (row_id, last, step, None, None, None)
    return (row_id, last, step, _integer(summary.count), low, high)


def _real(value: float) -> float | None:
    return None if math.isnan(value) else value


def _integer(value: Any) -> int:
    """Return a whole number as SQLite can keep it; JSON has larger ones, which sort the same."""
    if value.__class__ is not int:
        raise TypeError(f"{value!r} is not a whole number")
    return max(-_MAX_INT - 1, min(_MAX_INT, value))


def _number(value: Any) -> float | None:
    """Return the number that a text is; None for NaN and other text. Agrees with `number_of`."""
    if value.__class__ is not str:
        raise TypeError(f"{value!r} is not text")
    # `float` takes spaces, underscores and the digits of all scripts, and `number_of` does not: only
    # where none of them can be the slow expression is left out.
    if value[-1:] in _LAST_OF_NUMBER and value.isascii() and "_" not in value and value[0] > " ":
        try:
            number = float(value)
        except ValueError:
            return None
        return None if number != number else number  # noqa: PLR0124
    found = number_of(value)
    return None if found is None or math.isnan(found) else found


def _misshapen(entry: RunEntry, error: Exception) -> CorruptError:
    said = f"{type(error).__name__}: {error}"[:200]
    return CorruptError(
        f"run {entry.run_id} is not as the format says ({said})", hint="`gml doctor` names all damage"
    )
