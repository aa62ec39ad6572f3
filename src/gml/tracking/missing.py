"""What a user names and no run has: experiments, metrics, params and tags, and what was probably meant."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from gml.domain.errors import NotFoundError
from gml.index.as_mlflow import mlflow_tags
from gml.index.query import ast, suggest, unparse_field

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gml.index.query.ast import Field
    from gml.tracking.reader import Reader

_KEYED: Final = (ast.METRIC, ast.PARAM, ast.TAG)
_SHOWN: Final = 3


def experiment_ids(reader: Reader, names: Iterable[str]) -> set[str] | None:
    """Return the ids of experiments by name or id; None where none are named, which is no restriction.

    Raises:
        NotFoundError: there is no such experiment; names a near one.
    """
    by_name = {e.name: e.experiment_id for e in reader.experiments()}
    known = set(by_name.values())
    found = set()
    for name in names:
        if name not in by_name and name not in known:
            near = get_close_matches(name, by_name, 1)
            hint = f"did you mean {near[0]!r}?" if near else "`gml exp ls` shows them"
            raise NotFoundError(f"no experiment is named {name!r}", hint=hint)
        found.add(by_name.get(name, name))
    return found or None


def missing_keys(reader: Reader, fields: Iterable[Field]) -> list[str]:
    """Return a line for each metric, param and tag that no run of the repository has.

    That is no mistake by itself: a query for a key that comes tomorrow finds nothing today. But most
    often it is a slip of the pen, so people are told. At another time than now (`--at`) nothing is said.

    Example:
        >>> missing_keys(reader, parse("metrics.acu > 0.9").fields())  # doctest: +SKIP
        ['no run has metrics.acu; did you mean metrics.auc?']
    """
    asked = {_plain(each): each for each in fields if each.entity in _KEYED}
    if not asked or reader.past:
        return []
    held = reader.index.all_keys()
    for run_id in reader.live:
        run = reader.run(run_id)
        if run is not None:
            for entity, keys in (
                (ast.METRIC, run.metrics),
                (ast.PARAM, run.params),
                (ast.TAG, mlflow_tags(run)),
            ):
                held[entity].update(keys)
    gone = [plain for plain, each in asked.items() if not _is_held(each, held)]
    names = [unparse_field(ast.Field(entity, key)) for entity in _KEYED for key in held[entity]]
    lines = []
    for each in gone[:_SHOWN]:
        word = unparse_field(each)
        # The key under another prefix goes before a similar one.
        same = [name for name in names if name.partition(".")[2] == word.partition(".")[2]]
        near = same[0] if same else suggest(word, names)
        lines.append(f"no run has {word}" + (f"; did you mean {near}?" if near else ""))
    if len(gone) > _SHOWN:
        lines.append(f"... nor {len(gone) - _SHOWN} other keys that were named")
    return lines


def _plain(field: Field) -> Field:
    return replace(field, part="", step=None, exact=False) if field.exact else replace(field, step=None)


def _is_held(field: Field, held: dict[str, set[str]]) -> bool:
    keys = held[field.entity]
    return field.key in keys or (bool(field.part) and f"{field.key}.{field.part}" in keys)
