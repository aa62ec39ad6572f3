"""Versions and what is said about models: everything that changes no stage and no policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gml.policy import names
from gml.policy.errors import RefusedError
from gml.policy.records import (
    NAMESPACE_VERSION,
    Model,
    Version,
    read_model,
    read_stage,
    read_version,
)
from gml.policy.signing import check_signature
from gml.policy.view import Accepted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gml.policy.names import Place
    from gml.policy.rules import Policy
    from gml.policy.view import Evidence, Tree


def judge_content(
    policy: Policy | None, base: Tree, after: Tree, places: Mapping[str, Place], evidence: Evidence, at: int
) -> Accepted:
    """Judge a change of versions and model records; see `gml.policy.decision`.

    Raises:
        RefusedError: it is not allowed.
    """
    registered: dict[str, list[int]] = {}
    for place in sorted(places.values(), key=lambda p: (p.model, p.number)):
        if place.kind == names.VERSION:
            _judge_version(policy, base, after, place, evidence, at)
            registered.setdefault(place.model, []).append(place.number)
    for path, place in places.items():
        if place.kind == names.META:
            _judge_model(policy, base, after, path, place)
    first = next(iter(places.values()))
    if not registered:
        return Accepted("meta", model=first.model)
    model, numbers = next(iter(registered.items()))
    return Accepted(
        "version",
        model=model,
        version=numbers[-1],
        versions={name: tuple(found) for name, found in registered.items()},
    )


def check_twin(base: Tree, directory: str, name: str) -> None:
    """Refuse a name that differs from an existing one only in case: some file systems cannot hold both.

    Raises:
        RefusedError: there is such a name.
    """
    for known in base.names(directory):
        if known != name and known.lower() == name.lower():
            raise RefusedError("name", f"{name} differs from {known} only in upper and lower case")


def _judge_version(
    policy: Policy | None, base: Tree, after: Tree, place: Place, evidence: Evidence, at: int
) -> Version:
    where = names.version_path(place.model, place.number)
    if base.oid(where) is not None:
        raise RefusedError("version", f"{where} was changed; a version stays as it was registered")
    version = read_version(after.read(where) or b"", where)
    if (version.model, version.version) != (place.model, place.number):
        raise RefusedError("version", f"{where} says that it is {version.model} v{version.version}")
    if place.number > 1 and after.oid(names.version_path(place.model, place.number - 1)) is None:
        raise RefusedError("version", f"{where} leaves out numbers: there is no v{place.number - 1}")
    check_twin(base, "models", place.model)
    meta = base.read(names.meta_path(place.model))
    if meta is not None and read_model(meta, names.meta_path(place.model)).alias_of is not None:
        raise RefusedError("version", f"{place.model} only stands for another model")
    if policy is not None:
        if version.creator not in policy.writers:
            raise RefusedError("version", f"{where}: {version.creator!r:.60} is not a writer of the policy")
        if version.signature is None:
            raise RefusedError("unsigned", f"{where} is not signed by {version.creator}")
        keys = policy.people[version.creator].keys
        check_signature(keys, NAMESPACE_VERSION, version.payload(), version.signature, evidence, at, where)
    problem = evidence.problem(version)
    if problem is not None:
        raise RefusedError("run", f"{where}: {problem}")
    return version


def _judge_model(policy: Policy | None, base: Tree, after: Tree, path: str, place: Place) -> None:
    model = read_model(after.read(path) or b"", path)
    if model.model != place.model:
        raise RefusedError("model", f"{path} says that it is {model.model}")
    check_twin(base, "models", place.model)
    _judge_alias_of(base, after, path, model)
    old = base.read(path)
    before = read_model(old, path) if old is not None else Model(place.model)
    for number in {*map(str, model.aliases.values()), *model.versions}:
        if after.oid(names.version_path(place.model, int(number))) is None:
            raise RefusedError("model", f"{path} speaks of v{number}, which does not exist")
    for alias, version in model.aliases.items():
        note = model.versions.get(str(version))
        if note is not None and note.status == "deleted":
            raise RefusedError("alias", f"{path}: the alias {alias} points at v{version}, which is deleted")
    held = _held(base, place.model)
    for number, note in model.versions.items():
        if note.status is not None and int(number) in held:
            raise RefusedError(
                "model", f"{path}: v{number} is in {held[int(number)]} and cannot be {note.status}"
            )
    if policy is not None:
        for alias, stage in policy.aliases.items():
            wanted = model.aliases.get(alias)
            if wanted is not None and wanted != before.aliases.get(alias) and held.get(wanted) != stage:
                raise RefusedError("alias", f"{path}: {alias} may only point at the version in {stage}")


def _judge_alias_of(base: Tree, after: Tree, path: str, model: Model) -> None:
    if model.alias_of is None:
        return
    other = base.read(names.meta_path(model.alias_of))
    known = bool(base.names(f"models/{model.alias_of}"))
    if not known or (other is not None and read_model(other, path).alias_of is not None):
        raise RefusedError("model", f"{path} stands for {model.alias_of}, which is not a model")
    if after.names(f"models/{model.model}/versions") or after.names(f"models/{model.model}/stages"):
        raise RefusedError("model", f"{path} stands for another model, but has versions of its own")


def _held(base: Tree, model: str) -> dict[int, str]:
    """Return version -> stage of what the stages of a model hold."""
    found = {}
    for name in base.names(f"models/{model}/stages"):
        path = f"models/{model}/stages/{name}"
        record = read_stage(base.read(path) or b"", path)
        if record.version is not None:
            found[record.version] = record.stage
    return found
