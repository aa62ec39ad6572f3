"""A source whose runs are known at once: what the importers of smaller tools give."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from gml.compat.foreign import ForeignExperiment, ForeignModel, ForeignRun, Losses

if TYPE_CHECKING:
    from collections.abc import Iterator


class Gathered:
    """Runs of one or more experiments.

    Args:
        name: where they are from.
        runs: all of them; `experiment_id` is the experiment's name.
        losses: what had no home so far.
    """

    def __init__(self, name: str, runs: list[ForeignRun], losses: Losses) -> None:
        self.name = name
        self.losses = losses
        self._runs = runs

    def experiments(self) -> list[ForeignExperiment]:
        """See `Source.experiments`."""
        first: dict[str, int] = {}
        for run in self._runs:
            first[run.experiment_id] = min(first.get(run.experiment_id, run.start), run.start)
        # No id of their own: what follows from the name is the id.
        return [ForeignExperiment(name, name, created=created) for name, created in first.items()]

    def runs(self, experiment: ForeignExperiment, since: int | None) -> Iterator[ForeignRun]:
        """See `Source.runs`."""
        for run in self._runs:
            if run.experiment_id == experiment.experiment_id and run.since(since):
                yield run

    def models(self) -> list[ForeignModel]:
        """There are none."""
        return []

    def count_rest(self) -> None:
        """Nothing else is known."""


def made_id(kind: str, *parts: object) -> str:
    """Return the id of a run that has none: the same each time it is imported.

    Example:
        >>> made_id("csv", "runs.csv", 1) == made_id("csv", "runs.csv", 1)
        True
    """
    text = "\n".join([kind, *map(str, parts)])
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    # A `7` there would say that the id carries a time.
    return digest if digest[12] != "7" else f"{digest[:12]}8{digest[13:]}"


def fingerprint(*facts: object) -> str:
    """Return something that changes when one of the facts does."""
    return hashlib.sha256(repr(facts).encode("utf-8", "surrogatepass")).hexdigest()[:32]
