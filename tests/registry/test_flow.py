"""Two people and a consumer: register, promote, approve, merge, tag, verify, in clones of one server."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
from registry_lab import BRANCH, KEYS
from team import Team, install_hooks

from support import Repo

TRAIN = """
import sys, gml
with gml.start_run(run_name="forest"):
    gml.log_param("depth", sys.argv[1])
    gml.log_metric("auc", float(sys.argv[1]) / 10)
    gml.log_text('{"weights": [%s]}' % sys.argv[1], "model/weights.json")
"""
SPACES = ("refs/gml/ledger", BRANCH, "refs/tags/gml/*:refs/tags/gml/*")


def train(member, depth: int) -> None:
    member.repo.python(TRAIN, depth)


def protect(member, *more: str):
    people = [f"--person={name}={KEYS[name].public}" for name in ("alice", "bob", "carol")]
    return member.gml(
        "registry", "protect", "Production", "--approvers", "alice,bob,carol", "--threshold", 2, *people,
        "--from", "Staging", "--check", "metrics.auc >= champion.metrics.auc - 0.005", "--formats", "data", *more,
    )  # fmt: skip


PROPOSAL = "refs/heads/gml/propose/churn-2-production-2"


@pytest.fixture(scope="session")
def proposal(tmp_path_factory, started):
    """The server and the clone of alice, who proposed v2 for Production over v1: made once, to be copied."""
    top = tmp_path_factory.mktemp("proposal")
    server = top / "server.git"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(top))
        patch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(server)], check=True)
        install_hooks(server)

        def make_repo(name, commit=True):
            shutil.copytree(started, top / name)
            return Repo(top / name)

        alice = Team(top, make_repo, str(server), server, {}).member("alice")
        train(alice, 8)
        train(alice, 9)
        alice.gml("registry", "register", "churn", "--run", "@~1", "--path", "model")
        alice.gml("registry", "promote", "churn", "v1", "--to", "Production")
        protect(alice)
        alice.gml("registry", "register", "churn", "--path", "model")
        alice.gml("registry", "promote", "churn", 2, "--to", "Staging")
        done = alice.gml("registry", "promote", "churn", 2, "--to", "Production", "-m", "better", "--json")
        assert done.json["branch"] == PROPOSAL
        alice.git("push", "-q", "origin", *SPACES, PROPOSAL)
    return server, alice.repo.path


@pytest.fixture
def proposed(make_team, proposal):
    """Return a function that gives a team, and alice in it who proposed v2 for Production over v1."""

    def make(how: str = "file"):
        server, clone = proposal
        team = make_team(how, server)
        return team, team.member("alice", clone=clone), PROPOSAL

    return make


def approve(team, member, *names: str) -> None:
    """Let people approve in somebody's clone, each in a commit of their own."""
    for name in names:
        who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER")
               for what, value in (("NAME", name), ("EMAIL", f"{name}@example.org"))}  # fmt: skip
        member.gml("registry", "approve", "churn", 2, "--to", "Production", "--key", team.key(name), **who)


@pytest.mark.heavy  # test_demo.py plays the same, with fewer looks at it
def test_two_people_and_a_consumer(proposed):
    team, alice, branch = proposed()
    assert "1 of 2" not in alice.gml("registry", "pending").out
    assert (
        "asked for this change"
        in alice.gml("registry", "approve", "churn", 2, "--to", "Production", code=13).err
    )
    bob, carol, dave = team.member("bob"), team.member("carol"), team.member("dave", key="mallory")
    bob.fetch()
    assert "1 of 2" in bob.gml("registry", "approve", "churn", 2, "--to", "Production", "-m", "checked").out
    assert "0 of" not in bob.gml("registry", "pending").out
    bob.git("push", "-q", "origin", branch)
    assert "1 of 2" in bob.gml("registry", "merge", "churn", 2, "--to", "Production", code=13).err
    carol.fetch()
    carol.gml("registry", "approve", "churn", 2, "--to", "Production")
    (row,) = carol.gml("registry", "pending", "--json").json
    assert (row["ready"], row["approvers"]) == (True, ["bob", "carol"])
    carol.gml("registry", "merge", "churn", 2, "--to", "Production")
    said = subprocess.run(
        ["git", "push", "origin", BRANCH], cwd=carol.repo.path, env=carol.repo.env(), capture_output=True, text=True,
        check=True,
    ).stderr  # fmt: skip
    assert "tagged gml/churn/Production/2" in said
    dave.fetch()
    proof = dave.gml("registry", "verify", "churn", "Production", "--json")
    assert "on first use" in proof.err
    links = [(each["what"], each["value"]) for each in proof.json["proof"]]
    assert ("requested", "alice") in links
    assert ("approved", "bob") in links
    assert ("approved", "carol") in links
    assert dict(links)["stage"] == "churn Production holds v2 (turn 2)"
    assert dict(links)["digest"].endswith("that of the run's files")
    again = dave.gml("registry", "verify", "--json")
    assert again.json["judged"] == 0
    assert again.err == ""
    blame = dave.gml("registry", "blame", "churn", "Production", "--json").json
    assert (blame["requester"], blame["approvers"], blame["before"]) == ("alice", ["bob", "carol"], 1)
    rows = dave.gml("registry", "audit", "--json").json
    assert [row["flags"] for row in rows if row["kind"] == "stage"] == [["before the policy"], [], []]
    # v1 was there before the policy, so it has to meet it like any other
    assert "not in Staging" in carol.gml("registry", "revert", "churn", "Production", code=13).err
    carol.gml("registry", "promote", "churn", 1, "--to", "Staging")
    assert "metrics.auc is 0.8" in carol.gml("registry", "revert", "churn", "Production", code=13).err


@pytest.mark.parametrize("how", ["ssh", "http"])
def test_pushes_over_a_server_are_judged(proposed, how):
    team, alice, branch = proposed(how)
    tip = alice.git("rev-parse", f"{branch}^{{commit}}")
    child = subprocess.run(
        ["git", "push", "origin", f"{tip}:{BRANCH}"], cwd=alice.repo.path, env=alice.repo.env(), capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert child.returncode != 0
    assert "0 of 2 approvals" in child.stderr
    approve(team, alice, "bob", "carol")
    alice.gml("registry", "merge", "churn", 2, "--to", "Production")
    alice.git("push", "-q", "origin", BRANCH)
    assert alice.git("ls-remote", "origin", BRANCH).startswith(alice.git("rev-parse", BRANCH))


def _merged_by_a_forge(proposed, how):
    """Approve on the branch, merge as a forge would, and let somebody verify who trusts nobody."""
    team, alice, branch = proposed()
    approve(team, alice, "bob", "carol")
    alice.gml("registry", "describe", "churn", "who leaves")
    alice.git("push", "-q", "origin", BRANCH, branch)
    work = team.member("forge")
    work.fetch()
    work.git("checkout", "-q", "-b", "gml/registry", "origin/gml/registry")
    short = branch.removeprefix("refs/heads/")
    if how == "merge":
        work.git("merge", "-q", "--no-ff", f"origin/{short}")
    elif how == "squash":
        work.git("merge", "-q", "--squash", f"origin/{short}")
        work.git("commit", "-q", "--author", "alice <alice@example.org>", "-m", "squashed (#7)")
    else:
        work.git("checkout", "-q", "-b", "rebased", f"origin/{short}")
        work.git("rebase", "-q", "gml/registry")
        work.git("checkout", "-q", "gml/registry")
        work.git("merge", "-q", "--ff-only", "rebased")
    work.git("push", "-q", "origin", "gml/registry")
    return team


@pytest.mark.parametrize("how", ["merge", "squash", "rebase"])
def test_however_a_forge_merges_it_verifies(proposed, how):
    team = _merged_by_a_forge(proposed, how)
    reader = team.member("dave")
    reader.fetch()
    assert reader.gml("registry", "verify", "churn", "Production", "--json").json["ok"]
    tags = reader.git("tag").split()
    assert "gml/churn/Production/2" in tags
    assert reader.gml("registry", "tags").out == ""


def test_the_check_of_a_pull_request(proposed, tmp_path):
    team, alice, branch = proposed()
    refused = alice.gml("registry", "check", BRANCH, branch, "--markdown", code=13)
    assert "**not yet**" in refused.out
    assert "| auc | 0.8 | 0.9 | +0.1 |" in refused.out
    assert "0 of 2 approvals" in refused.err
    alice.gml(
        "registry",
        "approve",
        "churn",
        2,
        "--to",
        "Production",
        "--key",
        team.key("bob"),
        "-m",
        "@all [x](y)",
    )
    approve(team, alice, "carol")
    report = alice.gml("registry", "check", BRANCH, branch, "--markdown")
    assert "Approvals: 2 of 2" in report.out
    assert "| holds |" in report.out
    assert "\\@all \\[x\\](y)" in report.out
    # after other changes the merge is judged, not the branch alone
    alice.gml("registry", "describe", "churn", "who leaves")
    assert alice.gml("registry", "check", BRANCH, branch, "--json").json["ok"]
    alice.gml("registry", "promote", "churn", 1, "--to", "Staging")
    assert "not in Staging" in alice.gml("registry", "check", BRANCH, branch, code=13).err


def test_who_comes_back_to_another_history_is_warned(proposed):
    team, alice, _ = proposed()
    reader = team.member("dave")
    reader.fetch()
    old = alice.git("rev-parse", f"{BRANCH}~1")
    reader.gml("registry", "verify")
    assert len(reader.gml("trust", "show", "--json").json["policy"]) == 64
    reader.git("update-ref", "refs/remotes/origin/gml/registry", old)
    assert "rolled back or forked" in reader.gml("registry", "verify", code=13).err
    mallory = team.member("mallory")
    train(mallory, 5)
    mallory.gml("registry", "register", "churn", "--path", "model")
    protect(mallory)
    reader.git("fetch", "-q", str(mallory.repo.path), f"+{BRANCH}:refs/remotes/origin/gml/registry")
    assert "trusted is" in reader.gml("registry", "verify", code=13).err


def test_a_pinned_policy_is_the_only_one(proposed):
    _, alice, _ = proposed()
    alice.gml("trust", "pin", "f" * 64)
    assert "trusted is ffff" in alice.gml("registry", "verify", code=13).err
    assert "64 lower-case" in alice.gml("trust", "pin", "F" * 64, code=7).err


def test_the_policy_changes_by_its_admins(proposed, tmp_path):
    team, alice, _ = proposed()
    text = alice.gml("registry", "policy", "show").out.replace(
        "threshold: 2\n    from", "threshold: 1\n    from"
    )
    file = tmp_path / "next.yaml"
    file.write_text(text)
    assert (
        "the admins of the present policy must approve"
        in alice.gml("registry", "policy", "propose", file).out
    )
    assert "1 of 2 approvals by admins" in alice.gml("registry", "merge", "--policy", code=13).err
    assert (
        "said this already" not in alice.gml("registry", "approve", "--policy", "--key", team.key("bob")).out
    )
    alice.gml("registry", "merge", "--policy")
    policy = alice.gml("registry", "policy", "show", "--json").json
    assert (policy["version"], policy["stages"]["Production"]["threshold"]) == (2, 1)
    alice.git("push", "-q", "origin", BRANCH)
    # approvals for the old policy do not count under the new one
    gone = alice.gml(
        "registry", "approve", "churn", 2, "--to", "Production", "--key", team.key("bob"), code=13
    )
    assert "another policy" in gone.err


def test_a_consumer_without_the_runs_is_told(proposed):
    team, alice, _ = proposed()
    approve(team, alice, "bob", "carol")
    alice.gml("registry", "merge", "churn", 2, "--to", "Production")
    alice.git("push", "-q", "origin", BRANCH)
    reader = team.member("dave")
    reader.git("fetch", "-q", "origin", "+refs/heads/*:refs/remotes/origin/*")
    assert "the run is not in the ledger here" in reader.gml("registry", "verify", code=13).err


def test_json_of_the_commands(proposed):
    _, alice, _ = proposed()
    (model,) = alice.gml("registry", "ls", "--json").json
    assert model["stages"] == {"Production": 1, "Staging": 2}
    shown = alice.gml("registry", "show", "churn", "v2", "--json").json
    assert (shown["creator"], shown["signed"], shown["format"]) == ("alice", True, "data")
    events = alice.gml("registry", "history", "churn", "--json").json
    assert [e["what"] for e in events] == ["stage", "register", "stage", "register"]
    assert json.dumps(alice.gml("registry", "at", "now", "--json").json)
