"""A fast part of the fault matrix (`make faults`), and what it has found."""

from __future__ import annotations

import shutil

import disks
import pytest
import syscalls
from lab import can_inject

from gml.tracking.commit import commit_sessions
from gml.tracking.reader import Reader

ENDED_BEFORE_ITS_JOURNAL = """
import gml, pathlib, shutil, sys
with gml.start_run(run_name="one") as run:
    gml.log_param("a", 1)
    for step in range(9):
        gml.log_metric("loss", step / 7, step=step)
    (journal,) = pathlib.Path(".git/gml/journal").glob("[0-9a-f]" * 32)
    shutil.copytree(journal, sys.argv[1])
    gml.log_metric("loss", 9 / 7, step=9)
    gml.log_text("late", "late.txt")
print(run.run_id)
"""


@pytest.mark.parametrize("kept", [None, 0, 25], ids=["whole", "empty", "torn"])
@pytest.mark.parametrize("salvage", [False, True])
def test_a_journal_that_a_power_cut_brought_back_takes_nothing_away(repo, tmp_path, kept, salvage):
    before = tmp_path / "journal"
    run_id = repo.python(ENDED_BEFORE_ITS_JOURNAL, before, GML_CODE="none")
    tip = repo.git("rev-parse", "refs/gml/ledger")
    place = repo.path / ".git/gml/journal" / run_id
    shutil.copytree(before, place)
    if kept is not None:
        for file in place.glob("*.log"):
            file.write_bytes(file.read_bytes()[:kept])
    commit_sessions(repo.workspace(), salvage=salvage)
    reader = Reader(repo.workspace())
    run = reader.run(run_id)
    assert (run.status, list(run.artifacts)) == ("FINISHED", ["late.txt"])
    assert list(reader.history(run, "loss")[0]) == list(range(10))
    assert repo.git("rev-parse", "refs/gml/ledger") == tip
    assert place.exists() == (kept is not None and not salvage)


@pytest.fixture
def tracing():
    reason = can_inject()
    if reason:
        pytest.skip(reason)
    # Files are made, written and named by few kinds of calls; `make faults` visits all of all kinds.
    return {"calls": ("write", "rename", "link", "fsync"), "step": 9}


@pytest.mark.usefixtures("_isolated")
@pytest.mark.parametrize("operation", ["log", "register"])
def test_a_death_at_some_system_calls(tmp_path, tracing, operation):
    row = syscalls.kill_everywhere(tmp_path, operation, **tracing)
    assert row.trials > 2
    assert (row.details, row.good) == ([], True)


@pytest.mark.usefixtures("_isolated")
def test_failing_calls(tmp_path, tracing):
    row = syscalls.fail_everywhere(tmp_path, "ENOSPC", "log", **tracing)
    assert row.trials > 2
    assert (row.details, row.good) == ([], True)


@pytest.mark.heavy
@pytest.mark.usefixtures("_isolated")
def test_stale_locks(tmp_path):
    row = disks.stale_locks(tmp_path)
    assert row.trials > 30
    assert (row.details, row.good) == ([], True)


@pytest.mark.usefixtures("_isolated")
def test_a_journal_cut_at_some_bytes(tmp_path):
    row = disks.cut_journal(tmp_path, 31)
    assert row.trials > 100
    assert (row.details, row.good) == ([], True)
