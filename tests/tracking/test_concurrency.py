"""Many writers: processes, threads, forks, spawned workers and ranks, none of whom loses anything."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from gml.tracking.commit import commit_sessions
from gml.tracking.reader import Reader

# All children wait for a line on their standard input, so that they start together.
MEET = "import sys; print('ready', flush=True); sys.stdin.readline()\n"


def together(repo, script: str, environs: list[dict[str, str]], *args: object) -> list[str]:
    """Run a script in several processes that begin at the same moment; return what each printed."""
    import subprocess
    import sys

    children = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", MEET + script, *map(str, args), str(number)],
            cwd=repo.path,
            env=repo.env(**environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, environ in enumerate(environs)
    ]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    answers = []
    for child in children:
        out, err = child.communicate(timeout=100)
        assert child.returncode == 0, err
        assert err == ""
        answers.append(out.strip())
    return answers


def history(repo, run_id: str, key: str) -> list[int]:
    reader = Reader(repo.workspace())
    return list(map(int, reader.history(reader.run(run_id), key)[0]))


def test_8_processes_of_20_runs_each_lose_none_and_fail_none(repo):
    script = """
import gml, json
ids = []
for n in range(20):
    with gml.start_run(run_name=f"{sys.argv[-1]}-{n}") as run:
        gml.log_param("n", n)
        gml.log_metrics({"a": n, "b": -n}, step=n)
    ids.append(run.run_id)
print(json.dumps(ids))
"""
    ids = [i for said in together(repo, script, [{}] * 8) for i in json.loads(said)]
    assert len(set(ids)) == 160
    reader = Reader(repo.workspace())
    assert not reader.live
    found = {run.run_id: run for run in reader.runs()}
    assert found.keys() == set(ids)
    assert {run.status for run in found.values()} == {"FINISHED"}
    assert Counter(run.params["n"] for run in found.values()) == {str(n): 8 for n in range(20)}
    assert all(run.metrics["b"].last == -int(run.params["n"]) for run in found.values())
    ledger = repo.git("rev-list", "--count", "refs/gml/ledger")
    assert int(ledger) <= 160
    dates = repo.git("log", "--format=%ct", "refs/gml/ledger").splitlines()
    assert dates == sorted(dates, reverse=True)


def test_threads_log_to_the_run_of_the_process_that_started_it(api, repo):
    import threading

    with api.start_run() as run:

        def work(thread: int) -> None:
            for step in range(300):
                api.log_metric(f"t{thread}", step, step=step)
            api.log_param(f"p{thread}", thread)
            api.log_text("x", f"{thread}.txt")

        threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for thread in range(6):
        assert history(repo, run.run_id, f"t{thread}") == list(range(300))
    found = Reader(repo.workspace()).run(run.run_id)
    assert found.params == {f"p{n}": str(n) for n in range(6)}
    assert len(found.artifacts) == 6


def test_threads_that_start_runs_of_their_own_have_them_for_themselves(api, repo):
    import threading

    ids: dict[int, str] = {}
    meet = threading.Barrier(4)

    def work(thread: int) -> None:
        with api.start_run(run_name=str(thread)) as run:
            meet.wait()
            ids[thread] = run.run_id
            api.log_metric("m", thread)
            assert api.active_run() is run
            meet.wait()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reader = Reader(repo.workspace())
    assert {n: reader.run(ids[n]).metrics["m"].last for n in range(4)} == {n: n for n in range(4)}


FORKS = """
import gml, json, multiprocessing, os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads is what trainings do

def work(worker):
    for step in range(200):
        gml.log_metric(f"w{worker}", step, step=step)
    gml.log_param(f"p{worker}", worker)
    gml.log_text("x" * worker, f"{worker}.txt")

if __name__ == "__main__":
    how = sys.argv[1]
    run = gml.start_run()
    gml.log_metric("parent", 0, step=0)
    if how == "os.fork":
        pids = []
        for worker in range(4):
            pid = os.fork()
            if pid == 0:
                work(worker)
                os._exit(0)
            pids.append(pid)
        assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 4
    else:
        with multiprocessing.get_context(how).Pool(4) as pool:
            pool.map(work, range(4), chunksize=1)
    gml.log_metric("parent", 1, step=1)
    gml.end_run()
    print(run.run_id)
"""


@pytest.mark.parametrize("how", ["os.fork", "fork", "spawn", "forkserver"])
def test_workers_log_into_the_run_of_their_parent(repo, how):
    program = repo.file("workers.py", FORKS)
    run_id = repo.python(
        "import runpy, sys\nsys.argv = sys.argv[1:]\nrunpy.run_path(sys.argv[0], run_name='__main__')"
        if how == "os.fork"
        else "import subprocess, sys\n"
        "print(subprocess.run([sys.executable, '-W', 'error', *sys.argv[1:]], check=True, "
        "stdout=subprocess.PIPE, text=True).stdout)",
        program,
        how,
    )
    commit_sessions(repo.workspace())
    found = Reader(repo.workspace()).run(run_id)
    for worker in range(4):
        assert history(repo, run_id, f"w{worker}") == list(range(200))
    assert history(repo, run_id, "parent") == [0, 1]
    assert found.params == {f"p{n}": str(n) for n in range(4)}
    assert {name: a.size for name, a in found.artifacts.items()} == {f"{n}.txt": n for n in range(4)}
    assert (found.status, found.live) == ("FINISHED", False)


@pytest.mark.parametrize("leave", ["os._exit(0)", "sys.exit(0)"])
@pytest.mark.parametrize("log", ["", "gml.log_metric('late', 1)"])
def test_a_forked_child_that_outlives_its_parents_run_leaves_its_status(repo, leave, log):
    run_id = repo.python(
        f"""
import gml, os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)
run = gml.start_run()
gml.log_metric("m", 1)
ready, go = os.pipe()
pid = os.fork()
if pid == 0:
    os.read(ready, 1)
    {log}
    {leave}
gml.end_run()
os.write(go, b"x")
assert os.waitpid(pid, 0)[1] == 0
print(run.run_id)
"""
    )
    commit_sessions(repo.workspace())
    reader = Reader(repo.workspace())
    found = reader.run(run_id)
    assert not reader.live
    assert (found.status, found.end_time is not None) == ("FINISHED", True)
    assert sorted(found.metrics) == (["late", "m"] if log else ["m"])


def test_a_worker_that_dies_takes_nothing_along_and_the_run_ends_well(repo):
    run_id = repo.python(
        """
import gml, os, signal, warnings
warnings.simplefilter("ignore", DeprecationWarning)
with gml.start_run() as run:
    pid = os.fork()
    if pid == 0:
        for step in range(50):
            gml.log_metric("w", step, step=step)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
print(run.run_id)
"""
    )
    assert history(repo, run_id, "w") == list(range(50))
    assert Reader(repo.workspace()).run(run_id).status == "FINISHED"


RANKS = [
    [{"RANK": str(n), "WORLD_SIZE": "4", "MASTER_ADDR": "a", "MASTER_PORT": "1"} for n in range(4)],
    [
        {"SLURM_PROCID": str(n), "SLURM_NTASKS": "4", "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0"}
        for n in range(4)
    ],
    [
        {"OMPI_COMM_WORLD_RANK": str(n), "OMPI_COMM_WORLD_SIZE": "4", "PMIX_NAMESPACE": "job-1"}
        for n in range(4)
    ],
]


@pytest.mark.parametrize("environs", RANKS, ids=["torch", "slurm", "mpi"])
def test_the_ranks_of_a_job_share_their_runs(repo, environs):
    script = """
import gml
rank = sys.argv[-1]
ids = []
for round in range(2):
    with gml.start_run(run_name="job") as run:
        gml.log_param("shared", round)
        for step in range(100):
            gml.log_metric(f"r{rank}", step, step=step)
    ids.append(run.run_id)
print(*ids)
"""
    said = set(together(repo, script, environs))
    assert len(said) == 1
    ids = said.pop().split()
    assert len(set(ids)) == 2
    commit_sessions(repo.workspace())
    reader = Reader(repo.workspace())
    assert not reader.live
    assert sorted(run.run_id for run in reader.runs()) == sorted(ids)
    for round_, run_id in enumerate(ids):
        found = reader.run(run_id)
        assert (found.status, found.params) == ("FINISHED", {"shared": str(round_)})
        for rank in range(4):
            assert history(repo, run_id, f"r{rank}") == list(range(100))


def test_a_single_process_with_the_variables_of_a_job_of_one_has_runs_of_its_own(repo):
    script = "import gml\nwith gml.start_run() as run: pass\nprint(run.run_id)"
    said = together(repo, script, [{"RANK": "0", "WORLD_SIZE": "1"}] * 2)
    assert len(set(said)) == 2


def test_of_processes_that_log_one_param_with_different_values_all_but_one_are_told(api, repo):
    script = """
import gml
from gml.domain.errors import ConflictError
told = 0
for n in range(20):
    try:
        gml.log_param(f"p{n}", sys.argv[-1])
    except ConflictError:
        told += 1
    gml.log_param("same", "for all")
print(told)
"""
    with api.start_run() as run:
        said = together(repo, script, [{}] * 3)
    assert sum(map(int, said)) == 20 * 2
    params = Reader(repo.workspace()).run(run.run_id).params
    assert params.keys() == {"same", *(f"p{n}" for n in range(20))}


def test_processes_that_resume_one_run_at_the_same_moment_all_log_to_it(api, repo):
    with api.start_run() as run:
        api.log_param("a", 1)
    script = """
import gml
with gml.start_run(run_id=sys.argv[1]):
    for step in range(50):
        gml.log_metric(f"m{sys.argv[-1]}", step, step=step)
"""
    together(repo, script, [{}] * 4, run.run_id)
    commit_sessions(repo.workspace())
    found = Reader(repo.workspace()).run(run.run_id)
    assert found.status == "FINISHED"
    for number in range(4):
        assert history(repo, run.run_id, f"m{number}") == list(range(50))


def test_a_batch_of_runs_is_one_commit_of_complete_runs(api, repo):
    with api.batch():
        ids = []
        for n in range(70):
            with api.start_run() as run:
                api.log_metric("m", n)
            ids.append(run.run_id)
    reader = Reader(repo.workspace())
    assert [run.metrics["m"].last for run in reader.runs()] == list(range(70))[::-1]
    assert int(repo.git("rev-list", "--count", "refs/gml/ledger")) == 2
