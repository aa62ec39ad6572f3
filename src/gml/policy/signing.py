"""Whose signature is it: comparing keys, namespaces and validity; the arithmetic is asked for outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gml.policy.errors import RefusedError
from gml.policy.sshsig import parse_signature

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gml.policy.rules import Key, Policy
    from gml.policy.view import CommitFacts, Evidence

NAMESPACE_COMMIT: Final = "git"


def check_signature(
    keys: Iterable[Key], namespace: str, message: bytes, armour: str, evidence: Evidence, at: int, where: str
) -> None:
    """Refuse a signature that none of these keys made for this purpose.

    Args:
        keys: of the person that is said to have signed.
        namespace: what the signature must be for.
        message: what was signed.
        armour: the signature.
        evidence: does the arithmetic.
        at: seconds since the epoch; keys must be valid then.
        where: for messages.

    Raises:
        RefusedError: with the reason.
    """
    signature = parse_signature(armour)
    if signature.namespace != namespace:
        raise RefusedError(
            "signature", f"{where} is signed for {signature.namespace!r:.40}, not {namespace!r}"
        )
    key = next((key for key in keys if key.public == signature.key), None)
    if key is None:
        raise RefusedError(
            "key", f"{where} is signed with {signature.key.fingerprint}, not a key of that person"
        )
    if not key.valid(at):
        raise RefusedError("key", f"{where} is signed with {signature.key.fingerprint}, which has expired")
    if not evidence.signed(key.public, message, signature):
        raise RefusedError(
            "signature", f"the signature of {where} does not fit: something was changed after it"
        )


def signer_of_commit(policy: Policy, commit: CommitFacts, evidence: Evidence, at: int) -> str | None:
    """Return the person whose valid SSH signature a commit has; None for none, or of another kind.

    Raises:
        RefusedError: it has an SSH signature of a known key that does not fit.
    """
    if commit.signature is None or not commit.signature.startswith("-----BEGIN SSH"):
        return None
    owner = policy.owner(parse_signature(commit.signature).key)
    if owner is None:
        return None
    where = f"commit {commit.id[:12]}"
    keys = policy.people[owner].keys
    check_signature(keys, NAMESPACE_COMMIT, commit.payload, commit.signature, evidence, at, where)
    return owner
