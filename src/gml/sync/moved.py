"""Counting what lies between two states: runs, experiments, kept code."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from gml.domain.errors import NotFoundError
from gml.git import trees
from gml.git.objects import parse_commit
from gml.ledger import layout

if TYPE_CHECKING:
    from gml.git.port import GitStore


@dataclass(slots=True)
class Moved:
    """What went one way.

    Attributes:
        runs: runs that are new or have changed.
        experiments: experiments that are new or have changed.
        code: code commits of runs.
        registry: commits of the registry.
        tags: tags of model versions and stage changes.
        proposals: proposal branches of the registry, new or with new statements.
        git_bytes: bytes of git objects on the wire.
        artifacts: artifacts whose bytes were copied.
        artifact_bytes: their size.
    """

    runs: int = 0
    experiments: int = 0
    code: int = 0
    registry: int = 0
    tags: int = 0
    proposals: int = 0
    git_bytes: int = 0
    artifacts: int = 0
    artifact_bytes: int = 0

    def __bool__(self) -> bool:
        """Whether anything moved."""
        return any(getattr(self, field.name) for field in fields(self) if field.name != "git_bytes")


def _tree(store: GitStore, commit: str | None) -> str | None:
    return parse_commit(store.read(commit)[1]).tree if commit is not None else None


def changed_runs(store: GitStore, old: str | None, new: str | None) -> tuple[set[str], set[str]]:
    """Return the ids of runs and of experiments that differ between two ledger commits."""
    return runs_between(store, _tree(store, old), _tree(store, new))


def runs_between(store: GitStore, old: str | None, new: str | None) -> tuple[set[str], set[str]]:
    """Return the ids of runs and of experiments that differ between two ledger trees."""
    runs: set[str] = set()
    experiments: set[str] = set()
    for path, _, _ in trees.walk(store, old, new):
        run = layout.run_of_path(path)
        if run is not None:
            runs.add(run)
        elif path.startswith("experiments/"):
            experiments.add(path.split("/")[1].removesuffix(".json"))
    return runs, experiments


def kept_code(store: GitStore, old: str | None, new: str | None) -> int:
    """Return how many code commits the newer of two code refs keeps beyond the older."""
    return sum(
        1 for _, before, _ in trees.walk(store, _tree(store, old), _tree(store, new)) if before is None
    )


def count_commits(store: GitStore, old: str | None, new: str | None) -> int:
    """Return the number of commits from `old` to `new` along first parents."""
    count = 0
    while new is not None and new != old:
        count += 1
        try:
            parents = parse_commit(store.read(new)[1]).parents
        except NotFoundError:
            break
        new = parents[0] if parents else None
    return count
