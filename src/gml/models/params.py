"""Params of inference: checked against the signature, defaults filled in."""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import InvalidValueError
from gml.models.schema import DataType, Object, ParamSchema

if TYPE_CHECKING:
    from gml.models.schema import ParamSpec

log = logging.getLogger("gml")

# What may become what without loss.
_WIDENING: Final = {
    DataType.long: (DataType.integer,),
    DataType.float: (DataType.integer, DataType.long),
    DataType.double: (DataType.integer, DataType.long, DataType.float),
}


def enforce_params(params: Any, schema: ParamSchema | None) -> dict[str, Any] | None:
    """Return the params that a model gets: known ones checked, missing ones by default, others left out.

    Raises:
        InvalidValueError: they are no dictionary, or a value is not of its type.
    """
    if schema is None:
        if params:
            log.warning("gml: the model's signature has no params; those of the request are ignored")
        return params if params in (None, {}) else {}
    given = {} if params is None else params
    if not isinstance(given, dict):
        raise InvalidValueError(f"params are a dictionary, not {type(params).__name__}")
    given = {str(key): value for key, value in given.items()}
    known = {one.name for one in schema}
    unknown = sorted(set(given) - known)
    if unknown:
        log.warning("gml: params %s are not in the model's signature and are ignored", unknown)
    found = {}
    wrong = []
    for one in schema:
        if one.name not in given:
            found[one.name] = copy.deepcopy(one.default)
            continue
        try:
            found[one.name] = check_param(one, given[one.name])
        except InvalidValueError as error:
            wrong.append(str(error))
    if wrong:
        raise InvalidValueError(f"invalid params: {'; '.join(wrong)}")
    return found


def check_param(spec: ParamSpec, value: Any) -> Any:
    """Return a value as the type that a param has.

    Raises:
        InvalidValueError: it is of another type or shape.
    """
    import numpy as np

    if spec.shape is None:
        if isinstance(spec.dtype, DataType):
            return _scalar(spec, value)
        from gml.models.enforce import enforce_value

        if isinstance(spec.dtype, Object):
            enforce_value(copy.deepcopy(value), spec.dtype)
        return value
    if spec.shape != (-1,):
        raise InvalidValueError(f"the shape of param {spec.name!r} is (-1,) or nothing, not {spec.shape}")
    if not isinstance(value, (list, tuple, np.ndarray)) or np.ndim(np.array(value, object)) != 1:
        raise InvalidValueError(f"param {spec.name!r} is a list, not {value!r:.80}")
    return [_scalar(spec, one) for one in value]


def _scalar(spec: ParamSpec, value: Any) -> Any:
    import numpy as np

    if value is None:
        return None
    wanted = spec.dtype
    assert isinstance(wanted, DataType)  # noqa: S101 - callers looked
    refusal = InvalidValueError(
        f"param {spec.name!r} is of type {wanted}, and {value!r:.80} ({type(value).__name__}) is not"
    )
    if wanted is DataType.datetime:
        try:
            moment = np.datetime64(value).item()
        except (ValueError, TypeError):
            raise refusal from None
        if moment is None or isinstance(moment, int):
            raise refusal
        return moment
    if not np.isscalar(value):
        raise refusal
    kinds = (wanted, *_WIDENING.get(wanted, ()))
    if not any(_is(kind, value) for kind in kinds):
        raise refusal
    return wanted.to_python()(value)


def _is(kind: DataType, value: Any) -> bool:
    import numpy as np

    if kind is DataType.boolean:
        return isinstance(value, (bool, np.bool_))
    if isinstance(value, (bool, np.bool_)):
        return False
    match kind:
        case DataType.integer:
            return isinstance(value, (int, np.int32))
        case DataType.long:
            return isinstance(value, (int, np.int64))
        case DataType.float:
            return isinstance(value, (float, np.float32))
        case DataType.double:
            return isinstance(value, (float, np.float64))
        case DataType.string:
            return isinstance(value, str)
        case _:
            return isinstance(value, bytes)
