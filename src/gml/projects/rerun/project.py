"""Reruns of project runs: the command is rendered again from the MLproject file of the recorded code."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import AmbiguousError, NotFoundError
from gml.domain.ids import short_id
from gml.projects.mlproject.environment import Ready, prepare
from gml.projects.mlproject.parse import MAIN, load_project
from gml.projects.mlproject.run import ProjectRun, ReadyProject, command_of, launch_of
from gml.projects.mlproject.values import resolve_values
from gml.projects.pipeline.state import TAG_STEP, TAG_STEP_RUN
from gml.projects.rerun.needs import Need
from gml.tracking.capture.keys import MASK
from gml.tracking.datasets import describe
from gml.tracking.queries import copy_artifacts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gml.domain.run import Run
    from gml.projects.mlproject.sources import Located
    from gml.tracking.launch import Launch
    from gml.tracking.reader import Reader

_FROM_ELSEWHERE: Final = ("commit", "remote", "branch", "snapshot", "tree", "dirty")


def foreign_facts(run: Run) -> dict[str, Any]:
    """Return where the code of another repository came from; nothing for code of this one."""
    source = run.source
    # A snapshot of a clean tree is one that was taken over from elsewhere.
    if source.get("dirty") is not False or "snapshot" not in source:
        return {}
    return {key: source[key] for key in _FROM_ELSEWHERE if key in source}


def project_launch(
    run: Run, place: Located, changes: Mapping[str, str], variables: Mapping[str, str], *, here: bool
) -> tuple[Launch, list[Need]]:
    """Return how an entry point is started again, and what is missing.

    Args:
        run: the recorded run.
        place: its project, checked out.
        changes: parameters with other values.
        variables: environment variables to set.
        here: make the environment that the project asks for; False where one is active already.

    Raises:
        NotFoundError: the entry point has no such parameter; names the nearest.
    """
    facts: Mapping[str, Any] = run.source["project"]
    given = {str(key): str(value) for key, value in dict(facts.get("parameters", {})).items()}
    name = str(facts.get("entry_point", MAIN))
    project = load_project(place.folder)
    entry = project.entry_point(name)
    for key in changes:
        if key not in entry.parameters and key not in given:
            raise _unknown(run, key, [*entry.parameters, *given])
    given |= changes
    masked = [key for key, value in given.items() if value == MASK]
    needs = [
        Need("command", key, "its value is a secret that was not recorded; give it with --set", blocking=True)
        for key in masked
    ]
    wish = ProjectRun(
        uri=str(run.source.get("name", ".")),
        entry_point=name,
        parameters=given,
        env_manager=facts.get("env_manager"),
    )
    values = resolve_values(entry, given, place.folder, place.folder, None)
    argv = command_of(entry, values, place.workspace.environ)
    environ = place.workspace.environ
    environment = prepare(project, wish.env_manager, environ, offline=False) if here else Ready("local")
    launch = launch_of(ReadyProject(place, project, entry, values, argv, environment), wish)
    options = run.source.get("launch")
    options = options if isinstance(options, dict) else {}
    launch = replace(
        launch,
        variables={**variables, **launch.variables},
        captures=tuple(options.get("captures", ())),
        artifacts=tuple(options.get("artifacts", ())),
        new=replace(launch.new, inputs=[*launch.new.inputs, *_from_steps(run, place)]),
    )
    return launch, needs


def bring_steps(reader: Reader, run: Run, cwd: Path) -> None:
    """Write what the run took from other steps of its pipeline, where the code does not have it."""
    for entry in run.inputs:
        tags = entry.get("tags")
        name = str(entry.get("name", ""))
        if isinstance(tags, dict) and TAG_STEP_RUN in tags and not (cwd / name).exists():
            # What cannot be had is named with the rest of the data.
            with suppress(NotFoundError, AmbiguousError):
                copy_artifacts(reader, reader.resolve(str(tags[TAG_STEP_RUN])), name, cwd)


def _from_steps(run: Run, place: Located) -> list[dict[str, Any]]:
    """Return what the run took from other steps of its pipeline, as it is now."""
    found = []
    for entry in run.inputs:
        tags = entry.get("tags")
        path = place.folder / str(entry.get("name", ""))
        if isinstance(tags, dict) and TAG_STEP in tags and path.exists():
            now = describe(path, name=str(entry["name"])).to_dict()
            found.append({**now, "source": entry.get("source"), "tags": tags})
    return found


def _unknown(run: Run, key: str, known: list[str]) -> NotFoundError:
    from difflib import get_close_matches

    near = get_close_matches(key, known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(sorted(known)) or 'none'}"
    return NotFoundError(f"the entry point of run {short_id(run.run_id)} has no parameter {key!r}", hint=hint)
