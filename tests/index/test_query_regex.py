"""`~` and LIKE: right, and linear."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gml.index.query import regex as engine
from gml.index.query.like import like
from gml.index.query.regex import Regex
from gml.index.query.regex_syntax import MAX_SIZE, RegexError

LETTERS = "abAB1_ -ß"
atoms = st.one_of(
    st.sampled_from(list("abAB1_- ")),
    st.sampled_from(
        [
            ".",
            r"\d",
            r"\w",
            r"\s",
            r"\D",
            r"\W",
            r"\S",
            "[ab]",
            "[^ab]",
            "[a-c1]",
            r"[\d_]",
            r"[^\w]",
            "[]a]",
            "[a-]",
            r"\.",
            r"\x61",
            r"\u0062",
        ]
    ),
    st.sampled_from(["^", "$", r"\b"]),
)


def repeatable(inner):
    return st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.tuples(inner, inner).map("|".join).map("(?:{})".format),
        st.tuples(
            inner.map("({})".format),
            st.sampled_from(["*", "+", "?", "{2}", "{1,}", "{0,2}", "*?", "+?", "{,x", "{,2}", "{,}"]),
        ).map("".join),
    )


patterns = st.recursive(atoms, repeatable, max_leaves=8)


@given(patterns, st.lists(st.text(LETTERS, max_size=12), min_size=1, max_size=4), st.booleans())
def test_it_finds_what_python_finds(pattern, texts, ignore_case):
    pattern = f"(?i){pattern}" if ignore_case else pattern
    own = Regex(pattern)
    other = re.compile(pattern)
    for text in [*texts, *texts]:  # twice: first by working it out, then from memory
        assert own.search(text) == bool(other.search(text))


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(a|a)*$", "(a*)*b", "(a|aa)+$", "(.*a){12}$", "(a?){30}a{30}$", "(x+x+)+y"]
)
@pytest.mark.parametrize("length", [10, 100, 8000])
def test_work_is_bounded_by_text_times_pattern(pattern, length):
    regex = Regex(pattern)
    text = ("ax" if "x" in pattern else "a") * length + "!"
    regex.search(text)
    assert 0 < regex.visits <= (len(text) + 1) * regex.size
    # The second time nothing is left to work out.
    before = regex.visits
    regex.search(text)
    assert regex.visits - before <= regex.size


def test_memory_is_bounded_and_forgetting_changes_nothing(monkeypatch):
    monkeypatch.setattr(engine, "MAX_REMEMBERED", 50)
    regex = Regex("(a|b)*a(a|b){6}$")
    other = re.compile(regex.pattern)
    for number in range(600):
        text = f"{number:b}".replace("0", "a").replace("1", "b")
        assert regex.search(text) == bool(other.search(text))
    remembered = sum(len(state) for state in regex._states.values())
    assert remembered <= 60


@pytest.mark.parametrize(
    ("pattern", "offset", "says"),
    [
        ("(a", 0, "never closed"),
        ("a)", 1, "closes nothing"),
        ("[a", 0, "never closed"),
        ("*a", 0, "nothing to repeat"),
        ("a|+", 2, "nothing to repeat"),
        ("a**", 2, "cannot be repeated"),
        (r"(a)\1", 3, "backreferences"),
        ("(?=a)", 0, "offered"),
        ("(?P<x>a)", 0, "offered"),
        ("a\\", 1, "backslash"),
        (r"\q", 0, "not offered"),
        (r"\x1", 0, "hexadecimal"),
        ("[b-a]", 2, "range"),
        (r"[a-\d]", 2, "range"),
        (r"[\b]", 1, "no place"),
        ("a{3,1}", 1, "smaller one first"),
        ("a{2000}", 1, "at most 1000"),
        ("((a{30}){30}){30}", 3, "too large"),
        ("((){1000}){1000}", 3, "too large"),
        ("(" * 51 + ")" * 51, 50, "nested"),
        ("a" * (MAX_SIZE + 2), 0, "too large"),
    ],
)
def test_what_is_refused(pattern, offset, says):
    with pytest.raises(RegexError, match=says) as caught:
        Regex(pattern)
    assert caught.value.offset == offset


@given(st.text(max_size=30))
def test_any_pattern_is_refused_or_works(pattern):
    offset = 0
    try:
        Regex(pattern).search("some text")
    except RegexError as error:
        offset = error.offset
    assert 0 <= offset <= len(pattern)


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("rf", "rf", True), ("rf", "rfx", False), ("rf%", "rf", True), ("%", "", True), ("", "", True), ("", "x", False),
        ("_", "", False), ("_", "x", True), ("a%b%c", "a--b--c", True), ("a%b%c", "acb", False), ("%a_", "xxab", True),
        ("a%a", "a", False), ("%ab%ab%", "abab", True), ("%ab%ab%", "ab", False), ("RF", "rf", False), ("a.b", "axb", False),
        ("a\\%", "a\\x", True), ("a%", "a\nb", True), ("%_%_%", "xy", True), ("%_%_%", "x", False), ("[a]%", "[a]b", True),
    ],
)  # fmt: skip
def test_like(pattern, text, found):
    assert like(pattern)(text) is found


@given(st.text("ab%_", max_size=8), st.text("ab", max_size=10))
def test_like_is_its_regex(pattern, text):
    as_regex = "".join({"%": ".*", "_": "."}.get(c, c) for c in pattern)
    assert like(pattern)(text) == bool(re.fullmatch(as_regex, text))


def test_ilike_folds_case():
    assert like("STRASSE%", ignore_case=True)("Straße 1")
    assert like("äÖ", ignore_case=True)("ÄÖ")
    assert not like("äÖ")("ÄÖ")
