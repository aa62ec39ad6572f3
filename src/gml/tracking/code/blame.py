"""Since which run and commit the best run has the value that it has."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import GmlError, NotFoundError, UsageError
from gml.tracking.code.facts import read_facts

if TYPE_CHECKING:
    from gml.domain.run import Run
    from gml.index.query.ast import Field
    from gml.tracking.code.values import Metric
    from gml.tracking.reader import Reader

TAG_PRIMARY: Final = "mlflow.experiment.primaryMetric.name"
LOOKED_AT: Final = 500
"""Newest runs that are asked which metrics there are."""


@dataclass(frozen=True, slots=True)
class Step:
    """A run in the story of a value.

    Attributes:
        run: the run.
        value: what it has; None where it has none.
        subject: first line of its commit's message, empty where the commit is not here.
        commit_author: who made the commit, empty where it is not here.
    """

    run: Run
    value: Any
    subject: str
    commit_author: str


@dataclass(frozen=True, slots=True)
class Blame:
    """The story of a value.

    Attributes:
        field: as it is written in queries.
        subject: the run that was asked about: the best or the latest.
        introduced: the oldest run of the unbroken line of runs with this value that ends at the subject.
        before: the run before that one, with another value; None when the value was there from the start.
        runs: length of that line.
        skipped: runs in between that could not be read.
    """

    field: str
    subject: Step
    introduced: Step
    before: Step | None
    runs: int
    skipped: int


def blame(reader: Reader, text: str, experiment_id: str, metric: Metric | None = None) -> Blame:
    """Return since when the best run (of a metric; else the latest) of an experiment has its value.

    The runs of the experiment are walked from that run to older ones until one has another value. A
    missing value is a value like others; numbers compare as they are, text by character.

    Args:
        reader: the repository.
        text: a field of the query language: `params.lr`, `metrics.auc`, `tags.x`, `code.branch`, `status`.
        experiment_id: the experiment.
        metric: what makes a run the best, None for the latest run.

    Raises:
        NotFoundError: the experiment has no run with the metric, or none with the field.
        QueryError: the field is malformed.
    """
    from gml.index.query import parse_sort, unparse_field

    orders = parse_sort(text)
    if len(orders) > 1 or orders[0].descending:
        raise UsageError(f"{text!r} is not one field", hint="such as params.lr")
    field = orders[0].field
    walk = _Walk(reader, experiment_id, field)
    newest = _best_id(reader, experiment_id, metric) if metric is not None else None
    line = walk.from_run(newest)
    subject = next(line, None)
    if subject is None:
        raise NotFoundError("the experiment has no runs", hint="`gml exp ls` shows the experiments")
    introduced, count, before = subject, 1, None
    for step in line:
        if _same(step[1], subject[1]):
            introduced, count = step, count + 1
        else:
            before = step
            break
    name = unparse_field(field)
    if subject[1] is None and before is None:
        raise NotFoundError(
            f"no run of the experiment has {name}", hint="`gml show @` lists what the latest has"
        )
    story = [walk.step(pair) for pair in (subject, introduced)]
    return Blame(name, story[0], story[1], walk.step(before) if before else None, count, walk.skipped)


def usual_metric(reader: Reader, experiment_id: str) -> str | None:
    """Return the metric that makes a run of an experiment the best when nobody names one.

    It is the one that the experiment's tag names (MLflow's `mlflow.experiment.primaryMetric.name`), else the
    only one that its newest runs have, metrics of the system aside; None where there are several.
    """
    experiment = next((e for e in reader.experiments() if e.experiment_id == experiment_id), None)
    named = experiment.tags.get(TAG_PRIMARY) if experiment is not None else None
    if named:
        return named
    runs = reader.search(None, now_ms=0, experiments={experiment_id}, limit=LOOKED_AT)
    keys = {key for run in runs for key in run.metrics if not key.startswith("system/")}
    return keys.pop() if len(keys) == 1 else None


class _Walk:
    """Runs of an experiment with the value of a field, newest first, loaded one by one."""

    def __init__(self, reader: Reader, experiment_id: str, field: Field) -> None:
        from gml.git.log import CommitLog
        from gml.index.query.fields import Context, getter

        self._reader = reader
        self._experiment_id = experiment_id
        self._log = CommitLog(reader.workspace.store)
        self._find = getter(field)
        names = {e.experiment_id: e.name for e in reader.experiments()}
        self._context = Context(names.get(experiment_id), reader.history)
        self.skipped = 0

    def from_run(self, run_id: str | None) -> Any:
        """Yield (run, value) from a run (None: the newest) to older ones."""
        started = run_id is None
        for each in read_facts(self._reader, {self._experiment_id}):
            started = started or each == run_id
            if not started:
                continue
            try:
                run = self._reader.run(each)
            except GmlError as error:
                self._reader.damaged.append(error)
                self.skipped += 1
                continue
            if run is not None:
                yield run, self._find(run, self._context)

    def step(self, pair: tuple[Run, Any]) -> Step:
        """Return what there is to say about a run."""
        commit = self._log.commit(pair[0].source.get("commit") or "")
        if commit is None:
            return Step(*pair, "", "")
        return Step(*pair, commit.message.partition("\n")[0], commit.author.name)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b):
        return True
    return bool(a == b)


def _best_id(reader: Reader, experiment_id: str, metric: Metric) -> str:
    from gml.tracking.code.values import BEST, combine, measure

    return combine(measure(reader, metric, {experiment_id}), BEST, metric)[1].facts.run_id


def as_json(found: Blame) -> dict[str, Any]:
    """Return the documented shape of `gml blame --json`."""
    return {
        "field": found.field,
        "subject": _step_json(found.subject),
        "introduced": _step_json(found.introduced),
        "before": _step_json(found.before) if found.before else None,
        "runs": found.runs,
    }


def _step_json(step: Step) -> dict[str, Any]:
    source = step.run.source
    return {
        "run_id": step.run.run_id,
        "name": step.run.name,
        "value": step.value,
        "start_time": step.run.start_time,
        "author": source.get("author"),
        "user": step.run.user,
        "commit": source.get("commit"),
        "dirty": source.get("dirty"),
        "subject": step.subject,
        "commit_author": step.commit_author,
    }
