"""Pushing and pulling between clones and a bare remote, through the functions and the command line."""

from __future__ import annotations

import json
import subprocess
import threading

import pytest

from gml.cli import main as cli
from gml.domain.errors import FormatError, NotFoundError, RemoteError, UsageError
from gml.git.transport import Outcome
from gml.ledger.ledger import Batch
from gml.sync.pull import pull
from gml.sync.push import push
from gml.sync.remotes import open_remote
from gml.sync.seen import read_seen
from gml.tracking.reader import Reader

LEDGER = "refs/gml/ledger"


def gml(repo, *args: str, code: int = 0) -> str:
    """Run the command line in this process and return what it wrote."""
    done = subprocess.run(
        ["gml", *args], cwd=repo.path, env=repo.env(), capture_output=True, text=True, check=False
    )
    assert done.returncode == code, (args, done.returncode, done.stdout, done.stderr)
    return done.stdout + done.stderr


def names(repo) -> list[str]:
    return sorted(run.name for run in Reader(repo.workspace()).runs())


def value(bare, ref: str = LEDGER) -> str:
    done = subprocess.run(
        ["git", "-C", str(bare), "for-each-ref", "--format=%(objectname)", ref],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


def log(repo, *wanted: str) -> None:
    """Make small runs without the cost of a process for each."""
    repo.python(
        "import gml, sys\nfor name in sys.argv[1:]:\n    with gml.start_run(run_name=name):\n        gml.log_metric('loss', 1.0)",
        *wanted,
        GML_CODE="none",
    )


def exchange(repo, which=push, **options):
    workspace = repo.workspace()
    return which(workspace, open_remote(workspace), **options)


@pytest.fixture
def bare(make_bare):
    return make_bare()


@pytest.fixture
def clones(make_repo, bare):
    """Return a function that makes clones of the bare remote."""

    def make(*wanted: str):
        made = []
        for name in wanted:
            repo = make_repo(name)
            repo.git("remote", "add", "origin", str(bare))
            made.append(repo)
        return made

    return make


def test_runs_reach_another_clone(clones, bare):
    ada, bob = clones("ada", "bob")
    ada.file("train.py", "changed = 1\n")
    ada.python(
        "import gml\ngml.set_experiment('churn')\nwith gml.start_run(run_name='one'): gml.log_param('a', 1)"
    )
    said = gml(ada, "push")
    assert "pushed  1 run, 1 experiment, 1 code commit" in said
    assert "pushed  nothing new" in gml(ada, "push")
    report = json.loads(gml(bob, "pull", "--json"))
    assert report["pulled"]["runs"] == 1
    assert report["pulled"]["git_bytes"] > 100
    assert names(bob) == ["one"]
    run = next(Reader(bob.workspace()).runs())
    snapshot = run.source["snapshot"]
    assert bob.git("show", f"{snapshot}:train.py") == "changed = 1"
    assert "pulled  nothing new" in gml(bob, "pull")


def test_diverged_ledgers_are_united_at_push(clones, bare):
    ada, bob = clones("ada", "bob")
    log(ada, "a1")
    exchange(ada)
    exchange(bob, pull)
    log(ada, "a2")
    log(bob, "b1")
    assert exchange(ada).rounds == 1
    report = exchange(bob)
    assert (report.rounds, report.pulled.runs, report.pushed.runs) == (2, 1, 1)
    exchange(ada, pull)
    assert names(ada) == names(bob) == ["a1", "a2", "b1"]
    assert ada.git("rev-parse", LEDGER) == bob.git("rev-parse", LEDGER) == value(bare)


def test_clones_that_both_begin_before_they_have_seen_each_other(clones, bare):
    ada, bob = clones("ada", "bob")
    log(ada, "a1")
    log(bob, "b1")
    exchange(ada)
    exchange(bob)
    exchange(ada, pull)
    assert names(ada) == names(bob) == ["a1", "b1"]


def test_an_empty_clone_and_an_empty_remote_are_no_trouble(clones):
    ada, bob = clones("ada", "bob")
    assert not exchange(ada).pushed
    assert not exchange(bob, pull).pulled


def test_a_race_is_merged_and_after_three_rounds_goes_to_the_inbox(clones, bare):
    ada, bob, eve = clones("ada", "bob", "eve")
    for repo in (ada, bob):
        log(repo, f"{repo.path.name}-0")
        exchange(repo)
    count = iter(range(100))

    def faster(_: float) -> None:
        """Somebody else pushes in every pause."""
        log(bob, f"bob-{next(count) + 1}")
        exchange(bob)

    exchange(ada, pull)
    log(ada, "mine")
    faster(0)
    report = exchange(ada, pause=faster)
    assert report.inbox
    assert report.rounds == 4
    writer = ada.workspace().writer_id
    assert value(bare, f"refs/gml/inbox/{writer}/ledger") == ada.git("rev-parse", LEDGER)
    # who reads sees it, and the next push unites it
    assert "mine" in (exchange(eve, pull) and names(eve))
    log(eve, "eve")
    exchange(eve)
    assert value(bare, "refs/gml/inbox/**") == ""
    exchange(ada, pull)
    exchange(bob, pull)
    assert names(ada) == names(bob) == names(eve)
    assert "mine" in names(bob)
    # an inbox that was emptied can be used again
    log(ada, "again")
    assert exchange(ada, inbox=True).inbox
    assert value(bare, f"refs/gml/inbox/{writer}/ledger") == ada.git("rev-parse", LEDGER)


def test_inbox_mode_and_fold(clones, bare):
    writers = clones("w1", "w2", "w3")
    (boss,) = clones("boss")
    for repo in writers:
        repo.git("config", "gml.sync.mode", "inbox")
        log(repo, f"{repo.path.name}-run")
        assert "waits in this clone's inbox" in gml(repo, "push")
    assert value(bare) == ""
    assert json.loads(gml(boss, "fold", "--json"))["folded"] == sorted(
        r.workspace().writer_id for r in writers
    )
    assert value(bare, "refs/gml/inbox/**") == ""
    assert value(bare) == boss.git("rev-parse", LEDGER)
    assert names(boss) == ["w1-run", "w2-run", "w3-run"]
    assert gml(boss, "fold") == "no inbox is waiting\n"
    log(writers[0], "later")
    exchange(writers[0])
    exchange(boss, pull)
    assert "later" in names(boss)


def test_many_clones_push_at_once_and_nothing_is_lost(clones, bare):
    repos = clones(*(f"c{number}" for number in range(6)))
    for repo in repos:
        log(repo, f"{repo.path.name}-run")
    problems = []

    def work(repo) -> None:
        try:
            exchange(repo)
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(repo,)) for repo in repos]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    exchange(repos[0], pull)
    assert names(repos[0]) == sorted(f"{repo.path.name}-run" for repo in repos)


def test_a_push_whose_answer_was_lost_is_looked_up_again(clones, bare, monkeypatch):
    (ada,) = clones("ada")
    log(ada, "a1")
    workspace = ada.workspace()
    remote = open_remote(workspace)
    real = remote.transport.push

    def lossy(updates, *, atomic=False):
        return [Outcome(o.name, "unknown", "hung up") for o in real(updates, atomic=atomic)]

    monkeypatch.setattr(remote.transport, "push", lossy)
    report = push(workspace, remote)
    assert report.pushed.runs == 1
    assert read_seen(workspace.store, remote.names).ledger == value(bare)


def test_a_push_that_did_not_arrive_is_an_error(clones, bare, monkeypatch):
    (ada,) = clones("ada")
    log(ada, "a1")
    workspace = ada.workspace()
    remote = open_remote(workspace)
    monkeypatch.setattr(
        remote.transport,
        "push",
        lambda updates, **_: [Outcome(u.name, "unknown", "the connection broke") for u in updates],
    )
    with pytest.raises(RemoteError, match="connection broke"):
        push(workspace, remote)
    assert value(bare) == ""


def test_history_that_the_remote_threw_away_is_kept_and_comes_back(clones, bare):
    ada, bob = clones("ada", "bob")
    log(ada, "a1")
    exchange(ada)
    exchange(bob, pull)
    first = value(bare)
    log(bob, "b1")
    exchange(bob)
    subprocess.run(["git", "-C", str(bare), "update-ref", LEDGER, first], check=True)
    # ada had never seen b1, bob had: for bob all of it is still here
    report = exchange(bob, pull)
    assert "rewritten" in report.notes[0]
    assert names(bob) == ["a1", "b1"]
    exchange(bob)
    exchange(ada, pull)
    assert names(ada) == ["a1", "b1"]
    subprocess.run(["git", "-C", str(bare), "update-ref", "-d", LEDGER], check=True)
    assert "removed" in gml(ada, "pull")
    assert names(ada) == ["a1", "b1"]
    exchange(ada)
    assert value(bare) == ada.git("rev-parse", LEDGER)


def test_what_was_only_fetched_before_a_rewrite_is_kept_under_conflicts(clones, bare):
    ada, bob = clones("ada", "bob")
    log(ada, "a1")
    exchange(ada)
    old = value(bare)
    bob.git("fetch", "-q", "origin", "+refs/gml/ledger:refs/gml/remotes/origin/ledger")
    log(bob, "b1")
    bob.git("push", "-q", "-f", "origin", f"{LEDGER}:{LEDGER}")
    report = exchange(bob, pull)
    assert bob.git("rev-parse", f"refs/gml/conflicts/origin/ledger-{old[:12]}") == old
    assert names(bob) == ["a1", "b1"]
    assert "conflicts" in report.notes[0]


def newer(repo) -> None:
    """Let somebody with a later gml write the ledger."""
    repo.workspace().ledger.append(
        lambda _: Batch({"format": b"gml-ledger 2\nreadable by gitml 9 and newer\n"}, "later\n")
    )


def test_a_remote_of_a_newer_format_is_neither_read_nor_written(clones, bare):
    ada, bob, eve = clones("ada", "bob", "eve")
    log(ada, "a1")
    exchange(ada)
    exchange(bob, pull)
    newer(ada)
    ada.git("push", "-q", "origin", f"{LEDGER}:{LEDGER}")
    before, there = bob.git("rev-parse", LEDGER), value(bare)
    with pytest.raises(FormatError):
        exchange(bob, pull)
    log(bob, "b1")
    for way in (push, pull):
        with pytest.raises(FormatError):
            exchange(bob, way)
    with pytest.raises(FormatError):
        exchange(eve, pull)
    log(eve, "e1")
    with pytest.raises(FormatError):
        exchange(eve)
    assert bob.git("rev-parse", f"{LEDGER}~1") == before
    assert value(bare) == there
    assert "newer" in gml(bob, "push", code=10)


def test_plain_git_carries_runs_after_init(clones, bare):
    ada, bob = clones("ada", "bob")
    for repo in (ada, bob):
        said = gml(repo, "init", "--remote", "origin")
        assert "git config  remote.origin.push refs/gml/ledger*:refs/gml/ledger*" in said
        assert "git config" not in gml(repo, "init", "--remote", "origin")
    log(ada, "a1")
    ada.git("push", "-q", "-u", "origin", "HEAD")
    ada.git("push", "-q")
    assert value(bare) == ada.git("rev-parse", LEDGER)
    assert value(bare, "refs/heads/main") == ada.git("rev-parse", "HEAD")
    bob.git("fetch", "-q")
    assert bob.git("rev-parse", "refs/gml/remotes/origin/ledger") == value(bare)
    assert bob.git("rev-parse", "refs/remotes/origin/main") == value(bare, "refs/heads/main")
    assert "pulled  1 run" in gml(bob, "pull", "--local")
    assert names(bob) == ["a1"]


def test_a_host_that_takes_only_branches(clones, bare):
    subprocess.run(["git", "-C", str(bare), "config", "--add", "receive.hideRefs", "refs/gml"], check=True)
    ada, bob = clones("ada", "bob")
    log(ada, "a1")
    said = gml(ada, "push", code=12)
    assert "git config gml.remote.origin.namespace heads/gml" in said
    for repo in (ada, bob):
        repo.git("config", "gml.remote.origin.namespace", "heads/gml")
    gml(ada, "push")
    assert value(bare, "refs/heads/gml/ledger") == ada.git("rev-parse", LEDGER)
    exchange(bob, pull)
    assert names(bob) == ["a1"]


def test_a_hook_that_refuses_is_quoted_and_changes_nothing(clones, bare):
    (ada,) = clones("ada")
    log(ada, "a1")
    hook = bare / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho 'not on a Friday' >&2\nexit 1\n")
    hook.chmod(0o755)
    assert "not on a Friday" in gml(ada, "push", code=12)
    hook.unlink()
    assert "1 run" in gml(ada, "push")


def test_the_client_hooks_of_the_user_run(clones, bare):
    (ada,) = clones("ada")
    log(ada, "a1")
    hook = ada.path / ".git/hooks/pre-push"
    hook.write_text("#!/bin/sh\ncat > pushed.txt\nexit 1\n")
    hook.chmod(0o755)
    assert gml(ada, "push", code=12)
    assert "refs/gml/ledger" in (ada.path / "pushed.txt").read_text()
    assert value(bare) == ""


def test_remotes_are_named_or_found(make_repo, bare):
    repo = make_repo()
    with pytest.raises(UsageError, match="no remote"):
        open_remote(repo.workspace())
    repo.git("remote", "add", "backup", str(bare))
    assert open_remote(repo.workspace()).name == "backup"
    repo.git("remote", "add", "mirror", str(bare))
    with pytest.raises(UsageError, match="several remotes"):
        open_remote(repo.workspace())
    assert open_remote(repo.workspace(), "mirror").name == "mirror"
    assert open_remote(repo.workspace(GML_REMOTE="backup")).name == "backup"
    with pytest.raises(NotFoundError, match="no remote 'nope'"):
        open_remote(repo.workspace(), "nope")
    assert cli.run(["-C", str(repo.path), "push", "nope"]) == 4


def test_a_remote_that_is_gone(clones, bare):
    (ada,) = clones("ada")
    log(ada, "a1")
    ada.git("remote", "set-url", "origin", str(bare) + "-gone")
    assert "there is no repository" in gml(ada, "push", code=12)
    assert names(ada) == ["a1"]


def test_registry_and_tags_travel_and_diverged_ones_are_kept_apart(clones, bare):
    ada, bob = clones("ada", "bob")
    registry = "refs/heads/gml/registry"
    for repo, text in ((ada, "one"), (bob, "two")):
        blob = repo.git("hash-object", "-w", "--stdin", data=text)
        tree = repo.git("mktree", data=f"100644 blob {blob}\tmodel.json\n")
        commit = repo.git("commit-tree", tree, "-m", text)
        repo.git("update-ref", registry, commit)
        repo.git("tag", "-a", "-m", "v1", "gml/churn/v1", commit)
    assert "1 registry commit, 1 tag" in gml(ada, "push")
    mine = bob.git("rev-parse", registry)
    said = gml(bob, "push", code=6)
    assert "registry here and on origin have both moved on" in said
    assert "tag gml/churn/v1" in said
    assert bob.git("rev-parse", registry) == mine
    theirs = ada.git("rev-parse", registry)
    assert bob.git("rev-parse", f"refs/gml/conflicts/origin/registry-{theirs[:12]}") == theirs
    assert value(bare, registry) == theirs
    (eve,) = clones("eve")
    gml(eve, "pull")
    assert eve.git("rev-parse", registry) == theirs
    assert eve.git("rev-parse", "refs/tags/gml/churn/v1") == ada.git("rev-parse", "refs/tags/gml/churn/v1")


def test_lock_files_of_a_killed_exchange_are_no_obstacle(clones, bare):
    ada, bob = clones("ada", "bob")
    log(ada, "a1")
    exchange(ada)
    log(ada, "a2")
    (ada.path / ".git/refs/gml/remotes/origin/ledger.lock").touch()
    assert exchange(ada).pushed.runs == 1
    exchange(bob, pull)
    log(ada, "a3")
    exchange(ada)
    (bob.path / ".git/refs/gml/remotes/origin/ledger.lock").touch()
    (bob.path / ".git/refs/gml/ledger.lock").touch()
    assert exchange(bob, pull).pulled.runs == 1


def test_a_lock_that_was_left_on_the_remote_is_named_and_runs_get_there_by_the_inbox(clones, bare):
    ada, bob = clones("ada", "bob")
    log(ada, "a1")
    exchange(ada)
    log(ada, "a2")
    lock = bare / "refs/gml/ledger.lock"
    lock.touch()
    report = exchange(ada, pause=lambda _: None)
    assert report.inbox
    assert "delete refs/gml/ledger.lock" in report.notes[0]
    exchange(bob, pull)
    assert names(bob) == ["a1", "a2"]
    lock.unlink()
    exchange(ada)
    assert value(bare) == ada.git("rev-parse", LEDGER)
