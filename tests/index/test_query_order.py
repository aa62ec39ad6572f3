import pytest
from hypothesis import given
from hypothesis import strategies as st
from query_strategies import refusal
from query_strategies import runs as any_runs

from gml.domain.metrics import MetricSummary
from gml.domain.run import Run
from gml.index.query import parse_order, parse_sort, sort_runs
from gml.index.query.errors import QueryError


def run(name, metric=None, *, start=0, **params):
    metrics = {} if metric is None else {"auc": MetricSummary.first(0, 0, metric)}
    return Run(
        f"id-{name}", "0", name, "u", "FINISHED", start, start + len(name), metrics=metrics, params=params
    )


RUNS = [
    run("none"), run("one", 1.0), run("nan", float("nan")), run("inf", float("inf")), run("zero", 0.0), run("minus", float("-inf")),
]  # fmt: skip


def names(runs):
    return [each.name for each in runs]


def test_numbers_then_nan_then_missing_in_both_directions():
    assert names(sort_runs(RUNS, parse_order(["metrics.auc"]))) == [
        "minus",
        "zero",
        "one",
        "inf",
        "nan",
        "none",
    ]
    assert names(sort_runs(RUNS, parse_order(["metrics.auc DESC"]))) == [
        "inf",
        "one",
        "zero",
        "minus",
        "nan",
        "none",
    ]
    assert parse_sort("-metrics.auc") == parse_order(["metrics.auc desc"])


def test_newest_first_without_an_order_and_for_ties():
    old, new, same = run("a", start=1), run("b", start=2), run("c", start=2)
    assert names(sort_runs([old, new, same], ())) == ["c", "b", "a"]
    assert names(sort_runs([old, new, same], parse_order(["user"]))) == ["c", "b", "a"]
    assert names(sort_runs([old, new, same], parse_order(["user DESC"]))) == ["c", "b", "a"]
    assert names(sort_runs([new, old, same], parse_order(["start_time", "run_id ASC"]))) == ["a", "b", "c"]


def test_params_sort_as_numbers_then_text():
    runs = [
        run("ten", x="10"),
        run("nine", x="9"),
        run("small", x="1e-3"),
        run("text", x="auto"),
        run("upper", x="Auto"),
        run("nan", x="nan"),
        run("none"),
    ]
    assert names(sort_runs(runs, parse_sort("params.x"))) == [
        "small",
        "nine",
        "ten",
        "nan",
        "upper",
        "text",
        "none",
    ]
    assert names(sort_runs(runs, parse_sort("-params.x"))) == [
        "ten",
        "nine",
        "small",
        "nan",
        "text",
        "upper",
        "none",
    ]


def test_several_keys():
    runs = [run("a", 1.0, x="2"), run("b", 1.0, x="1"), run("c", 0.0, x="3")]
    assert names(sort_runs(runs, parse_sort("-metrics.auc, params.x"))) == ["b", "a", "c"]
    assert names(sort_runs(runs, parse_sort("metrics.auc asc,params.x DESC"))) == ["c", "a", "b"]
    assert names(sort_runs(runs, parse_sort("duration,-name"))) == ["c", "b", "a"]


def test_names_and_histories_come_from_outside():
    here, there = run("here", 1.0), Run("id2", "7", "there", "u", "FINISHED", 0, 1)
    assert names(
        sort_runs([here, there], parse_sort("experiment"), experiment_names={"0": "b", "7": "a"})
    ) == ["there", "here"]
    assert names(
        sort_runs(
            [there, here], parse_sort("metrics.auc@step=5"), history=lambda _run, _key: ([5], [0], [1.0])
        )
    ) == ["here", "there"]
    with pytest.raises(QueryError, match="needs the history"):
        sort_runs([here], parse_sort("metrics.auc@step=5"))


def test_quoted_keys_may_have_commas_in_texts():
    (first, second) = parse_sort("-metrics.`a b`,params.`x,y`")
    assert (first.field.key, first.descending) == ("a b", True)
    assert (second.field.key, second.descending) == ("x,y", False)


@pytest.mark.parametrize(
    ("items", "position", "says"),
    [
        (["metrics.auc DOWN"], 12, "expected ASC, DESC"),
        (["metrics.auc DESC NULLS LAST"], 17, "missing values are always last"),
        (["metrics.auc > 1"], 12, "expected ASC, DESC"),
        (["datasets.name"], 0, "cannot be ordered by data sets"),
        (["stat_time"], 0, "did you mean 'start_time'"),
        ([""], 0, "expected a field"),
        (["metrics.a", "user", "metric.a DESC"], 0, "metrics.a is in the order twice"),
    ],
)
def test_what_is_no_order(items, position, says):
    with pytest.raises(QueryError, match=says) as caught:
        parse_order(items)
    assert caught.value.position == position


@pytest.mark.parametrize(
    ("text", "position", "says"),
    [
        ("", 0, "expected a field"),
        ("-", 1, "expected a field"),
        ("user,", 5, "expected a field"),
        ("-user,+stauts", 7, "did you mean 'status'"),
        ("user,-user", 6, "in the order twice"),
        (",".join(f"params.p{n}" for n in range(70)), None, "at most 64 keys"),
        ("user," * 50_000, None, "."),
    ],
)
def test_what_is_no_sort(text, position, says):
    with pytest.raises(QueryError, match=says) as caught:
        parse_sort(text)
    assert position is None or caught.value.position == position
    assert caught.value.text == text


@given(st.text(max_size=30))
def test_any_text_is_a_sort_or_an_error(text):
    error = refusal(parse_sort, text)
    if error is not None:
        assert 0 <= error.position <= len(text)
        assert len(error.caret().split("\n")) == 2


@given(
    st.lists(any_runs(), max_size=6),
    st.permutations(["metrics.auc", "-params.lr", "-start_time", "code.argv", "-dirty", "status"]),
)
def test_sorting_keeps_every_run_and_does_not_depend_on_the_first_order(some, keys):
    unique = list({each.run_id: each for each in some}.values())
    orders = parse_sort(",".join(keys[:3]))
    out = sort_runs(unique, orders)
    assert sorted(each.run_id for each in out) == sorted(each.run_id for each in unique)
    assert names(sort_runs(unique[::-1], orders)) == names(out)
