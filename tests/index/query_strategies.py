"""Runs and queries made by Hypothesis, for the tests of the index room."""

from hypothesis import strategies as st

from gml.domain.metrics import MetricSummary
from gml.domain.run import STATUSES, Run
from gml.index.query import ast
from gml.index.query.errors import QueryError

NOW = 1_780_000_000_000
DAY = 86_400_000
HEX = "0123456789abcdef"

METRIC_KEYS = ["auc", "loss", "loss.min", "val auc", "a/b"]
PARAM_KEYS = ["lr", "model", "deep.key", "odd`key", "now"]
TEXTS = [
    "",
    "rf",
    "RF",
    "xgb",
    "0.1",
    "1e-1",
    "nan",
    "true",
    "True",
    "10",
    "9",
    "a_b%",
    "it''s",
    'say "x"',
    "Äß",
    "(a+)+$",
]
NUMBERS = [0.0, -0.0, 0.1, 1.0, 9.0, 10.0, -3.5, 1e300, float("inf"), float("-inf")]

texts = st.sampled_from(TEXTS)
numbers = st.sampled_from(NUMBERS)
with_nan = st.one_of(numbers, st.just(float("nan")))


@st.composite
def summaries(draw):
    points = draw(st.lists(with_nan, min_size=1, max_size=3))
    summary = MetricSummary.first(0, 0, points[0])
    for step, value in enumerate(points[1:], start=1):
        summary.add(step, step, value)
    return summary


def maps(keys, values):
    return st.dictionaries(st.sampled_from(keys), values, max_size=len(keys))


@st.composite
def runs(draw):
    start = NOW - draw(st.integers(0, 20)) * DAY // 4
    end = draw(st.one_of(st.none(), st.integers(0, 10).map(lambda n: start + n * 30_000)))
    datasets = draw(st.lists(st.tuples(texts, texts, st.one_of(st.none(), texts)), max_size=2))
    source = draw(
        maps(
            ["commit", "branch", "argv", "n"],
            st.one_of(texts, st.lists(texts, max_size=2), st.integers(-2, 12)),
        )
    )
    dirty = draw(st.sampled_from([None, True, False]))
    return Run(
        run_id=draw(st.text(HEX, min_size=4, max_size=8)),
        experiment_id=draw(st.sampled_from(["0", "17"])),
        name=draw(texts),
        user=draw(texts),
        status=draw(st.sampled_from(STATUSES)),
        start_time=start,
        end_time=end,
        params=draw(maps(PARAM_KEYS, texts)),
        tags=draw(maps(["team", "mlflow.note.content", "mlflow.source.name"], texts)),
        metrics=draw(maps(METRIC_KEYS, summaries())),
        inputs=tuple(
            {"name": n, "digest": d, "tags": {"mlflow.data.context": c} if c else {}} for n, d, c in datasets
        ),
        source=source if dirty is None else {**source, "dirty": dirty},
        environment=draw(maps(["python", "host"], texts)),
    )


@st.composite
def metric_fields(draw):
    key = draw(st.sampled_from(METRIC_KEYS))
    part = draw(st.sampled_from(["", *ast.PARTS]))
    if not part and draw(st.booleans()):
        return ast.Field(ast.METRIC, key, step=draw(st.integers(-5, 5)))
    plain = all(c.isalnum() or c in "_.-/:" for c in key)
    return ast.Field(ast.METRIC, key, part, exact=bool(part) and (not plain or draw(st.booleans())))


mixed_fields = st.one_of(
    st.builds(ast.Field, st.just(ast.PARAM), st.sampled_from(PARAM_KEYS)),
    st.builds(ast.Field, st.just(ast.TAG), st.sampled_from(["team", "mlflow.source.name", "mlflow.runName"])),
    st.builds(ast.Field, st.just(ast.CODE), st.sampled_from(["commit", "branch", "argv", "dirty", "n"])),
    st.builds(ast.Field, st.just(ast.ENV), st.sampled_from(["python", "host"])),
)
text_fields = st.one_of(
    st.builds(
        ast.Field,
        st.just(ast.ATTRIBUTE),
        st.sampled_from(
            [
                "run_id",
                "run_name",
                "status",
                "user_id",
                "artifact_uri",
                "experiment_name",
                "experiment_id",
                "lifecycle_stage",
            ]
        ),
    ),
    st.builds(ast.Field, st.just(ast.DATASET), st.sampled_from(["name", "digest", "context"])),
)
time_fields = st.builds(ast.Field, st.just(ast.ATTRIBUTE), st.sampled_from(["start_time", "end_time"]))
duration_field = ast.Field(ast.ATTRIBUTE, "duration")
dirty_field = ast.Field(ast.ATTRIBUTE, "dirty")

text_literals = st.builds(ast.Text, texts)
ordered_numbers = st.builds(ast.Number, numbers)
number_literals = st.builds(ast.Number, with_nan)


@st.composite
def spans(draw):
    length = draw(st.sampled_from([1, 1000, 60_000, DAY]))
    start = (NOW - draw(st.integers(0, 30)) * DAY // 8) // length * length
    return ast.Span(start, start + length)


time_literals = st.one_of(
    st.builds(ast.Number, st.integers(NOW - 5 * DAY, NOW)),
    spans(),
    st.builds(ast.Relative, st.integers(-10, 0).map(lambda n: n * DAY // 2)),
    st.builds(ast.Day, st.sampled_from([0, -1])),
)
durations = st.builds(ast.Duration, st.sampled_from([0, 1, 30_000, 90_000, 9_000_000]))

# (fields, literals for = and !=, literals that have an order)
KINDS = [
    (metric_fields(), number_literals, ordered_numbers),
    (
        mixed_fields,
        st.one_of(text_literals, number_literals, st.builds(ast.Boolean, st.booleans())),
        ordered_numbers,
    ),
    (mixed_fields, text_literals, text_literals),
    (text_fields, text_literals, text_literals),
    (time_fields, time_literals, time_literals),
    (st.just(duration_field), durations, durations),
]
PATTERNS = ["%", "r_", "%f%", "R%", "", "%''%", "ä%"]
REGEXES = ["^r", "f$", "a|b", "(?i)RF", r"\d+", "(a+)+$"]


@st.composite
def conditions(draw):
    choice = draw(st.integers(0, 7))
    if choice == 0:
        return ast.Comparison(
            dirty_field, draw(st.sampled_from(["=", "!="])), ast.Boolean(draw(st.booleans()))
        )
    if choice == 1:
        op = draw(st.sampled_from(ast.PATTERNS))
        pattern = draw(st.sampled_from(REGEXES if "~" in op else PATTERNS))
        return ast.Comparison(draw(st.one_of(mixed_fields, text_fields)), op, ast.Text(pattern))
    fields, equals, ordered = draw(st.sampled_from(KINDS))
    field = draw(fields)
    negated = draw(st.booleans())
    if choice == 2:
        return ast.IsNull(field, negated)
    if choice == 3:
        return ast.Membership(field, tuple(draw(st.lists(equals, min_size=1, max_size=3))), negated)
    if choice == 4:
        return ast.Between(field, draw(ordered), draw(ordered), negated)
    if choice == 5:
        return ast.Comparison(field, draw(st.sampled_from(ast.ORDERINGS)), draw(ordered))
    return ast.Comparison(field, draw(st.sampled_from(["=", "!="])), draw(equals))


def flat(kind, terms):
    out = []
    for term in terms:
        out.extend(term.terms if isinstance(term, kind) else (term,))
    return kind(tuple(out))


expressions = st.recursive(
    conditions(),
    lambda inner: st.one_of(
        inner.map(ast.Not),
        st.lists(inner, min_size=2, max_size=3).map(lambda terms: flat(ast.And, terms)),
        st.lists(inner, min_size=2, max_size=3).map(lambda terms: flat(ast.Or, terms)),
    ),
    max_leaves=8,
)
queries = st.builds(ast.Query, expressions)


def history(run, key):
    """Points of a metric that agree with nothing but themselves: steps -3 to 3."""
    summary = run.metrics[key]
    return list(range(-3, 4)), [0] * 7, [summary.last + step for step in range(-3, 4)]


def refusal(parse, text):
    """Return the QueryError that a parser raises, None where it understands; nothing else may be raised."""
    try:
        parse(text)
    except QueryError as error:
        return error
    return None
