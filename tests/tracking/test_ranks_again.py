"""Jobs of several ranks, one after the other, under one name."""

from __future__ import annotations

from gml.tracking.reader import Reader

RANK = """
import os, sys
import gml
rank = os.environ["RANK"]
with gml.start_run() as run:
    gml.log_param("lr", sys.argv[1])
    gml.log_metric(f"rank{rank}", 1)
    print(run.run_id)
"""
JOB = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500", "TORCHELASTIC_RUN_ID": "same"}


def test_a_later_job_of_the_same_name_has_a_run_of_its_own(repo):
    seen = []
    for lr in ("0.1", "0.2", "0.3"):
        ranks = [repo.start(RANK, lr, RANK=str(rank), **JOB) for rank in (0, 1)]
        said = [child.communicate(timeout=100) for child in ranks]
        assert [child.returncode for child in ranks] == [0, 0], said
        first, second = (out.strip() for out, _ in said)
        assert first == second
        seen.append(first)
    assert len(set(seen)) == 3
    reader = Reader(repo.workspace())
    assert [reader.run(run_id).params["lr"] for run_id in seen] == ["0.1", "0.2", "0.3"]
    assert all(set(reader.run(run_id).metrics) == {"rank0", "rank1"} for run_id in seen)


def test_a_first_rank_that_cannot_start_does_not_hold_up_the_others(repo):
    failing = RANK.replace("gml.start_run()", "gml.start_run(experiment_id='999')")
    child = repo.start(failing, "0.1", RANK="0", **JOB)
    _, err = child.communicate(timeout=100)
    assert child.returncode == 1
    assert "no experiment has id '999'" in err
    assert repo.python(RANK, "0.1", RANK="1", **JOB)


def test_a_journal_that_somebody_removes_is_missed_with_a_warning(repo):
    script = (
        "import gml, shutil\nwith gml.start_run(run_name='gone'):\n  gml.log_metric('a', 1)\n"
        "  shutil.rmtree('.git/gml/journal')\n  gml.log_metric('a', 2)\nprint('trained')"
    )
    child = repo.start(script)
    out, err = child.communicate(timeout=100)
    assert (child.returncode, out) == (0, "trained\n")
    assert "was removed while it was written: the run is lost" in err


def test_a_run_that_another_thread_ended_is_not_active_any_more(repo):
    script = (
        "import gml, threading\nrun = gml.start_run()\n"
        "worker = threading.Thread(target=gml.end_run)\nworker.start()\nworker.join()\n"
        "assert gml.active_run() is None\nwith gml.start_run(): gml.log_metric('a', 1)\n"
    )
    repo.python(script)
    assert len(list(Reader(repo.workspace()).runs())) == 2
