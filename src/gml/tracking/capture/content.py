"""Digests of tables and arrays that depend on what they hold and on nothing else.

Not on the process, the byte order, the memory layout, or the version of pandas: numbers are hashed as
little-endian bytes, times as seconds and nanoseconds (pandas 3 counts microseconds where pandas 2
counted nanoseconds), texts and other objects as JSON (pandas 3 has another type for texts).

Up to `MAX_BYTES` of fixed-width values and `MAX_OBJECTS` of the others are hashed whole. Of larger data as
many rows as fit are taken, evenly spaced and always the first and last; the full shape is hashed too.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_BYTES = 256 << 20
MAX_OBJECTS = 2_000_000
_PIECE = 8 << 20
_PLAIN = frozenset({str, int, bool, type(None)})
# Counts of a NumPy time unit in a second; coarser ones are converted to seconds first.
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


class ContentHash:
    """A SHA-256 that is fed with columns and arrays.

    Example:
        >>> content = ContentHash("frame")
        >>> content.array(np.arange(3))
        >>> len(content.digest())
        32
    """

    def __init__(self, kind: str) -> None:
        self._sha = hashlib.sha256()
        self.note("gml-dataset-1", kind)

    def note(self, *facts: Any) -> None:
        """Add short facts: names, types, shapes."""
        text = json.dumps(facts, sort_keys=True, default=str).encode()
        self._sha.update(b"%d:" % len(text) + text)

    def digest(self) -> str:
        """Return 32 hexadecimal digits (MLflow allows 36)."""
        return self._sha.hexdigest()[:32]

    def array(self, array: Any, limit: int = MAX_BYTES) -> None:
        """Add type, shape and values of a NumPy array.

        Args:
            array: of any type and layout.
            limit: bytes to hash at most; of more, evenly spaced rows are taken.
        """
        import numpy as np

        if array.dtype.kind == "O":
            self.note("objects", list(array.shape))
            self.objects(array.ravel())
            return
        self.note(array.dtype.newbyteorder("<").str, list(array.shape))
        rows = array.reshape(1) if array.ndim == 0 else array
        width = rows.nbytes // max(1, len(rows))
        rows = rows[_spaced(len(rows), limit // max(1, width))]
        step = max(1, _PIECE // max(1, width))
        for start in range(0, len(rows), step):
            piece = rows[start : start + step]
            piece = np.ascontiguousarray(piece, dtype=piece.dtype.newbyteorder("<"))
            if piece.dtype.kind in "fc" and (bad := np.isnan(piece)).any():
                # There are many bit patterns for "not a number", and processors differ in which they make.
                piece = np.where(bad, np.array(np.nan, dtype=piece.dtype), piece)
            self._sha.update(piece.tobytes())

    def objects(self, values: Any, limit: int = MAX_OBJECTS) -> None:
        """Add a one-dimensional sequence of Python objects; None, NaN, NaT and NA are all one."""
        import pandas as pd

        values = values[_spaced(len(values), limit)]
        missing = pd.isna(values)
        plain = [None if gone else value for value, gone in zip(values, missing, strict=True)]
        if not set(map(type, plain)) <= _PLAIN:
            plain = [_canonical(value) for value in plain]
        self._sha.update(json.dumps(plain).encode())

    def column(self, series: Any, columns: int = 1) -> None:
        """Add the values of a pandas Series or Index.

        Args:
            series: the values, of any pandas type.
            columns: how many columns share the limits.
        """
        import numpy as np

        limit = max(1, MAX_BYTES // columns)
        if str(series.dtype).startswith("Sparse"):
            series = series.sparse.to_dense()
        kind = getattr(series.dtype, "kind", "O")
        if kind not in "biufcmM":
            self.note("objects", len(series))
            self.objects(np.asarray(series, dtype=object), max(1, MAX_OBJECTS // columns))
            return
        missing = np.asarray(series.isna())
        if kind in "mM":
            self._times(_times_of(series), missing, limit)
            return
        if missing.any():
            self.note("missing")
            self.array(missing, limit)
            values = series.to_numpy(dtype=_numpy_type(series.dtype), na_value=0)
        else:
            values = series.to_numpy(dtype=_numpy_type(series.dtype))
        self.array(values, limit)

    def _times(self, values: Any, missing: Any, limit: int) -> None:
        import numpy as np

        unit = np.datetime_data(values.dtype)[0]
        if unit not in _PER_SECOND:
            values, unit = values.astype(f"{values.dtype.kind}8[s]"), "s"
        counts = np.where(missing, 0, values.view("i8"))
        per_second = _PER_SECOND[unit]
        self.note("times", bool(missing.any()))
        if missing.any():
            self.array(missing, limit)
        self.array(counts // per_second, limit)
        self.array(counts % per_second * (10**9 // per_second), limit)


def _spaced(count: int, limit: int) -> Any:
    """Return what picks `limit` of `count` rows, evenly spaced from the first to the last."""
    limit = max(2, limit)
    if count <= limit:
        return slice(None)
    import numpy as np

    # Whole numbers: floating point would make the choice depend on rounding.
    return np.arange(limit, dtype=np.int64) * (count - 1) // (limit - 1)


def _numpy_type(dtype: Any) -> Any:
    """Return the NumPy type of a nullable pandas or Arrow type; it is the type itself elsewhere."""
    import numpy as np

    return np.dtype(getattr(dtype, "numpy_dtype", dtype))


def _times_of(series: Any) -> Any:
    import numpy as np

    values = series.dt if hasattr(series, "dt") else series
    if getattr(values, "tz", None) is not None:
        series = values.tz_convert("UTC")
        series = series.dt.tz_localize(None) if hasattr(series, "dt") else series.tz_localize(None)
    return np.asarray(series.to_numpy())


def _canonical(value: Any) -> Any:
    if type(value) in _PLAIN:
        return value
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, bytes | bytearray):
        return {"bytes": value.hex()}
    if isinstance(value, dict):
        return {"map": [[_canonical(key), _canonical(item)] for key, item in value.items()]}
    if isinstance(value, set | frozenset):
        return {"set": sorted(json.dumps(_canonical(item)) for item in value)}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if hasattr(value, "dtype") and hasattr(value, "tolist"):  # NumPy arrays and scalars
        return _canonical(value.tolist())
    kind = type(value)
    # Looked up by name, because to a type checker every class has a text of its own.
    if all(getattr(kind, name) is getattr(object, name) for name in ("__str__", "__repr__")):
        return {"type": kind.__qualname__}  # its text would be its address
    return {"type": kind.__qualname__, "text": str(value)}


def lines_digest(lines: Iterable[str]) -> str:
    """Return 32 hexadecimal digits over lines of text, as `sha256sum` would begin."""
    sha = hashlib.sha256()
    for line in lines:
        sha.update(line.encode("utf-8", "surrogateescape"))
    return sha.hexdigest()[:32]
