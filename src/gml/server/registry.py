"""MLflow's registry API: not answered yet, and each of its endpoints says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gml.server.routes import Right, Route
from gml.service.errors import NOT_IMPLEMENTED, ServiceError

if TYPE_CHECKING:
    from gml.server.context import Context


def _missing(context: Context) -> Any:  # noqa: ARG001
    raise ServiceError(
        "The model registry is not available through this server; use `gml registry` in a clone",
        NOT_IMPLEMENTED,
    )


_READING: Final = (
    ("GET", "registered-models/get"),
    ("GET", "registered-models/search"),
    ("GET", "registered-models/get-latest-versions"),
    ("GET", "registered-models/alias"),
    ("GET", "model-versions/get"),
    ("GET", "model-versions/search"),
    ("GET", "model-versions/get-download-uri"),
)
_CHANGING: Final = (
    ("POST", "registered-models/create"),
    ("PATCH", "registered-models/update"),
    ("POST", "registered-models/rename"),
    ("DELETE", "registered-models/delete"),
    ("POST", "registered-models/get-latest-versions"),
    ("POST", "registered-models/set-tag"),
    ("DELETE", "registered-models/delete-tag"),
    ("POST", "registered-models/alias"),
    ("DELETE", "registered-models/alias"),
    ("POST", "model-versions/create"),
    ("PATCH", "model-versions/update"),
    ("POST", "model-versions/transition-stage"),
    ("DELETE", "model-versions/delete"),
    ("POST", "model-versions/set-tag"),
    ("DELETE", "model-versions/delete-tag"),
)
ROUTES: Final = [
    *(Route(method, path, Right.READ, None, _missing) for method, path in _READING),
    *(Route(method, path, Right.LOG, None, _missing) for method, path in _CHANGING),
]
