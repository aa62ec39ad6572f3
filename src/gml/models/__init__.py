"""Models: a folder that any tool can read, safe to load; and signatures, by the names MLflow users know.

    >>> from gml.models import infer_signature
    >>> infer_signature([0.5], [1]).outputs
    [long (required)]

Everything is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from gml.models.inference import infer_signature as infer_signature
    from gml.models.schema import AnyType as AnyType
    from gml.models.schema import Array as Array
    from gml.models.schema import ColSpec as ColSpec
    from gml.models.schema import DataType as DataType
    from gml.models.schema import Map as Map
    from gml.models.schema import ModelSignature as ModelSignature
    from gml.models.schema import Object as Object
    from gml.models.schema import ParamSchema as ParamSchema
    from gml.models.schema import ParamSpec as ParamSpec
    from gml.models.schema import Property as Property
    from gml.models.schema import Schema as Schema
    from gml.models.schema import TensorSpec as TensorSpec
    from gml.models.scripts import set_model as set_model

_SCHEMA: Final = (
    "AnyType", "Array", "ColSpec", "DataType", "Map", "ModelSignature", "Object", "ParamSchema", "ParamSpec",
    "Property", "Schema", "TensorSpec",
)  # fmt: skip
_HOMES: Final = {
    **dict.fromkeys(_SCHEMA, "gml.models.schema"),
    "infer_signature": "gml.models.inference",
    "set_model": "gml.models.scripts",
}

__all__ = [*_HOMES]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'gml.models' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
