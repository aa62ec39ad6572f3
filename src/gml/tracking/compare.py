"""Comparing two runs, their code included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import GmlError
from gml.git.objects import parse_commit
from gml.index.compare import diff_artifacts, diff_maps, diff_metrics
from gml.tracking.contents import environment

if TYPE_CHECKING:
    from collections.abc import Callable

    from gml.domain.run import Run
    from gml.tracking.reader import Reader

SECTIONS: Final = ("params", "metrics", "tags", "code", "environment", "artifacts", "inputs", "curves")
CODE_FACTS: Final = ("commit", "branch", "dirty", "snapshot")
MAX_PATCH: Final = 2 * 1024 * 1024


def compare_runs(reader: Reader, a: Run, b: Run, only: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the differences of two runs in the documented shape of `gml diff --json`.

    Each section is `{changed: {key: [a, b]}, only_a, only_b}`; metrics add `delta`, code adds the commits
    and the patch, curves add `gap`. docs/reports.md documents `inputs` and `curves`, docs/json.md the rest.

    Args:
        reader: where the runs were read.
        a: first run.
        b: second run.
        only: sections to compute, all by default.

    Raises:
        NotFoundError: metric points are not in the artifact store.
        CorruptError: metric points or the environment are damaged.

    Example:
        >>> compare_runs(reader, a, b, ("params",))["params"]["changed"]  # doctest: +SKIP
        {'lr': ['0.1', '0.3']}
    """
    makers: dict[str, Callable[[], dict[str, Any]]] = {
        "params": lambda: diff_maps(a.params, b.params),
        "metrics": lambda: diff_metrics(a.metrics, b.metrics),
        "tags": lambda: diff_maps(a.tags, b.tags),
        "code": lambda: code_diff(reader, a, b),
        "environment": lambda: diff_maps(environment_facts(reader, a), environment_facts(reader, b)),
        "artifacts": lambda: diff_artifacts(a.artifacts, b.artifacts),
        "inputs": lambda: diff_maps(data_sets(a), data_sets(b)),
        "curves": lambda: _curves(reader, a, b),
    }
    out: dict[str, Any] = {"a": a.run_id, "b": b.run_id}
    return out | {name: makers[name]() for name in SECTIONS if not only or name in only}


def _curves(reader: Reader, a: Run, b: Run) -> dict[str, Any]:
    from gml.tracking.report.curves import diff_curves

    return diff_curves(reader, a, b)


def data_sets(run: Run) -> dict[str, dict[str, Any]]:
    """Return the data sets that a run read, by name and, where there is one, context: `train [eval]`.

    Each is `{digest, source_type, source}`; of several that share name and context, the later ones are
    `name #2` and so on.
    """
    out: dict[str, dict[str, Any]] = {}
    for entry in run.inputs:
        context = (entry.get("tags") or {}).get("mlflow.data.context")
        name = f"{entry.get('name', '')} [{context}]" if context else str(entry.get("name", ""))
        key, number = name, 1
        while key in out:
            number += 1
            key = f"{name} #{number}"
        out[key] = {part: str(entry.get(part, "")) for part in ("digest", "source_type", "source")}
    return out


def environment_facts(reader: Reader, run: Run) -> dict[str, str]:
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


def code_diff(reader: Reader, a: Run, b: Run, *, patch: bool = True) -> dict[str, Any]:
    """Return how the code of two runs differs, as it ran: facts, files by letter, and the patch.

    Args:
        reader: where the runs were read.
        a: first run.
        b: second run.
        patch: also make the patch; without it `patch` is there only where there is nothing to make.
    """
    out: dict[str, Any] = {"changed": {}, "only_a": {}, "only_b": {}}
    for key in CODE_FACTS:
        if a.source.get(key) != b.source.get(key):
            out[key] = [a.source.get(key), b.source.get(key)]
    trees = _tree(reader, a), _tree(reader, b)
    if trees[0] == trees[1] and trees[0] is not None:
        return out | {"patch": ""}
    missing = [run.run_id for run, tree in zip((a, b), trees, strict=True) if not _here(reader, tree)]
    if missing:
        return out | {"patch": None, "missing": missing}
    worktree = reader.workspace.worktree
    sides = {"M": "changed", "T": "changed", "A": "only_b", "D": "only_a"}
    for letter, path in worktree.changes(*trees):
        out[sides.get(letter, "changed")][path] = letter
    return out | {"patch": worktree.diff(*trees, max_bytes=MAX_PATCH)} if patch else out


def _tree(reader: Reader, run: Run) -> Any:
    """Return the tree that ran: the recorded one, or its commit's where the run was clean and has none."""
    tree, commit = run.source.get("tree"), run.source.get("commit")
    if tree is not None or run.source.get("dirty") is not False or not _here(reader, commit):
        return tree
    return parse_commit(reader.workspace.store.read(str(commit))[1]).tree


def _here(reader: Reader, tree: Any) -> bool:
    if not isinstance(tree, str):
        return False
    try:
        return reader.workspace.store.contains(tree)
    except GmlError:
        return False
