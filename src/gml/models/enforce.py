"""Data made to fit a signature, or refused: what a model gets is what it was trained on.

Missing columns are an error, extra ones are left out, the order is restored; numbers are widened where
nothing is lost and never narrowed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gml.domain.errors import InvalidValueError
from gml.models.schema import AnyType, Array, ColSpec, DataType, Map, Object, TensorSpec, ValueType

if TYPE_CHECKING:
    from gml.models.schema import Schema


class SchemaError(InvalidValueError):
    """Data does not fit the signature of a model."""


def enforce_schema(data: Any, schema: Schema) -> Any:
    """Return data as the signature says: a data frame for columns, arrays for tensors.

    Args:
        data: data frame, series, array, sparse matrix, list, dict or scalar.
        schema: the model's inputs.

    Raises:
        SchemaError: it does not fit; says which column or dimension.
    """
    import pandas as pd

    if isinstance(data, pd.Series):
        data = pd.DataFrame(data)
    if schema.is_tensor_spec():
        return _enforce_tensors(_named(data, schema), schema)
    frame = _frame(data, schema)
    if schema.has_input_names():
        _check_names(set(frame.columns), schema)
        return _enforce_named(frame, schema)
    if len(frame.columns) < len(schema):
        raise SchemaError(f"the model takes {len(schema)} columns, and the data has {len(frame.columns)}")
    columns = list(frame.columns[: len(schema)])
    return pd.DataFrame(
        {
            name: _enforce_column(str(name), frame[name], spec)
            for name, spec in zip(columns, schema, strict=True)
        }
    )


# --- columns ----------------------------------------------------------------------------------


def _frame(data: Any, schema: Schema) -> Any:
    import numpy as np
    import pandas as pd

    if isinstance(data, pd.DataFrame):
        return data
    if np.isscalar(data):
        return pd.DataFrame([data])
    try:
        if isinstance(data, dict):
            return _frame_of_dict(data, schema)
        if isinstance(data, (list, np.ndarray)):
            return pd.DataFrame(data)
    except Exception as error:
        raise SchemaError(f"the model takes a table, and the data cannot be made one: {error}") from error
    raise SchemaError(f"the model takes a table, not {type(data).__name__}")


def _frame_of_dict(data: dict[str, Any], schema: Schema) -> Any:
    import numpy as np
    import pandas as pd

    nested = any(isinstance(spec.type, (Array, Object)) for spec in schema)
    texts = all(
        np.isscalar(value)
        or value is None
        or (isinstance(value, list) and all(isinstance(item, str) for item in value))
        for value in data.values()
    )
    text_arrays = all(
        isinstance(value, np.ndarray) and value.shape == () and value.dtype.kind == "U"
        for value in data.values()
    )
    if nested or texts or text_arrays:
        return pd.DataFrame([data])
    return pd.DataFrame(
        {
            key: value.tolist() if isinstance(value, np.ndarray) and value.ndim > 1 else value
            for key, value in data.items()
        }
    )


def _check_names(actual: set[Any], schema: Schema) -> None:
    missing = [name for name in schema.required_input_names() if name not in actual]
    if not missing:
        return
    known = {*schema.required_input_names(), *schema.optional_input_names()}
    extra = sorted(actual - known, key=str)
    note = f". Note that there were extra inputs: {extra}" if extra else ""
    raise SchemaError(f"Model is missing inputs {missing}{note}")


def _enforce_named(frame: Any, schema: Schema) -> Any:
    import pandas as pd

    found = {}
    for spec in schema:
        if spec.name in frame:
            found[spec.name] = _enforce_column(str(spec.name), frame[spec.name], spec)
    return pd.DataFrame(found)


def _enforce_column(name: str, values: Any, spec: ColSpec | TensorSpec) -> Any:
    import pandas as pd

    if isinstance(spec.type, DataType):
        return enforce_type(name, values, spec.type)
    assert isinstance(spec, ColSpec)  # noqa: S101 - a schema has one kind of inputs
    return pd.Series(
        [enforce_value(one, spec.type, required=spec.required) for one in values],
        index=values.index,
        name=values.name,
    )


def enforce_type(name: str, values: Any, wanted: DataType) -> Any:
    """Return a column as a type; widening is allowed, losing something is not.

    Args:
        name: the column, for the error.
        values: a pandas series.
        wanted: what the signature says.

    Raises:
        SchemaError: it cannot be converted without loss.
    """
    import pandas as pd

    text = isinstance(values.dtype, pd.StringDtype)
    if values.dtype.kind == "O" and wanted not in {DataType.binary, DataType.string}:
        values = values.infer_objects()
    kind, numpy_type = values.dtype, wanted.to_numpy()
    if wanted in {DataType.string, DataType.binary} and (kind.kind == "O" or text):
        return values
    if kind in (wanted.to_pandas(), numpy_type):
        return values
    if wanted is DataType.binary and kind.kind == "S":
        return values
    if wanted is DataType.datetime and kind.kind in "MO":
        try:
            return values.astype(numpy_type)
        except (TypeError, ValueError) as error:
            raise SchemaError(f"column {name} cannot be read as times without zone: {error}") from error
    if wanted is DataType.boolean and kind.kind == "O":
        return values
    if _widens(kind, numpy_type) or (_is_long_of_bits(values) and numpy_type.kind == "f"):
        return values.astype(numpy_type)
    raise SchemaError(
        f"Incompatible input types for column {name}. Can not safely convert {kind} to {numpy_type}"
        f"{_missing_hint(values, numpy_type)}"
    )


def _widens(kind: Any, wanted: Any) -> bool:
    if kind.kind == wanted.kind:
        return bool(kind.itemsize <= wanted.itemsize)
    if kind.kind == "u" and wanted.kind == "i":
        return bool(kind.itemsize < wanted.itemsize)
    # A double holds every integer of up to 53 bits.
    return kind.kind in "iu" and wanted == "float64" and kind.itemsize <= 6


def _is_long_of_bits(values: Any) -> bool:
    return bool(values.dtype == "int64" and values.isin([0, 1]).all())


def _missing_hint(values: Any, wanted: Any) -> str:
    if wanted.kind in "iu" and values.dtype == "float64" and values.isna().any():
        whole = values.dropna()
        if (whole == whole.round()).all():
            return (
                ". Hint: integer columns cannot hold missing values; declare the column as double in the"
                " signature, or infer it from data in which values are missing"
            )
    return ""


# --- nested values ----------------------------------------------------------------------------


def enforce_value(data: Any, wanted: ValueType, *, required: bool = True) -> Any:
    """Return one nested value as a type.

    Raises:
        SchemaError: it is another.
    """
    import numpy as np
    import pandas as pd

    if isinstance(wanted, AnyType):
        return data
    if isinstance(wanted, DataType):
        if data is None and not required:
            return None
        if not np.isscalar(data) and not hasattr(data, "isoformat"):
            raise SchemaError(f"{data!r:.80} is no single value of type {wanted}")
        try:
            return enforce_type("", pd.Series([data]), wanted)[0]
        except SchemaError as error:
            raise SchemaError(f"{data!r:.80} is not of type {wanted}") from error
    if isinstance(wanted, Array):
        return _enforce_array(data, wanted, required)
    if isinstance(wanted, Map):
        if not data and (not required or isinstance(wanted.value_type, AnyType)):
            return data
        if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
            raise SchemaError(f"a dictionary with text keys was expected, not {data!r:.80}")
        return {k: enforce_value(v, wanted.value_type, required=required) for k, v in data.items()}
    return _enforce_object(data, wanted, required)


def _enforce_array(data: Any, wanted: Array, required: bool) -> Any:
    import numpy as np
    import pandas as pd

    if (not required or isinstance(wanted.dtype, AnyType)) and (
        data is None or (isinstance(data, (list, np.ndarray)) and len(data) == 0)
    ):
        return data
    if not isinstance(data, (list, np.ndarray)):
        raise SchemaError(f"a list was expected, not {type(data).__name__}")
    if not isinstance(wanted.dtype, DataType):
        found = [enforce_value(one, wanted.dtype, required=required) for one in data]
        return np.array(found) if isinstance(data, np.ndarray) else found
    if len(data) == 0:
        return data
    column = enforce_type("", pd.Series(data), wanted.dtype)
    array = column.to_numpy(dtype=wanted.dtype.to_numpy())
    return array.tolist() if isinstance(data, list) else array


def _enforce_object(data: Any, wanted: Object, required: bool) -> Any:
    if not required and not data:
        return data
    if not isinstance(data, dict):
        raise SchemaError(f"a dictionary was expected, not {type(data).__name__}")
    known = {one.name: one for one in wanted.properties}
    missing = sorted(one.name for one in wanted.properties if one.required and one.name not in data)
    if missing:
        raise SchemaError(f"missing properties: {missing}")
    unknown = sorted(set(data) - set(known))
    if unknown:
        raise SchemaError(f"properties that the signature does not have: {unknown}")
    for key, value in data.items():
        try:
            data[key] = enforce_value(value, known[key].dtype, required=known[key].required)
        except SchemaError as error:
            raise SchemaError(f"property {key!r}: {error}") from error
    return data


# --- tensors ----------------------------------------------------------------------------------


def _named(data: Any, schema: Schema) -> Any:
    import numpy as np
    import pandas as pd

    if not schema.has_input_names():
        return data
    if isinstance(data, np.ndarray) and len(schema) == 1:
        return {schema.input_names()[0]: data}
    actual = set(data.columns) if isinstance(data, pd.DataFrame) else set()
    _check_names(set(data) if isinstance(data, dict) else actual, schema)
    return data


def _enforce_tensors(data: Any, schema: Schema) -> Any:
    import numpy as np
    import pandas as pd

    if not schema.has_input_names():
        return _enforce_single(data, schema.inputs[0])
    found = {}
    for spec in schema:
        if isinstance(data, pd.DataFrame):
            found[spec.name] = _tensor_of_column(data[spec.name], spec)
        elif isinstance(data, dict) and isinstance(data[spec.name], np.ndarray):
            found[spec.name] = _enforce_tensor(data[spec.name], spec)
        else:
            raise SchemaError(
                f"the model takes named tensors: a dictionary of arrays or a table, not {type(data).__name__}"
            )
    return found


def _enforce_single(data: Any, spec: ColSpec | TensorSpec) -> Any:
    import numpy as np
    import pandas as pd

    if isinstance(data, pd.DataFrame):
        if data.empty:
            raise SchemaError("the table is empty")
        if len(data.columns) == 1:
            return _tensor_of_column(data[data.columns[0]], spec)
        assert isinstance(spec, TensorSpec)  # noqa: S101 - callers looked
        if spec.shape != (-1, len(data.columns)):
            raise SchemaError(
                f"a table of {len(data.columns)} columns was given, and the model takes {spec.shape}"
            )
        return _enforce_tensor(data.to_numpy(), spec)
    if isinstance(data, np.ndarray) or _is_sparse(data):
        return _enforce_tensor(data, spec)
    raise SchemaError(f"the model takes one tensor: an array or a table, not {type(data).__name__}")


def _is_sparse(data: Any) -> bool:
    return type(data).__module__.startswith("scipy.sparse")


def _enforce_tensor(values: Any, spec: ColSpec | TensorSpec) -> Any:
    assert isinstance(spec, TensorSpec)  # noqa: S101 - callers looked
    wanted, actual = spec.shape, values.shape
    ragged = actual == (len(values),) if hasattr(values, "__len__") else False
    if wanted == (-1,) and spec.type == "object":
        return values
    if len(wanted) > 1 and -1 in wanted[1:] and ragged and values.dtype == object:
        return values
    fits = len(wanted) == len(actual) and all(
        one in {-1, size} for one, size in zip(wanted, actual, strict=True)
    )
    if not fits:
        raise SchemaError(f"Shape of input {actual} does not match expected shape {wanted}")
    kind = {"U": "str", "S": "bytes"}.get(values.dtype.char, values.dtype.name)
    if kind != spec.type:
        raise SchemaError(f"dtype of input {values.dtype} does not match expected dtype {spec.type}")
    return values


def _tensor_of_column(column: Any, spec: ColSpec | TensorSpec) -> Any:
    import numpy as np

    assert isinstance(spec, TensorSpec)  # noqa: S101 - callers looked
    if spec.shape[:1] != (-1,) or -1 in spec.shape[1:]:
        raise SchemaError(f"a table cannot be made a tensor of shape {spec.shape}")
    if not len(column):
        raise SchemaError("the table is empty")
    first = column.iloc[0]
    if np.isscalar(first):
        if spec.shape not in {(-1,), (-1, 1)}:
            raise SchemaError(f"a column of single values was given, and the model takes {spec.shape}")
        return _enforce_tensor(np.array(column, dtype=spec.dtype).reshape(spec.shape), spec)
    listed = isinstance(first, list) and bool(first) and np.isscalar(first[0])
    if not listed and not isinstance(first, np.ndarray):
        raise SchemaError("a cell of the table holds a single value, a list of them or an array")
    try:
        array = np.vstack(column.tolist()).reshape(spec.shape)
        if listed:
            return _same_length(array.astype(spec.dtype), column)
    except ValueError as error:
        raise SchemaError(f"the cells of the table do not make a tensor of shape {spec.shape}") from error
    return _same_length(array, column)


def _same_length(array: Any, column: Any) -> Any:
    if len(array) != len(column):
        raise SchemaError(f"{len(column)} rows of the table make {len(array)} of the tensor")
    return array
