"""`gml artifacts push|pull|status` and `gml config` as a user calls them, with real repositories."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

import warm
from gml.cas.backed import BackedStore
from gml.domain.errors import NotFoundError, StorageError, UsageError
from gml.tracking.contents import open_artifact
from gml.tracking.queries import copy_artifacts
from gml.tracking.reader import Reader
from gml.tracking.remotes import (
    digests_of,
    missing_on_remote,
    pull_artifacts,
    push_artifacts,
    whereabouts,
)
from gml.workspace.config import SETTINGS, Config, find_setting


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user configuration that can be written."""
    file = tmp_path / "gitconfig"
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(file))
    return file


def gml(repo, *args: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(warm.command()), *args],
        cwd=repo.path,
        env=repo.env(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, (args, done.stdout, done.stderr)
    return done


def run_with_files(repo, *sizes: int) -> str:
    return repo.python(
        """
import gml, os, sys
with gml.start_run() as run:
    for number, size in enumerate(map(int, sys.argv[1:])):
        with open("file", "wb") as file:
            file.write(os.urandom(size))
        gml.log_artifact("file", f"folder/{number}")
print(run.run_id)
""",
        *sizes,
    )


def test_push_lose_read_pull(repo, tmp_path):
    run_id = run_with_files(repo, 100_000, 300_000)
    repo.git("config", "gml.artifacts.remote.team.url", str(tmp_path / "share"))
    before = json.loads(gml(repo, "artifacts", "status", "--json").stdout)
    assert before["here"] == {"blobs": 2, "bytes": 400_000, "runs": [run_id]}
    assert (before["there"]["blobs"], before["both"]["blobs"], before["nowhere"]["blobs"]) == (0, 0, 0)
    assert missing_on_remote(repo.workspace(), [Reader(repo.workspace()).resolve("@")]) == {
        run_id: ["folder/0/file", "folder/1/file"]
    }
    first = gml(repo, "artifacts", "push", "--json")
    assert json.loads(first.stdout)["files"] == 2
    assert "2 files, 400.0 kB" in first.stderr
    assert json.loads(gml(repo, "artifacts", "push", "--json").stdout)["files"] == 0
    shutil.rmtree(repo.path / ".git/gml/cas")
    workspace = repo.workspace()
    run = Reader(workspace).resolve("@")
    with open_artifact(Reader(workspace), run, "folder/0/file") as file:
        assert len(file.read()) == 100_000
    parts = whereabouts(workspace, [run])
    assert (parts.both.blobs, parts.there.blobs) == (1, 1)
    assert json.loads(gml(repo, "artifacts", "pull", "@", "--json").stdout)["files"] == 1
    shutil.rmtree(tmp_path / "share")
    copied = copy_artifacts(Reader(workspace), run, None, tmp_path / "out")
    assert sorted(path.stat().st_size for path in copied) == [100_000, 300_000]


def test_what_is_nowhere_is_counted_and_named(repo, tmp_path):
    run_id = run_with_files(repo, 100_000)
    repo.git("config", "gml.artifacts.remote.team.url", str(tmp_path / "share"))
    shutil.rmtree(repo.path / ".git/gml/cas")
    done = gml(repo, "artifacts", "push", code=4)
    assert "1 artifacts are neither here nor in the remote" in done.stderr
    found = json.loads(gml(repo, "artifacts", "status", "--json").stdout)
    assert found["nowhere"] == {"blobs": 1, "bytes": 100_000, "runs": [run_id]}
    said = gml(repo, "artifacts", "cat", "@", "folder/0/file", code=4)
    assert "neither in" in said.stderr
    assert "team" in said.stderr


def test_the_remotes_are_asked_in_turn(repo, tmp_path):
    for number in range(2):
        repo.git("config", f"gml.artifacts.remote.r{number}.url", str(tmp_path / f"share{number}"))
    ids = [run_with_files(repo, 100_000) for _ in range(2)]
    workspace = repo.workspace()
    runs = [Reader(workspace).resolve(run_id) for run_id in ids]
    for number, run in enumerate(runs):
        push_artifacts(workspace, [run], f"r{number}")
    shutil.rmtree(repo.path / ".git/gml/cas")
    with pytest.raises(UsageError, match="several artifact remotes: r0, r1"):
        push_artifacts(repo.workspace(), runs)
    done = pull_artifacts(repo.workspace(), digests_of(runs))
    assert done.absent == []
    assert done.files == 2
    with pytest.raises(NotFoundError, match=r"no artifact remote 'r7' \(known: r0, r1\)"):
        push_artifacts(repo.workspace(), runs, "r7")


def test_a_main_store_that_is_a_url_gets_everything_at_once(repo, tmp_path, caplog):
    store = BackedStore(
        tmp_path / "local", None, [place := Place("store", f"memory://{tmp_path.name}")], main=place
    )
    digest = store.put_bytes(b"x" * 100_000).digest
    assert store.source(place).has([digest]) == {digest}
    other = BackedStore(tmp_path / "other", None, [place])
    assert other.contains(digest)
    assert other.read(digest) == b"x" * 100_000
    other.get_file(digest, tmp_path / "file")
    assert (tmp_path / "file").stat().st_size == 100_000
    assert not caplog.records


def test_a_main_store_out_of_reach_costs_a_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    place = Place("store", f"file://{tmp_path}/file/store")
    store = BackedStore(tmp_path / "local", None, [place], main=place)
    digest = store.put_bytes(b"kept").digest
    assert store.read(digest) == b"kept"
    store.put_bytes(b"kept too")
    (record,) = caplog.records
    assert "`gml artifacts push` sends them" in record.getMessage()
    with pytest.raises(StorageError):
        store.send([digest], place)


class Place:
    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.url = url
        self.options: dict[str, object] = {}


# --- gml config -------------------------------------------------------------------------------


def test_settings_go_into_git_config(repo):
    gml(repo, "config", "artifacts.remote.a.url", "../share")
    assert repo.git("config", "gml.artifacts.remote.a.url") == str(repo.path.parent / "share")
    gml(repo, "config", "inlineLimit", "128k")
    assert repo.git("config", "gml.inlineLimit") == "131072"
    assert gml(repo, "config", "gml.inlinelimit").stdout == "131072\n"
    assert json.loads(gml(repo, "config", "--json").stdout) == {
        "gml.artifacts.remote.a.url": str(repo.path.parent / "share"),
        "gml.inlineLimit": "131072",
    }
    gml(repo, "config", "--unset", "inlineLimit")
    gml(repo, "config", "inlineLimit", code=4)
    gml(repo, "config", "--unset", "inlineLimit", code=4)


def test_options_are_the_users_own(repo, home):
    gml(repo, "config", "artifacts.remote.a.url", "s3://bucket/x")
    gml(repo, "config", "artifacts.remote.a.options", '{"profile": "mine"}')
    assert "options" not in (repo.path / ".git/config").read_text()
    assert "profile" in home.read_text()
    repo.git("config", "gml.artifacts.remote.a.options", '{"profile": "theirs"}')
    assert repo.workspace().artifact_remotes["a"].options == {"profile": "mine"}
    assert gml(repo, "config", "artifacts.remote.a.options").stdout == '{"profile": "mine"}\n'
    home.unlink()
    assert repo.workspace().artifact_remotes["a"].options == {}


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("code", "all", "use one of snapshot, patch, none"),
        ("inlineLimit", "many", "give a size"),
        ("checkpoint", "-1", "whole number"),
        ("artifacts.jobs", "0", "whole number from 1"),
        ("artifacts.store", "", "cannot be empty"),
        ("artifacts.store", "nonsense://x", "no file system for nonsense://"),
        ("artifacts.store", "sftp://me:secret@host/x", "must not contain a password"),
        ("artifacts.options", "[1]", "not a JSON object"),
        ("artifacts.defaultRemote", "a b", "name of a remote"),
        ("artifacts.remote.a b.url", "/x", "no setting"),
        ("artifacts.stor", "/x", "did you mean gml.artifacts.store"),
        ("experiment", "a\nb", "several lines"),
        ("experiment", " ", "cannot be empty"),
    ],
)
def test_values_that_cannot_be(repo, key, value, said):
    config = Config.open(repo.path, repo.env())
    with pytest.raises(UsageError) as caught:
        config.set(key, value, base=repo.path)
    assert said in str(caught.value)
    assert config.values() == []


def test_without_a_repository_only_your_own(tmp_path, home):
    config = Config.open(tmp_path, dict(os.environ))
    config.set("experiment", "mine", base=tmp_path, user=True)
    assert config.get("experiment") == "mine"
    assert "mine" in home.read_text()
    with pytest.raises(UsageError, match="no repository here"):
        config.set("experiment", "x", base=tmp_path)
    config.unset("experiment", user=True)
    assert config.get("experiment") is None


def test_every_setting_is_found_by_its_own_name():
    for setting in SETTINGS:
        found, key = find_setting(setting.key.replace("<name>", "a.b-c"))
        assert found is setting
        assert key == setting.key.replace("<name>", "a.b-c")
