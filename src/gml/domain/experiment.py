"""An experiment: a named group of runs, folded from its creation and later edits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gml.domain.ids import DEFAULT_EXPERIMENT, DEFAULT_EXPERIMENT_ID
from gml.domain.run import ACTIVE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gml.domain.run import Document

EXPERIMENT_FORMAT: Final = "gml-experiment 1"


@dataclass(frozen=True, slots=True)
class Experiment:
    """One experiment. Times are milliseconds since the epoch and only information."""

    experiment_id: str
    name: str
    lifecycle_stage: str = ACTIVE
    creation_time: int = 0
    last_update_time: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)
    artifact_location: str = ""


DEFAULT: Final = Experiment(DEFAULT_EXPERIMENT_ID, DEFAULT_EXPERIMENT)


def fold_experiment(experiment_id: str, created: Document | None, edits: Iterable[Document]) -> Experiment:
    """Return the experiment that its documents describe, in the order of (clock, session)."""
    base = created or {}
    ordered = sorted(edits, key=lambda e: (e.get("clock", 0), str(e.get("session", ""))))
    name = DEFAULT_EXPERIMENT if experiment_id == DEFAULT_EXPERIMENT_ID else ""
    stage = ACTIVE
    tags: dict[str, str] = {}
    created_at = int(base.get("creation_time", 0))
    updated_at = created_at
    for document in (base, *ordered):
        name = document.get("name", name)
        stage = document.get("lifecycle_stage", stage)
        updated_at = max(updated_at, int(document.get("time", 0)))
        for key, value in document.get("tags", {}).items():
            if value is None:
                tags.pop(key, None)
            else:
                tags[key] = value
    return Experiment(
        experiment_id, name, stage, created_at, updated_at, tags, str(base.get("artifact_location", ""))
    )
