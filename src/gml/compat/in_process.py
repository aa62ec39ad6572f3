"""MLflow's API without a server: the same table of endpoints, asked in this process.

The plug-in speaks to a repository by the requests that `gml server` answers, so there is one codec and one
meaning of each call, whoever asks.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from gml.domain.errors import GmlError, UsageError
from gml.server import models, registry, tracking
from gml.server.context import Context
from gml.server.routes import Table
from gml.server.wire.requests import read
from gml.service import Store
from gml.service.errors import NOT_IMPLEMENTED, ServiceError, translate

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger("gml")

API: Final = re.compile(r"/?(?:ajax-)?api/[23]\.0/mlflow/(.*)")
_URI: Final = re.compile(r"gml(?:\+file)?:(?://(?:localhost)?(?=/))?(.*)", re.DOTALL)
BELOW: Final = "/-/"


def repository_of(uri: str) -> Path:
    """Return the path that a URI of a repository names.

    Raises:
        UsageError: it is none.

    Example:
        >>> repository_of("gml:///srv/churn"), repository_of("gml+file:///srv/my%20repo")
        (PosixPath('/srv/churn'), PosixPath('/srv/my repo'))
        >>> repository_of("gml:") == Path.cwd()
        True
    """
    match = _URI.fullmatch(uri)
    if match is None or match[1].startswith("//"):
        raise UsageError(
            f"{uri!r} names no repository", hint="such as gml:///path/to/repo, or gml:. for this one"
        )
    path = match[1].partition(BELOW)[0]
    return Path(unquote(path) or ".").expanduser().absolute()


def artifact_root(path: Path) -> str:
    """Return the URI below which the artifacts of a repository are.

    Example:
        >>> artifact_root(Path("/srv/churn"))
        'gml:///srv/churn/-'
    """
    return f"gml://{path.as_posix()}{BELOW.rstrip('/')}"


class Local:
    """A repository, asked by MLflow's endpoints.

    Args:
        path: in the repository.

    Raises:
        RepositoryError: there is none.
    """

    def __init__(self, path: Path) -> None:
        self.store = Store.open(path)
        where = self.store.workspace.store.location
        self.root = artifact_root(where.worktree or where.git_dir)
        self._table = Table()
        for route in (*tracking.ROUTES, *models.ROUTES, *registry.ROUTES):
            self._table.add(route)

    def call(self, method: str, endpoint: str, values: Mapping[str, Any]) -> Any:
        """Return what an endpoint answers.

        Raises:
            ServiceError: it refuses, or there is no such endpoint.
        """
        match = API.fullmatch(endpoint)
        route, parts, _ = self._table.find(method, match[1]) if match else (None, {}, False)
        if route is None or route.answer is None:
            raise ServiceError(
                f"gml does not have {method} {endpoint}; docs/mlflow.md says what it has", NOT_IMPLEMENTED
            )
        context = Context(
            self.store, path=parts, query={k: str(v) for k, v in values.items()}, root=self.root
        )
        try:
            if route.message is not None:
                context.fields = read(route.message, dict(values))
            return route.answer(context)
        except ServiceError:
            raise
        except GmlError as error:
            raise translate(error) from error


_known: dict[tuple[int, Path], Local] = {}
_lock = threading.Lock()


def local(path: Path) -> Local:
    """Return the one `Local` that this process has of a repository; a forked child gets its own."""
    key = (os.getpid(), path)
    with _lock:
        if key not in _known:
            _known[key] = Local(path)
        return _known[key]


@atexit.register
def _close() -> None:
    for (pid, _), each in list(_known.items()):
        if pid == os.getpid():
            try:
                each.store.close()
            except GmlError as error:
                # The journal stays, and the next command commits it.
                log.warning("gml: %s", error)


def forget(path: Path) -> None:
    """Close what this process has open of a repository."""
    with _lock:
        known = _known.pop((os.getpid(), path), None)
    if known is not None:
        with contextlib.suppress(GmlError):
            known.store.close()
