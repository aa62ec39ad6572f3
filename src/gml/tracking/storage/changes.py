"""Which files differ between two runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gml.domain.errors import NotFoundError

if TYPE_CHECKING:
    from gml.domain.run import Artifact, Run

ADDED: Final = "added"
REMOVED: Final = "removed"
CHANGED: Final = "changed"
MOVED: Final = "moved"


@dataclass(frozen=True, slots=True)
class Change:
    """One file that differs between two runs.

    Attributes:
        kind: `added`, `removed`, `changed` or `moved` (the same bytes under another path).
        path: in the second run; in the first one where it is `removed`.
        before: the file in the first run, None where it is `added`.
        after: the file in the second run, None where it is `removed`.
        old_path: of a moved file its path in the first run.
    """

    kind: str
    path: str
    before: Artifact | None
    after: Artifact | None
    old_path: str | None = None

    @property
    def growth(self) -> int:
        """Bytes that the second run has more than the first."""
        return (self.after.size if self.after else 0) - (self.before.size if self.before else 0)


def changes(a: Run, b: Run, below: str = "") -> tuple[list[Change], int]:
    """Return what differs between the files of two runs, and how many files are equal.

    Args:
        a: the first run.
        b: the second run.
        below: a file or folder to look at; everything if it is empty.

    Raises:
        NotFoundError: neither run has anything there.
    """
    prefix = below.strip("/")
    old, new = (
        {
            path: facts
            for path, facts in run.artifacts.items()
            if not prefix or path == prefix or path.startswith(f"{prefix}/")
        }
        for run in (a, b)
    )
    if prefix and not old and not new:
        raise NotFoundError(f"neither run has an artifact {prefix!r}", hint="`gml artifacts ls RUN`")
    found: list[Change] = []
    gone: dict[str, list[str]] = {}
    for path in sorted(old.keys() - new.keys(), reverse=True):
        gone.setdefault(old[path].sha256, []).append(path)
    for path in sorted(new.keys() - old.keys()):
        facts = new[path]
        if gone.get(facts.sha256):
            source = gone[facts.sha256].pop()
            found.append(Change(MOVED, path, old[source], facts, source))
        else:
            found.append(Change(ADDED, path, None, facts))
    found += [Change(REMOVED, path, old[path], None) for paths in gone.values() for path in paths]
    both = sorted(old.keys() & new.keys())
    differ = [path for path in both if old[path].sha256 != new[path].sha256]
    found += [Change(CHANGED, path, old[path], new[path]) for path in differ]
    return sorted(found, key=lambda change: change.path), len(both) - len(differ)
