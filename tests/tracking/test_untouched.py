"""Nothing of the user's is touched: work tree, index, HEAD, branches, stash, config; in any kind of repository."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from gml.tracking.reader import Reader

TRAINING = """
import gml
with gml.start_run(run_name="training") as run:
    gml.log_param("lr", 0.1)
    gml.log_metric("loss", 1, step=1)
    gml.log_text("text", "small.txt")
    gml.log_text("x" * 100_000, "large.txt")
    run.recorder.checkpoint()
    gml.log_metric("loss", 2, step=2)
print(run.run_id)
"""


def contents(top: Path, skip: tuple[str, ...] = ()) -> dict[str, object]:
    """Return mode, times and content of everything below a directory."""
    out: dict[str, object] = {}
    for folder, folders, names in os.walk(top):
        folders[:] = [name for name in folders if Path(folder, name).relative_to(top).as_posix() not in skip]
        for name in [*names, *folders]:
            path = Path(folder, name)
            facts = path.lstat()
            data = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
            digest = data if isinstance(data, str) else hashlib.sha256(data).hexdigest()
            times = facts.st_mtime_ns if not path.is_dir() else 0
            out[path.relative_to(top).as_posix()] = (facts.st_mode, facts.st_size * bool(data), times, digest)
    return out


def state(repo) -> dict[str, object]:
    """Return everything of a repository that is not gml's."""
    git_dir = Path(repo.git("rev-parse", "--absolute-git-dir"))
    common = Path(repo.path, repo.git("rev-parse", "--git-common-dir")).resolve()
    ours = ("gml", "objects", "refs/gml", "logs/refs/gml")
    refs = [r for r in repo.git("for-each-ref").splitlines() if "\trefs/gml/" not in r]
    return {
        "files": contents(repo.path, skip=(".git",)) if git_dir != repo.path else {},
        "common": {
            path: facts
            for path, facts in contents(common, skip=ours).items()
            if path not in {"logs", "logs/refs", "objects", "refs"}
        },
        "own": contents(git_dir, skip=ours) if git_dir != common else {},
        "refs": refs,
        "head": (git_dir / "HEAD").read_bytes(),
    }


def dirty(repo) -> None:
    repo.file("train.py", "print('changed')\n")
    repo.file("staged.py", "print('staged')\n")
    repo.git("add", "staged.py")
    repo.file("staged.py", "print('and changed again')\n")
    repo.file("untracked.txt", "untracked")
    repo.file(".env", "SECRET=1")
    repo.file("script.sh", "#!/bin/sh\n").chmod(0o755)
    (repo.path / "link").symlink_to("train.py")
    (repo.path / "nowhere").symlink_to("does/not/exist")
    repo.file("ignored.log", "ignored")
    repo.file(".gitignore", "*.log\n")


def plain(make_repo, tmp_path):
    return make_repo()


def dirty_with_stash(make_repo, tmp_path):
    repo = make_repo()
    repo.file("train.py", "print('stashed')\n")
    repo.git("stash", "push", "-q")
    repo.git("branch", "other")
    repo.git("tag", "v1")
    dirty(repo)
    return repo


def merging(make_repo, tmp_path):
    """A repository in the middle of a merge with a conflict."""
    repo = make_repo()
    repo.git("checkout", "-q", "-b", "other")
    repo.commit("other", **{"train.py": "other\n"})
    repo.git("checkout", "-q", "main")
    repo.commit("main", **{"train.py": "main\n"})
    with pytest.raises(AssertionError, match="merge"):
        repo.git("merge", "-q", "other")
    return repo


def no_commit(make_repo, tmp_path):
    repo = make_repo(commit=False)
    dirty(repo)
    return repo


def bare(make_repo, tmp_path):
    return make_repo("bare.git", "--bare")


def detached(make_repo, tmp_path):
    repo = make_repo()
    repo.commit("second")
    repo.git("checkout", "-q", "--detach", "HEAD~1")
    dirty(repo)
    return repo


def linked_worktree(make_repo, tmp_path):
    repo = make_repo()
    repo.git("worktree", "add", "-q", str(tmp_path / "linked"), "-b", "linked")
    linked = type(repo)(tmp_path / "linked")
    dirty(linked)
    return linked


def submodule(make_repo, tmp_path):
    inner = make_repo("inner")
    outer = make_repo("outer")
    outer.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner.path), "sub")
    outer.git("commit", "-q", "-m", "submodule")
    sub = type(outer)(outer.path / "sub")
    dirty(sub)
    return sub


def with_submodule(make_repo, tmp_path):
    submodule(make_repo, tmp_path)
    return type(make_repo("unused"))(tmp_path / "outer")


def sha256(make_repo, tmp_path):
    repo = make_repo("new", "--object-format=sha256")
    dirty(repo)
    return repo


def sha256_bare(make_repo, tmp_path):
    return make_repo("new.git", "--bare", "--object-format=sha256")


def subfolder(make_repo, tmp_path):
    repo = make_repo()
    dirty(repo)
    (repo.path / "deep" / "er").mkdir(parents=True)
    return type(repo)(repo.path / "deep" / "er")


KINDS = [
    plain,
    dirty_with_stash,
    merging,
    no_commit,
    bare,
    detached,
    linked_worktree,
    submodule,
    with_submodule,
    sha256,
    sha256_bare,
    subfolder,
]


# Without a snapshot less is done: some kinds of repository say it for all.
CASES = [(kind, "snapshot") for kind in KINDS] + [
    (kind, "none") for kind in (merging, bare, linked_worktree, sha256)
]


@pytest.mark.parametrize(("kind", "mode"), CASES, ids=[f"{mode}-{kind.__name__}" for kind, mode in CASES])
def test_a_run_touches_nothing_of_the_users(make_repo, tmp_path, kind, mode):
    repo = kind(make_repo, tmp_path)
    before = state(repo)
    run_id = repo.python(TRAINING, GML_CODE=mode)
    after = state(repo)
    assert after == before
    reader = Reader(repo.workspace())
    run = reader.run(run_id)
    assert (run.status, run.params, run.metrics["loss"].count) == ("FINISHED", {"lr": "0.1"}, 2)
    assert sorted(run.artifacts) == ["large.txt", "small.txt"]
    assert run.source["code"] == mode
    repo.git("fsck", "--strict")


def test_a_run_inside_a_commit_hook_of_the_user_leaves_the_commit_alone(repo):
    """A hook runs with GIT_INDEX_FILE and GIT_DIR set; training in it must not use them up."""
    hook = repo.path / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    import sys

    hook.write_text(
        f"#!/bin/sh\nexec {sys.executable} -c 'import gml\nwith gml.start_run(): gml.log_metric(\"m\", 1)'\n"
    )
    hook.chmod(0o755)
    repo.file("new.py", "new\n")
    repo.file("not-added.py", "not added\n")
    repo.git("add", "new.py")
    repo.git("commit", "-q", "-m", "with hook")
    assert repo.git("show", "--name-only", "--format=", "HEAD") == "new.py"
    assert repo.git("status", "--short") == "?? not-added.py"
    assert len(list(Reader(repo.workspace()).runs())) == 1


def test_the_work_tree_is_as_clean_as_before(repo):
    repo.python(TRAINING)
    assert repo.git("status", "--porcelain", "--ignored") == ""
    assert repo.git("stash", "list") == ""
    assert repo.git("log", "--format=%s", "--branches") == "start"
    assert (
        repo.git("for-each-ref", "--format=%(refname)") == "refs/gml/code\nrefs/gml/ledger\nrefs/heads/main"
    )
