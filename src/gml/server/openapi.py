"""The OpenAPI description of gml's own API, made from the table of routes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from gml._version import __version__
from gml.server.native import MAX_PAGE, MAX_POINTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gml.server.routes import Route

_TYPES: Final[dict[str, dict[str, Any]]] = {
    "string": {"type": "string"},
    "int32": {"type": "integer", "format": "int32"},
}
_LIMITS: Final[dict[str, dict[str, Any]]] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 100},
    "points": {"type": "integer", "minimum": 1, "maximum": MAX_POINTS, "default": 1000},
    "stage": {"type": "string", "enum": ["active", "deleted", "all"], "default": "active"},
}
_MEANINGS: Final = {
    "query": "in gml's query language, such as `metrics.auc > 0.9`",
    "sort": "such as `-metrics.auc,start_time`",
    "experiment": "name or id of an experiment",
    "columns": "such as `name,params.lr,metrics.auc`; everything by default",
    "page": "`next_page` of the page before",
    "limit": "runs a page",
    "points": "at most so many parts of the curve",
    "path": "a folder of the run",
    "a": "a run",
    "b": "another run",
    "only": "sections, such as `params,code`",
    "stage": "active, deleted or all runs",
}


def describe(routes: Iterable[Route]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of some routes."""
    paths: dict[str, Any] = {}
    for route in routes:
        path = route.path.replace("*}", "}")
        parameters: list[dict[str, Any]] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for name in re.findall(r"\{(\w+)\}", path)
        ]
        for name, kind in route.message.fields.items() if route.message else ():
            parameters.append(
                {
                    "name": name,
                    "in": "query",
                    "required": name in {"a", "b"},
                    "description": _MEANINGS.get(name, name),
                    "schema": _LIMITS.get(name, _TYPES.get(kind, {})),
                }
            )
        content = "application/json" if route.answer is not None else "*/*"
        paths.setdefault(path, {})[route.method.lower()] = {
            "summary": route.summary,
            "parameters": parameters,
            "responses": {
                "200": {"description": "found", "content": {content: {}}},
                "206": {"description": "the part that was asked for"},
                **{
                    status: {"description": text, "content": {"application/json": {"schema": _ERROR}}}
                    for status, text in _ANSWERS.items()
                },
            },
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": "gml", "version": __version__},
        "security": [{"token": []}],
        "paths": paths,
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


_ERROR: Final = {
    "type": "object",
    "required": ["error_code", "message"],
    "properties": {"error_code": {"type": "string"}, "message": {"type": "string"}},
}
_ANSWERS: Final = {
    "400": "a parameter is not legal",
    "401": "no token, or a wrong one",
    "403": "the token may not do this, or the host is another",
    "404": "there is no such thing",
    "416": "the range is outside of the file",
}
