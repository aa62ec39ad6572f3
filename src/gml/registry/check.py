"""The check of a pull request: would the registry be in order if it were merged now?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gml.domain.errors import ConflictError, GmlError, NotFoundError, PolicyError, UsageError
from gml.policy import names
from gml.policy.errors import RefusedError
from gml.policy.view import MAX_CHANGES
from gml.registry.branch import Change, View
from gml.registry.proposals import Proposal, merge_commit
from gml.registry.review import Comparison, report
from gml.registry.states import compare

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
        recorded: persons whose reviews were committed; `head` is that commit then.
    """

    base: str
    head: str
    accepted: tuple[Accepted, ...]
    change: Accepted | None
    problem: GmlError | None
    page: str
    recorded: tuple[str, ...] = ()


def check(
    registry: Registry,
    base: str,
    head: str,
    evidence: dict[str, Any] | None = None,
    key: str | None = None,
    record: str | None = None,
) -> CheckReport:
    """Judge what merging `head` into `base` would do; no code is run.

    Reviews of a forge count once they are in the branch as signed statements: who merges a branch without
    them merges something that no consumer accepts. `record` puts them there.

    Args:
        registry: the registry.
        base: revision of the registry's branch.
        head: revision that is to be merged.
        evidence: reviews of a forge, see `gml.registry.forge`.
        key: SSH key of the service that vouches for them.
        record: full name of a ref; it is set to a commit on top of `head` that holds them. Nothing is
            written without.

    Raises:
        NotFoundError: a revision is not here.
    """
    old, new = _commit(registry, base), _commit(registry, head)
    proposal = _Between(registry, new, old)
    accepted: list[Accepted] = []
    change: Accepted | None = None
    problem: GmlError | None = None
    persons: tuple[str, ...] = ()
    tip, kept = new, False
    try:
        objects: list[tuple[Kind, bytes]] = []
        if evidence is not None:
            tip, objects, persons = proposal.with_evidence(evidence, key)
        if objects and record is not None:
            registry.store.write_pack(objects)
            registry.judge(old, *proposal.onto(tip, []), complete=False)
            registry.move(record, registry.store.ref(record), tip, [], "reviews")
            objects, kept = [], True
        merged, objects_ = proposal.onto(tip, objects)
        accepted = registry.judge(old, merged, objects_)
        change = accepted[-1] if accepted else None
        if persons and record is None:
            problem = PolicyError(
                f"the reviews of {', '.join(persons)} count, and the branch does not hold them yet",
                hint="--record REF commits them; push that to the branch of the pull request",
            )
    except RefusedError as error:
        change, problem = error.change, error
    except GmlError as error:
        problem = error
    comparison = _comparison(registry, old, change)
    lines = [_line(each) for each in accepted if each.kind != "stage"]
    page = report(comparison, change, str(problem) if problem else None, lines)
    if not kept:
        tip, persons = new, ()
    return CheckReport(old, tip, tuple(accepted), change, problem, page, persons)


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

    def with_evidence(
        self, payload: dict[str, Any], key: str | None
    ) -> tuple[str, list[tuple[Kind, bytes]], tuple[str, ...]]:
        """Return a commit on top that has the reviews as signed statements, and whose they are."""
        from gml.registry.forge import evidence_files, read_reviews

        policy = View(self.registry.chain, self._main).policy
        if policy is None:
            raise NotFoundError("there is no policy that reviews could count for")
        reviews = read_reviews(payload)
        if reviews.head != self.tip:
            raise UsageError(f"the reviews are of {reviews.head[:12]}, judged is {self.tip[:12]}")
        files = evidence_files(self.registry, policy, self.record, reviews, key, self._says_the_same)
        fresh = {path: data for path, data in files.items() if self.tree.read(path) is None}
        if not fresh:
            return self.tip, [], ()
        persons = tuple(sorted(path.rpartition("/")[2].removesuffix(".json") for path in fresh))
        message = f"{self.record.model}: reviews of {', '.join(persons)}\n"
        here = View(self.registry.chain, self.tip)
        return *self.registry.make_commit(here, Change(fresh, message), (self.tip,)), persons

    def _says_the_same(self, reviewed: str) -> bool:
        """Whether the head differs from a reviewed commit only in later statements and what the base has."""
        chain = self.registry.chain
        if reviewed == self.tip:
            return True
        try:
            before, after = chain.commit(reviewed).tree, chain.commit(self.tip).tree
            changes = compare(chain.directories, before, after, MAX_CHANGES)
        except RefusedError:
            return False
        base = chain.tree(self._main)
        for change in changes:
            place = names.classify(change.path)
            statement = place is not None and place.kind == names.APPROVAL and change.old is None
            known = change.new is not None and base.oid(change.path) == change.new.oid
            if not statement and not known:
                return False
        return True
