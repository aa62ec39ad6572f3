"""Artifacts as an fsspec file system: `gml://RUN/path` in pandas, pyarrow, and whatever opens URLs."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, BinaryIO

from gml.cas.view import ManifestFileSystem, below
from gml.tracking import active
from gml.tracking.contents import open_artifact
from gml.tracking.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

    from gml.tracking.active import ActiveRun
    from gml.tracking.entities import Run as FluentRun
    from gml.workspace import Workspace


class GmlFileSystem(ManifestFileSystem):
    """The files of the runs of a repository, read only and verified.

    Paths are `RUN/path`; a run is an id, the beginning of one, a name, or `@` for the latest.

    Args:
        repository: path of the repository; the one around the current directory if there is none.

    Example:
        >>> pd.read_csv("gml://@/predictions.csv")  # doctest: +SKIP
    """

    protocol = "gml"
    cachable = False

    def __init__(self, repository: str | PathLike[str] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._repository = repository
        self._opened: Workspace | None = None
        self._lock = threading.RLock()

    def _reader(self) -> Reader:
        if self._repository is None:
            return Reader(active.workspace(), points=False)
        if self._opened is None:
            from gml.workspace import Workspace

            self._opened = Workspace.open(str(self._repository))
        return Reader(self._opened, points=False)

    def files_of(self, owner: str) -> Mapping[str, tuple[int, str]]:
        """Return path -> size and SHA-256 of each file of a run."""
        with self._lock:
            run = self._reader().resolve(owner)
            return {path: (facts.size, facts.sha256) for path, facts in run.artifacts.items()}

    def open_file(self, owner: str, path: str) -> BinaryIO:
        """Return a verified readable file object of an artifact."""
        with self._lock:
            reader = self._reader()
            return open_artifact(reader, reader.resolve(owner), path)

    def owners(self) -> list[str]:
        """Return the ids of all runs that are not deleted."""
        with self._lock:
            return [run.run_id for run in self._reader().runs()]


def artifacts(run: str | ActiveRun | FluentRun = "@") -> Any:
    """Return the files of a run as an fsspec file system: `open`, `ls`, `cat`, `get`, `walk`, `glob`...

    Files are verified when they are read, and fetched from a remote where they are not here.

    Args:
        run: a run, its id, the beginning of one, its name, or `@` for the latest.

    Raises:
        NotFoundError: there is no such run.

    Example:
        >>> with gml.artifacts("@").open("model.bin") as file:  # doctest: +SKIP
        ...     weights = torch.load(file)
    """
    wanted = run if isinstance(run, str) else run.info.run_id
    run_id = Reader(active.workspace(), points=False).resolve(wanted).run_id
    return below(GmlFileSystem(), run_id)
