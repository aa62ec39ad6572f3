"""Artifacts as an fsspec file system, in the libraries that people read data with."""

import io

import fsspec
import numpy as np
import pandas as pd
import pyarrow.dataset
import pyarrow.parquet
import pytest

from gml.tracking.reader import Reader
from gml.tracking.remotes import push_artifacts


def random_bytes(size, seed=0):
    return np.random.default_rng(seed).bytes(size)


@pytest.fixture
def table():
    return pd.DataFrame({"row": range(20_000), "score": np.random.default_rng(1).random(20_000)})


@pytest.fixture
def run(repo, api, table):
    """Return the id of a run with files in git, as blobs of their own, and in chunks."""
    with api.start_run(run_name="forest") as started:
        api.log_text("a,b\n1,2\n", "small/table.csv")
        parquet = io.BytesIO()
        table.to_parquet(parquet)
        for name, data in (
            ("scores.parquet", parquet.getvalue()),
            ("model/weights.bin", random_bytes(10_000_000)),
            ("model/large.bin", random_bytes(17_000_000, 2)),
        ):
            (repo.path / "file").write_bytes(data)
            (repo.path / "file").rename(repo.path / name.rpartition("/")[2])
            api.log_artifact(repo.path / name.rpartition("/")[2], name.rpartition("/")[0] or None)
    return started.info.run_id


def test_pandas_and_pyarrow_read_urls(run, table):
    assert pd.read_csv("gml://@/small/table.csv").to_dict("list") == {"a": [1], "b": [2]}
    pd.testing.assert_frame_equal(pd.read_parquet(f"gml://{run}/scores.parquet"), table)
    system = fsspec.filesystem("gml")
    columns = pyarrow.parquet.read_table("forest/scores.parquet", columns=["score"], filesystem=system)
    assert columns.num_rows == len(table)
    data = pyarrow.dataset.dataset("forest/scores.parquet", filesystem=system, format="parquet")
    assert data.count_rows(filter=pyarrow.dataset.field("row") < 10) == 10


def test_artifacts_of_a_run(api, run):
    files = api.artifacts(run)
    with files.open("model/weights.bin") as file:
        assert file.seekable()
        file.seek(5_000_000)
        assert file.read(100) == random_bytes(10_000_000)[5_000_000:5_000_100]
    with files.open("model/large.bin") as file:
        file.seek(-8, io.SEEK_END)
        assert file.read() == random_bytes(17_000_000, 2)[-8:]
    assert files.ls("", detail=False) == ["model", "scores.parquet", "small"]
    assert sorted(files.find("")) == [
        "model/large.bin",
        "model/weights.bin",
        "scores.parquet",
        "small/table.csv",
    ]
    assert files.glob("**/*.csv") == ["small/table.csv"]
    assert files.isdir("model")
    assert files.info("model/weights.bin")["size"] == 10_000_000
    assert files.cat_file("small/table.csv", start=4) == b"1,2\n"
    with files.open("small/table.csv", "r") as file:
        assert file.read() == "a,b\n1,2\n"
    assert api.artifacts(api.get_run(run)).exists("scores.parquet")


def test_what_is_not_there_and_writing(api, run):
    files = api.artifacts("@")
    assert not files.exists("model/other.bin")
    assert not fsspec.filesystem("gml").exists("nobody/x")
    with pytest.raises(FileNotFoundError, match="no artifact 'other'"):
        files.open("other")
    with pytest.raises(IsADirectoryError):
        files.open("model")
    with pytest.raises(OSError, match="log_artifact"):
        files.open("new.txt", "wb")
    with pytest.raises(FileNotFoundError):
        pd.read_csv("gml://@/../../etc/passwd")


def test_another_repository_and_files_that_only_a_remote_has(repo, run, tmp_path, monkeypatch):
    repo.git("config", "gml.artifacts.remote.team.url", str(tmp_path / "share"))
    workspace = repo.workspace()
    push_artifacts(workspace, [Reader(workspace).resolve(run)])
    for folder in ("sha256", "packs", "recipes"):
        for stored in list(workspace.blobs.names(folder)):
            workspace.blobs.delete_name(stored.name)
    monkeypatch.chdir(tmp_path)
    system = fsspec.filesystem("gml", repository=repo.path)
    assert run in system.ls("", detail=False)
    with fsspec.open(f"gml://{run}/model/large.bin", repository=repo.path) as file:
        assert file.read() == random_bytes(17_000_000, 2)
    system.get(f"{run}/model", str(tmp_path / "out"), recursive=True)
    assert (tmp_path / "out" / "weights.bin").read_bytes() == random_bytes(10_000_000)
