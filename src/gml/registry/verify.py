"""Verification by a consumer: replays the branch through the decision, trusting only the first policy."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gml.domain.errors import GmlError, NotFoundError, PolicyError
from gml.fs import write_atomic
from gml.policy import names
from gml.policy.canonical import digest
from gml.policy.errors import RefusedError
from gml.registry.trust import NO_POLICY, Trust, read_trust, write_trust

if TYPE_CHECKING:
    from gml.policy.view import Accepted
    from gml.registry.branch import Registry

log = logging.getLogger("gml")
CACHE_FORMAT = 1


@dataclass(slots=True)
class Verified:
    """A state of the branch that was found in order.

    Attributes:
        tip: the commit.
        root: SHA-256 of the first policy, None where there is none.
        clock: greatest commit time so far.
        steps: number of commits of the branch.
        replayed: how many of them were judged this time; the others had been before.
        accepted: the changes that were judged this time.
    """

    tip: str
    root: str | None
    clock: int
    steps: int
    replayed: int = 0
    accepted: list[Accepted] = field(default_factory=list)


def verify(registry: Registry, tip: str | None = None, *, full: bool = False) -> Verified:
    """Replay the branch up to a commit.

    Args:
        registry: the registry.
        tip: the commit, None for the newest.
        full: judge every commit again, also those that this clone has judged before.

    Raises:
        NotFoundError: there is no registry.
        PolicyError: a commit breaks the rules, the first policy is not the trusted one, or the branch does
            not descend from what was seen before.
    """
    wanted = tip or registry.tip()
    if wanted is None:
        raise NotFoundError(
            "there is no registry here", hint="`gml registry register` makes the first version"
        )
    known = None if full else _cached(registry)
    if known is not None and not _leads_to(registry, known.tip, wanted):
        known = None
    state = _replay(registry, known, wanted)
    _check_trust(registry, state, newest=tip is None)
    if tip is None:
        _remember(registry, state)
    return state


def _leads_to(registry: Registry, old: str, new: str) -> bool:
    try:
        registry.chain.between(old, new)
    except RefusedError:
        return False
    return True


def _replay(registry: Registry, known: Verified | None, tip: str) -> Verified:
    if known is not None and known.tip == tip:
        return Verified(tip, known.root, known.clock, known.steps)
    from gml.policy.decision import Judge

    chain = registry.chain
    old = known.tip if known else None
    base = chain.tree(old) if old is not None else None
    judge = Judge.of(registry.evidence(), base, clock=known.clock if known else 0)
    root = known.root if known else None
    line = chain.between(old, tip)
    accepted: list[Accepted] = []
    for oid in line:
        try:
            done = judge.step(chain.step(oid))
        except RefusedError as error:
            raise _located(error, oid) from None
        if done is not None:
            accepted.append(done)
            if done.kind == "policy" and done.seq == 1:
                root = digest(chain.tree(oid).read(names.POLICY_PATH) or b"")
    try:
        judge.finish()
    except RefusedError as error:
        raise _located(error, tip) from None
    steps = (known.steps if known else 0) + len(line)
    return Verified(tip, root, judge.clock, steps, len(line), accepted)


def _located(error: RefusedError, oid: str) -> RefusedError:
    return RefusedError(
        error.code,
        f"commit {oid[:12]} of the registry is not in order: {error.message}",
        change=error.change,
        hint="nothing after it can be trusted; `gml registry audit` lists what is",
    )  # fmt: skip


def _check_trust(registry: Registry, state: Verified, *, newest: bool) -> None:
    if not newest and state.root is None:
        return  # a state from before the first policy
    trust = read_trust(registry)
    root = state.root or NO_POLICY
    if trust is None:
        if state.root is not None:
            log.warning("gml: trusting the policy %s of this repository on first use", root)
            write_trust(registry, Trust(root, _remote_tip(registry)))
        return
    if trust.root != root:
        raise PolicyError(
            f"the first policy of this repository is {root}, trusted is {trust.root}",
            hint="somebody exchanged the history, or it is another repository; see `gml trust --help`",
        )
    tip = _remote_tip(registry)
    if not newest or tip is None or tip == trust.tip:
        return
    if trust.tip is not None and not _descends(registry, trust.tip, tip):
        raise PolicyError(
            f"the registry was at {trust.tip[:12]} before and {tip[:12]} does not come after it",
            hint="the branch was rolled back or forked; ask whoever runs the server",
        )
    write_trust(registry, Trust(trust.root, tip, trust.pinned))


def _descends(registry: Registry, old: str, new: str) -> bool:
    try:
        return registry.store.contains(old) and registry.store.is_ancestor(old, new)
    except GmlError:
        return False


def _remote_tip(registry: Registry) -> str | None:
    """Return where a remote's branch is: what was pushed is not taken back, unlike what is only here."""
    short = registry.branch.removeprefix("refs/heads/")
    remotes = list(registry.store.remotes())
    if not remotes:
        return registry.store.ref(registry.branch)
    for remote in remotes:
        tip = registry.store.ref(f"refs/remotes/{remote}/{short}")
        if tip is not None:
            return tip
    return None


# --- what this clone has verified already ------------------------------------------------------


def _path(registry: Registry) -> Any:
    return registry.workspace.state_dir / "registry" / "verified.json"


def _cached(registry: Registry) -> Verified | None:
    try:
        data = json.loads(_path(registry).read_text("utf-8"))
        if data["format"] != CACHE_FORMAT or data["branch"] != registry.branch:
            return None
        return Verified(str(data["tip"]), data["root"], int(data["clock"]), int(data["steps"]))
    except (OSError, ValueError, KeyError, TypeError):
        # Derived data: without it everything is judged again.
        return None


def _remember(registry: Registry, state: Verified) -> None:
    if not state.replayed:
        return
    data = {
        "format": CACHE_FORMAT, "branch": registry.branch, "tip": state.tip, "root": state.root,
        "clock": state.clock, "steps": state.steps,
    }  # fmt: skip
    try:
        write_atomic(_path(registry), json.dumps(data).encode(), durable=False)
    except GmlError as error:
        log.debug("gml: %s", error)
