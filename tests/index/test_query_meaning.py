"""Every operator on every entity, against runs whose answers are plain to see."""

import pytest
from query_strategies import DAY, NOW

from gml.domain.metrics import MetricSummary
from gml.domain.run import Run
from gml.index.query import matches, parse
from gml.index.query.errors import QueryError

NAN = float("nan")
INF = float("inf")


def metric(*values):
    summary = MetricSummary.first(0, 0, values[0])
    for step, value in enumerate(values[1:], start=1):
        summary.add(step, step, value)
    return summary


def dataset(name, digest, context=None):
    return {"name": name, "digest": digest, "tags": {"mlflow.data.context": context} if context else {}}


MIDNIGHT = NOW - NOW % DAY
RUNS = {
    run.name: run
    for run in (
        Run(
            "aa11", "0", "full", "ada", "FINISHED", MIDNIGHT + 1000, MIDNIGHT + 91_000,
            params={"lr": "0.1", "model": "rf", "flag": "True", "depth": "10", "a b": "x"},
            tags={"team": "risk", "mlflow.note.content": "good"},
            metrics={"auc": metric(0.5, 0.9, 0.8), "loss": metric(3.0), "loss.min": metric(7.0)},
            inputs=(dataset("train.csv", "d1", "train"), dataset("test.csv", "d2", "test")),
            source={"commit": "abc123", "branch": "main", "dirty": True, "type": "LOCAL", "name": "t.py", "changed": ["src/a.py", "b.md"], "untracked_count": 3},
            environment={"python": "3.11.7", "system": "Linux", "packages": {"scikit-learn": "1.4"}},
        ),
        Run(
            "bb22", "17", "nan", "bob", "FAILED", MIDNIGHT - DAY, MIDNIGHT - DAY + 30_000,
            params={"lr": "auto", "model": "RF", "depth": "9", "flag": "false"},
            metrics={"auc": metric(NAN), "loss": metric(2.0, 1.0)},
            inputs=(dataset("train.csv", "d9"),),
            source={"commit": "def456", "dirty": False},
        ),
        Run(
            "cc33", "17", "inf", "bob", "RUNNING", MIDNIGHT - 3 * DAY, None,
            params={"lr": "1e-1", "model": "xgb", "depth": "inf"},
            tags={"team": "RISKY"},
            metrics={"auc": metric(INF), "loss.min": metric(0.5)},
            lifecycle_stage="deleted",
        ),
        Run("dd44", "0", "bare", "ada", "KILLED", MIDNIGHT + 1000, MIDNIGHT + 1000),
    )
}  # fmt: skip
ALL = ["full", "nan", "inf", "bare"]


def history(run, key):
    return {"full": ([0, 1, 1, 1], [0, 5, 9, 9], [0.5, 0.7, NAN, 0.6])}.get(run.name, ([0], [0], [NAN]))


def answers(text):
    query = parse(text)
    names = {"0": "Default", "17": "churn"}
    return [
        name
        for name, run in RUNS.items()
        if matches(query, run, experiment_name=names[run.experiment_id], now_ms=NOW, history=history)
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ALL),
        # metrics: the last value; NaN as in MLflow
        ("metrics.auc = 0.8", ["full"]),
        ("metrics.auc == 8e-1", ["full"]),
        ("metrics.auc != 0.8", ["nan", "inf"]),
        ("metrics.auc < 1", ["full"]),
        ("metrics.auc <= .8", ["full"]),
        ("metrics.auc > 0", ["full", "inf"]),
        ("metrics.auc >= inf", ["inf"]),
        ("metrics.auc = inf", ["inf"]),
        ("metrics.auc = nan", ["nan"]),
        ("metrics.auc != nan", ["full", "inf"]),
        ("metrics.auc IN (0.8, nan)", ["full", "nan"]),
        ("metrics.auc NOT IN (0.8, 1)", ["nan", "inf"]),
        ("metrics.auc BETWEEN 0.8 AND 1", ["full"]),
        ("metrics.auc NOT BETWEEN 0.8 AND 1", ["nan", "inf"]),
        ("metrics.auc IS NULL", ["bare"]),
        ("metrics.auc IS NOT NULL", ["full", "nan", "inf"]),
        ("NOT metrics.auc > 0.85", ["full", "nan"]),
        ("NOT metrics.auc IS NULL", ["full", "nan", "inf"]),
        ("NOT (metrics.auc > 0 OR user = 'x')", ["nan"]),
        ("metrics.auc > 0 OR user = 'ada'", ["full", "inf", "bare"]),
        ("NOT (metrics.auc > 0 AND user = 'bob')", ["full", "nan", "bare"]),
        # parts, and a metric that has the whole name
        ("metrics.auc.max = 0.9", ["full"]),
        ("metrics.auc.min = 0.5", ["full"]),
        ("metrics.auc.last = 0.8", ["full"]),
        ("metrics.auc.count = 3", ["full"]),
        ("metrics.loss.min = 7", ["full"]),
        ("metrics.loss.min = 1", ["nan"]),
        ("metrics.loss.min = 0.5", ["inf"]),
        ("metrics.`loss.min` > 0", ["full", "inf"]),
        ("metrics.`loss`.min > 0", ["full", "nan"]),
        ("metrics.loss.min.max = 7", ["full"]),
        # steps: of several points the last
        ("metrics.auc@step=1 = 0.6", ["full"]),
        ("metrics.auc@step=0 = nan", ["nan", "inf"]),
        ("metrics.auc@step=9 IS NULL", ALL),
        # params: quoted is text, unquoted is a number
        ("params.lr = 0.1", ["full", "inf"]),
        ("params.lr = '0.1'", ["full"]),
        ("params.lr != 0.1", ["nan"]),
        ("params.lr != '0.1'", ["nan", "inf"]),
        ("params.lr < 1", ["full", "inf"]),
        ("NOT params.lr < 1", []),
        ("params.lr > 'a'", ["nan"]),
        ("params.depth > 9", ["full", "inf"]),
        ("params.depth > '9'", ["inf"]),
        ("params.depth >= 9", ["full", "nan", "inf"]),
        ("params.depth <= 9.5", ["nan"]),
        ("params.depth BETWEEN 9 AND 10", ["full", "nan"]),
        ("params.depth IN (9, '10')", ["full", "nan"]),
        ("params.depth NOT IN (9)", ["full", "inf"]),
        ("params.model = 'rf'", ["full"]),
        ("params.model LIKE 'r_'", ["full"]),
        ("params.model ILIKE 'r%'", ["full", "nan"]),
        ("params.model NOT LIKE 'r%'", ["nan", "inf"]),
        ("params.model NOT ILIKE 'r%'", ["inf"]),
        ("params.model ~ '^(rf|xgb)$'", ["full", "inf"]),
        ("params.model !~ 'f'", ["nan", "inf"]),
        ("params.model in ('rf','xgb')", ["full", "inf"]),
        ("params.model NOT IN ('rf')", ["nan", "inf"]),
        ("params.model IS NULL", ["bare"]),
        ("params.flag = true", ["full"]),
        ("params.flag != true", ["nan"]),
        ("params.flag = 'True'", ["full"]),
        ("params.`a b` = 'x'", ["full"]),
        # tags, with those that MLflow would have made
        ("tags.team like 'ris%'", ["full"]),
        ("tags.team ilike 'ris%'", ["full", "inf"]),
        ("tags.team != 'x'", ["full", "inf"]),
        ("tags.mlflow.note.content = 'good'", ["full"]),
        ("tags.mlflow.runName = 'bare'", ["bare"]),
        ("tags.mlflow.user = 'bob'", ["nan", "inf"]),
        ("tags.mlflow.source.git.commit = 'abc123'", ["full"]),
        ("tags.mlflow.source.name ~ 'py$'", ["full"]),
        # attributes
        ("status = 'FINISHED'", ["full"]),
        ("status = 'finished'", []),
        ("status != 'FINISHED'", ["nan", "inf", "bare"]),
        ("status IN ('FAILED', 'KILLED')", ["nan", "bare"]),
        ("run_id LIKE 'aa%'", ["full"]),
        ("run_id IN ('aa11', 'cc33')", ["full", "inf"]),
        ("name ~ 'n'", ["nan", "inf"]),
        ('"run name" = \'bare\'', ["bare"]),
        ("user = 'bob' AND NOT status = 'RUNNING'", ["nan"]),
        ("artifact_uri = 'gml:/runs/aa11/artifacts'", ["full"]),
        ("experiment = 'churn'", ["nan", "inf"]),
        ("experiment_id = '0'", ["full", "bare"]),
        ("lifecycle_stage = 'deleted'", ["inf"]),
        ("dirty = true", ["full"]),
        ("dirty != true", ["nan"]),
        ("dirty IS NULL", ["inf", "bare"]),
        ("name < 'c'", ["bare"]),
        # durations
        ("duration = 90s", ["full"]),
        ("duration >= 1m30s", ["full"]),
        ("duration < 31s", ["nan", "bare"]),
        ("duration = 0s", ["bare"]),
        ("duration BETWEEN 10s AND '5m'", ["full", "nan"]),
        ("duration IS NULL", ["inf"]),
        # times
        (f"start_time = {MIDNIGHT + 1000}", ["full", "bare"]),
        (f"created < {MIDNIGHT}", ["nan", "inf"]),
        ("start_time = today", ["full", "bare"]),
        ("start_time = yesterday", ["nan"]),
        ("start_time < yesterday", ["inf"]),
        ("start_time <= yesterday", ["nan", "inf"]),
        ("start_time > yesterday", ["full", "bare"]),
        ("start_time >= yesterday", ["full", "nan", "bare"]),
        ("start_time != yesterday", ["full", "inf", "bare"]),
        ("start_time >= -2d", ["full", "nan", "bare"]),
        ("start_time > '2 days ago'", ["full", "nan", "bare"]),
        ("start_time < now", ALL),
        ("end_time < now", ["full", "nan", "bare"]),
        ("end_time IS NULL", ["inf"]),
        ("start_time IN (today, yesterday)", ["full", "nan", "bare"]),
        ("start_time BETWEEN '2026-05-01' AND '2026-05-28'", ["full", "nan", "inf", "bare"]),
        # data sets: any of several
        ("datasets.name = 'test.csv'", ["full"]),
        ("datasets.name != 'train.csv'", ["full"]),
        ("NOT datasets.name = 'test.csv'", ["nan"]),
        ("datasets.name NOT IN ('train.csv')", ["full"]),
        ("inputs.digest LIKE 'd%'", ["full", "nan"]),
        ("dataset.context = 'train'", ["full"]),
        ("dataset.context IS NULL", ["nan", "inf", "bare"]),
        ("datasets.name IS NULL", ["inf", "bare"]),
        # code and environment
        ("code.commit = 'abc123'", ["full"]),
        ("code.branch != 'x'", ["full"]),
        ("code.dirty = true", ["full"]),
        ("code.dirty = 'false'", ["nan"]),
        ("code.untracked_count > 2", ["full"]),
        ("code.changed LIKE 'src/%'", ["full"]),
        ("code.nothing IS NULL", ALL),
        ("env.python ~ '^3\\.11'", ["full"]),
        ("env.packages.scikit-learn = '1.4'", ["full"]),
        ("env.packages IS NULL", ALL),
        ("env.system.x IS NULL", ALL),
        ("env.system ilike 'linux'", ["full"]),
    ],
)  # fmt: skip
def test_meaning(text, expected):
    assert answers(text) == expected


def test_the_experiment_name_may_be_unknown():
    query = parse("experiment = 'a' OR experiment != 'a'")
    assert not matches(query, RUNS["full"], experiment_name=None, now_ms=NOW)


def test_steps_need_a_history():
    query = parse("user = 'ada' AND metrics.auc@step=3 > 1")
    with pytest.raises(QueryError, match=r"metrics.auc@step=3 needs the history") as caught:
        matches(query, RUNS["full"], experiment_name="x", now_ms=NOW)
    assert caught.value.position == len("user_id = 'ada' AND ")
    # Runs without the metric need none.
    assert not matches(query, RUNS["bare"], experiment_name="x", now_ms=NOW)


def test_deep_queries_are_evaluated():
    nested = "status = 'FINISHED'"
    for _ in range(200):
        nested = f"user = 'x' OR user = 'ada' AND ({nested})"
    assert answers(nested) == ["full"]
    assert answers("NOT " * 200 + "user = 'ada'") == ["full", "bare"]


def test_an_exploding_pattern_ends():
    run = Run("ee55", "0", "e", "u", "FINISHED", 0, 0, params={"p": "a" * 6000 + "!"})
    assert not matches(parse("params.p ~ '(a+)+$'"), run, experiment_name="x", now_ms=NOW)
    assert not matches(parse(f"params.p LIKE '{'%a' * 3000}b'"), run, experiment_name="x", now_ms=NOW)
