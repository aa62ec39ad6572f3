"""What a sweep is to do: from a file, from options, or from the run of an earlier one."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import InvalidValueError, NotFoundError, UsageError
from gml.projects.sweep.samplers import SAMPLERS, default_sampler
from gml.projects.sweep.space import grid_size, parse_space
from gml.projects.yamlfile import read_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gml.domain.run import Run
    from gml.tracking.reader import Reader

ARTIFACT: Final = "sweep.json"
DEFAULT_TRIALS: Final = 20
_KEYS: Final = frozenset(
    {"command", "project", "entry_point", "parameters", "env_manager", "metric", "maximize", "trials", "jobs",
     "sampler", "seed", "prune", "capture", "experiment", "name"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """What a sweep is to do.

    Attributes:
        space: dimension by name, as it was written.
        metric: what is to be as good as possible.
        maximize: whether more is better.
        command: words of the command; `{name}` stands for a value, without any they become `--name value`.
        project: instead of a command, the folder of a project.
        entry_point: of the project.
        env_manager: of the project.
        trials: how many.
        sampler: `tpe`, `random` or `grid`.
        seed: of the sampler.
        prune: stop trials that are worse than the median at the same step.
        capture: patterns of metrics in the output.
    """

    space: Mapping[str, Any]
    metric: str
    maximize: bool = True
    command: tuple[str, ...] = ()
    project: str = ""
    entry_point: str = "main"
    env_manager: str | None = None
    trials: int = DEFAULT_TRIALS
    sampler: str = "random"
    seed: int = 0
    prune: bool = False
    capture: tuple[str, ...] = ()

    def to_json(self) -> bytes:
        """Return what the sweep's run keeps as `sweep.json`."""
        return (json.dumps(asdict(self), indent=1, sort_keys=True) + "\n").encode()


def read_sweep_file(path: Path) -> dict[str, Any]:
    """Read a sweep file.

    Raises:
        InvalidValueError: it is malformed, or has an unknown key.
        NotFoundError: there is none.
    """
    from difflib import get_close_matches
    from shlex import split

    data = read_yaml(path)
    for key in data:
        if key not in _KEYS:
            near = get_close_matches(str(key), _KEYS, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(_KEYS))}"
            raise InvalidValueError(f"{path}: unknown key {key!r}", hint=hint)
    if not isinstance(data.get("parameters", {}), dict):
        raise InvalidValueError(f"{path}: parameters is a mapping of names")
    for key, kind in (
        ("maximize", bool),
        ("prune", bool),
        ("trials", int),
        ("jobs", int),
        ("seed", int),
        ("metric", str),
    ):
        if key in data and (not isinstance(data[key], kind) or (kind is int and isinstance(data[key], bool))):
            raise InvalidValueError(f"{path}: {key} is {data[key]!r}, which is no {kind.__name__}")
    if isinstance(data.get("command"), str):
        data["command"] = split(data["command"])
    if isinstance(data.get("capture"), str):
        data["capture"] = [data["capture"]]
    return data


def make_plan(values: Mapping[str, Any]) -> SweepPlan:
    """Return a checked plan from what file and options say.

    Raises:
        UsageError: something is missing or does not go together.
        InvalidValueError: a dimension is malformed.
    """
    space = parse_space(values.get("parameters") or {})
    if not space:
        raise UsageError("a sweep needs something to vary", hint="-P lr=log:1e-4..1e-1 -P depth=2..8")
    if not values.get("metric"):
        raise UsageError("a sweep needs a metric", hint="--metric auc, or --metric loss --minimize")
    command = tuple(map(str, values.get("command") or ()))
    if command and values.get("project"):
        raise UsageError("a sweep runs a command or a project, not both")
    sampler = values.get("sampler") or default_sampler()
    if sampler not in SAMPLERS:
        raise UsageError(f"there is no sampler {sampler!r}", hint=f"use one of {', '.join(SAMPLERS)}")
    wanted = values.get("trials")
    trials = DEFAULT_TRIALS if wanted is None else int(wanted)
    if sampler == "grid":
        trials = min(grid_size(space), int(wanted)) if wanted else grid_size(space)
    if trials < 1:
        raise UsageError(f"{trials} trials are none")
    return SweepPlan(
        space=dict(values.get("parameters") or {}),
        metric=str(values["metric"]),
        maximize=bool(values.get("maximize", True)),
        command=command,
        project="" if command else str(values.get("project") or "."),
        entry_point=str(values.get("entry_point") or "main"),
        env_manager=values.get("env_manager"),
        trials=trials,
        sampler=sampler,
        seed=int(values.get("seed") or 0),
        prune=bool(values.get("prune", False)),
        capture=tuple(map(str, values.get("capture") or ())),
    )


def plan_of_run(reader: Reader, run: Run) -> SweepPlan:
    """Return the plan of an earlier sweep.

    Raises:
        NotFoundError: the run is no sweep.
        InvalidValueError: its plan is of a newer gml.
    """
    from gml.tracking.contents import open_artifact

    if ARTIFACT not in run.artifacts:
        raise NotFoundError(
            f"run {run.run_id} is no sweep", hint="`gml ls 'tags.\"gml.sweep\" IS NOT NULL'` lists them"
        )
    with open_artifact(reader, run, ARTIFACT) as source:
        data: dict[str, Any] = json.loads(source.read())
    try:
        plan = SweepPlan(**data)
        return replace(plan, command=tuple(plan.command), capture=tuple(plan.capture))
    except TypeError as error:
        raise InvalidValueError(f"the plan of sweep {run.run_id} cannot be read: {error}") from None
