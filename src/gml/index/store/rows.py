"""From a run to the rows of the index.

Most runs have a record and no edits. Theirs are made from the record's JSON: its metrics, which are most
of it, never become objects. Everything else goes through `gml.domain.run.fold`; a test holds both ways equal.
"""

from __future__ import annotations

import math
from array import array
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import orjson

from gml.domain.errors import CorruptError
from gml.domain.ids import is_time_ordered
from gml.domain.metrics import MetricSummary
from gml.domain.run import fold
from gml.index.as_mlflow import mlflow_tags
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

Row: TypeAlias = tuple[Any, ...]
Waiting: TypeAlias = tuple[list[Row], list[Row], list[Row], list[Row], list[Row]]
_by_id: Final = itemgetter(0)


class Rows:
    """Rows that wait for being inserted, those of one chunk of runs.

    Args:
        key_id: gives the number of (section, key).
    """

    def __init__(self, key_id: Callable[[int, str], int]) -> None:
        self._key_id = key_id
        self.runs: list[Row] = []
        self.details: list[Row] = []
        # Rows without NULL apart: Python passes a None to SQLite at twenty times the cost of a number.
        self.points: list[Row] = []
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
            metrics = record.get("metrics") or {}
            bases, held = self._shape(schema.METRIC, metrics)
            points: list[Row] = []
            others: list[Row] = []
            for base, data in zip(bases, metrics.values(), strict=True):
                last, step = data["last"], data["step"]
                # Nearly all there is: one point, and a number that JSON has.
                if (
                    len(data) == 3
                    and last.__class__ is float
                    and step.__class__ is int
                    and abs(step) < _MAX_INT
                ):
                    points.append((base + rid, last, step))
                else:
                    _place(base + rid, MetricSummary.from_json(data), points, others)
            self._add(rid, entry, fold(entry.run_id, small, ()), held, points, others)
        except MISSHAPEN as error:
            raise _misshapen(entry, error) from None

    def add_run(self, rid: int, entry: RunEntry, run: Run) -> None:
        """Take a folded run; raises as `add_record`."""
        try:
            bases, held = self._shape(schema.METRIC, run.metrics)
            points: list[Row] = []
            others: list[Row] = []
            for base, summary in zip(bases, run.metrics.values(), strict=True):
                _place(base + rid, summary, points, others)
            self._add(rid, entry, run, held, points, others)
        except MISSHAPEN as error:
            raise _misshapen(entry, error) from None

    def _add(
        self, rid: int, entry: RunEntry, run: Run, held: bytes, points: list[Row], others: list[Row]
    ) -> None:
        # Everything is made before anything is kept: a damaged run must not leave half of its rows.
        texts: list[Row] = []
        for section, found in ((schema.PARAM, run.params), (schema.TAG, mlflow_tags(run))):
            bases, ids = self._shape(section, found)
            held += ids
            for base, value in zip(bases, found.values(), strict=True):
                if value.__class__ is not str:
                    raise TypeError(f"{value!r} is not text")
                texts.append((base + rid, value))
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
        self.points += points
        self.metrics += others
        self.texts += texts
        self.runs.append(run_row)
        self.details.append(details)

    def waiting(self) -> Waiting:
        """Return the rows: of runs, details, metrics with one point, other metrics, params and tags.

        Each in the order of their ids, which are few pages of the tables.
        """
        for rows in (self.points, self.metrics, self.texts):
            rows.sort(key=_by_id)
        return self.runs, self.details, self.points, self.metrics, self.texts

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


def inserts(waiting: Waiting) -> list[tuple[str, list[Row]]]:
    """Return the statements that insert rows, each with its rows.

    Which texts are numbers is found out here and not in `Rows`: a second process may fill those, and then
    both have about the same to do.
    """
    runs, details, points, metrics, texts = waiting
    numbers: list[Row] = []
    others: list[Row] = []
    for row in texts:
        number = finite_number(row[1])
        if number is None:
            others.append(row)
        else:
            numbers.append((*row, number))
    return [
        ("run_rows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", runs),
        ("details VALUES (?, ?, ?, ?, ?, ?, ?)", details),
        ("metric_rows (id, last, step) VALUES (?, ?, ?)", points),
        ("metric_rows VALUES (?, ?, ?, ?, ?, ?)", metrics),
        ("text_rows (id, value, num) VALUES (?, ?, ?)", numbers),
        ("text_rows (id, value) VALUES (?, ?)", others),
    ]


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


def _place(row_id: int, summary: MetricSummary, points: list[Row], others: list[Row]) -> None:
    """Put the row of a metric where it belongs."""
    last, low, high = _real(summary.last), _real(summary.min), _real(summary.max)
    step = _integer(summary.step)
    if summary.count == 1 and low == last == high:
        if last is None:
            others.append((row_id, None, step, None, None, None))
        else:
            points.append((row_id, last, step))
    else:
        others.append((row_id, last, step, _integer(summary.count), low, high))


def _real(value: float) -> float | None:
    return None if math.isnan(value) else value


def _integer(value: Any) -> int:
    """Return a whole number as SQLite can keep it; JSON has larger ones, which sort the same."""
    if value.__class__ is not int:
        raise TypeError(f"{value!r} is not a whole number")
    return max(-_MAX_INT - 1, min(_MAX_INT, value))


def finite_number(value: Any) -> float | None:
    """Return the number that a text is; None for NaN and for other text. Agrees with `number_of`.

    Raises:
        TypeError: it is not text.

    Example:
        >>> finite_number("1e-3"), finite_number("1_000"), finite_number("nan")
        (0.001, None, None)
    """
    if value.__class__ is not str:
        raise TypeError(f"{value!r} is not text")
    # `float` also takes spaces, underscores and the digits of all scripts, which `number_of` does not.
    if value[-1:] not in _LAST_OF_NUMBER or not value.isascii() or "_" in value or value[0] <= " ":
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return None if number != number else number  # noqa: PLR0124


def _misshapen(entry: RunEntry, error: Exception) -> CorruptError:
    said = f"{type(error).__name__}: {error}"[:200]
    return CorruptError(
        f"run {entry.run_id} is not as the format says ({said})", hint="`gml doctor` names all damage"
    )
