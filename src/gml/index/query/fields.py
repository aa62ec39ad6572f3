"""What a query can look at: names, types, and how a run's values are found."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from gml.index.as_mlflow import artifact_uri, mlflow_tag
from gml.index.query import ast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from gml.domain.metrics import MetricSummary
    from gml.domain.run import Run

    # (run, metric key) -> steps, timestamps and values of a metric that the run has.
    History: TypeAlias = "Callable[[Run, str], tuple[Iterable[int], Iterable[int], Iterable[float]]]"
    Getter: TypeAlias = "Callable[[Run, Context], Any]"

# The type of a field decides which operators and literals go with it.
NUMBER: Final = "number"
MIXED: Final = "mixed"
TEXT: Final = "text"
TIME: Final = "time"
DURATION: Final = "duration"
BOOLEAN: Final = "boolean"

ENTITIES: Final = {
    "metric": ast.METRIC, "metrics": ast.METRIC,
    "param": ast.PARAM, "params": ast.PARAM, "parameter": ast.PARAM, "parameters": ast.PARAM,
    "tag": ast.TAG, "tags": ast.TAG,
    "attribute": ast.ATTRIBUTE, "attributes": ast.ATTRIBUTE, "attr": ast.ATTRIBUTE, "run": ast.ATTRIBUTE,
    "dataset": ast.DATASET, "datasets": ast.DATASET, "input": ast.DATASET, "inputs": ast.DATASET,
    "code": ast.CODE,
    "env": ast.ENV,
}  # fmt: skip
ATTRIBUTES: Final = {
    "run_id": TEXT, "run_name": TEXT, "status": TEXT, "user_id": TEXT, "artifact_uri": TEXT,
    "start_time": TIME, "end_time": TIME, "duration": DURATION,
    "experiment_name": TEXT, "experiment_id": TEXT, "lifecycle_stage": TEXT, "dirty": BOOLEAN,
}  # fmt: skip
ATTRIBUTE_ALIASES: Final = {
    "name": "run_name", "user": "user_id", "created": "start_time", "experiment": "experiment_name",
}  # fmt: skip
DATASET_KEYS: Final = ("name", "digest", "context")
CONTEXT_TAG: Final = "mlflow.data.context"

_NUMBER = re.compile(
    r"[+-]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|(?i:nan|inf|infinity))", re.ASCII
)

_FIRST: Final = frozenset("0123456789+-.nNiI")


class NeedsHistoryError(Exception):
    """A value at a step was asked for, and there is nothing to read metric points with."""


class Context(NamedTuple):
    """What a run does not know about itself.

    Attributes:
        experiment_name: of its experiment; None where nobody says, which counts as missing.
        history: reads metric points, None where no query needs them.
    """

    experiment_name: str | None = None
    history: History | None = None


def type_of(field: ast.Field) -> str:
    """Return the type of a field: NUMBER, MIXED, TEXT, TIME, DURATION or BOOLEAN."""
    if field.entity == ast.METRIC:
        return NUMBER
    if field.entity == ast.ATTRIBUTE:
        return ATTRIBUTES[field.key]
    return TEXT if field.entity == ast.DATASET else MIXED


def attribute_name(text: str) -> str | None:
    """Return the canonical name of an attribute, None for an unknown one.

    Example:
        >>> attribute_name("Run Name")
        'run_name'
    """
    name = text.strip().lower().replace(" ", "_")
    name = ATTRIBUTE_ALIASES.get(name, name)
    return name if name in ATTRIBUTES else None


def number_of(text: str) -> float | None:
    """Return the number that a param's text is, None where it is none.

    Decimal digits, a point, an exponent, a sign, and the words nan, inf and infinity; no spaces, no
    underscores, no other digits. Numbers compare as 64-bit floats.

    Example:
        >>> number_of("1e-3"), number_of("1_000")
        (0.001, None)
    """
    # Most text is no number, which its first character tells at a fraction of the expression's cost.
    if text[:1] not in _FIRST or not _NUMBER.fullmatch(text):
        return None
    return float(text)


def as_text(value: Any) -> str | list[str] | None:
    """Return a JSON value as queries compare it: scalars as text, lists as several, the rest not at all.

    Example:
        >>> as_text(True), as_text(2), as_text(["a.py", None]), as_text({})
        ('true', '2', ['a.py'], None)
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        texts = (as_text(item) for item in value)
        return [text for text in texts if isinstance(text, str)]
    return None


def lookup(section: Mapping[str, Any], key: str) -> str | list[str] | None:
    """Return the value of a key of `Run.source` or `Run.environment`.

    A key that is there goes first; otherwise a dot leads into a table.

    Example:
        >>> lookup({"packages": {"scikit-learn": "1.4"}}, "packages.scikit-learn")
        '1.4'
    """
    place: Any = section
    while isinstance(place, dict) or place is section:
        if key in place:
            return as_text(place[key])
        head, dot, key = key.partition(".")
        if not dot:
            return None
        place = place.get(head)
    return None


def getter(field: ast.Field) -> Getter:
    """Return the function that finds a field's value in a run.

    It returns None for a missing value and a list where a run has several (data sets, lists of
    `code.` and `env.`). Text for TEXT and MIXED fields, numbers for the others, bool for `dirty`.
    """
    key = field.key
    match field.entity:
        case ast.METRIC:
            return _metric(field)
        case ast.PARAM:
            return lambda run, _: run.params.get(key)
        case ast.TAG:
            return lambda run, _: mlflow_tag(run, key)
        case ast.CODE:
            return lambda run, _: lookup(run.source, key)
        case ast.ENV:
            return lambda run, _: lookup(run.environment, key)
        case ast.DATASET:
            return lambda run, _: _datasets(run, key)
        case _:
            return _ATTRIBUTE_GETTERS[key]


def _dirty(run: Run, _: Context) -> bool | None:
    value = run.source.get("dirty")
    return value if isinstance(value, bool) else None


_ATTRIBUTE_GETTERS: Final[dict[str, Getter]] = {
    "run_id": lambda run, _: run.run_id,
    "run_name": lambda run, _: run.name,
    "status": lambda run, _: run.status,
    "user_id": lambda run, _: run.user,
    "artifact_uri": lambda run, _: artifact_uri(run),
    "start_time": lambda run, _: run.start_time,
    "end_time": lambda run, _: run.end_time,
    "duration": lambda run, _: run.duration,
    "experiment_name": lambda _, context: context.experiment_name,
    "experiment_id": lambda run, _: run.experiment_id,
    "lifecycle_stage": lambda run, _: run.lifecycle_stage,
    "dirty": _dirty,
}


def _datasets(run: Run, key: str) -> list[str]:
    if key == "context":
        values = [(entry.get("tags") or {}).get(CONTEXT_TAG) for entry in run.inputs]
    else:
        values = [entry.get(key) for entry in run.inputs]
    return [value for value in values if isinstance(value, str)]


def _metric(field: ast.Field) -> Getter:
    key, part, step = field.key, field.part, field.step
    if step is not None:
        return lambda run, context: _at_step(run, key, step, context)
    if not part:
        return lambda run, _: _part(run.metrics.get(key), ast.LAST)
    if field.exact:
        return lambda run, _: _part(run.metrics.get(key), part)
    whole = f"{key}.{part}"

    def find(run: Run, _: Context) -> float | None:
        own = run.metrics.get(whole)
        return own.last if own is not None else _part(run.metrics.get(key), part)

    return find


def _part(summary: MetricSummary | None, part: str) -> float | None:
    if summary is None:
        return None
    match part:
        case ast.MIN:
            return summary.min
        case ast.MAX:
            return summary.max
        case ast.COUNT:
            return summary.count
        case _:
            return summary.last


def _at_step(run: Run, key: str, step: int, context: Context) -> float | None:
    if key not in run.metrics:
        return None
    if context.history is None:
        raise NeedsHistoryError(key)
    steps, times, values = context.history(run, key)
    at_step = [(t, v) for s, t, v in zip(steps, times, values, strict=True) if s == step]
    # Of several points at a step the last counts, as everywhere: greatest time, then value, NaN lowest.
    return float(max(at_step, key=lambda p: (p[0], not math.isnan(p[1]), p[1]))[1]) if at_step else None
