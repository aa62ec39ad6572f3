"""From text to a `Query`, by recursive descent over at most `MAX_DEPTH` levels."""

from __future__ import annotations

from typing import Final

from gml.index.query import ast, tokens
from gml.index.query.errors import QueryError, did_you_mean, shown
from gml.index.query.fields import ATTRIBUTES, DATASET_KEYS, ENTITIES, attribute_name
from gml.index.query.literals import check_operator, literal
from gml.index.query.tokens import Token, tokenize

MAX_DEPTH: Final = 200

_KEYWORDS: Final = frozenset({"AND", "OR", "NOT", "IN", "IS", "NULL", "LIKE", "ILIKE", "BETWEEN"})
_ENTITY_LIST: Final = "metrics, params, tags, attributes, datasets, code and env"
_MAX_STEP: Final = 1 << 63


def parse(text: str) -> ast.Query:
    """Return the meaning of a query; an empty one matches every run.

    Args:
        text: see docs/queries.md for the grammar.

    Raises:
        QueryError: it has none; has the position, a caret picture and, where there is one, a suggestion.

    Example:
        >>> parse("metrics.auc > 0.9 and params.model in ('rf', 'xgb')").expression.terms[1].values
        (Text(value='rf'), Text(value='xgb'))
    """
    return Parser(text).query()


class Parser:
    """Reads the tokens of one text; also used for the fields of an order.

    Raises:
        QueryError: on construction for text without tokens, else from its methods.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = tokenize(text)
        self.at = 0

    # -- tokens

    @property
    def next(self) -> Token:
        """The token that is read next; the last one is of kind END and stays."""
        return self.tokens[self.at]

    def take(self) -> Token:
        """Return the next token and go on."""
        token = self.tokens[self.at]
        if token.kind != tokens.END:
            self.at += 1
        return token

    def accept(self, word: str) -> bool:
        """Go over the next token if it is this mark, operator or keyword."""
        token = self.tokens[self.at]
        same = token.text.upper() == word if token.kind == tokens.WORD else token.text == word
        if same and token.kind not in {tokens.STRING, tokens.BACKTICK, tokens.END}:
            self.at += 1
            return True
        return False

    def error(self, message: str, token: Token, hint: str | None = None) -> QueryError:
        """Return an error at a token."""
        return QueryError(message, self.text, token.position, hint=hint)

    def expected(self, what: str, hint: str | None = None) -> QueryError:
        """Return an error that something else was expected than the next token."""
        token = self.next
        found = "the query ends" if token.kind == tokens.END else f"here is {shown(token.text)}"
        return self.error(f"expected {what}, but {found}", token, hint)

    # -- expressions

    def query(self) -> ast.Query:
        """Read everything."""
        if self.next.kind == tokens.END:
            return ast.Query()
        expression = self._expression(0)
        if self.next.kind != tokens.END:
            if self.next.text == ")":
                raise self.error("this ) closes nothing", self.next)
            raise self.expected("AND, OR or the end")
        return ast.Query(expression)

    def _expression(self, depth: int) -> ast.Expression:
        alternatives: list[ast.Expression] = []
        terms: list[ast.Expression] = []
        while True:
            terms.append(self._operand(depth))
            if self.accept("AND"):
                # MLflow tolerates a query that ends in AND, and programs that join clauses rely on it.
                if depth == 0 and self._only_and_left():
                    break
            elif self.accept("OR"):
                alternatives.append(_all_of(terms))
                terms = []
            else:
                break
        alternatives.append(_all_of(terms))
        return _any_of(alternatives)

    def _only_and_left(self) -> bool:
        rest = self.tokens[self.at : -1]
        if any(token.text.upper() != "AND" for token in rest):
            return False
        self.at += len(rest)
        return True

    def _operand(self, depth: int) -> ast.Expression:
        nots = 0
        first = self.next
        while self.accept("NOT"):
            nots += 1
        opening = self.next
        level = depth + nots + (opening.text == "(")
        if level > MAX_DEPTH:
            raise self.error(f"the query is nested more than {MAX_DEPTH} deep", first)
        if self.accept("("):
            node = self._expression(level)
            if not self.accept(")"):
                if self.next.kind == tokens.END:
                    raise self.error("this ( is never closed", opening, "add ) at the end of the group")
                raise self.expected("AND, OR or )")
        else:
            node = self._condition()
        for _ in range(nots):
            node = ast.Not(node)
        return node

    def _condition(self) -> ast.Expression:
        first = self.next
        field = self.field()
        name = self.text[first.position : self.tokens[self.at - 1].end]
        token = self.next
        if self.accept("IS"):
            negated = self.accept("NOT")
            if not self.accept("NULL"):
                raise self.expected("NULL after IS" if negated else "NULL or NOT NULL after IS")
            return ast.IsNull(field, negated)
        negated = self.accept("NOT")
        if self.accept("IN"):
            check_operator(self.text, field, "IN", token)
            return ast.Membership(field, self._list(field), negated)
        if self.accept("BETWEEN"):
            check_operator(self.text, field, "BETWEEN", token)
            return self._between(field, negated=negated)
        for word in ("LIKE", "ILIKE"):
            if self.accept(word):
                operator = f"NOT {word}" if negated else word
                check_operator(self.text, field, operator, token)
                return ast.Comparison(field, operator, literal(self.text, field, operator, self.take()))
        if negated:
            raise self.expected(f"IN, LIKE, ILIKE or BETWEEN after {shown(name)} NOT")
        if token.kind != tokens.OPERATOR:
            raise self._no_operator(name, token)
        self.take()
        operator = ast.EQ if token.text == "==" else token.text
        check_operator(self.text, field, operator, token)
        return ast.Comparison(field, operator, literal(self.text, field, operator, self.take()))

    def _no_operator(self, name: str, token: Token) -> QueryError:
        if token.kind == tokens.WORD and token.text.upper() not in _KEYWORDS:
            near = did_you_mean(token.text.upper(), ("LIKE", "ILIKE", "IN", "IS", "BETWEEN", "NOT"))
            quoted = f"a key with spaces stands in backticks: `{name.partition('.')[2]} {token.text}`"
            return self.expected(
                f"an operator after {shown(name)}", near or (quoted if "." in name else None)
            )
        return self.expected(f"an operator after {shown(name)}", "such as =, >, LIKE, IN or IS NULL")

    def _list(self, field: ast.Field) -> tuple[ast.Literal, ...]:
        opening = self.next
        if not self.accept("("):
            raise self.expected("( after IN", "a list looks like ('a', 'b')")
        values: list[ast.Literal] = []
        while not self.accept(")"):
            if self.next.kind == tokens.END:
                raise self.error("this ( is never closed", opening, "add ) after the list")
            values.append(literal(self.text, field, ast.EQ, self.take()))
            if not self.accept(",") and self.next.text != ")" and self.next.kind != tokens.END:
                raise self.expected(", or ) in the list")
        if not values:
            raise self.error("this list is empty", opening, "a list looks like ('a', 'b')")
        return tuple(values)

    def _between(self, field: ast.Field, *, negated: bool) -> ast.Between:
        low = literal(self.text, field, "BETWEEN", self.take())
        if not self.accept("AND"):
            raise self.expected("AND and the upper end of BETWEEN")
        token = self.take()
        high = literal(self.text, field, "BETWEEN", token)
        if isinstance(low, ast.Text) != isinstance(high, ast.Text):
            raise self.error("one end of BETWEEN is text and the other a number", token, "quote both or none")
        return ast.Between(field, low, high, negated)

    # -- fields

    def field(self) -> ast.Field:
        """Read a field.

        Raises:
            QueryError: there is none here, or entity or attribute is unknown.
        """
        token = self.next
        if token.kind == tokens.BACKTICK or token.text.startswith('"'):
            self.take()
            return self._attribute(token.content, token)
        if token.kind != tokens.WORD or token.text.upper() in _KEYWORDS:
            hint = "a condition looks like metrics.auc > 0.9"
            if token.kind == tokens.STRING:
                hint = "only values stand in single quotes; keys stand in backticks"
            raise self.expected("a field", hint)
        self.take()
        head, dot, key = token.text.partition(".")
        if not dot:
            return self._attribute(head, token)
        entity = ENTITIES.get(head.lower())
        if entity is None:
            near = did_you_mean(head, ENTITIES, f"the entities are {_ENTITY_LIST}")
            raise self.error(f"unknown entity {shown(head)}", token, near)
        quoted = not key
        if quoted:
            key = self._quoted_key(token)
        if entity == ast.ATTRIBUTE:
            return self._attribute(key, token)
        if entity == ast.DATASET and key not in DATASET_KEYS:
            near = did_you_mean(key, DATASET_KEYS, "data sets have name, digest and context")
            raise self.error(f"unknown key {shown(key)} of a data set", token, near)
        if entity == ast.METRIC:
            return self._metric(key, token, quoted=quoted)
        return ast.Field(entity, key, position=token.position)

    def _quoted_key(self, head: Token) -> str:
        token = self.next
        if token.position != head.end or not token.text.startswith(("`", '"')):
            raise self.error(
                f"{shown(head.text)} needs a key directly after the dot",
                head,
                "such as metrics.auc or metrics.`val auc`",
            )
        self.take()
        if not token.content:
            raise self.error("this key is empty", token)
        return token.content

    def _attribute(self, text: str, token: Token) -> ast.Field:
        name = attribute_name(text)
        if name is not None:
            return ast.Field(ast.ATTRIBUTE, name, position=token.position)
        if text.lower() in ENTITIES:
            raise self.error(f"{shown(text)} needs a dot and a key", token, f"such as {text}.name")
        near = did_you_mean(text.lower(), ("created", "experiment", "name", "user", *ATTRIBUTES))
        prefix = f"metrics, params and tags need their prefix: metrics.{text}"
        raise self.error(f"unknown attribute {shown(text)}", token, near or (prefix if text else None))

    def _metric(self, key: str, token: Token, *, quoted: bool) -> ast.Field:
        part = ""
        if quoted:
            if self.next.text == "." and self.next.position == self.tokens[self.at - 1].end:
                self.take()
                word = self.take()
                if word.text not in ast.PARTS:
                    raise self.error(
                        f"a metric has no {shown(word.text)}", word, "it has last, min, max, count"
                    )
                part = word.text
        else:
            head, _, tail = key.rpartition(".")
            if head and tail in ast.PARTS and self.next.text != "@":
                key, part = head, tail
        step = None
        at = self.next
        if self.accept("@"):
            if part:
                raise self.error(f"a metric has either .{part} or a step", at)
            step = self._step(at)
        return ast.Field(ast.METRIC, key, part, step, quoted and bool(part), token.position)

    def _step(self, at: Token) -> int:
        if not self.accept("STEP") or not self.accept("="):
            raise self.error("after @ comes a step", at, "such as metrics.loss@step=100")
        number = self.take()
        digits = number.text.lstrip("+-")
        if number.kind != tokens.NUMBER or not digits.isdecimal() or len(digits) > 19:
            raise self.error(f"{shown(number.text)} is not a step", number, "a step is an integer")
        step = int(number.text)
        if abs(step) >= _MAX_STEP:
            raise self.error("this step does not fit into 64 bits", number)
        return step


def _all_of(terms: list[ast.Expression]) -> ast.Expression:
    if len(terms) == 1:
        return terms[0]
    flat: list[ast.Expression] = []
    for term in terms:
        flat.extend(term.terms if isinstance(term, ast.And) else (term,))
    return ast.And(tuple(flat))


def _any_of(terms: list[ast.Expression]) -> ast.Expression:
    if len(terms) == 1:
        return terms[0]
    flat: list[ast.Expression] = []
    for term in terms:
        flat.extend(term.terms if isinstance(term, ast.Or) else (term,))
    return ast.Or(tuple(flat))
