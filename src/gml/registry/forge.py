"""Reviews made on a forge, as statements that a service of the policy signs.

The input is what the forge's interface returned, unchanged, in one JSON object (docs/registry.md):

    {"forge": "github", "pull_request": {...}, "reviews": [...]}
    {"forge": "gitlab", "merge_request": {...}, "approvals": {...}}
    {"forge": "gitea",  "pull_request": {...}, "reviews": [...]}
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
    from gml.policy.records import Stage
    from gml.policy.rules import Policy, Service
    from gml.registry.branch import Registry
    from gml.registry.signing import Signer

VALID_SECONDS: Final = 30 * 86_400


@dataclass(frozen=True, slots=True)
class Review:
    """An approval on a forge that counts.

    Attributes:
        user: numeric id of the account.
        review: id of the review.
        commit: commit that was looked at.
    """

    user: int
    review: str
    commit: str


def read_reviews(payload: dict[str, Any]) -> tuple[str, list[Review]]:
    """Return the forge and the approvals that stand, one for each account.

    Left out: reviews of another commit than the head, dismissed or stale ones, those that the same account
    took back later, bots, and the author of the pull request.

    Raises:
        UsageError: the payload is not of the documented shape.
    """
    forge = payload.get("forge")
    if forge not in FORGES:
        raise UsageError(f"the evidence says forge {forge!r:.40}", hint=f"known are {', '.join(FORGES)}")
    try:
        return forge, _gitlab(payload) if forge == "gitlab" else _github(payload)
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"the evidence lacks {error}", hint="docs/registry.md shows its shape") from None


def _github(payload: dict[str, Any]) -> list[Review]:
    pull = payload["pull_request"]
    head, author = pull["head"]["sha"], pull["user"]["id"]
    latest: dict[int, Any] = {}
    for review in payload["reviews"]:
        # A comment takes nothing back; an approval, a refusal or a dismissal replaces what was before.
        if str(review["state"]).upper() in {"APPROVED", "CHANGES_REQUESTED", "REQUEST_CHANGES", "DISMISSED"}:
            latest[review["user"]["id"]] = review
    found = []
    for user, review in latest.items():
        stands = (
            str(review["state"]).upper() == "APPROVED"
            and not review.get("dismissed")
            and not review.get("stale")
        )
        person = str(review["user"].get("type", "User")).lower() == "user" and not str(
            review["user"].get("login", "")
        ).endswith("[bot]")
        if stands and person and review["commit_id"] == head and user != author and type(user) is int:
            found.append(Review(user, str(review["id"]), head))
    return found


def _gitlab(payload: dict[str, Any]) -> list[Review]:
    merge = payload["merge_request"]
    head, author = merge["sha"], merge["author"]["id"]
    found = []
    for entry in payload["approvals"]["approved_by"]:
        user = entry["user"]
        if user["id"] != author and type(user["id"]) is int and not user.get("bot"):
            found.append(Review(user["id"], str(merge["iid"]), head))
    return found


def evidence_files(
    registry: Registry, policy: Policy, record: Stage, payload: dict[str, Any], head: str, key: str | None
) -> dict[str, bytes]:
    """Return statements about reviews, signed by a service: path -> bytes.

    Args:
        registry: the registry.
        policy: in force.
        record: the change that was reviewed.
        payload: what the forge returned.
        head: commit that the reviews must be of.
        key: SSH key of the service.

    Raises:
        PolicyError: the key belongs to no service of the policy for this forge.
        UsageError: the payload is of another shape, or of another pull request.
    """
    forge, reviews = read_reviews(payload)
    signer = find_signer(registry.store, key)
    service = _service(policy, forge, signer)
    files = {}
    for review in reviews:
        if review.commit != head:
            raise UsageError(f"the reviews are of {review.commit[:12]}, judged is {head[:12]}")
        person = next((p for p in policy.people.values() if p.forge.get(forge) == review.user), None)
        if person is None:
            continue
        said = replace(
            statement(policy, record, person.name, records.EVIDENCE, days=None),
            expires=int(time.time()) + VALID_SECONDS,
            review={
                "forge": forge, "service": service.name, "user": str(review.user), "review": review.review,
                "commit": review.commit,
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
