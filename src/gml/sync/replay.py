"""Two clones that both changed the registry: our commits go on top of theirs, or the conflict is shown.

A change that does not touch what theirs touched is made again as it was. A version whose number they
took gets the next one, before anybody else sees it. Two changes of the same stage, or of the same word
about a model, are for people to decide: both are named with who and when, and nothing is written.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from gml import fs
from gml.domain.errors import GmlError, RefMovedError
from gml.git.objects import format_commit, object_id, parse_commit
from gml.policy import names
from gml.policy.canonical import digest
from gml.policy.records import NAMESPACE_VERSION, Model, read_model, read_stage, read_version
from gml.policy.view import MAX_CHANGES
from gml.registry.branch import Change, Registry
from gml.registry.identity import signer_of
from gml.registry.states import compare
from gml.registry.tags import parse_tag_name, write_tags

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gml.policy.records import Stage
    from gml.registry.branch import View
    from gml.workspace import Workspace

MOST: Final = 1_000


@dataclass(slots=True)
class Replayed:
    """What became of our commits.

    Attributes:
        tip: the new commit of the branch, None when people have to decide.
        base: the newest commit that both have, None for none.
        renumbered: `churn v4 is v5 now`, one line each.
        conflicts: one line each; nothing was written when there are some.
    """

    tip: str | None = None
    base: str | None = None
    renumbered: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)


class _ConflictError(Exception):
    """People have to decide; the message is the line that says about what."""


def replay(workspace: Workspace, mine: str, theirs: str, remote: str) -> Replayed:
    """Make the commits of our registry that a remote lacks again on top of the remote's, and move the branch.

    Args:
        workspace: the repository.
        mine: our tip.
        theirs: the remote's, of another history since some commit.
        remote: its name, for the lines.
    """
    registry = Registry(workspace)
    done = Replayed()
    with fs.locked(workspace.state_dir / "registry.lock"):
        try:
            work = _Replay(registry, mine, theirs, remote)
            tip = work.run()
            accepted = registry.judge(theirs, tip)
        except _ConflictError as error:
            done.conflicts.append(str(error))
            return done
        except GmlError as error:
            done.conflicts.append(f"what was changed here does not fit on that of {remote}: {error}")
            return done
        try:
            registry.move(registry.branch, mine, tip, [], "pull: made again on top of the remote's")
        except RefMovedError:
            done.conflicts.append("the registry moved meanwhile; push again")
            return done
        _move_tags(registry, work)
        write_tags(registry, accepted)
    done.tip, done.base = tip, work.base
    done.renumbered = [
        f"{model} v{old} is v{new} now: {remote} has another v{old}"
        for (model, old), new in work.numbers.items()
        if old != new
    ]
    return done


def _move_tags(registry: Registry, work: _Replay) -> None:
    """Remove the tags of commits that were made again; nobody else has seen them."""
    for ref, oid in registry.store.refs(registry.tags).items():
        kind, data = registry.store.read(oid)
        target = data.partition(b"\n")[0].partition(b" ")[2].decode() if kind == "tag" else oid
        if target in work.replaced and parse_tag_name(ref.removeprefix(registry.tags)):
            registry.store.delete_ref(ref, expected=oid)


class _Replay:
    """One replay; objects are written, no ref is moved."""

    def __init__(self, registry: Registry, mine: str, theirs: str, remote: str) -> None:
        self._registry = registry
        self._remote = remote
        self._mine, self._theirs = mine, theirs
        self.replaced: list[str] = []
        at: str | None = mine
        while at is not None and not registry.store.is_ancestor(at, theirs):
            if len(self.replaced) >= MOST:
                raise _ConflictError(f"more than {MOST} commits of the registry are only here")
            self.replaced.insert(0, at)
            parents = registry.chain.commit(at).parents
            at = parents[0] if parents else None
        self.base = at
        self.numbers: dict[tuple[str, int], int] = {}

    def run(self) -> str:
        """Return the new tip."""
        tip = self._theirs
        for commit in self.replaced:
            tip = self._again(commit, tip)
        return tip

    def _again(self, commit: str, tip: str) -> str:
        registry = self._registry
        chain = registry.chain
        facts = chain.commit(commit)
        before = chain.commit(facts.parents[0]).tree if facts.parents else None
        view, old = registry.view(tip), registry.view(commit)
        files: dict[str, bytes] = {}
        for change in compare(chain.directories, before, facts.tree, MAX_CHANGES):
            data = old.read(change.path)
            if change.path == names.FORMAT_PATH or data is None:
                continue
            path, made = self._file(view, commit, change.path, data)
            if view.read(path) != made:
                files[path] = made
        if not files:
            return tip
        new, objects = registry.make_commit(view, Change(files, self._message(commit)), (tip,))
        kind, data = objects[-1]
        kept = self._by_its_author(commit, data)
        objects[-1] = (kind, kept)
        new = object_id("commit", kept, registry.store.location.object_format)
        registry.store.write_pack(objects)
        return new

    def _by_its_author(self, commit: str, data: bytes) -> bytes:
        """Keep who made the change and when, unless the new commit had to be signed."""
        made, was = parse_commit(data), parse_commit(self._registry.store.read(commit)[1])
        if made.extra:
            return data
        return format_commit(
            replace(made, author=was.author, author_time=was.author_time, author_offset=was.author_offset)
        )

    def _message(self, commit: str) -> str:
        text = parse_commit(self._registry.store.read(commit)[1]).message
        for (model, old), new in self.numbers.items():
            if old != new and text.startswith(f"{model}: "):
                head, newline, rest = text.partition("\n")
                text = re.sub(rf"\bv{old}\b", f"v{new}", head) + newline + rest
        return text

    # --- one file -----------------------------------------------------------------------------

    def _file(self, view: View, commit: str, path: str, data: bytes) -> tuple[str, bytes]:
        place = names.classify(path)
        if place is None:
            raise _ConflictError(f"{path} does not belong into a registry")
        if place.kind == names.VERSION:
            return self._version(view, path, data)
        if place.kind == names.META:
            return path, self._meta(view, commit, path, data)
        if place.kind == names.STAGE_RECORD:
            return path, self._stage(view, path, data)
        # Signed by people, about exact content: as they are, or not at all.
        if self._changed_there(path) and view.read(path) != data:
            raise self._both(path, path)
        return path, data

    def _version(self, view: View, path: str, data: bytes) -> tuple[str, bytes]:
        version = read_version(data, path)
        taken = view.numbers(version.model)
        number = taken[-1] + 1 if taken else 1
        self.numbers[version.model, version.version] = number
        if number == version.version:
            return path, data
        again = replace(version, version=number, signature=None)
        if version.signature is not None:
            actor = signer_of(self._registry, view)
            if actor.name != version.creator:
                raise _ConflictError(
                    f"{version.model} v{version.version} of {version.creator} is taken on {self._remote}, "
                    "and only its creator can sign it with another number"
                )
            again = actor.sign_version(again, NAMESPACE_VERSION)
        return names.version_path(version.model, number), again.encode()

    def _number(self, model: str, number: int) -> int:
        return self.numbers.get((model, number), number)

    def _stage(self, view: View, path: str, data: bytes) -> bytes:
        record = read_stage(data, path)
        old = view.read(path)
        if self._changed_there(path):
            raise self._both(path, f"{record.stage} of {record.model}", self._held(view, path, record))
        number = None if record.version is None else self._number(record.model, record.version)
        prev = digest(old) if old is not None else None
        again = replace(record, version=number, prev=prev)
        if again != record and view.policy is not None:
            raise _ConflictError(
                f"{record.stage} of {record.model}: v{record.version} was approved and is v{number} now; "
                "the approvals say the old number: promote it again"
            )
        return again.encode()

    def _held(self, view: View, path: str, record: Stage) -> tuple[str, str]:
        data = view.read(path)
        theirs = read_stage(data, path).version if data is not None else None
        here, there = (f"v{number}" if number else "nothing" for number in (record.version, theirs))
        return here, there

    def _changed_there(self, path: str) -> bool:
        base = self._registry.view(self.base).read(path) if self.base is not None else None
        return self._registry.view(self._theirs).read(path) != base

    def _both(self, path: str, what: str, held: tuple[str, str] = ("", "")) -> _ConflictError:
        here, there = (self._last(tip, path) for tip in (self._mine, self._theirs))
        words = ("here", held[0], "by", here + ",", "on", self._remote, held[1], "by", there)
        return _ConflictError(f"{what} was changed twice: {' '.join(word for word in words if word)}")

    def _last(self, tip: str, path: str) -> str:
        """Return who changed a file last before a commit, and when."""
        chain = self._registry.chain
        at = tip
        wanted = chain.tree(tip).oid(path)
        while True:
            parents = chain.commit(at).parents
            if not parents or chain.tree(parents[0]).oid(path) != wanted:
                facts = chain.commit(at)
                when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(facts.time))
                return f"{facts.author} at {when} UTC ({at[:12]})"
            at = parents[0]

    # --- what people say about a model ----------------------------------------------------------

    def _meta(self, view: View, commit: str, path: str, data: bytes) -> bytes:
        parents = self._registry.chain.commit(commit).parents
        before = self._registry.view(parents[0]).read(path) if parents else None
        mine = read_model(data, path)
        empty = Model(mine.model, alias_of=mine.alias_of if before is None else None)
        was = read_model(before, path) if before is not None else empty
        data = view.read(path) or b""
        theirs = read_model(data, path) if data else was
        versions = {str(self._number(mine.model, int(key))): note for key, note in mine.versions.items()}
        old = {str(self._number(mine.model, int(key))): note for key, note in was.versions.items()}
        aliases = {alias: self._number(mine.model, number) for alias, number in mine.aliases.items()}
        old_aliases = {alias: self._number(mine.model, number) for alias, number in was.aliases.items()}
        return Model(
            mine.model,
            description=self._pick(
                path, "description", was.description, mine.description, theirs.description
            ),
            tags=self._union(path, "tag", was.tags, mine.tags, theirs.tags),
            aliases=self._union(path, "alias", old_aliases, aliases, theirs.aliases),
            versions=self._union(path, "version", old, versions, theirs.versions),
            alias_of=self._pick(path, "name", was.alias_of, mine.alias_of, theirs.alias_of),
        ).encode()

    def _union(
        self, path: str, what: str, was: Mapping[str, Any], mine: Mapping[str, Any], theirs: Mapping[str, Any]
    ) -> dict[str, Any]:
        out = dict(theirs)
        for key in sorted(was.keys() | mine.keys()):
            value = self._pick(path, f"{what} {key}", was.get(key), mine.get(key), theirs.get(key))
            if value is None:
                out.pop(key, None)
            else:
                out[key] = value
        return out

    def _pick(self, path: str, what: str, was: Any, mine: Any, theirs: Any) -> Any:
        if mine in (was, theirs):
            return theirs
        if theirs == was:
            return mine
        raise self._both(path, f"{what} of {path.split('/')[1]}", (repr(mine), repr(theirs)))
