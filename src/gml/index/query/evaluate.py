"""The definition of what a query means: a plain evaluation against one `Run`.

Conditions are true, false or unknown, as in SQL; a run matches when the whole is true. A comparison with
something that the run lacks is unknown, whatever the operator, and so is its negation; only `IS NULL`
answers for missing things. Any faster way to run a query has to agree with this module.

Where a run has several values (data sets, lists under `code.` and `env.`) a condition holds when it holds
for any one of them.
"""

from __future__ import annotations

from functools import lru_cache
from operator import eq, ge, gt, le, lt, ne
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from gml.index.query import ast, fields
from gml.index.query.errors import QueryError
from gml.index.query.fields import Context, NeedsHistoryError, getter, number_of, type_of
from gml.index.query.like import like
from gml.index.query.times import resolve
from gml.index.query.unparse import unparse, unparse_field

if TYPE_CHECKING:
    from collections.abc import Callable

    from gml.domain.run import Run
    from gml.index.query.fields import History

    # Three-valued: None is unknown.
    Test: TypeAlias = Callable[[Any], "bool | None"]
    Predicate: TypeAlias = Callable[[Run, Context], "bool | None"]

_ORDER: Final[dict[str, Callable[[Any, Any], bool]]] = {
    ast.EQ: eq, ast.NE: ne, ast.LT: lt, ast.LE: le, ast.GT: gt, ast.GE: ge,
}  # fmt: skip
_CACHED: Final = 32


def matches(
    query: ast.Query,
    run: Run,
    *,
    experiment_name: str | None,
    now_ms: int,
    history: History | None = None,
) -> bool:
    """Whether a run is among the answers of a query.

    Args:
        query: from `parse`.
        run: the run.
        experiment_name: name of its experiment; None counts as missing.
        now_ms: what `now`, `today` and `-2w` refer to, milliseconds since the epoch.
        history: `(run, key) -> (steps, timestamps, values)` for metrics that the run has; needed where
            `query.needs_history`.

    Raises:
        QueryError: the query needs history and there is none.

    Example:
        >>> from gml.domain.run import Run
        >>> from gml.index.query.parser import parse
        >>> run = Run("ab12", "0", "calm-owl", "me", "FINISHED", 0, 90_000)
        >>> matches(parse("duration >= 90s"), run, experiment_name="Default", now_ms=0)
        True
    """
    if query.expression is None:
        return True
    context = Context(experiment_name, history)
    try:
        return _compiled(query, now_ms)(run, context) is True
    except NeedsHistoryError:
        text = unparse(query)
        name = unparse_field(next(field for field in query.fields() if field.step is not None))
        raise QueryError(
            f"{name} needs the history of metrics, which is not read here", text, text.find(name)
        ) from None


@lru_cache(maxsize=_CACHED)
def _compiled(query: ast.Query, now_ms: int) -> Predicate:
    if query.expression is None:
        return lambda _run, _context: True
    return _predicate(query.expression, now_ms)


def _predicate(node: ast.Expression, now_ms: int) -> Predicate:
    if isinstance(node, ast.And):
        return _junction([_predicate(term, now_ms) for term in node.terms], decides=False)
    if isinstance(node, ast.Or):
        return _junction([_predicate(term, now_ms) for term in node.terms], decides=True)
    if isinstance(node, ast.Not):
        term = _predicate(node.term, now_ms)

        def opposite(run: Run, context: Context) -> bool | None:
            value = term(run, context)
            return None if value is None else not value

        return opposite
    find = getter(node.field)
    if isinstance(node, ast.IsNull):
        wanted = not node.negated
        return lambda run, context: (find(run, context) in (None, [])) is wanted
    test = test_of(node, now_ms)

    def condition(run: Run, context: Context) -> bool | None:
        value = find(run, context)
        if value is None:
            return None
        if isinstance(value, list):
            return any_of([test(each) for each in value])
        return test(value)

    return condition


def _junction(terms: list[Predicate], *, decides: bool) -> Predicate:
    def junction(run: Run, context: Context) -> bool | None:
        result: bool | None = not decides
        for term in terms:
            value = term(run, context)
            if value is decides:
                return decides
            if value is None:
                result = None
        return result

    return junction


def any_of(values: list[bool | None]) -> bool | None:
    """Return whether any answer is true; unknown when none is and one is unknown, or there is none."""
    if True in values:
        return True
    return None if not values or None in values else False


def test_of(node: ast.Comparison | ast.Membership | ast.Between, now_ms: int) -> Test:
    """Return the test of a single value that a condition stands for."""
    kind = type_of(node.field)
    if isinstance(node, ast.Comparison):
        return _comparison(kind, node.op, node.value, now_ms)
    if isinstance(node, ast.Membership):
        equal = [_comparison(kind, ast.EQ, value, now_ms) for value in node.values]
        return _signed(lambda value: any_of([test(value) for test in equal]), negated=node.negated)
    low = _comparison(kind, ast.GE, node.low, now_ms)
    high = _comparison(kind, ast.LE, node.high, now_ms)

    def between(value: Any) -> bool | None:
        above, below = low(value), high(value)
        if above is False or below is False:
            return False
        return None if above is None or below is None else True

    return _signed(between, negated=node.negated)


def _signed(test: Test, *, negated: bool) -> Test:
    if not negated:
        return test

    def opposite(value: Any) -> bool | None:
        answer = test(value)
        return None if answer is None else not answer

    return opposite


def _comparison(kind: str, op: str, literal: ast.Literal, now_ms: int) -> Test:
    if op in ast.PATTERNS and isinstance(literal, ast.Text):
        return _pattern(op, literal.value)
    match literal:
        case ast.Text(value):
            return _plain(op, value)
        case ast.Boolean(flag):
            if kind == fields.BOOLEAN:
                return _plain(op, flag)
            word = "true" if flag else "false"
            return lambda value: _ORDER[op](value.lower(), word)
        case ast.Number():
            return _mixed_number(op, literal) if kind == fields.MIXED else _number(op, literal)
        case ast.Duration(ms):
            return _plain(op, ms)
        case _:
            return _span(op, *resolve(literal, now_ms))


def _plain(op: str, literal: Any) -> Test:
    compare = _ORDER[op]
    return lambda value: compare(value, literal)


def _number(op: str, literal: ast.Number) -> Test:
    if literal.is_nan:
        return lambda value: (value != value) is (op == ast.EQ)  # noqa: PLR0124  (the definition of NaN)
    # Python compares NaN as MLflow does: it is unequal to every number, and nothing else.
    return _plain(op, literal.value)


def _mixed_number(op: str, literal: ast.Number) -> Test:
    compare = _number(op, literal)
    # Text that is no number differs from every number, and is neither less nor greater.
    otherwise = {ast.EQ: False, ast.NE: True}.get(op)

    def test(value: str) -> bool | None:
        number = number_of(value)
        return otherwise if number is None else compare(number)

    return test


def _span(op: str, start: int, end: int) -> Test:
    match op:
        case ast.EQ:
            return lambda value: start <= value < end
        case ast.NE:
            return lambda value: not start <= value < end
        case ast.LT:
            return lambda value: value < start
        case ast.LE:
            return lambda value: value < end
        case ast.GT:
            return lambda value: value >= end
        case _:
            return lambda value: value >= start


def _pattern(op: str, pattern: str) -> Test:
    found: Callable[[str], bool]
    if op in {ast.REGEX, ast.NOT_REGEX}:
        from gml.index.query.regex import compiled

        found = compiled(pattern).search
    else:
        found = like(pattern, ignore_case=op in {ast.ILIKE, ast.NOT_ILIKE})
    if op in {ast.NOT_LIKE, ast.NOT_ILIKE, ast.NOT_REGEX}:
        return lambda value: not found(value)
    return found
