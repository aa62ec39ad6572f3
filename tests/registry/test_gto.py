"""`gml import gto`: tags that gto 1.10.1 made (gto_tags.export), and some that it would not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from registry_lab import KEYS
from team import write_key

from gml.domain.errors import NotFoundError, PolicyError
from gml.registry.audit import audit
from gml.registry.branch import Registry
from gml.registry.gto import import_gto, parse_name, read_events
from gml.registry.history import stage_changes
from gml.registry.protect import protect
from gml.registry.verify import verify

EXPORT = Path(__file__).with_name("gto_tags.export")


@pytest.fixture
def tagged(repo):
    """A repository as GTO left it."""
    subprocess.run(
        ["git", "-C", str(repo.path), "fast-import", "--quiet", "--force"], input=EXPORT.read_bytes(), check=True,
        env=repo.env(),
    )  # fmt: skip
    return repo


def registry(repo) -> Registry:
    return Registry(repo.workspace())


def held(repo, model, stage):
    here = registry(repo)
    changes = list(stage_changes(here, here.view(), model, stage))
    return [change.record.version for change in reversed(changes)]


def test_versions_and_stages_come_in(tagged):
    report = import_gto(registry(tagged), stages={"prod": "Production"})
    assert (report.versions, report.changes) == (4, 4)
    assert report.notes == ["model 'folder:model/x' is called 'folder-model-x' here"]
    assert held(tagged, "churn", "Production") == [1, 2]
    assert held(tagged, "churn", "staging") == [2, None]
    view = registry(tagged).view()
    first, second = view.version("churn", 1), view.version("churn", 2)
    assert (first.path, first.files, first.size, first.format_class) == ("models/churn.json", 1, 9, "data")
    assert first.digest != second.digest
    assert first.imported["tag"] == "churn@v0.0.1"
    assert first.imported["date"] == "2026-11-25T09:55:09+00:00"
    assert first.imported["tagger"] == "a <a@b>"
    assert view.model("churn").versions["2"].tags == {"gto.version": "v0.1.0"}
    assert view.model("other").versions["1"].status == "archived"
    assert view.model("other").tags == {"gto.deprecated": "true"}
    assert verify(registry(tagged)).steps > 5
    flags = [row["flags"] for row in audit(registry(tagged)) if row["kind"] == "stage"]
    assert flags == [["before the policy", "imported from gto, not verified"]] * 4


def test_the_same_again_takes_in_what_is_new(tagged):
    import_gto(registry(tagged))
    tip = tagged.git("rev-parse", "gml/registry")
    again = import_gto(registry(tagged))
    assert (again.versions, again.changes) == (0, 0)
    assert tagged.git("rev-parse", "gml/registry") == tip
    head = tagged.git("rev-parse", "churn@v0.0.1^{commit}")
    tagged.git("tag", "-a", "-m", "x", "churn#prod#5", head)
    assert import_gto(registry(tagged)).changes == 1
    assert held(tagged, "churn", "prod") == [1, 2, 1]


def test_counters_decide_not_dates(tagged):
    for name, when, number in (("churn@v0.0.1", "2030-01-01", 7), ("churn@v0.1.0", "2020-01-01", 8)):
        subprocess.run(
            ["git", "tag", "-a", "-m", "x", f"churn#qa#{number}", f"{name}^{{commit}}"], cwd=tagged.path, check=True,
            env=tagged.env(GIT_COMMITTER_DATE=f"{when}T00:00:00Z", GIT_COMMITTER_NAME="a", GIT_COMMITTER_EMAIL="a@b"),
        )  # fmt: skip
    import_gto(registry(tagged))
    assert held(tagged, "churn", "qa") == [1, 2]


def test_tags_of_others_are_left_alone(tagged):
    events = {event.tag for event in read_events(registry(tagged))}
    tagged.git("tag", "v1.0")
    tagged.git("tag", "churn@1.0")
    tagged.git("tag", "lonely#prod#9")
    assert {event.tag for event in read_events(registry(tagged))} - events == {"lonely#prod#9"}
    report = import_gto(registry(tagged))
    assert "lonely#prod#9 is on a commit without a version and was left out" in report.notes


@pytest.mark.parametrize(
    ("tag", "model", "stage", "version"),
    [
        ("churn@v1.2.3", "churn", None, "v1.2.3"),
        ("churn@v1.2.3-rc.1+b.2#4", "churn", None, "v1.2.3-rc.1+b.2"),
        ("churn#prod", "churn", "prod", None),
        ("churn#prod!#12", "churn", "prod", None),
        ("a/b=c#prod#1", "a/b=c", "prod", None),
    ],
)
def test_names_of_tags(tag, model, stage, version):
    match = parse_name(tag)
    assert (match["model"], match["stage"], match["version"]) == (model, stage, version)


@pytest.mark.parametrize(
    "tag", ["gml/churn/v1", "v1.2.3", "churn@1.2.3", "churn@v01.2.3", "churn@", "#prod#1", "a=b=c@v1.0.0"]
)
def test_names_of_other_tags(tag):
    assert parse_name(tag) is None


def test_a_repository_without_tags(repo):
    with pytest.raises(NotFoundError, match="no tags of GTO"):
        import_gto(registry(repo))


def test_a_policy_lets_no_foreign_promotion_in(tagged, tmp_path):
    tagged.git("config", "gml.signingKey", str(write_key(tmp_path, "alice")))
    people = {name: [str(KEYS[name].public)] for name in ("alice", "bob")}
    protect(registry(tagged), "prod", approvers=("alice", "bob"), people=people)
    with pytest.raises(PolicyError, match="nobody here saw who approved this"):
        import_gto(registry(tagged))
    assert registry(tagged).view().numbers("churn") == [1, 2]
