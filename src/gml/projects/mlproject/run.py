"""Running an entry point of a project as a tracked run."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gml.cas.urls import is_url
from gml.domain.names import MAX_PARAM_VALUE
from gml.projects.isolation import without_run
from gml.projects.mlproject.environment import Ready, docker_command, prepare
from gml.projects.mlproject.parse import MAIN, EntryPoint, Project, load_project
from gml.projects.mlproject.template import render
from gml.projects.mlproject.values import Values, resolve_values
from gml.tracking.capture.keys import MASK, looks_secret
from gml.tracking.datasets import describe
from gml.tracking.launch import Launch, run_command
from gml.tracking.start import NewRun, find_experiment, next_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from gml.projects.mlproject.sources import Located
    from gml.tracking.launch.command import Outcome
    from gml.workspace import Workspace

TAG_ENTRY: Final = "mlflow.project.entryPoint"
TAG_ENV: Final = "mlflow.project.env"
TAG_BACKEND: Final = "mlflow.project.backend"
_RUNNERS: Final = {".py": "python", ".R": "Rscript"}


@dataclass(frozen=True, slots=True)
class ProjectRun:
    """What `gml run` was asked to do.

    Attributes:
        uri: folder or git URL, perhaps with `#subdirectory`.
        entry_point: name, or a `.py`, `.sh` or `.R` file.
        version: commit, tag or branch.
        parameters: given values.
        new: experiment, name, tags and id of the run.
        env_manager: `local`, `uv`, `virtualenv`, `conda`, `docker`; None for what the project asks for.
        storage: where remote files of path parameters go.
        docker_options: further options of `docker run`.
        isolated: run in a throw-away checkout, even of a local folder.
        keep: where that checkout is to stay.
        offline: do not ask any package index.
        backend: what the tag says.
    """

    uri: str
    entry_point: str = MAIN
    version: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    new: NewRun = field(default_factory=NewRun)
    env_manager: str | None = None
    storage: Path | None = None
    docker_options: Mapping[str, str] = field(default_factory=dict)
    isolated: bool = False
    keep: Path | None = None
    offline: bool = False
    backend: str = "local"


@dataclass(frozen=True, slots=True)
class ReadyProject:
    """A project whose entry point can start.

    Attributes:
        place: where it is.
        project: what its file says.
        entry: the entry point.
        values: of its parameters.
        argv: the command line in the project's environment.
        environment: that environment.
    """

    place: Located
    project: Project
    entry: EntryPoint
    values: Values
    argv: list[str]
    environment: Ready


def command_of(entry: EntryPoint, values: Values, environ: Mapping[str, str]) -> list[str]:
    """Return the command line of an entry point."""
    where = f"entry point {entry.name}"
    if not entry.script:
        return render(entry.command, values.named, values.extra, where)
    suffix = Path(entry.name).suffix
    runner = _RUNNERS.get(suffix) or environ.get("SHELL") or "bash"
    return [runner, entry.name, *render("x", {}, values.extra, where)[1:]]


def checked(place: Located, wish: ProjectRun, cwd: Path) -> tuple[Project, EntryPoint, Values, list[str]]:
    """Return what would run; everything that is wrong with it raises here, before anything is built."""
    project = load_project(place.folder)
    entry = project.entry_point(wish.entry_point)
    values = resolve_values(entry, wish.parameters, place.folder, cwd, wish.storage)
    return project, entry, values, command_of(entry, values, place.workspace.environ)


def run_located(
    place: Located, wish: ProjectRun, before: Callable[[ReadyProject], None] | None = None
) -> Outcome:
    """Run an entry point of a project that is on this disk and wait for it.

    Args:
        place: the project.
        wish: what to run.
        before: called when everything is ready.

    Raises:
        GmlError: it could not be started; the command was not run.
    """
    project, entry, values, argv = checked(place, wish, Path.cwd())
    environment = prepare(project, wish.env_manager, place.workspace.environ, offline=wish.offline)
    ready = ReadyProject(place, project, entry, values, argv, environment)
    if before is not None:
        before(ready)
    return run_command(tracked_workspace(place), launch_of(ready, wish))


def tracked_workspace(place: Located) -> Workspace:
    """Return the workspace that runs of a project are recorded in."""
    from gml.workspace import Workspace as Opened

    return (
        Opened(place.workspace.store, without_run(place.workspace.environ))
        if place.isolated
        else place.workspace
    )


def launch_of(ready: ReadyProject, wish: ProjectRun) -> Launch:
    """Return how the entry point is tracked: as MLflow does it, with MLflow's tags."""
    from dataclasses import replace

    place, new = ready.place, wish.new
    run_id = new.run_id or next_id(place.workspace)
    experiment_id, _ = find_experiment(place.workspace, new)
    variables = _run_variables(place.workspace, run_id, experiment_id)
    argv = list(ready.argv)
    if ready.environment.kind == "docker" and ready.project.docker is not None:
        mounts = (place.workspace.store.location.common_dir, *(p.parent for p in ready.values.data.values()))
        argv = docker_command(
            ready.project.docker, argv, place.folder, {**variables, "GML_RUN_ID": run_id},
            place.workspace.environ, wish.docker_options, mounts,
        )  # fmt: skip
    masked = Values(_masked(ready.values.named), _masked(ready.values.extra), ready.values.data)
    tags = {TAG_ENTRY: wish.entry_point, TAG_ENV: ready.environment.kind, TAG_BACKEND: wish.backend}
    facts = {**{k: v for k, v in place.facts.items() if v is not None}, "name": wish.uri,
             "project": project_facts(ready, wish)}  # fmt: skip
    if masked != ready.values:
        facts["argv"] = command_of(ready.entry, masked, place.workspace.environ)
    params = recorded_params(place.folder, ready.values)
    return Launch(
        command=[*ready.environment.prefix, *argv],
        new=replace(
            new,
            run_id=run_id,
            params={**{key: value[:MAX_PARAM_VALUE] for key, value in params.items()}, **new.params},
            tags={**tags, **new.tags},
            kind="PROJECT",
            cwd=place.folder,
            facts={**facts, **new.facts},
            inputs=[*_inputs(ready), *new.inputs],
        ),
        argv_params=False,
        variables={**variables, **ready.environment.variables},
    )


def project_facts(ready: ReadyProject, wish: ProjectRun) -> dict[str, Any]:
    """Return what a rerun needs to know: entry point, given parameters, environment manager."""
    given = _masked(wish.parameters)
    given |= {
        name: path
        for name, path in relative_data(ready.place.folder, ready.values).items()
        if name in given and not is_url(given[name])
    }
    facts: dict[str, Any] = {"entry_point": wish.entry_point, "parameters": given}
    if wish.env_manager:
        facts["env_manager"] = wish.env_manager
    return facts


def relative_data(folder: Path, values: Values) -> dict[str, str]:
    """Return path parameters: those inside of the project relative to it, the same in every checkout."""
    return {
        name: path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)
        for name, path in values.data.items()
    }


def recorded_params(folder: Path, values: Values) -> dict[str, str]:
    """Return parameters as a run records them: secrets masked, paths relative."""
    return {**_masked(values.named), **_masked(values.extra), **relative_data(folder, values)}


def _masked(values: Mapping[str, str]) -> dict[str, str]:
    return {key: MASK if looks_secret(key, value) else value for key, value in values.items()}


def _inputs(ready: ReadyProject) -> Iterator[dict[str, Any]]:
    """Yield the files and folders of path parameters as data sets."""
    for name, place in relative_data(ready.place.folder, ready.values).items():
        found = describe(ready.values.data[name], name=name)
        yield {**found.to_dict(), "source": json.dumps({"uri": place}), "tags": {"gml.parameter": name}}


def _run_variables(workspace: Workspace, run_id: str, experiment_id: str) -> dict[str, str]:
    # The repository itself, not the checkout: a path that is still there when a subprocess is slow to end.
    uri = workspace.environ.get("MLFLOW_TRACKING_URI") or f"gml://{workspace.store.location.common_dir}"
    return {"MLFLOW_RUN_ID": run_id, "MLFLOW_EXPERIMENT_ID": experiment_id, "MLFLOW_TRACKING_URI": uri}


def shown(argv: Sequence[str]) -> str:
    """Return a command line for people."""
    import shlex

    return shlex.join(argv) if os.name != "nt" else " ".join(argv)
