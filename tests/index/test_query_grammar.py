"""What each text is understood as, and what is said of the others."""

import pytest

from gml.index.query import ast, parse, suggest, unparse
from gml.index.query.errors import QueryError
from gml.index.query.parser import MAX_DEPTH
from gml.index.query.tokens import MAX_LENGTH


def condition(text):
    return parse(text).expression


@pytest.mark.parametrize(
    ("text", "field"),
    [
        *((f"{e}.auc", ast.Field(ast.METRIC, "auc")) for e in ("metric", "metrics", "METRICS")),
        *((f"{e}.lr", ast.Field(ast.PARAM, "lr")) for e in ("param", "params", "parameter", "parameters")),
        *((f"{e}.team", ast.Field(ast.TAG, "team")) for e in ("tag", "tags")),
        *((f"{e}.status", ast.Field(ast.ATTRIBUTE, "status")) for e in ("attribute", "attributes", "attr", "run")),
        *((f"{e}.name", ast.Field(ast.DATASET, "name")) for e in ("dataset", "datasets", "input", "inputs")),
        ("code.commit", ast.Field(ast.CODE, "commit")),
        ("env.python", ast.Field(ast.ENV, "python")),
        ("tags.mlflow.parentRunId", ast.Field(ast.TAG, "mlflow.parentRunId")),
        ("params.a-b/c:d.e", ast.Field(ast.PARAM, "a-b/c:d.e")),
        ("params.1st", ast.Field(ast.PARAM, "1st")),
        ("params.größe", ast.Field(ast.PARAM, "größe")),
        ("params.and", ast.Field(ast.PARAM, "and")),
        ("params.`a b`", ast.Field(ast.PARAM, "a b")),
        ('params."a b"', ast.Field(ast.PARAM, "a b")),
        ('params."a`b"', ast.Field(ast.PARAM, "a`b")),
        ("tags.`mlflow.runName`", ast.Field(ast.TAG, "mlflow.runName")),
        ("metrics.loss.min", ast.Field(ast.METRIC, "loss", "min")),
        ("metrics.a.b.max", ast.Field(ast.METRIC, "a.b", "max")),
        ("metrics.`loss.min`", ast.Field(ast.METRIC, "loss.min")),
        ("metrics.`val loss`.min", ast.Field(ast.METRIC, "val loss", "min", exact=True)),
        ("metrics.`loss`.last", ast.Field(ast.METRIC, "loss", "last", exact=True)),
        ("metrics.min", ast.Field(ast.METRIC, "min")),
        ("metrics.loss.mean", ast.Field(ast.METRIC, "loss.mean")),
        ("metrics.loss@step=100", ast.Field(ast.METRIC, "loss", step=100)),
        ("metrics.`a b` @ step = -3", ast.Field(ast.METRIC, "a b", step=-3)),
        ("metrics.loss.min@step=1", ast.Field(ast.METRIC, "loss.min", step=1)),
        ("run_id", ast.Field(ast.ATTRIBUTE, "run_id")),
        *((f"{a}", ast.Field(ast.ATTRIBUTE, "run_name")) for a in ("run_name", '"run name"', "`Run Name`", "name", "run.name", 'attributes."Run name"')),
        *((a, ast.Field(ast.ATTRIBUTE, "user_id")) for a in ("user_id", "user")),
        *((a, ast.Field(ast.ATTRIBUTE, "experiment_name")) for a in ("experiment", "experiment_name")),
        ("experiment_id", ast.Field(ast.ATTRIBUTE, "experiment_id")),
        ("artifact_uri", ast.Field(ast.ATTRIBUTE, "artifact_uri")),
        ("lifecycle_stage", ast.Field(ast.ATTRIBUTE, "lifecycle_stage")),
        ("Created", ast.Field(ast.ATTRIBUTE, "start_time")),
        ("end_time", ast.Field(ast.ATTRIBUTE, "end_time")),
        ("duration", ast.Field(ast.ATTRIBUTE, "duration")),
        ("dirty", ast.Field(ast.ATTRIBUTE, "dirty")),
    ],
)  # fmt: skip
def test_fields(text, field):
    assert condition(f"{text} IS NULL") == ast.IsNull(field)
    assert condition(f"{text} is not null") == ast.IsNull(field, negated=True)


X = ast.Field(ast.PARAM, "x")
M = ast.Field(ast.METRIC, "m")
START = ast.Field(ast.ATTRIBUTE, "start_time")
DURATION = ast.Field(ast.ATTRIBUTE, "duration")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("params.x = 'a'", ast.Comparison(X, "=", ast.Text("a"))),
        ('params.x == "a"', ast.Comparison(X, "=", ast.Text("a"))),
        ("params.x='it''s'", ast.Comparison(X, "=", ast.Text("it''s"))),
        ("params.x = 'a\\'", ast.Comparison(X, "=", ast.Text("a\\"))),
        ("params.x = ''", ast.Comparison(X, "=", ast.Text(""))),
        ('params.x = "it\'s"', ast.Comparison(X, "=", ast.Text("it's"))),
        ("params.x != 1", ast.Comparison(X, "!=", ast.Number(1.0))),
        ("params.x = TRUE", ast.Comparison(X, "=", ast.Boolean(True))),
        ("params.x LIKE 'a%'", ast.Comparison(X, "LIKE", ast.Text("a%"))),
        ("params.x not ilike 'a%'", ast.Comparison(X, "NOT ILIKE", ast.Text("a%"))),
        ("params.x ~ '^a'", ast.Comparison(X, "~", ast.Text("^a"))),
        ("params.x!~'^a'", ast.Comparison(X, "!~", ast.Text("^a"))),
        ("params.x IN ('a', 1,)", ast.Membership(X, (ast.Text("a"), ast.Number(1.0)))),
        ("params.x not in('a')", ast.Membership(X, (ast.Text("a"),), negated=True)),
        ("metrics.m>=.5", ast.Comparison(M, ">=", ast.Number(0.5))),
        ("metrics.m<-1.5e-3", ast.Comparison(M, "<", ast.Number(-0.0015))),
        ("metrics.m < +2.", ast.Comparison(M, "<", ast.Number(2.0))),
        ("metrics.m < 1e400", ast.Comparison(M, "<", ast.Number(float("inf")))),
        ("metrics.m > -inf", ast.Comparison(M, ">", ast.Number(float("-inf")))),
        ("metrics.m <= Infinity", ast.Comparison(M, "<=", ast.Number(float("inf")))),
        ("metrics.m = NaN", ast.Comparison(M, "=", ast.Number(float("nan")))),
        ("metrics.m between 1 and 2", ast.Between(M, ast.Number(1.0), ast.Number(2.0))),
        ("metrics.m NOT BETWEEN 1 AND 2", ast.Between(M, ast.Number(1.0), ast.Number(2.0), negated=True)),
        ("duration > 2h30m", ast.Comparison(DURATION, ">", ast.Duration(9_000_000))),
        ("duration < '1.5s'", ast.Comparison(DURATION, "<", ast.Duration(1_500))),
        ("start_time > 1780000000001", ast.Comparison(START, ">", ast.Number(1_780_000_000_001))),
        ("start_time > -2w", ast.Comparison(START, ">", ast.Relative(-1_209_600_000))),
        ("start_time > '2 weeks ago'", ast.Comparison(START, ">", ast.Relative(-1_209_600_000))),
        ("start_time < now", ast.Comparison(START, "<", ast.Relative(0))),
        ("start_time = today", ast.Comparison(START, "=", ast.Day(0))),
        ("start_time = 'Yesterday'", ast.Comparison(START, "=", ast.Day(-1))),
        ("start_time = '1970-01-02'", ast.Comparison(START, "=", ast.Span(86_400_000, 172_800_000))),
        ("dirty = false", ast.Comparison(ast.Field(ast.ATTRIBUTE, "dirty"), "=", ast.Boolean(False))),
    ],
)
def test_conditions(text, expected):
    assert condition(text) == expected
    assert condition(unparse(parse(text))) == expected


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("", ""),
        ("  \n", ""),
        (
            "metrics.a>1 and metrics.b>1 or metrics.c>1",
            "metrics.a > 1.0 AND metrics.b > 1.0 OR metrics.c > 1.0",
        ),
        (
            "metrics.a>1 and (metrics.b>1 or metrics.c>1)",
            "metrics.a > 1.0 AND (metrics.b > 1.0 OR metrics.c > 1.0)",
        ),
        ("not metrics.a>1 and metrics.b>1", "NOT metrics.a > 1.0 AND metrics.b > 1.0"),
        ("not(metrics.a>1 and metrics.b>1)", "NOT (metrics.a > 1.0 AND metrics.b > 1.0)"),
        ("NOT NOT dirty=true", "NOT NOT dirty = true"),
        ("((dirty=true))", "dirty = true"),
        ("(user='a' AND user='b') AND user='c'", "user_id = 'a' AND user_id = 'b' AND user_id = 'c'"),
        ("metrics.a > 1 AND", "metrics.a > 1.0"),
        ("metrics.a > 1 OR dirty=true and AND", "metrics.a > 1.0 OR dirty = true"),
        ("metrics.a between 1 and 2 and dirty=true", "metrics.a BETWEEN 1.0 AND 2.0 AND dirty = true"),
        ("`start_time`>'2026-06-01T12:00+02:00'", "start_time > '2026-06-01T10:00'"),
        ("metrics.`auc` > 1", "metrics.auc > 1.0"),
    ],
)
def test_structure(text, canonical):
    assert unparse(parse(text)) == canonical


@pytest.mark.parametrize(
    ("text", "position", "says"),
    [
        ("stauts = 'x'", 0, "unknown attribute 'stauts'.*did you mean 'status'"),
        ("auc > 0.9", 0, "unknown attribute 'auc'.*metrics.auc"),
        ("dirty=true AND metrcs.auc > 0.9", 15, "unknown entity 'metrcs'.*did you mean 'metrics'"),
        ("xyzzy.auc > 0.9", 0, "unknown entity 'xyzzy'.*the entities are"),
        ("attributes.foo = 'x'", 0, "unknown attribute 'foo'"),
        ("datasets.nam = 'x'", 0, "unknown key 'nam' of a data set.*did you mean 'name'"),
        ("metrics > 1", 0, "'metrics' needs a dot and a key"),
        ("run name = 'x'", 0, "'run' needs a dot and a key"),
        ("metrics. auc > 1", 0, "needs a key directly after the dot"),
        ("metrics.`` > 1", 8, "key is empty"),
        ("metrics.`a`.mean > 1", 12, "no 'mean'.*last, min, max, count"),
        ("metrics.`a`.min@step=1 > 1", 15, "either .min or a step"),
        ("metrics.a@epoch=1 > 1", 9, "after @ comes a step"),
        ("metrics.a@step==1 > 1", 9, "after @ comes a step"),
        ("metrics.a@step=1.5 > 1", 15, "'1.5' is not a step"),
        ("metrics.a@step=9999999999999999999 > 1", 15, "64 bits"),
        ("'a' = 'a'", 0, "expected a field.*single quotes"),
        ("= 1", 0, "expected a field"),
        ("NOT", 3, "expected a field, but the query ends"),
        ("metrics.a", 9, "expected an operator after 'metrics.a', but the query ends"),
        ("metrics.a 1", 10, "expected an operator"),
        ("params.a lik 'x'", 9, "did you mean 'LIKE'"),
        ("params.learning rate = 1", 16, "backticks: `learning rate`"),
        ("metrics.a NOT > 1", 14, "expected IN, LIKE, ILIKE or BETWEEN"),
        ("metrics.a IS 1", 13, "NULL or NOT NULL"),
        ("metrics.a IS NOT 1", 17, "expected NULL after IS"),
        ("metrics.a >", 11, "expected a value, but the query ends"),
        ("metrics.a > )", 12, "expected a value"),
        ("metrics.a > '1'", 12, "without quotes"),
        ("metrics.a > x", 12, "text needs quotes: 'x'"),
        ("metrics.a > true", 12, "metrics compare with numbers"),
        ("metrics.a > 90s", 12, "metrics compare with numbers"),
        ("metrics.a > nan", 12, "nothing can be > nan"),
        ("metrics.a BETWEEN nan AND 1", 18, "nothing can be BETWEEN nan"),
        ("metrics.a LIKE '1'", 10, "LIKE does not go with 'a': a metric is a number"),
        ("start_time ~ '1'", 11, "~ does not go with 'start_time': this is a time"),
        ("dirty > true", 6, "use = and !="),
        ("dirty = 1", 8, "dirty is true or false"),
        ("dirty = 'true'", 8, "dirty is true or false"),
        ("status = FINISHED", 9, "text needs quotes: 'FINISHED' .*write 'FINISHED'"),
        ("params.a = params.b", 11, "only values can be on the right"),
        ("params.a = `b`", 11, "expected a value, but here is '`b`'"),
        ("params.a > true", 11, "= and != only"),
        ("params.a LIKE 1", 14, "LIKE takes a pattern.*write '1'"),
        ("params.a ~ '(a'", 12, "regular expression this \\( is never closed"),
        ("params.a BETWEEN 1 AND '2'", 23, "one end of BETWEEN is text"),
        ("experiment_id = 17", 16, "compares with text.*write '17'"),
        ("duration > 90", 11, "a duration has a unit.*90s"),
        ("duration > 'soon'", 11, "a duration looks like"),
        ("start_time > 2w", 13, "'2w' is a duration; '-2w'"),
        ("start_time > 2026-06-01", 13, "the date '2026-06-01' needs quotes"),
        ("start_time > '2026-06-31'", 13, "2026-06-31 is not in the calendar"),
        ("start_time > '2026-06-01T24:00'", 13, "hours go to 23"),
        ("start_time > 'soon'", 13, "a time looks like"),
        ("start_time > inf", 13, "a time looks like"),
        ("start_time > 1e400", 13, "a time is finite"),
        ("metrics.a > 1x", 12, "neither a number nor a duration"),
        ("metrics.a > 1.2.3", 12, "neither a number nor a duration"),
        ("metrics.a <> 1", 10, "'<>' is not an operator.*write !="),
        ("metrics.a = 1 && dirty = true", 14, "'&&' is not an operator.*write AND"),
        ("metrics.a = 1; DROP", 13, "';' is not an operator"),
        ("metrics.a = 1 # x", 14, "'#' has no meaning"),
        ("params.a = 'x", 11, "this ' is never closed"),
        ("params.`a = 1", 7, "this ` is never closed"),
        ("(metrics.a = 1", 0, "this \\( is never closed"),
        ("(metrics.a = 1 metrics.b = 2)", 15, "expected AND, OR or \\)"),
        ("metrics.a = 1)", 13, "this \\) closes nothing"),
        ("metrics.a = 1 metrics.b = 2", 14, "expected AND, OR or the end"),
        ("(metrics.a = 1 AND)", 18, "expected a field"),
        ("AND metrics.a = 1", 0, "expected a field"),
        ("params.a IN ()", 12, "this list is empty"),
        ("params.a IN 'x'", 12, "expected \\( after IN"),
        ("params.a IN ('x' 'y')", 17, "expected , or \\)"),
        ("params.a IN ('x'", 12, "this \\( is never closed"),
        ("metrics.a IN (1, 'x')", 17, "metrics compare with numbers"),
        ("metrics.a BETWEEN 1, 2", 19, "expected AND and the upper end"),
        ("(" * (MAX_DEPTH + 1), MAX_DEPTH, "nested more than 200 deep"),
        ("NOT " * (MAX_DEPTH + 1) + "dirty = true", 0, "nested more than 200 deep"),
        ("x" * (MAX_LENGTH + 1), MAX_LENGTH, "65537 characters, the limit is 65536"),
    ],
)
def test_errors(text, position, says):
    with pytest.raises(QueryError, match=says) as caught:
        parse(text)
    error = caught.value
    assert error.position == position
    assert f"(at character {position + 1})" in str(error)
    assert len(str(error)) < 400
    picture, caret = error.caret().split("\n")
    if len(text) <= 72:
        assert picture == text
        assert caret == " " * position + "^"
    else:
        assert len(picture) < 80
        assert len(caret) <= len(picture) + 1


def test_the_caret_picture():
    with pytest.raises(QueryError) as caught:
        parse("metrics.auc > 0.9 AND stauts = 'FAILED'")
    assert str(caught.value) == "unknown attribute 'stauts' (at character 23); did you mean 'status'?"
    assert caught.value.caret().split("\n") == [
        "metrics.auc > 0.9 AND stauts = 'FAILED'",
        "                      ^",
    ]
    assert caught.value.exit_code == 2


def test_the_caret_picture_of_a_long_query_with_wide_characters():
    text = "params.a = '\n世界' AND " * 10 + "stauts = 'x'" + " AND dirty = true" * 10
    with pytest.raises(QueryError) as caught:
        parse(text)
    picture, caret = caught.value.caret().split("\n")
    assert picture.startswith("...")
    assert picture.endswith("...")
    before = picture[: picture.index("stauts")]
    assert len(caret) - 1 == len(before) + sum(c in "世界" for c in before)


def test_deep_and_long_queries_work():
    nested = "dirty = true"
    for level in range(MAX_DEPTH):
        nested = f"user = '{level}' {'OR' if level % 2 else 'AND'} ({nested})"
    for text in (nested, "NOT " * MAX_DEPTH + "dirty = true"):
        query = parse(text)
        assert parse(unparse(query)) == query
        assert hash(query) == hash(parse(text))
        assert len(list(query.fields())) == text.count("=")
    long = " AND ".join(["params.a = 'x'"] * 3400)
    assert len(parse(long).expression.terms) == 3400


def test_helpers_for_callers():
    query = parse("metrics.a > 1 AND NOT (params.b = 'x' OR metrics.c@step=3 > 1)")
    assert [(field.entity, field.key) for field in query.fields()] == [
        ("metric", "a"),
        ("param", "b"),
        ("metric", "c"),
    ]
    assert query.needs_history
    assert not parse("metrics.a > 1").needs_history
    assert not parse("").needs_history
    assert suggest("AUCC", ["auc", "loss"]) == "auc"
    assert suggest("zzz", ["auc", "loss"]) is None


def test_a_text_with_both_quotes_cannot_be_written():
    query = ast.Query(ast.Comparison(X, "=", ast.Text("a'b\"c")))
    with pytest.raises(ValueError, match="both kinds of quotes"):
        unparse(query)


def test_importing_the_parser_is_cheap():
    import subprocess
    import sys

    code = "import sys, gml.index.query; print(sorted(m for m in ('pandas', 'numpy', 'difflib', 'click', 'gml.index.query.regex') if m in sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )
