"""Tables, TensorBoard's event files and DVCLive's folders come in as runs."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gml.compat.csv_runs import read_csv
from gml.compat.dvclive import read_dvclive
from gml.compat.foreign import Losses
from gml.compat.importing import Importer
from gml.compat.tensorboard import read_tensorboard, scalars
from gml.domain.errors import NotFoundError, UsageError
from gml.tracking.reader import Reader
from gml.workspace import Workspace

EVENTS = Path(__file__).parent / "scalars.tfevents.x"  # written by tensorboardX


@pytest.fixture
def workspace(repo):
    return Workspace.open(repo.path)


def bring(workspace, source, kind="test"):
    report = Importer(workspace, source, kind).run()
    return report, {run.name: run for run in Reader(workspace).runs(deleted=True)}


def test_what_gml_exports_as_a_table_comes_in_again(gml, make_repo, workspace, tmp_path):
    gml("log", "-p", "lr=0.1", "-n", "one", "--", "true")
    gml("tag", "@", "team=risk")
    gml("export", "-o", tmp_path / "runs.csv")
    there = Workspace.open(make_repo("other").path)
    _, runs = bring(there, read_csv(tmp_path / "runs.csv", "e"))
    was = Reader(workspace).resolve("one")
    run = runs["one"]
    assert (run.run_id, run.start_time, run.end_time, run.params) == (
        was.run_id, was.start_time, was.end_time, was.params,
    )  # fmt: skip
    assert run.tags["team"] == "risk"
    assert run.source["commit"] == was.source["commit"]


def test_a_table_of_mlflow_has_runs(workspace, tmp_path):
    table = tmp_path / "runs.csv"
    table.write_text(
        "run_id,experiment_id,status,artifact_uri,start_time,end_time,metrics.auc,params.lr,tags.mlflow.runName\n"
        "ab12,7,FINISHED,s3://x,2026-01-31 12:00:00+00:00,2026-01-31 12:00:05+00:00,0.9,0.1,first\n"
        "cd34,7,FAILED,s3://x,1769860800000,,,0.2,second\n"
    )
    report, runs = bring(workspace, read_csv(table, "e"))
    assert report.lost == []
    first, second = runs["first"], runs["second"]
    assert (first.run_id, first.start_time, first.end_time) == ("ab12", 1769860800000, 1769860805000)
    assert (first.metrics["auc"].last, first.params) == (0.9, {"lr": "0.1"})
    assert (second.status, second.metrics, second.start_time) == ("FAILED", {}, 1769860800000)
    again, _ = bring(workspace, read_csv(table, "e"))
    assert (again.counts.unchanged, again.commits) == (2, 0)


def test_columns_without_a_prefix_need_a_word(workspace, tmp_path):
    table = tmp_path / "sheet.csv"
    table.write_text("lr;auc\n0.1;0.9\n0.2;none\n;\n")
    with pytest.raises(UsageError, match="'lr' may be a param or a metric"):
        read_csv(table, "e")
    with pytest.raises(UsageError, match="no column 'x'"):
        read_csv(table, "e", ["x"], ["auc"])
    report, runs = bring(workspace, read_csv(table, "sheet", ["lr"], ["auc"]))
    assert report.counts.new == 2
    assert report.lost == ["cells that are no numbers: 1 (auc in row 2: none)"]
    assert {run.params["lr"] for run in Reader(workspace).runs()} == {"0.1", "0.2"}
    assert runs


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"a\x00b\n1\n", b"\n\n"])
def test_what_is_no_table_is_said_in_one_line(content, tmp_path):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(UsageError):
        read_csv(tmp_path / "t.csv", "e")
    with pytest.raises(NotFoundError):
        read_csv(tmp_path / "none.csv", "e")


def test_scalars_of_tensorboard_come_in(workspace, tmp_path):
    for name in ("a", "b/c"):
        (tmp_path / name).mkdir(parents=True)
        shutil.copy(EVENTS, tmp_path / name / "events.out.tfevents.1.host")
    report, runs = bring(workspace, read_tensorboard(tmp_path, "tb"))
    assert set(runs) == {"a", "b/c"}
    metric = runs["a"].metrics["train/loss"]
    assert (metric.count, metric.step, metric.max) == (3, 2, 1.0)
    assert (runs["a"].start_time, runs["a"].end_time) == (1_700_000_000_000, 1_700_000_002_000)
    assert report.lost == ["text: 2 (t/text_summary)"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no event files"):
        read_tensorboard(tmp_path / "empty", "tb")


@given(st.data())
def test_an_event_file_that_is_cut_or_changed_never_breaks_the_reader(tmp_path_factory, data):
    whole = EVENTS.read_bytes()
    path = tmp_path_factory.getbasetemp() / "changed.tfevents.x"
    cut = data.draw(st.integers(0, len(whole)))
    changed = bytearray(whole[:cut])
    if changed:
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(changed)
    assert len(list(scalars(path, Losses()))) <= 4


def test_a_new_style_scalar_is_a_tensor(tmp_path):
    def field(number, data):
        return bytes([number << 3 | 2, len(data)]) + data

    tensor = b"\x08\x01" + field(4, struct.pack("<f", 0.25))
    metadata = field(1, field(1, b"scalars"))
    value = field(1, b"loss") + field(8, tensor) + field(9, metadata)
    event = b"\x09" + struct.pack("<d", 2.0) + b"\x10\x07" + field(5, field(1, value))
    path = tmp_path / "x.tfevents.1"
    path.write_bytes(struct.pack("<Q", len(event)) + b"crc4" + event + b"crc4")
    assert list(scalars(path, Losses())) == [("loss", 0.25, 2000, 7)]


def test_a_folder_of_dvclive_is_a_run_with_its_files(workspace, tmp_path):
    folder = tmp_path / "work/dvclive"
    table = folder / "plots/metrics/train/acc.tsv"
    table.parent.mkdir(parents=True)
    table.write_text("step\tacc\n0\t0.5\n1\t0.75\n2\tx\n")
    (folder / "metrics.json").write_text('{"train": {"acc": 0.75}, "f1": 0.3, "step": 1}')
    (tmp_path / "work/params.yaml").write_text("lr: 0.1\nopt:\n  name: adam\n")
    report, runs = bring(workspace, read_dvclive(folder, "dv"))
    run = runs["work"]
    assert run.params == {"lr": "0.1", "opt/name": "adam"}
    assert (run.metrics["train/acc"].count, run.metrics["train/acc"].last, run.metrics["f1"].last) == (
        2,
        0.75,
        0.3,
    )
    assert "plots/metrics/train/acc.tsv" in run.artifacts
    assert report.lost == ["rows of tables that are no metric points: 1 (acc.tsv, row 3)"]
    with pytest.raises(UsageError, match=r"neither metrics\.json"):
        read_dvclive(tmp_path, "dv")


def test_the_commands_say_what_came(gml, tmp_path):
    (tmp_path / "t.csv").write_text("name,params.lr\na,1\n")
    assert "runs        1 new" in gml("import", "csv", tmp_path / "t.csv", "-x", "sheet").out
    assert gml("import", "tensorboard", tmp_path, code=2).err.startswith(
        f"gml: {tmp_path} has no event files"
    )
    assert gml("import", "dvclive", tmp_path / "none", code=4).err.startswith("gml: there is no folder")
