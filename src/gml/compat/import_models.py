"""Registered models of another registry: the same numbers, stages and aliases, as unverified facts.

Nobody here saw who approved what over there. So each record says what the other registry said under
`imported`, and the rules of this registry hold: where a policy protects a stage, it stays as it is.
"""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from gml.domain.errors import GmlError, PolicyError
from gml.policy import names
from gml.policy.records import (
    ARCHIVED,
    DELETED,
    MAX_TAGS,
    MAX_TEXT,
    NAMESPACE_VERSION,
    Model,
    Stage,
    Version,
    VersionNote,
)
from gml.registry.branch import Change, Registry
from gml.registry.identity import signer_of
from gml.registry.manifest import format_class, manifest, manifest_digest
from gml.registry.register import read_run
from gml.registry.tags import write_tags

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gml.compat.foreign import ForeignModel, ForeignVersion, Losses
    from gml.compat.importing import Report
    from gml.registry.branch import View
    from gml.workspace import Workspace

_A_COMMIT: Final = 150
_NO_FILES: Final = manifest_digest({})
_IN_RUN: Final = re.compile(r".*/([^/]+)/artifacts/?(.*)")
_IN_MODEL: Final = re.compile(r"models:/(m-[0-9a-f]+)/?(.*)")
_OF_RUN: Final = re.compile(r"runs:/([^/]+)/?(.*)")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
NAME_TAG: Final = "mlflow.name"
_NO_STAGE: Final = frozenset({"", "none", "archived"})
_TITLE: Final = {"production": "Production", "staging": "Staging"}


class ModelImporter:
    """Brings registered models into the registry.

    Args:
        workspace: the repository; the runs are in its ledger already.
        kind: `mlflow` and so on.
        report: gets the counts and notes.
        losses: counts what has no home.
    """

    def __init__(self, workspace: Workspace, kind: str, report: Report, losses: Losses) -> None:
        self._registry = Registry(workspace)
        self._kind = kind
        self._report = report
        self._losses = losses

    def take(self, model: ForeignModel) -> None:
        """Import one model; what is there already stays.

        Raises:
            StorageError: it could not be written.
        """
        name = self._name(model.name)
        try:
            self._versions(name, model)
            self._stages(name, model)
            self._meta(name, model)
        except PolicyError as error:
            self._losses.add("registered models that the policy does not let in", f"{name} ({error.message})")

    def _name(self, name: str) -> str:
        if names.is_model(name):
            return name
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:90] or "model"
        plain = plain if names.is_model(plain) else f"model-{plain}"
        self._report.notes.append(f"model {name!r} is called {plain!r} here")
        return plain

    # --- versions -----------------------------------------------------------------------------

    def _versions(self, name: str, model: ForeignModel) -> None:
        given = {version.number: version for version in model.versions if version.number > 0}
        last = max(given, default=0)
        if last > 100_000:
            self._losses.add("registered models with version numbers above 100,000", name)
            return
        while True:
            made: list[int] = []

            def build(view: View, made: list[int] = made) -> Change:
                known = set(view.numbers(name))
                first = max(known, default=0) + 1
                made[:] = range(first, min(last, first + _A_COMMIT - 1) + 1)
                files = {
                    names.version_path(name, number): self._version(
                        view, name, number, given.get(number)
                    ).encode()
                    for number in made
                }
                before = view.model(name)
                gaps = {str(n): VersionNote(status=DELETED, reason="not there when it was imported")
                        for n in made if n not in given}  # fmt: skip
                after = replace(before, versions={**before.versions, **gaps})
                if after != before or view.read(names.meta_path(name)) is None:
                    files[names.meta_path(name)] = after.encode()
                said = f"v{made[0]} to v{made[-1]}" if made else "no versions"
                return Change(files, f"{name}: import {said} from {self._kind}\n")

            present = self._registry.view()
            if (
                max(present.numbers(name), default=0) >= last
                and present.read(names.meta_path(name)) is not None
            ):
                return
            _, accepted = self._registry.commit(build)
            write_tags(self._registry, accepted)
            self._report.commits += 1
            self._report.counts.versions += sum(number in given for number in made)

    def _version(self, view: View, name: str, number: int, found: ForeignVersion | None) -> Version:
        signer = signer_of(self._registry, view)
        version = Version(
            model=name, version=number, run=None, experiment=None, path="", digest=_NO_FILES, files=0, size=0,
            format_class=format_class(()), documents={}, created=int(time.time() * 1000), creator=signer.name,
            imported={"from": self._kind, "missing": "true"},
        )  # fmt: skip
        if found is not None:
            facts = {"from": self._kind, **{key: _plain(value) for key, value in found.facts.items()}}
            version = replace(
                version,
                created=found.created or version.created,
                description=_plain(found.description),
                imported=dict(list(facts.items())[:MAX_TAGS]),
            )
            version = self._with_files(version, found)
        return signer.sign_version(version, NAMESPACE_VERSION)

    def _with_files(self, version: Version, found: ForeignVersion) -> Version:
        """Add the run and the files of a version, where its run was imported with them."""
        for run_id, path in _places(found):
            try:
                run, documents = read_run(self._registry, run_id)
            except GmlError:
                continue
            files = manifest(run, path)
            if files:
                return replace(
                    version,
                    run=run_id,
                    experiment=run.experiment_id,
                    path=path,
                    digest=manifest_digest(files),
                    files=len(files),
                    size=sum(facts["size"] for facts in files.values()),
                    format_class=format_class(files),
                    documents=documents,
                )
        self._losses.add(
            "model versions whose files were not found",
            f"{version.model} v{version.version} ({found.source})",
        )
        return version

    # --- stages and what people say -----------------------------------------------------------

    def _stages(self, name: str, model: ForeignModel) -> None:
        wanted: dict[str, int] = {}
        for version in model.versions:
            stage = _TITLE.get(version.stage.lower(), version.stage)
            if stage.lower() in _NO_STAGE:
                continue
            if not names.is_stage(stage):
                self._losses.add("stages whose names no stage can have", stage)
                continue
            if stage in wanted:
                self._losses.add(
                    "versions that shared a stage with a newer one",
                    f"{name} v{min(wanted[stage], version.number)}",
                )
            wanted[stage] = max(wanted.get(stage, 0), version.number)
        for stage, number in wanted.items():
            view = self._registry.view()
            if view.stage(name, stage) is not None:
                continue  # what happened here since the import counts
            if view.policy is not None:
                self._losses.add(
                    "stages that the policy protects and that wait for `gml registry promote`",
                    f"{name} v{number} in {stage}",
                )
                continue

            def build(view: View, stage: str = stage, number: int = number) -> Change:
                record = Stage(
                    model=name, stage=stage, seq=1, prev=None, version=number,
                    digest=view.version(name, number).digest,
                    imported={"from": self._kind, "current_stage": stage},
                )  # fmt: skip
                path = names.stage_path(name, stage)
                return Change(
                    {path: record.encode()}, f"{name}: import v{number} in {stage} from {self._kind}\n"
                )

            _, accepted = self._registry.commit(build)
            write_tags(self._registry, accepted)
            self._report.commits += 1
            self._report.counts.stages += 1

    def _meta(self, name: str, model: ForeignModel) -> None:
        def edit(view: View) -> Model:
            before = view.model(name)
            held = {record.version for record in view.stages(name).values()}
            notes = dict(before.versions)
            for version in model.versions:
                key = str(version.number)
                note = notes.get(key, VersionNote())
                tags = {**self._tags(version.tags, f"{name} v{key}"), **note.tags}
                archived = version.stage.lower() == "archived" and version.number not in held
                status = note.status or (ARCHIVED if archived else None)
                notes[key] = replace(note, tags=tags, status=status)
            aliases = {
                alias: number
                for alias, number in self._aliases(name, model.aliases).items()
                if str(number) in notes and notes[str(number)].status != DELETED
            }
            tags = {**self._tags(model.tags, name), **before.tags}
            if model.name != name:
                tags.setdefault(NAME_TAG, _plain(model.name))
            return replace(
                before,
                description=before.description or _plain(model.description),
                tags=tags,
                aliases={**aliases, **before.aliases},
                versions={key: note for key, note in notes.items() if note != VersionNote()},
            )

        view = self._registry.view()
        before, after = view.model(name), edit(view)
        if after == before:
            return
        self._commit_meta(name, edit)
        self._report.counts.aliases += len(after.aliases.keys() - before.aliases.keys())

    def _commit_meta(self, name: str, edit: Callable[[View], Model]) -> None:
        what = f"{name}: import what was said about it from {self._kind}\n"
        self._registry.commit(lambda view: Change({names.meta_path(name): edit(view).encode()}, what))
        self._report.commits += 1

    def _aliases(self, name: str, aliases: Mapping[str, int]) -> dict[str, int]:
        found = {}
        for alias, number in aliases.items():
            if names.is_alias(alias):
                found[alias] = number
            else:
                self._losses.add("aliases whose names no alias can have", f"{name}@{alias}")
        return found

    def _tags(self, tags: Mapping[str, str], owner: str) -> dict[str, str]:
        good = {
            key: _plain(value)
            for key, value in tags.items()
            if key and len(key) <= 250 and key == _plain(key)
        }
        if len(good) < len(tags) or len(good) > MAX_TAGS:
            self._losses.add("owners with more than 100 registry tags, or with illegal keys", owner)
        if any(len(tags[key]) > MAX_TEXT for key in good):
            self._losses.add("registry tags of more than 4,000 characters, which were cut", owner)
        return dict(list(good.items())[:MAX_TAGS])


def _plain(text: str) -> str:
    """Return a text as the registry's records may hold it."""
    return _CONTROL.sub(" ", text)[:MAX_TEXT]


def _places(version: ForeignVersion) -> list[tuple[str, str]]:
    """Return where a version's files may be: id of a run or logged model, and the folder in it.

    Example:
        >>> from gml.compat.foreign import ForeignVersion
        >>> _places(ForeignVersion(1, "ab12", None, "s3://bucket/1/ab12/artifacts/model", "None"))
        [('ab12', 'model')]
        >>> _places(ForeignVersion(1, None, None, "models:/m-0f", "None"))
        [('m-0f', '')]
    """
    found: list[tuple[str, str]] = []
    source = version.source.split("?", 1)[0].rstrip("/")
    for pattern in (_IN_MODEL, _OF_RUN, _IN_RUN):
        match = pattern.fullmatch(source)
        if match is not None:
            found.append((match[1], match[2].strip("/")))
            break
    if version.model_id and not any(run == version.model_id for run, _ in found):
        found.append((version.model_id, ""))
    return found
