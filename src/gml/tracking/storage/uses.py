"""Which runs and paths a blob belongs to."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gml.cas.names import parse_name, parse_recipe
from gml.cas.shelf import read_text
from gml.domain.errors import CorruptError, FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gml.cas.local import LocalStore
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


def files_of_chunks(store: LocalStore) -> dict[str, set[str]]:
    """Return, for each chunk, the digests of the large files that need it."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for stored in store.names("recipes"):
        digest = parse_name(stored.name).digest
        try:
            recipe = parse_recipe(digest, read_text(store.root / stored.name))
        except (OSError, CorruptError, FormatError):
            continue
        for chunk, _ in recipe.chunks:
            found[chunk].add(digest)
    return found
