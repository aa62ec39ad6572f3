"""One journal directory for several clones, and journals whose first line is damaged."""

from __future__ import annotations

import logging

import pytest

from gml.tracking.commit import commit_sessions
from gml.tracking.journal import session as journal
from gml.tracking.reader import Reader

KILLED = """
import gml, os, sys
gml.set_experiment("churn")
run = gml.start_run(run_name=sys.argv[1])
gml.log_params({"lr": 0.1})
for step in range(50):
    gml.log_metric("loss", step / 3, step=step)
gml.set_tag("team", "risk")
gml.log_text("small", "note.txt")
print(run.run_id, flush=True)
os.kill(os.getpid(), 9)
"""


def killed(repo, name: str, **environ: str) -> str:
    return repo.start(KILLED, name, **environ).communicate()[0].strip()


def test_runs_of_two_repositories_with_one_journal_directory_stay_apart(make_repo, tmp_path):
    one, two = make_repo("one"), make_repo("two")
    shared = {"GML_JOURNAL_DIR": str(tmp_path / "scratch")}
    first, second = killed(one, "of one", **shared), killed(two, "of two", **shared)
    two.python("import gml\nwith gml.start_run(): pass", **shared)
    for repo, mine in ((one, first), (two, second)):
        space = repo.workspace(**shared)
        assert mine in {run.run_id for run in Reader(space).runs()}
        commit_sessions(space)
        assert {run.name for run in space.ledger.view().runs() if run.run_id in {first, second}} == {
            "of one" if repo is one else "of two"
        }


def test_worktrees_of_one_repository_share_the_journals(repo, tmp_path):
    shared = {"GML_JOURNAL_DIR": str(tmp_path / "scratch")}
    run_id = killed(repo, "main", **shared)
    repo.git("worktree", "add", "-q", str(tmp_path / "side"))
    side = type(repo)(tmp_path / "side")
    assert commit_sessions(side.workspace(**shared)) == [run_id]


def damage_first_line(repo, run_id: str) -> None:
    path = repo.workspace().journal_root / run_id / journal.SHARED
    head, newline, rest = path.read_bytes().partition(b"\n")
    path.write_bytes(head[:-20] + b"#" * 20 + newline + rest)


def test_recover_saves_a_run_whose_journal_lost_its_first_line(repo, caplog):
    run_id = killed(repo, "hit")
    other = killed(repo, "sound")
    damage_first_line(repo, run_id)
    with caplog.at_level(logging.WARNING):
        assert commit_sessions(repo.workspace()) == [other]
    assert "`gml recover` saves what is in it" in caplog.text
    repo.python("from gml.cli.main import main\nmain(['recover'])")
    reader = Reader(repo.workspace())
    assert not reader.live
    run = reader.run(run_id)
    assert (run.status, dict(run.params), dict(run.tags)) == ("KILLED", {"lr": "0.1"}, {"team": "risk"})
    assert list(reader.history(run, "loss")[0]) == list(range(50))
    assert list(run.artifacts) == ["note.txt"]
    assert run.experiment_id == "0"


def test_recover_saves_a_resumed_run_whose_journal_lost_its_first_line(repo):
    run_id = repo.python("import gml\nwith gml.start_run(run_name='first') as run: print(run.run_id)")
    repo.start(
        "import gml, os, sys\ngml.start_run(run_id=sys.argv[1])\ngml.log_metric('more', 2)\nos.kill(os.getpid(), 9)",
        run_id,
    ).communicate()
    damage_first_line(repo, run_id)
    assert commit_sessions(repo.workspace(), salvage=True) == [run_id]
    run = Reader(repo.workspace()).run(run_id)
    assert (run.name, run.metrics["more"].last) == ("first", 2.0)


@pytest.mark.parametrize("content", [b"", b"garbage", b"\0" * 5000 + b"\n"])
def test_recover_saves_the_metrics_of_a_run_whose_shared_journal_is_gone(repo, content):
    run_id = killed(repo, "hit")
    (repo.workspace().journal_root / run_id / journal.SHARED).write_bytes(content)
    assert commit_sessions(repo.workspace(), salvage=True) == [run_id]
    reader = Reader(repo.workspace())
    assert list(reader.history(reader.run(run_id), "loss")[0]) == list(range(50))


def test_a_newer_journal_is_not_salvaged(repo):
    run_id = killed(repo, "future")
    path = repo.workspace().journal_root / run_id / journal.SHARED
    from gml.tracking.journal.lines import encode_line

    path.write_bytes(encode_line(["gml-journal", 99, {"run_id": run_id}]))
    assert commit_sessions(repo.workspace(), salvage=True) == []
    assert path.exists()
