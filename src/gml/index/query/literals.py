"""Which values and operators go with which type of field, and what is said where they do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gml.index.query import ast, fields, tokens
from gml.index.query.errors import QueryError, shown
from gml.index.query.times import parse_duration, parse_time

if TYPE_CHECKING:
    from gml.index.query.tokens import Token

_MAX_INTEGER: Final = 1 << 63
_NOUNS: Final = {
    fields.NUMBER: "a metric is a number",
    fields.TIME: "this is a time",
    fields.DURATION: "this is a duration",
    fields.BOOLEAN: "this is true or false",
}
_WORDS: Final = {"now", "today", "yesterday"}
_NUMBER_WORDS: Final = {"nan", "inf", "infinity"}


def check_operator(text: str, field: ast.Field, operator: str, token: Token) -> None:
    """Refuse an operator that has no meaning for a field.

    Raises:
        QueryError: such as LIKE on a metric.
    """
    kind = fields.type_of(field)
    if kind in {fields.TEXT, fields.MIXED}:
        return
    simple = {ast.EQ, ast.NE, "IN"}
    allowed = simple if kind == fields.BOOLEAN else simple | {*ast.ORDERINGS, "BETWEEN"}
    if operator not in allowed:
        listed = "= and !=" if kind == fields.BOOLEAN else "= != < <= > >= IN and BETWEEN"
        raise QueryError(
            f"{operator} does not go with {field.key[:40]!r}: {_NOUNS[kind]}",
            text,
            token.position,
            hint=f"use {listed}",
        )


def literal(text: str, field: ast.Field, operator: str, token: Token) -> ast.Literal:
    """Return the value that a token is in a comparison with a field.

    Raises:
        QueryError: it is no value, or none that the field could be compared with.
    """
    if token.kind not in {tokens.STRING, tokens.NUMBER, tokens.DURATION, tokens.WORD}:
        what = "the query ends" if token.kind == tokens.END else f"here is {shown(token.text)}"
        hint = "values stand in single or double quotes" if token.kind == tokens.BACKTICK else None
        raise QueryError(f"expected a value, but {what}", text, token.position, hint=hint)
    if operator in ast.PATTERNS:
        return _pattern(text, operator, token)
    kind = fields.type_of(field)
    word = token.text.lower()
    if token.kind == tokens.WORD and word not in {"true", "false", *_WORDS, *_NUMBER_WORDS}:
        hint = "only values can be on the right" if "." in word else None
        if kind in {fields.TEXT, fields.MIXED} and hint is None:
            hint = f"write '{token.text[:40]}'"
        raise QueryError(f"text needs quotes: {shown(token.text)}", text, token.position, hint=hint)
    match kind:
        case fields.NUMBER:
            return _number(text, operator, token, "metrics compare with numbers, without quotes")
        case fields.TEXT:
            if token.kind != tokens.STRING:
                raise _wrong(text, token, f"{field.key} compares with text", f"write '{token.text[:40]}'")
            return ast.Text(token.content)
        case fields.MIXED:
            return _mixed(text, operator, token)
        case fields.BOOLEAN:
            if word not in {"true", "false"}:
                raise _wrong(text, token, f"{field.key} is true or false", "without quotes")
            return ast.Boolean(word == "true")
        case fields.DURATION:
            return _duration(text, token)
        case _:
            return _time(text, token)


def _wrong(text: str, token: Token, why: str, hint: str | None) -> QueryError:
    return QueryError(f"{shown(token.text)} does not fit: {why}", text, token.position, hint=hint)


def _pattern(text: str, operator: str, token: Token) -> ast.Text:
    if token.kind != tokens.STRING:
        raise _wrong(text, token, f"{operator} takes a pattern", f"write '{token.text[:40]}'")
    if operator in {ast.REGEX, ast.NOT_REGEX}:
        # The engine is loaded by the queries that need it: few do, and each command pays for imports.
        from gml.index.query.regex import compiled
        from gml.index.query.regex_syntax import RegexError

        try:
            compiled(token.content)
        except RegexError as error:
            raise QueryError(
                f"in this regular expression {error}", text, token.position + 1 + error.offset
            ) from None
    return ast.Text(token.content)


def _number(text: str, operator: str, token: Token, why: str) -> ast.Number:
    word = token.kind == tokens.WORD and token.text.lower() in _NUMBER_WORDS
    if not word and token.kind != tokens.NUMBER:
        raise _wrong(text, token, why, None)
    number = ast.Number(float(token.text))
    if number.is_nan and operator not in {ast.EQ, ast.NE}:
        raise QueryError(
            f"nothing can be {operator} nan", text, token.position, hint="= nan and != nan have a meaning"
        )
    return number


def _mixed(text: str, operator: str, token: Token) -> ast.Literal:
    if token.kind == tokens.STRING:
        return ast.Text(token.content)
    word = token.text.lower()
    if word in {"true", "false"}:
        if operator not in {ast.EQ, ast.NE}:
            raise _wrong(text, token, "true and false go with = and != only", None)
        return ast.Boolean(word == "true")
    return _number(text, operator, token, "here a value is text in quotes, a number, true or false")


def _duration(text: str, token: Token) -> ast.Duration:
    if token.kind == tokens.NUMBER:
        raise _wrong(text, token, "a duration has a unit", f"{token.text[:20]}s is in seconds")
    try:
        return ast.Duration(parse_duration(token.content if token.kind == tokens.STRING else token.text))
    except ValueError as error:
        raise _wrong(text, token, str(error), None) from None


def _time(text: str, token: Token) -> ast.Literal:
    if token.kind == tokens.NUMBER:
        number = _number(text, ast.EQ, token, "")
        if number.value - number.value != 0:
            raise _wrong(text, token, "a time is finite", None)
        digits = token.text.lstrip("+-")
        # As an integer where it is one: a float would round large ones.
        exact = digits.isdecimal() and len(digits) < 20 and int(digits) < _MAX_INTEGER
        return ast.Number(int(token.text)) if exact else number
    try:
        return parse_time(token.content if token.kind == tokens.STRING else token.text)
    except ValueError as error:
        raise _wrong(text, token, str(error), None) from None
