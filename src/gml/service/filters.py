"""MLflow's filter and order grammar, with the answers its clients know for what is not in it.

`clause (AND clause)*`; a clause is `identifier operator value`, `identifier IS [NOT] NULL` or
`identifier [NOT] IN ('a', 'b')`. gml's own language (docs/queries.md) has more; clients of MLflow are held to
MLflow's, so that what they send means here what it means there.
"""

from __future__ import annotations

import ast
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gml.service.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

METRIC: Final = "metric"
PARAM: Final = "parameter"
TAG: Final = "tag"
ATTRIBUTE: Final = "attribute"
DATASET: Final = "dataset"

_ENTITIES: Final = {
    "metric": METRIC, "metrics": METRIC,
    "parameter": PARAM, "parameters": PARAM, "param": PARAM, "params": PARAM,
    "tag": TAG, "tags": TAG,
    "attribute": ATTRIBUTE, "attributes": ATTRIBUTE, "attr": ATTRIBUTE, "run": ATTRIBUTE,
    "dataset": DATASET, "datasets": DATASET,
}  # fmt: skip
_PRIMARY: Final = [METRIC, PARAM, TAG, ATTRIBUTE, DATASET]
_NUMERIC_OPS: Final = frozenset({">", ">=", "!=", "=", "<", "<="})
_TEXT_OPS: Final = frozenset({"!=", "=", "LIKE", "ILIKE"})
_LIST_OPS: Final = frozenset({"IN", "NOT IN"})
_NULL_OPS: Final = frozenset({"IS NULL", "IS NOT NULL"})
_RUN_ALIASES: Final = {
    "created": "start_time", "Created": "start_time",
    "run name": "run_name", "Run name": "run_name", "Run Name": "run_name",
}  # fmt: skip

_TOKEN = re.compile(
    r"""
      (?P<space>\s+)
    | (?P<name>(?:`[^`]*`|"[^"]*"|[^\W\d][\w$/:\-]*)(?:\.(?:`[^`]*`|"[^"]*"|[\w$/:\-.]+))*)
    | (?P<text>'[^']*')
    | (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    | (?P<operator>[<>=~!]+)
    | (?P<list>\((?:[^()'"]|'[^']*'|"[^"]*")*\))
    | (?P<end>;)
    | (?P<other>.)
    """,
    re.VERBOSE,
)
_WORDS: Final = ("AND", "OR", "NOT", "IN", "IS", "NULL", "LIKE", "ILIKE", "RLIKE", "BETWEEN", "ASC", "DESC")


@dataclass(frozen=True, slots=True)
class Grammar:
    """What a kind of thing can be searched by.

    Attributes:
        attributes: names in a filter.
        orderable: names in an order.
        numeric: attributes that are numbers.
        listed: text attributes that take `IN`; None for all.
        entities: first words that are allowed.
        aliases: other names of attributes.
        nullable: entities that take `IS NULL`.
        exact_entities: an unknown entity is answered with these alone.
        quoted: strange parts of a filter are shown in quotes.
    """

    attributes: frozenset[str]
    orderable: frozenset[str]
    numeric: frozenset[str]
    listed: frozenset[str] | None
    entities: frozenset[str]
    aliases: tuple[tuple[str, str], ...] = ()
    nullable: frozenset[str] = frozenset({TAG, PARAM})
    exact_entities: tuple[str, ...] = ()
    quoted: bool = True


_RUN_ORDER: Final = frozenset(
    {"run_id", "run_name", "status", "user_id", "artifact_uri", "start_time", "end_time"}
)
RUNS: Final = Grammar(
    attributes=_RUN_ORDER | frozenset(_RUN_ALIASES),
    orderable=_RUN_ORDER | frozenset(_RUN_ALIASES),
    numeric=frozenset({"start_time", "end_time", "created", "Created"}),
    listed=frozenset({"run_id"}),
    entities=frozenset(_ENTITIES),
    aliases=tuple(_RUN_ALIASES.items()),
)
_EXPERIMENT: Final = frozenset({"name", "experiment_id", "creation_time", "last_update_time"})
EXPERIMENTS: Final = Grammar(
    attributes=_EXPERIMENT,
    orderable=_EXPERIMENT,
    numeric=frozenset({"creation_time", "last_update_time"}),
    listed=frozenset({"experiment_id"}),
    entities=frozenset({"attribute", "tag", "tags"}),
    nullable=frozenset({TAG}),
    exact_entities=("attribute", "tag", "tags"),
    quoted=False,
)
_MODEL_TIMES: Final = frozenset(
    {"creation_timestamp", "creation_time", "last_updated_timestamp", "last_updated_time"}
)
MODELS: Final = Grammar(
    attributes=frozenset({"name", "model_id", "model_type", "status", "source_run_id"}) | _MODEL_TIMES,
    orderable=frozenset({"name", "model_id", "model_type", "status", "source_run_id"}) | _MODEL_TIMES,
    numeric=_MODEL_TIMES,
    listed=None,
    entities=frozenset(_ENTITIES),
    aliases=(("creation_time", "creation_timestamp"), ("last_updated_time", "last_updated_timestamp")),
    nullable=frozenset(),
)


@dataclass(frozen=True, slots=True)
class Clause:
    """One condition.

    Attributes:
        entity: METRIC, PARAM, TAG, ATTRIBUTE or DATASET.
        key: which one.
        op: upper case; `=`, `!=`, `<`, `<=`, `>`, `>=`, LIKE, ILIKE, IN, NOT IN, IS NULL, IS NOT NULL.
        value: a number, a text, a tuple of texts, or None.
    """

    entity: str
    key: str
    op: str
    value: Any


@dataclass(frozen=True, slots=True)
class Order:
    """One key of an order."""

    entity: str
    key: str
    ascending: bool


class _Token(NamedTuple):
    kind: str
    text: str

    @property
    def word(self) -> str:
        return self.text.upper() if self.kind == "name" and self.text.upper() in _WORDS else ""


def _tokens(text: str) -> list[_Token]:
    return [
        _Token(str(match.lastgroup), match.group())
        for match in _TOKEN.finditer(text)
        if match.lastgroup != "space"
    ]


def parse_filter(text: str, grammar: Grammar) -> list[Clause]:
    """Return the conditions of a filter, all of which must hold.

    Raises:
        ServiceError: it is not in the grammar.

    Example:
        >>> parse_filter("metrics.auc > 0.9 and tags.team = 'risk'", RUNS)[0]
        Clause(entity='metric', key='auc', op='>', value=0.9)
    """
    tokens = _tokens(text or "")
    ends = [i for i, token in enumerate(tokens) if token.kind == "end"]
    if ends and ends[0] != len(tokens) - 1:
        raise ServiceError(
            f"Search filter contained multiple expression {text!r}. Provide AND-ed expression list."
        )
    spans: list[list[_Token]] = []
    strange: list[_Token] = []
    at = 0
    while at < len(tokens):
        width = _width(tokens[at:])
        if width:
            spans.append(tokens[at : at + width])
        elif tokens[at].word != "AND":
            strange.append(tokens[at])
        at += width or 1
    if strange:
        quote = "'" if grammar.quoted else ""
        shown = ", ".join(f"{quote}{token.text}{quote}" for token in strange)
        raise ServiceError(f"Invalid clause(s) in filter string: {shown}")
    return [_clause(span, grammar) for span in spans]


def _width(tokens: Sequence[_Token]) -> int:
    """Return the number of tokens of the clause that begins here, 0 where none does."""
    first = tokens[0]
    if first.word or first.kind not in {"name", "number", "text"}:
        return 0
    words = [token.word for token in tokens[1:4]]
    if first.kind == "name":
        if words[:2] == ["IS", "NULL"]:
            return 3
        if words[:3] == ["IS", "NOT", "NULL"]:
            return 4
        for start, width in ((["IN"], 3), (["NOT", "IN"], 4)):
            if words[: len(start)] == start:
                return width if len(tokens) >= width and tokens[width - 1].kind == "list" else 0
    compares = len(tokens) > 1 and (
        tokens[1].kind == "operator" or tokens[1].word in {"LIKE", "ILIKE", "RLIKE"}
    )
    if not compares or len(tokens) < 3:
        return 0
    value = tokens[2]
    return 0 if value.word or value.kind in {"operator", "other", "end"} else 3


def _clause(tokens: Sequence[_Token], grammar: Grammar) -> Clause:
    first, last = tokens[0], tokens[-1]
    if first.kind != "name":
        raise ServiceError(f"Invalid comparison clause. Expected 'Identifier' found '{first.text}'")
    entity, key = _identifier(first.text, grammar, grammar.attributes)
    if last.word == "NULL":
        if entity not in grammar.nullable:
            only = "tags" if grammar is EXPERIMENTS else "tags and params"
            what = f"attribute '{key}'" if grammar is EXPERIMENTS else f"'{entity}' '{key}'"
            raise ServiceError(f"IS NULL / IS NOT NULL is only supported for {only}, not for {what}")
        return Clause(entity, key, "IS NULL" if len(tokens) == 3 else "IS NOT NULL", None)
    written = " ".join(token.text for token in tokens[1:-1])
    value = _value(entity, key, last, grammar)
    return Clause(entity, dict(grammar.aliases).get(key, key), written.upper(), value)


def _bare(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"`":
        return text[1:-1]
    return text


def _identifier(text: str, grammar: Grammar, attributes: frozenset[str]) -> tuple[str, str]:
    entity, dot, key = text.partition(".")
    if not dot:
        entity, key = ATTRIBUTE, text
    word = entity.strip("`") if entity.startswith("`") else entity
    if grammar.exact_entities and dot and word not in grammar.entities:
        raise ServiceError(f"Invalid entity type '{word}'. Valid entity types are {grammar.exact_entities}")
    if word not in _ENTITIES:
        raise ServiceError(f"Invalid entity type '{word}'. Valid values are {_PRIMARY}")
    kind, name = _ENTITIES[word], _bare(key)
    if kind == ATTRIBUTE and name not in attributes:
        raise ServiceError(f"Invalid attribute key '{name}' specified. Valid keys are '{set(attributes)}'")
    if kind == DATASET and name not in {"name", "digest", "context"}:
        raise ServiceError(
            f"Invalid dataset key '{name}' specified. Valid keys are '{ {'name', 'digest', 'context'} }'"
        )
    return kind, name


def _value(entity: str, key: str, token: _Token, grammar: Grammar) -> Any:
    numeric = entity == METRIC or (entity == ATTRIBUTE and key in grammar.numeric)
    if numeric:
        if token.kind != "number":
            what = "metric" if entity == METRIC else f"numeric attribute: {key}"
            raise ServiceError(f"Expected numeric value type for {what}. Found {token.text}")
        return _number(token.text)
    if token.kind == "list" and entity in {ATTRIBUTE, DATASET}:
        if entity == ATTRIBUTE and grammar.listed is not None and key not in grammar.listed:
            raise ServiceError(
                f"Only {sorted(grammar.listed)} attributes support comparison "
                "with a list of quoted string values."
            )
        return _list(token.text)
    if token.kind == "text" or (token.kind == "name" and token.text[:1] == '"' == token.text[-1:]):
        return token.text[1:-1]
    if token.kind == "name":
        raise ServiceError(
            "Parameter value is either not quoted or unidentified quote "
            f"types used for string value {token.text}. Use either single or double quotes."
        )
    if entity in {PARAM, TAG}:
        raise ServiceError(
            f"Expected a quoted string value for {entity} (e.g. 'my-value'). Got value {token.text}"
        )
    what = "attributes" if entity == ATTRIBUTE else "dataset attributes"
    raise ServiceError(f"Expected a quoted string value for {what}. Got value {token.text}")


def _number(text: str) -> float | int:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _list(text: str) -> tuple[str, ...]:
    start = "While parsing a list in the query, expected "
    try:
        found = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        raise ServiceError(f"{start}a non-empty list of string values, but got ill-formed list.") from None
    values = found if isinstance(found, tuple) else (found,)
    if not values:
        raise ServiceError(f"{start}a non-empty list of string values, but got empty list")
    if not all(isinstance(value, str) for value in values):
        raise ServiceError(
            f"{start}string value, punctuation, or whitespace, but got different type in list: {text}"
        )
    return values


def check_operators(clauses: Sequence[Clause], grammar: Grammar) -> None:
    """Refuse operators that do not go with what they stand after.

    Raises:
        ServiceError: names the operator.
    """
    for clause in clauses:
        if clause.entity == METRIC or (clause.entity == ATTRIBUTE and clause.key in grammar.numeric):
            allowed = _NUMERIC_OPS
        elif clause.entity in {PARAM, TAG}:
            allowed = _TEXT_OPS | (_NULL_OPS if clause.entity in grammar.nullable else frozenset())
        else:
            allowed = _TEXT_OPS | _LIST_OPS
        if clause.op not in allowed:
            raise ServiceError(f"Invalid comparator '{clause.op}' not one of '{set(allowed)}'")


def parse_orders(items: Sequence[str], grammar: Grammar) -> list[Order]:
    """Return what an `order_by` asks for.

    Raises:
        ServiceError: it is not in the grammar, or names something twice.
    """
    out: list[Order] = []
    seen: set[tuple[str, str]] = set()
    for item in items:
        tokens = _tokens(item)
        if not tokens or tokens[0].kind != "name" or len(tokens) > 2:
            raise ServiceError(f"Invalid order_by clause '{item}'. Could not be parsed.")
        if len(tokens) == 2 and tokens[1].word not in {"ASC", "DESC"}:
            raise ServiceError(f"Invalid ordering key in order_by clause '{item}'.")
        entity, key = _identifier(tokens[0].text, grammar, grammar.orderable)
        key = dict(grammar.aliases).get(key, key) if entity == ATTRIBUTE else key
        if (entity, key) in seen:
            shown = f"{entity}.{key}" if entity != ATTRIBUTE else f"attribute.{key}"
            raise ServiceError(f"`order_by` contains duplicate fields: {[shown]}")
        seen.add((entity, key))
        out.append(Order(entity, key, len(tokens) < 2 or tokens[1].word != "DESC"))
    return out


def pattern(text: str, *, ignore_case: bool = False) -> re.Pattern[str]:
    """Return the regular expression of a LIKE pattern: `%` is anything, `_` one character."""
    body = "".join(".*" if c == "%" else "." if c == "_" else re.escape(c) for c in text)
    return re.compile(body, re.DOTALL | (re.IGNORECASE if ignore_case else 0))


def holds(clause: Clause, value: Any) -> bool:
    """Whether a condition holds for the value that something has; None is a missing one."""
    if clause.op in _NULL_OPS:
        return (value is None) is (clause.op == "IS NULL")
    if value is None:
        return False
    return _COMPARE[clause.op](value, clause.value)


_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": lambda a, b: bool(a == b),
    "!=": lambda a, b: bool(a != b),
    "<": lambda a, b: bool(a < b),
    "<=": lambda a, b: bool(a <= b),
    ">": lambda a, b: bool(a > b),
    ">=": lambda a, b: bool(a >= b),
    "LIKE": lambda a, b: pattern(b).fullmatch(a) is not None,
    "ILIKE": lambda a, b: pattern(b, ignore_case=True).fullmatch(a) is not None,
    "IN": lambda a, b: a in b,
    "NOT IN": lambda a, b: a not in b,
}


def sort_by(items: Sequence[Any], keys: Sequence[tuple[Callable[[Any], Any], bool]]) -> list[Any]:
    """Return things in the order of several keys; NaN and then missing values come last either way.

    Args:
        items: things, in the order that ties keep.
        keys: how to find each value, and whether it ascends; the most important first.
    """
    out = list(items)
    for find, ascending in reversed(keys):
        numbers, nans, missing = [], [], []
        for item in out:
            value = find(item)
            if value is None:
                missing.append(item)
            elif isinstance(value, float) and math.isnan(value):
                nans.append(item)
            else:
                numbers.append((value, item))
        numbers.sort(key=lambda pair: pair[0], reverse=not ascending)
        out = [item for _, item in numbers] + nans + missing
    return out
