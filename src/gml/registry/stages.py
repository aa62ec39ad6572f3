"""Changing stages: at once where nobody has to approve, by a proposal branch where the policy says so."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from gml.domain.errors import ConflictError, NotFoundError, PolicyError, UsageError
from gml.policy import names, records
from gml.policy.canonical import digest
from gml.policy.records import NAMESPACE_APPROVAL, Stage, StageStatement, encode_statement
from gml.registry.branch import Change
from gml.registry.identity import signer_of
from gml.registry.proposals import Proposal, find_proposal, slug
from gml.registry.review import Comparison
from gml.registry.tags import write_tags

if TYPE_CHECKING:
    from gml.policy.rules import Policy
    from gml.policy.view import Accepted
    from gml.registry.branch import Registry, View
    from gml.registry.identity import Actor

VALID_DAYS: Final = 30


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request.

    Attributes:
        change: the change, when it is done.
        proposal: name of the proposal branch, when it waits for approvals.
        commit: the commit that was made.
        seq: turn of the stage.
        version: version that the stage holds, or shall hold.
        message: the review page.
    """

    change: Accepted | None
    proposal: str | None
    commit: str
    seq: int
    version: int | None
    message: str


def next_record(view: View, model: str, stage: str, version: int | None) -> Stage:
    """Return the record that the next change of a stage writes.

    Raises:
        NotFoundError: there is no such version.
        ConflictError: the stage holds it already.
    """
    path = names.stage_path(model, stage)
    old = view.read(path)
    before = view.stage(model, stage)
    if (before.version if before else None) == version:
        held = f"v{version}" if version else "nothing"
        raise ConflictError(f"{stage} of {model} holds {held} already")
    target = view.version(model, version) if version is not None else None
    return Stage(
        model=model,
        stage=stage,
        seq=before.seq + 1 if before else 1,
        prev=digest(old) if old is not None else None,
        version=version,
        digest=target.digest if target else None,
    )


def check_known_stage(view: View, stage: str) -> str:
    """Return a stage that may be used here.

    Raises:
        PolicyError: the policy has no such stage; names the nearest.
    """
    names.check_stage(stage)
    policy = view.policy
    if policy is not None and stage not in policy.stages:
        from difflib import get_close_matches

        near = get_close_matches(stage, policy.stages, 1) or [
            each for each in policy.stages if each.lower() == stage.lower()
        ]
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(policy.stages) or 'none'}"
        raise PolicyError(f"the policy has no stage {stage!r}", hint=hint)
    return stage


def statement(
    policy: Policy, record: Stage, person: str, kind: str, *, days: int | None, comment: str = ""
) -> StageStatement:
    """Return what a person is to sign about a change of a stage."""
    return StageStatement(
        type=kind,
        repo=policy.repo,
        policy=policy.digest,
        model=record.model,
        stage=record.stage,
        seq=record.seq,
        prev=record.prev,
        version=record.version,
        digest=record.digest,
        person=person,
        expires=int(time.time()) + days * 86_400 if days is not None else None,
        comment=comment,
    )


def signed_file(said: StageStatement, actor: Actor) -> dict[str, bytes]:
    """Return path and bytes of a signed statement."""
    path = names.approval_path(said.model, said.stage, said.seq, said.person)
    return {path: encode_statement(said, actor.sign(said.payload(), NAMESPACE_APPROVAL))}


def promote(
    registry: Registry,
    name: str,
    version: int | None,
    stage: str,
    *,
    comment: str = "",
    key: str | None = None,
) -> Outcome:
    """Put a version into a stage, or propose it where the policy asks for approvals.

    Args:
        registry: the registry.
        name: of the model.
        version: number, None to empty the stage.
        stage: name of the stage.
        comment: for the reviewers.
        key: SSH key to sign the request with.

    Raises:
        NotFoundError: there is no such model or version.
        ConflictError: the stage holds it already, or it is proposed already.
        PolicyError: the policy does not allow it.
    """
    made: list[tuple[Stage, str]] = []

    def build(view: View) -> Change:
        model = view.key(name)
        record = next_record(view, model, check_known_stage(view, stage), version)
        before = view.stage(model, stage)
        page = Comparison(registry, view, model, stage, version, before.version if before else None)
        files = {names.stage_path(model, stage): record.encode()}
        if view.policy is not None:
            actor = signer_of(registry, view, key)
            said = statement(view.policy, record, actor.name, records.REQUEST, days=None, comment=comment)
            files |= signed_file(said, actor)
        message = page.message(comment)
        made[:] = [(record, message)]
        return Change(files, message)

    view = registry.view()
    rule = view.policy.stages.get(stage) if view.policy is not None else None
    if rule is not None and rule.threshold > 0:
        change = build(view)
        record, message = made[0]
        branch = f"{registry.proposals}{slug(record)}"
        if registry.proposal_tip(slug(record)) is not None:
            raise ConflictError(
                f"{branch.removeprefix('refs/heads/')} exists already",
                hint="`gml registry pending` shows what it waits for",
            )
        parents = (view.commit,) if view.commit else ()
        commit, objects = registry.make_commit(view, change, parents)
        registry.judge(view.commit, commit, objects, complete=False)
        registry.move(branch, None, commit, objects, message)
        return Outcome(None, slug(record), commit, record.seq, version, message)
    commit, accepted = registry.commit(build)
    write_tags(registry, accepted)
    record, message = made[0]
    return Outcome(accepted[-1], None, commit, record.seq, version, message)


def revert(
    registry: Registry, name: str, stage: str, *, comment: str = "", key: str | None = None
) -> Outcome:
    """Put the version back that a stage held before the present one.

    Raises:
        NotFoundError: the stage never held another version.
    """
    from gml.registry.history import stage_changes

    view = registry.view()
    model = view.key(name)
    changes = list(islice(stage_changes(registry, view, model, stage), 2))
    if not changes:
        raise NotFoundError(f"{stage} of {model} never held anything")
    before = changes[1].record.version if len(changes) > 1 else None
    return promote(registry, model, before, stage, comment=comment or "revert", key=key)


def vote(
    registry: Registry,
    name: str,
    version: int | None,
    stage: str,
    *,
    reject: bool = False,
    comment: str = "",
    days: int = VALID_DAYS,
    key: str | None = None,
) -> Proposal:
    """Sign an approval or a rejection and add it to the proposal.

    Raises:
        NotFoundError: nobody proposed this.
        PolicyError: the policy does not know the key, or the statement would not be accepted.
    """
    if days < 1:
        raise UsageError("an approval must be valid for at least a day")
    view = registry.view()
    proposal = find_proposal(registry, view, view.key(name), version, stage)
    policy = view.policy
    if policy is None:
        raise PolicyError("there is no policy, so there is nothing to approve", hint="`gml registry promote`")
    actor = signer_of(registry, view, key)
    kind = records.REJECT if reject else records.APPROVE
    said = statement(policy, proposal.record, actor.name, kind, days=days, comment=comment)
    path = names.approval_path(said.model, said.stage, said.seq, said.person)
    known = proposal.tree.read(path)
    if known is not None and records.read_stage_statement(known, path)[0].type == records.REQUEST:
        raise PolicyError(
            f"{actor.name} asked for this change and cannot also decide about it", hint="somebody else has to"
        )
    verb = "reject" if reject else "approve"
    held = f"v{version}" if version is not None else "nothing"
    message = f"{proposal.record.model}: {verb} {held} for {stage}\n"
    if comment:
        message += f"\n{comment}\n"
    proposal.add(signed_file(said, actor), message)
    return proposal


def merge(registry: Registry, name: str, version: int | None, stage: str) -> Outcome:
    """Bring a proposal that is complete onto the branch, and tag it.

    Raises:
        NotFoundError: nobody proposed this.
        PolicyError: approvals are missing, or it is not allowed.
    """
    view = registry.view()
    proposal = find_proposal(registry, view, view.key(name), version, stage)
    commit, accepted = proposal.merge()
    write_tags(registry, accepted)
    return Outcome(accepted[-1], None, commit, proposal.record.seq, version, "")
