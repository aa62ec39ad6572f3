"""Predictions as JSON: what MLflow's server writes, NaN included; numbers take the short way."""

from __future__ import annotations

import json
from typing import Any

from gml.models.example import plain_json
from gml.serving.errors import ProtocolError


def predictions(raw: Any, *, wrapped: bool = True) -> bytes:
    """Return the body of an answer.

    Args:
        raw: what the model returned.
        wrapped: under the key `predictions`.

    Raises:
        ProtocolError: it cannot be written as JSON.
    """
    import numpy as np
    import orjson
    import pandas as pd

    if isinstance(raw, np.ndarray):
        if raw.dtype.kind in "iufb" and raw.size and (raw.dtype.kind != "f" or np.isfinite(raw).all()):
            array = np.ascontiguousarray(raw)
            if array.dtype.itemsize in {1, 2, 4, 8} and array.dtype != np.float16:
                widened = array.astype(np.float64) if array.dtype == np.float32 else array
                body = orjson.dumps(widened, option=orjson.OPT_SERIALIZE_NUMPY)
                return b'{"predictions":%b}' % body if wrapped else body
        plain: Any = raw.tolist()
    elif isinstance(raw, pd.DataFrame):
        plain = raw.to_dict(orient="records")
    elif isinstance(raw, pd.Series):
        plain = pd.DataFrame(raw).to_dict(orient="records")
    else:
        plain = raw
    try:
        text = json.dumps({"predictions": plain} if wrapped else plain, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise ProtocolError("BAD_REQUEST", f"The model's predictions are not JSON: {error}") from error
    return text.encode()


def _plain(value: Any) -> Any:
    import numpy as np

    return str(np.datetime_as_string(value)) if isinstance(value, np.datetime64) else plain_json(value)


def row_count(raw: Any) -> int:
    """Return how many predictions there are; 1 for what has no length."""
    if isinstance(raw, (str, bytes, dict)) or not hasattr(raw, "__len__"):
        return 1
    try:
        return len(raw)
    except TypeError:  # an array without dimensions
        return 1
