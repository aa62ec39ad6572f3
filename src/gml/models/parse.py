"""Requests of the scoring protocol as the data that a model takes.

The four formats: `dataframe_split` and `dataframe_records` become data frames, `instances` (rows) and
`inputs` (columns) arrays. With a signature, values are read as its types.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import InvalidValueError
from gml.models.enforce import enforce_value
from gml.models.schema import AnyType, Array, ColSpec, DataType, Map, Object, TensorSpec

if TYPE_CHECKING:
    from gml.models.schema import Schema

FORMATS: Final = ("dataframe_records", "dataframe_split", "inputs", "instances")


class RequestError(InvalidValueError):
    """A request that is not of the scoring protocol."""


def parse(data: dict[str, Any], schema: Schema | None) -> Any:
    """Return the data of a request that has exactly one of the four formats.

    Args:
        data: keys of the request that name formats, and what stands under them.
        schema: the model's inputs.

    Raises:
        RequestError: none or several formats, or values that are not of the signature's types.
    """
    if len(data) != 1:
        raise RequestError(
            f"The input must be a JSON dictionary with exactly one of the input fields {set(FORMATS)}."
            f" Received dictionary with input fields: {list(data)}"
        )
    ((name, content),) = data.items()
    if name == "dataframe_split":
        return frame_of_split(content, schema)
    if name == "dataframe_records":
        return frame_of_records(content, schema)
    try:
        return inputs(content, schema) if name == "inputs" else instances(content, schema)
    except RequestError:
        raise
    except Exception as error:
        raise RequestError(f"Invalid input. {name} cannot be read: {error!r}") from error


def csv_types(schema: Schema | None) -> dict[str | int, Any] | None:
    """Return the type of each column for reading CSV; None where the signature does not say."""
    if schema is None or schema.is_tensor_spec():
        return None
    if not all(isinstance(spec.type, DataType) for spec in schema):
        return None
    kinds = (kind.to_pandas() for kind in schema.input_types())
    return dict(zip(schema.input_names(), kinds, strict=True))


# --- data frames ------------------------------------------------------------------------------


def frame_of_split(content: Any, schema: Schema | None) -> Any:
    """Return the table of `dataframe_split`: data, and columns and index if it names them.

    Raises:
        RequestError: it is no table.
    """
    import pandas as pd

    if not isinstance(content, dict):
        raise RequestError(
            f"Invalid input. Dataframe split format must be a dictionary. Got {type(content).__name__}"
        )
    keys = set(content)
    if "data" not in keys or keys - {"columns", "data", "index"}:
        raise RequestError(
            "Invalid input. Dataframe split format must have 'data' field and optionally 'columns' and"
            f" 'index' fields. Got {sorted(keys)}"
        )
    try:
        frame = pd.DataFrame(index=content.get("index"), columns=content.get("columns"), data=content["data"])
    except Exception as error:
        raise RequestError(f"Invalid input. Provided dataframe_split field is no table: {error}") from error
    return _typed(frame, schema)


def frame_of_records(content: Any, schema: Schema | None) -> Any:
    """Return the table of `dataframe_records`: a list of objects.

    Raises:
        RequestError: it is none.
    """
    import pandas as pd

    if not isinstance(content, list):
        got = "dictionary" if isinstance(content, dict) else type(content).__name__
        raise RequestError(f"Invalid input. Dataframe records format must be a list of records. Got {got}")
    try:
        frame = pd.DataFrame(data=content)
    except Exception as error:
        raise RequestError(f"Invalid input. Provided dataframe_records field is no table: {error}") from error
    return _typed(frame, schema)


def _typed(frame: Any, schema: Schema | None) -> Any:
    if schema is None:
        return frame
    if schema.has_input_names():
        wanted = [(spec.name, spec) for spec in schema]
    elif schema.is_tensor_spec():
        wanted = [(name, schema.inputs[0]) for name in dict.fromkeys(frame.columns)]
    else:
        wanted = list(zip(frame.columns, schema.inputs, strict=False))
    actual = set(frame.columns)
    for name, spec in wanted:
        if name not in actual:
            continue
        try:
            converted = _typed_column(frame[name], spec)
            if converted is not None:
                frame[name] = converted
        except Exception as error:
            raise RequestError(
                "Invalid input. Data is not compatible with model signature. Failed to convert column"
                f" {name} to type '{_type_name(spec)}'. Error: {error!r}"
            ) from error
    return frame


def _type_name(spec: ColSpec | TensorSpec) -> str:
    return str(spec.type) if isinstance(spec, TensorSpec) else repr(spec.type)


def _typed_column(values: Any, spec: ColSpec | TensorSpec) -> Any:
    """Return a column as its type; None where it stays as it is."""
    import pandas as pd

    if isinstance(spec, TensorSpec):
        if spec.type == "bytes":
            return values.map(lambda one: bytes(one, "utf8"))
        if isinstance(values.iloc[0], list):
            return None
        return None if _is_text(values, spec.dtype.kind) else values.astype(spec.dtype)
    kind = spec.type
    if isinstance(kind, AnyType):
        return None
    if not isinstance(kind, DataType):
        return values.map(lambda one: enforce_value(one, kind, required=spec.required))
    if kind is DataType.binary:
        return values.map(lambda one: base64.decodebytes(bytes(one, "utf8")))
    if kind is DataType.datetime:
        parsed = pd.to_datetime(values)
        if pd.api.types.is_datetime64_any_dtype(parsed) and parsed.dt.unit != "ns":
            parsed = parsed.dt.as_unit("ns")
        return parsed
    if _is_text(values, "O" if kind is DataType.string else kind.to_numpy().kind):
        return None
    return values.astype(kind.to_pandas())


def _is_text(values: Any, kind: str) -> bool:
    import pandas as pd

    return kind in "OU" and isinstance(values.dtype, pd.StringDtype)


# --- arrays -----------------------------------------------------------------------------------


def inputs(content: Any, schema: Schema | None) -> Any:
    """Return the data of `inputs`: columns by name, a list of objects, a tensor or one value.

    Raises:
        RequestError: values that are not of the signature's types.
    """
    import numpy as np

    named = schema.input_dict() if schema is not None else {}
    if schema is not None:
        rows_of_values = isinstance(content, list) and not any(isinstance(one, dict) for one in content)
        if len(named) == 1 and rows_of_values:
            content = {next(iter(named)): content}
        elif not named and not (isinstance(content, list) or np.isscalar(content)):
            raise RequestError(
                "Invalid input. The model's signature has no names and takes one array or value, not"
                f" {type(content).__name__}"
            )
    if isinstance(content, dict):
        return {name: _converted(value, named.get(name)) for name, value in content.items()}
    if isinstance(content, list) and all(isinstance(one, dict) for one in content):
        return [{k: _converted(v, named.get(k)) for k, v in one.items()} for one in content]
    return _converted(content, schema.inputs[0] if schema is not None else None)


def instances(content: Any, schema: Schema | None) -> Any:
    """Return the data of `instances`: a list of objects becomes columns, other lists a tensor.

    Raises:
        RequestError: columns of different lengths, or values that are not of the signature's types.
    """
    import numpy as np

    if isinstance(content, list) and content and isinstance(content[0], dict):
        named = schema.input_dict() if schema is not None else {}
        columns: dict[str, list[Any]] = {}
        for row in content:
            for name, value in row.items():
                columns.setdefault(name, []).append(_converted(value, named.get(name)))
        data: Any = {name: np.array(values) for name, values in columns.items()}
    else:
        data = inputs(content, schema)
    if isinstance(data, dict):
        _check_lengths(data, schema)
    return data


def _check_lengths(data: dict[str, Any], schema: Schema | None) -> None:
    import numpy as np

    lengths = {name: len(v) for name, v in data.items() if isinstance(v, (list, np.ndarray))}
    if schema is not None and schema.has_input_names():
        counted = {n for n, s in schema.input_dict().items() if s.required and not isinstance(s.type, Array)}
        lengths = {name: length for name, length in lengths.items() if name in counted}
    if len(set(lengths.values())) > 1:
        raise RequestError("Invalid input. The length of values for each input/column name are not the same")


def _converted(value: Any, spec: ColSpec | TensorSpec | None) -> Any:
    import numpy as np

    try:
        if spec is None:
            return np.array(value)
        if isinstance(spec, TensorSpec):
            return np.array(value, dtype=spec.dtype)
        kind = spec.type
        if isinstance(kind, DataType):
            if isinstance(value, (list, np.ndarray)):
                return np.array(value, kind.to_numpy())
            return np.array([value], kind.to_numpy())[0]
        if isinstance(kind, Array):
            return np.array(enforce_value(value, kind, required=spec.required))
        if isinstance(kind, (Object, Map)):
            return enforce_value(value, kind, required=spec.required)
        return value
    except InvalidValueError as error:
        raise RequestError(f"Invalid input. {error.message}") from error
    except Exception as error:
        raise RequestError(f"Invalid input. {error}") from error
