"""The server described in OpenAPI, with the columns, tensors and params of its own model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gml._version import __version__
from gml.models.schema import AnyType, Array, ColSpec, DataType, Map, Object, ParamSpec, TensorSpec, ValueType

if TYPE_CHECKING:
    from gml.models.mlmodel import MLmodel
    from gml.models.schema import Schema

_SCALARS: Final[dict[DataType, dict[str, Any]]] = {
    DataType.boolean: {"type": "boolean"},
    DataType.integer: {"type": "integer", "format": "int32"},
    DataType.long: {"type": "integer", "format": "int64"},
    DataType.float: {"type": "number", "format": "float"},
    DataType.double: {"type": "number", "format": "double"},
    DataType.string: {"type": "string"},
    DataType.binary: {"type": "string", "format": "byte"},
    DataType.datetime: {"type": "string", "format": "date-time"},
}


def describe(mlmodel: MLmodel, label: str, example: Any) -> dict[str, Any]:
    """Return the OpenAPI document of a server of this model."""
    signature = mlmodel.signature
    inputs = signature.inputs if signature is not None else None
    body: dict[str, Any] = {
        "schema": _request(inputs, signature.params.params if signature and signature.params else [])
    }
    if example is not None:
        body["example"] = example
    answer = _rows(signature.outputs) if signature is not None and signature.outputs is not None else {}
    predictions = {"type": "object", "properties": {"predictions": answer}, "required": ["predictions"]}
    plain = {"description": "the server runs"}
    return {
        "openapi": "3.1.0",
        "info": {"title": label, "version": __version__, "description": "Scoring protocol of MLflow."},
        "paths": {
            "/invocations": {
                "post": {
                    "summary": "Predict",
                    "requestBody": {
                        "required": True,
                        "content": {
                            "application/json": body,
                            "text/csv": {"schema": {"type": "string"}},
                            "application/vnd.apache.parquet": {
                                "schema": {"type": "string", "format": "binary"}
                            },
                        },
                    },
                    "responses": {
                        "200": {
                            "description": "predictions",
                            "content": {"application/json": {"schema": predictions}},
                        },
                        **{code: _error(text) for code, text in _ERRORS.items()},
                    },
                }
            },
            "/ping": {"get": {"summary": "Health", "responses": {"200": plain}}},
            "/health": {"get": {"summary": "Health", "responses": {"200": plain}}},
            "/version": {
                "get": {"summary": "Version of gml", "responses": {"200": {"description": "version"}}}
            },
            "/metrics": {
                "get": {"summary": "Prometheus metrics", "responses": {"200": {"description": "text"}}}
            },
        },
    }


_ERRORS: Final = {
    "400": "malformed request, or data that does not fit the signature",
    "401": "no token, or a wrong one",
    "413": "body too large",
    "415": "content type that the protocol does not have",
    "429": "too many requests at once",
    "504": "no answer in time",
}


def _error(text: str) -> dict[str, Any]:
    keys = {
        key: {"type": "string"} for key in ("error_code", "message", "sqlstate", "error_class", "stack_trace")
    }
    shape = {"type": "object", "properties": keys}
    return {"description": text, "content": {"application/json": {"schema": shape}}}


def _request(inputs: Schema | None, params: list[ParamSpec]) -> dict[str, Any]:
    rows = _rows(inputs) if inputs is not None else {"type": "array"}
    columns: dict[str, Any] = {}
    names: list[str] = []
    if inputs is not None and inputs.has_input_names():
        names = [str(name) for name in inputs.input_names()]
        columns = {
            name: {"type": "array", "items": _spec(one)} for name, one in zip(names, inputs, strict=True)
        }
    listed: dict[str, Any] = {"items": {"enum": names}} if names else {}
    split = {
        "type": "object",
        "properties": {
            "columns": {"type": "array", **listed},
            "data": {"type": "array", "items": {"type": "array"}},
            "index": {"type": "array"},
        },
        "required": ["data"],
    }
    by_name = {"type": "object", "properties": columns} if columns else {}
    formats = {"dataframe_split": split, "dataframe_records": rows, "instances": rows, "inputs": by_name}
    more = {"params": _params(params)} if params else {}
    return {
        "oneOf": [
            {"type": "object", "properties": {key: shape, **more}, "required": [key]}
            for key, shape in formats.items()
        ]
    }


def _params(params: list[ParamSpec]) -> dict[str, Any]:
    found = {}
    for one in params:
        shape = _value(one.dtype)
        found[one.name] = {"type": "array", "items": shape} if one.shape else shape
        found[one.name] = {**found[one.name], "default": one.to_dict()["default"]}
    return {"type": "object", "properties": found}


def _rows(schema: Schema) -> dict[str, Any]:
    if schema.has_input_names():
        properties = {str(one.name): _spec(one) for one in schema}
        required = [str(name) for name in schema.required_input_names()]
        return {"type": "array", "items": {"type": "object", "properties": properties, "required": required}}
    first = schema.inputs[0]
    if isinstance(first, TensorSpec):
        return _tensor(first)
    return {"type": "array", "items": _spec(first)}


def _spec(one: ColSpec | TensorSpec) -> dict[str, Any]:
    return _tensor(one) if isinstance(one, TensorSpec) else _value(one.type)


def _tensor(one: TensorSpec) -> dict[str, Any]:
    kinds = {"b": "boolean", "i": "integer", "u": "integer", "f": "number"}
    shape: dict[str, Any] = {"type": kinds.get(one.dtype.kind, "string")}
    for size in reversed(one.shape):
        shape = {
            "type": "array",
            "items": shape,
            **({"minItems": size, "maxItems": size} if size >= 0 else {}),
        }
    return shape


def _value(kind: ValueType) -> dict[str, Any]:
    if isinstance(kind, DataType):
        return _SCALARS[kind]
    if isinstance(kind, Array):
        return {"type": "array", "items": _value(kind.dtype)}
    if isinstance(kind, Map):
        return {"type": "object", "additionalProperties": _value(kind.value_type)}
    if isinstance(kind, Object):
        return {
            "type": "object",
            "properties": {one.name: _value(one.dtype) for one in kind.properties},
            "required": [one.name for one in kind.properties if one.required],
        }
    assert isinstance(kind, AnyType)  # noqa: S101 - there is no other type
    return {}
