"""Requests: JSON objects and query strings read as MLflow's server reads them.

Its messages are protobuf ones: unknown fields are ignored, names may be snake_case or camelCase, numbers may
be text. Where a value has the wrong type, reading stops there; a field that is checked then answers with an
error, and one that is not is as if it had not been sent.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import orjson

from gml.service.errors import ServiceError
from gml.service.limits import MAX_INT64, invalid_value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

STRING: Final = "string"
INT: Final = "int64"
INT32: Final = "int32"
DOUBLE: Final = "double"
BOOL: Final = "bool"

_TAIL: Final = " See the API docs for more information about request parameters."
_SPECIAL: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_DIGITS = re.compile(r"[+-]?\d+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Enum:
    """One of some names, or its number; anything else is as if it had not been sent."""

    names: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Many:
    """A list."""

    of: Any


Type: TypeAlias = "str | Enum | Many | Mapping[str, Any]"
Check: TypeAlias = "str | Callable[[Any], None]"

STATUS: Final = Enum((("RUNNING", 1), ("SCHEDULED", 2), ("FINISHED", 3), ("FAILED", 4), ("KILLED", 5)))
VIEW: Final = Enum((("ACTIVE_ONLY", 1), ("DELETED_ONLY", 2), ("ALL", 3)))
MODEL_STATUS: Final = Enum(
    (("LOGGED_MODEL_PENDING", 1), ("LOGGED_MODEL_READY", 2), ("LOGGED_MODEL_UPLOAD_FAILED", 3))
)


@dataclass(frozen=True, slots=True)
class Message:
    """A kind of request.

    Attributes:
        fields: name -> type.
        checks: name -> what is checked, in this order: `required`, `string`, `int`, `float`, `array`,
            `strings`, or a function that raises.
    """

    fields: Mapping[str, Any]
    checks: Mapping[str, Sequence[Check]] = field(default_factory=dict)


class _TypeError(Exception):
    """A value is not of its field's type."""


def body_of(data: bytes, content_type: str | None) -> Any:
    """Return the JSON value of a request's body; an empty or malformed one is an empty object.

    Raises:
        ServiceError: the content type is another.
    """
    if (content_type or "").partition(";")[0].strip() != "application/json":
        raise ServiceError("Bad Request. Content-Type must be one of ['application/json'].")
    try:
        value = orjson.loads(data) if data else {}
    except orjson.JSONDecodeError:
        # JSON as Python writes it may have NaN, which is not JSON; everything else is malformed for good.
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            return {}
    if isinstance(value, str):  # old clients encode twice
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return {}
    return {} if value is None else value


def from_query(message: Message, pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return the values of a query string by field; repeated fields repeat the key."""
    out: dict[str, Any] = {}
    for name, kind in message.fields.items():
        values = [value for key, value in pairs if key == name]
        if not values:
            continue
        if isinstance(kind, Many):
            out[name] = values
        elif kind == BOOL:
            if values[0].lower() not in {"true", "false"}:
                raise ServiceError(f"Invalid boolean value: {values[0]}, must be 'true' or 'false'.")
            out[name] = values[0].lower() == "true"
        else:
            out[name] = values[0]
    return out


def read(message: Message, sent: Any) -> dict[str, Any]:
    """Return the fields of a request that were sent.

    Raises:
        ServiceError: a checked field is missing or not legal.

    Example:
        >>> read(Message({"run_id": STRING, "step": INT}), {"runId": "a", "step": "3", "other": 1})
        {'run_id': 'a', 'step': 3}
    """
    if not isinstance(sent, dict):
        raise ServiceError("Bad Request. The body must be a JSON object.")
    _refuse_twice(message.fields, sent)
    values: dict[str, Any] = {}
    whole = True
    try:
        _fill(message.fields, sent, values)
    except _TypeError:
        whole = False
    for name, checks in message.checks.items():
        if name in sent or "required" in checks:
            value = sent.get(name)
            if name == "run_id" and value is None and "run_uuid" in sent:
                value = sent["run_uuid"]
            if value is None and name not in sent:
                value = values.get(name)
            for check in checks:
                _check(name, value, check, typed=whole)
    return values


def _check(name: str, value: Any, check: Check, *, typed: bool) -> None:
    if not isinstance(check, str):
        check(value)
    elif check == "required":
        if value is None or value == "":
            raise ServiceError(f"Missing value for required parameter '{name}'.{_TAIL}")
    elif not typed and not _is(check, value):
        hint = f" Hint: Value was of type '{type(value).__name__}'."
        raise ServiceError(f"{invalid_value(name, value, hint)}{_TAIL}")


def _is(check: str, value: Any) -> bool:
    match check:
        case "string":
            return isinstance(value, str)
        case "int":
            return _number(int, value)
        case "float":
            return _number(float, value)
        case "array":
            return isinstance(value, list)
        case _:
            return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _number(kind: Callable[[Any], Any], value: Any) -> bool:
    try:
        kind(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def required(value: Any, path: str) -> None:
    """Refuse a missing part of a list's entry."""
    if value is None or value == "":
        raise ServiceError(f"Missing value for required parameter '{path}'.{_TAIL}")


def each_has(kind: str, *names: str) -> Callable[[Any], None]:
    """Return a check that each object of a list has some fields."""

    def check(entries: Any) -> None:
        for index, entry in enumerate(entries if isinstance(entries, list) else ()):
            for name in names:
                required(entry.get(name) if isinstance(entry, dict) else None, f"{kind}[{index}].{name}")

    return check


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _refuse_twice(fields: Mapping[str, Any], sent: Mapping[str, Any]) -> None:
    for name in fields:
        other = _camel(name)
        if other != name and name in sent and other in sent:
            raise ServiceError(f"Request specifies both '{name}' and '{other}'; provide only one of them.")


def _fill(fields: Mapping[str, Any], sent: Mapping[str, Any], values: dict[str, Any]) -> None:
    """Read fields in the order they were sent, until one has the wrong type."""
    for given, value in sent.items():
        name = given if given in fields else _SNAKE.get(given, "")
        if name not in fields:
            name = next((each for each in fields if _camel(each) == given), "")
            if not name:
                continue
            _SNAKE[given] = name
        if value is not None:
            _set(values, name, fields[name], value)


def _set(values: dict[str, Any], name: str, kind: Type, value: Any) -> None:
    """Read a value; of lists and objects everything before the first wrong part is kept."""
    if isinstance(kind, Many):
        if not isinstance(value, list):
            raise _TypeError
        items: list[Any] = []
        values[name] = items
        for item in value:
            if item is None:
                raise _TypeError
            entry: dict[str, Any] = {}
            if not isinstance(kind.of, (str, Enum)):
                items.append(entry)
                _object(kind.of, item, entry)
            else:
                found = _convert(kind.of, item, name)
                items += [found] if found is not None else []
    elif not isinstance(kind, (str, Enum)):
        values[name] = {}
        _object(kind, value, values[name])
    else:
        found = _convert(kind, value, name)
        if found is not None:
            values[name] = found


def _object(fields: Mapping[str, Any], value: Any, into: dict[str, Any]) -> None:
    if not isinstance(value, dict):
        raise _TypeError
    _refuse_twice(fields, value)
    _fill(fields, value, into)


# camelCase -> snake_case of fields that were met; bounded by the fields there are.
_SNAKE: Final[dict[str, str]] = {}


def _convert(kind: str | Enum, value: Any, name: str) -> Any:
    if isinstance(kind, Enum):
        return _enum(kind, value)
    match kind:
        case "string":
            # Ids of experiments were numbers once, and old clients still send them so.
            if isinstance(value, int) and not isinstance(value, bool) and name.startswith("experiment_id"):
                return str(value)
            return value if isinstance(value, str) else _refuse()
        case "bool":
            return value if isinstance(value, bool) else _refuse()
        case "double":
            return _double(value)
        case _:
            return _int(value, (1 << 31) - 1 if kind == INT32 else MAX_INT64)


def _refuse() -> Any:
    raise _TypeError


def _int(value: Any, most: int) -> int:
    if isinstance(value, bool):
        raise _TypeError
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    elif isinstance(value, str) and _DIGITS.fullmatch(value):
        value = int(value[:40])
    if not isinstance(value, int) or not -most - 1 <= value <= most:
        raise _TypeError
    return value


def _double(value: Any) -> float:
    if isinstance(value, str):
        if value in _SPECIAL:
            return _SPECIAL[value]
        if value.lower().lstrip("+-") in {"nan", "inf", "infinity"}:
            raise _TypeError
    elif isinstance(value, float):
        if value - value != 0:
            raise _TypeError
        return value
    elif not isinstance(value, int):
        raise _TypeError
    try:
        return float(value)
    except (ValueError, OverflowError):
        raise _TypeError from None


def _enum(kind: Enum, value: Any) -> str | None:
    by_number = {number: name for name, number in kind.names}
    if isinstance(value, str):
        if value in dict(kind.names):
            return value
        if not _DIGITS.fullmatch(value):
            return None
        value = int(value[:40])
    if not isinstance(value, (int, float)) or value - value != 0:
        raise _TypeError
    return by_number.get(int(value))
