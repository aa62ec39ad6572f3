"""Tags of versions and stage changes: derived from the branch, made once, never moved."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from gml.domain.errors import RefMovedError, RemoteError
from gml.git.objects import Tag, format_tag, parse_commit
from gml.policy import names

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gml.policy.view import Accepted
    from gml.registry.branch import Registry

AT_ONCE: Final = 3
_TAG: Final = re.compile(r"([^/]+)/(?:v([1-9][0-9]{0,8})|([^/]+)/([1-9][0-9]{0,8}))")


def parse_tag_name(name: str) -> tuple[str, str, int] | None:
    """Return model, stage (empty for a version) and number of a tag name below the prefix.

    Example:
        >>> parse_tag_name("churn/v4"), parse_tag_name("churn/Production/2"), parse_tag_name("churn/v04")
        (('churn', '', 4), ('churn', 'Production', 2), None)
    """
    match = _TAG.fullmatch(name)
    if match is None or not names.is_model(match[1]):
        return None
    if match[2]:
        return match[1], "", int(match[2])
    return (match[1], match[3], int(match[4])) if names.is_stage(match[3]) else None


def tag_names(change: Accepted) -> list[str]:
    """Return the names, below the prefix, of the tags that a change gets."""
    if change.kind == "stage":
        return [f"{change.model}/{change.stage}/{change.seq}"]
    return [f"{model}/v{number}" for model, numbers in change.versions.items() for number in numbers]


def write_tags(registry: Registry, accepted: Iterable[Accepted]) -> list[str]:
    """Make the tags of some changes that are on the branch, where they are missing.

    Returns:
        The full names of those that were made.
    """
    made = []
    for change in accepted:
        for short in tag_names(change):
            ref = f"{registry.tags}{short}"
            if registry.store.ref(ref) is not None:
                continue
            oid = registry.store.write("tag", _tag(registry, change, ref.removeprefix("refs/tags/")))
            try:
                registry.store.update_ref(ref, oid, expected=None, message="tag")
            except RefMovedError:
                continue
            made.append(ref)
    return made


def missing_changes(registry: Registry, accepted: Iterable[Accepted]) -> list[Accepted]:
    """Return the changes that lack a tag."""
    there = registry.store.refs(registry.tags)
    return [
        change
        for change in accepted
        if any(f"{registry.tags}{name}" not in there for name in tag_names(change))
    ]


def push_tags(registry: Registry, remote: str) -> list[str]:
    """Push the tags that a remote lacks, at most three in one push.

    Some forges start no job for more than three tags at once.

    Returns:
        The full names of those that were pushed.

    Raises:
        RemoteError: the remote refuses one.
    """
    from gml.git.connect import connect
    from gml.git.transport import Update

    way = connect(registry.store, remote)
    there = way.refs([registry.tags])
    missing = [(ref, oid) for ref, oid in registry.store.refs(registry.tags).items() if ref not in there]
    for start in range(0, len(missing), AT_ONCE):
        updates = [Update(ref, oid, None) for ref, oid in missing[start : start + AT_ONCE]]
        for outcome in way.push(updates):
            # Stale: somebody else has made it meanwhile, and every clone makes the same one.
            if outcome.state not in {"ok", "stale"}:
                raise RemoteError(f"{outcome.name} could not be pushed: {outcome.message or outcome.state}")
    return [ref for ref, _ in missing]


def _tag(registry: Registry, change: Accepted, name: str) -> bytes:
    if change.kind == "stage":
        held = f"v{change.version}" if change.version is not None else "nothing"
        lines = [f"{change.model}: {change.stage} is {held}"]
        counted = [vote.person for vote in change.votes if vote.counted]
        if change.requester:
            lines += ["", f"requested by {change.requester}"]
        if counted:
            lines.append(f"approved by {', '.join(counted)}")
    else:
        lines = [name]
    message = "\n".join(lines) + "\n"
    commit = change.commits[-1]
    # Who and when are those of the commit: every clone that makes this tag makes the same object.
    facts = parse_commit(registry.store.read(commit)[1])
    data = format_tag(
        Tag(commit, "commit", name, facts.committer, facts.commit_time, message, facts.commit_offset)
    )
    config = registry.store.config
    asked = (config("tag.gpgsign") or "").lower() in {"true", "1", "yes", "on"}
    if not asked or config("gpg.format") != "ssh":
        return data
    from gml.registry.signing import find_signer

    return data + find_signer(registry.store).sign(data, "git").encode("ascii")
