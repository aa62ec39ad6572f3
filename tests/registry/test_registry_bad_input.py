"""What goes wrong among people: two who change one stage, clocks, queues, slips of the pen. The rest is in the attacks."""

from __future__ import annotations

import os
import subprocess

import pytest
from registry_lab import BRANCH, NOW, Lab
from team import write_key
from test_attacks import MemoryStore
from test_registry_watch import Followed

from gml.domain.errors import ConflictError, NotFoundError, PolicyError
from gml.git.discover import open_store
from gml.policy import names
from gml.policy.errors import RefusedError
from gml.policy.rules import read_policy
from gml.registry.branch import Registry
from gml.registry.check import check
from gml.registry.gate import Gate, Update
from gml.registry.proposals import Proposal
from gml.registry.protect import protect
from gml.registry.stages import promote, vote
from gml.workspace import Workspace


@pytest.fixture
def scene(tmp_path):
    made = Followed(tmp_path / "clone", dict(os.environ))
    subprocess.run(
        ["git", "-C", str(made.path), "config", "gml.signingKey", str(write_key(tmp_path, "alice"))],
        check=True,
    )
    yield made
    subprocess.run(["git", "-C", str(made.path), "fsck", "--strict"], check=True, capture_output=True)


def opened(scene) -> Registry:
    return Registry(Workspace.open(scene.path))


def propose(scene, name: str, files) -> Proposal:
    """Return a proposal branch of one commit on the present tip."""
    tip = scene.lab.commit(scene.tip, files)
    store = open_store(scene.path, environ=scene.environ)
    store.write_pack(list(scene.lab.objects.values()))
    store.update_ref(f"refs/heads/gml/propose/{name}", tip, expected=None, message="test")
    return Proposal(opened(scene), name, tip)


def test_two_change_the_same_stage(scene):
    first = propose(scene, "first", scene.lab.change(scene.tip, 2))
    second = propose(scene, "second", scene.lab.change(scene.tip, None))
    first.merge()
    with pytest.raises(
        ConflictError, match=r"Production\.json was changed .* since this was proposed.*propose it again"
    ):
        Proposal(opened(scene), "second", second.tip).merge()
    report = check(opened(scene), BRANCH, second.tip)
    assert isinstance(report.problem, ConflictError)
    assert "not yet" in report.page
    # proposed again on top, with approvals of its own, it is fine
    scene.tip = opened(scene).tip()
    again = propose(scene, "again", scene.lab.change(scene.tip, None))
    again.merge()
    assert opened(scene).view().stage("churn", "Production").version is None


def test_two_change_different_stages(scene):
    first = propose(scene, "first", scene.lab.change(scene.tip, 2))
    second = propose(scene, "second", scene.lab.change(scene.tip, 3, "Staging", approvers=()))
    first.merge()
    Proposal(opened(scene), "second", second.tip).merge()
    view = opened(scene).view()
    assert (view.stage("churn", "Production").version, view.stage("churn", "Staging").version) == (2, 3)


def test_a_merge_queue(scene):
    """Several pull requests merged one upon another on a branch of the queue, which then becomes the branch."""
    lab, tip = scene.lab, scene.tip
    production = lab.commit(tip, lab.change(tip, 2))
    version = lab.commit(tip, {names.version_path("churn", 4): lab.version(4)})
    shadow = lab.commit(tip, lab.change(tip, 1, "Shadow", by="bob", approvers=()))
    queue = lab.merge(lab.merge(lab.merge(tip, production), version), shadow)
    gate = Gate(MemoryStore(lab, {BRANCH: tip}), now=NOW)
    gate.judge([Update(BRANCH, tip, queue)])
    assert [done.kind for done in gate.accepted] == ["stage", "version", "stage"]
    bad = lab.merge(lab.merge(tip, version), lab.commit(tip, lab.change(tip, 2, approvers=("bob",))))
    with pytest.raises(RefusedError, match="1 of 2"):
        Gate(MemoryStore(lab, {BRANCH: tip}), now=NOW).judge([Update(BRANCH, tip, bad)])


def test_an_approver_whose_clock_is_years_behind(scene, monkeypatch):
    """Told at once: the change that they approve is from their future."""
    registry = opened(scene)
    promote(registry, "churn", 2, "Production")
    bob = str(write_key(scene.path.parent, "bob"))
    for module in ("stages", "branch"):
        monkeypatch.setattr(f"gml.registry.{module}.time.time", lambda: NOW - 10 * 365 * 86_400)
    with pytest.raises(RefusedError, match="dated in the future; set your clock"):
        vote(registry, "churn", 2, "Production", key=bob)
    monkeypatch.undo()
    vote(registry, "churn", 2, "Production", key=bob)


def test_an_approver_whose_clock_is_ahead(scene):
    """The commit is refused until then; nothing that was dated ahead can expire others' keys."""
    lab, tip = scene.lab, scene.tip
    ahead = lab.commit(tip, lab.change(tip, 2), time=NOW + 10 * 365 * 86_400)
    with pytest.raises(RefusedError, match="dated in the future; set your clock"):
        Gate(MemoryStore(lab, {BRANCH: tip}), now=NOW).judge([Update(BRANCH, tip, ahead)])


def test_slips_in_a_policy_are_named(scene):
    registry = opened(scene)
    with pytest.raises(PolicyError, match=r"names 'carl'.*did you mean 'carol'"):
        protect(registry, "Production", approvers=("alice", "carl"), threshold=2)
    with pytest.raises(PolicyError, match="asks for 4 approvals and names 3 approvers"):
        protect(registry, "Production", approvers=("alice", "bob", "carol"), threshold=4)
    with pytest.raises(PolicyError, match=r"no stage 'Prodution'.*did you mean 'Production'"):
        promote(registry, "churn", 2, "Prodution")
    with pytest.raises(NotFoundError, match=r"no model 'chrun'.*did you mean 'churn'"):
        promote(registry, "chrun", 2, "Production")
    with pytest.raises(NotFoundError, match=r"no version 9; the newest is v3"):
        promote(registry, "churn", 9, "Production")


def test_a_key_that_the_policy_does_not_know(scene):
    mallory = str(write_key(scene.path.parent, "mallory"))
    with pytest.raises(PolicyError, match=r"does not know your key SHA256"):
        promote(opened(scene), "churn", 2, "Production", key=mallory)


def test_a_repository_without_a_policy(repo):
    lab = Lab()
    tip = lab.commit(
        None, {"format": b"gml-registry 1\n", names.version_path("churn", 1): lab.version(1, key=None)}
    )
    store = open_store(repo.path, environ=repo.env())
    store.write_pack(list(lab.objects.values()))
    store.update_ref(BRANCH, tip, expected=None, message="test")
    registry = Registry(repo.workspace())
    assert promote(registry, "churn", 1, "Production").change.policy is None
    with pytest.raises(NotFoundError):
        vote(registry, "churn", None, "Production")
    with pytest.raises(PolicyError, match="there is no policy"):
        vote(_with_proposal(repo), "churn", None, "Production")


def _with_proposal(repo) -> Registry:
    registry = Registry(repo.workspace())
    registry.store.update_ref(
        f"{registry.proposals}churn-none-production-2", registry.tip(), expected=None, message="test"
    )
    return registry


def test_the_policy_of_the_lab_is_one():
    assert read_policy(Lab().policy_bytes).admin_threshold == 2
