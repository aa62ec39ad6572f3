"""The table of routes: each says what it is, who may ask, and what it reads."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from gml.server.context import Context
    from gml.server.wire.requests import Message

    Answer: TypeAlias = "Callable[[Context], Any]"
    RawAnswer: TypeAlias = "Callable[[Context, Request], Awaitable[Response]]"


class Right(enum.IntEnum):
    """What a caller may do; each includes those before."""

    OPEN = 0
    READ = 1
    LOG = 2
    ADMIN = 3


@dataclass(frozen=True, slots=True)
class Route:
    """One thing to ask for.

    Attributes:
        method: of HTTP.
        path: with `{name}` for a variable part, and `{name*}` for all that is left.
        right: what the caller needs.
        message: what the request has; None where the handler reads it by itself.
        answer: returns what is sent as JSON; runs in a thread.
        raw: instead, answers by itself, in the event loop.
        summary: one line for the description of the API.
    """

    method: str
    path: str
    right: Right
    message: Message | None = None
    answer: Answer | None = None
    raw: RawAnswer | None = None
    summary: str = ""


class Table:
    """Routes by method and path."""

    def __init__(self) -> None:
        self.routes: list[Route] = []
        self._plain: dict[str, dict[str, Route]] = {}
        self._variable: list[tuple[list[str], Route]] = []

    def add(self, route: Route) -> None:
        """Add a route; of two that fit, the earlier one answers."""
        self.routes.append(route)
        if "{" in route.path:
            self._variable.append((route.path.split("/"), route))
        else:
            self._plain.setdefault(route.path, {})[route.method] = route

    def find(self, method: str, path: str) -> tuple[Route | None, dict[str, str], bool]:
        """Return the route of a request, its variable parts, and whether the path is known at all."""
        known = False
        plain = self._plain.get(path)
        if plain is not None:
            found = plain.get(method)
            if found is not None:
                return found, {}, True
            known = True
        parts = path.split("/")
        for pattern, route in self._variable:
            values = _match(pattern, parts)
            if values is not None:
                known = True
                if route.method == method:
                    return route, values, True
        return None, {}, known


def _match(pattern: list[str], parts: list[str]) -> dict[str, str] | None:
    values: dict[str, str] = {}
    for index, wanted in enumerate(pattern):
        if wanted.endswith("*}"):
            rest = "/".join(parts[index:])
            return values | {wanted[1:-2]: rest} if rest else None
        if index >= len(parts):
            return None
        if wanted.startswith("{"):
            if not parts[index]:
                return None
            values[wanted[1:-1]] = parts[index]
        elif wanted != parts[index]:
            return None
    return values if len(pattern) == len(parts) else None
