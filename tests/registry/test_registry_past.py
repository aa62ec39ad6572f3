"""The past of a stage: a change counts from the commit that completed it, also when it was proposed long before."""

from __future__ import annotations

import os

import pytest
from registry_lab import BRANCH
from test_registry_watch import Followed, git

from gml.domain.errors import NotFoundError
from gml.policy import names
from gml.registry.audit import last_change
from gml.registry.branch import Registry
from gml.registry.history import stage_changes, view_at
from gml.registry.resolve import resolve
from gml.registry.verify import verify
from gml.workspace import Workspace

DAY = 86_400


@pytest.fixture
def scene(tmp_path):
    made = Followed(tmp_path / "clone", dict(os.environ))
    yield made
    git("-C", str(made.path), "fsck", "--strict")


def opened(scene) -> Registry:
    return Registry(Workspace.open(scene.path))


def test_a_change_counts_from_its_last_approval(scene):
    lab, start = scene.lab, scene.lab.clock
    record = lab.stage(scene.tip, 2)
    asked = lab.commit(scene.tip, lab.change(scene.tip, 2, approvers=()), time=start + DAY // 10)
    first = lab.commit(asked, lab.statement(record, "bob"), who="bob", time=start + 2 * DAY // 10)
    scene.tip = lab.commit(first, lab.statement(record, "carol"), who="carol", time=start + 3 * DAY // 10)
    scene.publish()
    registry = opened(scene)
    assert verify(registry).accepted[-1].commits == (asked, first, scene.tip)
    changes = list(stage_changes(registry, registry.view(), "churn", "Production"))
    assert (changes[0].record.version, changes[0].commit) == (2, scene.tip)
    assert changes[0].time == start + 3 * DAY // 10
    for tenths, version in ((1, 1), (2, 1), (2.9, 1), (3, 2), (5, 2)):
        when = int(start + tenths * DAY / 10)
        assert view_at(registry, when).stage("churn", "Production").version == version, tenths
        assert resolve(registry, "models:/churn/Production", at=when).version.version == version
    assert last_change(registry, registry.view(), "churn", "Production")["commit"] == scene.tip
    assert scene.turns() == [(2, 2, 1)]


def test_a_policy_counts_from_its_last_approval(scene):
    lab, start = scene.lab, scene.lab.clock
    text = lab.next_policy(writers="[alice]")
    asked = lab.commit(
        scene.tip, {"policy.yaml": text} | lab.policy_statement(text, "alice"), time=start + 1_000
    )
    scene.tip = lab.commit(asked, lab.policy_statement(text, "bob"), who="bob", time=start + 2_000)
    scene.publish()
    registry = opened(scene)
    assert view_at(registry, start + 1_500).policy.version == 1
    assert view_at(registry, start + 2_000).policy.version == 2


def test_before_there_was_anything(scene):
    with pytest.raises(NotFoundError):
        view_at(opened(scene), 1_000)
    registry = opened(scene)
    assert list(stage_changes(registry, registry.view(), "churn", "Nowhere")) == []
    first = git("-C", str(scene.path), "rev-list", "--reverse", BRANCH).split()[0]
    at = registry.chain.commit(first).time
    assert view_at(registry, at).read(names.version_path("churn", 1)) is None
