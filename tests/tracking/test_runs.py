"""What a run keeps: params once, metrics with any value, resumed and nested runs, limits."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest

from gml.domain.errors import ConflictError, InvalidValueError, NotFoundError, UsageError
from gml.domain.names import TAG_PARENT
from gml.ledger.ledger import Writer
from gml.tracking import commit, edits
from gml.tracking.journal import session as journal
from gml.tracking.journal.lines import encode_line
from gml.tracking.reader import Reader


def read(repo, run_id: str):
    return Reader(repo.workspace()).run(run_id)


# --- params and tags ----------------------------------------------------------------------------


def test_a_param_keeps_its_first_value_and_says_so(api, repo):
    with api.start_run() as run:
        api.log_param("lr", 0.1)
        api.log_param("lr", 0.1)
        api.log_params({"lr": "0.1", "depth": 3})
        with pytest.raises(ConflictError, match=r"'lr' is '0.1'.*cannot become '0.2'.*write-once"):
            api.log_param("lr", 0.2)
    assert read(repo, run.run_id).params == {"lr": "0.1", "depth": "3"}


def test_params_of_one_call_are_kept_all_or_none(api, repo):
    with api.start_run() as run:
        api.log_param("b", 1)
        with pytest.raises(ConflictError):
            api.log_params({"a": 1, "b": 2})
        with pytest.raises(InvalidValueError):
            api.log_params({"c": 1, "bad\n": 2})
    assert read(repo, run.run_id).params == {"b": "1"}


def test_a_param_cannot_be_rewritten_by_resuming(api, repo):
    with api.start_run() as run:
        api.log_param("lr", 0.1)
    with api.start_run(run_id=run.run_id):
        api.log_param("more", 1)
        api.log_param("lr", 0.1)
        with pytest.raises(ConflictError):
            api.log_param("lr", 0.2)
    assert read(repo, run.run_id).params == {"lr": "0.1", "more": "1"}


def test_tags_take_the_latest_value_and_can_be_removed(api, repo):
    with api.start_run(tags={"a": 1, "gone": "x"}, description="why") as run:
        api.set_tags({"a": 2, "mlflow.runName": "renamed"})
        api.delete_tag("gone")
    with api.start_run(run_id=run.run_id):
        api.set_tag("a", 3)
    found = read(repo, run.run_id)
    assert found.tags == {"a": "3", "mlflow.note.content": "why"}
    assert (found.name, found.description) == ("renamed", "why")


@pytest.mark.parametrize(
    "call",
    [
        lambda gml: gml.log_param("", 1),
        lambda gml: gml.log_param("a" * 251, 1),
        lambda gml: gml.log_param("../up", 1),
        lambda gml: gml.log_param("/root", 1),
        lambda gml: gml.log_param("a//b", 1),
        lambda gml: gml.log_param("line\nbreak", 1),
        lambda gml: gml.log_param("emoji😀", 1),
        lambda gml: gml.log_param(None, 1),
        lambda gml: gml.log_param(float("nan"), 1),
        lambda gml: gml.log_param("big", "x" * 1_000_000),
        lambda gml: gml.log_param("big", "x" * 6001),
        lambda gml: gml.log_param("half", "\ud800"),
        lambda gml: gml.set_tag("t", "x" * 8001),
        lambda gml: gml.set_tag("", "x"),
        lambda gml: gml.set_tag("mlflow.runName", " "),
        lambda gml: gml.log_metric("m", True),
        lambda gml: gml.log_metric("m", np.bool_(True)),
        lambda gml: gml.log_metric("m", "1.0"),
        lambda gml: gml.log_metric("m", None),
        lambda gml: gml.log_metric("m", 1j),
        lambda gml: gml.log_metric("m", [1, 2]),
        lambda gml: gml.log_metric("m", np.array([1.0, 2.0])),
        lambda gml: gml.log_metric("a b|c", 1),
        lambda gml: gml.log_metric("m", 1, step="1"),
        lambda gml: gml.log_metric("m", 1, step=0.5),
        lambda gml: gml.log_metric("m", 1, step=True),
        lambda gml: gml.log_metric("m", 1, step=2**63),
        lambda gml: gml.log_metric("m", 1, timestamp=-1),
        lambda gml: gml.log_metric("m", 1, timestamp="now"),
        lambda gml: gml.log_metrics({"fine": 1, "bad": False}),
        lambda gml: gml.log_metrics("loss"),
        lambda gml: gml.log_params(["lr"]),
        lambda gml: gml.set_tags(None),
        lambda gml: gml.log_text("x", None),
        lambda gml: gml.log_text("x", "../up.txt"),
        lambda gml: gml.log_text("x", "/etc/passwd"),
        lambda gml: gml.log_text("x", ""),
        lambda gml: gml.log_text("x", "a\0b"),
    ],
)
def test_bad_arguments_raise_at_once_and_leave_no_trace(api, repo, call):
    with api.start_run() as run:
        with pytest.raises(InvalidValueError) as caught:
            call(api)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 600
    found = read(repo, run.run_id)
    assert (found.params, found.tags, found.metrics, found.artifacts) == ({}, {}, {}, {})
    assert found.status == "FINISHED"


def test_no_text_of_a_run_keeps_it_out_of_the_ledger_or_plays_with_the_terminal(api, repo):
    nasty = "a\0b\x1b[31m\u202e\r\n\x85c"
    with api.start_run(run_name="\u202ename", tags={"t": nasty}, description=nasty) as run:
        api.log_params({"p": nasty, "q": 1})
        api.log_text(nasty, "\u202etext.txt")
    assert [r.params["p"] for r in repo.workspace().ledger.view().runs()] == [nasty]
    assert read(repo, run.run_id).name == "\u202ename"
    log = repo.git("log", "--format=%B", "refs/gml/ledger")
    assert "q=1" in log
    assert log.replace("\n", "").isprintable()


def test_values_at_the_limits_are_kept_whole(api, repo):
    with api.start_run() as run:
        api.log_param("k" * 250, "v" * 6000)
        api.set_tag("t", "é" * 8000)
        api.log_param("train/opt.lr - 1:2 _x", "")
        api.log_param("schlüssel", "größe\n\0")
        api.log_metric("m", 1, step=2**63 - 1, timestamp=0)
        api.log_metric("m", 2, step=-(2**63) + 1, timestamp=2**63 - 1)
    found = read(repo, run.run_id)
    assert found.params["k" * 250] == "v" * 6000
    assert found.params["schlüssel"] == "größe\n\0"
    assert found.params["train/opt.lr - 1:2 _x"] == ""
    assert found.tags["t"] == "é" * 8000
    steps, times, values = Reader(repo.workspace()).history(found, "m")
    assert list(zip(steps, times, values, strict=True)) == [
        (-(2**63) + 1, 2**63 - 1, 2.0),
        (2**63 - 1, 0, 1.0),
    ]


# --- metrics ------------------------------------------------------------------------------------


def test_nan_and_infinities_are_metric_values(api, repo):
    values = [1.5, math.nan, math.inf, -math.inf, -0.0, 5e-324]
    with api.start_run() as run:
        for step, value in enumerate(values):
            api.log_metric("m", value, step=step)
        api.log_metric("nan", math.nan)
        api.log_metrics({"inf": math.inf, "minus": -math.inf, "numpy": np.float32(0.5), "int": 10**400})
    reader = Reader(repo.workspace())
    found = reader.run(run.run_id)
    back = list(reader.history(found, "m")[2])
    assert [repr(float(v)) for v in back] == [repr(v) for v in values]
    summary = found.metrics["m"]
    assert (summary.min, summary.max, summary.count, summary.last) == (-math.inf, math.inf, 6, 5e-324)
    assert math.isnan(found.metrics["nan"].last)
    assert found.metrics["inf"].last == math.inf
    assert found.metrics["minus"].last == -math.inf
    assert (found.metrics["numpy"].last, found.metrics["int"].last) == (0.5, math.inf)


@pytest.mark.parametrize(
    ("points", "last"),
    [
        ([(1.0, 5, 0), (2.0, 3, 9)], 1.0),
        ([(1.0, 3, 9), (2.0, 3, 5)], 1.0),
        ([(1.0, 3, 5), (2.0, 3, 5)], 2.0),
        ([(2.0, 3, 5), (1.0, 3, 5)], 2.0),
        ([(math.nan, 3, 5), (-1.0, 3, 5)], -1.0),
        ([(-1.0, 3, 5), (math.nan, 3, 6)], math.nan),
        ([(7.0, -1, 5), (8.0, -2, 6)], 7.0),
    ],
)
def test_the_last_value_is_that_of_the_greatest_step_then_time_then_value(api, repo, points, last):
    with api.start_run() as run:
        for value, step, timestamp in points:
            api.log_metric("m", value, step=step, timestamp=timestamp)
    assert repr(read(repo, run.run_id).metrics["m"].last) == repr(last)
    assert repr(api.get_run(run.run_id).data.metrics["m"]) == repr(last)


def test_history_is_sorted_by_step_then_time_over_all_sessions(api, repo):
    with api.start_run() as run:
        for step, timestamp in ((2, 7), (1, 9), (2, 5)):
            api.log_metric("m", step * 10 + timestamp, step=step, timestamp=timestamp)
    with api.start_run(run_id=run.run_id):
        for step, timestamp in ((1, 1), (3, 0), (2, 6)):
            api.log_metric("m", step * 10 + timestamp, step=step, timestamp=timestamp)
    frame = api.metric_history(run.run_id, "m")
    rows = list(zip(frame["step"], frame["timestamp"], frame["value"], strict=True))
    assert rows == sorted(
        (s, t, float(s * 10 + t)) for s, t in ((2, 7), (1, 9), (2, 5), (1, 1), (3, 0), (2, 6))
    )
    assert read(repo, run.run_id).metrics["m"].count == 6


def test_a_metric_that_does_not_exist_is_named_with_those_that_do(api):
    with api.start_run() as run:
        api.log_metrics({"auc": 1, "loss": 2})
    with pytest.raises(NotFoundError, match=r"'f1'.*auc, loss"):
        api.metric_history(run.run_id, "f1")


# --- life cycle ---------------------------------------------------------------------------------


def test_a_run_that_an_exception_leaves_is_failed(api, repo):
    with pytest.raises(ZeroDivisionError), api.start_run() as run:
        1 / 0  # noqa: B018
    found = read(repo, run.run_id)
    assert found.status == "FAILED"
    assert found.end_time >= found.start_time


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_end_run_sets_the_status(api, repo, status):
    run = api.start_run()
    api.end_run(status)
    assert read(repo, run.run_id).status == status
    assert api.active_run() is None


def test_a_second_run_needs_nested_and_a_status_must_be_one(api):
    with api.start_run():
        with pytest.raises(UsageError, match="nested=True"):
            api.start_run()
        with pytest.raises(UsageError, match="not a run status"):
            api.end_run("DONE")


def test_nested_runs_know_their_parent(api, repo):
    with api.start_run() as outer:
        with api.start_run(nested=True) as inner, api.start_run(nested=True) as innermost:
            api.log_param("depth", 3)
        api.log_param("depth", 1)
    with api.start_run(parent_run_id=outer.run_id) as adopted:
        pass
    reader = Reader(repo.workspace())
    parents = {run.run_id: run.tags.get(TAG_PARENT) for run in reader.runs()}
    assert parents == {
        outer.run_id: None,
        inner.run_id: outer.run_id,
        innermost.run_id: inner.run_id,
        adopted.run_id: outer.run_id,
    }
    assert [r.run_id for r in reader.children(outer.run_id)] == [inner.run_id, adopted.run_id]
    assert reader.run(innermost.run_id).params == {"depth": "3"}
    assert reader.run(outer.run_id).params == {"depth": "1"}


def test_ending_an_outer_run_ends_those_inside_it(api, repo):
    outer = api.start_run()
    inner = api.start_run(nested=True)
    outer.__exit__(None, None, None)
    assert api.active_run() is None
    assert {read(repo, r.run_id).status for r in (outer, inner)} == {"FINISHED"}


def test_a_child_process_starts_runs_inside_that_of_its_parent_and_logs_to_it(api, repo):
    with api.start_run() as run:
        api.log_metric("m", 1, step=1)
        inner = repo.python(
            "import gml\n"
            "gml.log_metric('m', 2, step=2)\n"
            "with gml.start_run(nested=True) as inner: gml.log_param('inner', 1)\n"
            "print(inner.run_id)"
        )
    found = read(repo, run.run_id)
    assert (found.metrics["m"].count, found.metrics["m"].last) == (2, 2.0)
    assert read(repo, inner).parent_run_id == run.run_id


def test_a_run_is_resumed_by_another_process(api, repo):
    with api.start_run(run_name="first") as run:
        api.log_param("lr", 0.1)
        api.log_metric("m", 1, step=1)
    status = repo.python(
        "import gml, sys\n"
        "with gml.start_run(run_id=sys.argv[1]) as run:\n"
        "    gml.log_metric('m', 2, step=2); gml.log_text('x', 'second.txt'); gml.set_tag('by', 'two')\n"
        "    print(gml.get_run(run.run_id).info.status)",
        run.run_id,
    )
    assert status == "RUNNING"
    found = read(repo, run.run_id)
    assert (found.name, found.status, found.params, found.tags) == (
        "first",
        "FINISHED",
        {"lr": "0.1"},
        {"by": "two"},
    )
    assert found.metrics["m"].count == 2
    assert list(found.artifacts) == ["second.txt"]


def test_a_run_is_resumed_in_another_clone(api, repo, clone):
    with api.start_run() as run:
        api.log_metric("m", 1, step=1)
        api.log_text("one", "one.txt")
    other = clone(repo, "other")
    other.python(
        "import gml, sys\n"
        "with gml.start_run(run_id=sys.argv[1]):\n"
        "    gml.log_metric('m', 2, step=2); gml.log_text('two', 'two.txt')",
        run.run_id,
    )
    repo.git("fetch", "-q", str(other.path), "refs/gml/ledger:refs/gml/ledger")
    found = read(repo, run.run_id)
    assert (found.metrics["m"].count, sorted(found.artifacts)) == (2, ["one.txt", "two.txt"])
    assert api.metric_history(run.run_id, "m")["value"].tolist() == [1.0, 2.0]


def test_what_later_sessions_say_wins_in_the_order_in_which_they_came(api, repo):
    with api.start_run() as run:
        api.set_tag("who", "creator")
    for number in range(6):
        with api.start_run(run_id=run.run_id):
            api.set_tag("who", number)
            api.log_text(str(number), "who.txt")
            if number % 2:
                run_now = api.active_run()
                run_now.recorder.checkpoint()
        if number == 3:
            edits.tag_runs(repo.workspace(), [run.run_id], {"who": "edit"})
            assert read(repo, run.run_id).tags == {"who": "edit"}
        else:
            assert read(repo, run.run_id).tags == {"who": str(number)}
        assert (
            read(repo, run.run_id).artifacts["who.txt"].at.startswith(f"git:{number + 1 + (number > 3):06d}-")
        )


def test_a_run_that_was_killed_goes_on_and_ends_well(repo):
    child = repo.start(
        "import gml, os, signal\n"
        "run = gml.start_run()\n"
        "gml.log_metric('m', 1, step=1)\n"
        "print(run.run_id, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    run_id = child.communicate()[0].strip()
    assert read(repo, run_id).status == "KILLED"
    repo.python(
        "import gml, sys\nwith gml.start_run(run_id=sys.argv[1]): gml.log_metric('m', 2, step=2)", run_id
    )
    found = read(repo, run_id)
    assert (found.status, found.metrics["m"].count) == ("FINISHED", 2)


def test_an_unknown_or_deleted_run_is_not_resumed(api):
    with pytest.raises(NotFoundError, match="no run has id"):
        api.start_run(run_id="01983c1f2ab470008000000000000000")
    with pytest.raises((InvalidValueError, NotFoundError)):
        api.start_run(run_id="../..")
    with api.start_run() as run:
        pass
    api.delete_run(run.run_id)
    with pytest.raises(ConflictError, match="deleted"):
        api.start_run(run_id=run.run_id)


# --- edits of runs that go on -------------------------------------------------------------------


def test_a_running_run_is_tagged_noted_and_renamed_by_others_at_once(api, repo):
    workspace = repo.workspace()
    with api.start_run(run_name="old", tags={"gone": "x"}) as run:
        edits.tag_runs(workspace, [run.run_id], {"by": "others"}, removed=["gone"])
        edits.note_run(workspace, [run.run_id], "a note")
        edits.rename_run(workspace, [run.run_id], "new")
        found = read(repo, run.run_id)
        assert (found.name, found.tags, found.live) == (
            "new",
            {"by": "others", "mlflow.note.content": "a note"},
            True,
        )
        with pytest.raises(ConflictError, match="is running"):
            edits.delete_runs(workspace, [run.run_id])
    committed = workspace.ledger.view().run(run.run_id)
    assert (committed.name, committed.tags, committed.status) == (found.name, found.tags, "FINISHED")
    edits.note_run(workspace, [run.run_id], "")
    assert read(repo, run.run_id).description is None


def test_a_killed_run_is_edited_before_anybody_committed_it(repo):
    child = repo.start("import gml, os\nprint(gml.start_run().run_id, flush=True)\nos.kill(os.getpid(), 9)")
    run_id = child.communicate()[0].strip()
    workspace = repo.workspace()
    edits.tag_runs(workspace, [run_id], {"a": "b"})
    edits.delete_runs(workspace, [run_id])
    assert workspace.ledger.view().run(run_id) is None
    assert commit.commit_sessions(workspace) == [run_id]
    found = read(repo, run_id)
    assert (found.tags, found.status, found.lifecycle_stage) == ({"a": "b"}, "KILLED", "deleted")
    edits.restore_runs(workspace, [run_id])
    assert read(repo, run_id).lifecycle_stage == "active"


def test_a_session_that_cannot_be_committed_keeps_no_other_out_of_the_ledger(api, repo, monkeypatch, caplog):
    """Whatever the reason: here the commit message of one of them is not legal."""
    for name in ("poison", "sound"):
        repo.start(
            "import gml, os, sys\ngml.start_run(run_name=sys.argv[1])\nos.kill(os.getpid(), 9)", name
        ).communicate()
    plain = commit._plain

    def refused(text: str) -> str:
        if "poison" in text:
            raise InvalidValueError("not a legal message")
        return plain(text)

    with monkeypatch.context() as patch:
        patch.setattr(commit, "_plain", refused)
        with api.start_run(run_name="own"):
            pass
        assert sorted(run.name for run in repo.workspace().ledger.view().runs()) == ["own", "sound"]
        assert "not a legal message" in caplog.text
        with api.start_run(run_name="own poison"):
            pass
        assert "is not in the ledger yet (not a legal message)" in caplog.text
    commit.commit_sessions(repo.workspace())
    assert len(list(repo.workspace().ledger.view().runs())) == 4


# --- logging to a run that has ended ------------------------------------------------------------


def test_logging_to_a_finished_run_by_its_id_leaves_its_status(api, repo):
    with api.start_run() as run:
        pass
    ended = read(repo, run.run_id)
    api.log_metric("late", 1, run_id=run.run_id)
    api.log_params({"late": 1}, run_id=run.run_id)
    api.set_tags({"late": 1}, run_id=run.run_id)
    api.log_text("late", "late.txt", run_id=run.run_id)
    found = read(repo, run.run_id)
    assert (found.status, found.end_time) == ("FINISHED", ended.end_time)
    assert found.metrics["late"].last == 1
    assert (found.params, found.tags, list(found.artifacts)) == ({"late": "1"}, {"late": "1"}, ["late.txt"])


def test_reading_the_data_of_an_ended_run_does_not_resume_it(api, repo):
    with api.start_run() as run:
        api.log_param("a", 1)
    assert run.data.params == {"a": "1"}
    assert run.info.run_id == run.run_id
    reader = Reader(repo.workspace())
    assert not reader.live
    assert reader.run(run.run_id).status == "FINISHED"


def test_a_thread_that_logs_after_the_end_is_heard_and_leaves_the_status(api, repo):
    with api.start_run() as run:
        api.log_metric("m", 1, step=1)
    run.recorder.metric("m", 2.0, 2, None)
    run.recorder.log_params({"late": "1"})
    found = read(repo, run.run_id)
    assert (found.status, found.metrics["m"].count, found.params) == ("FINISHED", 2, {"late": "1"})
    run.recorder._membership.close()
    commit.commit_sessions(repo.workspace())
    found = read(repo, run.run_id)
    assert (found.status, found.metrics["m"].count, found.live) == ("FINISHED", 2, False)


def test_threads_that_log_while_the_run_ends_lose_nothing_that_was_acknowledged(api, repo):
    run = api.start_run()
    go, acknowledged = threading.Barrier(4), [0, 0, 0]

    def log(thread: int) -> None:
        go.wait()
        for step in range(1, 400):
            run.recorder.metric(f"t{thread}", float(step), step, None)
            acknowledged[thread] = step

    threads = [threading.Thread(target=log, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    go.wait()
    api.end_run()
    for thread in threads:
        thread.join()
    run.recorder._membership.close()
    commit.commit_sessions(repo.workspace())
    reader = Reader(repo.workspace())
    found = reader.run(run.run_id)
    assert found.status == "FINISHED"
    for thread in range(3):
        assert list(reader.history(found, f"t{thread}")[0]) == list(range(1, 400))


def test_what_is_written_while_a_run_is_committed_is_committed_by_the_next(api, repo, monkeypatch):
    """A tag, and the last words of a worker, that arrive after the journal was read."""
    run = api.start_run()
    api.log_metric("m", 1, step=1)
    space, advance = repo.workspace(), Writer.advance

    def between(self, *args, **kwargs):
        monkeypatch.setattr(Writer, "advance", advance)
        edits.tag_runs(space, [run.run_id], {"late": "tag"})
        worker = journal.join(space.journal_root, run.run_id, {})
        worker.own.write(encode_line(["m", "m", 2.0, 5, 2]))
        worker.end()
        worker.close()
        return advance(self, *args, **kwargs)

    monkeypatch.setattr(Writer, "advance", between)
    api.end_run()
    commit.commit_sessions(space)
    found = Reader(space).run(run.run_id)
    assert not Reader(space).live
    assert found.tags == {"late": "tag"}
    assert found.metrics["m"].count == 2
    assert found.status == "FINISHED"
