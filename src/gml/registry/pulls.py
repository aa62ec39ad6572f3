"""A pull request on a forge, judged: its reviews become signed statements, and it gets status and comment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gml.domain.errors import ConflictError, NotFoundError, PolicyError, RemoteError, UsageError
from gml.git.connect import connect
from gml.git.transport import Refspec, Update
from gml.policy.errors import RefusedError
from gml.registry.check import check

if TYPE_CHECKING:
    from gml.registry.branch import Registry
    from gml.registry.check import CheckReport
    from gml.registry.forge_api import Forge, Pull


@dataclass(frozen=True, slots=True)
class Judged:
    """What was found about a pull request.

    Attributes:
        number: as the forge counts.
        head: its newest commit, that with the recorded reviews where there are new ones.
        state: `success`, `pending` where only approvals are missing, or `failure`.
        text: one line about it.
        recorded: persons whose reviews were recorded now.
    """

    number: int
    head: str
    state: str
    text: str
    recorded: tuple[str, ...]


def judge_pull(registry: Registry, forge: Forge, number: int, *, remote: str, key: str | None) -> Judged:
    """Judge a pull request and tell the forge; only git objects are read.

    Args:
        registry: a clone whose remote-tracking branch of the registry and whose ledger are up to date.
        forge: the repository on the forge.
        number: of the pull request.
        remote: name of the remote.
        key: SSH key of the service that vouches for reviews; None where they do not count.

    Raises:
        RemoteError: the forge does not answer, or refuses.
        ConflictError: the branch of the pull request moved meanwhile.
        UsageError: it does not go into the registry's branch.
    """
    pull = forge.pull(number)
    short = registry.branch.removeprefix("refs/heads/")
    if pull.base != short:
        raise UsageError(f"pull request {number} goes into {pull.base}, not into {short}")
    base = registry.store.ref(f"refs/remotes/{remote}/{short}")
    if base is None:
        raise NotFoundError(f"{short} of {remote} is not here", hint="fetch it first")
    space = registry.workspace.settings.namespace
    here = f"refs/{space}/remotes/{remote}/pull/{number}"
    way = connect(registry.store, remote)
    way.fetch([Refspec(pull.ref, here)])
    if registry.store.ref(here) != pull.head:
        raise ConflictError(f"the branch of pull request {number} is moving", hint="judge it again")
    vouch = key is not None and pull.branch is not None
    # Where reviews do not count, they are not looked at either: the branch alone has to hold.
    report = check(registry, base, pull.head, pull.payload if vouch else None, key, here if vouch else None)
    head = pull.head
    if report.recorded:
        _push(registry, remote, pull, report)
        head = report.head
    state, text = _verdict(report)
    forge.set_status(head, state, text)
    forge.comment(number, report.page)
    return Judged(number, head, state, text, report.recorded)


def _push(registry: Registry, remote: str, pull: Pull, report: CheckReport) -> None:
    way = connect(registry.store, remote)
    (outcome,) = way.push([Update(f"refs/heads/{pull.branch}", report.head, pull.head)])
    if outcome.state == "stale":
        raise ConflictError(f"the branch of pull request {pull.number} is moving", hint="judge it again")
    if outcome.state != "ok":
        raise RemoteError(f"{pull.branch} could not be pushed: {outcome.message or outcome.state}")


def _verdict(report: CheckReport) -> tuple[str, str]:
    problem = report.problem
    if problem is None:
        return "success", "in order"
    waits = isinstance(problem, RefusedError) and problem.pending
    blocked = isinstance(problem, PolicyError)
    return ("pending" if waits else "failure"), problem.message if blocked else str(problem)
