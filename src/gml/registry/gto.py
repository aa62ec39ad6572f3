"""The registry that GTO keeps in tags, brought into the branch: versions, and who held which stage when.

GTO's tags are `model@v1.2.3`, `model#stage#4`, the same with `!` for taking it back, and `model@deprecated`.
Nobody here saw who was allowed to make them: tag, tagger, date and commit are kept under `imported`, as
unverified facts. Order is that of GTO's own counters; dates decide only where there is none.
"""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import yaml

from gml.domain.errors import GmlError, NotFoundError, PolicyError
from gml.git import trees
from gml.git.objects import parse_commit, parse_tag
from gml.policy import names
from gml.policy.canonical import digest
from gml.policy.records import ARCHIVED, NAMESPACE_VERSION, Model, Stage, Version, VersionNote
from gml.registry.branch import Change
from gml.registry.history import stage_changes
from gml.registry.identity import signer_of
from gml.registry.manifest import format_class, manifest_digest
from gml.registry.tags import write_tags

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gml.registry.branch import Registry, View

KIND: Final = "gto"
_NAME: Final = r"[a-zA-Z0-9](?:[a-zA-Z0-9-/_]*[a-zA-Z0-9])?"
_SEMVER: Final = r"v(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?"
_TAG: Final = re.compile(
    rf"(?P<model>(?:[a-zA-Z0-9-_./]+=)?{_NAME})"
    rf"(?:(?:\#(?P<stage>{_NAME})|@(?P<version>{_SEMVER}))(?P<off>!?)|@(?P<deprecated>deprecated))"
    r"(?:\#(?P<count>[0-9]{1,9}))?"
)
_A_COMMIT: Final = 150
_MAX_FILES: Final = 5_000


@dataclass(frozen=True, slots=True)
class Event:
    """One tag of GTO.

    Attributes:
        tag: its name.
        model: GTO's name of the artifact; `folder:name` for one that is described in a folder.
        version: as GTO writes it, None for a change of a stage.
        stage: None for a version.
        off: taken back: deregistered or unassigned.
        count: GTO's counter, 0 where the tag has none.
        commit: what the tag is on.
        time: of the tagger, or of the commit; information only.
        who: tagger or committer.
        deprecated: the whole artifact is.
    """

    tag: str
    model: str
    version: str | None
    stage: str | None
    off: bool
    count: int
    commit: str
    time: int
    who: str
    deprecated: bool = False

    def facts(self) -> dict[str, str]:
        """Return what is kept, unverified."""
        date = datetime.fromtimestamp(self.time, UTC).isoformat()
        return {"from": KIND, "tag": self.tag, "commit": self.commit, "date": date, "tagger": self.who}


@dataclass(slots=True)
class Report:
    """What an import did.

    Attributes:
        versions: number of versions that were registered.
        changes: number of changes of stages.
        notes: what was left out or called otherwise, and why.
    """

    versions: int = 0
    changes: int = 0
    notes: list[str] = field(default_factory=list)


def parse_name(tag: str) -> re.Match[str] | None:
    """Return the parts of a tag's name, None where it is none of GTO's.

    Example:
        >>> parse_name("churn#prod#2")["stage"], parse_name("gml/churn/v1")
        ('prod', None)
    """
    return _TAG.fullmatch(tag)


def read_events(registry: Registry) -> list[Event]:
    """Return GTO's tags in its order: versions by date and number, changes of a stage by counter."""
    from gml.git.revisions import peel

    store = registry.store
    found = []
    for ref, oid in store.refs("refs/tags/").items():
        name = ref.removeprefix("refs/tags/")
        match = parse_name(name)
        commit = peel(store, oid, "commit") if match is not None else None
        if match is None or commit is None:
            continue
        kind, data = store.read(oid)
        if kind == "tag":
            tag = parse_tag(data)
            when, who = tag.time, tag.tagger
        else:
            facts = parse_commit(data)
            when, who = facts.commit_time, facts.committer
        found.append(Event(
            tag=name, model=match["model"].replace("=", ":"), version=match["version"], stage=match["stage"],
            off=match["off"] == "!", count=int(match["count"] or 0), commit=commit, time=when,
            who=_plain(f"{who.name} <{who.email}>") if who else "", deprecated=bool(match["deprecated"]),
        ))  # fmt: skip
    return sorted(found, key=lambda e: (e.stage is not None, e.count, e.time, _order(e.version), e.tag))


def import_gto(
    registry: Registry, *, stages: Mapping[str, str] | None = None, only: tuple[str, ...] = ()
) -> Report:
    """Bring GTO's versions and changes of stages into the registry; what is there already stays.

    Args:
        registry: the registry of the repository that has the tags.
        stages: other names for stages, such as `{"prod": "Production"}`.
        only: GTO's names of models, all where it is empty.

    Raises:
        NotFoundError: there are no tags of GTO here.
        PolicyError: the policy does not let them in.
    """
    report = Report()
    events = read_events(registry)
    if not events:
        raise NotFoundError(
            "there are no tags of GTO here", hint="such as model@v1.0.0; `git fetch --tags` brings them"
        )
    for model in sorted({event.model for event in events}):
        if only and model not in only:
            continue
        _Importer(registry, model, [e for e in events if e.model == model], stages or {}, report).run()
    return report


class _Importer:
    """Imports one model."""

    def __init__(
        self, registry: Registry, model: str, events: list[Event], stages: Mapping[str, str], report: Report
    ) -> None:
        self._registry = registry
        self._source = model
        self._events = events
        self._stages = stages
        self._report = report
        self._name = model if names.is_model(model) else re.sub(r"[^A-Za-z0-9._-]+", "-", model).strip("-.")
        self._numbers: dict[str, int] = {}

    def run(self) -> None:
        if not names.is_model(self._name):
            self._report.notes.append(f"{self._source!r} cannot name a model here and was left out")
            return
        if self._name != self._source:
            self._report.notes.append(f"model {self._source!r} is called {self._name!r} here")
        self._versions()
        self._changes()
        self._said()

    def _known(self, view: View) -> dict[str, int]:
        """Return the versions that were imported before: GTO's -> the number here."""
        found = {}
        for version in view.versions(self._name):
            facts = version.imported or {}
            if facts.get("from") == KIND:
                found[facts.get("tag", "").rpartition("@")[2]] = version.version
        return found

    def _versions(self) -> None:
        wanted = [e for e in self._events if e.version is not None and not e.off]
        while True:
            made: list[Event] = []

            def build(view: View, made: list[Event] = made) -> Change:
                known = self._known(view)
                made[:] = [e for e in wanted if e.version not in known][:_A_COMMIT]
                start = max(view.numbers(self._name), default=0) + 1
                files = {}
                for number, event in enumerate(made, start):
                    files[names.version_path(self._name, number)] = self._version(view, number, event)
                if view.read(names.meta_path(self._name)) is None:
                    files[names.meta_path(self._name)] = Model(self._name).encode()
                return Change(files, f"{self._name}: import {len(made)} versions from {KIND}\n")

            known = self._known(self._registry.view())
            if all(event.version in known for event in wanted):
                self._numbers = known
                return
            _, accepted = self._registry.commit(build)
            write_tags(self._registry, accepted)
            self._report.versions += len(made)

    def _version(self, view: View, number: int, event: Event) -> bytes:
        signer = signer_of(self._registry, view)
        path, files, more = self._files(event)
        version = Version(
            model=self._name,
            version=number,
            run=None,
            experiment=None,
            path=path,
            digest=manifest_digest(files),
            files=len(files),
            size=sum(facts["size"] for facts in files.values()),
            format_class=format_class(files),
            documents={},
            created=int(time.time() * 1000),
            creator=signer.name,
            description=f"{event.version} of {KIND}",
            imported=event.facts() | more,
        )
        return signer.sign_version(version, NAMESPACE_VERSION).encode()

    def _files(self, event: Event) -> tuple[str, dict[str, dict[str, Any]], dict[str, str]]:
        """Return the path of an artifact, its files as git has them at that commit, and more facts."""
        store = self._registry.store
        root = parse_commit(store.read(event.commit)[1]).tree
        folder, _, name = event.model.rpartition(":")
        prefix = f"{folder}/" if folder else ""
        stated = self._described(root, prefix, name)
        if not stated:
            return "", {}, {}
        path = "/".join(part for part in f"{prefix}{stated}".split("/") if part not in {"", "."})
        try:
            entry = trees.lookup(store, root, path)
        except GmlError:
            return "", {}, {}
        if entry is None:
            return path, {}, self._pointer(root, path)
        found: dict[str, dict[str, Any]] = {}
        kind, data = store.read(entry.oid)
        if kind == "blob":
            found[path.rpartition("/")[2]] = _facts(data)
        else:
            for name_, _, new in trees.walk(store, None, entry.oid):
                if new is not None and len(found) < _MAX_FILES:
                    found[name_] = _facts(store.read(new.oid)[1])
        return path, found, {}

    def _described(self, root: str, prefix: str, name: str) -> str | None:
        """Return what dvc.yaml, or the older artifacts.yaml, says where an artifact is."""
        for file, key in (("dvc.yaml", "artifacts"), ("artifacts.yaml", None)):
            data = self._yaml(root, f"{prefix}{file}")
            table = data.get(key) if key else data
            entry = table.get(name) if isinstance(table, dict) else None
            path = entry.get("path") if isinstance(entry, dict) else None
            if isinstance(path, str) and path:
                return path
        return None

    def _pointer(self, root: str, path: str) -> dict[str, str]:
        """Return what a pointer of DVC says about files that git does not have."""
        outs = self._yaml(root, f"{path}.dvc").get("outs")
        first = outs[0] if isinstance(outs, list) and outs and isinstance(outs[0], dict) else {}
        return {f"dvc_{key}": str(first[key])[:100] for key in ("md5", "size", "nfiles") if key in first}

    def _yaml(self, root: str, path: str) -> dict[str, Any]:
        store = self._registry.store
        try:
            entry = trees.lookup(store, root, path)
            data = yaml.safe_load(store.read(entry.oid)[1]) if entry is not None else None
        except (GmlError, yaml.YAMLError, UnicodeDecodeError, RecursionError):
            return {}
        return data if isinstance(data, dict) else {}

    # --- stages -------------------------------------------------------------------------------

    def _changes(self) -> None:
        done: dict[str, set[str]] = {}
        for event in self._events:
            if event.stage is None:
                continue
            stage = self._stages.get(event.stage, event.stage)
            if not names.is_stage(stage):
                self._report.notes.append(f"{event.tag}: {stage!r} cannot name a stage; --stage renames it")
                continue
            if stage not in done:
                done[stage] = self._tags_of(stage)
            if event.tag in done[stage]:
                continue
            number = None if event.off else self._held_by(event)
            if number is None and not event.off:
                self._report.notes.append(f"{event.tag} is on a commit without a version and was left out")
                continue
            self._change(stage, number, event)

    def _tags_of(self, stage: str) -> set[str]:
        view = self._registry.view()
        changes = stage_changes(self._registry, view, self._name, stage)
        return {(change.record.imported or {}).get("tag", "") for change in changes}

    def _held_by(self, event: Event) -> int | None:
        """Return the version that an assignment means: the highest on the commit that its tag is on."""
        found = [e.version for e in self._events if e.version and not e.off and e.commit == event.commit]
        best = max(found, key=_order, default=None)
        return self._numbers.get(best) if best is not None else None

    def _change(self, stage: str, number: int | None, event: Event) -> None:
        view = self._registry.view()
        if view.policy is not None:
            raise PolicyError(
                f"{event.tag}: there is a policy, and nobody here saw who approved this",
                hint="import first and protect then, or `gml registry promote`",
            )
        before = view.stage(self._name, stage)
        if (before.version if before else None) == number:
            return  # GTO allows an assignment to be made again

        def build(view: View) -> Change:
            path = names.stage_path(self._name, stage)
            old, last = view.read(path), view.stage(self._name, stage)
            record = Stage(
                model=self._name, stage=stage, seq=last.seq + 1 if last else 1,
                prev=digest(old) if old is not None else None, version=number,
                digest=view.version(self._name, number).digest if number else None, imported=event.facts(),
            )  # fmt: skip
            held = f"v{number}" if number else "nothing"
            return Change({path: record.encode()}, f"{self._name}: {stage} is {held}, imported from {KIND}\n")

        _, accepted = self._registry.commit(build)
        write_tags(self._registry, accepted)
        self._report.changes += 1

    def _said(self) -> None:
        """Mark what was taken back over there, and keep GTO's own numbers as tags."""

        def edit(view: View) -> Model:
            before = view.model(self._name)
            held = {record.version for record in view.stages(self._name).values()}
            notes = dict(before.versions)
            off = {e.version for e in self._events if e.version is not None and e.off}
            for version, number in self._numbers.items():
                note = notes.get(str(number), VersionNote())
                status = ARCHIVED if version in off and number not in held else None
                notes[str(number)] = replace(
                    note,
                    tags={"gto.version": version, **note.tags},
                    status=note.status or status,
                    reason=note.reason or ("deregistered in GTO" if status and not note.status else ""),
                )
            tags = dict(before.tags)
            if any(event.deprecated for event in self._events):
                tags.setdefault("gto.deprecated", "true")
            return replace(before, versions=notes, tags=tags)

        view = self._registry.view()
        if not self._numbers or edit(view) == view.model(self._name):
            return
        self._registry.commit(
            lambda now: Change(
                {names.meta_path(self._name): edit(now).encode()}, f"{self._name}: import from {KIND}\n"
            )
        )


def _facts(data: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}


def _plain(text: str) -> str:
    return "".join(c for c in " ".join(text.split()) if c.isprintable())[:200]


def _order(version: str | None) -> tuple[Any, ...]:
    """Return a key that sorts versions as semver does."""
    if version is None:
        return ()
    core, _, pre = version[1:].partition("+")[0].partition("-")
    parts = [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in pre.split(".")] if pre else []
    return (*map(int, core.split(".")), not pre, parts)
