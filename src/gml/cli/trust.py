"""`gml trust`: which first policy of a repository this user trusts."""

from __future__ import annotations

import click

from gml.cli.common import json_option
from gml.cli.output import emit_json
from gml.cli.registry_common import open_registry
from gml.domain.errors import InvalidValueError, NotFoundError


@click.group("trust")
def trust_command() -> None:
    """Show or pin the first policy that is trusted.

    The first policy that is seen is trusted and shown; another one later is refused. Who has the digest
    from somewhere else (the team's handbook) pins it before the first use.

    \b
    Example:
      gml trust show
      gml trust pin 5f1c...
    """


@trust_command.command("show")
@json_option
def show(as_json: bool) -> None:
    """Show what is trusted of this repository.

    \b
    Example:
      gml trust show
    """
    from gml.registry.trust import read_trust, trust_file, trust_key

    registry = open_registry()
    trust = read_trust(registry)
    if trust is None:
        raise NotFoundError(
            "nothing is trusted of this repository yet", hint="`gml registry verify` trusts it on first use"
        )
    facts = {
        "repository": trust_key(registry), "policy": trust.root, "tip": trust.tip, "pinned": trust.pinned,
        "file": str(trust_file(registry)),
    }  # fmt: skip
    if as_json:
        emit_json(facts)
        return
    for key, value in facts.items():
        click.echo(f"{key:11} {value if value is not None else ''}".rstrip())


@trust_command.command("pin")
@click.argument("digest")
def pin(digest: str) -> None:
    """Trust the first policy with this DIGEST, and no other.

    \b
    Example:
      gml trust pin 5f1cbf...
    """
    from gml.policy.names import is_digest
    from gml.registry.trust import Trust, write_trust

    if not is_digest(digest):
        raise InvalidValueError(f"{digest!r:.80} is not a digest", hint="64 lower-case hexadecimal digits")
    write_trust(open_registry(), Trust(digest, pinned=True))
