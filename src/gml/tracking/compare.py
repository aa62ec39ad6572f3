"""Comparing two runs, their code included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import GmlError
from gml.index.compare import diff_artifacts, diff_maps, diff_metrics
from gml.tracking.contents import environment

if TYPE_CHECKING:
    from collections.abc import Callable

    from gml.domain.run import Run
    from gml.tracking.reader import Reader

SECTIONS: Final = ("params", "metrics", "tags", "code", "environment", "artifacts")
MAX_PATCH: Final = 2 * 1024 * 1024


def compare_runs(reader: Reader, a: Run, b: Run, only: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the differences of two runs in the documented shape of `gml diff --json`.

    Each section is `{changed: {key: [a, b]}, only_a, only_b}`; metrics add `delta`, code adds the commits
    and the patch.

    Args:
        reader: where the runs were read.
        a: first run.
        b: second run.
        only: sections to compute, all by default.
    """
    makers: dict[str, Callable[[], dict[str, Any]]] = {
        "params": lambda: diff_maps(a.params, b.params),
        "metrics": lambda: diff_metrics(a.metrics, b.metrics),
        "tags": lambda: diff_maps(a.tags, b.tags),
        "code": lambda: _code(reader, a, b),
        "environment": lambda: diff_maps(_facts(reader, a), _facts(reader, b)),
        "artifacts": lambda: diff_artifacts(a.artifacts, b.artifacts),
    }
    out: dict[str, Any] = {"a": a.run_id, "b": b.run_id}
    return out | {name: makers[name]() for name in SECTIONS if not only or name in only}


def _facts(reader: Reader, run: Run) -> dict[str, str]:
    """Return a run's environment with dotted keys, such as `packages.numpy`."""
    flat: dict[str, str] = {}

    def add(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                add(f"{prefix}.{key}" if prefix else str(key), inner)
        elif value not in (None, []) and prefix != "packages_digest":
            flat[prefix] = str(value)

    add("", environment(reader, run))
    return flat


def _code(reader: Reader, a: Run, b: Run) -> dict[str, Any]:
    out: dict[str, Any] = {"changed": {}, "only_a": {}, "only_b": {}}
    for key in ("commit", "branch", "dirty", "snapshot"):
        if a.source.get(key) != b.source.get(key):
            out[key] = [a.source.get(key), b.source.get(key)]
    trees = a.source.get("tree"), b.source.get("tree")
    if trees[0] == trees[1] and trees[0] is not None:
        return out | {"patch": ""}
    missing = [run.run_id for run, tree in zip((a, b), trees, strict=True) if not _here(reader, tree)]
    if missing:
        return out | {"patch": None, "missing": missing}
    worktree = reader.workspace.worktree
    sides = {"M": "changed", "T": "changed", "A": "only_b", "D": "only_a"}
    for letter, path in worktree.changes(*trees):
        out[sides.get(letter, "changed")][path] = letter
    return out | {"patch": worktree.diff(*trees, max_bytes=MAX_PATCH)}


def _here(reader: Reader, tree: Any) -> bool:
    if not isinstance(tree, str):
        return False
    try:
        return reader.workspace.store.contains(tree)
    except GmlError:
        return False
