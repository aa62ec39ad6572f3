"""One request of the scoring protocol and its answer, without any network."""

from __future__ import annotations

import io
import json
import re
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import GmlError, InvalidValueError
from gml.models import parse
from gml.models.enforce import SchemaError
from gml.models.example import LLM_KEYS
from gml.serving import encode
from gml.serving.errors import Answer, ProtocolError, text
from gml.serving.fast import FastFrames

if TYPE_CHECKING:
    from gml.models.loaded import PyFuncModel
    from gml.models.schema import Schema

CSV: Final = "text/csv"
PARQUET: Final = "application/vnd.apache.parquet"
TYPES: Final = [CSV, "application/json", PARQUET]
_LONG_NUMBER: Final = re.compile(rb"\d{18}")
_MAX_SHOWN: Final = 1_000


@dataclass(frozen=True)
class Request:
    """A request that was understood.

    Attributes:
        data: what the model gets.
        params: params of inference.
        checked: the data already fits the signature.
        wrapped: the answer stands under `predictions`.
    """

    data: Any
    params: Any
    checked: bool = False
    wrapped: bool = True


class Scorer:
    """A model behind the protocol.

    Args:
        model: the loaded model.
    """

    def __init__(self, model: PyFuncModel) -> None:
        self.model = model
        signature = model.metadata.signature
        self.schema: Schema | None = signature.inputs if signature is not None else None
        self._hinted = signature is not None and signature.from_type_hint
        self._fast = FastFrames(None if self._hinted else self.schema)
        self._param_names = (
            {one.name for one in signature.params} if signature is not None and signature.params else set()
        )

    @property
    def example(self) -> Any:
        """The model's input example as a request, None without one."""
        rows = self.model.example
        if rows is None:
            return None
        data, params = rows
        more = {"params": params} if params else {}
        if hasattr(data, "columns"):
            split = data.to_dict(orient="split")
            return {"dataframe_split": {"columns": split["columns"], "data": split["data"]}, **more}
        if isinstance(data, dict) and LLM_KEYS & set(data):
            return data
        if isinstance(data, dict):
            return {"inputs": {name: _listed(value) for name, value in data.items()}, **more}
        return {"inputs": _listed(data), **more}

    def score(self, body: bytes, content_type: str | None) -> Answer:
        """Answer one request; never raises because of the request or the model."""
        try:
            refused = _check_type(content_type or "")
            if refused is not None:
                return refused
            mime = (content_type or "").split(";")[0].strip()
            request = self.read(body, mime)
            raw = self.predict(request)
            return Answer(200, encode.predictions(raw, wrapped=request.wrapped), rows=encode.row_count(raw))
        except ProtocolError as error:
            return error.answer()

    def read(self, body: bytes, mime: str) -> Request:
        """Return what a body says.

        Raises:
            ProtocolError: it is not of the protocol.
        """
        if mime == CSV:
            return Request(self._csv(body), None)
        if mime == PARQUET:
            return Request(_parquet(body), None)
        return self._json(_decode(body))

    def predict(self, request: Request) -> Any:
        """Return what the model says.

        Raises:
            ProtocolError: the data does not fit the signature, or the model raised.
        """
        try:
            if request.checked:
                return self.model.score(request.data, request.params)
            return self.model.predict(request.data, request.params)
        except SchemaError as error:
            shown = _shown(request.data)
            raise ProtocolError(
                "SCHEMA",
                f"Failed to predict data '{shown}'. \nError: Failed to enforce schema of data '{shown}' with"
                f" schema '{self.schema}'. Error: {error.message}.",
            ) from error
        except InvalidValueError as error:
            raise ProtocolError(
                "INVALID_PARAMETER_VALUE",
                f"Failed to predict data '{_shown(request.data)}'. \nError: {error.message}",
            ) from error
        except (Exception, SystemExit, GmlError) as error:
            # Whatever the model does, the server goes on.
            raise ProtocolError(
                "BAD_REQUEST",
                "Encountered an unexpected error while evaluating the model. Verify that the serialized input"
                f" is compatible with the model for inference. Error: {type(error).__name__}: {error}",
                traceback.format_exc(),
            ) from error

    # --- bodies -------------------------------------------------------------------------------

    def _json(self, content: dict[str, Any]) -> Request:
        if LLM_KEYS & content.keys():
            params = {key: value for key, value in content.items() if key in self._param_names}
            data = {key: value for key, value in content.items() if key not in self._param_names}
            return Request(data, params, wrapped=False)
        given = content.get("params")
        known = {key: value for key, value in content.items() if key in parse.FORMATS}
        if self._hinted:
            if "inputs" not in known:
                raise ProtocolError(
                    "INVALID_PARAMETER_VALUE",
                    "Request payload must be a dictionary with 'inputs' key when the model contains a valid"
                    f" type hint. Found keys in payload: {list(known)}",
                )
            return Request(known["inputs"], given)
        if self._fast.usable:
            frame = self._fast.frame(known)
            if frame is not None:
                return Request(frame, given, checked=True)
        try:
            return Request(parse.parse(known, self.schema), given)
        except parse.RequestError as error:
            raise ProtocolError("BAD_REQUEST", error.message) from error
        except (RecursionError, MemoryError) as error:
            raise ProtocolError("BAD_REQUEST", f"Invalid input. {type(error).__name__}") from error

    def _csv(self, body: bytes) -> Any:
        import pandas as pd

        try:
            content = body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ProtocolError(
                "BAD_REQUEST", f"Invalid input. Ensure that input is a valid UTF-8 encoded string: {error}"
            ) from error
        dtypes: Any = parse.csv_types(self.schema)
        try:
            return pd.read_csv(io.StringIO(content), dtype=dtypes)
        except Exception as error:
            raise _no_table("CSV", error) from error


def _no_table(what: str, error: Exception) -> ProtocolError:
    return ProtocolError(
        "BAD_REQUEST",
        "Failed to parse input as a Pandas DataFrame. Ensure that the input is valid"
        f" {what}. Error: '{error}'",
        traceback.format_exc(),
    )


def _parquet(body: bytes) -> Any:
    import pandas as pd

    try:
        return pd.read_parquet(io.BytesIO(body))
    except Exception as error:
        raise _no_table("Parquet", error) from error


def _check_type(content_type: str) -> Answer | None:
    mime, *parameters = (part.strip() for part in content_type.split(";"))
    values = {key: value for key, _, value in (part.partition("=") for part in parameters)}
    if values.get("charset", "utf-8").lower() != "utf-8":
        return text(415, "The scoring server only supports UTF-8")
    unknown = [key for key in values if key != "charset"]
    if unknown:
        return text(
            415, f"Unrecognized content type parameters: {', '.join(unknown)}. Use charset=utf-8 or none."
        )
    if mime not in TYPES:
        return text(
            415,
            "This predictor only supports the following content types:"
            f" Types: {TYPES}. Got '{content_type}'.",
        )
    return None


def _decode(body: bytes) -> dict[str, Any]:
    import orjson

    content: Any
    try:
        if _LONG_NUMBER.search(body):
            # orjson makes large integers floats.
            content = json.loads(body)
        else:
            try:
                content = orjson.loads(body)
            except orjson.JSONDecodeError:
                content = json.loads(body)  # NaN, Infinity, UTF-16
    except (ValueError, RecursionError) as error:
        shown = body[:_MAX_SHOWN]
        raise ProtocolError(
            "BAD_REQUEST",
            "Invalid input. Ensure that input is a valid JSON formatted string. Error:"
            f" '{error!r:.300}'\nInput: \n{shown!r}\n",
        ) from error
    if isinstance(content, dict):
        return content
    got = "a list" if isinstance(content, list) else f"unexpected input type '{type(content)}'"
    raise ProtocolError(
        "BAD_REQUEST",
        "Invalid input. The input must be a JSON dictionary with exactly one of the input fields"
        f" {set(parse.FORMATS)}. Received {got}.",
    )


def _listed(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


def _shown(data: Any) -> str:
    shown = str(data)
    return shown if len(shown) <= _MAX_SHOWN else f"{shown[:_MAX_SHOWN]}..."
