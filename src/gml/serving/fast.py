"""The short way from a request to a data frame: for named columns of plain types and well-formed rows.

It gives exactly what the long way gives (`gml.models.parse`, then `gml.models.enforce`), or None where it
is not sure; the tests compare the two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gml.models.schema import ColSpec, DataType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gml.models.schema import Schema

_ALLOWED: Final[dict[DataType, frozenset[type]]] = {
    DataType.double: frozenset({float, int}),
    DataType.float: frozenset({float, int}),
    DataType.long: frozenset({int}),
    DataType.integer: frozenset({int}),
    DataType.boolean: frozenset({bool}),
    DataType.string: frozenset({str}),
}


class FastFrames:
    """Data frames of one schema; `usable` says whether the schema is simple enough."""

    def __init__(self, schema: Schema | None) -> None:
        self.usable = False
        if schema is None or schema.is_tensor_spec() or not schema.has_input_names():
            return
        specs = [spec for spec in schema if isinstance(spec, ColSpec)]
        if any(spec.type not in _ALLOWED for spec in specs):
            return
        import pandas as pd

        self.usable = True
        self._types = {str(spec.name): spec.type for spec in specs if isinstance(spec.type, DataType)}
        self._names = [str(spec.name) for spec in specs]
        self._required = {str(spec.name) for spec in specs if spec.required}
        self._all_double = set(self._types.values()) == {DataType.double}
        self._columns = pd.DataFrame({name: [] for name in self._names}).columns

    def frame(self, data: dict[str, Any]) -> Any:
        """Return the data frame of a request's body, None where the long way must decide."""
        if len(data) != 1:
            return None
        split = data.get("dataframe_split")
        if type(split) is dict:
            if len(split) != 2 or "columns" not in split or "data" not in split:
                return None
            return self._of_rows(split["columns"], split["data"])
        records = data.get("dataframe_records")
        return self._of_records(records) if type(records) is list and records else None

    def _of_rows(self, columns: Any, rows: Any) -> Any:
        if type(columns) is not list or type(rows) is not list or not rows:
            return None
        if not all(type(name) is str for name in columns):
            return None
        width = len(columns)
        if len(set(columns)) != width or any(type(row) is not list or len(row) != width for row in rows):
            return None
        if self._all_double and columns == self._names:
            return self._matrix(rows)
        at = {name: position for position, name in enumerate(columns)}
        if not self._required <= set(at):
            return None
        turned = list(zip(*rows, strict=True))
        return self._frame({name: turned[at[name]] for name in self._names if name in at})

    def _of_records(self, records: list[Any]) -> Any:
        first = records[0]
        if type(first) is not dict:
            return None
        keys = first.keys()
        if not self._required <= set(keys):
            return None
        if any(type(row) is not dict or row.keys() != keys for row in records):
            return None
        return self._frame({name: [row[name] for row in records] for name in self._names if name in keys})

    def _matrix(self, rows: list[Any]) -> Any:
        import numpy as np
        import pandas as pd

        try:
            array = np.array(rows)
        except (ValueError, OverflowError):
            return None
        if array.ndim != 2 or array.dtype.kind not in "fib" or array.dtype == np.uint64:
            return None
        return pd.DataFrame(array.astype(np.float64, copy=False), columns=self._columns, copy=False)

    def _frame(self, columns: dict[str, Sequence[Any]]) -> Any:
        import numpy as np
        import pandas as pd

        found: dict[str, Any] = {}
        for name, values in columns.items():
            kind = self._types[name]
            if not set(map(type, values)) <= _ALLOWED[kind]:
                return None
            if kind is DataType.string:
                found[name] = list(values)
                continue
            try:
                # float32 by way of float64, as pandas does it.
                array = np.array(values, np.float64 if kind is DataType.float else kind.to_numpy())
            except OverflowError:
                return None
            found[name] = array.astype(np.float32) if kind is DataType.float else array
        return pd.DataFrame(found)
