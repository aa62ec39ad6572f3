"""`gml registry check | verify | audit | tags`."""

from __future__ import annotations

import csv
import html
import io
import json
from typing import TYPE_CHECKING, Any

import click

from gml.cli.common import json_option
from gml.cli.output import emit_json, table, timestamp
from gml.cli.registry_common import open_registry
from gml.cli.registry_read import parse_time
from gml.domain.errors import InvalidValueError, UsageError

if TYPE_CHECKING:
    from typing import TextIO

    from gml.policy.view import Accepted


def change_json(change: Accepted) -> dict[str, Any]:
    """Return an accepted change in the documented JSON shape."""
    return {
        "kind": change.kind,
        "model": change.model or None,
        "stage": change.stage or None,
        "seq": change.seq or None,
        "version": change.version,
        "before": change.before,
        "requester": change.requester or None,
        "threshold": change.threshold,
        "votes": [
            {"person": v.person, "type": v.type, "counted": v.counted, "why": v.why, "comment": v.comment}
            for v in change.votes
        ],
        "checks": [{"rule": c.rule, "ok": c.ok, "detail": c.detail} for c in change.checks],
        "commits": list(change.commits),
        "policy": change.policy,
    }


@click.command("check")
@click.argument("base")
@click.argument("head")
@click.option("--markdown", is_flag=True, help="Print the report for a pull request comment.")
@click.option(
    "--forge-evidence", "evidence", type=click.File("r", encoding="utf-8"), metavar="FILE",
    help="Reviews as the forge's interface returned them; needs --key of a service of the policy.",
)  # fmt: skip
@click.option("--key", metavar="FILE", help="SSH key of the service that vouches for the reviews.")
@click.option(
    "--record", metavar="REF", help="Commit the reviews on top of HEAD as signed statements, at this ref."
)
@json_option
def check_command(
    base: str, head: str, markdown: bool, evidence: TextIO | None, key: str | None, record: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Judge what merging HEAD into BASE would do: the required check of a pull request.

    Reads git objects only; no code of the pull request is run. Exits with 13 when it must not be merged.
    Reviews of a forge count once the branch holds them: --record REF makes that commit, to be pushed.

    \b
    Example:
      gml registry check origin/gml/registry HEAD --markdown
    """
    from gml.registry.check import check

    payload = None
    if evidence is not None:
        try:
            payload = json.load(evidence)
        except ValueError as error:
            raise InvalidValueError(f"the evidence is not JSON ({error})") from None
        if not isinstance(payload, dict):
            raise InvalidValueError("the evidence is not a JSON object")
    if record is not None and not record.startswith("refs/heads/"):
        raise UsageError(f"{record!r:.100} is no full name of a branch", hint="such as refs/heads/reviewed")
    report = check(open_registry(), base, head, payload, key, record)
    if as_json:
        emit_json({
            "base": report.base, "head": report.head, "ok": report.problem is None,
            "problem": str(report.problem) if report.problem else None,
            "changes": [change_json(each) for each in report.accepted], "recorded": list(report.recorded),
        })  # fmt: skip
    elif markdown:
        click.echo(report.page, nl=False)
    elif report.problem is None:
        click.echo(f"in order: {len(report.accepted)} changes")
    if report.problem is not None:
        raise report.problem


@click.command("verify")
@click.argument("model", required=False)
@click.argument("stage", required=False)
@click.option("--full", is_flag=True, help="Judge every commit again, also those judged before.")
@click.option("--no-bytes", is_flag=True, help="Do not read the model's files again.")
@json_option
def verify_command(model: str | None, stage: str | None, full: bool, no_bytes: bool, as_json: bool) -> None:
    """Replay the registry through the policy; with MODEL and STAGE prove what the stage holds.

    The proof goes from the first policy, which you trust, over the approvals, the change, the version and
    the run to the digests of the files. No server is asked.

    \b
    Example:
      gml registry verify churn Production
    """
    from gml.registry.verify import verify

    registry = open_registry()
    state = verify(registry, full=full)
    facts: dict[str, Any] = {
        "ok": True, "tip": state.tip, "policy": state.root, "commits": state.steps, "judged": state.replayed,
    }  # fmt: skip
    proof: list[tuple[str, str]] = []
    if model is not None and stage is not None:
        from gml.registry.proof import prove

        proof = prove(registry, state, model, stage, files=not no_bytes)
        facts["proof"] = [{"what": what, "value": value} for what, value in proof]
    if as_json:
        emit_json(facts)
        return
    click.echo(f"in order   {state.steps} commits, {state.replayed} of them judged now")
    click.echo(f"policy     {state.root or 'none: whoever can push may promote'}")
    for what, value in proof:
        click.echo(f"{what:10} {value}")


@click.command("audit")
@click.option("--since", metavar="TIME", help="Only changes from this time on.")
@click.option(
    "--format",
    "style",
    type=click.Choice(["table", "csv", "html"]),
    default="table",
    show_default=True,
    help="What the list is written as.",
)
@json_option
def audit_command(since: str | None, style: str, as_json: bool) -> None:
    """List every change of every stage with requester, approvers and checks, and what is odd.

    Odd are changes made before the policy, commits that the policy refuses, and tags that no change backs.

    \b
    Example:
      gml registry audit --since 2026-01-01 --format csv
    """
    from gml.registry.audit import COLUMNS, audit

    rows = audit(open_registry(), parse_time(since) if since else None)
    if as_json:
        emit_json(rows)
        return
    columns = list(COLUMNS)
    cells = [[_cell(row, column) for column in columns] for row in rows]
    if style == "csv":
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([[_harmless(cell) for cell in line] for line in cells])
        click.echo(out.getvalue(), nl=False)
    elif style == "html":
        click.echo(_html(columns, cells), nl=False)
    else:
        table(columns, [[*line[:-1], line[-1][:10]] for line in cells], keep=["flags"])


def _cell(row: dict[str, Any], column: str) -> str:
    value = row[column]
    match column:
        case "time":
            return timestamp(value * 1000) if value else ""
        case "version":
            return f"v{value}" if value else ("" if row["kind"] != "stage" else "nothing")
        case "stage":
            return str(value or row["kind"])
        case "approvers" | "flags":
            return ", ".join(value)
        case "checks":
            return f"{sum(c['ok'] for c in value)}/{len(value)}" if value else ""
        case _:
            return "" if value is None else str(value)


def _harmless(cell: str) -> str:
    """Return a cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if cell[:1] in {"=", "+", "-", "@", "\t", "\r"} else cell


def _html(columns: list[str], cells: list[list[str]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in line) + "</tr>" for line in cells
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Registry audit</title>\n'
        "<style>body{font-family:sans-serif}table{border-collapse:collapse}"
        "td,th{border:1px solid #999;padding:.2em .5em;text-align:left}</style></head>\n"
        f"<body><h1>Registry audit</h1>\n<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n"
        "</tbody></table></body></html>\n"
    )


@click.command("tags")
@click.option("--limit", type=click.IntRange(min=1), help="Make at most so many, the oldest first.")
@click.option("--push", "remote", metavar="REMOTE", help="Push what REMOTE lacks, three tags at a time.")
def tags_command(limit: int | None, remote: str | None) -> None:
    """Make the tags that changes on the branch lack, after verifying the branch.

    For forges, whose merges make no tags. Some forges start no job for more than three tags in one push:
    --push sends them in groups of three.

    \b
    Example:
      gml registry tags --push origin
    """
    from gml.registry.tags import missing_changes, push_tags, write_tags
    from gml.registry.verify import verify

    registry = open_registry()
    missing = missing_changes(registry, verify(registry, full=True).accepted)
    made = write_tags(registry, missing[:limit])
    if remote is not None:
        made = push_tags(registry, remote)
    for ref in made:
        click.echo(ref.removeprefix("refs/tags/"))
