"""What people say about models and versions: descriptions, tags, aliases, other names, tombstones."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gml.domain.errors import ConflictError, NotFoundError
from gml.policy import names
from gml.policy.records import ARCHIVED, DELETED, Model, VersionNote
from gml.registry.branch import Change

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gml.registry.branch import Registry, View


def _edit(registry: Registry, name: str, what: str, edit: Callable[[View, Model], Model]) -> str:
    """Commit a changed model record; nothing happens where nothing changes."""
    found: list[str] = []

    def build(view: View) -> Change:
        key = view.key(name)
        before = view.model(key)
        after = edit(view, before)
        found[:] = [key]
        if after == before:
            raise ConflictError(f"{key} is like that already")
        return Change({names.meta_path(key): after.encode()}, f"{key}: {what}\n")

    registry.commit(build)
    return found[0]


def _note(model: Model, number: int, **changes: object) -> Model:
    note = replace(model.versions.get(str(number), VersionNote()), **changes)  # type: ignore[arg-type]
    notes = {**model.versions, str(number): note}
    return replace(model, versions={key: value for key, value in notes.items() if value != VersionNote()})


def describe(registry: Registry, name: str, text: str, number: int | None = None) -> None:
    """Set the description of a model, or of one of its versions.

    Raises:
        NotFoundError: there is no such model or version.
    """

    def edit(view: View, model: Model) -> Model:
        if number is None:
            return replace(model, description=text)
        view.version(model.model, number)
        return _note(model, number, description=text)

    _edit(registry, name, f"describe{_of(number)}", edit)


def set_tags(
    registry: Registry, name: str, tags: Mapping[str, str | None], number: int | None = None
) -> None:
    """Set tags of a model, or of one of its versions; None removes one.

    Raises:
        NotFoundError: there is no such model or version.
    """

    def edit(view: View, model: Model) -> Model:
        if number is not None:
            view.version(model.model, number)
        before = model.tags if number is None else model.versions.get(str(number), VersionNote()).tags
        merged = {**before, **tags}
        after = {key: value for key, value in merged.items() if value is not None}
        return replace(model, tags=after) if number is None else _note(model, number, tags=after)

    said = ", ".join(f"{key}={value}" if value is not None else f"no {key}" for key, value in tags.items())
    _edit(registry, name, f"tag{_of(number)} {said[:200]}", edit)


def set_alias(registry: Registry, name: str, alias: str, number: int | None) -> None:
    """Point an alias at a version; None removes it.

    Raises:
        NotFoundError: there is no such model, version or alias.
    """
    names.check_alias(alias)

    def edit(view: View, model: Model) -> Model:
        if number is None:
            if alias not in model.aliases:
                raise NotFoundError(f"{model.model} has no alias {alias!r}")
            return replace(model, aliases={k: v for k, v in model.aliases.items() if k != alias})
        view.version(model.model, number)
        return replace(model, aliases={**model.aliases, alias: number})

    _edit(registry, name, f"alias {alias}{_of(number)}" if number else f"remove alias {alias}", edit)


def set_status(registry: Registry, name: str, number: int, status: str | None, reason: str = "") -> None:
    """Archive or delete a version, or bring it back; its record stays.

    Raises:
        NotFoundError: there is no such model or version.
        PolicyError: a stage holds it, or an alias points at what is deleted.
    """

    def edit(view: View, model: Model) -> Model:
        view.version(model.model, number)
        return _note(model, number, status=status, reason=reason)

    verb = {ARCHIVED: "archive", DELETED: "delete", None: "restore"}[status]
    _edit(registry, name, f"{verb}{_of(number)}", edit)


def rename(registry: Registry, name: str, new: str) -> str:
    """Give a model another name; the old one stays its key, and goes on to work.

    Raises:
        ConflictError: the new name is taken.
        NotFoundError: there is no such model.
    """
    names.check_model(new)

    def build(view: View) -> Change:
        key = view.key(name)
        if new in view.models():
            raise ConflictError(f"there is a model {new!r} already")
        return Change({names.meta_path(new): Model(new, alias_of=key).encode()}, f"{key}: also named {new}\n")

    return registry.commit(build)[0]


def _of(number: int | None) -> str:
    return f" v{number}" if number is not None else ""
