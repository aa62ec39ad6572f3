"""What the decision looks at: commits and trees as values, and questions that need the outside world.

Whoever calls the decision fills these in: from a repository in a hook, from a pull request in CI, from the
whole chain in a consumer, from dictionaries in a test.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gml.policy.records import Version
    from gml.policy.sshsig import PublicKey, SshSignature

REGULAR: Final = 0o100644
MAX_CHANGES: Final = 200
MAX_SIDE: Final = 200


@dataclass(frozen=True, slots=True)
class File:
    """An entry of a tree that is no directory: git's mode, an id that follows from the content, bytes."""

    mode: int
    oid: str
    size: int


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs between two trees; a missing side is None."""

    path: str
    old: File | None
    new: File | None


class Tree(Protocol):
    """The files of one state of the registry."""

    def read(self, path: str) -> bytes | None:
        """Return the content of a file, None where there is none."""

    def names(self, path: str) -> Sequence[str]:
        """Return the names in a directory; none where there is no directory."""

    def oid(self, path: str) -> str | None:
        """Return the id of a file, None where there is none."""


@dataclass(frozen=True, slots=True)
class CommitFacts:
    """One commit.

    Attributes:
        id: its object id.
        parents: how many it has.
        author: e-mail of the author: a claim.
        time: committer's seconds since the epoch: a claim.
        headers: names of all its headers, in order.
        signature: content of its one `gpgsig` header.
        payload: what that signature is about.
        changes: against its first parent.
    """

    id: str
    parents: int
    author: str
    time: int
    headers: tuple[str, ...]
    signature: str | None
    payload: bytes
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One commit of the branch with what it merged.

    Attributes:
        commit: the commit.
        after: the state after it.
        side: the commits that a merge brought in; none for other commits.
        merged: the state at the tip of what was merged, None for other commits.
    """

    commit: CommitFacts
    after: Tree
    side: tuple[CommitFacts, ...] = ()
    merged: Tree | None = None


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The outcome of one condition: the rule, whether it holds, the values that were compared."""

    rule: str
    ok: bool
    detail: str = ""


class Evidence(Protocol):
    """Questions whose answers need cryptography or the runs."""

    def signed(self, key: PublicKey, message: bytes, signature: SshSignature) -> bool:
        """Whether a key made a signature over a message. The namespace was compared before."""

    def problem(self, version: Version) -> str | None:
        """Return how a version contradicts the run it names; None where nothing does or no run is here."""

    def format_class(self, version: Version) -> str:
        """Return the worst class of format among the version's files as far as they can be seen."""

    def check(self, rule: str, version: Version, champion: Version | None) -> CheckResult:
        """Evaluate a condition over the recorded run of a version and that of the one it would replace."""


@dataclass(frozen=True, slots=True)
class Vote:
    """A statement that was found.

    Attributes:
        person: whose.
        type: `request`, `approval`, `rejection`, `evidence` or `policy-approval`.
        counted: whether it counts towards the threshold.
        why: why it does not count.
        comment: what the person wrote.
    """

    person: str
    type: str
    counted: bool
    why: str = ""
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Accepted:
    """One change that was found in order.

    Attributes:
        kind: `version`, `meta`, `stage` or `policy`.
        commits: ids of the commits of the branch that made it, oldest first; it holds from the last one on.
        model: name of the model; empty for a policy.
        stage: name of the stage, for a stage.
        seq: turn of the stage, or number of the policy.
        version: version that the stage holds now, or that was registered (the last of several).
        before: version that the stage held before.
        versions: numbers of all versions that were registered.
        requester: who asked for a stage change under a policy.
        votes: statements.
        checks: outcomes of the conditions.
        threshold: how many persons had to approve.
        policy: digest of the policy that was in force, None before the first.
    """

    kind: str
    commits: tuple[str, ...] = ()
    model: str = ""
    stage: str = ""
    seq: int = 0
    version: int | None = None
    before: int | None = None
    versions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    requester: str = ""
    votes: tuple[Vote, ...] = ()
    checks: tuple[CheckResult, ...] = ()
    threshold: int = 0
    policy: str | None = None
