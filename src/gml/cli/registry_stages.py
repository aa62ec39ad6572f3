"""`gml registry promote | approve | reject | pending | merge | revert`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gml.cli.common import json_option
from gml.cli.output import emit_json, table
from gml.cli.registry_common import VERSION_OR_NONE, key_option, open_registry
from gml.domain.errors import UsageError
from gml.registry.links import pull_request_page

if TYPE_CHECKING:
    from gml.registry.branch import Registry
    from gml.registry.proposals import Proposal
    from gml.registry.stages import Outcome

_model = click.argument("model")
_version = click.argument("version", type=VERSION_OR_NONE)
_to = click.option("--to", "stage", required=True, help="The stage, such as Production.")


def _tell(registry: Registry, outcome: Outcome, stage: str) -> None:
    if outcome.proposal is None:
        held = f"v{outcome.version}" if outcome.version else "nothing"
        click.echo(f"{stage} holds {held} (turn {outcome.seq}, commit {outcome.commit[:10]})")
        return
    branch = f"{registry.proposals}{outcome.proposal}".removeprefix("refs/heads/")
    click.echo(f"proposed on the branch {branch}; it waits for approvals:")
    remotes = registry.store.remotes()
    name = "origin" if "origin" in remotes else next(iter(remotes), "origin")
    click.echo(f"  git push {name} {branch}")
    base = registry.branch.removeprefix("refs/heads/")
    page = pull_request_page(remotes[name], branch, base) if name in remotes else None
    if page is not None:
        click.echo(f"  {page}")


def _outcome_json(registry: Registry, outcome: Outcome, stage: str) -> dict[str, Any]:
    branch = f"{registry.proposals}{outcome.proposal}" if outcome.proposal else None
    return {
        "stage": stage, "version": outcome.version, "seq": outcome.seq, "commit": outcome.commit,
        "done": outcome.proposal is None, "branch": branch,
    }  # fmt: skip


@click.command("promote")
@_model
@_version
@_to
@click.option("-m", "--message", default="", help="Why, for the reviewers.")
@key_option
@json_option
def promote_command(
    model: str, version: int, stage: str, message: str, key: str | None, as_json: bool
) -> None:
    """Put VERSION of MODEL into a stage (`none` empties it).

    Where the policy asks for approvals, this makes the branch `gml/propose/...` instead, whose commit
    message compares the candidate with what the stage holds. `--to Archived` is `gml registry archive`.

    \b
    Example:
      gml registry promote churn 4 --to Staging
    """
    from gml.registry.meta import set_status
    from gml.registry.stages import promote

    registry = open_registry()
    if stage == "Archived" and version:
        set_status(registry, model, version, "archived", message)
        return
    outcome = promote(registry, model, version or None, stage, comment=message, key=key)
    if as_json:
        emit_json(_outcome_json(registry, outcome, stage))
        return
    _tell(registry, outcome, stage)


def _vote(
    model: str | None, version: int | None, stage: str | None, days: int, key: str | None, text: str, *,
    policy: bool, reject: bool,
) -> None:  # fmt: skip
    from gml.registry.protect import approve_policy
    from gml.registry.stages import vote

    registry = open_registry()
    if policy:
        proposal = approve_policy(registry, days=days, comment=text, key=key)
    elif model is None or version is None or stage is None:
        raise UsageError("say model, version and --to STAGE, or --policy")
    else:
        proposal = vote(
            registry, model, version or None, stage, reject=reject, comment=text, days=days, key=key
        )
    _tell_state(registry, proposal)


def _tell_state(registry: Registry, proposal: Proposal) -> None:
    change, problem = proposal.look()
    click.echo(f"signed on {proposal.branch.removeprefix('refs/heads/')}")
    if problem is None:
        click.echo("complete: `gml registry merge`, or merge the pull request")
    else:
        click.echo(f"waits: {problem.message}")
    del change, registry


@click.command("approve")
@click.argument("model", required=False)
@click.argument("version", type=VERSION_OR_NONE, required=False)
@click.option("--to", "stage", help="The stage, such as Production.")
@click.option("--policy", is_flag=True, help="Approve the proposed policy, as an admin.")
@click.option("--days", default=30, show_default=True, help="How long the approval counts.")
@click.option("-m", "--message", default="", help="A comment; it is signed too.")
@key_option
def approve_command(
    model: str | None,
    version: int | None,
    stage: str | None,
    policy: bool,
    days: int,
    message: str,
    key: str | None,
) -> None:
    """Sign that VERSION of MODEL may go into a stage, and add that to the proposal.

    \b
    Example:
      gml registry approve churn 4 --to Production
    """
    _vote(model, version, stage, days, key, message, policy=policy, reject=False)


@click.command("reject")
@_model
@_version
@_to
@click.option("-m", "--message", required=True, help="Why.")
@key_option
def reject_command(model: str, version: int, stage: str, message: str, key: str | None) -> None:
    """Sign that VERSION of MODEL may not go into a stage; the proposal then cannot be merged.

    \b
    Example:
      gml registry reject churn 4 --to Production -m "recall dropped for new customers"
    """
    _vote(model, version, stage, 3650, key, message, policy=False, reject=True)


@click.command("pending")
@json_option
def pending_command(as_json: bool) -> None:
    """List proposals and what they wait for.

    \b
    Example:
      gml registry pending
    """
    from gml.registry.proposals import all_proposals

    rows: list[dict[str, Any]] = []
    for proposal in all_proposals(open_registry()):
        change, problem = proposal.look()
        votes = change.votes if change else ()
        rows.append({
            "proposal": proposal.name, "branch": proposal.branch, "commit": proposal.tip,
            "ready": problem is None, "problem": problem.message if problem else None,
            "threshold": change.threshold if change else 0,
            "approvers": [v.person for v in votes if v.counted],
            "votes": [
                {"person": v.person, "type": v.type, "counted": v.counted, "why": v.why, "comment": v.comment}
                for v in votes
            ],
        })  # fmt: skip
    if as_json:
        emit_json(rows)
        return
    table(
        ["proposal", "approvals", "state"],
        [
            [
                row["proposal"],
                f"{len(row['approvers'])}/{row['threshold']}",
                "ready" if row["ready"] else str(row["problem"]),
            ]
            for row in rows
        ],
        keep=["proposal"],
    )


@click.command("merge")
@click.argument("model", required=False)
@click.argument("version", type=VERSION_OR_NONE, required=False)
@click.option("--to", "stage", help="The stage, such as Production.")
@click.option("--policy", is_flag=True, help="Merge the proposed policy.")
def merge_command(model: str | None, version: int | None, stage: str | None, policy: bool) -> None:
    """Bring a proposal that has its approvals onto the branch, and tag it.

    \b
    Example:
      gml registry merge churn 4 --to Production
    """
    from gml.registry.protect import merge_policy
    from gml.registry.stages import merge

    registry = open_registry()
    if policy:
        click.echo(f"the policy is in force (commit {merge_policy(registry)[:10]})")
        return
    if model is None or version is None or stage is None:
        raise UsageError("say model, version and --to STAGE, or --policy")
    _tell(registry, merge(registry, model, version or None, stage), stage)


@click.command("revert")
@_model
@click.argument("stage")
@click.option("-m", "--message", default="", help="Why, for the reviewers.")
@key_option
@json_option
def revert_command(model: str, stage: str, message: str, key: str | None, as_json: bool) -> None:
    """Put the version back that STAGE of MODEL held before: a new change, reviewed like any other.

    \b
    Example:
      gml registry revert churn Production -m "latency doubled"
    """
    from gml.registry.stages import revert

    registry = open_registry()
    outcome = revert(registry, model, stage, comment=message, key=key)
    if as_json:
        emit_json(_outcome_json(registry, outcome, stage))
        return
    _tell(registry, outcome, stage)
