# ruff: noqa: PTH109, PTH118, PTH123 - file names as bytes
"""Snapshots of work trees, through git and through libgit2."""

from __future__ import annotations

import os
import shutil
import socket

import pytest

from gml.domain.errors import RepositoryError
from gml.git import trees
from gml.git.objects import parse_commit
from gml.git.port import Identity, SnapshotRules
from gml.git.worktree import open_worktree, snapshot_commit

ADA = Identity("Ada", "ada@example.org")
RULES = SnapshotRules()


@pytest.fixture(params=["git", "pygit2"])
def look(request, tmp_path):
    """Return a function that opens the work tree with one of the adapters."""

    def opener(repo, path=None):
        environ = dict(repo.environ)
        if request.param == "pygit2":
            environ["PATH"] = str(tmp_path / "nothing")
        repo = type(repo)(repo.path, environ)
        store = repo.store(path)
        return store, open_worktree(store)

    opener.adapter = request.param
    return opener


def stamp(repo):
    """Everything of the user's that a snapshot must not touch."""
    git_dir = repo.path / ".git"
    index = git_dir / "index"
    state = index.stat() if index.exists() else None
    files = {}
    for directory, names, leaves in os.walk(repo.path):
        if ".git" in names:
            names.remove(".git")
        for leaf in leaves:
            info = os.lstat(os.path.join(directory, leaf))
            files[os.path.join(directory, leaf)] = (info.st_mtime_ns, info.st_size, info.st_ino, info.st_mode)
    return (
        index.read_bytes() if state else None,
        state and (state.st_mtime_ns, state.st_ino),
        (git_dir / "HEAD").read_bytes(),
        (git_dir / "config").read_bytes(),
        repo.git("for-each-ref"),
        repo.git("stash", "list"),
        sorted(p.name for p in git_dir.iterdir()),
        files,
    )


def take(repo, look, rules=RULES, *, write=True):
    before = stamp(repo)
    store, tree = look(repo)
    snap = tree.snapshot(rules, write=write)
    store.close()
    assert stamp(repo) == before
    if snap.tree:
        repo.fsck()
    return snap


def listing(repo, tree):
    """Path -> (mode, content) of a tree, by C git."""
    out = {}
    for line in repo.raw("ls-tree", "-r", "-z", tree).split(b"\0"):
        if line:
            meta, _, name = line.partition(b"\t")
            mode, kind, oid = meta.split()
            out[os.fsdecode(name)] = (
                mode.decode(),
                repo.raw("cat-file", "blob", oid.decode()) if kind == b"blob" else oid.decode(),
            )
    return out


def test_clean(repo, look):
    head = repo.commit(**{"a.py": "1\n", "d/b.py": "2\n"})
    snap = take(repo, look)
    assert (snap.commit, snap.branch, snap.dirty) == (head, "main", False)
    assert snap.tree == repo.git("rev-parse", "HEAD^{tree}")
    assert not snap.changed
    assert not snap.untracked
    assert not snap.left_out


def test_all_kinds_of_change(repo, look):
    repo.commit(
        **{
            "mod.py": "1\n",
            "gone.py": "x",
            "d/staged.py": "1",
            "exec.sh": "#!",
            "both.py": "1",
            "link": "file",
            "dir": "f",
        }
    )
    repo.file(".gitignore", "*.log\n")
    repo.commit()
    repo.file("mod.py", "2\n")
    (repo.path / "gone.py").unlink()
    repo.file("d/staged.py", "2")
    repo.git("add", "d/staged.py")
    (repo.path / "exec.sh").chmod(0o755)
    repo.file("both.py", "index")
    repo.git("add", "both.py")
    repo.file("both.py", "work tree")
    (repo.path / "link").unlink()
    (repo.path / "link").symlink_to("mod.py")
    (repo.path / "dir").unlink()
    repo.file("dir/inner/new.py", "n")
    repo.file("new.py", "new")
    repo.file("noise.log", "no")
    repo.file("added.py", "staged and gone")
    repo.git("add", "added.py")
    (repo.path / "added.py").unlink()
    os.mkfifo(repo.path / "fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        cwd = os.getcwd()
        os.chdir(repo.path)
        sock.bind("sock")
        os.chdir(cwd)
    snap = take(repo, look)
    assert snap.dirty
    got = listing(repo, snap.tree)
    assert got == {
        ".gitignore": ("100644", b"*.log\n"),
        "mod.py": ("100644", b"2\n"),
        "d/staged.py": ("100644", b"2"),
        "exec.sh": ("100755", b"#!"),
        "both.py": ("100644", b"work tree"),
        "link": ("120000", b"mod.py"),
        "dir/inner/new.py": ("100644", b"n"),
        "new.py": ("100644", b"new"),
    }
    assert snap.untracked == ("dir/inner/new.py", "new.py")
    assert {"mod.py", "gone.py", "d/staged.py", "exec.sh", "both.py", "link", "dir"} <= set(snap.changed)
    assert snap.left_out == {}


def test_only_look(repo, look):
    repo.commit(**{"a.py": "1"})
    repo.file("a.py", "2")
    repo.file("n.py", "2")
    objects = repo.git("count-objects")
    snap = take(repo, look, write=False)
    assert snap.dirty
    assert snap.changed == ("a.py",)
    assert snap.untracked == ("n.py",)
    assert snap.tree == repo.git("rev-parse", "HEAD^{tree}")
    assert repo.git("count-objects") == objects


def test_secrets_are_never_taken(repo, look):
    repo.commit(**{"server.key": "old", "a.py": "1", ".env.example": "A="})
    repo.file("server.key", "SECRET1")
    repo.file(".env", "SECRET2")
    repo.file("deep/.env.prod", "SECRET3")
    repo.file("deep/ID_RSA", "SECRET4")
    repo.file("staged.pem", "SECRET5")
    repo.git("add", "-f", "staged.pem")
    repo.file(".aws/credentials", "SECRET6")
    repo.file(".env.example", "B=")
    snap = take(repo, look)
    got = listing(repo, snap.tree)
    assert got == {
        "server.key": ("100644", b"old"),
        "a.py": ("100644", b"1"),
        ".env.example": ("100644", b"B="),
    }
    secret = {".env", "server.key", "deep/.env.prod", "deep/ID_RSA", "staged.pem", ".aws/credentials"}
    assert snap.left_out == dict.fromkeys(sorted(secret), "secret")
    for oid in repo.git("cat-file", "--batch-all-objects", "--batch-check=%(objectname)").split():
        data = repo.raw("cat-file", "-p", oid)
        # the staged one is there because the user's own `git add` put it there
        assert b"SECRET" not in data or data == b"SECRET5"


def test_deleted_secret_is_gone(repo, look):
    repo.commit(**{"server.key": "old", "a.py": "1"})
    (repo.path / "server.key").unlink()
    assert set(listing(repo, take(repo, look).tree)) == {"a.py"}


def test_gmlignore_and_rules(repo, look):
    repo.commit(**{"a.py": "1", "gen/out.txt": "1", ".gmlignore": "# data\n/data/\ngen/\n!data/keep.txt\n"})
    repo.file("gen/out.txt", "2")
    repo.file("data/x.bin", "2")
    repo.file("notes.tmp", "2")
    snap = take(repo, look, SnapshotRules(ignore=("*.tmp",)))
    assert snap.tree == repo.git("rev-parse", "HEAD^{tree}")
    assert snap.left_out == {
        "data/x.bin": "ignored by .gmlignore",
        "gen/out.txt": "ignored by .gmlignore",
        "notes.tmp": "ignored",
    }


def test_ignored_untracked_files_are_not_dirt(repo, look):
    repo.commit(**{"a.py": "1", ".gmlignore": "data\n"})
    repo.file("data/x.bin", "2")
    assert not take(repo, look).dirty


def test_limits(repo, look):
    repo.commit(**{"a.py": "1"})
    repo.file("big.bin", b"x" * 101)
    for number in range(4):
        repo.file(f"n{number}.txt", "x" * (40 + number))
    snap = take(repo, look, SnapshotRules(max_file=100, max_total=100))
    assert snap.left_out == {
        "big.bin": "too large",
        "n2.txt": "too large in total",
        "n3.txt": "too large in total",
    }
    snap = take(repo, look, SnapshotRules(max_file=100, max_files=1))
    assert snap.untracked == ("n0.txt",)
    assert snap.left_out["n1.txt"] == "too many"


def test_many_left_out_are_summarized(repo, look):
    repo.commit(**{"a.py": "1", ".gmlignore": "data\n"})
    for number in range(60):
        repo.file(f"data/{number}.bin", "2")
    assert take(repo, look).left_out == {"data/ (60 files)": "ignored by .gmlignore"}


def test_no_commit_yet(repo, look):
    snap = take(repo, look)
    assert (snap.commit, snap.branch, snap.dirty) == (None, "main", False)
    assert snap.tree == repo.git("hash-object", "-t", "tree", "/dev/null")
    repo.file("a.py", "1")
    repo.file("b.py", "2")
    repo.git("add", "a.py")
    snap = take(repo, look)
    assert snap.dirty
    assert set(listing(repo, snap.tree)) == {"a.py", "b.py"}
    assert take(repo, look, write=False).tree is None


def test_detached_head(repo, look):
    head = repo.commit(**{"a.py": "1"})
    repo.git("checkout", "-q", "--detach")
    snap = take(repo, look)
    assert (snap.commit, snap.branch) == (head, None)


def test_linked_worktree_and_subdirectory(repo, look):
    repo.commit(**{"a.py": "1", "d/b.py": "1"})
    other = repo.path.parent / "other"
    repo.git("worktree", "add", "-q", "-b", "side", str(other))
    (other / "d" / "b.py").write_text("2")
    store, tree = look(repo, other / "d")
    assert store.location.common_dir == repo.path / ".git"
    assert store.location.worktree == other
    snap = tree.snapshot(RULES)
    assert snap.branch == "side"
    assert snap.changed == ("d/b.py",)
    assert listing(repo, snap.tree)["d/b.py"] == ("100644", b"2")
    assert not look(repo)[1].snapshot(RULES).dirty


def test_submodules(repo, look, make_repo):
    lib = make_repo("lib")
    lib.commit(**{"l.py": "1"})
    repo.commit(**{"a.py": "1"})
    repo.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(lib.path), "lib")
    repo.commit()
    assert not take(repo, look).dirty
    store, _ = look(repo, repo.path / "lib")
    assert store.location.worktree == repo.path / "lib"
    (repo.path / "lib" / "l.py").write_text("2")
    snap = take(repo, look)
    assert snap.dirty
    assert snap.left_out == {"lib": "submodule"}
    assert snap.tree == repo.git("rev-parse", "HEAD^{tree}")
    repo.git("commit", "-qam", "in lib", cwd=repo.path / "lib")
    snap = take(repo, look)
    assert snap.left_out == {}
    assert snap.changed == ("lib",)
    assert listing(repo, snap.tree)["lib"] == ("160000", repo.git("rev-parse", "HEAD", cwd=repo.path / "lib"))


def test_embedded_repository(repo, look, make_repo):
    repo.commit(**{"a.py": "1"})
    inner = make_repo("repo/inner")
    inner.commit(**{"x.py": "1"})
    snap = take(repo, look)
    assert snap.left_out == {"inner": "embedded repository"}
    assert set(listing(repo, snap.tree)) == {"a.py"}


def test_bare(make_repo, look):
    repo = make_repo("bare.git", bare=True)
    store, tree = look(repo)
    assert tree.snapshot(RULES).tree is None
    blob = store.write("blob", b"x")
    root, objects = trees.edit(store, None, {"a": (0o100644, blob)})
    for kind, data in objects:
        store.write(kind, data)
    snap = tree.snapshot(RULES)
    commit = snapshot_commit(store, type(snap)(None, "main", root, dirty=True), ADA, 1_700_000_000, "x\n")
    store.update_ref("refs/heads/main", commit, expected=None, message="first")
    snap = tree.snapshot(RULES)
    assert (snap.commit, snap.tree, snap.dirty) == (commit, root, False)


@pytest.mark.parametrize(
    "name",
    ["new\nline.py", 'quo"te.py', "tab\there.py", "ünï.py", "back\\slash.py", " space .py", "-dash.py"],
)
def test_odd_names(repo, look, name):
    repo.commit(**{"a.py": "1", name: "1"})
    repo.file(name, "2")
    repo.file("x" + name, "3")
    snap = take(repo, look)
    got = listing(repo, snap.tree)
    assert got[name] == ("100644", b"2")
    assert got["x" + name] == ("100644", b"3")
    assert snap.changed == (name,)


def test_names_that_are_not_utf8(repo, look):
    repo.commit(**{"a.py": "1"})
    with open(os.path.join(os.fsencode(repo.path), b"caf\xe9.py"), "wb") as file:
        file.write(b"1")
    snap = take(repo, look)
    assert snap.untracked == ("caf\\xe9.py",)
    assert listing(repo, snap.tree)["caf\udce9.py"] == ("100644", b"1")


def test_merge_conflict(repo, look):
    repo.commit(**{"a.py": "base\n", "d.py": "base\n"})
    repo.git("checkout", "-qb", "side")
    repo.commit(**{"a.py": "side\n"})
    repo.git("checkout", "-q", "main")
    repo.commit(**{"a.py": "main\n"})
    repo.git("merge", "side", check=False)
    content = (repo.path / "a.py").read_bytes()
    assert b"<<<<" in content
    snap = take(repo, look)
    assert snap.dirty
    assert listing(repo, snap.tree)["a.py"] == ("100644", content)
    (repo.path / "a.py").unlink()
    assert "a.py" not in listing(repo, take(repo, look).tree)


def test_intent_to_add_and_assume_unchanged(repo, look):
    repo.commit(**{"a.py": "1", "b.py": "1"})
    repo.file("new.py", "n")
    repo.git("add", "-N", "new.py")
    repo.git("update-index", "--assume-unchanged", "b.py")
    repo.file("b.py", "2")
    got = listing(repo, take(repo, look).tree)
    assert got["new.py"] == ("100644", b"n")


def test_sparse_checkout(repo, look):
    repo.commit(**{"keep/a.py": "1", "away/b.py": "1"})
    repo.git("sparse-checkout", "set", "keep")
    assert not (repo.path / "away").exists()
    assert not take(repo, look).dirty
    repo.file("keep/a.py", "2")
    assert set(listing(repo, take(repo, look).tree)) == {"keep/a.py", "away/b.py"}


def test_line_ends(repo, look):
    repo.commit(**{".gitattributes": "*.txt text eol=crlf\n", "a.txt": "one\r\ntwo\r\n"})
    repo.file("a.txt", "one\r\nthree\r\n")
    repo.file("b.txt", "x\r\n")
    got = listing(repo, take(repo, look).tree)
    assert got["a.txt"] == ("100644", b"one\nthree\n")
    assert got["b.txt"] == ("100644", b"x\n")


def test_filter_program(repo, look):
    repo.git("config", "filter.up.clean", "tr a-z A-Z")
    repo.git("config", "filter.up.smudge", "tr A-Z a-z")
    repo.commit(**{".gitattributes": "*.up filter=up\n", "a.py": "1"})
    repo.file("w.up", "word")
    snap = take(repo, look)
    if look.adapter == "git":
        assert listing(repo, snap.tree)["w.up"] == ("100644", b"WORD")
    else:
        assert "filter" in snap.left_out["w.up"]


def test_one_bad_file_costs_only_itself(repo, look):
    repo.git("config", "filter.bad.clean", "false")
    repo.git("config", "filter.bad.required", "true")
    repo.commit(**{".gitattributes": "*.bad filter=bad\n", "a.py": "1"})
    repo.file("x.bad", "word")
    repo.file("a.py", "2")
    repo.file("n.py", "3")
    snap = take(repo, look)
    assert set(listing(repo, snap.tree)) == {".gitattributes", "a.py", "n.py"}
    assert list(snap.left_out) == ["x.bad"]


def test_unreadable(repo, look, monkeypatch):
    """Root reads everything, so the answer of access(2) is faked."""
    repo.commit(**{"a.py": "1"})
    repo.file("locked.py", "1")
    real = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: not str(path).endswith("locked.py") and real(path, mode)
    )
    snap = take(repo, look)
    assert snap.left_out == {"locked.py": "unreadable"}


def test_hooks_and_monitor_do_not_run(repo, look):
    repo.commit(**{"a.py": "1"})
    for hook in ("post-index-change", "fsmonitor"):
        repo.file(f".git/hooks/{hook}", f"#!/bin/sh\ntouch {repo.path.parent}/ran-{hook}\n", 0o755)
    repo.git("config", "core.fsmonitor", f"{repo.path}/.git/hooks/fsmonitor")
    repo.file("a.py", "2")
    for mark in repo.path.parent.glob("ran-*"):
        mark.unlink()
    _store, tree = look(repo)
    tree.snapshot(RULES)
    assert not list(repo.path.parent.glob("ran-*"))


def test_environment_of_a_hook_is_ignored(repo, look):
    repo.commit(**{"a.py": "1"})
    repo.file("a.py", "2")
    repo.environ |= {"GIT_INDEX_FILE": "/nonexistent/index", "GIT_PREFIX": "d/", "GIT_EXTERNAL_DIFF": "false"}
    store, tree = look(repo)
    snap = tree.snapshot(RULES)
    assert snap.changed == ("a.py",)
    assert "+2" in tree.diff(repo_tree(store), snap.tree)


def repo_tree(store):
    return store.resolve("HEAD^{tree}")


def test_diff_and_changes(repo, look):
    repo.commit(
        **{
            "a.py": "one\ntwo\n",
            "gone.py": "x\n",
            "mode.sh": "#!\n",
            "type": "t\n",
            "bin": "b\0b",
            "sp ace": "1",
        }
    )
    repo.file("a.py", "one\nzwei\n")
    (repo.path / "gone.py").unlink()
    (repo.path / "mode.sh").chmod(0o755)
    (repo.path / "type").unlink()
    (repo.path / "type").symlink_to("a.py")
    repo.file("bin", b"c\0c")
    repo.file("sp ace", "2")
    repo.file("new/ü.py", "n")
    repo.file("empty")
    store, tree = look(repo)
    snap = tree.snapshot(RULES)
    old = repo_tree(store)
    want = repo.git("diff", "--no-renames", "--full-index", old, snap.tree)
    assert tree.diff(old, snap.tree).rstrip("\n") == want
    assert tree.diff(snap.tree, old).rstrip("\n") == repo.git(
        "diff", "--no-renames", "--full-index", snap.tree, old
    )
    assert tree.diff(None, snap.tree)
    assert tree.diff(snap.tree, None)
    assert tree.diff(old, old) == ""
    status = repo.git("-c", "core.quotePath=false", "diff", "--no-renames", "--name-status", old, snap.tree)
    assert [f"{letter}\t{path}" for letter, path in tree.changes(old, snap.tree)] == status.splitlines()
    cut = tree.diff(old, snap.tree, max_bytes=100)
    assert cut.endswith("[diff cut: 100 bytes is the limit]\n")
    assert len(cut) < 160


def test_diff_applies(repo, look):
    """What the diff says, `git apply` does."""
    repo.commit(**{"a.py": "".join(f"{i}\n" for i in range(100)), "b.py": "no newline"})
    repo.file("a.py", "".join(f"{i}\n" for i in range(3, 90)))
    repo.file("b.py", "still none")
    repo.file("c.py", "new\n")
    store, tree = look(repo)
    snap = tree.snapshot(RULES)
    diff = tree.diff(repo_tree(store), snap.tree)
    repo.git("checkout", "-q", ".")
    (repo.path / "c.py").unlink()
    repo.git("apply", "--index", "-", data=diff)
    assert repo.git("write-tree") == snap.tree


def test_snapshot_commit(repo, look):
    head = repo.commit(**{"a.py": "1"})
    store, tree = look(repo)
    assert snapshot_commit(store, tree.snapshot(RULES), ADA, 1, "same\n") == head
    repo.file("a.py", "2")
    snap = tree.snapshot(RULES)
    made = snapshot_commit(store, snap, ADA, 1, "dirty\n")
    commit = parse_commit(store.read(made)[1])
    assert commit.parents == (head,)
    assert commit.tree == snap.tree
    assert commit.commit_time == parse_commit(store.read(head)[1]).commit_time
    repo.fsck()


def test_sha256(make_repo, look):
    repo = make_repo("s256", object_format="sha256")
    repo.commit(**{"a.py": "1\n"})
    repo.file("a.py", "2\n")
    if look.adapter == "pygit2":
        with pytest.raises(RepositoryError, match="git command"):
            look(repo)
        return
    snap = take(repo, look)
    assert listing(repo, snap.tree)["a.py"] == ("100644", b"2\n")
    store, tree = look(repo)
    assert "+2" in tree.diff(repo_tree(store), snap.tree)


def test_damaged_index_is_one_clear_line(repo, look):
    repo.commit(**{"a.py": "1"})
    (repo.path / ".git" / "index").write_bytes(b"garbage")
    with pytest.raises(RepositoryError) as caught:
        look(repo)[1].snapshot(RULES)
    assert "\n" not in str(caught.value)


def test_git_is_found_on_the_given_path_only(repo):
    assert shutil.which("git")
    repo.environ["PATH"] = "/nonexistent"
    assert type(open_worktree(repo.store())._adapter).__name__ == "LibgitFiles"
