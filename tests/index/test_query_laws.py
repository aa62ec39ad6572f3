"""Laws that hold for every query and every run."""

from hypothesis import given
from hypothesis import strategies as st
from query_strategies import (
    KINDS,
    NOW,
    conditions,
    expressions,
    flat,
    history,
    queries,
    refusal,
    runs,
)

from gml.index.query import ast, matches, parse, unparse

FIXED = {"experiment_name": "churn", "now_ms": NOW, "history": history}
LISTS = {ast.DATASET, ast.CODE}


def value(run, expression):
    """True, False, or None for unknown: what a run matches neither plainly nor negated."""
    plain = matches(ast.Query(expression), run, **FIXED)
    opposite = matches(ast.Query(ast.Not(expression)), run, **FIXED)
    assert not (plain and opposite)
    return True if plain else False if opposite else None


@given(queries)
def test_every_query_survives_being_written_and_read(query):
    text = unparse(query)
    again = parse(text)
    assert again == query
    assert unparse(again) == text


def check_text(text):
    """A text is refused at a place in it, on one line and with a picture; or it is a query."""
    error = refusal(parse, text)
    if error is None:
        assert parse(unparse(parse(text))) == parse(text)
        return
    assert len(str(error).splitlines()) == 1
    assert 0 <= error.position <= len(text)
    lines = error.caret().split("\n")
    assert len(lines) == 2
    assert lines[1].strip() == "^"


@given(st.text(max_size=60))
def test_arbitrary_text_is_refused_or_understood(text):
    check_text(text)


WORDS = ["metrics.auc", "params.`a b`", "tags.x", "start_time", "duration", "status", "datasets.name", "code.commit", "dirty",
         "metrics.loss.min", "metrics.loss@step=", "=", "==", "!=", "<", ">=", "~", "!~", "LIKE", "ilike", "IN", "NOT", "and", "OR",
         "IS", "NULL", "BETWEEN", "(", ")", ",", "1", "-2.5e3", "nan", "-inf", "'x'", '"y"', "90s", "-2w", "'2026-06-01'", "now",
         "true", "@", ".", "`", "'", "#", "é", "metrics.", "x.y"]  # fmt: skip


@given(st.lists(st.sampled_from(WORDS), max_size=14), st.sampled_from([" ", ""]))
def test_word_salad_is_refused_or_understood(words, gap):
    check_text(gap.join(words))


@given(runs(), st.lists(expressions, min_size=2, max_size=3))
def test_de_morgan(run, terms):
    negated = [ast.Not(term) for term in terms]
    assert value(run, ast.Not(flat(ast.And, terms))) == value(run, flat(ast.Or, negated))
    assert value(run, ast.Not(flat(ast.Or, terms))) == value(run, flat(ast.And, negated))


@given(runs(), expressions, expressions)
def test_and_or_not_are_those_of_sql(run, a, b):
    left, right = value(run, a), value(run, b)
    rank = {False: 0, None: 1, True: 2}
    assert value(run, flat(ast.And, [a, b])) == min(left, right, key=rank.get)
    assert value(run, flat(ast.Or, [a, b])) == max(left, right, key=rank.get)
    assert value(run, ast.Not(a)) == (None if left is None else not left)


@st.composite
def ranges(draw):
    fields, _, ordered = draw(st.sampled_from(KINDS))
    return draw(fields), draw(ordered), draw(ordered)


@given(runs(), ranges())
def test_between_is_two_comparisons(run, given_range):
    field, low, high = given_range
    if field.entity in LISTS:
        return  # one value has to meet both: more than two comparisons say
    both = ast.And((ast.Comparison(field, ">=", low), ast.Comparison(field, "<=", high)))
    assert value(run, ast.Between(field, low, high)) == value(run, both)
    assert value(run, ast.Between(field, low, high, negated=True)) == value(run, ast.Not(both))


@st.composite
def memberships(draw):
    fields, equals, _ = draw(st.sampled_from(KINDS))
    return draw(fields), draw(st.lists(equals, min_size=2, max_size=4))


@given(runs(), memberships())
def test_in_is_an_or_of_equals(run, membership):
    field, values = membership
    any_of = ast.Or(tuple(ast.Comparison(field, "=", each) for each in values))
    assert value(run, ast.Membership(field, tuple(values))) == value(run, any_of)
    if field.entity not in LISTS:
        assert value(run, ast.Membership(field, tuple(values), negated=True)) == value(run, ast.Not(any_of))


@given(runs(), memberships())
def test_equal_and_unequal_exclude_each_other(run, membership):
    field, (literal, *_) = membership
    if field.entity not in LISTS:
        equal = value(run, ast.Comparison(field, "=", literal))
        unequal = value(run, ast.Comparison(field, "!=", literal))
        assert unequal == (None if equal is None else not equal)


@given(runs(), conditions())
def test_what_is_missing_is_unknown_to_all_but_is_null(run, condition):
    missing = value(run, ast.IsNull(condition.field))
    assert missing is not None
    assert value(run, ast.IsNull(condition.field, negated=True)) is not missing
    if missing and not isinstance(condition, ast.IsNull):
        assert value(run, condition) is None


@given(runs(), expressions)
def test_a_query_means_the_same_after_writing_and_reading(run, expression):
    query = ast.Query(expression)
    assert matches(parse(unparse(query)), run, **FIXED) == matches(query, run, **FIXED)
