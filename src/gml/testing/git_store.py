# ruff: noqa: D102 - the names of the test methods say what they check
# ruff: noqa: D102 - the names of the test methods say what they check
"""Conformance suite for implementations of `gml.git.port.GitStore`, and a store that fails on demand.

Subclass the suite in a test module and give it a `store` fixture over an empty repository:

    class TestMyStore(GitStoreSuite):
        @pytest.fixture
        def store(self, tmp_path): ...

The git command must be on the PATH: it is the judge.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from gml.domain.errors import (
    AmbiguousError,
    CorruptError,
    InvalidValueError,
    NotFoundError,
    RefMovedError,
    StorageError,
)
from gml.git.objects import (
    Tag,
    format_commit,
    format_tag,
    format_tree,
    object_id,
    parse_commit,
    parse_tree,
)
from gml.git.port import MODE_FILE, MODE_TREE, Commit, GitStore, Head, Identity, TreeEntry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gml.git.port import Kind, Location

ADA: Final = Identity("Ada Lovelace", "ada@example.org")
LEDGER: Final = "refs/gml/ledger"
PROCESSES: Final = 8
UPDATES: Final = 20
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


def git(store: GitStore, *args: str, data: bytes | None = None, check: bool = True) -> bytes:
    """Run real git on the repository of a store and return its output."""
    done = subprocess.run(
        ["git", "--git-dir", str(store.location.git_dir), *args],
        env=_environ(),
        input=data,
        capture_output=True,
        check=False,
    )
    assert not check or done.returncode == 0, (args, done.stderr)
    return done.stdout


def _environ() -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "Ada",
        "GIT_AUTHOR_EMAIL": "ada@example.org",
        "GIT_COMMITTER_NAME": "Ada",
        "GIT_COMMITTER_EMAIL": "ada@example.org",
    }


def told(store: GitStore, *args: str, data: bytes | None = None) -> str:
    """Run real git and return its output as one stripped string."""
    return git(store, *args, data=data).decode("utf-8", "surrogateescape").strip()


def make_commit(
    store: GitStore, parents: Sequence[str] = (), text: str = "x", time: int = 1_700_000_000
) -> str:
    """Write a commit with one file and return its id."""
    blob = store.write("blob", text.encode())
    tree = store.write("tree", format_tree([TreeEntry("f", MODE_FILE, blob)]))
    return store.write(
        "commit", format_commit(Commit(tree, tuple(parents), ADA, time, ADA, time, f"{text}\n"))
    )


def fsck(store: GitStore) -> None:
    """Assert that `git fsck --strict` finds nothing wrong."""
    done = subprocess.run(
        ["git", "--git-dir", str(store.location.git_dir), "fsck", "--strict", "--full"],
        env=_environ(),
        capture_output=True,
        text=True,
        check=False,
    )
    lines = (done.stdout + done.stderr).splitlines()
    assert done.returncode == 0, lines
    assert [line for line in lines if not line.startswith(("dangling ", "notice: ", "Checking "))] == []


def race(path: str, engine: str, worker: int, updates: int) -> None:
    """Append commits to the ledger by compare-and-swap; the body of one racing process."""
    from gml.git.discover import open_store

    store = open_store(path, environ=os.environ, engine=engine)
    for number in range(updates):
        while True:
            tip = store.ref(LEDGER)
            commit = make_commit(store, [tip] if tip else [], f"{worker}-{number}")
            try:
                store.update_ref(LEDGER, commit, expected=tip, message="race")
                break
            except RefMovedError:
                continue
    store.close()


def race_all(path: str, engine: str, workers: int, updates: int) -> int:
    """Fork racing processes and return how many failed."""
    children = []
    for worker in range(workers):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                race(path, engine, worker, updates)
                status = 0
            finally:
                os._exit(status)
        children.append(pid)
    return sum(1 for pid in children if os.waitpid(pid, 0)[1] != 0)


def start_race(store: GitStore, workers: int = PROCESSES, updates: int = UPDATES) -> subprocess.Popen[bytes]:
    """Start a process that forks the racers; it exits with the number of failed ones."""
    arguments = (str(store.location.git_dir), store.location.engine, workers, updates)
    code = f"import sys; from gml.testing.git_store import race_all; sys.exit(race_all(*{arguments!r}))"
    return subprocess.Popen([sys.executable, "-c", code], env=_environ(), stderr=subprocess.PIPE)


class GitStoreSuite:
    """What every `GitStore` must do."""

    # objects

    @pytest.mark.parametrize("data", [b"", b"hello\n", bytes(range(256)) * 7])
    def test_blob_equals_git(self, store: GitStore, data: bytes) -> None:
        oid = store.write("blob", data)
        assert oid == told(store, "hash-object", "--stdin", data=data)
        assert git(store, "cat-file", "blob", oid) == data
        assert store.read(oid) == ("blob", data)
        assert store.write("blob", data) == oid
        assert store.contains(oid)

    def test_tree_equals_git(self, store: GitStore) -> None:
        blob = store.write("blob", b"x")
        inner = store.write("tree", format_tree([TreeEntry("z", MODE_FILE, blob)]))
        entries = [
            TreeEntry("a.b", MODE_FILE, blob),
            TreeEntry("a", MODE_TREE, inner),
            TreeEntry("a0", 0o100755, blob),
            TreeEntry("ä", 0o120000, blob),
        ]
        oid = store.write("tree", format_tree(entries))
        lines = "".join(
            f"{e.mode:06o} {'tree' if e.is_tree else 'blob'} {e.oid}\t{e.name}\n" for e in entries
        )
        assert oid == told(store, "mktree", data=lines.encode())
        assert {e.name for e in parse_tree(store.read(oid)[1], len(oid) // 2)} == {e.name for e in entries}
        fsck(store)

    def test_commit_and_tag_equal_git(self, store: GitStore) -> None:
        commit = make_commit(store)
        tag = format_tag(Tag(commit, "commit", "v1", ADA, 1_700_000_000, "first\n", 90))
        oid = store.write("tag", tag)
        assert oid == told(store, "mktag", data=tag)
        store.update_ref("refs/tags/v1", oid, expected=None, message="tag")
        assert told(store, "rev-parse", "v1^{commit}") == commit
        assert git(store, "cat-file", "commit", commit) == store.read(commit)[1]
        fsck(store)

    def test_reads_what_git_wrote(self, store: GitStore) -> None:
        oid = told(store, "hash-object", "-w", "--stdin", data=b"from git")
        assert store.contains(oid)
        assert store.read(oid) == ("blob", b"from git")

    def test_missing_object(self, store: GitStore) -> None:
        absent = object_id("blob", b"never written", store.location.object_format)
        assert not store.contains(absent)
        for oid in (absent, absent[:10], "", "zz" * (len(absent) // 2)):
            assert not store.contains(oid)
            with pytest.raises(NotFoundError):
                store.read(oid)

    @pytest.mark.parametrize("damage", [b"", b"garbage", b"\x78\x01\x03\x00\x00\x00\x00\x01"])
    def test_damaged_object(self, store: GitStore, damage: bytes) -> None:
        oid = store.write("blob", b"to be damaged")
        path = store.location.common_dir / "objects" / oid[:2] / oid[2:]
        path.chmod(0o644)
        path.write_bytes(damage)
        with pytest.raises(CorruptError, match=oid):
            store.read(oid)

    def test_object_cut_short(self, store: GitStore) -> None:
        data = random.Random(2).randbytes(3000)  # noqa: S311
        oid = store.write("blob", data)
        path = store.location.common_dir / "objects" / oid[:2] / oid[2:]
        whole = path.read_bytes()
        path.chmod(0o644)
        for size in (1, 2, 10, 40, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:size])
            with pytest.raises(CorruptError, match=oid):
                store.read(oid)
        assert store.contains(oid)

    def test_a_good_copy_in_a_pack_wins_over_a_damaged_loose_one(self, store: GitStore) -> None:
        oid = store.write("blob", b"kept twice")
        store.write_pack([("blob", b"kept twice")])
        path = store.location.common_dir / "objects" / oid[:2] / oid[2:]
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:12])
        assert store.read(oid) == ("blob", b"kept twice")

    def test_object_under_a_wrong_name(self, store: GitStore) -> None:
        oid, other = store.write("blob", b"one"), store.write("blob", b"two")
        objects = store.location.common_dir / "objects"
        path = objects / oid[:2] / oid[2:]
        path.unlink()
        shutil.copy(objects / other[:2] / other[2:], path)
        with pytest.raises(CorruptError):
            store.read(oid)

    def test_large_blob(self, store: GitStore) -> None:
        data = random.Random(1).randbytes(5 * 1024 * 1024)  # noqa: S311
        oid = store.write("blob", data)
        assert store.read(oid) == ("blob", data)
        assert store.write_pack([("blob", data + b"1")]) == [
            told(store, "hash-object", "--stdin", data=data + b"1")
        ]
        fsck(store)

    def test_pack(self, store: GitStore) -> None:
        assert store.write_pack([]) == []
        objects: list[tuple[Kind, bytes]] = [("blob", b"%d" % n) for n in range(300)]
        objects += [("blob", b"7"), ("blob", b"")]
        ids = store.write_pack(objects)
        fmt = store.location.object_format
        assert ids == [object_id(kind, data, fmt) for kind, data in objects]
        packs = sorted((store.location.common_dir / "objects" / "pack").iterdir())
        assert [p.suffix for p in packs] == [".idx", ".pack"]
        git(store, "verify-pack", str(packs[0]))
        git(
            store, "index-pack", "--strict", "-o", str(store.location.common_dir / "check.idx"), str(packs[1])
        )
        assert (store.location.common_dir / "check.idx").read_bytes() == packs[0].read_bytes()
        for oid, content in zip(ids, objects, strict=True):
            assert store.read(oid) == content
        assert store.write_pack(objects) == ids
        fsck(store)

    def test_sees_what_others_packed(self, store: GitStore) -> None:
        tip: list[str] = []
        for number in range(20):
            tip = [make_commit(store, tip, f"{number}" * 500)]
        store.update_ref(LEDGER, tip[0], expected=None, message="x")
        names = told(store, "rev-list", "--objects", "--no-object-names", LEDGER).split()
        before = {oid: store.read(oid) for oid in names}
        for command in (("repack", "-adq"), ("gc", "-q", "--prune=now"), ("repack", "-adfq", "--depth=1")):
            git(store, *command)
            tip = [make_commit(store, tip, "again" + command[0] + str(len(command)))]
            assert {oid: store.read(oid) for oid in names} == before
            assert all(store.contains(oid) for oid in names)
        fsck(store)

    def test_sees_late_objects_after_a_miss(self, store: GitStore) -> None:
        data = b"written later"
        oid = object_id("blob", data, store.location.object_format)
        with pytest.raises(NotFoundError):
            store.read(oid)
        told(store, "hash-object", "-w", "--stdin", data=data)
        git(store, "repack", "-adq")
        pack = store.location.common_dir / "objects" / "pack"
        packed = git(store, "pack-objects", "-q", str(pack / "pack"), data=oid.encode() + b"\n")
        git(store, "prune-packed", "-q")
        assert packed
        assert store.read(oid) == ("blob", data)

    def test_threads(self, store: GitStore) -> None:
        problems: list[BaseException] = []

        def work(number: int) -> None:
            try:
                for step in range(20):
                    oid = store.write("blob", f"{number}-{step}".encode())
                    assert store.read(oid)[1] == f"{number}-{step}".encode()
                    store.update_ref(f"refs/gml/t{number}-{step}", oid, expected=None, message="t")
                    assert store.refs(f"refs/gml/t{number}-")
            except BaseException as exc:  # noqa: BLE001 - reported in the main thread
                problems.append(exc)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert problems == []
        assert len(store.refs("refs/gml/t")) == 80

    @pytest.mark.parametrize(("number", "words"), [(errno.EROFS, "read-only"), (errno.ENOSPC, "no space")])
    def test_failing_storage(
        self, store: GitStore, monkeypatch: pytest.MonkeyPatch, number: int, words: str
    ) -> None:
        """Permissions do not stop root, so the system calls are made to fail: open or write."""
        tip = make_commit(store)
        store.update_ref(LEDGER, tip, expected=None, message="x")
        config = (store.location.common_dir / "config").read_bytes()
        before = sorted(p for p in store.location.common_dir.rglob("*"))
        real_open, real_write = os.open, os.write

        def failing_open(path: Any, flags: int, *rest: Any, **named: Any) -> int:
            if number == errno.EROFS and flags & os.O_CREAT:
                raise OSError(number, os.strerror(number), path)
            return real_open(path, flags, *rest, **named)

        def failing_write(_fd: int, _data: Any) -> int:
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            patch.setattr(os, "open", failing_open)
            patch.setattr(os, "write", failing_write)
            with pytest.raises(StorageError, match=words) as caught:
                store.write("blob", b"does not fit")
            assert "\n" not in str(caught.value)
            with pytest.raises(StorageError, match=words):
                store.write_pack([("blob", b"does not fit")])
            with pytest.raises(StorageError, match=words):
                store.update_ref("refs/gml/other", tip, expected=None, message="x")
            patch.setattr(os, "write", real_write)
        after = sorted(p for p in store.location.common_dir.rglob("*") if p.is_file())
        assert after == [p for p in before if p.is_file()]
        assert (store.location.common_dir / "config").read_bytes() == config
        assert store.read(store.write("blob", b"does not fit"))[1] == b"does not fit"

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
        again = type(store)(store.location, _environ())  # type: ignore[call-arg]
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
                env=_environ(),
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


class FailingStore:
    """A store that passes everything on, and raises at chosen calls.

    Args:
        inner: the store that does the work.
        failures: method name -> {number of the call, counted from 1: error to raise}. The error is raised
            before the inner store is called; with `after=True` the inner call happens first, as when the
            answer of a storage got lost.
        after: see above.

    Attributes:
        calls: how often each method was called.
    """

    def __init__(
        self, inner: GitStore, failures: Mapping[str, Mapping[int, Exception]], *, after: bool = False
    ) -> None:
        self._inner = inner
        self._failures = failures
        self._after = after
        self.calls: dict[str, int] = {}

    def _call(self, method: str, *args: Any, **named: Any) -> Any:
        number = self.calls[method] = self.calls.get(method, 0) + 1
        error = self._failures.get(method, {}).get(number)
        if error is not None and not self._after:
            raise error
        answer = getattr(self._inner, method)(*args, **named)
        if error is not None:
            raise error
        return answer

    @property
    def location(self) -> Location:
        """See `GitStore.location`."""
        return self._inner.location

    def read(self, oid: str) -> tuple[Kind, bytes]:
        """See `GitStore.read`."""
        return self._call("read", oid)  # type: ignore[no-any-return]

    def contains(self, oid: str) -> bool:
        """See `GitStore.contains`."""
        return self._call("contains", oid)  # type: ignore[no-any-return]

    def write(self, kind: Kind, data: bytes) -> str:
        """See `GitStore.write`."""
        return self._call("write", kind, data)  # type: ignore[no-any-return]

    def write_pack(self, objects: Sequence[tuple[Kind, bytes]]) -> list[str]:
        """See `GitStore.write_pack`."""
        return self._call("write_pack", objects)  # type: ignore[no-any-return]

    def ref(self, name: str) -> str | None:
        """See `GitStore.ref`."""
        return self._call("ref", name)  # type: ignore[no-any-return]

    def refs(self, prefix: str) -> dict[str, str]:
        """See `GitStore.refs`."""
        return self._call("refs", prefix)  # type: ignore[no-any-return]

    def update_ref(self, name: str, new: str, *, expected: str | None, message: str) -> None:
        """See `GitStore.update_ref`."""
        self._call("update_ref", name, new, expected=expected, message=message)

    def delete_ref(self, name: str, *, expected: str) -> None:
        """See `GitStore.delete_ref`."""
        self._call("delete_ref", name, expected=expected)

    def head(self) -> Head:
        """See `GitStore.head`."""
        return self._call("head")  # type: ignore[no-any-return]

    def resolve(self, revision: str) -> str | None:
        """See `GitStore.resolve`."""
        return self._call("resolve", revision)  # type: ignore[no-any-return]

    def is_ancestor(self, ancestor: str, tip: str) -> bool:
        """See `GitStore.is_ancestor`."""
        return self._call("is_ancestor", ancestor, tip)  # type: ignore[no-any-return]

    def config(self, key: str) -> str | None:
        """See `GitStore.config`."""
        return self._call("config", key)  # type: ignore[no-any-return]

    def set_config(self, key: str, value: str | None) -> None:
        """See `GitStore.set_config`."""
        self._call("set_config", key, value)

    def identity(self) -> Identity | None:
        """See `GitStore.identity`."""
        return self._call("identity")  # type: ignore[no-any-return]

    def remotes(self) -> dict[str, str]:
        """See `GitStore.remotes`."""
        return self._call("remotes")  # type: ignore[no-any-return]

    def close(self) -> None:
        """See `GitStore.close`."""
        self._call("close")
