"""From a model's URI to its exact bytes, and whether somebody approved them.

| URI | what |
|---|---|
| `runs:/RUN/PATH` | a model that a run logged; RUN as on the command line |
| `models:/NAME/4`, `models:/NAME/Production`, `models:/NAME@alias` | a registered version, verified |
| a path, `file:` URI | a folder |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from gml.domain.errors import CorruptError, NotFoundError, UsageError
from gml.models.files import FileFacts, ModelFiles
from gml.models.mlmodel import NAME

if TYPE_CHECKING:
    from pathlib import Path

    from gml.domain.run import Run
    from gml.tracking.reader import Reader
    from gml.workspace import Workspace


@dataclass(frozen=True)
class Resolved:
    """A model that was found.

    Attributes:
        uri: as it was asked for.
        files: its bytes, each checked against its digest as it is read.
        approved: a policy approved exactly these bytes, so code of them may run.
        run: the run that logged it, None for a folder.
        path: its path within the run.
        name, version, stage: where the registry has it.
    """

    uri: str
    files: ModelFiles
    approved: bool = False
    run: Run | None = None
    path: str = ""
    name: str | None = None
    version: int | None = None
    stage: str | None = None

    @property
    def label(self) -> str:
        """What people call it: `churn version 4`, or the URI."""
        return f"{self.name} version {self.version}" if self.name else self.uri


def resolve(uri: str | Path, workspace: Workspace | None = None) -> Resolved:
    """Find a model.

    Args:
        uri: see above.
        workspace: the repository for `runs:` and `models:`; the current one by default.

    Raises:
        NotFoundError: no such model.
        UsageError: a URI of another kind.
        PolicyError: the registry's chain does not hold.
    """
    text = str(uri)
    scheme, _, rest = text.partition(":")
    if scheme == "runs" and rest:
        return _of_run(text, rest.lstrip("/"), _open(workspace))
    if scheme == "models" and rest:
        return _of_registry(text, _open(workspace))
    if scheme == "file":
        text = unquote(urlsplit(text).path)
    elif "://" in text:
        raise UsageError(f"{text!r} is not where a model can be", hint="use models:/, runs:/ or a path")
    return Resolved(str(uri), ModelFiles.of_folder(text))


def _open(workspace: Workspace | None) -> Workspace:
    if workspace is not None:
        return workspace
    from gml.tracking import active

    return active.workspace()


def _of_run(uri: str, rest: str, workspace: Workspace) -> Resolved:
    from gml.tracking.reader import Reader

    name, _, path = rest.partition("/")
    if not name or not path.strip("/"):
        raise UsageError(f"{uri!r} names no model", hint="runs:/RUN/PATH, such as runs:/@/model")
    reader = Reader(workspace)
    run = reader.resolve(name)
    return Resolved(uri, run_files(reader, run, path), run=run, path=path.strip("/"))


def run_files(reader: Reader, run: Run, path: str) -> ModelFiles:
    """Return the files of a run below a path, by their paths within it.

    Raises:
        NotFoundError: the run has no model there; names those it has.
    """
    from gml.tracking.contents import open_artifact

    prefix = f"{path.strip('/')}/" if path.strip("/") else ""
    facts = {
        name[len(prefix) :]: FileFacts(one.sha256, one.size)
        for name, one in run.artifacts.items()
        if name.startswith(prefix)
    }
    if NAME not in facts:
        known = [name[: -len(NAME) - 1] for name in run.artifacts if name.endswith(f"/{NAME}")]
        hint = f"it has {', '.join(known[:5])}" if known else "gml.sklearn.log_model(...) logs one"
        raise NotFoundError(f"run {run.run_id} has no model {path!r}", hint=hint)

    def read(name: str) -> bytes:
        with open_artifact(reader, run, prefix + name) as file:
            return file.read()

    return ModelFiles(facts, read, f"{path} of run {run.run_id[:8]}")


def _of_registry(uri: str, workspace: Workspace) -> Resolved:
    from gml.registry.branch import Registry
    from gml.registry.resolve import resolve as look_up
    from gml.tracking.reader import Reader

    found = look_up(Registry(workspace), uri)
    version = found.version
    if version.run is None:
        raise NotFoundError(
            f"{version.model} version {version.version} was imported without its files",
            hint="register it again",
        )
    reader = Reader(workspace)
    run = reader.run(version.run)
    if run is None:
        raise NotFoundError(f"run {version.run} of {uri} is not here", hint="gml pull fetches it")
    files = run_files(reader, run, version.path)
    if files.digest() != version.digest:
        raise CorruptError(
            f"the files of run {version.run} are not those of {version.model} version {version.version}",
            hint="`gml registry verify` shows what is registered",
        )
    return Resolved(
        uri,
        files,
        approved=bool(found.approved),
        run=run,
        path=version.path,
        name=version.model,
        version=version.version,
        stage=found.stages[0] if found.stages else None,
    )
