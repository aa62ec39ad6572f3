"""What a model takes and gives: columns, tensors and params, as the MLmodel file writes them.

    >>> schema = Schema([ColSpec("double", "age"), ColSpec("string", "plan", required=False)])
    >>> schema
    ['age': double (required), 'plan': string (optional)]
    >>> Schema.from_json(schema.to_json()) == schema
    True

The names are those that MLflow users know.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from gml.domain.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import numpy as np


class DataType(StrEnum):
    """Type of a scalar value."""

    boolean = "boolean"
    integer = "integer"
    long = "long"
    float = "float"
    double = "double"
    string = "string"
    binary = "binary"
    datetime = "datetime"

    def __repr__(self) -> str:
        return self.value

    def to_numpy(self) -> np.dtype[Any]:
        """Return the numpy type of a value."""
        import numpy as np

        return np.dtype(_NUMPY[self.value])

    def to_pandas(self) -> np.dtype[Any]:
        """Return the type of a column in a data frame: numpy's, or object for text and bytes."""
        import numpy as np

        return np.dtype(object) if self.value in {"string", "binary"} else self.to_numpy()

    def to_python(self) -> type:
        """Return the built-in type of a value."""
        return _PYTHON[self.value]


_NUMPY: Final = {
    "boolean": "bool", "integer": "int32", "long": "int64", "float": "float32", "double": "float64",
    "string": "str", "binary": "bytes", "datetime": "datetime64[ns]",
}  # fmt: skip
_PYTHON: Final[dict[str, type]] = {
    "boolean": bool, "integer": int, "long": int, "float": float, "double": float,
    "string": str, "binary": bytes, "datetime": dt.date,
}  # fmt: skip


@dataclass(frozen=True)
class AnyType:
    """A value of any type, null included."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON shape."""
        return {"type": "any"}

    def __repr__(self) -> str:
        return "Any"


@dataclass(frozen=True)
class Array:
    """A list of values of one type."""

    dtype: ValueType

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", _value_type(self.dtype))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON shape."""
        return {"type": "array", "items": _type_dict(self.dtype)}

    def __repr__(self) -> str:
        return f"Array({self.dtype!r})"


@dataclass(frozen=True)
class Map:
    """A dictionary with text keys and values of one type."""

    value_type: ValueType

    def __post_init__(self) -> None:
        object.__setattr__(self, "value_type", _value_type(self.value_type))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON shape."""
        return {"type": "map", "values": _type_dict(self.value_type)}

    def __repr__(self) -> str:
        return f"Map(str -> {self.value_type!r})"


@dataclass(frozen=True)
class Property:
    """A named value of an `Object`."""

    name: str
    dtype: ValueType
    required: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", _value_type(self.dtype))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON shape: the name and what stands under it."""
        return {self.name: {**_type_dict(self.dtype), "required": self.required}}

    def __repr__(self) -> str:
        return f"{self.name}: {self.dtype!r} ({'required' if self.required else 'optional'})"


@dataclass(frozen=True)
class Object:
    """A dictionary with known keys."""

    properties: tuple[Property, ...]

    def __init__(self, properties: Iterable[Property]) -> None:
        listed = tuple(sorted(properties, key=lambda one: one.name))
        if not listed or len({one.name for one in listed}) != len(listed):
            raise InvalidValueError("an Object has at least one property, and each name once")
        object.__setattr__(self, "properties", listed)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON shape."""
        found: dict[str, Any] = {}
        for one in self.properties:
            found |= one.to_dict()
        return {"type": "object", "properties": found}

    def __repr__(self) -> str:
        inner = ", ".join(f"{one!r}" for one in self.properties)
        return "{" + inner + "}"


ValueType: TypeAlias = DataType | Array | Map | Object | AnyType


def _value_type(value: Any) -> ValueType:
    if isinstance(value, (DataType, Array, Map, Object, AnyType)):
        return value
    try:
        return DataType(value)
    except ValueError:
        known = ", ".join(DataType)
        raise InvalidValueError(f"{value!r} is no type of a value", hint=f"use one of {known}") from None


def _type_dict(value: ValueType) -> dict[str, Any]:
    return {"type": value.value} if isinstance(value, DataType) else value.to_dict()


def _type_from(data: Any) -> ValueType:
    if not isinstance(data, dict) or "type" not in data:
        raise InvalidValueError(f"a type is an object with the key 'type', not {data!r:.80}")
    kind = data["type"]
    try:
        if kind == "array":
            return Array(_type_from(data["items"]))
        if kind == "map":
            return Map(_type_from(data["values"]))
        if kind == "object":
            return Object(
                Property(name, _type_from(inner), bool(inner.get("required", True)))
                for name, inner in data["properties"].items()
            )
    except (KeyError, AttributeError) as error:
        raise InvalidValueError(f"{kind} without its parts in a signature: {data!r:.80}") from error
    return AnyType() if kind == "any" else _value_type(kind)


@dataclass(frozen=True)
class ColSpec:
    """A column, or a named value."""

    type: ValueType
    name: str | None = None
    required: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "type", _value_type(self.type))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON shape."""
        named = {} if self.name is None else {"name": self.name}
        return {**_type_dict(self.type), **named, "required": self.required}

    def __repr__(self) -> str:
        text = f"{self.type!r} ({'required' if self.required else 'optional'})"
        return text if self.name is None else f"{self.name!r}: {text}"


@dataclass(frozen=True)
class TensorSpec:
    """A tensor: numpy type and shape, -1 for a dimension of any length."""

    type: str
    shape: tuple[int, ...]
    name: str | None = None

    def __post_init__(self) -> None:
        import numpy as np

        try:
            kind = np.dtype(self.type)
        except TypeError:
            raise InvalidValueError(f"{self.type!r} is no numpy type") from None
        object.__setattr__(self, "type", {"U": "str", "S": "bytes"}.get(kind.char, kind.name))
        object.__setattr__(self, "shape", tuple(int(size) for size in self.shape))

    @property
    def required(self) -> bool:
        """Always true: a model needs all of its tensors."""
        return True

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy type."""
        import numpy as np

        return np.dtype(self.type)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON shape."""
        named = {} if self.name is None else {"name": self.name}
        return {**named, "type": "tensor", "tensor-spec": {"dtype": self.type, "shape": list(self.shape)}}

    def __repr__(self) -> str:
        text = f"Tensor({self.type!r}, {self.shape!r})"
        return text if self.name is None else f"{self.name!r}: {text}"


class Schema:
    """The inputs or outputs of a model: columns or tensors, all named or none."""

    def __init__(self, inputs: Sequence[ColSpec | TensorSpec]) -> None:
        listed = list(inputs)
        names = [one.name for one in listed]
        if not listed:
            raise InvalidValueError("a schema has at least one column or tensor")
        if len({type(one) for one in listed}) > 1:
            raise InvalidValueError("a schema has either columns or tensors")
        if any(name is None for name in names) and any(name is not None for name in names):
            raise InvalidValueError(f"a schema names all of its inputs or none, not some: {names}")
        if names[0] is None and (
            any(not one.required for one in listed) or (len(listed) > 1 and isinstance(listed[0], TensorSpec))
        ):
            raise InvalidValueError("optional inputs and several tensors need names")
        self.inputs = listed

    def is_tensor_spec(self) -> bool:
        """Whether it describes tensors."""
        return isinstance(self.inputs[0], TensorSpec)

    def has_input_names(self) -> bool:
        """Whether its inputs have names."""
        return self.inputs[0].name is not None

    def input_names(self) -> list[str | int]:
        """Return the names, or positions where there are none."""
        return [one.name or at for at, one in enumerate(self.inputs)]

    def required_input_names(self) -> list[str | int]:
        """Return the names of the inputs that must be there."""
        return [one.name or at for at, one in enumerate(self.inputs) if one.required]

    def optional_input_names(self) -> list[str | int]:
        """Return the names of the inputs that may be missing."""
        return [one.name or at for at, one in enumerate(self.inputs) if not one.required]

    def input_types(self) -> list[Any]:
        """Return the type of each input."""
        return [one.dtype if isinstance(one, TensorSpec) else one.type for one in self.inputs]

    def input_dict(self) -> dict[str, ColSpec | TensorSpec]:
        """Return name -> input; empty where they have no names."""
        return {one.name: one for one in self.inputs if one.name is not None}

    def to_dict(self) -> list[dict[str, Any]]:
        """Return the JSON shape."""
        return [one.to_dict() for one in self.inputs]

    def to_json(self) -> str:
        """Return the JSON text that stands in the MLmodel file."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> Schema:
        """Read what `to_json` writes.

        Raises:
            InvalidValueError: it is not a schema.
        """
        return cls([_spec_from(one) for one in _json_list(text, "schema")])

    def __len__(self) -> int:
        return len(self.inputs)

    def __iter__(self) -> Iterator[ColSpec | TensorSpec]:
        return iter(self.inputs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schema) and self.inputs == other.inputs

    def __hash__(self) -> int:
        return hash(tuple(self.inputs))

    def __repr__(self) -> str:
        return repr(self.inputs)


def _json_list(text: str, what: str) -> list[Any]:
    try:
        data = json.loads(text)
    except (TypeError, ValueError) as error:
        raise InvalidValueError(f"the {what} of the signature is not JSON: {error}") from None
    if not isinstance(data, list):
        raise InvalidValueError(f"the {what} of the signature is no list")
    return data


def _spec_from(data: Any) -> ColSpec | TensorSpec:
    if not isinstance(data, dict):
        raise InvalidValueError(f"an input of a signature is an object, not {data!r:.80}")
    if data.get("type") == "tensor":
        inner = data.get("tensor-spec")
        if not isinstance(inner, dict) or not {"dtype", "shape"} <= set(inner):
            raise InvalidValueError(f"a tensor has dtype and shape: {data!r:.80}")
        return TensorSpec(inner["dtype"], tuple(inner["shape"]), data.get("name"))
    required = data.get("required")
    return ColSpec(_type_from(data), data.get("name"), required is None or bool(required))


@dataclass(frozen=True)
class ParamSpec:
    """A param of inference: a scalar, a list (`shape` is `(-1,)`) or an object, with a default."""

    name: str
    dtype: ValueType
    default: Any
    shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", _value_type(self.dtype))
        if self.shape is not None:
            object.__setattr__(self, "shape", tuple(self.shape))
        if self.dtype is DataType.binary:
            raise InvalidValueError(f"param {self.name!r} cannot be binary")
        from gml.models.params import check_param

        object.__setattr__(self, "default", check_param(self, self.default))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON shape."""
        default = self.default
        if self.dtype is DataType.datetime:
            default = [one.isoformat() for one in default] if self.shape else default.isoformat()
        shape = None if self.shape is None else list(self.shape)
        return {"name": self.name, "default": default, "shape": shape, **_type_dict(self.dtype)}

    def __repr__(self) -> str:
        shape = f" (shape: {self.shape})" if self.shape is not None else ""
        return f"{self.name!r}: {self.dtype!r} (default: {self.default}){shape}"


class ParamSchema:
    """The params of inference."""

    def __init__(self, params: Sequence[ParamSpec]) -> None:
        self.params = list(params)
        names = [one.name for one in self.params]
        if len(set(names)) != len(names):
            raise InvalidValueError(f"a param is there twice: {sorted(names)}")

    def to_dict(self) -> list[dict[str, Any]]:
        """Return the JSON shape."""
        return [one.to_dict() for one in self.params]

    def to_json(self) -> str:
        """Return the JSON text that stands in the MLmodel file."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> ParamSchema:
        """Read what `to_json` writes.

        Raises:
            InvalidValueError: it is not a list of params.
        """
        found = []
        for one in _json_list(text, "params"):
            if not isinstance(one, dict) or not {"name", "default"} <= set(one):
                raise InvalidValueError(f"a param has name, type and default: {one!r:.80}")
            kind = one.get("type") or one.get("dtype")
            dtype = _type_from({**one, "type": kind})
            found.append(ParamSpec(str(one["name"]), dtype, one["default"], one.get("shape")))
        return cls(found)

    def __len__(self) -> int:
        return len(self.params)

    def __iter__(self) -> Iterator[ParamSpec]:
        return iter(self.params)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ParamSchema) and self.params == other.params

    def __hash__(self) -> int:
        return hash(tuple(one.name for one in self.params))

    def __repr__(self) -> str:
        return repr(self.params)


@dataclass
class ModelSignature:
    """Inputs, outputs and params of a model; at least one of them.

    Attributes:
        from_type_hint: the inputs were read off the type hints of `predict`, which then checks them itself.
        from_example: the hint only said that the input example tells.
    """

    inputs: Schema | None = None
    outputs: Schema | None = None
    params: ParamSchema | None = None
    from_type_hint: bool = field(default=False, compare=False)
    from_example: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        if self.inputs is None and self.outputs is None and self.params is None:
            raise InvalidValueError("a signature has inputs, outputs or params")

    def to_dict(self) -> dict[str, str | None]:
        """Return what stands under `signature` in the MLmodel file."""
        return {
            "inputs": self.inputs.to_json() if self.inputs is not None else None,
            "outputs": self.outputs.to_json() if self.outputs is not None else None,
            "params": self.params.to_json() if self.params is not None else None,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelSignature | None:
        """Read what `to_dict` writes; None where nothing is in it.

        Raises:
            InvalidValueError: it is not a signature.
        """
        inputs, outputs, params = (data.get(key) or None for key in ("inputs", "outputs", "params"))
        if inputs is None and outputs is None and params is None:
            return None
        return cls(
            Schema.from_json(inputs) if inputs is not None else None,
            Schema.from_json(outputs) if outputs is not None else None,
            ParamSchema.from_json(params) if params is not None else None,
        )

    def __repr__(self) -> str:
        return f"inputs: {self.inputs!r}\noutputs: {self.outputs!r}\nparams: {self.params!r}\n"
