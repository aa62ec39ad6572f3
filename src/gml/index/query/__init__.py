"""The query language: one grammar for `gml ls`, `search_runs` and everything else that selects runs.

docs/queries.md teaches it. `parse` gives a tree of frozen values (`gml.index.query.ast`), `matches`
defines what it means, `parse_order` and `sort_runs` do the same for orders.
"""

from gml.index.query.ast import Query
from gml.index.query.errors import QueryError, suggest
from gml.index.query.evaluate import matches
from gml.index.query.order import Order, parse_fields, parse_order, parse_sort, sort_runs
from gml.index.query.parser import parse
from gml.index.query.unparse import unparse, unparse_field

__all__ = [
    "Order",
    "Query",
    "QueryError",
    "matches",
    "parse",
    "parse_fields",
    "parse_order",
    "parse_sort",
    "sort_runs",
    "suggest",
    "unparse",
    "unparse_field",
]
