# ruff: noqa: D102 - the names of the test methods say what they check
"""Conformance suite for implementations of `gml.git.transport.Transport`.

Subclass the suite in a test module and give it a `site` fixture: a `Site` over an empty bare repository
that some server offers. The git command must be on the PATH: it is the judge.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest

from gml.domain.errors import RemoteError
from gml.git import trees
from gml.git.objects import Tag, format_commit, format_tag, object_id
from gml.git.port import MODE_FILE, Commit, Identity
from gml.git.transport import Refspec, Update

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gml.git.port import GitStore, Kind
    from gml.git.store import FileStore
    from gml.git.transport import Transport

LEDGER: Final = "refs/gml/ledger"
SEEN: Final = "refs/gml/remotes/origin/ledger"
WHO: Final = Identity("Ada Lovelace", "ada@example.org")
HOOK: Final = "#!/bin/sh\necho 'promotions need a review' >&2\nexit 1\n"


@dataclass(slots=True)
class Site:
    """A bare repository behind a server, and local repositories that reach it.

    Attributes:
        bare: the repository's directory on the server.
        local: return a new local repository.
        connect: return the transport from a local repository to the server.
        lost: return a transport to an address of the same server where nothing is.
    """

    bare: Path
    local: Callable[[], FileStore]
    connect: Callable[[FileStore], Transport]
    lost: Callable[[FileStore], Transport]

    def git(self, *args: str) -> str:
        """Run git in the bare repository."""
        done = subprocess.run(
            ["git", "-C", str(self.bare), *args], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def value(self, name: str) -> str:
        """Return what a ref points at on the server, empty for nothing."""
        return self.git("for-each-ref", "--format=%(objectname)", name)

    def hook(self, name: str, text: str) -> None:
        """Install a hook on the server."""
        path = self.bare / "hooks" / name
        path.write_text(text)
        path.chmod(0o755)


def grow(store: GitStore, name: str, parent: str | None = None, *, files: int = 3) -> str:
    """Write a commit whose tree has a few new files over its parent's and return its id."""
    blobs = {f"runs/{name}/{number}.json": f"{name} {number}\n".encode() for number in range(files)}
    objects: list[tuple[Kind, bytes]] = [("blob", data) for data in blobs.values()]
    changes = {path: (MODE_FILE, object_id("blob", data, "sha1")) for path, data in blobs.items()}
    root, new = trees.edit(store, _tree_of(store, parent) if parent else None, dict(changes))
    when = 1_800_000_000
    commit = Commit(root, (parent,) if parent else (), WHO, when, WHO, when, f"{name}\n")
    return store.write_pack([*objects, *new, ("commit", format_commit(commit))])[-1]


def _tree_of(store: GitStore, commit: str) -> str:
    return store.read(commit)[1].partition(b"\n")[0].removeprefix(b"tree ").decode()


class TransportSuite:
    """What every transport must do."""

    def test_an_empty_remote_has_no_refs(self, site: Site) -> None:
        assert site.connect(site.local()).refs(["refs/"]) == {}

    def test_a_push_creates_moves_and_removes_a_ref(self, site: Site) -> None:
        store = site.local()
        way = site.connect(store)
        first = grow(store, "one")
        second = grow(store, "two", first)
        assert [o.state for o in way.push([Update(LEDGER, first, None)])] == ["ok"]
        assert site.value(LEDGER) == first
        assert [o.state for o in way.push([Update(LEDGER, second, first)])] == ["ok"]
        assert site.value(LEDGER) == second
        site.git("fsck", "--strict", "--full")
        assert way.refs(["refs/gml/"]) == {LEDGER: second}
        assert [o.state for o in way.push([Update(LEDGER, None, second)])] == ["ok"]
        assert site.value(LEDGER) == ""

    def test_a_push_of_what_is_there_is_fine(self, site: Site) -> None:
        store = site.local()
        way = site.connect(store)
        first = grow(store, "one")
        way.push([Update(LEDGER, first, None)])
        assert way.push([Update(LEDGER, first, first)])[0].state == "ok"

    @pytest.mark.parametrize("known", ["nothing", "an older commit"])
    def test_a_push_over_something_unseen_is_stale_and_changes_nothing(self, site: Site, known: str) -> None:
        store, other = site.local(), site.local()
        first = grow(store, "one")
        site.connect(store).push([Update(LEDGER, first, None)])
        site.connect(other).fetch([Refspec(LEDGER, SEEN)])
        theirs = grow(other, "theirs", first)
        site.connect(other).push([Update(LEDGER, theirs, first)])
        mine = grow(store, "mine", first)
        expected = None if known == "nothing" else first
        outcome = site.connect(store).push([Update(LEDGER, mine, expected)])[0]
        assert outcome.state == "stale", outcome
        assert site.value(LEDGER) == theirs

    def test_removing_something_unseen_is_stale(self, site: Site) -> None:
        store = site.local()
        way = site.connect(store)
        first = grow(store, "one")
        second = grow(store, "two", first)
        way.push([Update(LEDGER, second, None)])
        assert way.push([Update(LEDGER, None, first)])[0].state == "stale"
        assert site.value(LEDGER) == second

    def test_one_stale_ref_does_not_hold_up_the_others(self, site: Site) -> None:
        store = site.local()
        way = site.connect(store)
        first = grow(store, "one")
        way.push([Update(LEDGER, first, None)])
        second = grow(store, "two", first)
        outcomes = way.push([Update(LEDGER, second, None), Update("refs/gml/code", second, None)])
        assert [o.state for o in outcomes] == ["stale", "ok"]
        assert (site.value(LEDGER), site.value("refs/gml/code")) == (first, second)

    def test_an_atomic_push_is_all_or_nothing(self, site: Site) -> None:
        store = site.local()
        way = site.connect(store)
        first = grow(store, "one")
        way.push([Update(LEDGER, first, None)])
        second = grow(store, "two", first)
        updates = [Update(LEDGER, second, None), Update("refs/gml/code", second, None)]
        assert "ok" not in [o.state for o in way.push(updates, atomic=True)]
        assert (site.value(LEDGER), site.value("refs/gml/code")) == (first, "")
        updates[0] = Update(LEDGER, second, first)
        assert [o.state for o in way.push(updates, atomic=True)] == ["ok", "ok"]

    def test_a_hook_that_refuses_is_quoted(self, site: Site) -> None:
        site.hook("pre-receive", HOOK)
        store = site.local()
        outcome = site.connect(store).push([Update(LEDGER, grow(store, "one"), None)])[0]
        assert outcome.state == "refused"
        assert "promotions need a review" in outcome.message
        assert site.value(LEDGER) == ""

    def test_a_name_that_the_remote_does_not_take_is_protected(self, site: Site) -> None:
        site.git("config", "receive.hideRefs", "refs/gml")
        store = site.local()
        outcome = site.connect(store).push([Update(LEDGER, grow(store, "one"), None)])[0]
        assert outcome.state == "protected", outcome

    def test_fetching_brings_patterns_and_names_and_passes_over_what_is_missing(self, site: Site) -> None:
        store, other = site.local(), site.local()
        first = grow(store, "one")
        inbox = grow(store, "two", first)
        site.connect(store).push([Update(LEDGER, first, None), Update("refs/gml/inbox/ab", inbox, None)])
        specs = [
            Refspec(LEDGER, SEEN),
            Refspec("refs/gml/code", "refs/gml/remotes/origin/code"),
            Refspec("refs/gml/inbox/*", "refs/gml/remotes/origin/inbox/*"),
        ]
        site.connect(other).fetch(specs)
        assert other.refs("refs/") == {SEEN: first, "refs/gml/remotes/origin/inbox/ab": inbox}
        assert other.read(_tree_of(other, inbox))[0] == "tree"
        assert trees.lookup(other, _tree_of(other, inbox), "runs/two/2.json") is not None

    def test_fetching_again_follows_and_prunes(self, site: Site) -> None:
        store, other = site.local(), site.local()
        first = grow(store, "one")
        specs = [
            Refspec("refs/gml/led*", "refs/gml/remotes/o/led*"),
            Refspec("refs/gml/inbox/*", "refs/gml/remotes/o/inbox/*"),
        ]
        site.connect(store).push([Update(LEDGER, first, None), Update("refs/gml/inbox/ab", first, None)])
        site.connect(other).fetch(specs)
        second = grow(store, "two", first)
        site.connect(store).push([Update(LEDGER, second, first), Update("refs/gml/inbox/ab", None, first)])
        site.connect(other).fetch(specs, prune=False)
        assert set(other.refs("refs/")) == {"refs/gml/remotes/o/ledger", "refs/gml/remotes/o/inbox/ab"}
        site.connect(other).fetch(specs, prune=True)
        assert other.refs("refs/") == {"refs/gml/remotes/o/ledger": second}

    def test_tags_travel_with_what_they_name(self, site: Site) -> None:
        store, other = site.local(), site.local()
        first = grow(store, "one")
        tag = store.write("tag", format_tag(Tag(first, "commit", "gml/m/v1", WHO, 1_800_000_000, "v1\n")))
        assert site.connect(store).push([Update("refs/tags/gml/m/v1", tag, None)])[0].state == "ok"
        site.connect(other).fetch([Refspec("refs/tags/gml/*", "refs/gml/remotes/origin/tags/*")])
        assert other.refs("refs/") == {"refs/gml/remotes/origin/tags/m/v1": tag}
        assert other.contains(first)

    def test_a_shallow_repository_fetches_and_pushes(self, site: Site) -> None:
        store, other = site.local(), site.local()
        first = grow(store, "one")
        second = grow(store, "two", first)
        site.connect(store).push([Update(LEDGER, second, None)])
        site.connect(other).fetch([Refspec(LEDGER, SEEN)], depth=1)
        assert other.ref(SEEN) == second
        assert not other.contains(first)
        third = grow(other, "three", second)
        assert site.connect(other).push([Update(LEDGER, third, second)])[0].state == "ok"
        assert site.value(LEDGER) == third
        site.git("fsck", "--strict", "--full", "--connectivity-only")
        assert site.git("rev-list", "--count", third) == "3"

    def test_only_what_is_new_is_sent(self, site: Site) -> None:
        store, other = site.local(), site.local()
        tip = grow(store, "base", files=300)
        site.connect(store).push([Update(LEDGER, tip, None)])
        site.connect(other).fetch([Refspec(LEDGER, SEEN)])
        before = int(site.git("count-objects", "-v").split("\n")[0].split()[1]), _packed(site)
        new = grow(other, "new", tip, files=1)
        assert site.connect(other).push([Update(LEDGER, new, tip)])[0].state == "ok"
        after = int(site.git("count-objects", "-v").split("\n")[0].split()[1]), _packed(site)
        assert sum(after) - sum(before) == 5

    def test_a_remote_that_is_not_there_is_named(self, site: Site) -> None:
        store = site.local()
        with pytest.raises(RemoteError) as caught:
            site.lost(store).refs(["refs/"])
        assert caught.value.hint
        with pytest.raises(RemoteError):
            site.lost(store).fetch([Refspec("refs/gml/led*", "refs/gml/remotes/o/led*")])
        with pytest.raises(RemoteError):
            site.lost(store).push([Update(LEDGER, grow(store, "one"), None)])


def _packed(site: Site) -> int:
    lines = site.git("count-objects", "-v").splitlines()
    return int(next(line for line in lines if line.startswith("in-pack")).split()[1])
