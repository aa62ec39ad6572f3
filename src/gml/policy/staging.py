"""Changes of stages and of the policy: those that people have to approve."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from gml.policy import names, records
from gml.policy.canonical import digest
from gml.policy.content import check_twin
from gml.policy.errors import RefusedError
from gml.policy.records import (
    NAMESPACE_APPROVAL,
    PolicyStatement,
    Stage,
    StageStatement,
    Version,
    read_model,
    read_policy_statement,
    read_stage,
    read_stage_statement,
    read_version,
)
from gml.policy.rules import read_policy
from gml.policy.signing import check_signature
from gml.policy.view import Accepted, Vote

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from gml.policy.names import Place
    from gml.policy.rules import Policy, StageRule
    from gml.policy.view import CheckResult, Evidence, Tree

LOOK_BACK: Final = 50


def judge_stage(
    policy: Policy | None,
    base: Tree,
    after: Tree,
    places: Mapping[str, Place],
    evidence: Evidence,
    at: int,
    authors: frozenset[str],
) -> Accepted:
    """Judge the change of one stage with the statements about it; see `gml.policy.decision`.

    Args:
        policy: in force before the change, None before the first.
        base: the state before.
        after: the state after.
        places: what changed.
        evidence: answers what needs cryptography or the runs.
        at: when it was received, seconds since the epoch.
        authors: persons who wrote the change; their approval does not count.

    Raises:
        RefusedError: it is not allowed; `pending` when only approvals are missing.
    """
    path = _single(places)
    place = places[path]
    record, before = _record(base, after, path, place)
    check_twin(base, f"models/{place.model}/stages", f"{place.stage}.json")
    version = _target(base, record, path)
    done = Accepted(
        "stage", model=record.model, stage=record.stage, seq=record.seq, version=record.version,
        before=before.version if before else None,
    )  # fmt: skip
    statements = [each for each in places if places[each].kind == names.APPROVAL]
    if policy is None:
        if statements:
            raise RefusedError("approvals", f"{statements[0]}: there is no policy to approve anything by")
        return done
    rule = policy.stages.get(record.stage)
    if rule is None:
        raise RefusedError("stage", f"{path}: the policy has no stage {record.stage}")
    champion = _champion(base, before)
    checks = _conditions(rule, base, record, version, champion, evidence)
    found = {
        each: _statement(policy, after, each, places[each], record, evidence, at)
        for each in sorted(statements)
    }
    requester = _requester(policy, found.values(), record)
    votes = _count(rule, found.values(), version, authors)
    done = replace(done, requester=requester, votes=votes, checks=checks, threshold=rule.threshold)
    _check_votes(rule, done)
    return done


def _single(places: Mapping[str, Place]) -> str:
    """Return the one stage record among what changed, if everything else is statements about it."""
    paths = [path for path, place in places.items() if place.kind == names.STAGE_RECORD]
    if len(paths) != 1:
        what = "statements without the change they are about" if not paths else f"{len(paths)} stages at once"
        raise RefusedError("stage", f"{what}: each change of a stage stands alone")
    place = places[paths[0]]
    for path, other in places.items():
        if path != paths[0] and (other.kind, other.model, other.stage) != (
            names.APPROVAL, place.model, place.stage,
        ):  # fmt: skip
            raise RefusedError(
                "stage", f"{path} was changed together with {paths[0]}, which must stand alone"
            )
    return paths[0]


def _record(base: Tree, after: Tree, path: str, place: Place) -> tuple[Stage, Stage | None]:
    record = read_stage(after.read(path) or b"", path)
    if (record.model, record.stage) != (place.model, place.stage):
        raise RefusedError("stage", f"{path} says that it is {record.stage} of {record.model}")
    old = base.read(path)
    before = read_stage(old, path) if old is not None else None
    expected = before.seq + 1 if before else 1
    if record.seq != expected:
        raise RefusedError("stage", f"{path} has seq {record.seq}, the next one is {expected}")
    if record.prev != (digest(old) if old is not None else None):
        raise RefusedError("stage", f"{path}: prev is not the digest of the record before")
    if record.version == (before.version if before else None):
        raise RefusedError("stage", f"{path}: {record.stage} holds that version already")
    return record, before


def _target(base: Tree, record: Stage, path: str) -> Version | None:
    """Return the version that a stage shall hold; it must have been registered in an earlier change."""
    if record.version is None:
        return None
    where = names.version_path(record.model, record.version)
    data = base.read(where)
    if data is None:
        raise RefusedError("version", f"{path}: {record.model} v{record.version} was not registered before")
    version = read_version(data, where)
    if version.digest != record.digest:
        raise RefusedError("digest", f"{path} has another digest than {record.model} v{record.version}")
    meta = base.read(names.meta_path(record.model))
    note = read_model(meta, names.meta_path(record.model)).versions.get(str(record.version)) if meta else None
    if note is not None and note.status is not None:
        raise RefusedError("version", f"{path}: {record.model} v{record.version} is {note.status}")
    return version


def _champion(base: Tree, before: Stage | None) -> Version | None:
    if before is None or before.version is None:
        return None
    where = names.version_path(before.model, before.version)
    return read_version(base.read(where) or b"", where)


def _conditions(
    rule: StageRule,
    base: Tree,
    record: Stage,
    version: Version | None,
    champion: Version | None,
    evidence: Evidence,
) -> tuple[CheckResult, ...]:
    """Check `from`, `formats` and `checks`; a stage may always be emptied."""
    if version is None:
        return ()
    back = _held_before(base, record)
    if rule.from_stage is not None and not back:
        where = names.stage_path(record.model, rule.from_stage)
        data = base.read(where)
        holder = read_stage(data, where) if data is not None else None
        if holder is None or (holder.version, holder.digest) != (record.version, record.digest):
            raise RefusedError(
                "from",
                f"{record.model} v{record.version} is not in {rule.from_stage}, from where it must come",
            )
    for found in (version.format_class, evidence.format_class(version)):
        if found not in rule.formats:
            raise RefusedError(
                "format", f"{record.model} v{record.version} is in a {found} format; "
                f"{rule.name} takes {', '.join(rule.formats)}",
            )  # fmt: skip
    # Going back must not depend on being better than what is gone back from.
    rules = [each for each in rule.checks if not (back and "champion." in each)]
    results = tuple(evidence.check(each, version, champion) for each in rules)
    for result in results:
        if not result.ok:
            change = Accepted(
                "stage", model=record.model, stage=record.stage, seq=record.seq, version=record.version,
                before=champion.version if champion else None, checks=results,
            )  # fmt: skip
            raise RefusedError("checks", f"{result.rule} does not hold: {result.detail}", change=change)
    return results


def _held_before(base: Tree, record: Stage) -> bool:
    """Whether this very version held this stage lately, under a policy."""
    for turn in range(record.seq - 1, max(0, record.seq - 1 - LOOK_BACK), -1):
        directory = f"approvals/{record.model}/{record.stage}/{turn}"
        name = next(iter(base.names(directory)), None)
        if name is not None:
            path = f"{directory}/{name}"
            said, _ = read_stage_statement(base.read(path) or b"", path)
            if (said.version, said.digest) == (record.version, record.digest):
                return True
    return False


def _statement(
    policy: Policy, after: Tree, path: str, place: Place, record: Stage, evidence: Evidence, at: int
) -> StageStatement:
    """Return a statement that is about exactly this change, and signed by whom it names."""
    said, signature = read_stage_statement(after.read(path) or b"", path)
    expected = {
        "repo": policy.repo, "policy": policy.digest, "model": record.model, "stage": record.stage,
        "seq": record.seq, "prev": record.prev, "version": record.version, "digest": record.digest,
        "person": place.person,
    }  # fmt: skip
    for key, value in expected.items():
        if getattr(said, key) != value:
            raise RefusedError("approvals", f"{path} is about another {key} ({getattr(said, key)!s:.70})")
    if place.number != record.seq:
        raise RefusedError("approvals", f"{path} is for turn {place.number}, this is turn {record.seq}")
    person = policy.people.get(said.person)
    if person is None:
        raise RefusedError("approvals", f"{path}: the policy does not know {said.person}")
    if said.expires is not None and said.expires <= at:
        raise RefusedError("expired", f"{path} has expired; {said.person} has to sign again")
    if said.type != records.EVIDENCE:
        if said.review is not None:
            raise RefusedError("approvals", f"{path}: only evidence of a forge names a review")
        check_signature(person.keys, NAMESPACE_APPROVAL, said.payload(), signature, evidence, at, path)
        return said
    review = said.review or {}
    service = policy.services.get(review.get("service", ""))
    if service is None or review.get("forge") != service.forge:
        raise RefusedError("evidence", f"{path} names no service of the policy")
    account = person.forge.get(service.forge)
    if account is None or review.get("user") != str(account):
        raise RefusedError("evidence", f"{path}: the review is not by the account of {said.person}")
    check_signature(service.keys, NAMESPACE_APPROVAL, said.payload(), signature, evidence, at, path)
    return said


def _requester(policy: Policy, statements: Collection[StageStatement], record: Stage) -> str:
    found = [said.person for said in statements if said.type == records.REQUEST]
    if len(found) != 1:
        raise RefusedError(
            "request",
            f"{len(found)} persons ask for {record.stage} of {record.model}; it must be one, signed",
        )
    if found[0] not in policy.writers:
        raise RefusedError("request", f"{found[0]} asks for {record.stage} and is not a writer of the policy")
    return found[0]


def _count(
    rule: StageRule,
    statements: Collection[StageStatement],
    version: Version | None,
    authors: frozenset[str],
) -> tuple[Vote, ...]:
    votes = []
    for said in statements:
        why = ""
        if said.type == records.REQUEST and not rule.requester_may_approve:
            why = "asked for it"
        elif said.person not in rule.approvers:
            why = f"is not an approver of {rule.name}"
        elif said.type != records.REJECT and not rule.requester_may_approve:
            if version is not None and said.person == version.creator:
                why = "created the version"
            elif said.person in authors:
                why = "wrote a commit of the change"
        counted = not why and said.type != records.REJECT
        votes.append(Vote(said.person, said.type, counted, why, said.comment))
    return tuple(votes)


def _check_votes(rule: StageRule, change: Accepted) -> None:
    votes = change.votes
    title = f"{rule.name} of {change.model} {_number(change.version)}"
    against = [vote.person for vote in votes if vote.type == records.REJECT and not vote.why]
    if against:
        raise RefusedError(
            "rejected", f"{title} was rejected by {', '.join(against)}", pending=True, change=change
        )
    count = sum(vote.counted for vote in votes)
    if count < rule.threshold:
        others = "; ".join(f"{vote.person} {vote.why}" for vote in votes if vote.why)
        raise RefusedError(
            "approvals",
            f"{title} has {count} of {rule.threshold} approvals" + (f" ({others})" if others else ""),
            pending=True,
            change=change,
            hint=f"`gml registry approve {change.model} {_number(change.version)} --to {rule.name}`",
        )


def _number(version: int | None) -> str:
    return "none" if version is None else f"v{version}"


def judge_policy(
    policy: Policy | None, base: Tree, after: Tree, places: Mapping[str, Place], evidence: Evidence, at: int
) -> Accepted:
    """Judge a change of the policy; it stands alone and is approved by the admins of the one before.

    Raises:
        RefusedError: it is not allowed; `pending` when only approvals are missing.
    """
    for path, place in places.items():
        if place.kind not in {names.POLICY, names.POLICY_APPROVAL}:
            raise RefusedError(
                "policy", f"{path} was changed together with the policy, which must stand alone"
            )
    if names.POLICY_PATH not in places:
        raise RefusedError("policy", "statements about a policy without the policy they are about")
    new = read_policy(after.read(names.POLICY_PATH) or b"")
    done = Accepted("policy", seq=new.version)
    if policy is None:
        if new.version != 1 or len(places) != 1:
            raise RefusedError("policy", "the first policy must have version 1 and stand alone")
        return done
    old = base.read(names.POLICY_PATH) or b""
    if new.version != policy.version + 1 or new.prev != digest(old):
        raise RefusedError(
            "policy", f"the next policy must have version {policy.version + 1} and prev {digest(old)}"
        )
    if new.repo != policy.repo:
        raise RefusedError("policy", "the id of the repository must stay")
    votes = []
    for path in sorted(path for path, place in places.items() if place.kind == names.POLICY_APPROVAL):
        said = _policy_statement(policy, new, after, path, places[path], evidence, at)
        counted = said.person in policy.admins
        why = "" if counted else "is not an admin of the policy in force"
        votes.append(Vote(said.person, said.type, counted, why, said.comment))
    count = sum(vote.counted for vote in votes)
    if count < policy.admin_threshold:
        raise RefusedError(
            "approvals",
            f"policy version {new.version} has {count} of {policy.admin_threshold} approvals by admins",
            pending=True,
            change=replace(done, votes=tuple(votes), threshold=policy.admin_threshold),
            hint="`gml registry approve --policy`",
        )
    return Accepted("policy", seq=new.version, votes=tuple(votes), threshold=policy.admin_threshold)


def _policy_statement(
    policy: Policy, new: Policy, after: Tree, path: str, place: Place, evidence: Evidence, at: int
) -> PolicyStatement:
    said, signature = read_policy_statement(after.read(path) or b"", path)
    expected = {
        "repo": policy.repo, "version": new.version, "prev": policy.digest, "digest": new.digest,
        "person": place.person,
    }  # fmt: skip
    for key, value in expected.items():
        if getattr(said, key) != value:
            raise RefusedError("approvals", f"{path} is about another {key} ({getattr(said, key)!s:.70})")
    if place.number != new.version:
        raise RefusedError("approvals", f"{path} is for version {place.number}, this is {new.version}")
    person = policy.people.get(said.person)
    if person is None:
        raise RefusedError("approvals", f"{path}: the policy in force does not know {said.person}")
    if said.expires is not None and said.expires <= at:
        raise RefusedError("expired", f"{path} has expired; {said.person} has to sign again")
    check_signature(person.keys, NAMESPACE_APPROVAL, said.payload(), signature, evidence, at, path)
    return said
