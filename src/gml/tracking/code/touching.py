"""Runs whose code differs at some paths from the code that ran before.

"Before" is the previous run of the same experiment on the same branch; for the first run on a branch the
previous run of the experiment on any; the first run of an experiment touches every path that its code has.
The code is what ran, uncommitted changes included.
"""

from __future__ import annotations

import re
from fnmatch import translate
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gml.domain.errors import GmlError, NotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gml.git.log import CommitLog
    from gml.tracking.code.facts import Facts
    from gml.tracking.reader import Reader

_PATTERN: Final = re.compile(r"[*?\[]")


class Touching:
    """Filters runs by the paths that their code changed. Call it with a list of runs.

    Args:
        reader: the repository.
        log: its commits.
        paths: relative to the current directory if it is in the work tree, else to the top; a file, a folder,
            or a pattern (`*.py`, `src/*.yaml`) over whole paths, where `*` also stands for `/`.
        facts: all runs, newest first: a run's predecessor need not be among the filtered ones.
        notes: where lines for people go.

    Raises:
        UsageError: a path is outside the repository.
    """

    def __init__(
        self, reader: Reader, log: CommitLog, paths: Iterable[str], facts: dict[str, Facts], notes: list[str]
    ) -> None:
        self._reader = reader
        self._log = log
        self._shown = list(paths)
        names = [_from_top(path, reader.workspace.store.location.worktree) for path in self._shown]
        self._plain = [name for name in names if not _PATTERN.search(name)]
        self._patterns = [re.compile(translate(name)) for name in names if _PATTERN.search(name)]
        self._facts = facts
        self._notes = notes
        self._keys: dict[str, tuple[str, ...]] = {}
        self._present: dict[str, bool] = {}
        self._pairs: dict[tuple[str | None, str], bool] = {}
        self._matched = False

    def __call__(self, runs: list[Facts]) -> list[Facts]:
        """Return those that touch a path."""
        wanted = {f.run_id for f in runs}
        experiments = {f.experiment_id for f in runs}
        touching: set[str] = set()
        unknown = 0
        before: dict[tuple[str, str | None] | str, tuple[str, str]] = {}
        for each in reversed(self._facts.values()):
            if each.experiment_id not in experiments:
                continue
            code = self._code(each)
            if code is None:
                unknown += each.run_id in wanted
                continue
            line = (each.experiment_id, each.branch)
            previous = before.get(line) or before.get(each.experiment_id)
            before[line] = before[each.experiment_id] = code
            # An unknown change (a dirty run kept as a patch) has no tree to compare.
            if self._differs(previous, code):
                touching.add(each.run_id)
        if runs and not self._matched and unknown < len(runs):
            raise NotFoundError(
                f"no code of these runs has {' or '.join(repr(p) for p in self._shown)}",
                hint="paths are relative to the current directory, as for git",
            )
        if unknown:
            self._notes.append(f"left out: {unknown} runs whose code is not in this repository")
        return [f for f in runs if f.run_id in touching]

    def _code(self, facts: Facts) -> tuple[str, str] | None:
        """Return the tree that a run's code can be compared by, and what else tells it from others."""
        tree = facts.exact_tree(self._log)
        if tree is not None and self._here(tree):
            return tree, ""
        if tree is None and facts.dirty and facts.commit is not None:
            base = self._log.tree(facts.commit)
            if base is not None:
                return base, facts.run_id if self._patched(facts.run_id) else ""
        return None

    def _patched(self, run_id: str) -> bool:
        """Whether a run whose changes are kept as a patch changed a path."""
        try:
            run = self._reader.run(run_id)
        except GmlError:
            return False
        source = run.source if run is not None else {}
        names = [*source.get("changed", ()), *source.get("untracked", ())]
        return any(self._is_meant(str(name)) for name in names)

    def _is_meant(self, name: str) -> bool:
        if any(not p or name == p or name.startswith(f"{p}/") for p in self._plain):
            return True
        return any(p.match(name) for p in self._patterns)

    def _here(self, tree: str) -> bool:
        if tree not in self._present:
            self._present[tree] = self._reader.workspace.store.contains(tree)
        return self._present[tree]

    def _differs(self, one: tuple[str, str] | None, two: tuple[str, str]) -> bool:
        old = one[0] if one else None
        new = two[0]
        held = self._held(new)
        if two[1] or (one and one[1]):
            self._matched = True
            return True
        if held != self._held(old):
            return True
        return bool(self._patterns) and self._pattern_differs(old, new)

    def _held(self, tree: str | None) -> tuple[str, ...]:
        """Return the ids of what a tree has at the plain paths."""
        from gml.git.trees import lookup

        if tree is None:
            return ("",) * len(self._plain)
        known = self._keys.get(tree)
        if known is None:
            found = [lookup(self._reader.workspace.store, tree, path) for path in self._plain]
            known = tuple(f"{e.mode:o} {e.oid}" if e else "" for e in found)
            self._keys[tree] = known
            self._matched = self._matched or any(known)
        return known

    def _pattern_differs(self, old: str | None, new: str) -> bool:
        from gml.git.trees import walk

        if (old, new) not in self._pairs:
            paths = (path for path, _, _ in walk(self._reader.workspace.store, old, new))
            self._pairs[old, new] = any(p.match(path) for path in paths for p in self._patterns)
        self._matched = self._matched or self._pairs[old, new]
        return self._pairs[old, new]


def _from_top(path: str, top: Path | None) -> str:
    """Return a path relative to the top of the work tree."""
    if not path.strip():
        raise UsageError("--touching is empty", hint="give a path, or `.` for everything")
    here = Path.cwd()
    base = here if top is not None and here.is_relative_to(top) else top
    if base is None or top is None:
        return path.strip("/")
    parts: list[str] = []
    for part in (base / path).parts:
        if part == "..":
            parts = parts[:-1]
        elif part != ".":
            parts.append(part)
    full = Path(*parts)
    if not full.is_relative_to(top):
        raise UsageError(f"{path!r} is outside the repository {top}", hint="give a path inside it")
    name = full.relative_to(top).as_posix()
    return "" if name == "." else name
