"""Reviews made on a forge, as statements that a service of the policy signs.

The input is what the forge's interface returned, unchanged, in one JSON object (docs/registry.md):

    {"forge": "github", "pull_request": {...}, "reviews": [...], "commits": [...]}
    {"forge": "gitlab", "merge_request": {...}, "approvals": {...}, "settings": {...}}
    {"forge": "gitea",  "pull_request": {...}, "reviews": [...], "commits": [...]}
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from gml.domain.errors import NotFoundError, PolicyError, UsageError
from gml.policy import names, records
from gml.policy.records import NAMESPACE_APPROVAL, encode_statement
from gml.policy.rules import FORGES
from gml.registry.signing import find_signer
from gml.registry.stages import statement

if TYPE_CHECKING:
    from collections.abc import Callable

    from gml.policy.records import Stage
    from gml.policy.rules import Policy, Service
    from gml.registry.branch import Registry
    from gml.registry.signing import Signer

VALID_SECONDS: Final = 30 * 86_400
_DECIDE: Final = frozenset(("APPROVED", "CHANGES_REQUESTED", "REQUEST_CHANGES", "DISMISSED"))
_AGAINST: Final = frozenset(("CHANGES_REQUESTED", "REQUEST_CHANGES"))


@dataclass(frozen=True, slots=True)
class Review:
    """What an account last decided about a pull request.

    Attributes:
        user: numeric id of the account.
        review: id of the review.
        commit: commit that was looked at.
        against: it asks for changes, rather than approving.
    """

    user: int
    review: str
    commit: str
    against: bool = False


@dataclass(frozen=True, slots=True)
class Reviews:
    """The reviews of a pull request that stand, one for each account.

    Attributes:
        forge: `github`, `gitlab` or `gitea`.
        head: commit that the pull request would merge.
        found: the reviews.
    """

    forge: str
    head: str
    found: tuple[Review, ...]


def read_reviews(payload: dict[str, Any]) -> Reviews:
    """Return the reviews that stand.

    Left out: dismissed or stale ones, those that the same account took back later, bots, and those of the
    author of the pull request and of authors and committers of its commits. What commit each looked at is
    for the caller to judge.

    Raises:
        UsageError: the payload is not of the documented shape.
        PolicyError: it comes from a project that keeps approvals when the branch moves.
    """
    forge = payload.get("forge")
    if forge not in FORGES:
        raise UsageError(f"the evidence says forge {forge!r:.40}", hint=f"known are {', '.join(FORGES)}")
    try:
        return _gitlab(payload) if forge == "gitlab" else _github(forge, payload)
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"the evidence lacks {error}", hint="docs/registry.md shows its shape") from None


def _github(forge: str, payload: dict[str, Any]) -> Reviews:
    pull = payload["pull_request"]
    head = str(pull["head"]["sha"])
    excluded = {pull["user"]["id"]}
    for commit in payload["commits"]:
        # null where the forge knows no account for the address
        excluded |= {who["id"] for who in (commit["author"], commit["committer"]) if who}
    latest: dict[int, Any] = {}
    for review in payload["reviews"]:
        # A comment takes nothing back; an approval, a refusal or a dismissal replaces what was before.
        if review["user"] is not None and str(review["state"]).upper() in _DECIDE:
            latest[review["user"]["id"]] = review
    found = []
    for user, review in latest.items():
        state = str(review["state"]).upper()
        who = review["user"]
        login = str(who.get("login", ""))
        person = str(who.get("type", "User")).lower() == "user" and not login.endswith("[bot]")
        if state == "DISMISSED" or review.get("dismissed") or not person or type(user) is not int:
            continue
        if state in _AGAINST:
            found.append(Review(user, str(review["id"]), str(review["commit_id"]), against=True))
        elif not review.get("stale") and user not in excluded:
            found.append(Review(user, str(review["id"]), str(review["commit_id"])))
    return Reviews(forge, head, tuple(found))


def _gitlab(payload: dict[str, Any]) -> Reviews:
    merge = payload["merge_request"]
    head, author = str(merge["sha"]), merge["author"]["id"]
    approved = payload["approvals"]["approved_by"]
    if approved and payload["settings"]["reset_approvals_on_push"] is not True:
        raise PolicyError(
            "this project keeps approvals when a branch moves, so they are about no commit",
            hint="Settings > Merge requests > When a commit is added: Remove all approvals",
        )
    found = []
    for entry in approved:
        user = entry["user"]
        if user["id"] != author and type(user["id"]) is int and not user.get("bot"):
            found.append(Review(user["id"], str(merge["iid"]), head))
    return Reviews("gitlab", head, tuple(found))


def evidence_files(
    registry: Registry,
    policy: Policy,
    record: Stage,
    reviews: Reviews,
    key: str | None,
    same: Callable[[str], bool],
) -> dict[str, bytes]:
    """Return statements about reviews, signed by a service: path -> bytes.

    Args:
        registry: the registry.
        policy: in force.
        record: the change that was reviewed.
        reviews: what the forge returned.
        key: SSH key of the service.
        same: whether a reviewed commit proposes the same as the head does.

    Raises:
        PolicyError: the key belongs to no service of the policy for this forge, or somebody asks for changes.
    """
    signer = find_signer(registry.store, key)
    service = _service(policy, reviews.forge, signer)
    rule = policy.stages.get(record.stage)
    people = {p.forge[reviews.forge]: p for p in policy.people.values() if reviews.forge in p.forge}
    files = {}
    for review in reviews.found:
        person = people.get(review.user)
        if person is None or rule is None or person.name not in rule.approvers:
            continue
        if review.against:
            raise PolicyError(f"{person.name} asks for changes on {reviews.forge} (review {review.review})")
        if not same(review.commit):
            continue
        said = replace(
            statement(policy, record, person.name, records.EVIDENCE, days=None),
            expires=int(time.time()) + VALID_SECONDS,
            review={
                "forge": reviews.forge, "service": service.name, "user": str(review.user),
                "review": review.review, "commit": review.commit,
            },
        )  # fmt: skip
        path = names.approval_path(record.model, record.stage, record.seq, person.name)
        files[path] = encode_statement(said, signer.sign(said.payload(), NAMESPACE_APPROVAL))
    return files


def _service(policy: Policy, forge: str, signer: Signer) -> Service:
    for service in policy.services.values():
        if service.forge == forge and any(key.public == signer.public for key in service.keys):
            return service
    if not policy.services:
        raise NotFoundError(
            "the policy has no services", hint="add one under `services` with the key of your CI"
        )
    raise PolicyError(f"{signer.public.fingerprint} is not the key of a service for {forge}")
