"""Servers of the tests of pushing, and people with keys and clones."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "sync"))

import servers
from team import Team, install_hooks


@pytest.fixture(scope="session")
def server_root(tmp_path_factory):
    """Directory that the HTTP server offers."""
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="session")
def ssh(tmp_path_factory):
    """Run sshd, or skip with the reason."""
    for name in ("sshd", "ssh-keygen", "ssh"):
        if not servers.find(name):
            pytest.skip(f"no {name} on this machine (Debian: openssh-server)")
    with servers.ssh_server(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture(scope="session")
def http(tmp_path_factory, server_root):
    """Run git's CGI behind lighttpd, or skip with the reason."""
    if not servers.find("lighttpd"):
        pytest.skip("no lighttpd on this machine (Debian: lighttpd)")
    with servers.http_server(tmp_path_factory.mktemp("lighttpd"), server_root) as server:
        yield server


@pytest.fixture
def make_team(tmp_path, make_repo, server_root, request):
    """Return a function that makes a team around a server that is reached over `file`, `ssh` or `http`."""

    def make(how: str = "file", source: Path | None = None) -> Team:
        bare = server_root / f"{abs(hash(request.node.nodeid)):x}.git"
        if source is None:
            subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(bare)], check=True)
            install_hooks(bare)
        else:
            shutil.copytree(source, bare)
        if how == "file":
            return Team(tmp_path, make_repo, str(bare), bare, {})
        server = request.getfixturevalue(how)
        url = server.url(bare.relative_to(server_root) if how == "http" else bare)
        if how == "http":
            url = url.replace("http://", f"http://{servers.USER}:{servers.TOKEN}@")
        return Team(tmp_path, make_repo, url, bare, dict(server.environ))

    return make
