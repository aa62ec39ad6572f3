"""Running a pipeline: steps whose inputs are those of a recorded run are taken from it."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gml.domain.errors import GmlError, NotFoundError
from gml.domain.ids import short_id
from gml.domain.run import FINISHED
from gml.fs import storage_error
from gml.projects.mlproject.environment import Ready, prepare
from gml.projects.mlproject.parse import load_project
from gml.projects.mlproject.run import ReadyProject, command_of, launch_of, recorded_params, tracked_workspace
from gml.projects.mlproject.sources import located
from gml.projects.mlproject.values import resolve_values
from gml.projects.pipeline.graph import drawn, steps_before
from gml.projects.pipeline.state import (
    TAG_KEY,
    TAG_STEP,
    TAG_STEP_RUN,
    Inputs,
    contents,
    earlier_runs,
    inputs_of,
    outs_of,
    what_changed,
)
from gml.tracking.datasets import describe
from gml.tracking.launch import run_command
from gml.tracking.queries import copy_artifacts
from gml.tracking.reader import Reader
from gml.tracking.source import look_again

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from gml.domain.run import Run
    from gml.projects.mlproject.parse import EntryPoint, Project
    from gml.projects.mlproject.run import ProjectRun
    from gml.projects.mlproject.sources import Located
    from gml.projects.mlproject.values import Values
    from gml.tracking.launch.command import Outcome
    from gml.workspace import Workspace


class StepRun(NamedTuple):
    """What came of a step.

    Attributes:
        name: of the step.
        run_id: the run whose result it is; empty where it is not known yet.
        outcome: how it ended, None where it was not run.
        note: why it was run, or not.
        outs: digests of what it wrote, by path.
    """

    name: str
    run_id: str
    outcome: Outcome | None
    note: str
    outs: Mapping[str, str]


@dataclass(slots=True)
class Pipeline:
    """The steps of one call of `gml run`.

    Args:
        place: the project.
        project: what its file says.
        steps: in the order in which they run; the last is the one that was asked for.
        wish: what was asked for.
        told: called with a step's name, why it runs or not, and what runs.
        ended: called with how a step ended.
        force: run all steps.
        done: what came of the steps so far.
    """

    place: Located
    project: Project
    steps: list[EntryPoint]
    wish: ProjectRun
    told: Callable[[str, str, ReadyProject | None], None]
    ended: Callable[[Outcome], None]
    force: bool = False
    done: dict[str, StepRun] = field(default_factory=dict)

    def run(self) -> int:
        """Run what has to be run, up to the first step that fails; returns the exit code of that, or 0.

        Raises:
            GmlError: a step could not be started; those before it are recorded.
        """
        for step in self.steps:
            result = self._step(step)
            self.done[step.name] = result
            if result.outcome is not None and result.outcome.status != FINISHED:
                return result.outcome.exit_code
        return 0

    def plan(self) -> list[StepRun]:
        """Return what would happen to each step, running none."""
        for step in self.steps:
            waits = [name for name in step.needs if not self.done[name].run_id]
            if waits:
                self.done[step.name] = StepRun(step.name, "", None, f"waits for {', '.join(waits)}", {})
                continue
            values, _ = self._values(step)
            inputs = self._inputs(step, values)
            found, note = self._recorded(step, inputs, values)
            run_id = found.run_id if found is not None else ""
            outs = (outs_of(found, step) or {}) if found is not None else {}
            self.done[step.name] = StepRun(step.name, run_id, None, note, outs)
        return list(self.done.values())

    @property
    def is_plain(self) -> bool:
        """Whether it is an entry point that says nothing about steps."""
        return len(self.steps) == 1 and not self.steps[0].is_step

    def graph(self) -> list[str]:
        """Return the graph as lines, with what would happen to each step."""
        return drawn(self.steps, {result.name: result.note for result in self.plan()})

    def _values(self, step: EntryPoint) -> tuple[Values, list[str]]:
        last = step is self.steps[-1]
        known = {name for each in self.steps for name in each.parameters}
        given = {
            name: value
            for name, value in self.wish.parameters.items()
            if name in step.parameters or (last and name not in known)
        }
        folder = self.place.folder
        values = resolve_values(step, given, folder, Path.cwd(), self.wish.storage)
        return values, command_of(step, values, self.place.workspace.environ)

    def _inputs(self, step: EntryPoint, values: Values) -> Inputs:
        needs = {path: sha for name in step.needs for path, sha in self.done[name].outs.items()}
        outs = [out for each in self.project.entry_points.values() for out in each.outs]
        return inputs_of(self.place, step, values, needs, outs)

    def _recorded(self, step: EntryPoint, inputs: Inputs, values: Values) -> tuple[Run | None, str]:
        """Return the run that has this step's result, and what to say about it."""
        if self.force:
            return None, "forced"
        reader = Reader(self.place.workspace)
        for run in earlier_runs(reader, TAG_KEY, inputs.key):
            if outs_of(run, step) is not None:
                return run, f"unchanged since run {short_id(run.run_id)}"
        same = [
            run
            for run in earlier_runs(reader, TAG_STEP, step.name)
            if (run.source.get("project") or {}).get("name", "") == self.project.name
        ]
        return None, what_changed(same, inputs, recorded_params(self.place.folder, values))

    def _step(self, step: EntryPoint) -> StepRun:
        values, argv = self._values(step)
        inputs = self._inputs(step, values)
        found, note = self._recorded(step, inputs, values)
        if found is not None:
            outs = outs_of(found, step) or {}
            try:
                restored = self._restore(found, step, outs)
            except NotFoundError as error:
                # The store has lost what the ledger remembers: make it again.
                note = f"{note}, whose files are gone ({error.message})"
            else:
                note += f", {', '.join(restored)} taken from it" if restored else ""
                self.told(step.name, note, None)
                return StepRun(step.name, found.run_id, None, note, outs)
        return self._execute(step, values, argv, inputs, note)

    def _restore(self, run: Run, step: EntryPoint, outs: Mapping[str, str]) -> list[str]:
        """Write those outs of a run that are missing or different here; returns them."""
        restored = []
        reader = Reader(self.place.workspace)
        for out in step.outs:
            path = self.place.folder / out
            wanted = {
                name.removeprefix(out).lstrip("/"): sha
                for name, sha in outs.items()
                if name == out or name.startswith(f"{out}/")
            }
            if contents(path) == wanted:
                continue
            # Next to its place first, so that a failure leaves what is there alone.
            spare = path.with_name(f".{path.name}.gml-restore")
            try:
                copy_artifacts(reader, run, out, spare)
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
                (spare / out).rename(path)
            except OSError as error:
                raise storage_error(error, f"cannot write {path}") from error
            finally:
                shutil.rmtree(spare, ignore_errors=True)
            restored.append(out)
        return restored

    def _execute(
        self, step: EntryPoint, values: Values, argv: list[str], inputs: Inputs, note: str
    ) -> StepRun:
        environment = self._environment()
        ready = ReadyProject(self.place, self.project, step, values, argv, environment)
        self.told(step.name, note, ready)
        last = step is self.steps[-1]
        new = self.wish.new
        new = replace(
            new,
            run_id=new.run_id if last else None,
            name=new.name if last else None,
            tags={TAG_STEP: step.name, TAG_KEY: inputs.key, **new.tags},
            inputs=[*self._taken(step), *new.inputs],
        )
        taken = {*values.named, *values.extra}
        parameters = {name: value for name, value in self.wish.parameters.items() if name in taken}
        wish = replace(self.wish, entry_point=step.name, new=new, parameters=parameters)
        launch = launch_of(ready, wish)
        project = {**launch.new.facts["project"], "name": self.project.name, "step": inputs.facts()}
        launch = replace(
            launch,
            artifacts=list(step.outs),
            new=replace(launch.new, facts={**launch.new.facts, "project": project}),
        )
        workspace = tracked_workspace(self.place)
        look_again(workspace)
        outcome = run_command(workspace, launch)
        self.ended(outcome)
        outs: Mapping[str, str] = {}
        if outcome.status == FINISHED:
            found = outs_of(Reader(self.place.workspace).resolve(outcome.run_id), step)
            if found is None:
                absent = [out for out in step.outs if not (self.place.folder / out).exists()]
                what = (
                    f"did not write {', '.join(absent)}" if absent else "wrote files that could not be kept"
                )
                raise GmlError(f"step {step.name} {what}", hint="correct its outs or its command")
            outs = found
        return StepRun(step.name, outcome.run_id, outcome, note, outs)

    def _environment(self) -> Ready:
        return prepare(
            self.project, self.wish.env_manager, self.place.workspace.environ, offline=self.wish.offline
        )

    def _taken(self, step: EntryPoint) -> list[dict[str, object]]:
        """Return what other steps wrote as data sets of this one, each with the run that it is from."""
        taken: list[dict[str, object]] = []
        for need in step.needs:
            for out in next(each for each in self.steps if each.name == need).outs:
                found = describe(self.place.folder / out, name=out)
                tags = {TAG_STEP: need, TAG_STEP_RUN: self.done[need].run_id}
                taken.append({**found.to_dict(), "source": json.dumps({"uri": out}), "tags": tags})
        return taken


@contextmanager
def open_pipeline(
    workspace: Workspace,
    wish: ProjectRun,
    consent: Callable[[str, str], None],
    told: Callable[[str, str, ReadyProject | None], None],
    ended: Callable[[Outcome], None],
    *,
    force: bool = False,
) -> Iterator[Pipeline]:
    """Give the entry point that was asked for with all it needs; its checkout, if any, goes afterwards.

    Args:
        workspace: of the current repository.
        wish: what to run.
        consent: called with what is foreign about the code, and where it is from; raises to refuse.
        told: called before each step with its name, why it runs or not, and what runs.
        ended: called after each step that was run.
        force: run steps whose inputs did not change, too.

    Raises:
        GmlError: there is no such project or entry point, or its steps make no sense.
    """
    with located(
        workspace, wish.uri, wish.version, isolated=wish.isolated, keep=wish.keep, consent=consent
    ) as place:
        project = load_project(place.folder)
        steps = steps_before(project, project.entry_point(wish.entry_point))
        yield Pipeline(place, project, steps, wish, told, ended, force)
