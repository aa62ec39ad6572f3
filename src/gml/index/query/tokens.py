"""The words of a query."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from gml.index.query.errors import QueryError, shown

MAX_LENGTH: Final = 64 * 1024

WORD: Final = "word"
STRING: Final = "string"
BACKTICK: Final = "backtick"
NUMBER: Final = "number"
DURATION: Final = "duration"
OPERATOR: Final = "operator"
MARK: Final = "mark"
END: Final = "end"

# Inside quotes nothing is an escape, but a doubled quote does not end the text (both stay in it): that
# is what MLflow makes of it. The alternatives exclude each other, so matching is linear.
_TOKEN = re.compile(
    r"""
      (?P<word>[^\W\d][\w.\-/:]*)
    | (?P<string>'(?:[^']|'')*' | "(?:[^"]|"")*")
    | (?P<backtick>`[^`]*`)
    | (?P<duration>[+-]?(?:[0-9]+(?:\.[0-9]+)?(?:ms|[wdhms]))+(?![\w.]))
    | (?P<number>[+-]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![\w.])
                 |(?i:infinity|inf|nan)(?![\w.])))
    | (?P<operator><=|>=|==|!=|!~|=|<|>|~)
    | (?P<mark>[(),@.])
    """,
    re.VERBOSE,
)
_SPACE = re.compile(r"\s*")
_DATE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}")
_CHUNK = re.compile(r"[^\s()=<>!~,]+")
_FOREIGN: Final = {
    "<>": "write !=",
    "&&": "write AND",
    "||": "write OR",
    "!": "write != for unequal, NOT before a condition",
    ";": "a query is one expression, without a semicolon",
    "&": "write AND",
    "|": "write OR",
}


class Token(NamedTuple):
    """One word, mark or literal.

    Attributes:
        kind: one of the constants of this module.
        text: as written, with its quotes.
        position: where it begins.
    """

    kind: str
    text: str
    position: int

    @property
    def end(self) -> int:
        """Where the next character after it is."""
        return self.position + len(self.text)

    @property
    def content(self) -> str:
        """What stands between the quotes of a string or backticked key."""
        return self.text[1:-1]


def tokenize(text: str) -> list[Token]:
    """Return the tokens of a query, ended by one of kind `end`.

    Raises:
        QueryError: it is too long, a quote is not closed, or a character has no meaning.

    Example:
        >>> [token.text for token in tokenize("metrics.auc>=.5")]
        ['metrics.auc', '>=', '.5', '']
    """
    if len(text) > MAX_LENGTH:
        raise QueryError(
            f"the query has {len(text)} characters, the limit is {MAX_LENGTH}",
            text,
            MAX_LENGTH,
            hint="list runs or experiments in several queries",
        )
    tokens: list[Token] = []
    position = 0
    while True:
        space = _SPACE.match(text, position)
        position = space.end() if space else position
        if position == len(text):
            tokens.append(Token(END, "", position))
            return tokens
        found = _TOKEN.match(text, position)
        if found is None or found.lastgroup is None:
            raise _refusal(text, position)
        if found.lastgroup == OPERATOR and text.startswith("<>", position):
            raise QueryError("'<>' is not an operator", text, position, hint=_FOREIGN["<>"])
        if found.lastgroup == NUMBER and _DATE.match(text, position):
            raise _refusal(text, position)
        tokens.append(Token(found.lastgroup, found.group(), position))
        position = found.end()


def _refusal(text: str, position: int) -> QueryError:
    first = text[position]
    if first in "'\"`":
        return QueryError(f"this {first} is never closed", text, position, hint=f"add {first} after the text")
    for mark in (text[position : position + 2], first):
        if mark in _FOREIGN:
            return QueryError(f"{mark!r} is not an operator", text, position, hint=_FOREIGN[mark])
    chunk = _CHUNK.match(text, position)
    word = chunk.group() if chunk else first
    date = _DATE.match(text, position)
    if date:
        return QueryError(
            f"the date {shown(word)} needs quotes", text, position, hint=f"write '{date.group()}'"
        )
    if word[0].isdigit() or (len(word) > 1 and word[0] in "+-."):
        return QueryError(
            f"{shown(word)} is neither a number nor a duration",
            text,
            position,
            hint="numbers look like 1, -0.5 or 1e-3, durations like 90s or 2h30m, text stands in quotes",
        )
    return QueryError(f"{shown(first)} has no meaning here", text, position)
