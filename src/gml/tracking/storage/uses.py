"""Which runs and paths a blob belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gml.domain.run import Run
    from gml.tracking.reader import Reader


@dataclass(frozen=True, slots=True)
class Use:
    """A file of a run that is in the artifact store.

    Attributes:
        run: the run.
        path: its path within the run; of metric history, a description.
        digest: SHA-256.
        size: length in bytes.
    """

    run: Run
    path: str
    digest: str
    size: int


def uses(reader: Reader) -> Iterator[Use]:
    """Yield every file in the artifact store that the runs have as they are now, deleted runs too."""
    for run in reader.runs(deleted=True):
        for path, facts in run.artifacts.items():
            if facts.at == "cas":
                yield Use(run, path, facts.sha256, facts.size)
        for part in run.history:
            for segment in part.segments:
                if segment.get("at") == "cas":
                    yield Use(run, "(metric history)", str(segment["sha256"]), int(segment["size"]))
