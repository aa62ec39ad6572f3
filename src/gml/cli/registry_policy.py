"""`gml registry protect | policy`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gml.cli.common import json_option
from gml.cli.output import emit_json
from gml.cli.registry_common import key_option, open_registry
from gml.domain.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from typing import TextIO

    from gml.registry.branch import Registry
    from gml.registry.protect import PolicyOutcome


def _list(text: str | None) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()] if text else []


def _tell(registry: Registry, outcome: PolicyOutcome) -> None:
    if outcome.proposal is None:
        click.echo(f"policy version {outcome.version} is in force; its digest is {outcome.digest}")
        if outcome.version == 1:
            click.echo(f"consumers can pin it: gml trust pin {outcome.digest}")
        return
    branch = f"{registry.proposals}{outcome.proposal}".removeprefix("refs/heads/")
    click.echo(f"proposed on the branch {branch}; the admins of the present policy must approve:")
    click.echo(f"  git push origin {branch} && gml registry approve --policy")


@click.command("protect")
@click.argument("stage")
@click.option("--approvers", metavar="A,B", help="Persons whose approval counts.")
@click.option("--threshold", type=click.IntRange(min=0), help="How many of them must approve (default 1).")
@click.option("--from", "source", metavar="STAGE", help="Stage that must hold the version already.")
@click.option("--check", "checks", multiple=True, metavar="RULE", help="Condition over the run (repeatable).")
@click.option("--formats", metavar="A,B", help="Formats that may go there: data, code, unknown.")
@click.option(
    "--person", "people", multiple=True, metavar="NAME=KEY",
    help="A person and their SSH public key, a file or the key itself (repeatable).",
)  # fmt: skip
@click.option("--admins", metavar="A,B", help="Who decide about later policies (default: the approvers).")
@click.option("--admin-threshold", type=click.IntRange(min=1), help="How many (default: more than half).")
@key_option
@json_option
def protect_command(
    stage: str,
    approvers: str | None,
    threshold: int | None,
    source: str | None,
    checks: tuple[str, ...],
    formats: str | None,
    people: tuple[str, ...],
    admins: str | None,
    admin_threshold: int | None,
    key: str | None,
    as_json: bool,
) -> None:
    """Ask for approvals before STAGE changes: make the policy, or propose the next one.

    \b
    Example:
      gml registry protect Production --approvers alice,bob --threshold 2
      gml registry protect Staging --approvers alice --person alice=alice.pub
      gml registry protect Production --from Staging --check "metrics.auc > 0.9"
    """
    from gml.registry.protect import protect

    known: dict[str, list[str]] = {}
    for pair in people:
        name, found, value = pair.partition("=")
        if not found or not value:
            raise UsageError(f"{pair!r} is not NAME=KEY")
        known.setdefault(name, []).append(value)
    registry = open_registry()
    outcome = protect(
        registry,
        stage,
        approvers=_list(approvers),
        threshold=threshold,
        source=source,
        checks=checks,
        formats=_list(formats),
        people=known,
        admins=_list(admins),
        admin_threshold=admin_threshold,
        key=key,
    )
    if as_json:
        emit_json({
            "version": outcome.version, "digest": outcome.digest, "commit": outcome.commit,
            "done": outcome.proposal is None, "proposal": outcome.proposal,
        })  # fmt: skip
        return
    _tell(registry, outcome)


@click.group("policy")
def policy_command() -> None:
    """Show the policy in force, or propose another text.

    \b
    Example:
      gml registry policy show
    """


@policy_command.command("show")
@json_option
def show(as_json: bool) -> None:
    """Print the policy in force.

    \b
    Example:
      gml registry policy show > policy.yaml
    """
    view = open_registry().view()
    if view.policy is None:
        raise NotFoundError("there is no policy", hint="`gml registry protect Production --approvers ...`")
    if as_json:
        emit_json({
            "version": view.policy.version, "digest": view.policy.digest, "repo": view.policy.repo,
            "admins": list(view.policy.admins), "admin_threshold": view.policy.admin_threshold,
            "people": {
                p.name: [k.public.fingerprint for k in p.keys] for p in view.policy.people.values()
            },
            "stages": {
                s.name: {"approvers": list(s.approvers), "threshold": s.threshold, "from": s.from_stage,
                         "checks": list(s.checks), "formats": list(s.formats)}
                for s in view.policy.stages.values()
            },
        })  # fmt: skip
        return
    click.echo((view.read("policy.yaml") or b"").decode(), nl=False)


@policy_command.command("propose")
@click.argument("file", type=click.File("r", encoding="utf-8"))
@key_option
def propose(file: TextIO, key: str | None) -> None:
    """Propose the policy in FILE; `version` and `prev` are filled in.

    \b
    Example:
      gml registry policy propose policy.yaml
    """
    from gml.registry.protect import propose_policy

    registry = open_registry()
    _tell(registry, propose_policy(registry, file.read(), key=key))
