"""Making and changing the policy: the first one at once, later ones by a proposal to the admins."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from gml.domain.errors import NotFoundError, PolicyError, UsageError
from gml.policy import names, records
from gml.policy.canonical import digest
from gml.policy.records import NAMESPACE_APPROVAL, PolicyStatement, encode_statement
from gml.policy.rules import POLICY_FORMAT, read_policy
from gml.policy.sshsig import parse_key
from gml.policy.yaml_subset import load
from gml.registry.branch import Change
from gml.registry.evidence import check_rule
from gml.registry.identity import signer_of
from gml.registry.proposals import Proposal
from gml.registry.signing import find_signer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gml.policy.rules import Policy
    from gml.registry.branch import Registry, View


@dataclass(frozen=True, slots=True)
class PolicyOutcome:
    """What became of a new policy.

    Attributes:
        version: its number.
        digest: SHA-256 of it.
        proposal: name of the proposal branch where admins must approve it; None when it is in force.
        commit: the commit that was made.
        text: the policy.
    """

    version: int
    digest: str
    proposal: str | None
    commit: str
    text: str


class _Dumper(yaml.SafeDumper):
    """Block style, texts that could be read as something else in quotes, no aliases."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        """Write everything out."""
        return True


def dump(policy: Mapping[str, Any]) -> str:
    """Return the YAML text of a policy as a mapping."""
    return yaml.dump(dict(policy), Dumper=_Dumper, sort_keys=False, width=1_000, allow_unicode=True)


def protect(
    registry: Registry,
    stage: str,
    *,
    approvers: Sequence[str] = (),
    threshold: int | None = None,
    source: str | None = None,
    checks: Sequence[str] = (),
    formats: Sequence[str] = (),
    people: Mapping[str, Sequence[str]] | None = None,
    admins: Sequence[str] = (),
    admin_threshold: int | None = None,
    key: str | None = None,
) -> PolicyOutcome:
    """Protect a stage: make the first policy, or propose the next one.

    Args:
        registry: the registry.
        stage: name of the stage.
        approvers: persons whose approval counts.
        threshold: how many must approve; 1 where there are approvers.
        source: stage that must hold the version already.
        checks: conditions over the run.
        formats: classes of formats that may go there.
        people: new persons: name -> public keys, files or the keys themselves.
        admins: who decide about the next policy; those of the present one, or the approvers.
        admin_threshold: how many of them; more than half.
        key: SSH key to sign with.

    Raises:
        PolicyError: the policy would make no sense; the message says why.
    """
    names.check_stage(stage)
    for rule in checks:
        check_rule(rule)
    view = registry.view()
    document = _document(registry, view, key, people or {})
    rule_: dict[str, Any] = {}
    if approvers:
        rule_ = {"approvers": list(approvers), "threshold": 1 if threshold is None else threshold}
    elif threshold:
        raise UsageError("there is a threshold, but nobody to approve", hint="--approvers alice,bob")
    if source:
        rule_["from"] = source
        document["stages"].setdefault(source, {})
    if checks:
        rule_["checks"] = list(checks)
    if formats:
        rule_["formats"] = list(formats)
    document["stages"][stage] = rule_
    if admins or not document["admins"]["people"]:
        chosen = list(admins or approvers or document["people"])
        document["admins"] = {"people": chosen, "threshold": len(chosen) // 2 + 1}
    if admin_threshold is not None:
        document["admins"]["threshold"] = admin_threshold
    return propose_policy(registry, dump(document), key=key)


def _document(
    registry: Registry, view: View, key: str | None, people: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    data = view.read(names.POLICY_PATH)
    if data is not None:
        document = load(data, names.POLICY_PATH)
    else:
        document = {
            "format": POLICY_FORMAT,
            "version": 0,
            "prev": None,
            "repo": secrets.token_hex(16),
            "people": {},
            "admins": {"people": [], "threshold": 1},
            "stages": {},
        }
        # Plain digits only would be read as a number.
        while document["repo"].isdigit():
            document["repo"] = secrets.token_hex(16)
    for name, stated in people.items():
        names.check_person(name)
        keys = [_key(each) for each in stated]
        document["people"].setdefault(name, {})["keys"] = keys
    if data is None and not document["people"]:
        raise UsageError(
            "the first policy needs people with keys", hint="--person alice=alice.pub --person bob=bob.pub"
        )
    if data is None:
        _add_address(registry, document, key)
    return document


def _add_address(registry: Registry, document: dict[str, Any], key: str | None) -> None:
    """Add the address in git's configuration to the person that owns the signing key, if one does."""
    try:
        mine = str(find_signer(registry.store, key).public)
    except NotFoundError:
        return
    for person in document["people"].values():
        if mine in person["keys"]:
            person["emails"] = [registry.workspace.identity.email.lower()]


def _key(stated: str) -> str:
    from pathlib import Path

    if stated.startswith(("ssh-", "ecdsa-", "sk-")):
        return str(parse_key(stated))
    path = Path(stated).expanduser()
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise NotFoundError(f"the public key {stated} cannot be read ({error.strerror})") from None
    if "PRIVATE KEY" in text:
        raise UsageError(f"{stated} is a private key", hint=f"give {stated}.pub")
    return str(parse_key(text))


def propose_policy(registry: Registry, text: str, *, key: str | None = None) -> PolicyOutcome:
    """Put a policy into force, or propose it to the admins of the one in force.

    `version`, `prev` and `repo` of the text are replaced by what they must be.

    Raises:
        PolicyError: it makes no sense, or is not allowed.
    """
    view = registry.view()
    text = _next(view, text)
    policy = read_policy(text.encode())
    for rule in policy.stages.values():
        for check in rule.checks:
            check_rule(check)
    if view.policy is None:
        change = Change({names.POLICY_PATH: text.encode()}, f"policy version 1\n\n{_summary(policy)}")

        def build(now: View) -> Change:
            if now.policy is not None:
                raise PolicyError("there is a policy now", hint="try again")
            return change

        commit, _ = registry.commit(build)
        return PolicyOutcome(1, policy.digest, None, commit, text)
    actor = signer_of(registry, view, key)
    files = {names.POLICY_PATH: text.encode()}
    if actor.name in view.policy.admins:
        files |= _approval(view.policy, policy, actor.name, actor, 30, "")
    branch = f"{registry.proposals}policy-{policy.version}"
    message = f"policy version {policy.version}\n\n{_summary(policy)}"
    parents = (view.commit,) if view.commit else ()
    commit, objects = registry.make_commit(view, Change(files, message), parents)
    accepted = registry.judge(view.commit, commit, objects, complete=False)
    if accepted:
        registry.move(registry.branch, registry.store.ref(registry.branch), commit, objects, message)
        return PolicyOutcome(policy.version, policy.digest, None, commit, text)
    old = registry.store.ref(branch)
    if old is not None:
        raise PolicyError(
            f"{branch} exists already", hint="`gml registry approve --policy`, or delete the branch"
        )
    registry.move(branch, None, commit, objects, message)
    return PolicyOutcome(policy.version, policy.digest, f"policy-{policy.version}", commit, text)


def _next(view: View, text: str) -> str:
    """Return the text with the version, the predecessor and the id of the repository that it must have."""
    document = load(text.encode(), names.POLICY_PATH)
    old = view.read(names.POLICY_PATH)
    wanted: dict[str, Any] = {"version": 1, "prev": None}
    if old is not None and view.policy is not None:
        wanted = {"version": view.policy.version + 1, "prev": digest(old), "repo": view.policy.repo}
    lines = text.splitlines()
    for key, value in wanted.items():
        if document.get(key) == value:
            continue
        shown = "null" if value is None else str(value)
        at = next((i for i, line in enumerate(lines) if line.startswith(f"{key}:")), None)
        if at is None:
            lines.insert(1, f"{key}: {shown}")
        else:
            lines[at] = f"{key}: {shown}"
    return "\n".join(lines) + "\n"


def _summary(policy: Policy) -> str:
    lines = [f"admins: {policy.admin_threshold} of {', '.join(policy.admins)}"]
    for rule in policy.stages.values():
        parts = [f"{rule.threshold} of {', '.join(rule.approvers)}"] if rule.threshold else ["no approvals"]
        parts += [f"from {rule.from_stage}"] if rule.from_stage else []
        parts += list(rule.checks)
        lines.append(f"{rule.name}: {'; '.join(parts)}")
    return "\n".join(lines) + "\n"


def _approval(old: Policy, new: Policy, person: str, actor: Any, days: int, comment: str) -> dict[str, bytes]:
    said = PolicyStatement(
        type=records.POLICY_APPROVE,
        repo=old.repo,
        version=new.version,
        prev=old.digest,
        digest=new.digest,
        person=person,
        expires=int(time.time()) + days * 86_400,
        comment=comment,
    )
    path = names.policy_approval_path(new.version, person)
    return {path: encode_statement(said, actor.sign(said.payload(), NAMESPACE_APPROVAL))}


def find_policy_proposal(registry: Registry, view: View) -> Proposal:
    """Return the proposal of the next policy.

    Raises:
        NotFoundError: there is none.
    """
    version = view.policy.version + 1 if view.policy is not None else 1
    tip = registry.proposal_tip(f"policy-{version}")
    if tip is None:
        raise NotFoundError(
            f"nobody proposes policy version {version}", hint="fetch first; `gml registry pending`"
        )
    return Proposal(registry, f"policy-{version}", tip)


def approve_policy(
    registry: Registry, *, days: int = 30, comment: str = "", key: str | None = None
) -> Proposal:
    """Sign the proposed policy as an admin of the one in force.

    Raises:
        NotFoundError: nobody proposed one.
        PolicyError: the policy does not know the key.
    """
    view = registry.view()
    proposal = find_policy_proposal(registry, view)
    if view.policy is None:
        raise PolicyError("there is no policy in force whose admins could approve")
    actor = signer_of(registry, view, key)
    new = read_policy(proposal.tree.read(names.POLICY_PATH) or b"")
    files = _approval(view.policy, new, actor.name, actor, days, comment)
    proposal.add(files, f"approve policy version {new.version}\n")
    return proposal


def merge_policy(registry: Registry) -> str:
    """Put a proposed policy into force once enough admins have approved.

    Raises:
        NotFoundError: nobody proposed one.
        PolicyError: approvals are missing.
    """
    return find_policy_proposal(registry, registry.view()).merge()[0]
