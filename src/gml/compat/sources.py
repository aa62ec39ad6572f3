"""Which source an address means."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from gml.compat.importing import Importer
from gml.domain.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from gml.compat.foreign import Source
    from gml.compat.importing import Report
    from gml.workspace import Workspace

_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)([mhdw])")
_SECONDS: Final = {"m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_DATABASES: Final = ("postgresql", "postgres", "mysql", "mssql")
_SQLITE: Final = b"SQLite format 3\x00"


def open_mlflow(address: str, environ: Mapping[str, str]) -> Source:
    """Return the source that a tracking URI or path of MLflow means.

    Args:
        address: a folder, a database file, `sqlite:///…`, `file:…` or `http(s)://…`.
        environ: credentials for servers.

    Raises:
        UsageError: it is none of these.
        NotFoundError: there is nothing there.
    """
    scheme = address.partition(":")[0].lower().partition("+")[0]
    if scheme in {"http", "https"}:
        from gml.compat.mlflow_http import MlflowServer
        from gml.compat.rest import Rest

        return MlflowServer(Rest(address, environ))
    if scheme in _DATABASES or address.startswith("databricks"):
        raise UsageError(
            f"{scheme} is read through a server",
            hint="start `mlflow server --backend-store-uri ...` and give its http:// address",
        )
    if scheme == "sqlite":
        path = Path(unquote(re.sub(r"^[^:]*:/{0,3}", "", address) if "///" in address else address[7:]))
        if "////" in address:
            path = Path("/", path)
    elif scheme == "file":
        path = Path(unquote(re.sub(r"^file:(?://[^/]*)?", "", address)))
    else:
        path = Path(address).expanduser()
    if path.is_file():
        with path.open("rb") as file:
            head = file.read(len(_SQLITE))
        if head != _SQLITE:
            raise UsageError(f"{path} is not a database of SQLite", hint="give mlflow.db, mlruns or a URL")
        from gml.compat.mlflow_sql import MlflowSqlite

        return MlflowSqlite(path)
    if not path.exists():
        raise NotFoundError(
            f"there is no {path}", hint="give mlruns, sqlite:///mlflow.db or http://server:5000"
        )
    from gml.compat.mlflow_files import MlflowFiles

    return MlflowFiles(path)


def import_mlflow(
    workspace: Workspace,
    source: Source,
    experiments: Collection[str] = (),
    since: int | None = None,
    *,
    files: bool = True,
    models: bool = True,
    progress: Callable[[int], object] | None = None,
) -> Report:
    """Bring experiments, runs, logged models and the registry of a source into a repository.

    Args:
        workspace: the repository.
        source: from `open_mlflow`.
        experiments: only those with these names or ids; empty for all.
        since: only runs that ended at or after this moment or go on, milliseconds since the epoch.
        files: also artifacts.
        models: also the registry; without all experiments only where their runs are here.
        progress: called with the number of runs so far.

    Raises:
        NotFoundError: the source has no such experiment.
        RemoteError: the server cannot be reached.
        StorageError: something could not be written; what was committed before stays.
    """
    importer = Importer(workspace, source, "mlflow", files=files, progress=progress)
    report = importer.run(experiments, since)
    if models:
        from gml.compat.import_models import ModelImporter

        taker = ModelImporter(workspace, "mlflow", report, source.losses)
        for model in source.models():
            taker.take(model)
        report.lost = source.losses.lines()
    return report


def moment(text: str, now: datetime | None = None) -> int:
    """Return milliseconds since the epoch of a date, a time, or so long ago (`30d`, `12h`).

    Raises:
        UsageError: it is none of these.

    Example:
        >>> moment("2026-01-31T12:00:00Z")
        1769860800000
        >>> moment("1d", datetime(2026, 2, 1, 12, tzinfo=UTC)) == moment("2026-01-31T12:00:00+00:00")
        True
    """
    span = _SPAN.fullmatch(text.strip())
    if span is not None:
        then = (now or datetime.now(UTC)) - timedelta(seconds=float(span[1]) * _SECONDS[span[2]])
    else:
        try:
            then = datetime.fromisoformat(text.strip())
        except ValueError:
            raise UsageError(f"{text!r} is not a time", hint="such as 2026-01-31 or 30d") from None
        if then.tzinfo is None:
            then = then.astimezone()
    return int(then.timestamp() * 1000)
