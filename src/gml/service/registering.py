"""Changes of the registry by MLflow's verbs; the rules and the policy of the registry decide."""

from __future__ import annotations

import re
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from gml.domain.errors import ConflictError, PolicyError
from gml.domain.run import RUNNING, SCHEDULED
from gml.policy import names
from gml.policy.records import ARCHIVED, DELETED, NAMESPACE_VERSION, Model, Version, VersionNote
from gml.registry import meta, register, stages
from gml.registry.branch import Change, Registry
from gml.registry.identity import signer_of
from gml.registry.manifest import manifest_digest
from gml.registry.tags import write_tags
from gml.service import artifacts, models
from gml.service.errors import DENIED, EXISTS, MISSING, ServiceError
from gml.service.limits import Pair
from gml.service.registered import ARCHIVED_STAGE, DELETED_TAG, NONE, PROMPT_TAG, canonical, shelf

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gml.registry.branch import View
    from gml.service.store import Store

_RUN: Final = re.compile(r"runs:/([^/]+)/?(.*)")
_MODEL: Final = re.compile(r"models:/(m-[0-9a-zA-Z]+)/?(.*)")
_VERSION: Final = re.compile(r"models:/([^/@]+)(?:/([^/]+)|@(.+))")
_PROXY: Final = re.compile(
    r"(?:https?://[^/]+(?:/[^?#]*)?/api/2\.0/mlflow-artifacts/artifacts"
    r"|mlflow-artifacts:(?://[^/]+)?|gml(?:\+file)?:.*/-)/(.+)"
)
_OWN: Final = re.compile(r"gml(?:\+file)?:.*?/?runs/([^/]+)/artifacts/?(.*)")
# What clients send as the source of a prompt.
_PROMPT: Final = frozenset({"prompt-template", "dummy-source"})
_ALREADY: Final = "is like that already"
_BAD_SOURCE: Final = (
    "Invalid model version source: '{}'. If supplying a source as an http, https, local file path, ftp, "
    "objectstore, or mlflow-artifacts uri, an absolute path must be provided without relative path "
    "references present. Please provide an absolute path."
)


@contextmanager
def _changing(store: Store) -> Iterator[Registry]:
    with store.writing() as space:
        try:
            yield Registry(space)
        except PolicyError as error:
            raise ServiceError(str(error), DENIED) from error
        except ConflictError as error:
            if _ALREADY not in error.message:
                raise


# --- models -----------------------------------------------------------------------------------


def create(store: Store, name: str, description: str = "", tags: Mapping[str, str] | None = None) -> None:
    """Make a model that has no versions yet.

    Raises:
        ServiceError: the name is taken, or not legal.
    """
    if not name:
        raise ServiceError("Registered model name cannot be empty.")
    if "/" in name or ":" in name:
        raise ServiceError(f"Invalid model name '{name}'. Names cannot contain '/' or ':'.")
    if not names.is_model(name):
        raise ServiceError(
            f"Invalid model name: '{name}'. Names have letters, digits, '.', '_' and '-', at most 100 of them"
        )
    if _is_there(store, name):
        raise ServiceError(f"Registered Model (name={name}) already exists.", EXISTS)
    with _changing(store) as registry:

        def build(view: View) -> Change:
            before = view.model(name)
            kept = {key: value for key, value in before.tags.items() if key != DELETED_TAG}
            after = replace(before, description=description, tags={**kept, **(tags or {})})
            return Change({names.meta_path(name): after.encode()}, f"{name}: create\n")

        registry.commit(build)


def _is_there(store: Store, name: str) -> bool:
    try:
        shelf(store).key(name)
    except ServiceError as error:
        if error.code != MISSING:
            raise
        return False
    return True


def rename(store: Store, name: str, new: str) -> None:
    """Give a model another name; the old one goes on to work.

    Raises:
        ServiceError: there is no such model, or the new name is taken or not legal.
    """
    key = shelf(store).key(name)
    if not names.is_model(new):
        raise ServiceError(f"Invalid model name: '{new}'")
    if _is_there(store, new):
        raise ServiceError(f"Registered Model (name={new}) already exists.", EXISTS)
    with _changing(store) as registry:
        meta.rename(registry, key, new)


def describe(store: Store, name: str, text: str, version: str | None = None) -> None:
    """Set the description of a model, or of one of its versions."""
    found = shelf(store)
    number = None if version is None else found.number(name, version)
    with _changing(store) as registry:
        meta.describe(registry, found.key(name), text, number)


def set_tag(store: Store, name: str, key: str, value: str | None, version: str | None = None) -> None:
    """Set a tag of a model, or of one of its versions; None removes it."""
    found = shelf(store)
    number = None if version is None else found.number(name, version)
    with _changing(store) as registry:
        meta.set_tags(registry, found.key(name), {key: value}, number)


def set_alias(store: Store, name: str, alias: str, version: str | None) -> None:
    """Point an alias at a version; None removes it, also where there is none."""
    found = shelf(store)
    key = found.key(name)
    if version is None and alias not in found.view.model(key).aliases:
        return
    if version is not None:
        _check_alias(alias)
    number = None if version is None else found.number(name, version)
    with _changing(store) as registry:
        meta.set_alias(registry, key, alias, number)


def _check_alias(alias: str) -> None:
    """Refuse what no alias can be, in MLflow's words."""
    if not re.fullmatch(r"[\w\-]*", alias):
        raise ServiceError(
            f"Invalid alias name: '{alias}'. Names may only contain alphanumerics, underscores (_), "
            "and dashes (-)."
        )
    if alias.lower() == "latest":
        raise ServiceError("'latest' alias name (case insensitive) is reserved.")
    if re.fullmatch(r"[vV]\d+", alias):
        raise ServiceError(f"Version alias name '{alias}' is reserved.")


def delete(store: Store, name: str) -> None:
    """Mark a model and all its versions as deleted; its records stay, and numbers go on after them.

    Raises:
        ServiceError: there is no such model, or a stage that the policy protects holds a version.
    """
    found = shelf(store)
    key = found.key(name)
    with _changing(store) as registry:
        for stage, record in found.view.stages(key).items():
            if record.version is not None:
                _empty(registry, key, stage)

        def build(view: View) -> Change:
            model = view.model(key)
            notes = dict(model.versions)
            for number in view.numbers(key):
                note = notes.get(str(number)) or VersionNote()
                notes[str(number)] = replace(
                    note, status=DELETED, reason=note.reason or "the model was deleted"
                )
            tags = {**model.tags, DELETED_TAG: "true"}
            gone: Model = replace(model, versions=notes, aliases={}, tags=tags)
            return Change({names.meta_path(key): gone.encode()}, f"{key}: delete\n")

        registry.commit(build)


def delete_version(store: Store, name: str, version: str) -> None:
    """Mark a version as deleted; its number is never used again.

    Raises:
        ServiceError: there is none, or a stage that the policy protects holds it.
    """
    found = shelf(store)
    key, number = found.key(name), found.number(name, version)
    with _changing(store) as registry:
        for stage, record in found.view.stages(key).items():
            if record.version == number:
                _empty(registry, key, stage)
        for alias, at in found.view.model(key).aliases.items():
            if at == number:
                meta.set_alias(registry, key, alias, None)
        meta.set_status(registry, key, number, DELETED)


def _empty(registry: Registry, key: str, stage: str) -> None:
    _done(stages.promote(registry, key, None, stage), key, None, stage)


# --- versions ---------------------------------------------------------------------------------


def create_version(
    store: Store,
    name: str,
    source: str,
    run_id: str = "",
    model_id: str = "",
    description: str = "",
    tags: Mapping[str, str] | None = None,
    run_link: str = "",
) -> int:
    """Register what a source means as the next version of a model, and return its number.

    The files of a run that goes on are registered as they are now, as those of a logged model.

    Raises:
        ServiceError: there is no such model, or the source has no files or leads elsewhere.
    """
    key = shelf(store).key(name)
    place = _place(store, source, run_id, model_id, prompt=(tags or {}).get(PROMPT_TAG) == "true")
    if place is not None:
        owner, path = _settled(store, *place)
        with _changing(store) as registry:
            number = register.register(registry, key, owner, path, description).version.version
            if tags:
                meta.set_tags(registry, key, dict(tags), number)
            return number
    with _changing(store) as registry:
        facts = {"from": "mlflow", "source": source[:4_000], "run_id": run_id, "run_link": run_link[:4_000]}
        made = _elsewhere(registry, key, {k: v for k, v in facts.items() if v}, description)
        if tags:
            meta.set_tags(registry, key, dict(tags), made)
    return made


def _elsewhere(registry: Registry, key: str, facts: Mapping[str, str], description: str) -> int:
    """Register what lies in another store: its address is a fact that nobody verified."""
    made: list[int] = []

    def build(view: View) -> Change:
        signer = signer_of(registry, view)
        number = max(view.numbers(key), default=0) + 1
        version = Version(
            model=key, version=number, run=None, experiment=None, path="", digest=manifest_digest({}),
            files=0, size=0, format_class="unknown", documents={}, created=_now(), creator=signer.name,
            description=description, imported=facts,
        )  # fmt: skip
        made[:] = [number]
        data = signer.sign_version(version, NAMESPACE_VERSION).encode()
        return Change(
            {names.version_path(key, number): data}, f"{key}: register v{number} of {facts['source'][:200]}\n"
        )

    _, accepted = registry.commit(build)
    write_tags(registry, accepted)
    return made[0]


def _now() -> int:
    import time

    return int(time.time() * 1000)


def _place(store: Store, source: str, run_id: str, model_id: str, *, prompt: bool) -> tuple[str, str] | None:
    """Return run or logged model and folder that a source means; None where it lies elsewhere.

    Raises:
        ServiceError: it leads out of where its run's files are, or is of another run.
    """
    plain = source
    for _ in range(3):
        plain = unquote(plain)
        if any(part == ".." for part in re.split(r"[/\\]", plain)) or "\x00" in plain:
            raise ServiceError(_BAD_SOURCE.format(source))
    for pattern in (_MODEL, _RUN, _OWN):
        match = pattern.fullmatch(source)
        if match is not None:
            return _checked(match[1], artifacts.check_path(match[2]), source, run_id, model_id)
    match = _PROXY.fullmatch(source.split("?", 1)[0].rstrip("/"))
    if match is not None:
        for owner, name in artifacts.split(f"{match[1]}/"):
            with suppress(ServiceError):
                store.run(owner)
                return _checked(owner, artifacts.check_path(name), source, run_id, model_id)
        raise ServiceError(_BAD_SOURCE.format(source))
    match = _VERSION.fullmatch(source)
    if match is not None:
        from gml.service.registered import by_alias, get_version

        found = by_alias(store, match[1], match[3]) if match[3] else get_version(store, match[1], match[2])
        return (found.owner, found.path) if found.owner else None
    if model_id:
        return _checked(model_id, "", source, "", model_id)
    if prompt and source in _PROMPT:
        return None  # its text is in its tags
    if urlsplit(source).scheme in {"", "file"} or len(urlsplit(source).scheme) == 1:
        raise ServiceError(
            f"Invalid model version source: '{source}'. To use a local path as a model version source, the "
            "run_id request parameter has to be specified and the local path has to be contained within the "
            "artifact directory of the run specified by the run_id."
        )
    return None


def _checked(owner: str, path: str, source: str, run_id: str, model_id: str) -> tuple[str, str]:
    wanted = model_id if owner.startswith("m-") else run_id
    if wanted and wanted != owner:
        raise ServiceError(
            f"Invalid model version source: '{source}'. It is not of the run or logged model {wanted}."
        )
    return owner, path


def _settled(store: Store, owner: str, path: str) -> tuple[str, str]:
    """Return run and folder whose record does not change any more."""
    run = store.run(owner)
    if run.status not in {RUNNING, SCHEDULED}:
        store.live.end(owner)  # somebody may have added a tag
    else:
        prefix = f"{path}/" if path else ""
        chosen = [name for name in run.artifacts if name == path or name.startswith(prefix)]
        if not chosen:
            raise ServiceError(f"Run {owner} has no files below '{path}' yet", MISSING)
        base = path.rpartition("/")[2] or "model"
        made = models.create(
            store,
            run.experiment_id,
            re.sub(r"[/:.%\"']", "-", base),
            owner,
            [Pair("gml.model.copyOf", f"{owner}/{path}")],
        )
        for name in chosen:
            stream, _ = artifacts.open_file(store, owner, name)
            with stream:
                artifacts.put(store, made.model_id, name.removeprefix(prefix), stream)
        models.finalize(store, made.model_id, models.READY)
        return made.model_id, ""
    return owner, path


# --- stages -----------------------------------------------------------------------------------


def transition(store: Store, name: str, version: str, stage: str, *, archive: bool = False) -> None:
    """Put a version into a stage.

    Where the policy asks for approvals a proposal is opened, and the error says which.

    Args:
        store: the repository.
        name: of the model.
        version: its number, as text.
        stage: None, Staging, Production or Archived, in any case.
        archive: archive what was in the stage.

    Raises:
        ServiceError: there is no such version or stage, or it waits for approvals.
    """
    wanted = canonical(stage)
    found = shelf(store)
    key, number = found.key(name), found.number(name, version)
    if archive and wanted in {NONE, ARCHIVED_STAGE}:
        raise ServiceError(
            f"Model version transition cannot archive existing model versions because '{wanted}' is not an "
            "Active stage. Valid stages are Staging, Production"
        )
    held = {s: record.version for s, record in found.view.stages(key).items() if record.version is not None}
    with _changing(store) as registry:
        if wanted in {NONE, ARCHIVED_STAGE}:
            for each, at in held.items():
                if at == number:
                    _empty(registry, key, each)
            meta.set_status(registry, key, number, ARCHIVED if wanted == ARCHIVED_STAGE else None)
            return
        if held.get(wanted) == number:
            return
        note = found.view.model(key).versions.get(str(number))
        if note is not None and note.status == ARCHIVED:
            meta.set_status(registry, key, number, None)
        _done(stages.promote(registry, key, number, wanted), key, number, wanted)
        for each, at in held.items():
            # In MLflow a version is in one stage. A policy may ask that it stays in the one before.
            if at == number and each != wanted and found.view.policy is None:
                _empty(registry, key, each)
        before = held.get(wanted)
        if archive and before is not None and before not in {at for s, at in held.items() if s != wanted}:
            meta.set_status(registry, key, before, ARCHIVED)


def _done(outcome: stages.Outcome, key: str, number: int | None, stage: str) -> None:
    """Say that a change waits, where it does.

    Raises:
        ServiceError: it waits for approvals.
    """
    if outcome.change is None:
        what = f"v{number}" if number is not None else "nothing"
        raise ServiceError(
            f"{stage} of {key} is protected: {what} was proposed as {outcome.proposal} and waits for "
            f"approvals; `gml registry pending` shows whose, `gml registry approve` gives one",
            DENIED,
        )
