"""What a query means, once it is understood: a tree of frozen values.

Everything is resolved as far as text allows: aliases are gone, literals have their type, `==` is `=`.
Whoever compiles a query, to closures or to SQL, only meets what is listed here.

    >>> from gml.index.query.parser import parse
    >>> parse("metrics.auc > 0.9").expression.op
    '>'
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

METRIC: Final = "metric"
PARAM: Final = "param"
TAG: Final = "tag"
ATTRIBUTE: Final = "attribute"
DATASET: Final = "dataset"
CODE: Final = "code"
ENV: Final = "env"

EQ: Final = "="
NE: Final = "!="
LT: Final = "<"
LE: Final = "<="
GT: Final = ">"
GE: Final = ">="
LIKE: Final = "LIKE"
NOT_LIKE: Final = "NOT LIKE"
ILIKE: Final = "ILIKE"
NOT_ILIKE: Final = "NOT ILIKE"
REGEX: Final = "~"
NOT_REGEX: Final = "!~"
PATTERNS: Final = (LIKE, NOT_LIKE, ILIKE, NOT_ILIKE, REGEX, NOT_REGEX)
ORDERINGS: Final = (LT, LE, GT, GE)

LAST: Final = "last"
MIN: Final = "min"
MAX: Final = "max"
COUNT: Final = "count"
PARTS: Final = (LAST, MIN, MAX, COUNT)


@dataclass(frozen=True, slots=True)
class Field:
    """What a comparison looks at.

    Attributes:
        entity: METRIC, PARAM, TAG, ATTRIBUTE, DATASET, CODE or ENV.
        key: canonical attribute name, or the key as the user logged it.
        part: of a metric: LAST, MIN, MAX or COUNT; empty when none was written, which means LAST.
        step: of a metric: its value at this step instead.
        exact: the key was quoted. Where it was not, and there is a part, a metric of the run whose name
            is `key.part` goes before the part.
        position: where it stands in the text; no part of its identity.
    """

    entity: str
    key: str
    part: str = ""
    step: int | None = None
    exact: bool = False
    position: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Text:
    """A quoted text: compares as text with everything."""

    value: str


@dataclass(frozen=True, slots=True, eq=False)
class Number:
    """An unquoted number. NaN equals itself here, because here it is a word of the query."""

    value: float

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Number) and repr(self.value) == repr(other.value)

    def __hash__(self) -> int:
        return hash(repr(self.value))

    @property
    def is_nan(self) -> bool:
        """Whether it is `nan`, which equals a metric that is NaN."""
        return self.value != self.value


@dataclass(frozen=True, slots=True)
class Boolean:
    """`true` or `false`."""

    value: bool


@dataclass(frozen=True, slots=True)
class Duration:
    """A length of time in milliseconds."""

    ms: int


@dataclass(frozen=True, slots=True)
class Span:
    """A date or time as precise as it was written: from `start` up to, not including, `end` (ms)."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Relative:
    """An instant, `offset` milliseconds after now (negative: before)."""

    offset: int


@dataclass(frozen=True, slots=True)
class Day:
    """A whole UTC day, `days` after today (negative: before)."""

    days: int


Moment: TypeAlias = Span | Relative | Day
Literal: TypeAlias = Text | Number | Boolean | Duration | Span | Relative | Day


@dataclass(frozen=True, slots=True)
class Comparison:
    """`field op value`; `op` is one of the operator constants of this module."""

    field: Field
    op: str
    value: Literal


@dataclass(frozen=True, slots=True)
class Membership:
    """`field [NOT] IN (values)`."""

    field: Field
    values: tuple[Literal, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Between:
    """`field [NOT] BETWEEN low AND high`, both ends included."""

    field: Field
    low: Literal
    high: Literal
    negated: bool = False


@dataclass(frozen=True, slots=True)
class IsNull:
    """`field IS [NOT] NULL`: the only condition that a missing key can meet."""

    field: Field
    negated: bool = False


@dataclass(frozen=True, slots=True)
class And:
    """All of at least two terms, none of which is an And."""

    terms: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Any of at least two terms, none of which is an Or."""

    terms: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite of a term; unknown stays unknown."""

    term: Expression


Expression: TypeAlias = Comparison | Membership | Between | IsNull | And | Or | Not


@dataclass(frozen=True, slots=True)
class Query:
    """A whole query; without an expression it matches every run."""

    expression: Expression | None = None

    def fields(self) -> Iterator[Field]:
        """Yield every field that is looked at, from left to right, repeated where it is repeated."""
        pending = [self.expression] if self.expression is not None else []
        while pending:
            node = pending.pop()
            if isinstance(node, (And, Or)):
                pending.extend(reversed(node.terms))
            elif isinstance(node, Not):
                pending.append(node.term)
            else:
                yield node.field

    @property
    def needs_history(self) -> bool:
        """Whether metric points have to be read: there is a `@step=`."""
        return any(each.step is not None for each in self.fields())
