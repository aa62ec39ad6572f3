"""Signatures read off type hints, and data checked against them.

>>> def score(texts: list[str]) -> list[float]: ...
>>> signature_of(score).inputs
[string (required)]
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import types
import typing
from typing import Any, Final, Union, get_args, get_origin

from gml.domain.errors import InvalidValueError
from gml.models.enforce import SchemaError, enforce_value
from gml.models.python_model import input_argument
from gml.models.schema import (
    AnyType,
    Array,
    ColSpec,
    DataType,
    Map,
    ModelSignature,
    Object,
    Property,
    Schema,
    ValueType,
)

if typing.TYPE_CHECKING:
    from collections.abc import Callable

_SCALARS: Final[dict[Any, DataType]] = {
    bool: DataType.boolean, int: DataType.long, float: DataType.double, str: DataType.string,
    bytes: DataType.binary, dt.datetime: DataType.datetime, dt.date: DataType.datetime,
}  # fmt: skip


class _UnsupportedError(Exception):
    """A hint that says nothing which a signature could hold."""


def signature_of(predict: Callable[..., Any]) -> ModelSignature | None:
    """Return the signature that the hints of a `predict` give; None where they give none.

    The input's hint is `list[T]`; T is a scalar, `list`, `dict[str, T]`, Optional, a dataclass or a pydantic
    model. Hints such as `pd.DataFrame` say nothing about columns.
    """
    hint, output = _hints(predict)
    inputs = _schema(hint)
    if inputs is None:
        return None
    outputs = _schema(output)
    return ModelSignature(inputs, outputs, from_type_hint=True)


def _hints(predict: Callable[..., Any]) -> tuple[Any, Any]:
    try:
        found = typing.get_type_hints(predict)
    except (NameError, TypeError, AttributeError):
        return None, None
    return found.get(input_argument(predict)), found.get("return")


def _schema(hint: Any) -> Schema | None:
    if get_origin(hint) is not list or not get_args(hint):
        return None
    try:
        return Schema([ColSpec(_type_of(get_args(hint)[0]))])
    except _UnsupportedError:
        return None


def _type_of(hint: Any) -> ValueType:
    if hint is Any:
        return AnyType()
    if hint in _SCALARS:
        return _SCALARS[hint]
    origin, inner = get_origin(hint), get_args(hint)
    if origin is list and inner:
        return Array(_type_of(inner[0]))
    if origin is dict and len(inner) == 2 and inner[0] is str:
        return Map(_type_of(inner[1]))
    fields = _fields(hint)
    if fields is None:
        raise _UnsupportedError
    properties = []
    for name, one, default in fields:
        optional = _optional(one)
        properties.append(
            Property(name, _type_of(one if optional is None else optional), optional is None and not default)
        )
    return Object(properties)


def _optional(hint: Any) -> Any:
    """Return T of `T | None`, None for other hints."""
    if get_origin(hint) in {Union, types.UnionType}:
        rest = [one for one in get_args(hint) if one is not type(None)]
        if len(rest) == 1 and len(get_args(hint)) == 2:
            return rest[0]
        raise _UnsupportedError
    return None


def _fields(hint: Any) -> list[tuple[str, Any, bool]] | None:
    """Return name, hint and whether there is a default, of a dataclass or pydantic model."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        hints = typing.get_type_hints(hint)
        missing = dataclasses.MISSING
        return [
            (f.name, hints[f.name], f.default is not missing or f.default_factory is not missing)
            for f in dataclasses.fields(hint)
        ]
    model_fields = getattr(hint, "model_fields", None)
    if isinstance(hint, type) and isinstance(model_fields, dict):
        return [(name, one.annotation, not one.is_required()) for name, one in model_fields.items()]
    return None


def check_hinted(predict: Callable[..., Any], data: Any) -> Any:
    """Return data as the hint of a `predict` says; pydantic models are built from dictionaries.

    Raises:
        SchemaError: it does not fit the hint.
    """
    hint, _ = _hints(predict)
    if get_origin(hint) is not list:
        return data
    (inner,) = get_args(hint)
    if hasattr(data, "to_dict") and hasattr(data, "columns"):
        single = len(data.columns) == 1 and _fields(inner) is None and get_origin(inner) is not dict
        data = data.iloc[:, 0].tolist() if single else data.to_dict(orient="records")
    elif hasattr(data, "tolist"):
        data = data.tolist()
    if not isinstance(data, list):
        raise SchemaError(f"a list was expected, not {type(data).__name__}")
    return [_check_item(one, inner, at) for at, one in enumerate(data)]


def _check_item(value: Any, hint: Any, at: int) -> Any:
    if isinstance(hint, type) and hasattr(hint, "model_validate"):
        try:
            return value if isinstance(value, hint) else hint.model_validate(value)
        except ValueError as error:
            raise SchemaError(f"item {at} does not fit {hint.__name__}: {error}") from error
    try:
        kind = _type_of(hint)
    except _UnsupportedError:
        return value
    try:
        checked = enforce_value(value, kind)
    except InvalidValueError as error:
        raise SchemaError(f"item {at}: {error.message}") from error
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return hint(**value)
    return checked.item() if hasattr(checked, "item") and not isinstance(checked, list) else checked
