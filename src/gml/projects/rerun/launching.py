"""How the command of a rerun is tracked: as the original was, with a link to it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from gml.tracking.launch import Launch
from gml.tracking.start import NewRun

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from gml.domain.run import Run

TAG_OF: Final = "gml.rerun.of"


def launch_again(
    run: Run, argv: Sequence[str], cwd: Path, changes: Mapping[str, str], variables: Mapping[str, str]
) -> Launch:
    """Return how a command is tracked that `gml log` tracked before: with the options it had then.

    Args:
        run: the recorded run.
        argv: its command line, changed already.
        cwd: where it runs.
        changes: params with other values.
        variables: environment variables to set.
    """
    known = run.source.get("launch")
    options: Mapping[str, Any] = known if isinstance(known, dict) else {}
    params = {key: run.params[key] for key in options.get("params", ()) if key in run.params}
    params |= {key: value for key, value in changes.items() if key in params}
    # A script that started its run itself logged neither its arguments nor its output.
    tracked = bool(run.process)
    return Launch(
        command=argv,
        new=NewRun(params=params, kind=str(run.source.get("type", "LOCAL")), cwd=cwd),
        argv_params=tracked and options.get("argv_params", True) is not False,
        artifacts=tuple(map(str, options.get("artifacts", ()))),
        metrics_files=tuple(map(str, options.get("metrics_files", ()))),
        params_files=tuple(map(str, options.get("params_files", ()))),
        automatic_files=tracked and options.get("automatic_files", True) is not False,
        captures=tuple(map(str, options.get("captures", ()))),
        system=float(options.get("system", 0.0)),
        keep_output=tracked and options.get("keep_output", True) is not False,
        variables=variables,
    )


def linked(launch: Launch, run: Run, changes: Mapping[str, str], name: str | None) -> Launch:
    """Return a launch whose run is in the experiment of another one and says what it is a rerun of."""
    link: dict[str, Any] = {"of": run.run_id, **({"set": dict(changes)} if changes else {})}
    new = replace(
        launch.new,
        experiment_id=run.experiment_id,
        name=name or _name(run),
        tags={**launch.new.tags, TAG_OF: run.run_id},
        facts={**launch.new.facts, "rerun": link},
    )
    return replace(launch, new=new)


def _name(run: Run) -> str:
    return run.name if run.name.endswith("-rerun") else f"{run.name[:200] or 'run'}-rerun"
