"""Errors of the scoring protocol: a status and one JSON shape, as MLflow's servers and clients know them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

JSON: Final = "application/json"
TEXT: Final = "text/plain; charset=utf-8"

# error code -> (status, sqlstate, error class)
_CODES: Final = {
    "BAD_REQUEST": (400, "KAM00", "INVALID_PARAMETER_VALUE"),
    "INVALID_PARAMETER_VALUE": (400, "KAM00", "INVALID_PARAMETER_VALUE"),
    "SCHEMA": (400, "KAM01", "SCHEMA_ENFORCEMENT_FAILED"),
    "UNAUTHENTICATED": (401, "KAM00", "UNAUTHENTICATED"),
    "NOT_FOUND": (404, "KAM00", "NOT_FOUND"),
    "REQUEST_LIMIT_EXCEEDED": (413, "KAM00", "REQUEST_LIMIT_EXCEEDED"),
    "RESOURCE_EXHAUSTED": (429, "KAM00", "RESOURCE_EXHAUSTED"),
    "TEMPORARILY_UNAVAILABLE": (503, "KAM00", "TEMPORARILY_UNAVAILABLE"),
}
_MAX_MESSAGE: Final = 8_000


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request gets.

    Attributes:
        status: HTTP status.
        body: bytes.
        media_type: content type.
        rows: predictions in it.
    """

    status: int
    body: bytes
    media_type: str = JSON
    rows: int = 0


class ProtocolError(Exception):
    """A request that gets an error.

    Args:
        code: a key of the table above.
        message: what is wrong with the request.
        stack_trace: of the model's own exception.
    """

    def __init__(self, code: str, message: str, stack_trace: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.stack_trace = stack_trace

    def answer(self) -> Answer:
        """Return the JSON answer."""
        return error(self.code, self.message, self.stack_trace)


def error(code: str, message: str, stack_trace: str | None = None) -> Answer:
    """Return an error in the protocol's JSON shape."""
    status, sqlstate, kind = _CODES[code]
    said = message if len(message) <= _MAX_MESSAGE else f"{message[:_MAX_MESSAGE]}..."
    shape = {
        "error_code": "INVALID_PARAMETER_VALUE" if code == "SCHEMA" else code,
        "message": said,
        "sqlstate": sqlstate,
        "error_class": kind,
    }
    if stack_trace is not None:
        shape["stack_trace"] = stack_trace
    return Answer(status, json.dumps(shape).encode())


def text(status: int, message: str) -> Answer:
    """Return an error as plain text, which the protocol has for content types."""
    return Answer(status, message.encode(), TEXT)
