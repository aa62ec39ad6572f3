"""What a long-lived process does with runs: open, idle, closed, committed together; and MLflow's grammar."""

from __future__ import annotations

import io
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gml.ledger.ledger import Writer
from gml.service import (
    ServiceError,
    Store,
    artifacts,
    experiments,
    filters,
    history,
    models,
    pages,
    runs,
    search,
)
from gml.service import live as live_module
from gml.service.limits import Metric, Pair
from gml.tracking import start
from gml.tracking.reader import Reader


@pytest.fixture
def store(repo):
    """Return a store of a repository, closed after the test."""
    opened = Store.open(repo.path, repo.env())
    yield opened
    opened.close()


def names(repo) -> list[str]:
    return [path.name for path in repo.workspace().journal_root.glob("[!.]*")]


def test_an_idle_run_is_committed_and_goes_on(store, repo):
    run_id = runs.create(store, start_time=5).run_id
    runs.log_metric(store, run_id, Metric("m", 1.0, 1, 0))
    assert names(repo) == [run_id]
    assert store.live.close_idle(0) == 1
    assert names(repo) == []
    assert Reader(repo.workspace()).run(run_id).status == "RUNNING"
    runs.log_metric(store, run_id, Metric("m", 2.0, 2, 1))
    assert [value for _, _, value in history.points(store, run_id, "m")[0]] == [1.0, 2.0]
    assert store.run(run_id).status == "RUNNING"
    runs.update(store, run_id, "FINISHED", 9, None)
    kept = Reader(repo.workspace()).run(run_id)
    assert (kept.status, kept.end_time, kept.metrics["m"].count) == ("FINISHED", 9, 2)


def test_logging_after_the_end_changes_no_status(store, repo):
    run_id = runs.create(store).run_id
    runs.update(store, run_id, "FAILED", None, None)
    assert store.run(run_id).end_time is None
    runs.set_tag(store, run_id, Pair("a", "b"))
    runs.log_metric(store, run_id, Metric("m", 1.0, 1, 0))
    assert (store.run(run_id).status, store.run(run_id).tags) == ("FAILED", {"a": "b"})
    store.live.close()
    assert Reader(repo.workspace()).run(run_id).status == "FAILED"
    runs.update(store, run_id, "RUNNING", None, None)
    assert (store.run(run_id).status, store.run(run_id).live) == ("RUNNING", True)


def test_open_journals_are_bounded(store, repo, monkeypatch):
    monkeypatch.setattr(live_module, "MOST_OPEN", 8)
    ids = [runs.create(store, start_time=i).run_id for i in range(20)]
    assert store.live.count <= 8
    for run_id in ids:
        runs.log_metric(store, run_id, Metric("m", 1.0, 1, 0))
    assert store.live.count <= 8
    found, _ = search.runs(store, ["0"])
    assert [run.run_id for run in found] == ids[::-1]
    assert all(run.status == "RUNNING" and run.metrics["m"].count == 1 for run in found)


def test_threads_that_end_together_share_commits(store, repo, monkeypatch):
    ids = [runs.create(store).run_id for _ in range(12)]
    commits = []
    commit = Writer.commit

    def counted(self, build):
        commits.append(1)
        return commit(self, build)

    monkeypatch.setattr(Writer, "commit", counted)
    barrier = threading.Barrier(12)

    def end(run_id):
        barrier.wait()
        runs.update(store, run_id, "FINISHED", 1, None)

    threads = [threading.Thread(target=end, args=(run_id,)) for run_id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {Reader(repo.workspace()).run(run_id).status for run_id in ids} == {"FINISHED"}
    assert len(commits) < 12


def test_a_run_that_cannot_be_committed_is_not_acknowledged(store, repo, monkeypatch):
    run_id = runs.create(store).run_id
    runs.log_metric(store, run_id, Metric("m", 1.0, 1, 0))

    def full(self, build):
        raise live_module.GmlError("no space left on the disk")

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "commit", full)
        with pytest.raises(ServiceError, match="no space left"):
            runs.update(store, run_id, "FINISHED", 1, None)
    assert names(repo) == [run_id]
    store.live.commit()
    kept = Reader(repo.workspace()).run(run_id)
    assert (kept.status, kept.metrics["m"].count) == ("FINISHED", 1)


def test_what_waits_in_memory_is_not_acknowledged(store, repo, monkeypatch):
    run_id = runs.create(store).run_id
    runs.log_metric(store, run_id, Metric("m", 1.0, 1, 0))
    recorder = store.live._open[run_id].recorder
    monkeypatch.setattr(type(recorder), "unwritten", 7)
    with pytest.raises(ServiceError, match="cannot be written") as caught:
        runs.log_metric(store, run_id, Metric("m", 2.0, 2, 1))
    assert caught.value.code == "TEMPORARILY_UNAVAILABLE"


def test_a_training_of_another_process_keeps_its_status(store, repo):
    space = repo.workspace()
    recorder = start.start_new(space, start.NewRun(name="training"))
    runs.set_tag(store, recorder.run_id, Pair("seen", "yes"))
    assert store.run(recorder.run_id).live
    assert store.live.count == 0
    recorder.metric("loss", 0.5, 0, 1)
    recorder.end("FINISHED")
    kept = store.run(recorder.run_id)
    assert (kept.status, kept.tags["seen"], kept.live) == ("FINISHED", "yes", False)


def test_experiments_by_name_and_stage(store):
    wanted = experiments.create(store, "churn", tags={"team": "risk"})
    experiments.create(store, "other")
    found, token = experiments.search(store, filter_string="tags.team = 'risk'")
    assert ([each.experiment_id for each in found], token) == ([wanted], None)
    first, token = experiments.search(store, order_by=["name DESC"], max_results=2)
    rest, _ = experiments.search(store, order_by=["name DESC"], max_results=2, page_token=token)
    assert [each.name for each in first + rest] == ["other", "churn", "Default"]
    experiments.rename(store, wanted, "renamed")
    assert experiments.by_name(store, "churn") is None
    for bad in ("other", "", "x" * 501):
        with pytest.raises(ServiceError):
            experiments.rename(store, wanted, bad)
    with pytest.raises(ServiceError, match="default experiment"):
        experiments.delete(store, "0")
    experiments.delete(store, wanted)
    assert [e.name for e in experiments.search(store, "DELETED_ONLY")[0]] == ["renamed"]


def test_files_of_runs_that_have_ended(store):
    run_id = runs.create(store).run_id
    artifacts.put(store, run_id, "a/b", io.BytesIO(b"x"))
    runs.update(store, run_id, "FINISHED", None, None)
    artifacts.put(store, run_id, "a/c", io.BytesIO(b"y" * 100_000))
    with artifacts.open_file(store, run_id, "a/c")[0] as file:
        assert file.read() == b"y" * 100_000
    assert [entry.path for entry in artifacts.listing(store.run(run_id), "a")] == ["a/b", "a/c"]
    assert artifacts.locate(store, f"any/thing/{run_id}/artifacts/a/b") == (run_id, "a/b")


def test_logged_models_are_ordered_by_metrics_of_a_data_set(store):
    made = []
    for value in (0.1, 0.3, 0.2):
        model = models.create(store, "0", "mod", params=[Pair("p", str(value))])
        run_id = runs.create(store).run_id
        runs.log_metric(store, run_id, Metric("auc", value, 1, 0, model.model_id, "d", "x"))
        runs.log_metric(store, run_id, Metric("auc", 1 - value, 1, 0, model.model_id, "other", "y"))
        models.finalize(store, model.model_id, models.READY)
        made.append(model.model_id)
    order = [{"field_name": "metrics.auc", "ascending": False, "dataset_name": "d"}]
    found, token = models.search(store, ["0"], order_by=order, max_results=2)
    rest, _ = models.search(store, ["0"], order_by=order, max_results=2, page_token=token)
    assert [made.index(model.model_id) for model in found + rest] == [1, 2, 0]
    found, _ = models.search(store, ["0"], "metrics.auc > 0.25", [{"dataset_name": "d"}])
    assert [made.index(model.model_id) for model in found] == [1]


# --- grammar ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        ("metrics.auc >= 1e-3", ("metric", "auc", ">=", 0.001)),
        ("metric.`a b` < -5", ("metric", "a b", "<", -5)),
        ('params."x.y" = "z"', ("parameter", "x.y", "=", "z")),
        ("tags.mlflow.parentRunId = 'r'", ("tag", "mlflow.parentRunId", "=", "r")),
        ("`Run name`='n'", ("attribute", "run_name", "=", "n")),
        ("created > 5", ("attribute", "start_time", ">", 5)),
        ("run_id not in ('a', \"b\")", ("attribute", "run_id", "NOT IN", ("a", "b"))),
        ("param.a is not null", ("parameter", "a", "IS NOT NULL", None)),
        ("tag.k ilike '%it''s%'", None),
        ("datasets.context LIKE 't%'", ("dataset", "context", "LIKE", "t%")),
    ],
)
def test_what_the_grammar_has(text, clause):
    if clause is None:
        with pytest.raises(ServiceError):
            filters.parse_filter(text, filters.RUNS)
        return
    (found,) = filters.parse_filter(f"{text} AND", filters.RUNS)
    assert (found.entity, found.key, found.op, found.value) == clause


@given(st.text(max_size=60))
def test_no_text_breaks_the_grammar(text):
    for grammar in (filters.RUNS, filters.EXPERIMENTS, filters.MODELS):
        try:
            filters.check_operators(filters.parse_filter(text, grammar), grammar)
            filters.parse_orders([text], grammar)
        except ServiceError as error:
            assert error.code == "INVALID_PARAMETER_VALUE"  # noqa: PT017


@given(st.integers(1, 10**9))
def test_tokens_of_pages_come_back(offset):
    assert pages.decode(pages.encode(offset)) == offset


@given(st.text(max_size=30))
def test_no_text_breaks_a_page(token):
    try:
        assert pages.decode(token) >= 0
    except ServiceError as error:
        assert error.message.startswith("Invalid page token")  # noqa: PT017


@given(st.text(max_size=40))
def test_a_checked_path_stays_below(path):
    try:
        good = artifacts.check_path(path)
    except ServiceError as error:
        assert error.message == "Invalid path"  # noqa: PT017
    else:
        assert not good.startswith("/")
        assert not {"..", "."} & set(good.split("/"))
