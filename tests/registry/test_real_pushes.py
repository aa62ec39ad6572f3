"""The installed hooks judge real pushes: a few by default, all of them in the heavy run."""

from __future__ import annotations

import pytest
from real_server import RealServer
from registry_attacks import ATTACKS, HONEST
from registry_lab import BRANCH

from support import GML

SOME_ATTACKS = (
    "approvals_too_few", "approvals_by_version_creator", "stage_not_from_staging", "version_digest_swapped",
    "policy_one_admin_of_two", "history_rewound", "history_evil_merge", "mode_link", "ref_tag_moved",
    "ref_good_and_bad", "ref_branch_other_case", "history_deleted",
)  # fmt: skip
SOME_HONEST = (
    "stage_two_approvers",
    "row_of_commits",
    "merged_after_others",
    "ref_branch_and_tag",
    "ref_other_branch",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    return RealServer(tmp_path_factory.mktemp("real"), GML)


def refused(server, name):
    before = server.refs()
    accepted, said = server.push(server.updates(ATTACKS[name]))
    assert not accepted, name
    assert server.refs() == before, name
    assert "Traceback" not in said
    return said


def accepted(server, name):
    server.reset()
    updates = server.updates(HONEST[name])
    fine, said = server.push(updates)
    assert fine, (name, said)
    for ref, new in updates:
        assert (f"{new} " in server.refs()) is (new is not None), ref
    server.reset()


@pytest.mark.parametrize("name", SOME_ATTACKS)
def test_a_push_is_refused(server, name):
    assert "gml: refs/" in refused(server, name)


@pytest.mark.parametrize("name", SOME_HONEST)
def test_a_push_is_accepted(server, name):
    accepted(server, name)


@pytest.mark.heavy
@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_is_refused(server, name):
    refused(server, name)


@pytest.mark.heavy
@pytest.mark.parametrize("name", HONEST)
def test_every_honest_push_is_accepted(server, name):
    accepted(server, name)


def test_tags_are_made_after_a_push(server):
    server.reset()
    fine, said = server.push(server.updates(HONEST["stage_two_approvers"]))
    assert fine
    assert "tagged gml/churn/Production/2" in said
    assert "refs/tags/gml/churn/Production/2" in server.refs()
    server.reset()


@pytest.mark.parametrize("script", ["exit 3", "sleep 60", "kill -9 $$", "exec no-such-program"])
def test_a_gate_that_fails_does_not_open(server, tmp_path, script):
    server.reset()
    broken = tmp_path / "gml"
    broken.write_text(f"#!/bin/sh\n{script}\n" if "sleep" not in script else (
        f'#!/bin/sh\nGML_HOOK_TIMEOUT=1 exec {GML.parent}/python -c "'
        "import sys, time; from gml.registry import hooks; "
        "hooks._HOOKS['pre-receive'] = lambda *a: time.sleep(50); "
        "from gml.cli.main import main; main(['hooks', 'run', 'pre-receive'])\"\n"
    ))  # fmt: skip
    broken.chmod(0o755)
    before, environ = server.refs(), dict(server.environ)
    server.environ["GML"] = str(broken)
    try:
        fine, _ = server.push(server.updates(HONEST["version_next"]))
    finally:
        server.environ.clear()
        server.environ.update(environ)
    assert not fine
    assert server.refs() == before


def test_a_hook_that_cannot_see_the_objects_refuses(server):
    import subprocess

    server.reset()
    ((_, new),) = server.updates(HONEST["version_next"])
    done = subprocess.run(
        [str(GML), "hooks", "run", "pre-receive"], input=f"{server.lab.tip} {new} {BRANCH}\n", text=True,
        capture_output=True, env=server.environ | {"GIT_DIR": str(server.bare)}, check=False,
    )  # fmt: skip
    assert done.returncode == 13
    assert "cannot be seen" in done.stderr
