"""The past of the registry: what changed when, read from the commits of the branch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gml.domain.errors import NotFoundError
from gml.policy import names
from gml.policy.records import Stage, read_stage
from gml.registry.branch import View

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gml.registry.branch import Registry


@dataclass(frozen=True, slots=True)
class StageChange:
    """One turn of a stage.

    Attributes:
        record: what the stage held from then on.
        commit: commit of the branch that made it.
        author: address of the commit's author.
        time: committer's seconds since the epoch; information only.
    """

    record: Stage
    commit: str
    author: str
    time: int


def commits(registry: Registry, tip: str | None) -> Iterator[str]:
    """Yield the first-parent commits of the branch, newest first."""
    at = tip
    while at is not None:
        yield at
        parents = registry.chain.commit(at).parents
        at = parents[0] if parents else None


def stage_changes(registry: Registry, view: View, model: str, stage: str) -> list[StageChange]:
    """Return all turns of a stage, newest first.

    Only commits in whose tree the model's directory differs are looked into.
    """
    found: list[StageChange] = []
    path = names.stage_path(model, stage)
    newer: tuple[str, str] | None = None
    for oid in commits(registry, view.commit):
        here = registry.chain.tree(oid).oid(path)
        if newer is not None and here != newer[1]:
            found.append(_change(registry, newer[0], path))
        newer = (oid, here) if here is not None else None
        if here is None:
            break
    if newer is not None:
        found.append(_change(registry, newer[0], path))
    return found


def _change(registry: Registry, oid: str, path: str) -> StageChange:
    commit = registry.chain.commit(oid)
    record = read_stage(registry.chain.tree(oid).read(path) or b"", path)
    return StageChange(record, oid, commit.author, commit.time)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a model.

    Attributes:
        time: committer's seconds since the epoch; information only.
        author: address of the commit's author.
        commit: commit of the branch.
        what: `register`, `stage` or `meta`.
        text: one line.
        version: number, where it is about one.
        stage: name, where it is about one.
    """

    time: int
    author: str
    commit: str
    what: str
    text: str
    version: int | None = None
    stage: str = ""


def events(registry: Registry, view: View, model: str) -> list[Event]:
    """Return everything that happened to a model, newest first."""
    found: list[Event] = []
    chain = registry.chain
    line = list(commits(registry, view.commit))
    for position, oid in enumerate(line):
        after = chain.tree(oid)
        before = chain.tree(line[position + 1]) if position + 1 < len(line) else None
        directory = f"models/{model}"
        new, old = after.directory(directory), before.directory(directory) if before else None
        if new == old or new is None:
            continue
        found += _events(registry, oid, model, old, new)
    return found


def _events(registry: Registry, oid: str, model: str, old: str | None, new: str) -> Iterator[Event]:
    from gml.registry.states import compare

    chain = registry.chain
    commit, after = chain.commit(oid), chain.tree(oid)
    for change in reversed(compare(chain.directories, old, new, 10_000)):
        path = f"models/{model}/{change.path}"
        place = names.classify(path)
        if place is None:
            continue
        if place.kind == names.VERSION:
            text = f"registered v{place.number}"
            yield Event(commit.time, commit.author, oid, "register", text, place.number)
        elif place.kind == names.STAGE_RECORD:
            record = read_stage(after.read(path) or b"", path)
            held = f"v{record.version}" if record.version is not None else "nothing"
            yield Event(
                commit.time, commit.author, oid, "stage", f"{record.stage} is {held} (turn {record.seq})",
                record.version, record.stage,
            )  # fmt: skip
        elif change.old is not None:
            subject = f"{model} record changed"
            yield Event(commit.time, commit.author, oid, "meta", subject)


def view_at(registry: Registry, when: int) -> View:
    """Return the registry as it was at a time.

    Args:
        registry: the registry.
        when: seconds since the epoch; the last commit whose time is not later counts.

    Raises:
        NotFoundError: there was none yet.
    """
    for oid in commits(registry, registry.tip()):
        if registry.chain.commit(oid).time <= when:
            return View(registry.chain, oid)
    raise NotFoundError("there was no registry at that time")
