"""Signatures read off data.

>>> import pandas as pd
>>> infer_signature(pd.DataFrame({"age": [31.0], "plan": ["basic"]})).inputs
['age': double (required), 'plan': string (required)]
"""

from __future__ import annotations

import datetime as dt
from copy import deepcopy
from typing import Any

from gml.domain.errors import InvalidValueError
from gml.models.schema import (
    AnyType,
    Array,
    ColSpec,
    DataType,
    Map,
    ModelSignature,
    Object,
    ParamSchema,
    ParamSpec,
    Property,
    Schema,
    TensorSpec,
    ValueType,
)


def infer_signature(
    model_input: Any = None, model_output: Any = None, params: dict[str, Any] | None = None
) -> ModelSignature:
    """Return the signature of data that goes into a model and comes out of it.

    Args:
        model_input: data frame, series, array, dict, list or scalar.
        model_output: what the model says to it.
        params: params of inference with their defaults.

    Raises:
        InvalidValueError: data of a kind that a signature cannot describe.
    """
    return ModelSignature(
        infer_schema(model_input) if model_input is not None else None,
        infer_schema(model_output) if model_output is not None else None,
        infer_params(params) if params else None,
    )


def infer_schema(data: Any) -> Schema:
    """Return the schema of data: tensors for arrays, columns for everything else.

    Raises:
        InvalidValueError: data of a kind that a schema cannot describe.
    """
    import numpy as np
    import pandas as pd

    if isinstance(data, pd.DataFrame):
        return Schema([_column(data[name], name) for name in data.columns])
    if isinstance(data, pd.Series):
        return Schema([_column(data, data.name)])
    if isinstance(data, np.ndarray):
        return Schema([_tensor(data)])
    if type(data).__module__.startswith("scipy.sparse"):
        return Schema([TensorSpec(data.dtype.name, (-1, *data.shape[1:]))])
    if isinstance(data, dict):
        if not data or any(not isinstance(key, str) for key in data):
            raise InvalidValueError("a dictionary of inputs has names as keys")
        if all(isinstance(value, np.ndarray) for value in data.values()):
            return Schema([_tensor(value, name) for name, value in data.items()])
        return Schema(
            [ColSpec(_known(value_type(value)), name, _complete(value)) for name, value in data.items()]
        )
    if isinstance(data, list):
        return _schema_of_list(data)
    try:
        return Schema([ColSpec(_known(value_type(data)))])
    except InvalidValueError as error:
        raise InvalidValueError(
            f"no signature can be inferred from {type(data).__name__}: {error.message}",
            hint="use a data frame, an array, a dictionary, a list or a scalar",
        ) from None


def _schema_of_list(data: list[Any]) -> Schema:
    if not data:
        return Schema([ColSpec(DataType.string)])
    if not all(isinstance(row, dict) for row in data):
        return Schema([ColSpec(_item(data))])
    columns: dict[str, list[Any]] = {}
    for row in data:
        for key, value in row.items():
            columns.setdefault(key, []).append(value)
    return Schema(
        [
            ColSpec(_item(values), name, all(row.get(name) is not None for row in data))
            for name, values in columns.items()
        ]
    )


def _item(values: list[Any]) -> ValueType:
    found = _known(value_type(values))
    return found.dtype if isinstance(found, Array) else found


def _known(found: ValueType | None) -> ValueType:
    if found is None:
        raise InvalidValueError("an empty array says nothing about the type of its values")
    return found


def _tensor(data: Any, name: str | None = None) -> TensorSpec:
    return TensorSpec(
        data.dtype.str if data.dtype.char in "US" else data.dtype.name, (-1, *data.shape[1:]), name
    )


def _column(values: Any, name: Any) -> ColSpec:
    import pandas as pd

    if values.dtype.kind == "O":
        values = values.infer_objects()
    required = not any(_missing(one) for one in values)
    if values.dtype.kind != "O":
        return ColSpec(_of_dtype(values.dtype), name, required)
    try:
        return ColSpec(_item(values.to_list()), name, required)
    except InvalidValueError:
        if pd.api.types.is_string_dtype(values):
            return ColSpec(DataType.string, name, required)
        raise


def _of_dtype(kind: Any) -> DataType:
    size = getattr(kind, "itemsize", 8)
    if kind.kind == "b":
        return DataType.boolean
    if kind.kind in "iu":
        if size < 4 or (kind.kind == "i" and size == 4):
            return DataType.integer
        if size < 8 or kind.kind == "i":
            return DataType.long
    if kind.kind == "f" and size <= 8:
        return DataType.float if size <= 4 else DataType.double
    simple = {"U": DataType.string, "S": DataType.binary, "M": DataType.datetime}
    if kind.kind in simple:
        return simple[kind.kind]
    raise InvalidValueError(f"a signature has no type for {kind}")


def _missing(value: Any) -> bool:
    import pandas as pd

    if isinstance(value, float):
        return value != value  # noqa: PLR0124 - NaN is the one number that is not itself
    return value is None or value is pd.NA or value is pd.NaT


def _complete(value: Any) -> bool:
    return not any(map(_missing, value)) if isinstance(value, list) else not _missing(value)


def value_type(data: Any) -> ValueType | None:
    """Return the type of one value, None for an empty array.

    Raises:
        InvalidValueError: a value, or a mixture of values, that no type describes.
    """
    import numpy as np

    if _missing(data) or (isinstance(data, (list, dict)) and not data):
        return AnyType()
    if isinstance(data, dict):
        found = {str(key): _known(value_type(value)) for key, value in data.items()}
        return Object(Property(k, v, not isinstance(v, AnyType)) for k, v in found.items())
    if isinstance(data, (list, np.ndarray)):
        return _array_type(data)
    scalars: dict[type, DataType] = {
        bool: DataType.boolean, np.bool_: DataType.boolean, int: DataType.long, np.int64: DataType.long,
        np.int32: DataType.integer, float: DataType.double, np.float64: DataType.double,
        np.float32: DataType.float, str: DataType.string, np.str_: DataType.string,
        bytes: DataType.binary, np.bytes_: DataType.binary, bytearray: DataType.binary,
    }  # fmt: skip
    known = scalars.get(type(data))
    if known is not None:
        return known
    if isinstance(data, (dt.date, dt.datetime, np.datetime64)):
        return DataType.datetime
    raise InvalidValueError(f"a signature has no type for {type(data).__name__}: {data!r:.80}")


def _array_type(data: Any) -> Array | None:
    merged: ValueType | None = None
    for item in data:
        found = value_type(item)
        if found is not None:
            merged = found if merged is None else _merge(merged, found)
    return None if merged is None else Array(merged)


def _merge(one: ValueType, other: ValueType) -> ValueType:
    if one == other or isinstance(other, AnyType):
        return one
    if isinstance(one, AnyType):
        return other
    if isinstance(one, Array) and isinstance(other, Array):
        return Array(_merge(one.dtype, other.dtype))
    if isinstance(one, Map) and isinstance(other, Map):
        return Map(_merge(one.value_type, other.value_type))
    if isinstance(one, Object) and isinstance(other, Object):
        left = {each.name: each for each in one.properties}
        right = {each.name: each for each in other.properties}
        found = []
        for name in {**left, **right}:
            if name in left and name in right:
                required = left[name].required and right[name].required
                found.append(Property(name, _merge(left[name].dtype, right[name].dtype), required))
            else:
                found.append(Property(name, (left.get(name) or right[name]).dtype, required=False))
        return Object(found)
    raise InvalidValueError(
        "the values of a list are of different types",
        hint="say so in the signature: Array(AnyType())",
    )


def infer_params(params: dict[str, Any]) -> ParamSchema:
    """Return the schema of params of inference, their values being the defaults.

    Raises:
        InvalidValueError: a value is no scalar, list of scalars or dictionary.
    """
    if not isinstance(params, dict):
        raise InvalidValueError(f"params are a dictionary, not {type(params).__name__}")
    return ParamSchema([_param(name, value) for name, value in params.items()])


def _param(name: str, value: Any) -> ParamSpec:
    import numpy as np

    default = deepcopy(value)
    if isinstance(value, dict):
        return ParamSpec(name, _known(value_type(value)), default)
    listed = isinstance(value, (list, tuple, np.ndarray))
    if listed and np.ndim(np.array(value)) != 1:
        raise InvalidValueError(f"param {name!r} is a scalar, a list or a dictionary, not a matrix")
    sample = list(value) if listed else [value]
    if sample and all(isinstance(one, (dt.date, np.datetime64)) for one in sample):
        kind = DataType.datetime
    elif all(np.isscalar(one) for one in sample):
        kind = _of_dtype(np.array(value).dtype)
    else:
        raise InvalidValueError(f"param {name!r} is of a type that a signature does not have: {value!r:.80}")
    return ParamSpec(name, kind, list(default) if listed else default, (-1,) if listed else None)
