"""The examples of docs/queries.md."""

import re
from pathlib import Path

import pytest
from query_strategies import NOW, history

from gml.domain.run import Run
from gml.index.query import matches, parse, unparse
from gml.index.query.errors import QueryError
from gml.index.query.fields import ATTRIBUTE_ALIASES, ATTRIBUTES, DATASET_KEYS, ENTITIES

PAGE = (Path(__file__).parents[2] / "docs" / "queries.md").read_text("utf-8")


def examples(kind):
    return [
        line
        for block in re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
        for line in block.splitlines()
    ]


@pytest.mark.parametrize("text", examples("query"))
def test_examples_work(text):
    query = parse(text)
    assert parse(unparse(query)) == query
    run = Run("ab12", "0", "n", "u", "FINISHED", NOW, NOW)
    assert isinstance(matches(query, run, experiment_name="Default", now_ms=NOW, history=history), bool)


@pytest.mark.parametrize("text", examples("refused"))
def test_refused_examples_are_refused(text):
    with pytest.raises(QueryError):
        parse(text)


def test_the_error_on_the_page_is_the_error():
    block = PAGE[PAGE.index('$ gml ls "') :].split("```")[0].splitlines()
    with pytest.raises(QueryError) as caught:
        parse(block[0].removeprefix('$ gml ls "').removesuffix('"'))
    assert block[1:] == [str(caught.value), *caught.value.caret().split("\n")]


@pytest.mark.parametrize("name", [*ATTRIBUTES, *ATTRIBUTE_ALIASES, *DATASET_KEYS])
def test_every_name_is_on_the_page(name):
    assert f"`{name}`" in PAGE


def test_every_entity_is_on_the_page():
    assert [name for name in ENTITIES if f"`{name}.`" not in PAGE] == []
