"""The artifact repository: files of runs and logged models, in git and in the artifact store."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.entities import FileInfo
from mlflow.exceptions import RestException
from mlflow.store.artifact.artifact_repo import ArtifactRepository

from gml.compat.in_process import BELOW, local, repository_of
from gml.domain.errors import GmlError
from gml.service import artifacts
from gml.service.errors import MISSING, ServiceError, translate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gml.service import Store

_CHUNK = 1 << 20


class GmlArtifactRepository(ArtifactRepository):
    """Files below `gml:///path/to/repo/-/<experiment>/<run>/artifacts`.

    Args:
        artifact_uri: of a run or logged model, perhaps with a folder.
        tracking_uri: not used.
        registry_uri: not used.
    """

    def __init__(self, artifact_uri: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(artifact_uri, *args, **kwargs)
        self._repository = repository_of(artifact_uri)
        self._rest = artifact_uri.partition(BELOW)[2].strip("/")

    @property
    def _store(self) -> Store:
        return local(self._repository).store

    def _name(self, path: str | None) -> tuple[str, str]:
        """Return the owner of the files, and a path among them."""
        owner, base = artifacts.locate(self._store, f"{self._rest}/")
        inner = artifacts.check_path(path or "")
        return owner, "/".join(part for part in (base, inner) if part)

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        """See MLflow."""
        source = Path(local_file)
        with _errors():
            owner, folder = self._name(artifact_path)
            name = f"{folder}/{source.name}" if folder else source.name
            with source.open("rb") as stream:
                artifacts.put(self._store, owner, artifacts.check_path(name), stream)

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """See MLflow."""
        top = Path(local_dir)
        for path in sorted(top.rglob("*")):
            if path.is_file():
                inner = path.parent.relative_to(top).as_posix()
                folder = "/".join(part for part in (artifact_path, "" if inner == "." else inner) if part)
                self.log_artifact(str(path), folder or None)

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        """See MLflow."""
        with _errors():
            owner, folder = self._name(path)
            base = self._name(None)[1]
            skip = len(base) + 1 if base else 0
            found = artifacts.listing(self._store.run(owner), folder)
        return [FileInfo(name[skip:], size is None, size) for name, size in found]

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        with _errors():
            owner, name = self._name(remote_file_path)
            stream, _ = artifacts.open_file(self._store, owner, name)
            with stream, Path(local_path).open("wb") as file:
                shutil.copyfileobj(stream, file, _CHUNK)

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """See MLflow."""
        with _errors():
            owner, name = self._name(artifact_path)
            try:
                artifacts.remove(self._store, owner, name)
            except ServiceError as error:
                if error.code != MISSING:
                    raise


@contextmanager
def _errors() -> Iterator[None]:
    """Give errors as MLflow's clients know them."""
    try:
        yield
    except GmlError as error:
        known = translate(error)
        raise RestException({"error_code": known.code, "message": str(known)}) from error
