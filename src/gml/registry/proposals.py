"""Proposal branches: a change that waits for approvals, as a branch that a pull request can be made of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from gml import fs
from gml.domain.errors import ConflictError, GmlError, NotFoundError
from gml.policy import names
from gml.policy.errors import RefusedError
from gml.policy.records import read_stage
from gml.policy.view import MAX_CHANGES
from gml.registry.branch import Change, View
from gml.registry.states import compare

if TYPE_CHECKING:
    from gml.git.port import Kind
    from gml.policy.records import Stage
    from gml.policy.view import Accepted
    from gml.registry.branch import Registry
    from gml.registry.states import GitTree


def slug(record: Stage) -> str:
    """Return the last part of the name of a proposal branch.

    Example:
        >>> from gml.policy.records import Stage
        >>> slug(Stage("churn", "Production", 2, None, 4, "0" * 64))
        'churn-4-production-2'
    """
    return f"{record.model}-{record.version or 'none'}-{record.stage.lower()}-{record.seq}"


@dataclass
class Proposal:
    """One proposal branch.

    Attributes:
        registry: where it is.
        name: last part of its name.
        tip: its newest commit.
    """

    registry: Registry
    name: str
    tip: str

    @property
    def branch(self) -> str:
        """Its full ref name."""
        return f"{self.registry.proposals}{self.name}"

    @property
    def tree(self) -> GitTree:
        """The state that it proposes."""
        return self.registry.chain.tree(self.tip)

    @cached_property
    def base(self) -> str | None:
        """The commit of the registry's branch that it started from, None where it shares none."""
        registry, main = self.registry, self.registry.tip()
        at: str | None = self.tip
        while at is not None and main is not None and not registry.store.is_ancestor(at, main):
            parents = registry.chain.commit(at).parents
            at = parents[0] if parents else None
        return at

    @cached_property
    def changed(self) -> list[str]:
        """The paths that it changes."""
        registry = self.registry
        base = registry.chain.commit(self.base).tree if self.base else None
        tree = registry.chain.commit(self.tip).tree
        return [change.path for change in compare(registry.chain.directories, base, tree, MAX_CHANGES)]

    @cached_property
    def record(self) -> Stage:
        """The stage record that it proposes.

        Raises:
            NotFoundError: it proposes no change of a stage.
        """
        for path in self.changed:
            place = names.classify(path)
            if place is not None and place.kind == names.STAGE_RECORD:
                return read_stage(self.tree.read(path) or b"", path)
        raise NotFoundError(f"{self.name} proposes no change of a stage")

    @property
    def is_policy(self) -> bool:
        """Whether it proposes another policy."""
        return names.POLICY_PATH in self.changed

    def add(self, files: dict[str, bytes], message: str) -> None:
        """Add statements in a commit of their own, if the decision accepts them.

        Raises:
            PolicyError: it does not; nothing was written.
        """
        registry = self.registry
        local = registry.store.ref(self.branch)
        with fs.locked(registry.workspace.state_dir / "registry.lock"):
            view = View(registry.chain, self.tip)
            commit, objects = registry.make_commit(view, Change(files, message), (self.tip,))
            if commit == self.tip:
                raise ConflictError("this was said already")
            registry.judge(self.base, commit, objects, complete=False)
            registry.move(self.branch, local, commit, objects, message)
        self.tip = commit
        self.__dict__.pop("changed", None)

    def merged(self) -> tuple[str, list[tuple[Kind, bytes]]]:
        """Return the commit that the branch would be at after a merge, and the objects it needs.

        Raises:
            ConflictError: the branch has changed the same files since.
        """
        registry = self.registry
        main = registry.tip()
        if self.base == main or main is None:
            return self.tip, []
        return merge_commit(registry, main, self.base, self.tip)

    def look(self) -> tuple[Accepted | None, GmlError | None]:
        """Return what is known about the change, and what stands in its way."""
        try:
            new, objects = self.merged()
            accepted = self.registry.judge(self.registry.tip(), new, objects)
        except RefusedError as error:
            return error.change, error
        except GmlError as error:
            return None, error
        return accepted[-1], None

    def merge(self) -> tuple[str, list[Accepted]]:
        """Move the registry's branch to the merged state and remove the local proposal branch.

        Raises:
            PolicyError: approvals are missing, or it is not allowed.
            ConflictError: the branch has changed the same files since.
        """
        registry = self.registry
        with fs.locked(registry.workspace.state_dir / "registry.lock"):
            registry.check_not_checked_out(registry.branch)
            local, main = registry.store.ref(registry.branch), registry.tip()
            new, objects = self.merged()
            accepted = registry.judge(main, new, objects)
            registry.move(registry.branch, local, new, objects, f"merge {self.name}")
            mine = registry.store.ref(self.branch)
            if mine is not None:
                registry.store.delete_ref(self.branch, expected=mine)
        return new, accepted


def merge_commit(
    registry: Registry, main: str, base: str | None, tip: str
) -> tuple[str, list[tuple[Kind, bytes]]]:
    """Return a merge of two tips that changed different files, and the objects it needs; nothing is written.

    Raises:
        ConflictError: both changed the same file since `base`.
    """
    chain = registry.chain
    mine, theirs = chain.tree(main), chain.tree(tip)
    start = chain.tree(base) if base is not None else None
    files, both = {}, []
    tree_before = start.root if start is not None else None
    for change in compare(chain.directories, tree_before, theirs.root, MAX_CHANGES):
        old = start.oid(change.path) if start is not None else None
        if mine.oid(change.path) not in {old, theirs.oid(change.path)}:
            both.append(change.path)
        files[change.path] = theirs.read(change.path) or b""
    if both:
        # The records before the statements about them.
        path = min(both, key=lambda path: (path.startswith("approvals/"), path))
        raise ConflictError(
            f"{path} was changed on the registry's branch since this was proposed",
            hint="propose it again on top of what is there now",
        )
    message = f"merge {tip[:12]}\n"
    return registry.make_commit(View(chain, main), Change(files, message), (main, tip))


def all_proposals(registry: Registry) -> list[Proposal]:
    """Return the proposals that are not merged yet, by name."""
    found = []
    main = registry.tip()
    for name in registry.proposal_names():
        tip = registry.proposal_tip(name)
        if tip is not None and not (main is not None and registry.store.is_ancestor(tip, main)):
            found.append(Proposal(registry, name, tip))
    return found


def find_proposal(registry: Registry, view: View, model: str, version: int | None, stage: str) -> Proposal:
    """Return the proposal that would put a version into a stage now.

    Raises:
        NotFoundError: there is none.
    """
    from gml.registry.stages import check_known_stage, next_record

    record = next_record(view, model, check_known_stage(view, stage), version)
    tip = registry.proposal_tip(slug(record))
    if tip is None:
        names_ = [each for each in registry.proposal_names() if each.startswith(f"{model}-")]
        hint = (
            f"there is {', '.join(names_[:3])}"
            if names_
            else f"`gml registry promote {model} ...` proposes it"
        )
        raise NotFoundError(f"nobody proposes {slug(record)}", hint=f"fetch, or {hint}")
    return Proposal(registry, slug(record), tip)
