"""Finding repositories, choosing engines, configuration, packs and maintenance."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gml.domain.errors import RepositoryError, StorageError
from gml.git import maintenance
from gml.git.discover import open_store
from gml.git.files import shared_bits
from gml.git.gitconfig import GitConfig, parse_config, set_value
from gml.git.pack import _index, build_pack
from gml.testing.git_tools import make_commit


def where(repo, path, **environ):
    store = open_store(path, environ=repo.environ | environ)
    store.close()
    return store.location


def test_upward_from_anywhere(repo):
    repo.commit(**{"d/e/f.py": "1"})
    for path in (
        repo.path,
        repo.path / "d" / "e",
        repo.path / "d" / "e" / "f.py",
        repo.path / ".git",
        repo.path / ".git" / "refs",
    ):
        place = where(repo, path)
        assert place.common_dir == place.git_dir == repo.path / ".git"
        assert place.worktree == repo.path
    assert place.engine == "pygit2"
    assert place.engine_reason


def test_through_a_link(repo, tmp_path):
    (tmp_path / "link").symlink_to(repo.path)
    assert where(repo, tmp_path / "link").worktree == repo.path


def test_nothing_there(repo, tmp_path):
    (tmp_path / "plain").mkdir()
    with pytest.raises(RepositoryError, match=f"not a git repository: {tmp_path / 'plain'}") as caught:
        where(repo, tmp_path / "plain")
    assert "git init" in caught.value.hint
    with pytest.raises(RepositoryError):
        where(repo, tmp_path / "does" / "not" / "exist")


def test_a_folder_called_git_is_not_enough(repo):
    (repo.path / "sub" / ".git").mkdir(parents=True)
    assert where(repo, repo.path / "sub").worktree == repo.path


def test_ceiling(repo):
    (repo.path / "d" / "e").mkdir(parents=True)
    with pytest.raises(RepositoryError):
        where(repo, repo.path / "d" / "e", GIT_CEILING_DIRECTORIES=f"/x:{repo.path}")
    assert where(repo, repo.path, GIT_CEILING_DIRECTORIES=str(repo.path)).worktree == repo.path


def test_git_dir_and_work_tree(repo, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    place = where(repo, None, GIT_DIR=str(repo.path / ".git"), GIT_WORK_TREE=str(repo.path))
    assert (place.git_dir, place.worktree) == (repo.path / ".git", repo.path)
    assert where(repo, None, GIT_DIR=str(repo.path / ".git")).worktree == elsewhere
    with pytest.raises(RepositoryError, match="GIT_DIR"):
        where(repo, None, GIT_DIR=str(elsewhere))
    monkeypatch.chdir(repo.path)
    assert where(repo, None).worktree == repo.path
    # a path that was asked for wins over GIT_DIR
    assert where(repo, repo.path, GIT_DIR=str(elsewhere)).worktree == repo.path


def test_core_worktree_and_separate_git_dir(repo, make_repo, tmp_path):
    repo.git("config", "core.worktree", "../../other")
    assert where(repo, repo.path).worktree == tmp_path / "other"
    (tmp_path / "work").mkdir()
    repo.git("init", "-q", f"--separate-git-dir={tmp_path / 'store.git'}", str(tmp_path / "work"))
    place = where(repo, tmp_path / "work")
    assert (place.git_dir, place.worktree) == (tmp_path / "store.git", tmp_path / "work")


def test_broken_git_file(repo, tmp_path):
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / ".git").write_text("gitdir: /nonexistent\n")
    with pytest.raises(RepositoryError, match="nonexistent"):
        where(repo, tmp_path / "w")
    (tmp_path / "w" / ".git").write_text("nonsense")
    with pytest.raises(RepositoryError, match="not a git file"):
        where(repo, tmp_path / "w")


def test_engines(make_repo):
    assert where(make_repo("one"), make_repo("two").path).engine == "pygit2"
    s256 = make_repo("s256", object_format="sha256")
    place = where(s256, s256.path)
    assert (place.engine, place.object_format) == ("dulwich", "sha256")
    with pytest.raises(RepositoryError, match="SHA-256"):
        open_store(s256.path, environ=s256.environ, engine="pygit2")


@pytest.mark.parametrize(
    ("key", "value"), [("refStorage", "reftable"), ("someday", "true"), ("objectFormat", "sha3")]
)
def test_extensions_that_are_not_supported(repo, key, value):
    repo.git("config", "core.repositoryformatversion", "1")
    with (repo.path / ".git" / "config").open("a") as file:
        file.write(f"[extensions]\n\t{key} = {value}\n")
    with pytest.raises(RepositoryError, match=f"(?i)extensions.{key}"):
        where(repo, repo.path)


def test_partial_clone_is_served(repo):
    repo.commit(a="1")
    repo.git("config", "core.repositoryformatversion", "1")
    repo.git("config", "extensions.partialClone", "origin")
    store = repo.store()
    assert store.read(store.head().commit)[0] == "commit"


def test_future_format(repo):
    repo.git("config", "core.repositoryformatversion", "7")
    with pytest.raises(RepositoryError, match="format 7"):
        where(repo, repo.path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_somebody_elses_repository(repo, tmp_path):
    os.chown(repo.path, 12345, 12345)
    with pytest.raises(RepositoryError, match="another user") as caught:
        where(repo, repo.path)
    assert f"git config --global --add safe.directory {repo.path}" in str(caught.value)
    ask = ["git", "rev-parse", "--git-dir"]
    for value, trusted in [
        (str(repo.path), True),
        ("*", True),
        ("", False),
        ("/other", False),
        ("/tmp/*", False),
    ]:
        config = tmp_path / "global"
        config.write_text(f'[safe]\n\tdirectory = "{value}"\n')
        environ = repo.environ | {"GIT_CONFIG_GLOBAL": str(config)}
        said = (
            subprocess.run(ask, cwd=repo.path, env=environ, capture_output=True, check=False).returncode == 0
        )
        if not value.endswith("/*"):  # newer git knows prefixes
            assert said == trusted
        if trusted:
            assert where(repo, repo.path, GIT_CONFIG_GLOBAL=str(config)).worktree == repo.path
        elif not str(repo.path).startswith("/tmp/"):
            with pytest.raises(RepositoryError):
                where(repo, repo.path, GIT_CONFIG_GLOBAL=str(config))
    # the repository may not declare itself safe
    (repo.path / ".git" / "config").open("a").write("[safe]\n\tdirectory = *\n")
    with pytest.raises(RepositoryError):
        where(repo, repo.path)
    # who names the git directory trusts it
    assert where(repo, None, GIT_DIR=str(repo.path / ".git"))
    environ = {"SUDO_UID": "12345"}
    assert where(repo, repo.path, **environ).worktree == repo.path


def test_bare_only_when_named(make_repo, monkeypatch):
    repo = make_repo("b.git", bare=True)
    place = where(repo, repo.path)
    assert (place.worktree, place.git_dir) == (None, repo.path)
    explicit = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.bareRepository",
        "GIT_CONFIG_VALUE_0": "explicit",
    }
    with pytest.raises(RepositoryError, match="bare"):
        where(repo, repo.path, **explicit)
    assert where(repo, None, GIT_DIR=str(repo.path), **explicit).git_dir == repo.path


def test_imports_stay_lazy(repo):
    """Neither engine is loaded by importing discovery, and pathspec only when patterns exist."""
    code = "import sys, gml.git.discover, gml.git.worktree; print([m for m in ('pygit2', 'dulwich', 'pathspec') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# configuration


def test_levels_and_includes(repo, tmp_path):
    home = tmp_path / "home"
    (home / ".gitconfig").write_text(
        '[user]\n\tname = Global\n\temail = g@x\n[include]\n\tpath = more.inc\n[includeIf "gitdir:**/repo/.git"]\n\tpath = ~/if.inc\n'
        '[includeIf "gitdir:/elsewhere/"]\n\tpath = no.inc\n[includeIf "onbranch:ma*"]\n\tpath = branch.inc\n'
    )
    (home / "more.inc").write_text("[user]\n\temail = included@x\n[a]\n\tb\n")
    (home / "if.inc").write_text("[c]\n\td = conditional\n")
    (home / "no.inc").write_text("[c]\n\te = wrong\n")
    (home / "branch.inc").write_text("[c]\n\tf = branch\n")
    environ = {
        k: v
        for k, v in repo.environ.items()
        if not k.startswith(("GIT_CONFIG_GLOBAL", "GIT_AUTHOR", "GIT_COMMITTER"))
    }
    repo.environ = environ
    store = repo.store()
    for key in ("user.name", "user.email", "a.b", "c.d", "c.e", "c.f", "core.bare"):
        said = repo.git("config", key, check=False) or None
        assert store.config(key) == ("true" if key == "a.b" else said), key
    assert store.identity().email == "included@x"
    repo.git("config", "user.name", "Local")
    assert store.identity().name == "Local"
    repo.environ = environ | {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "user.name",
        "GIT_CONFIG_VALUE_0": "Env",
    }
    assert repo.store().config("user.name") == "Env"
    repo.environ = environ | {"GIT_CONFIG_PARAMETERS": "'user.name'='From -c' 'x.y'"}
    assert repo.store().config("user.name") == "From -c"
    repo.environ = environ | {"GIT_AUTHOR_NAME": "Author"}
    assert repo.store().identity().name == "Author"


def test_no_identity(repo):
    repo.environ = {"PATH": repo.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1"}
    assert repo.store().identity() is None
    store = repo.store()
    store.update_ref("refs/heads/main", make_commit(store), expected=None, message="works without a name")


def test_worktree_config(repo, tmp_path):
    repo.commit()
    repo.git("worktree", "add", "-q", str(tmp_path / "w"))
    repo.git("config", "extensions.worktreeConfig", "true")
    repo.git("config", "--worktree", "gml.x", "linked", cwd=tmp_path / "w")
    assert repo.store(tmp_path / "w").config("gml.x") == "linked"
    assert repo.store().config("gml.x") is None


def test_bad_config_names_the_file(repo):
    store = repo.store()
    (repo.path / ".git" / "config").write_text("[core\n")
    with pytest.raises(RepositoryError, match=r"line 1 in .*config"):
        store.config("a.b")


def test_locked_config(repo):
    lock = repo.path / ".git" / "config.lock"
    lock.touch()
    with pytest.raises(StorageError, match="locked"):
        repo.store().set_config("gml.x", "1")
    lock.unlink()
    with pytest.raises(RepositoryError):
        repo.store().set_config("nodot", "1")
    assert not lock.exists()


values = st.text(
    st.characters(blacklist_categories=("Cs", "Cc")) | st.sampled_from('"\\;# \t\n'), max_size=15
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from(["gml.a", "gml.b", "gml.Sub x.c", "other.a"]), values | st.none()),
        max_size=5,
    )
)
def test_set_equals_git(tmp_path, steps):
    path = tmp_path / "config"
    path.write_text("# top\n[gml]\n\ta = 1 ; note\n[other] # c\n\ta = \\\n  long\n")
    model = {"gml.a": "1", "other.a": "long"}
    for key, value in steps:
        set_value(path, key, value)
        model.pop(key, None)
        if value is not None:
            model[key] = value
    done = subprocess.run(["git", "config", "-z", "-f", str(path), "--list"], capture_output=True, check=True)
    said = dict(item.split("\n", 1) for item in done.stdout.decode().split("\0") if item)
    assert said == model
    assert dict(parse_config(path.read_text())) == model
    assert path.read_text().startswith("# top\n")


def test_outside_of_a_repository(tmp_path):
    (tmp_path / ".gitconfig").write_text("[a]\n\tb = c\n")
    config = GitConfig({"HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"})
    assert config.get("A.B") == "c"


def test_shared_bits():
    assert [shared_bits(v) for v in (None, "umask", "group", "TRUE", "all", "0640")] == [
        0,
        0,
        0o660,
        0o660,
        0o664,
        0o640,
    ]


# packs and maintenance


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_index_of_a_huge_pack(tmp_path, object_format):
    """Offsets past 2 GiB take the 64-bit table; C git reads them back."""
    _, _, ids = build_pack([("blob", b"%d" % n) for n in range(9)], object_format)
    placed = {oid: (12 + n * 0x60000000, n) for n, oid in enumerate(ids)}
    data = _index(placed, bytes(len(ids[0]) // 2), object_format)
    done = subprocess.run(
        ["git", "show-index", f"--object-format={object_format}"],
        input=data,
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    said = {line.split()[1]: int(line.split()[0]) for line in done.stdout.decode().splitlines()}
    assert said == {oid: offset for oid, (offset, _) in placed.items()}


def test_failed_pack_leaves_nothing(repo, monkeypatch):
    store = repo.store()
    real = os.rename

    def rename(source, target):
        if str(target).endswith(".idx"):
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(StorageError):
        store.write_pack([("blob", b"x")])
    left = [p.name for p in (repo.path / ".git" / "objects" / "pack").iterdir()]
    assert [name for name in left if not name.endswith(".pack")] == []
    monkeypatch.undo()
    assert store.write_pack([("blob", b"x")])
    repo.fsck()


def test_count_and_repack(repo):
    store = repo.store()
    assert maintenance.count_loose(store.location.common_dir) == 0
    tip = None
    for number in range(300):
        tip = make_commit(store, [tip] if tip else [], str(number))
    store.update_ref("refs/gml/ledger", tip, expected=None, message="x")
    unreachable = store.write("blob", b"not yet named by a ref")
    assert 256 <= maintenance.count_loose(store.location.common_dir) <= 256 * 20
    assert maintenance.repack(store)
    assert maintenance.count_loose(store.location.common_dir) == 0
    assert store.read(tip)[0] == "commit"
    assert store.read(unreachable) == ("blob", b"not yet named by a ref")
    repo.fsck()
    repo.environ["PATH"] = "/nonexistent"
    assert not maintenance.repack(repo.store())
