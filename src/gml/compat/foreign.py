"""What an importer finds elsewhere, and the port that it reads through.

A source gives experiments, runs (logged models among them) and registered models one after another, so that
a store of any size goes through in bounded memory. It never writes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol

from gml.domain.run import ACTIVE, DELETED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

MODEL: Final = "model"
MODEL_DELETED: Final = "deleted-model"
STAGES: Final = (ACTIVE, DELETED, MODEL, MODEL_DELETED)

# key, value, timestamp (milliseconds since the epoch), step
Point = tuple[str, float, int, int]


@dataclass(frozen=True, slots=True)
class ForeignFile:
    """A file of a run: its path within it, its size in bytes where that is known, and how to open it."""

    path: str
    size: int | None
    open: Callable[[], BinaryIO]


@dataclass(frozen=True, slots=True)
class ForeignExperiment:
    """An experiment. Times are milliseconds since the epoch."""

    experiment_id: str
    name: str
    deleted: bool = False
    created: int = 0
    updated: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class ForeignRun:
    """A run, or a logged model. Times are milliseconds since the epoch.

    Attributes:
        run_id: kept as it is.
        experiment_id: the source's own.
        name: display name; empty for none.
        user: who started it.
        status: RUNNING, SCHEDULED, FINISHED, FAILED or KILLED.
        start: when it started.
        end: when it ended, None where nobody said.
        stage: one of `STAGES`.
        params: key -> text.
        tags: key -> text, as the source has them.
        points: gives all metric points in the order they were logged.
        inputs: as in `gml-run 1`.
        outputs: as in `gml-run 1`.
        files: gives its files.
        fingerprint: changes when the run changes; a run whose fingerprint is known is not read again.
    """

    run_id: str
    experiment_id: str
    name: str = ""
    user: str = ""
    status: str = "RUNNING"
    start: int = 0
    end: int | None = None
    stage: str = ACTIVE
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    points: Callable[[], Iterable[Point]] = tuple
    inputs: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[dict[str, Any]] = field(default_factory=list)
    files: Callable[[], Iterable[ForeignFile]] = tuple
    fingerprint: str = ""

    def since(self, moment: int | None) -> bool:
        """Whether it started or ended at or after a moment, or goes on."""
        return moment is None or self.end is None or max(self.start, self.end) >= moment


@dataclass(frozen=True, slots=True)
class ForeignVersion:
    """A version of a registered model; `facts` is what its registry said, as text."""

    number: int
    run_id: str | None
    model_id: str | None
    source: str
    stage: str
    description: str = ""
    created: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ForeignModel:
    """A registered model."""

    name: str
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, int] = field(default_factory=dict)
    versions: tuple[ForeignVersion, ...] = ()


class Losses:
    """What had no home, counted by reason, with a few examples each."""

    EXAMPLES: Final = 3

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.examples: dict[str, list[str]] = {}

    def add(self, reason: str, example: str = "", count: int = 1) -> None:
        """Count something that could not be taken over."""
        if count <= 0:
            return
        self.counts[reason] = self.counts.get(reason, 0) + count
        known = self.examples.setdefault(reason, [])
        if example and len(known) < self.EXAMPLES and example not in known:
            known.append(example)

    def lines(self) -> list[str]:
        """Return a line for each reason."""
        out = []
        for reason, count in self.counts.items():
            some = self.examples[reason]
            out.append(f"{reason}: {count}" + (f" ({', '.join(some)})" if some else ""))
        return out


class Source(Protocol):
    """A store that is read. Its methods may raise GmlError; one bad run is counted in `losses` instead."""

    name: str
    losses: Losses

    def experiments(self) -> list[ForeignExperiment]:
        """Return all experiments, deleted ones included."""

    def runs(self, experiment: ForeignExperiment, since: int | None) -> Iterator[ForeignRun]:
        """Yield runs and logged models of an experiment, deleted ones included.

        Args:
            experiment: one of `experiments`.
            since: leave out what ended before, milliseconds since the epoch; None for all.
        """

    def models(self) -> list[ForeignModel]:
        """Return the registered models."""

    def count_rest(self) -> None:
        """Count in `losses` what the source has and gml has no place for."""
