"""Where the code of a run is in a history that may have been rewritten since.

A run records the commit that was checked out. Rebase, squash and amend replace commits, so a run is
placed by the first of these that applies:

1. commit: its recorded commit is one of the wanted ones.
2. branch: it was recorded on the wanted branch name (only where a branch is asked for).
3. Its recorded commit is elsewhere in the same history: the run belongs there and not here.
4. tree: its code is, file by file, that of a wanted commit.
5. Its recorded commit is still held by some branch or tag: it was not rewritten, and belongs there.
6. patch: a wanted commit makes the same change (`git patch-id`): rebase and cherry-pick. Where author, date
   and subject changed too, it is searched for among the first 2,000.
7. author: exactly one wanted commit has its author, author date and subject: amend.
"""

from __future__ import annotations

from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Container, Sequence

    from gml.git.log import CommitLog
    from gml.tracking.code.facts import Facts

COMMIT: Final = "commit"
BRANCH: Final = "branch"
TREE: Final = "tree"
PATCH: Final = "patch"
AUTHOR: Final = "author"

ELSEWHERE: Final = "elsewhere"
LOST: Final = "lost"
# A patch id costs about a millisecond. Only what lost its author or date as well has to be searched for.
MAX_PATCHES: Final = 2_000
UNKNOWN: Final = "unknown"


class Place(NamedTuple):
    """Where a run is.

    Attributes:
        commit: the wanted commit that it belongs to, None when it belongs to none or only to the branch.
        how: COMMIT, BRANCH, TREE, PATCH or AUTHOR; for runs that do not belong: ELSEWHERE (the recorded
            commit is on another branch), LOST (it is on no branch, or not here), UNKNOWN (none recorded).
    """

    commit: str | None
    how: str

    @property
    def found(self) -> bool:
        """Whether the run belongs to the wanted commits."""
        return self.how in {COMMIT, BRANCH, TREE, PATCH, AUTHOR}


class Places:
    """Places runs among wanted commits. Everything about commits is computed once.

    Args:
        log: the repository's commits.
        wanted: the commits; where several have the same tree, the first counts.
        history: commits whose runs have a place already; includes the wanted ones.
        branch: short name of the branch that is asked for.
        trees_first: let rule 4 go before rule 3.
    """

    def __init__(
        self,
        log: CommitLog,
        wanted: Sequence[str],
        history: Container[str],
        *,
        branch: str | None = None,
        trees_first: bool = False,
    ) -> None:
        self._log = log
        self._wanted = dict.fromkeys(wanted)
        self._history = history
        self._branch = branch
        self._trees_first = trees_first
        self._rewritten: dict[str, Place] = {}

    def place(self, facts: Facts) -> Place:
        """Return where a run is."""
        commit = facts.commit
        if commit is not None and commit in self._wanted:
            return Place(commit, COMMIT)
        if self._branch is not None and facts.branch == self._branch:
            return Place(None, BRANCH)
        known = commit is not None and commit in self._history
        if known and not self._trees_first:
            return Place(None, ELSEWHERE)
        same = self._by_tree(facts)
        if same is not None:
            return Place(same, TREE)
        if commit is None:
            return Place(None, UNKNOWN)
        if known:
            return Place(None, ELSEWHERE)
        if commit not in self._rewritten:
            self._rewritten[commit] = self._by_change(commit)
        found = self._rewritten[commit]
        # What was recorded on another branch is not missed on this one.
        return Place(None, ELSEWHERE) if found.how == LOST and self._branch and facts.branch else found

    def _by_tree(self, facts: Facts) -> str | None:
        found = self._trees.get(facts.tree or "")
        if found is None and facts.commit is not None:
            # A dirty run counts for the commit that it is based on.
            found = self._trees.get(self._log.tree(facts.commit) or "")
        return found

    def _by_change(self, commit: str) -> Place:
        if self._log.links(commit) is None:
            return Place(None, LOST)
        if commit in self._alive:
            return Place(None, ELSEWHERE)
        patch = self._log.patch_id(commit)
        signature = self._log.signature(commit)
        alike = self._signatures.get(signature or "", [])
        if patch is not None:
            near = [c for c in alike if self._log.patch_id(c) == patch]
            if near:
                return Place(near[0], PATCH)
            if not alike and patch in self._patches:
                return Place(self._patches[patch], PATCH)
        if len(alike) == 1:
            return Place(alike[0], AUTHOR)
        return Place(None, LOST)

    @cached_property
    def _trees(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for commit in self._wanted:
            found.setdefault(self._log.tree(commit) or "?", commit)
        return found

    @cached_property
    def _alive(self) -> Container[str]:
        return self._log.reachable(self._log.live_tips())

    @cached_property
    def _signatures(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for commit in self._wanted:
            found.setdefault(self._log.signature(commit) or "?", []).append(commit)
        return found

    @cached_property
    def _patches(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for commit in islice(self._wanted, MAX_PATCHES):
            found.setdefault(self._log.patch_id(commit) or "?", commit)
        return found


_WORDS: Final = {
    BRANCH: "by the recorded branch name",
    TREE: "by tree",
    PATCH: "by patch",
    AUTHOR: "by author, date and subject",
}


def explain(places: Counter[str], what: str = "runs") -> list[str]:
    """Return the lines that say how runs were matched where it was not by their commit.

    Args:
        places: how many runs have which `Place.how`.
        what: what the runs are called.
    """
    lines = []
    total = sum(places[how] for how in (COMMIT, *_WORDS))
    others = [f"{places[how]} {words}" for how, words in _WORDS.items() if places[how]]
    if others:
        lines.append(f"of {total} {what}, matched otherwise than by commit: {', '.join(others)}")
    if places[LOST]:
        lines.append(
            f"left out: {places[LOST]} {what} whose commit is on no branch here and matches nothing"
            " (rewritten or not fetched)"
        )
    return lines


def branch_places(log: CommitLog, name: str, recorded: Container[str | None] = ()) -> Places:
    """Return the places on a branch: on its own commits, those not on the main line.

    Of the main line itself, and where no main line is found, all commits are wanted. Of a branch that was
    merged, its own commits are those that the merge brought in; of one that was fast-forwarded into the
    main line only the recorded branch name tells.

    Args:
        log: the repository's commits.
        name: the branch, also a remote one, or HEAD.
        recorded: branch names that runs have recorded: a branch may be gone by now.

    Raises:
        NotFoundError: neither a branch nor a run has this name.
    """
    from gml.domain.errors import NotFoundError

    short, tips = log.branch_tips(name)
    if not tips:
        if short in recorded:
            return Places(log, (), (), branch=short)
        from difflib import get_close_matches

        near = get_close_matches(short, log.branches(), 1)
        hint = (
            f"did you mean {near[0]!r}?"
            if near
            else "`git branch -a` shows them; --commit takes any revision"
        )
        raise NotFoundError(f"no branch and no run's branch is named {name!r}", hint=hint)
    main = log.main_line()
    reached = log.reachable(tips)
    main_tips = log.branch_tips(main)[1] if main is not None and main != short else []
    if not main_tips:
        return Places(log, list(reached), reached, branch=short)
    trunk = log.reachable(main_tips)
    own = [commit for commit in reached if commit not in trunk]
    if not own:
        own = merged_commits(log, tips[0], main_tips[0])
    return Places(log, own, {**reached, **trunk}, branch=short)


def merged_commits(log: CommitLog, tip: str, main: str) -> list[str]:
    """Return the commits that the merge of a branch brought into another; none after a fast-forward."""
    before = before_merge(log, tip, main)
    if before is None:
        return []
    hidden = log.reachable([before])
    return [commit for commit in log.reachable([tip]) if commit not in hidden]


def before_merge(log: CommitLog, tip: str, main: str) -> str | None:
    """Return the commit of `main` just before `tip` was merged into it; None if no merge brought it in."""
    line = log.first_parents(main)
    if not line or tip in line:
        return None
    # The first-parent commits from which the tip can be reached are the newest ones: search their end.
    low, high = -1, len(line)
    while high - low > 1:
        middle = (low + high) // 2
        if tip in log.reachable([line[middle]]):
            low = middle
        else:
            high = middle
    return line[low + 1] if 0 <= low < len(line) - 1 else None
