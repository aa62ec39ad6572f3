"""The check of a pull request: would the registry be in order if it were merged now?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gml.domain.errors import ConflictError, GmlError, NotFoundError
from gml.policy.errors import RefusedError
from gml.registry.branch import Change, View
from gml.registry.proposals import Proposal, merge_commit
from gml.registry.review import Comparison, report

if TYPE_CHECKING:
    from gml.git.port import Kind
    from gml.policy.view import Accepted
    from gml.registry.branch import Registry


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The outcome.

    Attributes:
        base: commit that would be merged into.
        head: commit that would be merged.
        accepted: changes that are in order.
        change: what is known about the change that is not, or the last one that is.
        problem: why it cannot be merged, None when it can.
        page: the report as Markdown.
    """

    base: str
    head: str
    accepted: tuple[Accepted, ...]
    change: Accepted | None
    problem: GmlError | None
    page: str


def check(
    registry: Registry, base: str, head: str, evidence: dict[str, Any] | None = None, key: str | None = None
) -> CheckReport:
    """Judge what merging `head` into `base` would do; nothing is written and no code is run.

    Args:
        registry: the registry.
        base: revision of the registry's branch.
        head: revision that is to be merged.
        evidence: reviews of a forge, see `gml.registry.forge`.
        key: SSH key of the service that vouches for them.

    Raises:
        NotFoundError: a revision is not here.
    """
    old, new = _commit(registry, base), _commit(registry, head)
    proposal = _Between(registry, new, old)
    accepted: list[Accepted] = []
    change: Accepted | None = None
    problem: GmlError | None = None
    try:
        objects: list[tuple[Kind, bytes]] = []
        tip = new
        if evidence is not None:
            tip, objects = proposal.with_evidence(evidence, key)
        tip, objects = proposal.onto(tip, objects)
        accepted = registry.judge(old, tip, objects)
        change = accepted[-1] if accepted else None
    except RefusedError as error:
        change, problem = error.change, error
    except GmlError as error:
        problem = error
    comparison = _comparison(registry, old, change)
    lines = [_line(each) for each in accepted if each.kind != "stage"]
    page = report(comparison, change, str(problem) if problem else None, lines)
    return CheckReport(old, new, tuple(accepted), change, problem, page)


def _line(change: Accepted) -> str:
    if change.kind == "policy":
        return f"policy version {change.seq}"
    if change.kind == "version":
        return ", ".join(f"{m} v{n}" for m, found in change.versions.items() for n in found) + " registered"
    return f"{change.model}: its record changed"


def _commit(registry: Registry, revision: str) -> str:
    from gml.git.revisions import peel

    oid = registry.store.resolve(revision)
    commit = peel(registry.store, oid, "commit") if oid is not None else None
    if commit is None:
        raise NotFoundError(f"{revision!r:.100} is not a commit here", hint="fetch it first")
    return commit


def _comparison(registry: Registry, base: str, change: Accepted | None) -> Comparison | None:
    if change is None or change.kind != "stage":
        return None
    view = View(registry.chain, base)
    try:
        return Comparison(registry, view, change.model, change.stage, change.version, change.before)
    except GmlError:
        return None


class _Between(Proposal):
    """A pull request: like a proposal, but against a base that is given."""

    def __init__(self, registry: Registry, tip: str, main: str) -> None:
        super().__init__(registry, tip[:12], tip)
        self._main = main
        at: str | None = tip
        while at is not None and not registry.store.is_ancestor(at, main):
            parents = registry.chain.commit(at).parents
            at = parents[0] if parents else None
        self.__dict__["base"] = at

    def onto(self, tip: str, objects: list[tuple[Kind, bytes]]) -> tuple[str, list[tuple[Kind, bytes]]]:
        """Return the merged state."""
        if self.base == self._main:
            return tip, objects
        if objects:
            raise ConflictError("the base has moved", hint="update the pull request, then count its reviews")
        return merge_commit(self.registry, self._main, self.base, tip)

    def with_evidence(self, payload: dict[str, Any], key: str | None) -> tuple[str, list[tuple[Kind, bytes]]]:
        """Return a commit on top that has the reviews as signed statements."""
        from gml.registry.forge import evidence_files

        view = View(self.registry.chain, self._main)
        if view.policy is None:
            raise NotFoundError("there is no policy that reviews could count for")
        files = evidence_files(self.registry, view.policy, self.record, payload, self.tip, key)
        fresh = {path: data for path, data in files.items() if self.tree.read(path) is None}
        if not fresh:
            return self.tip, []
        here = View(self.registry.chain, self.tip)
        return self.registry.make_commit(here, Change(fresh, "reviews\n"), (self.tip,))
