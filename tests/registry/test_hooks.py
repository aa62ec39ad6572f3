"""Hooks in a clone and beside others: an early warning before a push, and hooks that were there before."""

from __future__ import annotations

import os
import subprocess

import pytest
from registry_attacks import ATTACKS, HONEST
from registry_lab import BRANCH, Lab
from test_attacks import prepare

from gml.git.discover import open_store
from support import GML


@pytest.fixture
def clone(repo, tmp_path):
    """A clone with the lab's history and gml's hook, whose server lets everything through."""
    lab = Lab()
    prepare(lab)
    server = tmp_path / "server.git"
    subprocess.run(["git", "init", "-q", "--bare", str(server)], check=True)
    repo.git("remote", "add", "origin", str(server))
    store = open_store(repo.path, environ=repo.env())
    store.write_pack(list(lab.objects.values()))
    for ref, oid in lab.refs.items():
        store.update_ref(ref, oid, expected=None, message="start")
    repo.git("push", "-q", "origin", *lab.refs)
    install(repo)
    return repo, lab


def environ(repo) -> dict[str, str]:
    return {**os.environ, **repo.env(), "GML": str(GML)}


def install(repo, *args: str, code: int = 0) -> str:
    done = subprocess.run(
        [str(GML), "hooks", "install", *args],
        cwd=repo.path,
        env=environ(repo),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def push(repo, *specs: str, **more: str) -> tuple[bool, str]:
    done = subprocess.run(
        ["git", "push", "origin", *specs], cwd=repo.path, env=environ(repo) | more, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.returncode == 0, done.stderr


def send(repo, lab, updates, **more):
    open_store(repo.path, environ=repo.env()).write_pack(list(lab.objects.values()))
    return push(repo, *[f"+{new}:{ref}" if new else f":{ref}" for ref, new in updates], **more)


def test_a_push_is_warned_of_before_it_leaves(clone):
    repo, lab = clone
    for name in ("approvals_too_few", "history_deleted"):
        fine, said = send(repo, lab, ATTACKS[name](lab, lab.tip))
        assert not fine, name
        assert f"gml: {BRANCH}: " in said
    assert repo.git("ls-remote", "origin", BRANCH).startswith(lab.tip)
    assert send(repo, lab, HONEST["stage_two_approvers"](lab, lab.tip))[0]
    assert push(repo, "main:refs/heads/topic")[0]


def test_a_push_without_gml_stops(clone):
    repo, _ = clone
    fine, said = push(repo, "main", GML="/nonexistent/gml")
    assert not fine
    assert "nonexistent" in said


def test_a_server_that_is_ahead_is_no_reason_to_crash(clone, tmp_path):
    repo, lab = clone
    other = lab.commit(lab.tip, {"models/churn/versions/4.json": lab.version(4)})
    store = open_store(tmp_path / "server.git", environ=repo.env())
    store.write_pack(list(lab.objects.values()))
    store.update_ref(BRANCH, other, expected=lab.tip, message="somebody")
    fine, said = push(repo, f"{lab.tip}:{BRANCH}")
    assert not fine
    assert "rejected" in said


def test_a_hook_that_was_there_runs_first(repo):
    hook = repo.path / ".git" / "hooks" / "pre-push"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text('#!/bin/sh\ncat > .git/seen\n[ -z "$NO" ] || exit 7\n')
    hook.chmod(0o755)
    assert "is there already" in install(repo, code=6)
    install(repo, "--force")
    assert install(repo)  # ours by now: written again
    server = repo.path.parent / "plain.git"
    subprocess.run(["git", "init", "-q", "--bare", str(server)], check=True)
    repo.git("remote", "add", "origin", str(server))
    assert not push(repo, "main", NO="1")[0]
    assert push(repo, "main")[0]
    assert "refs/heads/main" in (repo.path / ".git" / "seen").read_text()


def test_hooks_of_another_name_are_refused(repo):
    done = subprocess.run([str(GML), "hooks", "run", "update"], cwd=repo.path, env=environ(repo), input="", text=True,
                          capture_output=True, check=False)  # fmt: skip
    assert done.returncode == 2
    assert "pre-receive" in done.stderr
