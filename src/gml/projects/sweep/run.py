"""Running a sweep: as many trials at once as there are jobs, each a nested run, all of it resumable."""

from __future__ import annotations

import logging
import queue
import signal
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import ConflictError, GmlError, UsageError
from gml.domain.run import FAILED, FINISHED, KILLED
from gml.projects.sweep.commands import TrialCommand, trial_command
from gml.projects.sweep.plan import ARTIFACT, SweepPlan
from gml.projects.sweep.samplers import Sampler, make_sampler
from gml.projects.sweep.study import Finished, Study, finished_trials
from gml.projects.sweep.trials import (
    PRUNED,
    TAG_STATE,
    TAG_TRIAL,
    Trial,
    metric_points,
    outcome,
    spawn,
    take_output,
)
from gml.tracking.artifacts import log_bytes
from gml.tracking.commit import commit_sessions
from gml.tracking.reader import Reader
from gml.tracking.start import NewRun, resume, start_new

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from gml.domain.run import Run
    from gml.tracking.recorder import Recorder
    from gml.workspace import Workspace

log = logging.getLogger("gml")

TAG_SWEEP: Final = "gml.sweep"
TAG_BEST: Final = "gml.sweep.best"
COMMIT_SECONDS: Final = 2.0
COMMIT_RUNS: Final = 50
POLL_SECONDS: Final = 0.5
# Where the first trials all fail the command is wrong, not the values.
GIVE_UP_AFTER: Final = 5


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What came of a sweep.

    Attributes:
        run_id: its run.
        status: FINISHED, FAILED or KILLED.
        study: its trials.
    """

    run_id: str
    status: str
    study: Study


def start_sweep(
    workspace: Workspace, plan: SweepPlan, new: NewRun, jobs: int, progress: Callable[[Finished], None]
) -> SweepResult:
    """Start a sweep and run it to its end.

    Raises:
        UsageError: the command and the space do not go together.
        MissingPackageError: the sampler needs a package.
        GmlError: the sweep's run could not be started.
    """
    from dataclasses import replace

    if jobs < 1:
        raise UsageError(f"{jobs} jobs are none")
    sampler = _sampler(plan)
    command = trial_command(workspace, plan)
    params = {f"{name}": str(spec) for name, spec in plan.space.items()}
    words = list(plan.command) or ["gml", "run", plan.project, "-e", plan.entry_point]
    recorder = start_new(
        workspace,
        replace(new, command=words, environment=command.environment,
                params={**params, "trials": str(plan.trials), "sampler": plan.sampler},
                tags={**new.tags, TAG_SWEEP: plan.metric}),
    )  # fmt: skip
    log_bytes(recorder, plan.to_json(), ARTIFACT)
    return _Sweep(workspace, plan, command, sampler, recorder, Study(plan), jobs, progress).run()


def resume_sweep(
    workspace: Workspace,
    run: Run,
    plan: SweepPlan,
    jobs: int,
    progress: Callable[[Finished], None],
) -> SweepResult:
    """Go on with a sweep: trials that ended are kept, those that were killed are run again.

    Raises:
        ConflictError: it is running.
    """
    if run.live:
        raise ConflictError(f"sweep {run.run_id} is running", hint="stop it first, or wait")
    _wait_for_orphans(workspace, run)
    study = Study(plan)
    sampler = _sampler(plan)
    command = trial_command(workspace, plan)
    for trial in finished_trials(Reader(workspace).children(run.run_id), plan):
        study.add(trial)
        sampler.tell(trial.number, trial.values, trial.result)
    recorder = resume(workspace, run.run_id)
    return _Sweep(workspace, plan, command, sampler, recorder, study, jobs, progress).run()


def _sampler(plan: SweepPlan) -> Sampler:
    from gml.projects.sweep.space import parse_space

    return make_sampler(plan.sampler, parse_space(plan.space), plan.seed, maximize=plan.maximize)


def _wait_for_orphans(workspace: Workspace, run: Run) -> None:
    """Wait for trials that outlived a sweep that was killed: they still write to their runs."""
    said = False
    while True:
        alive = [child.run_id for child in Reader(workspace).children(run.run_id) if child.live]
        if not alive:
            break
        if not said:
            log.warning("gml: waiting for %d trials that are still running", len(alive))
            said = True
        time.sleep(POLL_SECONDS)
    commit_sessions(workspace)


@dataclass(slots=True)
class _Sweep:
    workspace: Workspace
    plan: SweepPlan
    command: TrialCommand
    sampler: Sampler
    recorder: Recorder
    study: Study
    jobs: int
    progress: Callable[[Finished], None]
    running: dict[str, Trial] = field(default_factory=dict)
    ended: queue.SimpleQueue[str] = field(default_factory=queue.SimpleQueue)
    waiting: int = 0
    committed: float = field(default_factory=time.monotonic)
    interrupted: bool = False

    def run(self) -> SweepResult:
        """Run what is missing and return what came of all trials."""
        todo = self.study.missing()[::-1]
        failed = 0
        error = ""
        with ExitStack() as cleanup:
            cleanup.enter_context(_interruptible(self))
            try:
                while todo or self.running:
                    while todo and len(self.running) < self.jobs and not self.interrupted and not error:
                        self._start(todo.pop())
                    if self.interrupted or error:
                        if not self.running:
                            break
                        self._stop_all()
                    trial = self._next()
                    if trial is None:
                        continue
                    state = self._finish(trial)
                    failed = (
                        failed + 1
                        if state == "failed" and failed >= 0
                        else -1
                        if state == "finished"
                        else failed
                    )
                    if failed >= GIVE_UP_AFTER:
                        error = f"the first {failed} trials all failed"
            except GmlError as caught:
                log.warning("gml: the sweep stops: %s", caught)
                error = str(caught)
                self._drain()
        if error:
            log.warning("gml: the sweep stops: %s", error)
        status = KILLED if self.interrupted else FAILED if error or self.study.best is None else FINISHED
        if self.study.best is not None:
            self.recorder.set_tags({TAG_BEST: self.study.best.run_id})
        self.recorder.end(status)
        return SweepResult(self.recorder.run_id, status, self.study)

    def _start(self, number: int) -> None:
        values = self.sampler.ask(number)
        ready = self.command.make(values)
        # What a rerun of the trial has to know, as `gml log` records it.
        options = {"argv_params": False, "params": sorted(values), "captures": list(self.plan.capture)}
        recorder = start_new(
            self.workspace,
            NewRun(
                experiment_id=str(self.recorder.header["experiment_id"]) if self._known() else None,
                experiment=None if self._known() else str(self.recorder.header["experiment"]),
                name=f"{self.recorder.header.get('name', 'sweep')}-{number}"[:250],
                params={**values, **ready.params},
                tags={**ready.tags, TAG_TRIAL: str(number)},
                parent=self.recorder.run_id,
                command=ready.argv,
                kind=ready.kind,
                environment=self.command.environment,
                cwd=self.command.cwd,
                facts={
                    **ready.facts,
                    "launch": {key: value for key, value in options.items() if value != []},
                },
            ),
        )
        try:
            child = spawn(
                self.workspace, recorder, ready.argv, self.command.cwd, self.command.variables, self.ended.put
            )
        except OSError as error:
            recorder.append(["set", "process", {"error": str(error)}])
            recorder.end(FAILED)
            raise UsageError(f"cannot run {ready.argv[0]}: {error.strerror}") from error
        self.running[recorder.run_id] = Trial(number, dict(values), recorder, child)

    def _known(self) -> bool:
        return self.workspace.ledger.view().experiment(str(self.recorder.header["experiment_id"])) is not None

    def _next(self) -> Trial | None:
        """Wait for a trial to end; looks at the others meanwhile."""
        try:
            run_id = self.ended.get(timeout=POLL_SECONDS)
        except queue.Empty:
            for trial in self.running.values():
                if self.plan.prune and not trial.pruned:
                    trial.pruned = self.study.is_hopeless(metric_points(trial.recorder, self.plan.metric))
                if trial.pruned:
                    trial.stop()
            self._commit(force=False)
            return None
        return self.running.pop(run_id)

    def _finish(self, trial: Trial) -> str:
        recorder = trial.recorder
        status, facts = outcome(trial.child, stopped=trial.stop_at is not None)
        take_output(recorder, self.plan.capture)
        curve = metric_points(recorder, self.plan.metric)
        recorder.append(["set", "process", facts])
        if trial.pruned:
            recorder.set_tags({TAG_STATE: PRUNED})
        recorder.end(status, defer=True)
        self.waiting += 1
        result = curve[max(curve)] if curve and status == FINISHED else None
        if result is not None and result != result:  # noqa: PLR0124 - NaN is no result
            result = None
        state = PRUNED if trial.pruned else {FINISHED: "finished", FAILED: "failed"}.get(status, "killed")
        if state != "killed":
            done = Finished(trial.number, trial.run_id, trial.values, result, state)
            self.sampler.tell(trial.number, trial.values, result)
            if self.study.add(done, curve) and result is not None:
                self.recorder.metric(f"best/{self.plan.metric}", result, trial.number, None)
            self.progress(done)
        self._commit(force=not self.running)
        return state

    def _commit(self, *, force: bool) -> None:
        """Commit the trials that ended since, several at once: they are safe in their journals meanwhile."""
        due = time.monotonic() - self.committed >= COMMIT_SECONDS or self.waiting >= COMMIT_RUNS
        if self.waiting and (due or force):
            try:
                commit_sessions(self.workspace)
            except (GmlError, OSError) as error:
                log.warning("gml: trials wait for `gml recover` (%s)", error)
            self.waiting = 0
            self.committed = time.monotonic()

    def _stop_all(self) -> None:
        for trial in self.running.values():
            trial.stop()

    def _drain(self) -> None:
        while self.running:
            self._stop_all()
            trial = self._next()
            if trial is not None:
                self._finish(trial)


@contextmanager
def _interruptible(sweep: _Sweep) -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP stop the trials instead of this process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:  # noqa: ARG001
        sweep.interrupted = True

    before = {
        number: signal.signal(number, stop)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def table_of(study: Study) -> list[dict[str, Any]]:
    """Return the trials of a study, best first, for people and `--json`."""
    worst = float("-inf") if study.plan.maximize else float("inf")
    sign = -1.0 if study.plan.maximize else 1.0
    rows: list[Mapping[str, Any]] = [
        {
            "number": t.number,
            "run_id": t.run_id,
            "state": t.state,
            "result": t.result,
            "values": dict(t.values),
        }
        for t in study.done.values()
    ]
    return [
        dict(row)
        for row in sorted(
            rows, key=lambda r: (sign * (worst if r["result"] is None else r["result"]), r["number"])
        )
    ]
