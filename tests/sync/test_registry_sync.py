"""The registry between clones: numbers that are taken, changes that fit, and those that people decide."""

from __future__ import annotations

import json
import subprocess

import pytest
from inside import gml
from test_push_pull import value

REGISTRY = "refs/heads/gml/registry"
RUN = """
import gml, sys
with gml.start_run(run_name=sys.argv[1]) as run:
    gml.log_text(sys.argv[1], "model/weights.txt")
"""


def run(repo, name: str) -> None:
    repo.python(RUN, name, GML_CODE="none")


def register(repo, name: str) -> None:
    """Train and register in one process: the next version of churn."""
    repo.python(
        RUN
        + """
from gml.registry.branch import Registry
from gml.registry.register import register
from gml.workspace import Workspace
register(Registry(Workspace.open()), "churn", run.run_id, "model", "of " + sys.argv[1])
""",
        name,
        GML_CODE="none",
    )


def versions(repo) -> dict[int, str]:
    found = json.loads(gml(repo, "registry", "show", "churn", "--json"))["versions"]
    return {one["version"]: one["description"] for one in found}


@pytest.fixture
def pair(make_repo, make_bare):
    """Return two clones that share version 1 of a model, and their remote."""
    bare = make_bare()
    made = []
    for name in ("ada", "bob"):
        repo = make_repo(name)
        repo.git("remote", "add", "origin", str(bare))
        repo.git("config", "user.name", name.title())
        repo.git("config", "user.email", f"{name}@example.org")
        made.append(repo)
    register(made[0], "first")
    gml(made[0], "push")
    gml(made[1], "pull")
    return *made, bare


def test_two_people_who_register_the_same_number_at_once(pair):
    ada, bob, bare = pair
    register(ada, "ada")
    run(bob, "bob")
    said = gml(bob, "registry", "register", "churn", "--path", "model", "-d", "of bob")
    assert "v2" in said
    gml(bob, "registry", "alias", "churn", "best", "2")
    gml(bob, "registry", "promote", "churn", "2", "--to", "Staging")
    gml(ada, "push")
    said = gml(bob, "push")
    assert "churn v2 is v3 now: origin has another v2" in said
    gml(ada, "pull")
    for repo in (ada, bob):
        assert versions(repo) == {1: "of first", 2: "of ada", 3: "of bob"}
        model = json.loads(gml(repo, "registry", "show", "churn", "--json"))
        assert model["aliases"] == {"best": 3}
        assert {name: held["version"] for name, held in model["stages"].items()} == {"Staging": 3}
        for number, who in ((2, "Ada"), (3, "Bob")):
            tagged = repo.git("log", "-1", "--format=%an %s", f"gml/churn/v{number}")
            assert tagged == f"{who} churn: register v{number}"
    assert ada.git("rev-parse", REGISTRY) == bob.git("rev-parse", REGISTRY) == value(bare, REGISTRY)
    assert value(bare, "refs/tags/gml/churn/v2") == ada.git("rev-parse", "refs/tags/gml/churn/v2")
    assert value(bare, "refs/tags/gml/churn/v3") == bob.git("rev-parse", "refs/tags/gml/churn/v3")


def test_a_stage_that_both_changed_is_shown_with_both_sides_and_nothing_is_dropped(pair):
    ada, bob, bare = pair
    register(ada, "ada")
    register(ada, "more")
    gml(ada, "registry", "promote", "churn", "2", "--to", "Production")
    gml(bob, "registry", "promote", "churn", "1", "--to", "Production")
    gml(ada, "push")
    mine, theirs = bob.git("rev-parse", REGISTRY), value(bare, REGISTRY)
    said = gml(bob, "push", code=6)
    assert "Production of churn was changed twice: here v1 by bob@example.org at " in said
    assert "on origin v2 by ada@example.org at " in said
    kept = f"refs/gml/conflicts/origin/registry-{theirs[:12]}"
    assert bob.git("rev-parse", REGISTRY, kept).split() == [mine, theirs]
    assert value(bare, REGISTRY) == theirs
    tag = "refs/tags/gml/churn/Production/1"
    assert value(bare, tag) == ada.git("rev-parse", tag) != bob.git("rev-parse", tag)
    # as the line says: theirs is taken, and what is still wanted is made again
    bob.git("branch", "-f", "gml/registry", kept)
    bob.git("tag", "-d", "gml/churn/Production/1")
    gml(bob, "registry", "promote", "churn", "1", "--to", "Production")
    gml(bob, "push")
    gml(ada, "pull")
    told = json.loads(gml(ada, "registry", "show", "churn", "--json"))
    assert told["stages"]["Production"]["version"] == 1


def test_proposals_and_votes_travel_and_what_was_merged_does_not_come_back(pair):
    ada, bob, bare = pair
    tip = ada.git("rev-parse", REGISTRY)
    tree = ada.git("rev-parse", f"{tip}^{{tree}}")
    proposal = "refs/heads/gml/propose/churn-1-production-1"
    one = ada.git("commit-tree", tree, "-p", tip, "-m", "propose")
    ada.git("update-ref", proposal, one)
    assert "1 proposal" in gml(ada, "push")
    assert value(bare, proposal) == one
    gml(bob, "pull")
    vote = bob.git("commit-tree", tree, "-p", one, "-m", "approve")
    bob.git("update-ref", proposal, vote)
    assert "1 proposal" in gml(bob, "push")
    gml(ada, "pull")
    assert ada.git("rev-parse", "refs/remotes/origin/gml/propose/churn-1-production-1") == vote
    assert "nothing new" in gml(ada, "push")
    other = ada.git("commit-tree", tree, "-p", one, "-m", "approve as well")
    ada.git("update-ref", proposal, other)
    assert "gml/propose/churn-1-production-1 has another commit on origin" in gml(ada, "push", code=6)
    assert value(bare, proposal) == vote
    # merged, and its branch removed by the forge
    subprocess.run(["git", "-C", str(bare), "update-ref", REGISTRY, vote], check=True)
    subprocess.run(["git", "-C", str(bare), "update-ref", "-d", proposal], check=True)
    gml(bob, "sync")
    assert value(bare, proposal) == ""
