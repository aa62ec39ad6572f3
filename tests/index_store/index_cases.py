"""What the tests of the index share: ledgers of generated documents, and the naive answer."""

import random
import subprocess

from hypothesis import strategies as st
from query_strategies import HEX, METRIC_KEYS, NOW, NUMBERS, PARAM_KEYS, TEXTS, queries

from gml.domain.ids import experiment_id, new_run_id
from gml.domain.metrics import MetricSummary, number_to_json
from gml.domain.run import STATUSES
from gml.index.query import ast, matches, sort_runs
from gml.index.query.order import Order
from gml.index.store import RunIndex
from gml.index.store.rows import position
from gml.ledger import layout
from gml.ledger.codec import encode
from gml.ledger.history import HistoryBuilder
from gml.ledger.ledger import Batch
from gml.workspace import Workspace

DAY = 86_400_000
HOSTILE = ["'; DROP TABLE run_rows; --", '"', "'", "%", "?", "?1", ":x", "`", "\\", "\U0001f600", "İ", "ß", "\x7f", "\ufeff", " ",
           "a\nb", "\u2028", "1_0", "\u0661", " 1", "1 ", "+.5", "1e400", "-NaN", "0x10", "Infinity", "iNf", "1e-400", "00"]  # fmt: skip
ALL_TEXTS = [*TEXTS, *HOSTILE]


class Dice(random.Random):
    """Random choices for documents; thousands of runs are drawn too fast for Hypothesis."""

    def maybe(self, chance=0.5):
        return self.random() < chance

    def text(self):
        return self.choice(ALL_TEXTS)

    def number(self):
        return self.choice([*NUMBERS, float("nan"), self.uniform(-1, 1)])

    def some(self, keys, value):
        return {key: value() for key in keys if self.maybe()}

    def summary(self):
        summary = MetricSummary.first(self.choice([0, -3, 1 << 62]), 0, self.number())
        for _ in range(self.choice([0, 0, 0, 1, 2])):
            summary.add(self.randrange(-2, 3), self.randrange(3), self.number())
        return summary.to_json()

    def run_id(self):
        kind = self.randrange(10)
        if kind == 0:
            return "".join(self.choice(HEX) for _ in range(32))
        if kind == 1:
            return "Imported_run-" + str(self.randrange(10**6))
        return new_run_id(NOW - self.randrange(10 * DAY), self.randbytes(10))

    def document(self, run_id, experiments=("0",)):
        start = NOW - self.randrange(20) * DAY // 4
        source = {
            key: value
            for key, value in {
                "commit": self.text(),
                "branch": self.text(),
                "argv": [self.text() for _ in range(self.randrange(3))],
                "n": self.choice([1, -2, 2.5, None, True, 1 << 60]),
                "name": self.text(),
                "type": self.choice(["PROJECT", "LOCAL", ""]),
                "remote": self.text(),
                "deep": {"key": self.text(), "list": [1, "x"]},
                "dirty": self.choice([True, False, "yes", None]),
            }.items()
            if self.maybe()
        }
        document = {
            "format": "gml-run 1",
            "run_id": run_id,
            "session": f"{self.getrandbits(64):016x}",
            "experiment_id": self.choice(experiments),
            "name": self.text(),
            "user": self.text(),
            "status": self.choice(STATUSES),
            "start_time": start,
            "end_time": self.choice([None, start, start + 30_000, start + 90_000, start - 5]),
            "params": self.some([*PARAM_KEYS, *HOSTILE[:4]], self.text),
            "tags": self.some(
                [
                    "team",
                    "mlflow.note.content",
                    "mlflow.source.name",
                    "mlflow.user",
                    "mlflow.runName",
                    "mlflow.source.git.branch",
                ],
                self.text,
            ),
            "metrics": self.some([*METRIC_KEYS, HOSTILE[0]], self.summary),
            "inputs": [
                {
                    "name": self.text(),
                    "digest": self.text(),
                    **({"tags": {"mlflow.data.context": self.text()}} if self.maybe() else {}),
                }
                for _ in range(self.choice([0, 0, 1, 2]))
            ],
            "source": source,
            "environment": self.some(["python", "host"], self.text),
            "lifecycle_stage": "deleted" if self.maybe(0.2) else "active",
        }
        for key in ("name", "user", "params", "metrics", "end_time", "inputs", "environment", "start_time"):
            if self.maybe(0.05):
                del document[key]
        return document

    def edit(self, run_id, clock):
        whole = self.document(run_id)
        kept = {
            key: whole[key] for key in whole if key in {"session", "params", "metrics"} or self.maybe(0.2)
        }
        kept.pop("run_id", None)
        kept["tags"] = {
            key: self.choice([None, self.text()]) for key in ("team", "mlflow.user", "new") if self.maybe()
        }
        return {**kept, "format": "gml-edit 1", "clock": clock}


class Lab:
    """A repository whose ledger is written document by document."""

    def __init__(self, repo):
        self.repo = repo
        self.workspace = Workspace.open(repo.path)
        self.ledger = self.workspace.ledger
        self.path = self.workspace.state_dir / "index.sqlite"

    def commit(self, changes, message="test\n"):
        files = {path: encode(data) if isinstance(data, dict) else data for path, data in changes.items()}
        return self.ledger.append(lambda _: Batch(files, message))

    def experiment(self, name, **more):
        key = experiment_id(name)
        self.commit(
            {
                layout.experiment_path(key): {
                    "format": "gml-experiment 1",
                    "experiment_id": key,
                    "name": name,
                    "creation_time": 0,
                    **more,
                }
            }
        )
        return key

    def runs(self, documents):
        self.commit({layout.record_path(each["run_id"]): each for each in documents})

    def add(self, **facts):
        """Commit one run with some facts and return its id."""
        dice = Dice()
        run_id = facts.pop("run_id", None) or new_run_id(facts.get("start_time", NOW), dice.randbytes(10))
        self.runs(
            [
                {
                    "format": "gml-run 1",
                    "run_id": run_id,
                    "status": "FINISHED",
                    "start_time": NOW,
                    "name": "n",
                    "user": "u",
                    **facts,
                }
            ]
        )
        return run_id

    def view(self, commit=None):
        return self.ledger.view(commit)

    def open(self, path=None):
        return RunIndex.open(path or self.path, self.view())


def points(values):
    """Return `metrics` and `history` sections of a document with some points of each key."""
    builder = HistoryBuilder(lambda _data, _count: {})
    for key, numbers in values.items():
        for step, value in enumerate(numbers):
            builder.add(key, value, NOW + step, step)
    inline, _, _ = builder.tail()
    return {"metrics": builder.metrics_json(), "history": inline}


def naive(view, query=None, orders=(), *, experiments=None, stages=("active",), limit=None, runs=None):
    """Return the ids that `RunIndex.search` has to return."""
    names = {e.experiment_id: e.name for e in view.experiments()}
    damaged = []
    found = [
        run
        for run in (view.runs(damaged) if runs is None else runs)
        if run.lifecycle_stage in stages
        and (experiments is None or run.experiment_id in experiments)
        and (query is None or matches(query, run, experiment_name=names.get(run.experiment_id), now_ms=NOW))
    ]
    if orders:
        found = sort_runs(found, orders, experiment_names=names)
    else:
        found.sort(key=lambda run: position(run.run_id, run.start_time), reverse=True)
    return [run.run_id for run in found][:limit]


def found(index, *args, **options):
    """Return the ids that the index finds."""
    return [entry.run_id for entry in index.search(*args, now_ms=NOW, **options)]


def dump(index):
    """Return all that an index says about runs, by what it means: no row numbers, no key numbers."""
    ask = index.connection.execute
    runs = {}
    for rid, *facts in ask("SELECT * FROM run_rows JOIN details USING (rid)"):
        names = [
            column[0] for column in ask("SELECT * FROM run_rows JOIN details USING (rid) LIMIT 0").description
        ][1:]
        held = dict(zip(names, facts, strict=True))
        held.pop("key_ids")
        runs[rid] = {**held, "rows": set()}
    for table in ("metric_rows", "text_rows"):
        for section, key, rid, *values in ask(
            f"SELECT k.section, k.key, v.id & 4294967295, v.* FROM {table} v JOIN keys k ON k.key_id = v.id >> 32"
        ):
            runs[rid]["rows"].add((section, key, *values[1:]))
    out = {held["run_id"]: held for held in runs.values()}
    assert len(out) == len(runs)
    experiments = dict(ask("SELECT * FROM experiment_rows"))
    return out, experiments, [str(each) for each in index.damaged()]


def has_step(query):
    return query.needs_history


plain_queries = queries.filter(lambda query: not query.needs_history)

order_fields = st.one_of(
    st.builds(
        ast.Field,
        st.just(ast.METRIC),
        st.sampled_from([*METRIC_KEYS, "nowhere"]),
        st.sampled_from(["", *ast.PARTS]),
        exact=st.booleans(),
    ),
    st.builds(ast.Field, st.just(ast.PARAM), st.sampled_from([*PARAM_KEYS, "nowhere", HOSTILE[0]])),
    st.builds(ast.Field, st.just(ast.TAG), st.sampled_from(["team", "mlflow.user", "mlflow.source.name"])),
    st.builds(ast.Field, st.just(ast.CODE), st.sampled_from(["commit", "n", "argv", "deep.key", "dirty"])),
    st.builds(ast.Field, st.just(ast.ENV), st.sampled_from(["python", "host"])),
    st.builds(
        ast.Field,
        st.just(ast.ATTRIBUTE),
        st.sampled_from(["run_id", "run_name", "status", "user_id", "artifact_uri", "start_time", "end_time",
                         "duration", "experiment_name", "experiment_id", "lifecycle_stage", "dirty"]),
    ),
)  # fmt: skip
orders = st.lists(
    st.builds(Order, order_fields, st.booleans()), max_size=3, unique_by=lambda order: order.field
)


def number_json(value):
    return number_to_json(value)


def git(path, *args):
    return subprocess.run(
        ["git", "-C", str(path), *args], capture_output=True, text=True, check=True
    ).stdout.strip()
