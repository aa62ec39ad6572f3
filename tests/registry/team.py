"""People with keys and clones, as the tests of the registry need them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "sync"))

from registry_lab import KEYS

import warm
from support import GML, Done, Repo


def write_key(folder: Path, name: str) -> Path:
    """Write a key of the lab as ssh-keygen would have made it; return the private half."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    path = folder / name
    path.write_bytes(KEYS[name].private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    path.chmod(0o600)
    path.with_name(f"{name}.pub").write_text(f"{KEYS[name].public} {name}\n")
    return path


@dataclass
class Member:
    """A person with a clone and a key."""

    name: str
    repo: Repo

    def gml(self, *args: object, code: int | None = 0, **environ: str) -> Done:
        done = subprocess.run(
            [str(warm.command()), *map(str, args)],
            cwd=self.repo.path,
            env={**self.repo.env(**environ), "PATH": f"{GML.parent}:{os.environ['PATH']}", "PYTHONWARNINGS": "error"},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=100,
        )  # fmt: skip
        assert code is None or done.returncode == code, (args, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr, done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    def git(self, *args: str) -> str:
        return self.repo.git(
            "-c", f"user.name={self.name}", "-c", f"user.email={self.name}@example.org", *args
        )

    def fetch(self) -> None:
        self.git("fetch", "-q", "origin", "+refs/heads/*:refs/remotes/origin/*", "+refs/gml/ledger:refs/gml/ledger",
                 "refs/tags/*:refs/tags/*")  # fmt: skip


class Team:
    """A server with hooks, and people with clones of it."""

    def __init__(self, top: Path, make_repo, url: str, bare: Path, environ: dict[str, str]) -> None:
        self.top, self.url, self.bare = top, url, bare
        self._make_repo, self._environ = make_repo, environ
        self.keys = top / "keys"
        self.keys.mkdir(exist_ok=True)

    def key(self, name: str) -> Path:
        return write_key(self.keys, name)

    def member(self, name: str, *, key: str | None = None, clone: Path | None = None) -> Member:
        """Return a person with a new clone, or with a copy of one."""
        repo = self._make_repo(f"clone-{name}", commit=clone is None)
        if clone is not None:
            shutil.rmtree(repo.path)
            shutil.copytree(clone, repo.path)
        person = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER")
                  for what, value in (("NAME", name), ("EMAIL", f"{name}@example.org"))}  # fmt: skip
        repo.environ |= self._environ | person | {"HOME": str(self.top / f"home-{name}")}
        (self.top / f"home-{name}").mkdir(exist_ok=True)
        repo.git("config", "remote.origin.url", self.url)
        if (key or name) in KEYS:
            repo.git("config", "gml.signingKey", str(self.key(key or name)))
        return Member(name, repo)


def install_hooks(bare: Path) -> None:
    """Install the hooks with the gml of this environment: servers run hooks with a PATH of their own."""
    subprocess.run(["git", "-C", str(bare), "config", "http.receivepack", "true"], check=True)
    subprocess.run([str(GML), "hooks", "install", "--server", str(bare)], check=True, capture_output=True)
    for hook in (bare / "hooks").iterdir():
        hook.write_text(hook.read_text().replace("${GML:-gml}", str(warm.command())))
