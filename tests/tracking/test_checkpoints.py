"""A run that goes on is visible at once and committed now and then; every point is there exactly once."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gml.ledger import history
from gml.tracking import commit, documents
from gml.tracking.contents import open_artifact
from gml.tracking.journal import fold as journal_fold
from gml.tracking.reader import Reader


def steps(reader: Reader, run_id: str, key: str) -> list[int]:
    return list(map(int, reader.history(reader.run(run_id), key)[0]))


def committed(repo, run_id: str):
    """Return the run as the ledger alone has it."""
    return repo.workspace().ledger.view().run(run_id)


def test_checkpoints_and_the_end_hold_every_point_once(api, repo):
    with api.start_run() as run:
        for step in range(300):
            api.log_metric("loss", step, step=step)
        api.log_metric("once", 1)
        run.recorder.checkpoint()
        first = committed(repo, run.run_id)
        assert (first.status, first.end_time, first.metrics["loss"].count) == ("RUNNING", None, 300)
        for step in range(300, 500):
            api.log_metric("loss", step, step=step)
        run.recorder.checkpoint()
        assert committed(repo, run.run_id).metrics["loss"].count == 500
        for step in range(500, 550):
            api.log_metric("loss", step, step=step)
    reader = Reader(repo.workspace())
    assert steps(reader, run.run_id, "loss") == list(range(550))
    assert steps(reader, run.run_id, "once") == [0]
    assert reader.run(run.run_id).metrics["loss"].count == 550
    view = repo.workspace().ledger.view()
    record, edits = view.documents(view.entry(run.run_id))
    assert (record["revision"], edits) == (3, {})


def test_a_reader_sees_what_running_runs_logged_so_far(api, repo):
    with api.start_run(run_name="alive", tags={"a": "b"}) as run:
        assert Reader(repo.workspace()).run(run.run_id).live
        for step in range(200):
            api.log_metric("loss", step, step=step)
            if step in {0, 1, 150}:
                reader = Reader(repo.workspace())
                assert steps(reader, run.run_id, "loss") == list(range(step + 1))
                assert reader.resolve("alive").metrics["loss"].count == step + 1
            if step == 100:
                run.recorder.checkpoint()
        api.log_text("now", "a.txt")
        found = Reader(repo.workspace()).run(run.run_id)
        assert (found.live, found.status, found.end_time, found.tags) == (True, "RUNNING", None, {"a": "b"})
        with open_artifact(Reader(repo.workspace()), found, "a.txt") as file:
            assert file.read() == b"now"
        assert api.metric_history(run.run_id, "loss")["value"].tolist() == list(map(float, range(200)))
        assert api.search_runs(output_format="list")[0].info.status == "RUNNING"
    found = Reader(repo.workspace()).run(run.run_id)
    assert (found.live, found.status) == (False, "FINISHED")


def test_the_artifact_of_a_running_run_is_found_when_it_is_committed_meanwhile(api, repo):
    run = api.start_run()
    api.log_text("content", "a.txt")
    reader = Reader(repo.workspace())
    found = reader.run(run.run_id)
    api.end_run()
    with open_artifact(reader, found, "a.txt") as file:
        assert file.read() == b"content"


def test_a_run_that_is_committed_while_a_reader_opens_is_seen(api, repo, monkeypatch):
    from gml.tracking import reader as module

    run = api.start_run()
    api.log_metric("m", 1)
    listed = module.journal.sessions

    def sessions(root):
        monkeypatch.setattr(module.journal, "sessions", listed)
        api.end_run()
        return listed(root)

    monkeypatch.setattr(module.journal, "sessions", sessions)
    reader = Reader(repo.workspace())
    assert [r.run_id for r in reader.runs()] == [run.run_id]
    assert reader.run(run.run_id).status == "FINISHED"


def test_an_artifact_logged_again_after_a_checkpoint_has_its_last_content(api, repo):
    with api.start_run() as run:
        api.log_text("a long first version", "state.json")
        api.log_text("kept", "kept.txt")
        run.recorder.checkpoint()
        api.log_text("{}", "state.json")
    reader = Reader(repo.workspace())
    found = reader.run(run.run_id)
    content = {}
    for name in found.artifacts:
        with open_artifact(reader, found, name) as file:
            content[name] = file.read()
    assert content == {"state.json": b"{}", "kept.txt": b"kept"}


def test_a_killed_run_keeps_what_came_after_its_last_checkpoint(repo):
    child = repo.start(
        """
import gml, os
run = gml.start_run()
for step in range(400):
    gml.log_metric("loss", step, step=step)
    if step % 150 == 0:
        run.recorder.checkpoint()
gml.log_metric("once", 1)
print(run.run_id, flush=True)
os.kill(os.getpid(), 9)
"""
    )
    run_id = child.communicate()[0].strip()
    assert committed(repo, run_id).metrics["loss"].count == 301
    before = Reader(repo.workspace())
    assert (before.run(run_id).status, before.run(run_id).live) == ("KILLED", False)
    assert steps(before, run_id, "loss") == list(range(400))
    assert commit.commit_sessions(repo.workspace()) == [run_id]
    after = Reader(repo.workspace())
    assert not after.live
    assert steps(after, run_id, "loss") == list(range(400))
    assert steps(after, run_id, "once") == [0]
    assert after.run(run_id).status == "KILLED"


def test_the_background_thread_commits_checkpoints_by_itself(repo):
    run_id = repo.python(
        """
import gml, os
from gml.workspace import Workspace
run = gml.start_run()
gml.log_metric("m", 1)
view = Workspace.open().ledger.view
while view().run(run.run_id) is None:
    os.sched_yield()
assert view().run(run.run_id).status == "RUNNING"
print(run.run_id)
""",
        GML_CHECKPOINT="0.01",
    )
    assert committed(repo, run_id).status == "FINISHED"


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["log", "log", "log", "one", "checkpoint", "read", "resume", "recover", "others"]),
        st.integers(1, 40),
    ),
    min_size=3,
    max_size=12,
)
NUMBERS = itertools.count()


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=OPERATIONS, seal=st.integers(20, 80), large=st.sampled_from([0, 300, 1 << 20]))
def test_points_survive_any_course_of_checkpoints_resumes_and_recoveries_exactly_once(
    api, repo, operations, seal, large
):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "SEAL_POINTS", seal)
        patch.setattr(history, "INLINE_POINTS", 16)
        patch.setattr(history, "INLINE_TOTAL", 24)
        patch.setattr(documents, "HIST_INLINE", large)
        patch.setattr(journal_fold, "READ_SIZE", 200)
        rng = random.Random(seal)
        logged: dict[str, list[int]] = {}
        run = api.start_run(run_name=f"run-{next(NUMBERS)}")
        for what, amount in operations:
            match what:
                case "log":
                    key = rng.choice("abc")
                    for _ in range(amount):
                        points = logged.setdefault(key, [])
                        api.log_metric(key, rng.random(), step=len(points))
                        points.append(len(points))
                case "one":
                    key = f"single{amount}"
                    api.log_metric(key, 1, step=len(logged.setdefault(key, [])))
                    logged[key].append(len(logged[key]))
                case "checkpoint":
                    run.recorder.checkpoint()
                case "read":
                    reader = Reader(repo.workspace())
                    assert {k: steps(reader, run.run_id, k) for k in logged} == logged
                case "resume":
                    api.end_run()
                    run = api.start_run(run_id=run.run_id)
                case "recover":
                    # As after a death: the process is gone without having said so.
                    run.recorder._membership.close()
                    api.end_run()
                    commit.commit_sessions(repo.workspace())
                    run = api.start_run(run_id=run.run_id)
                case "others":
                    commit.commit_sessions(repo.workspace())
        api.end_run()
        commit.commit_sessions(repo.workspace())
        reader = Reader(repo.workspace())
        assert not reader.live
        found = reader.run(run.run_id)
        assert {k: steps(reader, run.run_id, k) for k in logged} == logged
        assert {k: m.count for k, m in found.metrics.items()} == {k: len(v) for k, v in logged.items()}
