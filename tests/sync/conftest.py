"""Bare remotes behind real servers, and clones of them."""

from __future__ import annotations

import subprocess

import pytest
import servers

from gml.git.connect import connect
from gml.git.discover import open_store
from gml.testing.transport import Site


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
def make_bare(server_root, request):
    """Return a function that makes a bare repository that all servers offer."""
    made = []

    def make():
        path = server_root / f"{abs(hash(request.node.nodeid)):x}-{len(made)}.git"
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(path)], check=True)
        subprocess.run(["git", "-C", str(path), "config", "http.receivepack", "true"], check=True)
        made.append(path)
        return path

    yield make
    for path in made:
        done = subprocess.run(
            ["git", "-C", str(path), "fsck", "--strict"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def address(request, how: str, path, root):
    """Return the address of a bare repository over a server, and what a client's environment needs."""
    if how == "file":
        return str(path), {}
    server = request.getfixturevalue(how)
    return server.url(path.relative_to(root) if how == "http" else path), server.environ


@pytest.fixture
def make_site(request, make_bare, make_repo, server_root):
    """Return a function that makes a `Site` for the conformance suite."""

    def make(how: str, engine: str) -> Site:
        bare = make_bare()
        url, environ = address(request, how, bare, server_root)
        count = iter(range(100))

        def local():
            repo = make_repo(f"local-{next(count)}", commit=False)
            return open_store(repo.path, environ={**repo.env(), **environ})

        return Site(
            bare,
            local,
            lambda store: connect(store, url, engine=engine),
            lambda store: connect(store, url.replace(bare.name, "no-such.git"), engine=engine),
        )

    return make
