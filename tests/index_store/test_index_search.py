"""The index gives the answers of the naive evaluator, for generated runs, queries and orders."""

import os

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from index_cases import ALL_TEXTS, HOSTILE, NOW, Dice, found, naive, orders, plain_queries

from gml.index.query import ast, parse, parse_order, unparse
from gml.index.query.order import Order
from gml.index.store import compile as compiler
from gml.ledger import layout

TIMES = {"suppress_health_check": list(HealthCheck), "deadline": None, "database": None}


class World(tuple):
    """View, index and runs, which Hypothesis must not print."""

    __slots__ = ()

    def __repr__(self):
        return "world"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """One ledger for thousands of questions: 300 runs of every kind, edited and deleted."""
    import subprocess

    from index_cases import Lab

    class Place:
        path = tmp_path_factory.mktemp("world")

    subprocess.run(["git", "init", "-q", str(Place.path)], check=True)
    lab, dice = Lab(Place), Dice(int(os.environ.get("GML_SEED", "7")))
    experiments = ["0", lab.experiment("churn"), lab.experiment("it's; --", lifecycle_stage="deleted"), "17"]
    documents = {}
    while len(documents) < 300:
        run_id = dice.run_id()
        documents[run_id] = dice.document(run_id, experiments)
    lab.runs(documents.values())
    changes = {}
    for run_id in dice.sample(sorted(documents), 80):
        for clock in range(dice.choice([1, 2])):
            changes[f"{layout.edits_dir(run_id)}/{clock:06d}-{dice.getrandbits(64):016x}.json"] = dice.edit(
                run_id, clock
            )
    lab.commit(changes)
    view, index = lab.view(), lab.open()
    runs = list(view.runs())
    assert len(runs) == 300
    assert index.damaged() == []
    yield World((view, index, runs))
    index.close()


def check(world, query, order=(), **options):
    view, index, runs = world
    wanted = naive(view, query, order, runs=runs, **options)
    assert found(index, query, order, **options) == wanted, query and unparse(query)


options = st.fixed_dictionaries(
    {},
    optional={
        "experiments": st.lists(st.sampled_from(["0", "17", "'", *HOSTILE[:1]]), max_size=2),
        "stages": st.sampled_from([("active",), ("deleted",), ("active", "deleted")]),
        "limit": st.integers(1, 40),
    },
)


@settings(max_examples=400, phases=[Phase.generate], **TIMES)
@given(query=plain_queries, order=orders, more=options)
def test_generated_queries(world, query, order, more):
    check(world, query, order, **more)


@settings(max_examples=150, phases=[Phase.generate], **TIMES)
@given(query=plain_queries, order=orders, more=options)
def test_generated_queries_with_more_keys_than_are_joined(world, query, order, more):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "_MOST_KEYS", 1)
        check(world, query, order, **more)


@settings(max_examples=150, phases=[Phase.generate], **TIMES)
@given(order=orders, more=options)
def test_generated_orders_of_everything(world, order, more):
    check(world, None, order, **more)


@pytest.mark.heavy
@pytest.mark.timeout(1200)
@settings(max_examples=40_000, phases=[Phase.generate], **TIMES)
@given(query=plain_queries, order=orders, more=options)
def test_many_more_generated_queries(world, query, order, more):
    check(world, query, order, **more)


@pytest.mark.parametrize("text", ALL_TEXTS, ids=ascii)
@pytest.mark.parametrize("op", ["=", "!=", "<", "LIKE", "ILIKE"])
def test_every_text_as_value(world, op, text):
    for field in (ast.Field(ast.PARAM, "model"), ast.Field(ast.TAG, "team"), ast.Field(ast.ATTRIBUTE, "run_name"),
                  ast.Field(ast.CODE, "branch"), ast.Field(ast.DATASET, "name")):  # fmt: skip
        check(world, ast.Query(ast.Comparison(field, op, ast.Text(text))))
        both = (ast.Text(text), ast.Text("rf"))
        check(world, ast.Query(ast.Membership(field, both)))
        check(world, ast.Query(ast.Not(ast.Membership(field, both, negated=True))))


@pytest.mark.parametrize("key", [*HOSTILE, "a\0b", "\ud800", "nowhere"], ids=ascii)
def test_every_text_as_key(world, key):
    for entity, literal in (
        (ast.PARAM, ast.Text("rf")),
        (ast.METRIC, ast.Number(0.5)),
        (ast.TAG, ast.Number(1.0)),
        (ast.ENV, ast.Text("x")),
    ):
        field = ast.Field(entity, key)
        check(world, ast.Query(ast.Comparison(field, "!=", literal)), [Order(field, descending=True)])
        check(world, ast.Query(ast.IsNull(field)))
        check(
            world, ast.Query(ast.Or((ast.IsNull(field, negated=True), ast.Comparison(field, "<", literal))))
        )


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "\0"], ids=ascii)
def test_texts_that_no_run_can_have(world, text):
    for field in (
        ast.Field(ast.PARAM, "model"),
        ast.Field(ast.ATTRIBUTE, "run_name"),
        ast.Field(ast.CODE, "commit"),
    ):
        for op in ("=", "!=", "<", ">=", "LIKE", "~"):
            if op != "~" or text == "\0":
                check(world, ast.Query(ast.Comparison(field, op, ast.Text(text))))
        check(world, ast.Query(ast.Membership(field, (ast.Text(text), ast.Text("rf")))))


@pytest.mark.parametrize(
    "number",
    [1 << 62, (1 << 63) - 1, 1 << 63, 1 << 70, -(1 << 70), 10**400, 1e308, float("inf"), float("-inf")],
)
def test_numbers_larger_than_sqlite_has(world, number):
    for op in ("=", "!=", "<", ">="):
        check(
            world, ast.Query(ast.Comparison(ast.Field(ast.ATTRIBUTE, "start_time"), op, ast.Number(number)))
        )
        if isinstance(number, int):
            check(
                world,
                ast.Query(ast.Comparison(ast.Field(ast.ATTRIBUTE, "duration"), op, ast.Duration(number))),
            )
            moment = ast.Relative(number)
            check(world, ast.Query(ast.Comparison(ast.Field(ast.ATTRIBUTE, "end_time"), op, moment)))


@pytest.mark.parametrize(
    "text",
    [
        " or ".join(f"metrics.auc = {n}" for n in range(3000)),
        " and ".join(["metrics.auc != 5"] * 3000),
        "params.model in (" + ", ".join(f"'{n}'" for n in range(8000)) + ", 'rf')",
        "params.lr in (" + ", ".join(f"{n}" for n in range(8000)) + ", 0.1)",
        "metrics.auc not in (" + ", ".join(f"{n}" for n in range(3000)) + ")",
        "not (" * 90 + "metrics.auc = 1 and params.lr = 1" + ")" * 90,
        "not (metrics.auc = 1 or " * 60 + "params.lr = 1" + ")" * 60,
    ],
    ids=lambda text: text[:20],
)
def test_queries_too_large_for_sqlite_are_answered_or_left_to_the_evaluator(world, text):
    from gml.index.store.compile import NotCompilableError

    query = parse(text)
    try:
        check(world, query)
    except NotCompilableError:
        assert "not (" in text  # lists and long conjunctions are what people write


def test_the_whole_metric_goes_before_the_part(world):
    for text in (
        "metrics.loss.min < 0.5",
        "metrics.`loss`.min < 0.5",
        "metrics.`loss.min` < 0.5",
        "metrics.loss.min is null",
    ):
        check(world, parse(text), parse_order(["metrics.loss.min DESC", "metrics.`loss`.max"]), limit=20)


def test_an_order_with_a_limit_that_few_runs_fill(world):
    _, index, _ = world
    assert index.connection.execute("SELECT count(*) FROM metric_rows").fetchone()[0] > 0
    for limit in (1, 5, 149, 150, 151, 299, 300, 301):
        for text in ("metrics.auc DESC", "metrics.auc", "params.lr", "tags.team DESC"):
            check(world, None, parse_order([text]), limit=limit, stages=("active", "deleted"))


def test_looking_runs_up(world):
    view, index, runs = world
    newest = naive(view, stages=("active", "deleted"), runs=runs)
    for run in runs[:40]:
        for text in (run.run_id[:6], run.run_id[-6:], run.run_id[-12:], run.run_id):
            assert index.match_ids(text) == [i for i in newest if i.startswith(text) or i.endswith(text)]
    for name in ALL_TEXTS:
        active = {run.run_id for run in runs if run.name == name and run.lifecycle_stage == "active"}
        assert index.match_names(name) == [i for i in newest if i in active]
    counts = {}
    for run in runs:
        place = run.experiment_id, run.lifecycle_stage
        counts[place] = counts.get(place, 0) + 1
    assert index.counts() == counts
    assert index.search(None, now_ms=NOW, limit=1)[0].record is not None


def test_more_keys_than_sqlite_joins(lab):
    """Of 100 params and metrics each the index answers, in any combination of conditions and orders."""
    dice = Dice(4)
    keys = [f"k{n}" for n in range(100)]
    lab.runs(
        {
            **dice.document(dice.run_id()),
            "params": {key: str(dice.randrange(3)) for key in keys if dice.maybe(0.99)},
            "metrics": {
                key: {"last": float(dice.randrange(3)), "step": 0, "timestamp": 0}
                for key in keys
                if dice.maybe(0.99)
            },
        }
        for _ in range(60)
    )
    view, index = lab.view(), lab.open()
    for text in (
        " and ".join(f"params.{key} != '2' or metrics.{key} >= 0" for key in keys),
        " and ".join(f"metrics.{key} >= 0" for key in keys[:80]) + " and params.k1 in ('0', '1')",
        " or ".join(f"params.{key} > 1" for key in keys) + " or not metrics.k3 is null",
        " or ".join(f"metrics.{key}.max between 1 and 2" for key in keys),
    ):
        query, order = (
            parse(text),
            parse_order([f"metrics.{key} DESC" for key in keys[40:100]] + ["params.k2"]),
        )
        assert found(index, query, order) == naive(view, query, order)
    index.close()
