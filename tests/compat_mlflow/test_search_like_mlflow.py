"""Filters and orders of MLflow select the same runs in the same order as MLflow's own store on SQLite.

Needs mlflow: `make compat` makes an environment that has it. What is left out is what docs/queries.md names
as different on purpose: numeric params and tags in an order, the largest float, NaN beside other values of
the same step and millisecond, case folding beyond ASCII, and runs that started in the same millisecond.
"""

from __future__ import annotations

import importlib.util
import os
import random
import re
import subprocess

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gml.domain.ids import experiment_id
from gml.domain.metrics import MetricSummary
from gml.ledger import layout
from gml.ledger.codec import encode
from gml.ledger.ledger import Batch
from gml.tracking.queries import select
from gml.tracking.reader import Reader
from gml.workspace import Workspace

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="needs mlflow: make compat"),
]
EXAMPLES = int(os.environ.get("GML_COMPAT_EXAMPLES", "2000"))
SETTINGS = settings(
    max_examples=EXAMPLES,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
    deadline=None,
    database=None,
)

RUNS = 120
START = 1_750_000_000_000
METRICS = ["auc", "loss", "val auc", "a/b", "m.n"]
PARAMS = ["lr", "model", "deep.key", "learning rate"]
TAGS = ["team", "mlflow.note.content", "x-y"]
TEXTS = [
    "rf",
    "RF",
    "xgb",
    "0.1",
    "1e-1",
    "10",
    "9",
    "a_b%",
    "it's",
    'say "x"',
    "Äß",
    "nan",
    "true",
    "a b",
    "()",
    ",",
    "and",
]
WORDS = ["rf", "RF", "xgb", "a_b%", "it's", "and", "a b"]
NUMBERS = [0.0, 0.1, 1.0, 9.0, -3.5, 1e300, 5e-324]
STATUSES = ["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"]
EXPERIMENTS = ["churn", "iris"]


class World:
    """The same runs in both stores."""

    def __init__(self, store, path, numbers):
        self.store = store
        self.numbers = numbers  # gml's experiment id -> MLflow's
        self.path = path
        self.reader = Reader(Workspace.open(path))

    def __repr__(self):
        return "world"

    def theirs(self, query, order, names, view, limit):
        from mlflow.entities import ViewType

        found = self.store.search_runs(
            [self.numbers[experiment_id(name)] for name in names],
            query,
            {1: ViewType.ACTIVE_ONLY, 2: ViewType.DELETED_ONLY, 3: ViewType.ALL}[view],
            limit,
            order,
        )
        return [run.info.run_id for run in found]

    def ours(self, query, order, names, view, limit):
        wanted = {experiment_id(name) for name in names}
        return [run.run_id for run in select(self.reader, query, order, wanted, view, limit)]


def make_runs(dice):
    """Return facts of runs; values are such that no documented difference shows."""
    out = []
    starts = dice.sample(range(0, 10_000_000, 1000), RUNS)
    for number in range(RUNS):
        points = []
        for key in METRICS:
            for _ in range(dice.choice([0, 1, 1, 2, 4])):
                value = dice.choice([*NUMBERS, float("nan"), float("inf"), float("-inf"), dice.random()])
                points.append((key, value, dice.randrange(-2, 3), START + dice.randrange(3)))
        # Of values of one step and millisecond MLflow takes NaN for 0.
        places = [(key, step, time) for key, value, step, time in points if value != value]
        points = [p for p in points if p[1] != p[1] or (p[0], *p[2:]) not in places]
        started = START + starts[number]
        out.append({
            "experiment": dice.choice(EXPERIMENTS),
            "name": dice.choice(TEXTS),
            "user": dice.choice(["ada", "Ada", "me"]),
            "status": dice.choice(STATUSES),
            "start_time": started,
            "end_time": dice.choice([None, started, started + 90_000]),
            "points": list(dict.fromkeys(points)),
            "params": {key: dice.choice(WORDS if key == "model" else TEXTS) for key in PARAMS if dice.random() < 0.6},
            "tags": {key: dice.choice(WORDS if key == "team" else TEXTS) for key in TAGS if dice.random() < 0.6},
            "inputs": [
                (name, f"{dice.randrange(3)}", dice.choice([None, "training", "eval"]))
                # MLflow keeps a data set once a run, with the context that it had first.
                for name in dice.sample(["train.csv", "Train.csv", "test.csv"], dice.choice([0, 1, 2]))
            ],
            "deleted": dice.random() < 0.15,
        })  # fmt: skip
    return out


def put_into_mlflow(store, run, number):
    """Log a run through the methods that MLflow's client and server call; returns its id."""
    from mlflow.entities import (
        Dataset,
        DatasetInput,
        InputTag,
        Metric,
        Param,
        RunStatus,
        RunTag,
    )

    tags = [RunTag("mlflow.user", run["user"]), *(RunTag(k, v) for k, v in run["tags"].items())]
    made = store.create_run(number, run["user"], run["start_time"], tags, run["name"])
    run_id = made.info.run_id
    store.log_batch(
        run_id,
        [Metric(key, value, time, step) for key, value, step, time in run["points"]],
        [Param(key, value) for key, value in run["params"].items()],
        [],
    )
    for name, digest, context in run["inputs"]:
        label = [InputTag("mlflow.data.context", context)] if context else []
        store.log_inputs(run_id, [DatasetInput(Dataset(name, digest, "local", "{}"), label)])
    store.update_run_info(run_id, RunStatus.from_string(run["status"]), run["end_time"], run["name"])
    if run["deleted"]:
        store.delete_run(run_id)
    return run_id


def document(run, run_id):
    metrics = {}
    for key, value, step, time in run["points"]:
        if key in metrics:
            metrics[key].add(step, time, value)
        else:
            metrics[key] = MetricSummary.first(step, time, value)
    return {
        "format": "gml-run 1",
        "run_id": run_id,
        "session": "0" * 16,
        "experiment_id": experiment_id(run["experiment"]),
        **{key: run[key] for key in ("name", "user", "status", "start_time", "end_time", "params", "tags")},
        "metrics": {key: summary.to_json() for key, summary in metrics.items()},
        "inputs": [
            {
                "name": name,
                "digest": digest,
                **({"tags": {"mlflow.data.context": context}} if context else {}),
            }
            for name, digest, context in run["inputs"]
        ],
        "lifecycle_stage": "deleted" if run["deleted"] else "active",
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    place = tmp_path_factory.mktemp("compat")
    store = SqlAlchemyStore(f"sqlite:///{place}/mlflow.db", str(place / "artifacts"))
    numbers = {experiment_id(name): store.create_experiment(name) for name in EXPERIMENTS}
    path = place / "repo"
    subprocess.run(["git", "init", "-q", str(path)], check=True)
    changes = {
        layout.experiment_path(experiment_id(name)): encode(
            {"format": "gml-experiment 1", "experiment_id": experiment_id(name), "name": name}
        )
        for name in EXPERIMENTS
    }
    for run in make_runs(random.Random(int(os.environ.get("GML_SEED", "5")))):
        run_id = put_into_mlflow(store, run, numbers[experiment_id(run["experiment"])])
        changes[layout.record_path(run_id)] = encode(document(run, run_id))
    Workspace.open(path).ledger.append(lambda _: Batch(changes, "compat\n"))
    yield World(store, path, numbers)
    subprocess.run(["git", "-C", str(path), "fsck", "--strict"], check=True, capture_output=True)


# --- the subset of the grammar that MLflow has ------------------------------------------------


def quoted_key(key):
    return key if re.fullmatch(r"[\w.]+", key) else f"`{key}`"


def text(value):
    """Return a literal; MLflow has no escapes, so the quote that is not inside has to be used."""
    return f"'{value}'" if "'" not in value else f'"{value}"'


def cased(word):
    return st.sampled_from([word, word.lower(), word.title()])


fields = {
    "metric": st.sampled_from(
        [f"{entity}.{quoted_key(key)}" for key in [*METRICS, "none"] for entity in ("metrics", "metric")]
        + ['metrics."val auc"', "METRICS.auc".lower()]
    ),
    "param": st.sampled_from(
        [f"{entity}.{quoted_key(key)}" for key in [*PARAMS, "none"] for entity in ("params", "param", "parameter", "parameters")]
    ),
    "tag": st.sampled_from(
        [f"{entity}.{quoted_key(key)}" for key in [*TAGS, "mlflow.user", "mlflow.runName", "none"] for entity in ("tags", "tag")]
    ),
    "time": st.sampled_from(["start_time", "end_time", "attributes.start_time", "attr.end_time", "created", "run.end_time"]),
    "attribute": st.sampled_from(
        ["status", "attributes.status", "run_name", "attributes.run_name", "`run name`", "attribute.`Run name`", "user_id", "run.user_id"]
    ),
    "dataset": st.sampled_from(
        [f"{entity}.{key}" for key in ("name", "digest", "context") for entity in ("dataset", "datasets")]
    ),
}  # fmt: skip
comparisons = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
values = {
    "param": st.sampled_from(TEXTS),
    "tag": st.sampled_from([*TEXTS, "ada"]),
    "attribute": st.sampled_from([*TEXTS, *STATUSES, "ada"]),
    "dataset": st.sampled_from(["train.csv", "Train.csv", "test.csv", "0", "1", "training", "eval"]),
}
patterns = st.sampled_from(
    ["%", "r_", "%f%", "R%", "", "%it%", "%.csv", "%A%", "a\\_b%", "_", "[r]f", "%'%", "*", "train%"]
)


@st.composite
def clauses(draw):
    kind = draw(st.sampled_from(["metric", "param", "tag", "time", "attribute", "dataset", "run_id", "null"]))
    if kind == "metric":
        number = draw(
            st.sampled_from(["0", "0.1", "1", "9.0", "-3.5", "1e300", "1e-1", "100", "-1e300", "0.5"])
        )
        return f"{draw(fields[kind])} {draw(comparisons)} {number}"
    if kind == "time":
        return f"{draw(fields[kind])} {draw(comparisons)} {START + draw(st.integers(0, 10_000)) * 1000}"
    if kind == "run_id":
        return f"run_id {draw(st.sampled_from(['IN', 'not in', 'NOT IN']))} ('nowhere', 'else')"
    if kind == "null":
        field = draw(st.one_of(fields["param"], fields["tag"]))
        return f"{field} {draw(cased('IS'))} {draw(st.sampled_from(['NULL', 'NOT NULL', 'not null']))}"
    field = draw(fields[kind])
    operators = ["=", "!=", "LIKE", "ILIKE", "like", "Ilike"]
    if kind == "dataset" and draw(st.booleans()):
        some = draw(st.lists(values[kind], min_size=1, max_size=3))
        return f"{field} {draw(st.sampled_from(['IN', 'NOT IN']))} ({', '.join(text(each) for each in some)})"
    operator = draw(st.sampled_from(operators))
    value = draw(patterns if operator.upper().endswith("LIKE") else values[kind])
    return f"{field} {operator} {text(value)}"


@st.composite
def filters(draw):
    found = draw(st.lists(clauses(), max_size=4))
    return f" {draw(cased('AND'))} ".join(found)


order_keys = st.sampled_from(
    [f"metrics.{quoted_key(key)}" for key in [*METRICS, "none"]]
    + ["params.model", "tags.team", "params.none", "start_time", "attributes.end_time", "status", "run_name", "user_id", "created"]
)  # fmt: skip


@st.composite
def orders(draw):
    # The same key twice is refused by both.
    aliases = {"created": "start_time"}
    keys = draw(st.lists(order_keys, max_size=3, unique_by=lambda key: aliases.get(key, key)))
    return [f"{key}{draw(st.sampled_from(['', ' ASC', ' DESC', ' desc']))}" for key in keys]


@SETTINGS
@given(
    query=filters(),
    order=orders(),
    names=st.sampled_from([["churn"], ["iris"], ["churn", "iris"]]),
    view=st.sampled_from([1, 1, 2, 3]),
    limit=st.sampled_from([1, 7, 1000]),
)
def test_same_runs_in_the_same_order(world, query, order, names, view, limit):
    assert world.ours(query, order, names, view, limit) == world.theirs(query, order, names, view, limit)


def test_lists_of_run_ids(world):
    everything = world.theirs("", [], EXPERIMENTS, 3, 1000)
    assert len(everything) == RUNS
    for some in (everything[:3], everything[5:6], [*everything[10:20], "nowhere"]):
        for word in ("IN", "NOT IN"):
            query = f"attributes.run_id {word} ({', '.join(repr(each) for each in some)})"
            wanted = world.theirs(query, [], EXPERIMENTS, 3, 1000)
            assert world.ours(query, [], EXPERIMENTS, 3, 1000) == wanted


@pytest.mark.parametrize(
    "query",
    ["metrics.auc >", "params.lr = 0.1.2", "foo.x = 1", "metrics.auc = '0.1'", "status IN 'x'", "start_time = 'x y'",
     "tags.team = rf", "params.lr IS 5", "metrics.auc like 'x'", "attributes.nothing = 'x'"],
)  # fmt: skip
def test_both_refuse(world, query):
    from mlflow.exceptions import MlflowException

    from gml.index.query.errors import QueryError

    with pytest.raises(MlflowException):
        world.theirs(query, [], EXPERIMENTS, 1, 10)
    with pytest.raises(QueryError):
        world.ours(query, [], EXPERIMENTS, 1, 10)


def test_data_frames_have_the_same_columns_and_values(world, monkeypatch):
    import mlflow
    import pandas as pd
    from mlflow.tracking import _tracking_service

    import gml

    monkeypatch.chdir(world.path)
    monkeypatch.setattr(_tracking_service.utils, "_get_store", lambda *_, **__: world.store)
    query = "metrics.auc > 0 and user_id ILIKE 'ada'"
    theirs = mlflow.search_runs(experiment_names=EXPERIMENTS, filter_string=query)
    ours = gml.search_runs(experiment_names=EXPERIMENTS, filter_string=query)
    assert len(ours) == len(theirs) > 2
    assert set(theirs.columns) == set(ours.columns)
    assert list(theirs.columns)[:6] == list(ours.columns)[:6]
    for name in theirs.columns:
        if name not in {"artifact_uri", "experiment_id"}:
            kept = theirs[name].replace(float("1.7976931348623157e308"), float("inf"))
            kept = kept.replace(float("-1.7976931348623157e308"), float("-inf"))
            # What kind of columns texts and times are depends on the version of pandas in MLflow's frames.
            mine = ours[name]
            if name.endswith("_time"):
                mine, kept = (each.astype("datetime64[ns, UTC]") for each in (mine, kept))
            elif not name.startswith("metrics."):
                kept = kept.astype(object).where(kept.notna(), None)
            pd.testing.assert_series_equal(mine, kept, check_dtype=name.startswith("metrics."))
