"""What a step's result depends on, and whether a run with the same is recorded."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import NotFoundError
from gml.domain.run import FINISHED, SHREDDED
from gml.fs import storage_error
from gml.git.objects import parse_tree
from gml.git.port import SnapshotRules

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gml.domain.run import Run
    from gml.projects.mlproject.parse import EntryPoint
    from gml.projects.mlproject.sources import Located
    from gml.projects.mlproject.values import Values
    from gml.tracking.reader import Reader

TAG_STEP: Final = "gml.step"
TAG_KEY: Final = "gml.step.key"
TAG_STEP_RUN: Final = "gml.step.run"
NEVER: Final = "never ran"
_ABSENT: Final = "absent"
_LOOK_BACK: Final = 20


@dataclass(frozen=True, slots=True)
class Inputs:
    """All that a step's result depends on, as digests.

    Attributes:
        command: of the rendered command line.
        params: values by name; secrets as digests.
        code: digests by path.
        needs: digests of what other steps wrote, by path.
    """

    command: str
    params: Mapping[str, str]
    code: Mapping[str, str]
    needs: Mapping[str, str]

    @property
    def key(self) -> str:
        """One digest of everything: 64 hex digits."""
        return digest_of([self.command, dict(self.params), dict(self.code), dict(self.needs)])

    def facts(self) -> dict[str, Any]:
        """Return what the run's record keeps, so that a later change can be named."""
        return {"code": digest_of(dict(self.code)), "needs": digest_of(dict(self.needs))}


def digest_of(value: object) -> str:
    """Return the SHA-256 of a JSON value in canonical form, 64 hex digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def inputs_of(
    place: Located, step: EntryPoint, values: Values, needs: Mapping[str, str], outs: Iterable[str]
) -> Inputs:
    """Return what a step's result depends on.

    Args:
        place: the project.
        step: the entry point.
        values: of its parameters.
        needs: digests of the files that other steps wrote, by path.
        outs: what all steps write: no part of the code.

    Raises:
        NotFoundError: a file that it depends on does not exist.
        StorageError: it cannot be read.
    """
    data = {name: digest_of(contents(path)) for name, path in values.data.items()}
    params = {**values.named, **values.extra, **data}
    code = _code(place, [*outs]) if step.deps is None else _named(place.folder, step, step.deps, needs)
    return Inputs(digest_of(step.command or step.name), params, code, needs)


def _named(folder: Path, step: EntryPoint, deps: Iterable[str], needs: Mapping[str, str]) -> dict[str, str]:
    """Return the files that a step names; those of other steps are known already."""
    found: dict[str, str] = {}
    for path in deps:
        if any(_within(each, [path]) for each in needs):
            continue
        if not (folder / path).exists():
            raise NotFoundError(f"step {step.name} depends on {path!r}, which does not exist")
        found |= {f"{path}/{name}".rstrip("/"): sha for name, sha in contents(folder / path).items()}
    return found


def contents(path: Path) -> dict[str, str]:
    """Return the SHA-256 of a file under the empty name, or of each file of a folder by its path in it.

    Raises:
        StorageError: a part cannot be read.
    """
    try:
        if not path.is_dir():
            return {"": _hash(path)} if path.exists() else {"": _ABSENT}
        found = {}
        for folder, folders, names in os.walk(path):
            folders[:] = [name for name in folders if name not in {".git", "__pycache__"}]
            for name in names:
                place = Path(folder, name)
                if place.is_file():
                    found[place.relative_to(path).as_posix()] = _hash(place)
        return found
    except OSError as error:
        raise storage_error(error, f"cannot read {path}") from error


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _code(place: Located, outs: list[str]) -> dict[str, str]:
    """Return the files of a project as git sees them, without those that steps write."""
    folder = place.folder.resolve()
    top = place.workspace.store.location.worktree
    if top is None or not folder.is_relative_to(top.resolve()):
        return {name: sha for name, sha in contents(folder).items() if not _within(name, outs)}
    tree = place.workspace.worktree.snapshot(SnapshotRules()).tree
    found: dict[str, str] = {}
    below = folder.relative_to(top.resolve()).parts
    for part in below:
        entry = next((e for e in _entries(place, tree) if e.name == part and e.is_tree), None)
        tree = entry.oid if entry is not None else None
    stack = [("", tree)]
    while stack:
        lead, oid = stack.pop()
        for entry in _entries(place, oid):
            path = f"{lead}{entry.name}"
            if _within(path, outs):
                continue
            if entry.is_tree:
                stack.append((f"{path}/", entry.oid))
            else:
                found[path] = f"{entry.mode:o} {entry.oid}"
    return found


def _entries(place: Located, tree: str | None) -> list[Any]:
    if tree is None:
        return []
    return parse_tree(place.workspace.store.read(tree)[1], len(tree) // 2)


def _within(path: str, outs: Iterable[str]) -> bool:
    return any(path == out or path.startswith(f"{out}/") for out in outs)


# --- what is recorded ------------------------------------------------------------------------


def outs_of(run: Run, step: EntryPoint) -> dict[str, str] | None:
    """Return the digests of what a run of a step wrote, by path; None where a part is not recorded."""
    found: dict[str, str] = {}
    for out in step.outs:
        names = [name for name in run.artifacts if name == out or name.startswith(f"{out}/")]
        if not names or any(run.artifacts[name].at == SHREDDED for name in names):
            return None
        found |= {name: run.artifacts[name].sha256 for name in names}
    return found


def earlier_runs(reader: Reader, tag: str, value: str) -> list[Run]:
    """Return the newest runs with a tag that ended well."""
    from gml.index.query import parse, parse_order

    quoted = value.replace("\\", "\\\\").replace("'", "\\'")
    query = parse(f"tags.`{tag}` = '{quoted}' and status = '{FINISHED}'")
    return reader.search(query, parse_order(["start_time DESC"]), now_ms=0, limit=_LOOK_BACK)


def what_changed(earlier: Sequence[Run], inputs: Inputs, shown: Mapping[str, str]) -> str:
    """Return what differs from the most similar earlier run of a step, in a few words.

    Args:
        earlier: runs of the step, newest first.
        inputs: of the step now.
        shown: its params as a run records them.
    """
    if not earlier:
        return NEVER
    return min((_changes(run, inputs, shown) for run in earlier), key=len) or "command or data changed"


def _changes(run: Run, inputs: Inputs, shown: Mapping[str, str]) -> str:
    told = []
    changed = [
        f"{name} {run.params.get(name, 'not given')} -> {value}"
        for name, value in shown.items()
        if run.params.get(name) != value
    ]
    if changed:
        told.append(f"params changed: {', '.join(changed)}")
    facts = run.source.get("project")
    kept = facts.get("step", {}) if isinstance(facts, dict) else {}
    now = inputs.facts()
    if kept.get("code") != now["code"]:
        told.append("code changed")
    if kept.get("needs") != now["needs"]:
        told.append("what it needs changed")
    return "; ".join(told)
