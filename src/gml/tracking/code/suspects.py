"""The commits between good and bad, and which of them to look at next."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gml.domain.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from gml.git.log import CommitLog

MAX_ALL: Final = 20_000


@dataclass(slots=True)
class Suspects:
    """Commits of which one is the first bad one. Starts with all; verdicts take some away.

    Attributes:
        commits: parents before children; the last one is known to be bad.
        good: newest commit known to be good on the way, the start of the range at first; None when the
            range begins with the first commit of the history.
        skipped: commits that could not be judged.
    """

    commits: list[str]
    good: str | None
    parents: Callable[[str], Iterable[str]]
    linear: bool
    skipped: set[str] = field(default_factory=set)

    @property
    def bad(self) -> str:
        """The oldest commit known to be bad."""
        return self.commits[-1]

    def open(self) -> list[str]:
        """Return the commits that can still be judged."""
        return [c for c in self.commits[:-1] if c not in self.skipped]

    def pick(self, among: Collection[str]) -> str:
        """Return the commit among some whose verdict halves the suspects best."""
        weights = self._weights()
        half = len(self.commits) / 2
        return min(among, key=lambda c: (abs(weights[c] - half), weights[c]))

    def note(self, commit: str, *, good: bool) -> None:
        """Take a verdict into account."""
        below = self._ancestors(commit)
        if good:
            self.good = commit
            self.commits = [c for c in self.commits if c not in below]
        else:
            self.commits = [c for c in self.commits if c in below]

    def _ancestors(self, commit: str) -> set[str]:
        if self.linear:
            return set(self.commits[: self.commits.index(commit) + 1])
        inside, found, queue = set(self.commits), set[str](), [commit]
        while queue:
            oid = queue.pop()
            if oid in inside and oid not in found:
                found.add(oid)
                queue.extend(self.parents(oid))
        return found

    def _weights(self) -> dict[str, int]:
        """Return for each commit how many suspects it contains: those a good verdict would clear."""
        if self.linear:
            return {commit: number + 1 for number, commit in enumerate(self.commits)}
        bits: dict[str, int] = {}
        for number, commit in enumerate(self.commits):
            held = 1 << number
            for parent in self.parents(commit):
                held |= bits.get(parent, 0)
            bits[commit] = held
        return {commit: held.bit_count() for commit, held in bits.items()}


def suspects_between(log: CommitLog, good: str, bad: str, *, everything: bool) -> tuple[Suspects, str | None]:
    """Return the suspects between two commits, and the merge base where good is no ancestor of bad.

    Args:
        log: the repository's commits.
        good: commit known to be good.
        bad: commit known to be bad.
        everything: also commits of merged branches; otherwise only first parents.

    Raises:
        UsageError: there is nothing between them.
    """
    if good == bad:
        raise UsageError("good and bad are the same commit", hint="give two different ones")
    reached = log.reachable([bad])
    base = None
    if good not in reached:
        bases = log.merge_bases(good, bad)
        if bad in bases:
            raise UsageError(
                "bad is an ancestor of good, so it cannot have broken it", hint="exchange --good and --bad"
            )
        if not bases:
            raise UsageError("good and bad have no common history", hint="name two commits of one history")
        base = bases[0]
    hidden = log.reachable([good])
    if everything:
        commits = log.topological({c: None for c in reached if c not in hidden})
        # Whatever order the walk took, the bad one contains all others.
        commits.remove(bad)
        commits.append(bad)
        if len(commits) > MAX_ALL:
            raise UsageError(
                f"{len(commits)} commits are too many for --all", hint="leave --all out, or narrow the range"
            )
    else:
        commits = log.first_parents(bad, hidden)[::-1]
    return Suspects(commits, base or good, log.parents, linear=not everything), base
