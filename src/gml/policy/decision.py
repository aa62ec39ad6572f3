"""The decision: may the registry go from one state to another by these commits?

One pure function, used unchanged by the client, the check of a pull request, the server's hook and
every consumer. It denies by default: what is not described here is refused.

Commits of the branch are judged one after another, each by the policy of the state before it. A change that
lacks nothing but approvals stays open, and the commits after it may bring them (a rebased pull request is
such a row of commits); until it is complete nothing else may happen, and a branch must not end with an open
change.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from gml.policy import names
from gml.policy.content import judge_content
from gml.policy.errors import RefusedError
from gml.policy.rules import read_policy
from gml.policy.signing import signer_of_commit
from gml.policy.staging import judge_policy, judge_stage
from gml.policy.view import MAX_CHANGES, MAX_SIDE, REGULAR, Accepted, Change

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gml.policy.rules import Policy
    from gml.policy.view import CommitFacts, Evidence, Step, Tree

MAX_OPEN: Final = 50
MAX_FILE: Final = 64 * 1024
MAX_AHEAD: Final = 3600
_HEADERS: Final = ("tree", "parent", "author", "committer", "gpgsig", "gpgsig-sha256", "encoding")
_SIGNATURES: Final = ("gpgsig", "gpgsig-sha256")


class EmptyTree:
    """The state before the first commit."""

    def read(self, path: str) -> bytes | None:  # noqa: ARG002
        """There is nothing."""
        return None

    def names(self, path: str) -> tuple[str, ...]:  # noqa: ARG002
        """There is nothing."""
        return ()

    def oid(self, path: str) -> str | None:  # noqa: ARG002
        """There is nothing."""
        return None


@dataclass(slots=True)
class Judge:
    """Walks the commits of the branch; keeps the last complete state.

    Attributes:
        evidence: answers what needs cryptography or the runs.
        base: the last complete state.
        policy: the policy of that state, None before the first.
        now: time of receipt in seconds since the epoch; None when the past is replayed, where the greatest
            commit time so far stands for it.
        clock: the greatest commit time so far.
    """

    evidence: Evidence
    base: Tree
    policy: Policy | None = None
    now: int | None = None
    clock: int = 0
    _open: list[Step] = field(default_factory=list)
    _changes: dict[str, Change] = field(default_factory=dict)
    _pending: RefusedError | None = None

    @classmethod
    def of(cls, evidence: Evidence, base: Tree | None, *, now: int | None = None, clock: int = 0) -> Judge:
        """Return a judge that starts at a complete state, None for nothing at all."""
        start = EmptyTree() if base is None else base
        data = start.read(names.POLICY_PATH)
        return cls(evidence, start, None if data is None else read_policy(data), now, clock)

    def step(self, step: Step) -> Accepted | None:
        """Judge the next commit.

        Returns:
            The change that is complete with it, None while approvals are missing.

        Raises:
            RefusedError: it is not allowed.
        """
        self._check_commit(step)
        self._open.append(step)
        for change in step.commit.changes:
            first = self._changes.get(change.path)
            old = first.old if first else change.old
            if old == change.new:
                self._changes.pop(change.path, None)
            else:
                self._changes[change.path] = Change(change.path, old, change.new)
        try:
            accepted = self._judge(step)
        except RefusedError as error:
            if not error.pending or len(self._open) >= MAX_OPEN:
                raise
            self._pending = error
            return None
        accepted = replace(
            accepted,
            commits=tuple(s.commit.id for s in self._open),
            policy=self.policy.digest if self.policy else None,
        )
        if accepted.kind == "policy":
            self.policy = read_policy(step.after.read(names.POLICY_PATH) or b"")
        self.base = step.after
        self._open.clear()
        self._changes.clear()
        self._pending = None
        return accepted

    @property
    def _at(self) -> int:
        """The time that expiry dates are compared with."""
        return self.clock if self.now is None else self.now

    def finish(self) -> None:
        """Refuse a branch that ends in the middle of a change.

        Raises:
            RefusedError: approvals are missing.
        """
        if self._pending is not None:
            raise self._pending

    def _judge(self, step: Step) -> Accepted:
        changes = self._whole_change(step)
        places = {}
        for path in changes:
            place = names.classify(path)
            if place is None:  # pragma: no cover - every commit of the row was looked at before
                raise RefusedError("path", f"{path!r} does not belong into a registry")
            places[path] = place
        kinds = {place.kind for place in places.values()}
        at = self._at
        if names.POLICY in kinds or names.POLICY_APPROVAL in kinds:
            return judge_policy(self.policy, self.base, step.after, places, self.evidence, at)
        if names.STAGE_RECORD in kinds or names.APPROVAL in kinds:
            authors = self._authors() if self.policy is not None else frozenset()
            return judge_stage(self.policy, self.base, step.after, places, self.evidence, at, authors)
        return judge_content(self.policy, self.base, step.after, places, self.evidence, at)

    def _whole_change(self, step: Step) -> dict[str, Change]:
        """Return what changed since the last complete state, after the rules that hold for every change."""
        changes = dict(self._changes)
        if self.base.oid(names.FORMAT_PATH) is None:
            if changes.pop(names.FORMAT_PATH, None) is None:
                raise RefusedError(
                    "format", f"the file {names.FORMAT_PATH!r} is missing: this is no registry"
                )
            if step.after.read(names.FORMAT_PATH) != names.FORMAT_FILE:
                raise RefusedError("format", f"the file {names.FORMAT_PATH!r} is not that of this format")
        elif names.FORMAT_PATH in changes:
            raise RefusedError("format", f"the file {names.FORMAT_PATH!r} must not change")
        if not changes:
            raise RefusedError("empty", "nothing is different from before")
        for change in changes.values():
            if change.new is None:
                raise RefusedError("deleted", f"{change.path} was deleted; records are never deleted")
        return changes

    def _check_commit(self, step: Step) -> None:
        commit = step.commit
        if commit.parents > 2:
            raise RefusedError("history", f"commit {commit.id[:12]} merges more than one branch")
        if self.now is not None and commit.time > self.now + MAX_AHEAD:
            raise RefusedError(
                "time", f"commit {commit.id[:12]} is dated in the future", hint="set your clock"
            )
        self.clock = max(self.clock, commit.time)
        for each in (commit, *step.side):
            self._check_one(each)
        if len(step.side) > MAX_SIDE:
            raise RefusedError("size", f"commit {commit.id[:12]} merges more than {MAX_SIDE} commits")
        if step.merged is not None:
            for change in commit.changes:
                if change.new is None or step.merged.oid(change.path) != change.new.oid:
                    raise RefusedError(
                        "merge", f"the merge {commit.id[:12]} changes {change.path}, unlike what it merges"
                    )

    def _check_one(self, commit: CommitFacts) -> None:
        short = commit.id[:12]
        for header in commit.headers:
            if header not in _HEADERS:
                raise RefusedError("header", f"commit {short} has the header {header!r:.40}")
        if sum(header in _SIGNATURES for header in commit.headers) > 1:
            raise RefusedError("header", f"commit {short} has more than one signature")
        if len(commit.changes) > MAX_CHANGES:
            raise RefusedError("size", f"commit {short} changes more than {MAX_CHANGES} files")
        for change in commit.changes:
            if names.classify(change.path) is None:
                raise RefusedError("path", f"{change.path!r:.200} does not belong into a registry")
            if change.new is not None:
                if change.new.mode != REGULAR:
                    raise RefusedError(
                        "mode", f"{change.path} has mode {change.new.mode:o}, not an ordinary file"
                    )
                if change.new.size > MAX_FILE:
                    raise RefusedError(
                        "size", f"{change.path} has {change.new.size} bytes, the limit is {MAX_FILE}"
                    )
        if self.policy is not None:
            signer = signer_of_commit(self.policy, commit, self.evidence, self._at)
            if self.policy.signed and signer not in self.policy.writers:
                raise RefusedError("unsigned", f"commit {short} is not signed by a writer of the policy")

    def _authors(self) -> frozenset[str]:
        """Return the persons who wrote the open change, other than by adding a statement of their own."""
        return frozenset(self._written_by(self._open))

    def _written_by(self, steps: Iterable[Step]) -> Iterator[str]:
        policy = self.policy
        assert policy is not None  # noqa: S101 - asked for only under a policy
        for step in steps:
            for commit in step.side if step.merged is not None else (step.commit,):
                by = {policy.by_email(commit.author)}
                if commit.signature is not None:
                    by.add(signer_of_commit(policy, commit, self.evidence, self._at))
                for person in by - {None}:
                    assert person is not None  # noqa: S101 - for the type checker
                    if not all(_own(change, person) for change in commit.changes):
                        yield person


def _own(change: Change, person: str) -> bool:
    place = names.classify(change.path)
    return place is not None and place.kind == names.APPROVAL and place.person == person


def judge(judge_: Judge, steps: Iterable[Step]) -> list[Accepted]:
    """Judge a row of commits from a complete state to a complete state.

    Raises:
        RefusedError: one of them is not allowed, or the last change lacks approvals.
    """
    accepted = [done for step in steps if (done := judge_.step(step)) is not None]
    judge_.finish()
    return accepted
