"""The audit: every change of every stage with who asked, who approved, on what evidence, and what is odd."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from gml.policy import names, records
from gml.policy.decision import Judge
from gml.policy.errors import RefusedError
from gml.policy.records import read_stage, read_stage_statement
from gml.registry.history import stage_changes
from gml.registry.tags import parse_tag_name, tag_names

if TYPE_CHECKING:
    from gml.policy.view import Accepted, Tree
    from gml.registry.branch import Registry, View

COLUMNS: Final = (
    "time", "model", "stage", "seq", "version", "before",
    "requester", "approvers", "checks",
    "flags", "author", "commit",
)  # fmt: skip


def audit(registry: Registry, since: int | None = None) -> list[dict[str, Any]]:
    """Return one row for each change of a stage or the policy, oldest first, and for each oddity.

    The whole branch is judged again. A commit that the decision refuses gets a row whose flags say why, and
    the audit goes on behind it.

    Args:
        registry: the registry.
        since: only rows from this time on, seconds since the epoch.
    """
    chain, tip = registry.chain, registry.tip()
    if tip is None:
        return []
    rows: list[dict[str, Any]] = []
    tags: dict[str, str] = {}
    judge = Judge.of(registry.evidence(), None)
    for oid in chain.between(None, tip):
        step = chain.step(oid)
        try:
            done = judge.step(step)
        except RefusedError as error:
            rows.append(_row(registry, oid, None, [f"refused: {error.message}"]))
            judge = Judge.of(registry.evidence(), step.after, clock=judge.clock)
            continue
        if done is None:
            continue
        tags |= dict.fromkeys(tag_names(done), done.commits[-1])
        if done.kind in {"stage", "policy"}:
            rows.append(_row(registry, oid, done, _flags(done, step.after)))
    try:
        judge.finish()
    except RefusedError as error:
        rows.append(_row(registry, tip, error.change, [f"open: {error.message}"]))
    rows += _odd_tags(registry, tags)
    return [row for row in rows if since is None or row["time"] >= since]


def _flags(change: Accepted, after: Tree) -> list[str]:
    if change.kind != "stage":
        return []
    flags = ["before the policy"] if change.policy is None else []
    path = names.stage_path(change.model, change.stage)
    imported = read_stage(after.read(path) or b"", path).imported
    if imported is not None:
        flags.append(f"imported from {imported.get('from', 'elsewhere')}, not verified")
    return flags


def _row(registry: Registry, oid: str, change: Accepted | None, flags: list[str]) -> dict[str, Any]:
    commit = registry.chain.commit(oid)
    return {
        "time": commit.time,
        "commit": oid,
        "author": commit.author,
        "kind": change.kind if change else "commit",
        "model": change.model if change else "",
        "stage": change.stage if change else "",
        "seq": change.seq if change else None,
        "version": change.version if change else None,
        "before": change.before if change else None,
        "requester": change.requester if change else "",
        "approvers": [v.person for v in change.votes if v.counted] if change else [],
        "votes": [
            {"person": v.person, "type": v.type, "counted": v.counted, "why": v.why, "comment": v.comment}
            for v in (change.votes if change else ())
        ],
        "checks": [
            {"rule": c.rule, "ok": c.ok, "detail": c.detail} for c in (change.checks if change else ())
        ],
        "policy": change.policy if change else None,
        "flags": flags,
    }


def _odd_tags(registry: Registry, expected: dict[str, str]) -> list[dict[str, Any]]:
    from gml.git.revisions import peel

    rows = []
    for ref, oid in registry.store.refs(registry.tags).items():
        short = ref.removeprefix(registry.tags)
        target = peel(registry.store, oid)
        if parse_tag_name(short) is None:
            why = "is no tag of the registry"
        elif short not in expected:
            why = "has no change that backs it"
        elif target != expected[short]:
            why = "is not on the commit that made the change"
        else:
            continue
        rows.append({
            "time": 0, "commit": target or oid, "author": "", "kind": "tag", "model": "", "stage": "",
            "seq": None,
            "version": None, "before": None, "requester": "", "approvers": [], "votes": [], "checks": [],
            "policy": None, "flags": [f"the tag {short} {why}"],
        })  # fmt: skip
    return rows


def last_change(registry: Registry, view: View, model: str, stage: str) -> dict[str, Any] | None:
    """Return who put into a stage what it holds; None when it never held anything.

    Read from the records, not verified: `verify` proves it.
    """
    changes = list(islice(stage_changes(registry, view, model, stage), 2))
    if not changes:
        return None
    newest = changes[0]
    requester, approvers = "", []
    directory = f"approvals/{model}/{stage}/{newest.record.seq}"
    for name in view.names(directory):
        path = f"{directory}/{name}"
        said, _ = read_stage_statement(view.read(path) or b"", path)
        if said.type == records.REQUEST:
            requester = said.person
        elif said.type in {records.APPROVE, records.EVIDENCE}:
            approvers.append(said.person)
    return {
        "model": model, "stage": stage, "seq": newest.record.seq, "version": newest.record.version,
        "before": changes[1].record.version if len(changes) > 1 else None, "digest": newest.record.digest,
        "time": newest.time, "commit": newest.commit, "author": newest.author, "requester": requester,
        "approvers": approvers, "path": names.stage_path(model, stage),
    }  # fmt: skip
