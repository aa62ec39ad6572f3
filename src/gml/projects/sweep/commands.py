"""The command of a trial: words with values put in, or an entry point of a project."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gml.domain.errors import NotFoundError, UsageError
from gml.projects.mlproject.environment import prepare
from gml.projects.mlproject.parse import load_project
from gml.projects.mlproject.run import TAG_BACKEND, TAG_ENTRY, TAG_ENV, command_of
from gml.projects.mlproject.values import resolve_values
from gml.tracking.capture.environment import capture_environment
from gml.tracking.capture.interpreter import interpreter_of
from gml.tracking.capture.keys import MASK, looks_secret

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gml.projects.sweep.plan import SweepPlan
    from gml.workspace import Workspace


@dataclass(frozen=True, slots=True)
class ReadyTrial:
    """The command of one trial, and what its run is to say."""

    argv: list[str]
    params: Mapping[str, str] = field(default_factory=dict)
    kind: str = "LOCAL"
    facts: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


class _Maker(Protocol):
    def __call__(self, values: Mapping[str, str]) -> ReadyTrial: ...


@dataclass(frozen=True, slots=True)
class TrialCommand:
    """How all trials of a sweep are started.

    Attributes:
        cwd: where they run.
        make: gives the command for values.
        environment: the environment document, the same for all.
        variables: environment variables to set.
    """

    cwd: Path
    make: _Maker
    environment: Mapping[str, Any]
    variables: Mapping[str, str] = field(default_factory=dict)


def trial_command(workspace: Workspace, plan: SweepPlan) -> TrialCommand:
    """Return how the trials of a plan are started; what is wrong with it raises here.

    Raises:
        NotFoundError: there is no such program, project or entry point.
        UsageError: parameters are missing.
        InvalidValueError: the command names something that is not varied.
    """
    if plan.command:
        return _plain(workspace, plan)
    cwd = Path.cwd()
    project = load_project(Path(plan.project).absolute())
    entry = project.entry_point(plan.entry_point)
    if project.env_kind == "docker" and plan.env_manager != "local":
        raise UsageError("a sweep cannot run containers", hint="--env-manager local runs the command here")
    ready = prepare(project, plan.env_manager, workspace.environ, offline=False)

    def make(values: Mapping[str, str]) -> ReadyTrial:
        resolved = resolve_values(entry, values, project.folder, cwd, None)
        params = {**resolved.named, **resolved.extra}
        return ReadyTrial(
            [*ready.prefix, *command_of(entry, resolved, workspace.environ)],
            {key: MASK if looks_secret(key, value) else value for key, value in params.items()},
            "PROJECT",
            {"name": plan.project, "project": {"entry_point": plan.entry_point, "parameters": dict(values)}},
            {TAG_ENTRY: plan.entry_point, TAG_ENV: ready.kind, TAG_BACKEND: "local"},
        )

    make(_example(plan))
    environment = _environment(workspace, make(_example(plan)).argv, project.folder, ready.variables)
    return TrialCommand(project.folder, make, environment, ready.variables)


def _plain(workspace: Workspace, plan: SweepPlan) -> TrialCommand:
    words = list(plan.command)
    named = any(f"{{{name}}}" in word for word in words for name in plan.space)
    cwd = Path.cwd()

    def make(values: Mapping[str, str]) -> ReadyTrial:
        if named:
            return ReadyTrial([put(word, values) for word in words], facts={"sweep": {"command": words}})
        extra = [word for name, value in values.items() for word in (f"--{name}", value)]
        return ReadyTrial([*words, *extra])

    program = words[0]
    where = cwd / program if "/" in program else program
    if shutil.which(where, path=workspace.environ.get("PATH")) is None:
        raise NotFoundError(f"command {program!r} was not found", hint="check its name and PATH")
    argv = make(_example(plan)).argv
    return TrialCommand(cwd, make, _environment(workspace, argv, cwd, {}))


def put(word: str, values: Mapping[str, str]) -> str:
    """Return a word with values for `{name}`; other braces stay, so JSON needs no escapes."""
    for name, value in values.items():
        word = word.replace(f"{{{name}}}", value)
    return word


def _example(plan: SweepPlan) -> dict[str, str]:
    from random import Random

    from gml.projects.sweep.space import parse_space

    return {name: dimension.draw(Random(0)) for name, dimension in parse_space(plan.space).items()}  # noqa: S311


def _environment(
    workspace: Workspace, argv: Sequence[str], cwd: Path, variables: Mapping[str, str]
) -> Mapping[str, Any]:
    environ = {**workspace.environ, **variables}
    python = interpreter_of(list(argv), environ, cwd)
    return capture_environment(
        environ, cwd, python=python, cache_dir=workspace.state_dir / "cache" / "python"
    )
