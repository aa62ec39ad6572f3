"""Tokens of pages: MLflow's are base64 of `{"offset": n}`, opaque to clients."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, TypeVar

from gml.service.errors import ServiceError

T = TypeVar("T")


def encode(offset: int) -> str:
    """Return the token of the page that begins at an offset."""
    return base64.b64encode(json.dumps({"offset": offset}).encode()).decode()


def decode(token: str | None) -> int:
    """Return the offset of a page token; 0 without one.

    Raises:
        ServiceError: it is none of ours.

    Example:
        >>> decode(encode(50))
        50
    """
    if not token:
        return 0
    try:
        data = base64.b64decode(token)
    except (binascii.Error, ValueError):
        raise ServiceError("Invalid page token, could not base64-decode") from None
    try:
        parsed: Any = json.loads(data)
    except ValueError:
        raise ServiceError(f"Invalid page token, decoded value={data!r}") from None
    offset = parsed.get("offset") if isinstance(parsed, dict) else None
    if not offset:
        raise ServiceError(f"Invalid page token, parsed value={parsed}")
    try:
        number = int(offset)
    except (TypeError, ValueError):
        raise ServiceError(f"Invalid page token, not stringable {offset}") from None
    if number < 0:
        raise ServiceError(f"Invalid page token, parsed value={parsed}")
    return number


def cut(items: list[T], offset: int, size: int) -> tuple[list[T], str | None]:
    """Return a page of a whole list, and the token of the next one."""
    following = encode(offset + size) if len(items) > offset + size else None
    return items[offset : offset + size], following
