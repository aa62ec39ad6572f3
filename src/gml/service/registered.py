"""Registered models and their versions, as MLflow's clients see the registry.

A version has one stage there: the one that holds it, Production first, or Archived. Every state that is
answered from has been verified, as any consumer of the registry does.
"""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from gml.policy import names
from gml.policy.records import ARCHIVED, DELETED, Model, VersionNote
from gml.registry.branch import Registry
from gml.registry.verify import verify
from gml.service import filters, pages
from gml.service.errors import MISSING, ServiceError
from gml.service.search import check_size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gml.policy.records import Version
    from gml.registry.branch import View
    from gml.service.store import Store

NONE: Final = "None"
ARCHIVED_STAGE: Final = "Archived"
STAGES: Final = (NONE, "Staging", "Production", ARCHIVED_STAGE)
DELETED_TAG: Final = "gml.deleted"
PROMPT_TAG: Final = "mlflow.prompt.is_prompt"
_ORDER: Final = ("Production", "Staging")
_TIMES: Final = frozenset({"creation_timestamp", "last_updated_timestamp"})
MODELS: Final = filters.Grammar(
    attributes=frozenset({"name"}),
    orderable=frozenset({"name", "timestamp"}) | _TIMES,
    numeric=_TIMES,
    listed=None,
    entities=frozenset({"attribute", "tag", "tags"}),
    aliases=(("timestamp", "last_updated_timestamp"),),
    nullable=frozenset(),
    quoted=False,
)
VERSIONS: Final = filters.Grammar(
    attributes=frozenset({"name", "run_id", "source_path", "version_number"}),
    orderable=frozenset({"name", "version_number"}) | _TIMES,
    numeric=frozenset({"version_number"}) | _TIMES,
    listed=None,
    entities=frozenset({"attribute", "tag", "tags"}),
    nullable=frozenset(),
    quoted=False,
)
MAX_MODELS: Final = 1_000
MAX_VERSIONS: Final = 200_000


class ModelVersion(NamedTuple):
    """A version. Times are milliseconds since the epoch.

    Attributes:
        name: of the model.
        version: number.
        created: when it was registered.
        updated: when something was last said about it.
        user: who registered it.
        stage: None, Staging, Production, another one, or Archived.
        description: free text.
        run_id: run that made it, empty for none.
        model_id: logged model that it is, empty for none.
        owner: run or logged model that has its files; empty where they are elsewhere.
        path: folder in it.
        source: where another registry had it.
        run_link: address of the run elsewhere.
        tags: labels.
        aliases: names that point at it.
    """

    name: str
    version: int
    created: int
    updated: int
    user: str
    stage: str
    description: str
    run_id: str
    model_id: str
    owner: str
    path: str
    source: str
    run_link: str
    tags: Mapping[str, str]
    aliases: tuple[str, ...]


class RegisteredModel(NamedTuple):
    """A model. Times are milliseconds since the epoch."""

    name: str
    created: int
    updated: int
    description: str
    tags: Mapping[str, str]
    aliases: Mapping[str, int]
    latest: tuple[ModelVersion, ...]


class _Times:
    """When models and versions were made and changed, from the commits of the branch."""

    def __init__(self) -> None:
        self.tip: str | None = None
        self.models: dict[str, tuple[int, int]] = {}
        self.versions: dict[tuple[str, int], int] = {}
        self._notes: dict[str, Model] = {}
        self.lock = threading.Lock()

    def read(self, registry: Registry, tip: str) -> None:
        """Take in the commits up to a tip that was verified."""
        if tip == self.tip:
            return
        for step in registry.chain.steps(self.tip, tip):
            moment = step.commit.time * 1000
            for change in step.commit.changes:
                place = names.classify(change.path)
                if place is None or not place.model:
                    continue
                born = self.models.get(place.model, (moment, moment))[0]
                self.models[place.model] = (born, moment)
                if place.kind == names.META:
                    self._said(place.model, change.path, step.after.read(change.path) or b"", moment)
        self.tip = tip

    def _said(self, name: str, path: str, data: bytes, moment: int) -> None:
        from gml.policy.records import read_model

        before, after = self._notes.get(name), read_model(data, path)
        self._notes[name] = after
        known = before.versions if before is not None else {}
        for number, note in after.versions.items():
            if known.get(number) != note:
                self.versions[name, int(number)] = moment


_known: WeakKeyDictionary[Store, _Times] = WeakKeyDictionary()


class Shelf:
    """The registry as it is now, verified. Made by `shelf`; for one request.

    Args:
        view: the state.
        times: when things were changed.
        store: the repository.
    """

    def __init__(self, view: View, times: _Times, store: Store) -> None:
        self.view = view
        self._times = times
        self._store = store
        self._shown: dict[str, str] = {}
        for name in view.models():
            key = view.model(name).alias_of
            if key is not None:
                self._shown[key] = name

    def key(self, name: str) -> str:
        """Return the key of a model.

        Raises:
            ServiceError: there is none of this name.
        """
        known = names.is_model(name) and self.view.names(f"models/{name}")
        key = self.view.model(name).alias_of or name if known else ""
        if not key or self.view.model(key).tags.get(DELETED_TAG) == "true":
            raise ServiceError(f"Registered Model with name={name} not found", MISSING)
        return key

    def number(self, name: str, version: str) -> int:
        """Return the number of a version that is there.

        Raises:
            ServiceError: there is none.
        """
        key = self.key(name)
        if not re.fullmatch(r"\s*[+-]?\d+\s*", version, re.ASCII):
            raise ServiceError(f"Parameter 'version' must be an integer, got '{version}'.")
        number = int(version)
        if number not in self.view.numbers(key) or self._note(key, number).status == DELETED:
            raise ServiceError(f"Model Version (name={name}, version={version}) not found", MISSING)
        return number

    def _note(self, key: str, number: int) -> VersionNote:
        return self.view.model(key).versions.get(str(number), VersionNote())

    def version(self, key: str, number: int) -> ModelVersion:
        """Return a version."""
        record = self.view.version(key, number)
        model = self.view.model(key)
        note = model.versions.get(str(number), VersionNote())
        facts = record.imported or {}
        is_logged = bool(record.run and record.run.startswith("m-"))
        return ModelVersion(
            self._shown.get(key, key), number, record.created,
            max(record.created, self._times.versions.get((key, number), 0)), record.creator,
            self.stage(key, number), record.description if note.description is None else note.description,
            self._run_of(record) if is_logged else record.run or facts.get("run_id", ""),
            (record.run or "") if is_logged else facts.get("model_id", ""),
            record.run or "", record.path, facts.get("source", ""), facts.get("run_link", ""), note.tags,
            tuple(sorted(alias for alias, at in model.aliases.items() if at == number)),
        )  # fmt: skip

    def _run_of(self, record: Version) -> str:
        """Return the run that a logged model says it comes from."""
        from gml.service import models

        try:
            return models.get(self._store, record.run or "", deleted=True).source_run_id
        except ServiceError:
            return (record.imported or {}).get("run_id", "")

    def stage(self, key: str, number: int) -> str:
        """Return the one stage that clients are shown."""
        held = [stage for stage, record in self.view.stages(key).items() if record.version == number]
        for stage in (*_ORDER, *held):
            if stage in held:
                return stage
        return ARCHIVED_STAGE if self._note(key, number).status == ARCHIVED else NONE

    def versions(self, key: str) -> list[ModelVersion]:
        """Return the versions of a model that are not deleted, newest first."""
        model = self.view.model(key)
        gone = {int(number) for number, note in model.versions.items() if note.status == DELETED}
        return [self.version(key, n) for n in reversed(self.view.numbers(key)) if n not in gone]

    def model(self, key: str) -> RegisteredModel:
        """Return a model."""
        model = self.view.model(key)
        born, changed = self._times.models.get(key, (0, 0))
        # In MLflow's order: stages as the oldest versions in them come, the newest version of each.
        newest = {version.stage: version for version in reversed(self.versions(key))}
        return RegisteredModel(
            self._shown.get(key, key), born, changed, model.description,
            {k: v for k, v in model.tags.items() if k != DELETED_TAG}, model.aliases, tuple(newest.values()),
        )  # fmt: skip

    def keys(self) -> list[str]:
        """Return the keys of all models that are not deleted, sorted by the names they are shown with."""
        found = []
        for name in self.view.models():
            model = self.view.model(name)
            if model.alias_of is None and model.tags.get(DELETED_TAG) != "true":
                found.append(name)
        return sorted(found, key=lambda key: self._shown.get(key, key))


def shelf(store: Store) -> Shelf:
    """Return the registry as it is now.

    Raises:
        ServiceError: it is not in order, so nothing of it can be trusted.
    """
    times = _known.setdefault(store, _Times())
    with store.reading() as reader, times.lock:
        registry = Registry(reader.workspace)
        tip = registry.tip()
        if tip is not None and tip != times.tip:
            verify(registry)
            times.read(registry, tip)
        return Shelf(registry.view(tip), times, store)


def get(store: Store, name: str) -> RegisteredModel:
    """Return a model; raises as `Shelf.key`."""
    found = shelf(store)
    return found.model(found.key(name))


def get_version(store: Store, name: str, version: str) -> ModelVersion:
    """Return a version; raises as `Shelf.number`."""
    found = shelf(store)
    return found.version(found.key(name), found.number(name, version))


def by_alias(store: Store, name: str, alias: str) -> ModelVersion:
    """Return the version that an alias points at; `latest` is the newest.

    Raises:
        ServiceError: there is no such model or alias.
    """
    found = shelf(store)
    key = found.key(name)
    if alias.lower() == "latest":
        newest = found.versions(key)
        if newest:
            return newest[0]
    number = found.view.model(key).aliases.get(alias)
    if number is None:
        raise ServiceError(f"Registered model alias {alias} not found.")
    return found.version(key, number)


def latest(store: Store, name: str, stages: Sequence[str] = ()) -> list[ModelVersion]:
    """Return the newest version of each stage.

    Raises:
        ServiceError: there is no such model or stage.
    """
    wanted = {canonical(stage) for stage in stages} or None
    return [v for v in get(store, name).latest if wanted is None or v.stage in wanted]


def canonical(stage: str) -> str:
    """Return the name of a stage as it is written.

    Raises:
        ServiceError: MLflow has no such stage.

    Example:
        >>> canonical("production")
        'Production'
    """
    for known in STAGES:
        if known.lower() == stage.lower():
            return known
    raise ServiceError(f"Invalid Model Version stage: {stage}. Value must be one of {', '.join(STAGES)}.")


# --- search -----------------------------------------------------------------------------------


def search(
    store: Store,
    filter_string: str = "",
    max_results: int = 100,
    order_by: Sequence[str] = (),
    page_token: str | None = None,
) -> tuple[list[RegisteredModel], str | None]:
    """Return the models that match, by name, and the token of the next page.

    Raises:
        ServiceError: the filter, the order or the page is not legal.
    """
    check_size(max_results, MAX_MODELS)
    clauses, orders, offset = _parse(filter_string, order_by, page_token, MODELS)
    known = shelf(store)
    found = [
        model for model in map(known.model, known.keys()) if _matches(clauses, model.tags, name=model.name)
    ]
    values = {"name": "name", "creation_timestamp": "created", "last_updated_timestamp": "updated"}
    keys = [(_getter(values[order.key]), order.ascending) for order in orders]
    return pages.cut(filters.sort_by(found, keys), offset, max_results)


def search_versions(
    store: Store,
    filter_string: str = "",
    max_results: int = 10_000,
    order_by: Sequence[str] = (),
    page_token: str | None = None,
) -> tuple[list[ModelVersion], str | None]:
    """Return the versions that match, by name and newest first, and the token of the next page.

    Raises:
        ServiceError: the filter, the order or the page is not legal.
    """
    check_size(max_results, MAX_VERSIONS)
    clauses, orders, offset = _parse(filter_string, order_by, page_token, VERSIONS)
    known = shelf(store)
    named = {c.value for c in clauses if c.entity == filters.ATTRIBUTE and (c.key, c.op) == ("name", "=")}
    found = []
    for key in known.keys():  # noqa: SIM118 - not a map
        if named and not named & {key, known.model(key).name}:
            continue
        for version in known.versions(key):
            facts = {
                "name": version.name, "run_id": version.run_id or None, "version_number": version.version,
                "source_path": source_of(version) or None,
            }  # fmt: skip
            if _matches(clauses, version.tags, **facts):
                found.append(version)
    values = {
        "name": "name", "version_number": "version", "creation_timestamp": "created",
        "last_updated_timestamp": "updated",
    }  # fmt: skip
    keys = [(_getter(values[order.key]), order.ascending) for order in orders]
    return pages.cut(filters.sort_by(found, keys), offset, max_results)


def source_of(version: ModelVersion, uri: str | None = None) -> str:
    """Return where a version's files are: a logged model, a folder of a run, or elsewhere.

    Args:
        version: the version.
        uri: of the artifacts of its run.
    """
    if version.model_id and version.owner == version.model_id and not version.path:
        return f"models:/{version.model_id}"
    if not version.owner:
        return version.source
    base = uri or f"runs:/{version.owner}"
    return f"{base}/{version.path}" if version.path else base


def _parse(
    text: str, order_by: Sequence[str], token: str | None, grammar: filters.Grammar
) -> tuple[list[filters.Clause], list[filters.Order], int]:
    clauses = filters.parse_filter(text, grammar)
    filters.check_operators(clauses, grammar)
    orders = filters.parse_orders(order_by, grammar)
    entities = [c.entity for c in clauses if c.entity != filters.TAG] + [order.entity for order in orders]
    for entity in entities:
        if entity != filters.ATTRIBUTE:
            raise ServiceError(f"Invalid entity type '{entity}'. Valid entity types are ('attribute', 'tag')")
    return clauses, orders, pages.decode(token)


def _matches(clauses: Sequence[filters.Clause], tags: Mapping[str, str], **attributes: Any) -> bool:
    for clause in clauses:
        if clause.entity != filters.TAG:
            value = attributes.get(clause.key)
        else:
            value = tags.get(clause.key)
            # Clients hide prompts by a condition that must also hold for what was never tagged.
            if clause.key == PROMPT_TAG and value is None:
                value = "false"
        if not filters.holds(clause, value):
            return False
    return True


def _getter(name: str) -> Any:
    return lambda item: getattr(item, name)
