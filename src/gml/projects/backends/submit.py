"""Handing an entry point to a backend: what would be wrong with it is said before."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gml.domain.errors import NotFoundError, UsageError
from gml.domain.ids import short_id
from gml.domain.run import FINISHED
from gml.projects.backends.port import ENDED, Task, backend_named
from gml.projects.mlproject.dry import dry_command
from gml.projects.yamlfile import read_yaml
from gml.tracking.reader import Reader
from gml.tracking.start import next_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gml.projects.mlproject.run import ProjectRun
    from gml.workspace import Workspace

LOGS: Final = "backend-logs"
_ASK_EVERY: Final = 1.0


class Submitted(NamedTuple):
    """A task that a backend has.

    Attributes:
        run_id: id of the run that it will be.
        job: what the scheduler calls it.
        output: where its output goes until the run has it.
    """

    run_id: str
    job: str
    output: Path


def read_options(text: str) -> dict[str, Any]:
    """Return the configuration of a backend: a YAML or JSON file, or JSON text.

    Raises:
        NotFoundError: there is no such file.
        InvalidValueError: it is malformed.
        UsageError: it is no mapping.
    """
    import json

    if text.lstrip().startswith("{"):
        try:
            value = json.loads(text)
        except ValueError as error:
            raise UsageError(f"the configuration of the backend is no JSON: {error}") from None
    else:
        path = Path(text)
        if not path.is_file():
            raise NotFoundError(f"there is no file {text!r}", hint="--backend-config FILE, or JSON")
        value = read_yaml(path)
    if not isinstance(value, dict):
        raise UsageError("the configuration of a backend is a mapping of names")
    return value


def submit(
    workspace: Workspace,
    wish: ProjectRun,
    options: Mapping[str, Any],
    consent: Callable[[str, str], None],
) -> Submitted:
    """Hand an entry point to the backend that the wish names.

    Args:
        workspace: the repository, on a file system that the backend's machines share.
        wish: what to run; checked here as far as it can be.
        options: configuration of the backend.
        consent: as in `open_pipeline`; who agreed here is not asked there.

    Raises:
        GmlError: the project, its parameters or the backend's options are wrong, or it was refused.
    """
    backend = backend_named(wish.backend, workspace.environ)
    dry_command(workspace, wish, consent)
    run_id = wish.new.run_id or next_id(workspace)
    folder = workspace.state_dir / LOGS
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / f"{run_id}.txt"
    argv = [sys.executable, "-m", "gml", "run", *_words(wish), "--trust", "--run-id", run_id,
            "--submitted-to", wish.backend]  # fmt: skip
    name = wish.new.name or f"gml-{wish.entry_point}"
    variables = {"GML_USER": workspace.user}
    job = backend.submit(Task(name, argv, Path.cwd(), output, variables, options))
    return Submitted(run_id, job, output)


def _words(wish: ProjectRun) -> list[str]:
    """Return a wish as arguments of `gml run`."""
    given = {
        "--version": wish.version,
        "--experiment-name": wish.new.experiment,
        "--run-name": wish.new.name,
        "--env-manager": wish.env_manager,
        "--storage-dir": wish.storage,
        "--keep": wish.keep,
    }
    words = [wish.uri, "--entry-point", wish.entry_point]
    words += [word for name, value in given.items() if value is not None for word in (name, str(value))]
    words += [word for name, value in wish.parameters.items() for word in ("-P", f"{name}={value}")]
    words += [word for name, value in wish.new.tags.items() for word in ("-t", f"{name}={value}")]
    words += [
        word
        for name, value in wish.docker_options.items()
        for word in ("-A", f"{name}={value}" if value else name)
    ]
    words += [name for name, wanted in (("--isolated", wish.isolated), ("--offline", wish.offline)) if wanted]
    return words


def wait(workspace: Workspace, submitted: Submitted, backend_name: str) -> int:
    """Wait for a task to end; returns 0 if its run finished well, 1 otherwise.

    Raises:
        NotFoundError: it ended without having become a run; names its output.
        RemoteError: the scheduler cannot be asked.
    """
    backend = backend_named(backend_name, workspace.environ)
    while backend.state(submitted.job) != ENDED:
        time.sleep(_ASK_EVERY)
    reader = Reader(workspace)
    try:
        return 0 if reader.resolve(submitted.run_id).status == FINISHED else 1
    except NotFoundError:
        printed = submitted.output.read_text("utf-8", "replace") if submitted.output.is_file() else ""
        last = (printed.strip().splitlines() or ["it printed nothing"])[-1]
        raise NotFoundError(
            f"job {submitted.job} ended without becoming run {short_id(submitted.run_id)}: {last}",
            hint=f"its output is in {submitted.output}",
        ) from None
