"""Who acts: the person of the policy that owns the signing key, or git's identity without a policy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gml.domain.errors import PolicyError
from gml.registry.signing import Signer, find_signer

if TYPE_CHECKING:
    from gml.policy.records import Version
    from gml.registry.branch import Registry, View


@dataclass(frozen=True, slots=True)
class Actor:
    """Who makes a change.

    Attributes:
        name: person of the policy, or `Name <address>`.
        signer: signs, None where there is no policy.
    """

    name: str
    signer: Signer | None = None

    def sign(self, message: bytes, namespace: str) -> str:
        """Return a signature over a message.

        Raises:
            PolicyError: there is no policy that would know this signature.
        """
        if self.signer is None:
            raise PolicyError(
                "there is no policy here", hint="`gml registry protect Production --approvers ...`"
            )
        return self.signer.sign(message, namespace)

    def sign_version(self, version: Version, namespace: str) -> Version:
        """Return a version with its creator's signature, where there is a policy."""
        if self.signer is None:
            return version
        return replace(version, signature=self.signer.sign(version.payload(), namespace))


def signer_of(registry: Registry, view: View, key: str | None = None) -> Actor:
    """Return who acts on a state of the registry.

    Raises:
        NotFoundError: there is no key to sign with.
        PolicyError: the policy does not know the key.
    """
    who = registry.workspace.identity
    if view.policy is None:
        name = " ".join(f"{who.name} <{who.email}>".split())
        return Actor("".join(c for c in name if c.isprintable())[:200])
    signer = find_signer(registry.store, key)
    person = view.policy.owner(signer.public)
    if person is None:
        raise PolicyError(
            f"the policy does not know your key {signer.public.fingerprint}",
            hint="`gml registry policy show` lists who is known; set gml.signingKey to the right one",
        )
    return Actor(person, signer)
