"""Recognising what a training script calls its data, without importing what it has not imported."""

from __future__ import annotations

from typing import Any

from gml.domain.errors import InvalidValueError


def frame_of(dataset: Any, root: str) -> Any | None:
    """Return a pandas DataFrame if the data is some kind of table, else None."""
    if root == "pandas":
        if hasattr(dataset, "columns"):
            return dataset
        if hasattr(dataset, "to_frame"):
            return dataset.to_frame("0" if dataset.name is None else dataset.name)
    if root == "polars":
        import pandas as pd

        table = dataset.collect() if hasattr(dataset, "collect") else dataset
        table = table if hasattr(table, "get_columns") else table.to_frame()
        # Column by column: polars itself would need pyarrow for this.
        columns = {
            column.name: column.to_list() if column.null_count() else column.to_numpy()
            for column in table.get_columns()
        }
        return pd.DataFrame(columns)
    if root == "pyarrow" and hasattr(dataset, "to_pandas"):
        if hasattr(dataset, "column_names"):
            return dataset.to_pandas()
        return frame_of(dataset.to_pandas(), "pandas")
    if isinstance(dataset, list) and dataset and all(isinstance(row, dict) for row in dataset):
        import pandas as pd

        return pd.DataFrame(dataset)
    return None


def arrays_of(data: Any) -> dict[str, Any]:
    """Return arrays and CSR matrices by name; a single one has the empty name."""
    if isinstance(data, dict):
        return {str(key): _array(value) for key, value in data.items()}
    is_list = isinstance(data, list | tuple) and all(hasattr(part, "shape") for part in data)
    if is_list and any(part.shape for part in data):
        return {str(index): _array(part) for index, part in enumerate(data)}
    return {"": _array(data)}


def _array(data: Any) -> Any:
    import numpy as np

    if hasattr(data, "tocsr") and hasattr(data, "nnz"):
        matrix = data.tocsr(copy=True)
        matrix.sum_duplicates()
        matrix.sort_indices()
        return matrix
    if hasattr(data, "detach") and hasattr(data, "cpu"):
        tensor = data.detach().cpu()
        try:
            return np.asarray(tensor.numpy())
        except TypeError:  # NumPy has no bfloat16
            return np.asarray(tensor.float().numpy())
    if not (hasattr(data, "__array__") or isinstance(data, list | tuple | int | float)):
        raise InvalidValueError(
            f"cannot describe a data set of type {type(data).__module__}.{type(data).__qualname__}",
            hint="give a table, an array, a path, or an MLflow data set",
        )
    try:
        return np.asarray(data)
    except (ValueError, TypeError) as error:
        raise InvalidValueError(f"the data set is no array: {error}") from error


def column_type(series: Any) -> str:
    """Return the MLflow name for the type of a pandas Series: `long`, `double`, `string`, ..."""
    dtype = series.dtype
    kind, width = getattr(dtype, "kind", "O"), getattr(dtype, "itemsize", 8)
    if kind == "b":
        return "boolean"
    if kind in "iu":
        return "integer" if width < 4 or (kind == "i" and width == 4) else "long"
    if kind == "f":
        return "float" if width <= 4 else "double"
    if kind == "M":
        return "datetime"
    import pandas as pd

    # Looked at are the values, not the type: pandas 2 and 3 have different ones for the same texts.
    kinds = {"categorical": "string", "string": "string", "bytes": "binary", "boolean": "boolean"}
    kinds |= {"integer": "long", "floating": "double", "mixed-integer-float": "double", "empty": "string"}
    values = series.astype(object) if str(dtype) == "category" else series
    return kinds.get(pd.api.types.infer_dtype(values, skipna=True), "any")
