"""A real bare repository with the lab's honest history, and pushes to it."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from registry_lab import BRANCH, Lab
from test_attacks import prepare

from gml.git.discover import open_store
from gml.policy.rules import read_policy

if TYPE_CHECKING:
    from pathlib import Path

GIT = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}


def environ(gml: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    return {**kept, **GIT, "GML": str(gml)}


class RealServer:
    """A bare repository, and a client that has every object of the lab.

    Args:
        top: an empty directory.
        gml: the installed command.
        hooks: `gml` for the gate, `plain` for git's own settings only, `none`.
    """

    def __init__(self, top: Path, gml: Path, hooks: str = "gml") -> None:
        self.environ = environ(gml)
        self.lab = Lab()
        prepare(self.lab)
        self.bare, self.client = top / "server.git", top / "client.git"
        for path in (self.bare, self.client):
            subprocess.run(
                ["git", "init", "-q", "--bare", "-b", "main", str(path)], check=True, env=self.environ
            )
        self._known = 0
        store = open_store(self.bare, environ=self.environ)
        store.write_pack(list(self.lab.objects.values()))
        for ref, oid in self.lab.refs.items():
            store.update_ref(ref, oid, expected=None, message="start")
        if hooks == "gml":
            subprocess.run([str(gml), "hooks", "install", "--server", str(self.bare)], check=True,
                           env=self.environ, capture_output=True)  # fmt: skip
        elif hooks == "plain":
            for key in ("receive.fsckObjects", "receive.denyNonFastForwards", "receive.denyDeletes"):
                subprocess.run(["git", "-C", str(self.bare), "config", key, "true"], check=True)
        self._pristine = top / "pristine.git"
        shutil.copytree(self.bare, self._pristine)

    def reset(self) -> None:
        shutil.rmtree(self.bare)
        shutil.copytree(self._pristine, self.bare)

    def updates(self, build):
        """Return what an attack or an honest push wants; it may have changed what the lab thinks is in force."""
        self.lab.policy = read_policy(self.lab.policy_bytes)
        return build(self.lab, self.lab.tip)

    def refs(self) -> str:
        done = subprocess.run(
            ["git", "-C", str(self.bare), "for-each-ref"], env=self.environ, capture_output=True, check=True
        )
        return done.stdout.decode()

    def push(self, updates) -> tuple[bool, str]:
        """Push updates; return whether all of them were accepted, and what was said."""
        store = open_store(self.client, environ=self.environ)
        fresh = list(self.lab.objects.values())[self._known :]
        self._known = len(self.lab.objects)
        store.write_pack(fresh)
        specs = [f"+{new}:{ref}" if new else f":{ref}" for ref, new in updates]
        if not specs:
            return True, ""
        done = subprocess.run(
            ["git", "-C", str(self.client), "push", str(self.bare), *specs], env=self.environ, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        return done.returncode == 0, done.stderr


def tip(server: RealServer) -> str:
    return server.lab.refs[BRANCH]
