# ruff: noqa: D102 - the names of the test methods say what they check
"""Conformance suite for the refs, history and configuration of a `gml.git.port.GitStore`."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path
from typing import Final

import pytest

from gml.domain.errors import (
    AmbiguousError,
    InvalidValueError,
    NotFoundError,
    RefMovedError,
    StorageError,
)
from gml.git.objects import (
    Tag,
    format_tag,
    object_id,
    parse_commit,
)
from gml.git.port import GitStore, Head
from gml.testing.git_tools import (
    ADA,
    LEDGER,
    PROCESSES,
    UPDATES,
    fsck,
    git,
    git_environ,
    make_commit,
    start_race,
    told,
)

ODD_NAMES: Final = (
    "refs/gml/inbox/host-1.local_a+b=c",
    "refs/heads/grün/été",
    "refs/tags/gml/model@x/Production/1",
    "refs/gml/" + "x" * 150,
    "refs/heads/a-b.c,d;e'f\"g(h)",
)
BAD_NAMES: Final = (
    "refs/heads/a..b", "refs/heads/a b", "refs/heads/.a", "refs/heads/a.lock", "refs/heads/a/", "refs//a",
    "refs/heads/a~b", "refs/heads/a^", "refs/heads/a:b", "refs/heads/@{x", "main", "../x",
    "refs/heads/a\nb", "",
)  # fmt: skip


class GitRefsSuite:
    """What every `GitStore` must do with names and what they point to."""

    # refs

    def test_compare_and_swap(self, store: GitStore) -> None:
        one, two = make_commit(store, text="1"), make_commit(store, text="2")
        assert store.ref(LEDGER) is None
        with pytest.raises(RefMovedError):
            store.update_ref(LEDGER, two, expected=one, message="x")
        store.update_ref(LEDGER, one, expected=None, message="x")
        with pytest.raises(RefMovedError):
            store.update_ref(LEDGER, two, expected=None, message="x")
        with pytest.raises(RefMovedError):
            store.update_ref(LEDGER, one, expected=two, message="x")
        assert store.ref(LEDGER) == one == told(store, "rev-parse", LEDGER)
        store.update_ref(LEDGER, two, expected=one, message="x")
        assert store.ref(LEDGER) == two
        with pytest.raises(RefMovedError):
            store.delete_ref(LEDGER, expected=one)
        store.delete_ref(LEDGER, expected=two)
        assert store.ref(LEDGER) is None
        with pytest.raises(RefMovedError):
            store.delete_ref(LEDGER, expected=two)
        assert not list(store.location.common_dir.rglob("*.lock"))

    def test_ref_to_a_missing_object(self, store: GitStore) -> None:
        absent = object_id("commit", b"never written", store.location.object_format)
        with pytest.raises(NotFoundError):
            store.update_ref(LEDGER, absent, expected=None, message="x")

    def test_packed_refs(self, store: GitStore) -> None:
        one, two = make_commit(store, text="1"), make_commit(store, text="2")
        names = [f"refs/gml/n{number}" for number in range(5)]
        for name in names:
            store.update_ref(name, one, expected=None, message="x")
        tag = store.write("tag", format_tag(Tag(one, "commit", "v1", ADA, 1_700_000_000, "x\n")))
        store.update_ref("refs/tags/v1", tag, expected=None, message="x")
        git(store, "pack-refs", "--all")
        assert store.ref(names[0]) == one
        assert store.refs("refs/") == {**dict.fromkeys(names, one), "refs/tags/v1": tag}
        with pytest.raises(RefMovedError):
            store.update_ref(names[0], two, expected=None, message="x")
        store.update_ref(names[0], two, expected=one, message="x")
        store.delete_ref(names[1], expected=one)
        store.delete_ref("refs/tags/v1", expected=tag)
        store.delete_ref(names[0], expected=two)
        assert store.refs("refs/") == dict.fromkeys(names[2:], one)
        assert told(store, "for-each-ref", "--format=%(refname)").split() == names[2:]
        fsck(store)

    def test_list_by_prefix(self, store: GitStore) -> None:
        one = make_commit(store)
        names = ["refs/gml/inbox/a", "refs/gml/inbox/b/c", "refs/gml/inboxes", "refs/heads/gml/registry"]
        for name in names:
            store.update_ref(name, one, expected=None, message="x")
        assert list(store.refs("refs/gml/inbox/")) == names[:2]
        assert list(store.refs("refs/gml/inbox")) == names[:3]
        assert list(store.refs("refs/")) == names
        assert list(store.refs("")) == names
        assert store.refs("refs/nothing/") == {}
        assert list(store.refs("refs/gml/inbox/a")) == names[:1]

    @pytest.mark.parametrize("name", ODD_NAMES)
    def test_unusual_names(self, store: GitStore, name: str) -> None:
        one = make_commit(store)
        store.update_ref(name, one, expected=None, message="x")
        assert store.ref(name) == one
        assert told(store, "for-each-ref", "--format=%(refname)") == name
        git(store, "pack-refs", "--all")
        assert store.refs(name) == {name: one}
        store.delete_ref(name, expected=one)
        assert store.refs("refs/") == {}

    @pytest.mark.parametrize("name", BAD_NAMES)
    def test_names_git_refuses(self, store: GitStore, name: str) -> None:
        with pytest.raises(InvalidValueError):
            store.update_ref(name, make_commit(store), expected=None, message="x")

    def test_names_that_contain_each_other(self, store: GitStore) -> None:
        one = make_commit(store)
        store.update_ref("refs/gml/a/b", one, expected=None, message="x")
        for packed in (False, True):
            if packed:
                git(store, "pack-refs", "--all")
            for name in ("refs/gml/a", "refs/gml/a/b/c"):
                with pytest.raises(StorageError):
                    store.update_ref(name, one, expected=None, message="x")
        store.delete_ref("refs/gml/a/b", expected=one)
        store.update_ref("refs/gml/a", one, expected=None, message="x")
        assert store.refs("refs/") == {"refs/gml/a": one}

    def test_head(self, store: GitStore) -> None:
        git(store, "symbolic-ref", "HEAD", "refs/heads/feature/x")
        assert store.head() == Head(None, "feature/x")
        assert store.ref("HEAD") is None
        one = make_commit(store)
        store.update_ref("refs/heads/feature/x", one, expected=None, message="x")
        assert store.head() == Head(one, "feature/x")
        assert store.ref("HEAD") == one
        git(store, "update-ref", "--no-deref", "HEAD", one)
        assert store.head() == Head(one, None)

    def test_symbolic_refs(self, store: GitStore) -> None:
        one, two = make_commit(store, text="1"), make_commit(store, text="2")
        git(store, "symbolic-ref", "refs/gml/alias", "refs/gml/real")
        assert store.ref("refs/gml/alias") is None
        assert store.refs("refs/") == {}
        store.update_ref("refs/gml/real", one, expected=None, message="x")
        store.update_ref("refs/gml/alias", two, expected=one, message="x")
        assert store.refs("refs/gml/") == {"refs/gml/alias": two, "refs/gml/real": two}
        assert told(store, "symbolic-ref", "refs/gml/alias") == "refs/gml/real"

    def test_reflog_of_branches(self, store: GitStore) -> None:
        one = make_commit(store)
        git(store, "config", "core.logAllRefUpdates", "always")
        again = type(store)(store.location, git_environ())  # type: ignore[call-arg]
        again.update_ref(LEDGER, one, expected=None, message="said\nso")
        assert "said so" in told(store, "reflog", "show", LEDGER)
        fsck(store)

    def test_racing_processes_lose_nothing(self, store: GitStore) -> None:
        with start_race(store) as racers:
            _, problems = racers.communicate(timeout=100)
        assert racers.returncode == 0, problems.decode()
        assert told(store, "rev-list", "--count", LEDGER) == str(PROCESSES * UPDATES)
        assert len(set(told(store, "log", "--format=%s", LEDGER).split())) == PROCESSES * UPDATES
        assert not list(store.location.common_dir.rglob("*.lock"))
        fsck(store)

    # revisions and history

    def test_revisions(self, store: GitStore) -> None:
        one = make_commit(store, text="1")
        two = make_commit(store, [one], "2")
        three = make_commit(store, [two, one], "3")
        tag = store.write("tag", format_tag(Tag(three, "commit", "v1", ADA, 1_700_000_000, "x\n")))
        git(store, "symbolic-ref", "HEAD", "refs/heads/main")
        store.update_ref("refs/heads/main", three, expected=None, message="x")
        store.update_ref("refs/tags/v1", tag, expected=None, message="x")
        store.update_ref("refs/remotes/origin/dev", two, expected=None, message="x")
        for revision in (
            "HEAD", "@", "main", "heads/main", "refs/heads/main", "v1", "v1^{}", "v1^{commit}", "v1^{tree}",
            "main~2", "main^", "main^2", "main~1^", "@~", "HEAD^0", "main^{tree}", "main:f", "v1:f",
            "origin/dev", three, three[:9], f"x-1-g{two[:10]}", "HEAD^{/x}~0",
        ):  # fmt: skip
            said = git(store, "rev-parse", "--verify", "-q", revision, check=False).decode().strip() or None
            if revision == "HEAD^{/x}~0":
                said = None  # searching messages is not supported
            assert store.resolve(revision) == said, revision
        nothing = (
            "nope",
            "main~9",
            "main^3",
            "main:none",
            "",
            "../HEAD",
            "v1^{blob}",
            "config",
            "a b",
            "-x",
            ":f",
        )
        for revision in nothing:
            assert store.resolve(revision) is None, revision

    def test_ambiguous_short_id(self, store: GitStore) -> None:
        seen: dict[str, str] = {}
        pair: tuple[str, str] | None = None
        for number in range(5000):
            oid = object_id("blob", b"%d" % number, store.location.object_format)
            if oid[:4] in seen:
                pair = (seen[oid[:4]], str(number))
                break
            seen[oid[:4]] = str(number)
        assert pair is not None
        ids = [store.write("blob", content.encode()) for content in pair]
        with pytest.raises(AmbiguousError):
            store.resolve(ids[0][:4])
        git(store, "repack", "-dq")
        assert store.resolve(ids[0][:20]) == ids[0]

    def test_ancestry_equals_git(self, store: GitStore) -> None:
        chance = random.Random(5)  # noqa: S311
        commits = [make_commit(store, text="root", time=50)]
        for number in range(40):
            parents = chance.sample(commits[-6:], k=min(len(commits[-6:]), chance.choice([1, 1, 2])))
            if number % 13 == 12:
                parents = []
            # dates are often wrong in the wild
            commits.append(make_commit(store, parents, str(number), time=chance.randrange(100)))
        for _ in range(25):
            one, two = chance.choice(commits), chance.choice(commits)
            done = subprocess.run(
                ["git", "--git-dir", str(store.location.git_dir), "merge-base", "--is-ancestor", one, two],
                env=git_environ(),
                check=False,
            )
            assert store.is_ancestor(one, two) == (done.returncode == 0)

    def test_ancestry_in_a_shallow_clone(self, store: GitStore) -> None:
        one = make_commit(store, text="1")
        two = make_commit(store, [one], "2")
        path = store.location.common_dir / "objects" / one[:2] / one[2:]
        path.unlink()
        (store.location.common_dir / "shallow").write_text(two + "\n")
        assert store.is_ancestor(two, two)
        assert not store.is_ancestor(object_id("blob", b"", store.location.object_format), two)

    # configuration

    def test_config(self, store: GitStore) -> None:
        path = store.location.common_dir / "config"
        path.write_text(path.read_text() + '# kept\n[GML "Sub.X"]\n\tName = one ; note\n')
        assert store.config("gml.Sub.X.name") == "one"
        assert store.config("gml.sub.x.name") is None
        for value in (
            "plain",
            " spaced ",
            'quo"te',
            "back\\slash",
            "semi;colon # hash",
            "",
            "täb\tnew\nline",
        ):
            store.set_config("gml.Sub.X.name", value)
            store.set_config("gml.other", value)
            assert store.config("gml.Sub.X.name") == value
            assert git(store, "config", "gml.Sub.X.name").decode() == value + "\n"
            assert git(store, "config", "gml.other").decode() == value + "\n"
        store.set_config("gml.other", None)
        store.set_config("gml.other", None)
        assert store.config("gml.other") is None
        assert "# kept" in path.read_text()
        git(store, "config", "--add", "gml.multi", "1")
        git(store, "config", "--add", "gml.multi", "2")
        assert store.config("gml.multi") == "2"
        git(store, "config", "user.name", "Grace")
        assert store.config("user.name") == "Grace"
        fsck(store)

    def test_remotes_hide_credentials(self, store: GitStore) -> None:
        assert store.remotes() == {}
        git(store, "remote", "add", "origin", "https://bob:secret@example.org/x.git")
        git(store, "remote", "add", "my.fork", "git@example.org:y.git")
        assert store.remotes() == {"my.fork": "git@example.org:y.git", "origin": "https://example.org/x.git"}

    def test_is_a_git_store(self, store: GitStore) -> None:
        assert isinstance(store, GitStore)
        location = store.location
        assert Path(told(store, "rev-parse", "--absolute-git-dir")) == location.git_dir
        assert told(store, "rev-parse", "--show-object-format") == location.object_format
        assert parse_commit(store.read(make_commit(store))[1]).author == ADA
