"""The shipped conformance suite over both transports and three kinds of servers."""

from __future__ import annotations

import pytest
import servers

from gml.domain.errors import RemoteError
from gml.git.connect import connect
from gml.git.transport import Refspec, Update, public, state_of, trouble
from gml.testing.transport import LEDGER, TransportSuite, grow


class TestGitOverFile(TransportSuite):
    @pytest.fixture
    def site(self, make_site):
        return make_site("file", "git")


@pytest.mark.heavy
class TestGitOverSsh(TransportSuite):
    @pytest.fixture
    def site(self, make_site):
        return make_site("ssh", "git")


@pytest.mark.heavy
class TestGitOverHttp(TransportSuite):
    @pytest.fixture
    def site(self, make_site):
        return make_site("http", "git")


class TestDulwichOverHttp(TransportSuite):
    @pytest.fixture
    def site(self, make_site):
        return make_site("http", "dulwich")


@pytest.mark.heavy
class TestDulwichOverSsh(TransportSuite):
    @pytest.fixture
    def site(self, make_site):
        return make_site("ssh", "dulwich")


@pytest.mark.parametrize(("how", "engine"), [("ssh", "git"), ("ssh", "dulwich"), ("http", "git")])
def test_a_ref_makes_the_round_trip(make_site, how, engine):
    site = make_site(how, engine)
    store, other = site.local(), site.local()
    first = grow(store, "one")
    assert [o.state for o in site.connect(store).push([Update(LEDGER, first, None)])] == ["ok"]
    site.connect(other).fetch([Refspec(LEDGER, "refs/gml/remotes/o/ledger")])
    assert other.refs("refs/") == {"refs/gml/remotes/o/ledger": first}
    assert site.connect(other).push([Update(LEDGER, grow(other, "two"), None)])[0].state == "stale"


@pytest.mark.parametrize("engine", ["git", "dulwich"])
def test_wrong_credentials_are_said_and_the_token_is_not(make_site, monkeypatch, engine):
    site = make_site("http", engine)
    store = site.local()
    store.environ["GML_TOKEN"] = "wr0ng-t0ken"
    with pytest.raises(RemoteError, match="credentials are missing or wrong") as caught:
        site.connect(store).push([Update(LEDGER, grow(store, "one"), None)])
    assert "GML_TOKEN" in str(caught.value)
    assert "wr0ng" not in str(caught.value)


@pytest.mark.parametrize("engine", ["git", "dulwich"])
def test_a_host_that_does_not_answer_is_said(make_repo, engine):
    store = make_repo().workspace().store
    with pytest.raises(RemoteError, match=r"cannot be reached") as caught:
        connect(store, f"http://127.0.0.1:{servers.free_port()}/x.git", engine=engine).refs(["refs/"])
    assert "\n" not in str(caught.value)


def test_dulwich_pushes_to_no_path_as_no_hook_would_run(make_site):
    site = make_site("file", "dulwich")
    store = site.local()
    with pytest.raises(RemoteError, match="hooks would not run"):
        site.connect(store).push([Update(LEDGER, grow(store, "one"), None)])
    assert site.value(LEDGER) == ""


def test_dulwich_fetches_from_a_path(make_site):
    site = make_site("file", "git")
    store, other = site.local(), site.local()
    first = grow(store, "one")
    site.connect(store).push([Update(LEDGER, first, None)])
    connect(other, str(site.bare), engine="dulwich").fetch([Refspec(LEDGER, "refs/gml/remotes/o/ledger")])
    assert other.refs("refs/") == {"refs/gml/remotes/o/ledger": first}


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("fatal: Authentication failed for 'https://h/x.git/'", "credentials"),
        ("remote: Permission to a/b.git denied to c.\nfatal: unable to access: The requested URL returned error: 403", "written"),
        ("fatal: could not read Username for 'https://h': terminal prompts disabled", "credentials"),
        ("git@h: Permission denied (publickey).\nfatal: Could not read from remote repository.", "ssh"),
        ("remote: fatal: write error: No space left on device", "disk is full"),
        ("fatal: unable to access 'https://h/': Could not resolve host: h", "host name"),
        ("fatal: '/x' does not appear to be a git repository", "no repository"),
        ("fatal: detected dubious ownership in repository at '/x'", "another user"),
        ("error: RPC failed; curl 56 Recv failure: Connection reset by peer", "connection broke"),
        ("something new", "something new"),
    ],
)  # fmt: skip
def test_what_hosts_say_becomes_one_line(said, why):
    error = str(trouble("https://h/x.git", said))
    assert why in error
    assert "\n" not in error
    assert error.startswith("https://h/x.git: ")


@pytest.mark.parametrize(
    ("reason", "state"),
    [
        ("stale info", "stale"),
        ("fetch first", "stale"),
        ("failed to update ref", "stale"),
        ("cannot lock ref 'refs/gml/ledger': is at a", "stale"),
        ("pre-receive hook declined", "refused"),
        ("protected branch hook declined", "refused"),
        ("deny updating a hidden ref", "protected"),
        ("funny refname", "protected"),
        ("remote failed to report status", "unknown"),
        ("unpacker error", "failed"),
    ],
)
def test_rejections_are_told_apart(reason, state):
    assert state_of(reason) == state


def test_addresses_are_shown_without_secrets():
    assert public("https://ada:pw@host/x.git") == "https://host/x.git"
    assert public("git@host:x.git") == "git@host:x.git"
    assert public("ssh://git@host/x.git") == "ssh://host/x.git"
