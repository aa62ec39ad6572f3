"""Input examples: a few rows kept with a model, as it takes them and as a request to its server."""

from __future__ import annotations

import base64
import datetime as dt
import json
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import CorruptError, InvalidValueError

if TYPE_CHECKING:
    from pathlib import Path

    from gml.models.files import ModelFiles
    from gml.models.mlmodel import MLmodel

EXAMPLE: Final = "input_example.json"
SERVING: Final = "serving_input_example.json"
LLM_KEYS: Final = frozenset({"messages", "prompt", "input"})
_PARAMS: Final = "params"
_DATA: Final = "inputs"
# What they were called before.
_OLD: Final = {"inference_params": "params", "inference_data": "inputs"}


def split_params(example: Any) -> tuple[Any, dict[str, Any] | None]:
    """Return data and params of an example; `(data, {...})` has both."""
    if isinstance(example, tuple) and len(example) == 2 and isinstance(example[1], dict):
        return example
    return example, None


def write_example(example: Any, folder: Path) -> dict[str, Any]:
    """Write an example's two files and return what stands under `saved_input_example_info`.

    Raises:
        InvalidValueError: data of a kind that no request can hold.
    """
    data, params = split_params(example)
    info, content, request = _encode(data)
    if params:
        content = {_DATA: content, _PARAMS: params}
        request = {**request, **(params if LLM_KEYS & set(request) else {"params": params})}
        info[_PARAMS] = "true"
    try:
        (folder / EXAMPLE).write_text(json.dumps(content, default=plain_json), encoding="utf-8")
        (folder / SERVING).write_text(json.dumps(request, default=plain_json, indent=2), encoding="utf-8")
    except TypeError as error:
        raise InvalidValueError(f"the input example cannot be written as JSON: {error}") from error
    return {"artifact_path": EXAMPLE, "serving_input_path": SERVING, **info}


def _encode(data: Any) -> tuple[dict[str, Any], Any, dict[str, Any]]:
    import numpy as np
    import pandas as pd

    if isinstance(data, pd.Series):
        data = pd.DataFrame(data)
    if isinstance(data, pd.DataFrame):
        split = _split(data)
        orient = "split" if "columns" in split else "values"
        return {"type": "dataframe", "pandas_orient": orient}, split, {"dataframe_split": split}
    if type(data).__module__.startswith("scipy.sparse"):
        parts = {k: getattr(data, k).tolist() for k in ("data", "indices", "indptr")}
        dense = {"inputs": data.toarray().tolist()}
        return {"type": f"sparse_matrix_{data.format}"}, {**parts, "shape": list(data.shape)}, dense
    if isinstance(data, np.ndarray):
        listed = _without_nan(data)
        return {"type": "ndarray"}, listed, {"inputs": listed}
    if isinstance(data, dict) and any(isinstance(value, np.ndarray) for value in data.values()):
        if not all(isinstance(value, np.ndarray) for value in data.values()):
            raise InvalidValueError("an input example has arrays for all names or for none")
        arrays = {name: _without_nan(value) for name, value in data.items()}
        return {"type": "ndarray"}, arrays, {"inputs": arrays}
    if hasattr(data, "model_dump"):
        data = data.model_dump()
    if isinstance(data, dict) and LLM_KEYS & set(data):
        return {"type": "json_object"}, data, data
    if isinstance(data, (dict, list)) or np.isscalar(data) or isinstance(data, dt.datetime):
        return {"type": "json_object"}, data, {"inputs": data}
    raise InvalidValueError(
        f"{type(data).__name__} is no input example",
        hint="use a data frame, an array, a dictionary, a list or a scalar",
    )


def _split(frame: Any) -> dict[str, Any]:
    import pandas as pd

    plain = frame.astype(object).where(frame.notna(), None).to_dict(orient="split")
    del plain["index"]
    if isinstance(frame.columns, pd.RangeIndex) and list(frame.columns) == list(range(len(frame.columns))):
        del plain["columns"]
    return dict(plain)


def _without_nan(array: Any) -> Any:
    import numpy as np

    if array.dtype.kind == "f" and np.isnan(array).any():
        array = array.astype(object)
        array[np.isnan(array.astype(float))] = None
    return array.tolist()


def plain_json(value: Any) -> Any:
    """Return what JSON has no word for in the way that examples and answers write it.

    Raises:
        TypeError: there is no way.
    """
    import numpy as np

    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (bytes, bytearray)):
        return base64.encodebytes(value).decode("ascii")
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "model_dump"):
        return value.model_dump()
    raise TypeError(f"{type(value).__name__} is not JSON")


def read_example(files: ModelFiles, mlmodel: MLmodel) -> tuple[Any, dict[str, Any] | None] | None:
    """Return the example of a model and its params, None where it has none.

    Raises:
        NotFoundError: its file is missing.
        CorruptError: it is not JSON, or of no known kind.
    """
    info = mlmodel.example
    if not info:
        return None
    name = str(info.get("artifact_path", EXAMPLE))
    try:
        content = json.loads(files.read(name))
        params = None
        if info.get(_PARAMS) or info.get("inference_params"):
            content = {_OLD.get(key, key): value for key, value in content.items()}
            content, params = content[_DATA], content[_PARAMS]
        return _decode(content, str(info.get("type")), mlmodel), params
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptError(f"{name} of the model {files.origin} is no input example: {error}") from error


def _decode(content: Any, kind: str, mlmodel: MLmodel) -> Any:
    import pandas as pd

    from gml.models import parse

    schema = mlmodel.signature.inputs if mlmodel.signature is not None else None
    if kind == "json_object":
        return content
    if kind == "dataframe":
        return parse.frame_of_split(content, schema)
    if kind == "ndarray":
        return parse.inputs(content, schema)
    if kind.startswith("sparse_matrix_"):
        from scipy import sparse

        make = sparse.csc_matrix if kind.endswith("csc") else sparse.csr_matrix
        parts = (content["data"], content["indices"], content["indptr"])
        return make(parts, shape=tuple(content["shape"]))
    if kind == "Series":
        return pd.Series(content)
    raise ValueError(f"an example of the kind {kind!r}")
