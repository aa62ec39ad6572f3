"""The gate as a hook of gitolite from Debian; ssh is a script that calls gitolite-shell as sshd would."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from real_server import GIT
from registry_attacks import ATTACKS, HONEST
from registry_lab import BRANCH, Lab
from test_attacks import prepare

from gml.git.discover import open_store
from support import GML

SHELL = Path("/usr/share/gitolite3/gitolite-shell")
HOOK = Path(__file__).parents[2] / "hooks" / "pre-receive"
CONF = """
repo models
    RW+ = alice bob
    R   = reader
    option hook.pre-receive = gml
"""

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(not SHELL.exists(), reason="no gitolite on this machine (Debian: gitolite3)"),
]


class Gitolite:
    def __init__(self, top: Path) -> None:
        self.home = top / "git"
        self.home.mkdir()
        self.environ = (
            {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | GIT | {"HOME": str(self.home)}
        )
        (top / "admin.pub").write_text(
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIllllllllllllllllllllllllllllllllllllllllll a\n"
        )
        self.run("gitolite", "setup", "-pk", str(top / "admin.pub"))
        rc = self.home / ".gitolite.rc"
        text = rc.read_text().replace(
            '# LOCAL_CODE                =>  "$ENV{HOME}/local"', 'LOCAL_CODE => "$ENV{HOME}/local"'
        )
        text = re.sub(r"#\s*'repo-specific-hooks'", "'repo-specific-hooks'", text)
        assert "LOCAL_CODE => " in text
        assert re.search(r"^\s*'repo-specific-hooks'", text, re.MULTILINE)
        rc.write_text(text)
        folder = self.home / "local" / "hooks" / "repo-specific"
        folder.mkdir(parents=True)
        hook = folder / "gml"
        hook.write_text(HOOK.read_text().replace("${GML:-gml}", str(GML)))
        hook.chmod(0o755)
        conf = self.home / ".gitolite" / "conf" / "gitolite.conf"
        conf.write_text(conf.read_text() + CONF)
        self.run("gitolite", "compile")
        self.run("gitolite", "setup")
        self.bare = self.home / "repositories" / "models.git"
        self.ssh = top / "ssh"
        self.ssh.write_text(
            f'#!/bin/sh\nexport HOME="{self.home}" SSH_CONNECTION="1 2 3 4"\nwhile [ "$1" != git@here ]; do shift; done\n'
            f'shift\nSSH_ORIGINAL_COMMAND="$*" exec {SHELL} "$GITOLITE_USER"\n'
        )
        self.ssh.chmod(0o755)

    def run(self, *args: str) -> str:
        return subprocess.run(args, env=self.environ, check=True, capture_output=True, text=True).stdout

    def push(self, client: Path, who: str, *specs: str):
        environ = self.environ | {
            "GIT_SSH_COMMAND": str(self.ssh),
            "GIT_SSH_VARIANT": "simple",
            "GITOLITE_USER": who,
        }
        return subprocess.run(
            ["git", "-C", str(client), "push", "ssh://git@here/models", *specs], env=environ, capture_output=True,
            text=True, check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    top = tmp_path_factory.mktemp("gitolite")
    server = Gitolite(top)
    lab = Lab()
    prepare(lab)
    client = top / "client.git"
    shutil.rmtree(client, ignore_errors=True)
    subprocess.run(["git", "init", "-q", "--bare", str(client)], check=True, env=server.environ)
    return server, lab, client


def send(scene, who, updates):
    server, lab, client = scene
    open_store(client, environ=server.environ).write_pack(list(lab.objects.values()))
    return server.push(client, who, *[f"+{new}:{ref}" if new else f":{ref}" for ref, new in updates])


def test_gitolite_runs_the_gate(scene):
    server, lab, _ = scene
    done = send(scene, "alice", [(BRANCH, lab.tip), ("refs/gml/ledger", lab.ledger)])
    assert done.returncode == 0, done.stderr
    tip = server.run("git", "-C", str(server.bare), "rev-parse", BRANCH).strip()
    assert tip == lab.tip
    for name in (
        "approvals_too_few",
        "history_rewound",
        "version_digest_swapped",
        "ref_branch_other_case",
        "history_deleted",
    ):
        done = send(scene, "bob", ATTACKS[name](lab, lab.tip))
        assert done.returncode != 0, name
        assert "gml: refs/" in done.stderr, (name, done.stderr)
        assert server.run("git", "-C", str(server.bare), "rev-parse", BRANCH).strip() == tip
    updates = HONEST["stage_two_approvers"](lab, lab.tip)
    # who may only read is refused by gitolite before the gate is asked
    done = send(scene, "reader", updates)
    assert done.returncode != 0
    assert "DENIED by" in done.stderr
    done = send(scene, "bob", updates)
    assert done.returncode == 0, done.stderr
    server.run("git", "-C", str(server.bare), "fsck", "--strict")
