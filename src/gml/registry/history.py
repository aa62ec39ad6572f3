"""The past of the registry: what changed when, read from the commits of the branch."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gml.domain.errors import GmlError, NotFoundError
from gml.fs import write_atomic
from gml.policy import names
from gml.policy.records import Stage, read_stage
from gml.policy.rules import read_policy
from gml.policy.view import MAX_CHANGES
from gml.registry.branch import View
from gml.registry.states import compare

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gml.registry.branch import Registry


log = logging.getLogger("gml")


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


def stage_changes(registry: Registry, view: View, model: str, stage: str) -> Iterator[StageChange]:
    """Yield the turns of a stage, newest first; only as much of the past is read as is asked for.

    A change that was proposed and approved in several commits counts from the one that completed it.
    """
    path = names.stage_path(model, stage)
    held: str | None = None
    row: list[str] = []  # the commits with this record, newest first
    for oid in commits(registry, view.commit):
        here = registry.chain.tree(oid).oid(path)
        if held is not None and here != held:
            yield _change(registry, row, path)
            row = []
        if here is None:
            return
        held = here
        row.append(oid)
    if row:
        yield _change(registry, row, path)


def _change(registry: Registry, row: list[str], path: str) -> StageChange:
    """Return the turn of a record that these commits have, newest first."""
    chain = registry.chain
    record = read_stage(chain.tree(row[-1]).read(path) or b"", path)
    statements = f"approvals/{record.model}/{record.stage}/{record.seq}"
    final = chain.tree(row[0]).directory(statements)
    complete = next(oid for oid in reversed(row) if chain.tree(oid).directory(statements) == final)
    commit = chain.commit(complete)
    return StageChange(record, complete, commit.author, commit.time)


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
    """Return everything that happened to a model, newest first.

    What earlier calls found is kept beside the repository, so that only new commits are looked into; the
    file can be deleted at any time.
    """
    path = registry.workspace.state_dir / "registry" / f"events-{model}.json"
    seen, known = _cached(path)
    found: list[Event] = []
    chain = registry.chain
    directory = f"models/{model}"
    reached = view.commit is None
    for oid in commits(registry, view.commit):
        if oid == seen:
            reached = True
            break
        parents = chain.commit(oid).parents
        new = chain.tree(oid).directory(directory)
        old = chain.tree(parents[0]).directory(directory) if parents else None
        if new is not None and new != old:
            found += _events(registry, oid, model, old, new)
    if reached:
        found += known
    if view.commit is not None and view.commit != seen and view.commit == registry.tip():
        _remember(path, view.commit, found)
    return found


def _cached(path: Path) -> tuple[str | None, list[Event]]:
    try:
        data = json.loads(path.read_text("utf-8"))
        return str(data["tip"]), [Event(*entry) for entry in data["events"]]
    except (OSError, ValueError, KeyError, TypeError):
        # Derived data: without it everything is looked at again.
        return None, []


def _remember(path: Path, tip: str, found: list[Event]) -> None:
    rows = [(e.time, e.author, e.commit, e.what, e.text, e.version, e.stage) for e in found]
    data = {"tip": tip, "events": rows}
    try:
        write_atomic(path, json.dumps(data, separators=(",", ":")).encode(), durable=False)
    except GmlError as error:
        log.debug("gml: %s", error)


def _events(registry: Registry, oid: str, model: str, old: str | None, new: str) -> Iterator[Event]:
    """Yield what one commit did to a model, newest first; read from the records, not verified."""
    directories = registry.chain.directories
    commit = registry.chain.commit(oid)
    before = directories.load(old) if old is not None else {}
    after = directories.load(new)
    found = []
    for name in sorted({name for name, _ in before.items() ^ after.items()}):
        slot = after.get(name)
        if name == b"model.json" and name in before:
            found.append(Event(commit.time, commit.author, oid, "meta", f"{model} record changed"))
        elif name in {b"versions", b"stages"} and slot is not None:
            earlier = before.get(name)
            one = directories.load(earlier[1].hex()) if earlier is not None else {}
            two = directories.load(slot[1].hex())
            for file in sorted({file for file, _ in one.items() ^ two.items()}):
                event = _event(registry, oid, model, f"{name.decode()}/{file.decode('utf-8', 'replace')}")
                if event is not None:
                    found.append(event)
    yield from reversed(found)


def _event(registry: Registry, oid: str, model: str, path: str) -> Event | None:
    commit = registry.chain.commit(oid)
    place = names.classify(f"models/{model}/{path}")
    if place is None:
        return None
    if place.kind == names.VERSION:
        text = f"registered v{place.number}"
        return Event(commit.time, commit.author, oid, "register", text, place.number)
    where = names.stage_path(model, place.stage)
    record = read_stage(registry.chain.tree(oid).read(where) or b"", where)
    held = f"v{record.version}" if record.version is not None else "nothing"
    text = f"{record.stage} is {held} (turn {record.seq})"
    return Event(commit.time, commit.author, oid, "stage", text, record.version, record.stage)


def view_at(registry: Registry, when: int) -> View:
    """Return the registry as it was at a time.

    A change that was proposed then and approved later is not in it.

    Args:
        registry: the registry.
        when: seconds since the epoch; the last commit whose time is not later counts.

    Raises:
        NotFoundError: there was none yet.
    """
    after: str | None = None
    for oid in commits(registry, registry.tip()):
        if registry.chain.commit(oid).time <= when and (after is None or not _waits(registry, oid, after)):
            return View(registry.chain, oid)
        after = oid
    raise NotFoundError("there was no registry at that time")


def _waits(registry: Registry, oid: str, after: str) -> bool:
    """Whether a commit ends in the middle of a change, told by the one after it, which goes on with it."""
    chain = registry.chain
    here, there = chain.tree(oid), chain.tree(after)
    for change in compare(chain.directories, here.root, there.root, MAX_CHANGES):
        place = names.classify(change.path)
        if place is None or place.kind not in {names.APPROVAL, names.STAGE_RECORD, names.POLICY_APPROVAL}:
            continue
        if place.kind == names.POLICY_APPROVAL:
            data = here.read(names.POLICY_PATH)
            if data is not None and read_policy(data).version == place.number:
                return True
            continue
        path = names.stage_path(place.model, place.stage)
        old, new = here.read(path), there.read(path)
        same = old and new and read_stage(old, path).seq == read_stage(new, path).seq
        if same:
            return True
    return False
