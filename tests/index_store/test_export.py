"""`gml export` writes what runs are, whole or not at all."""

import csv
import io
import json
import math
import sys

import pytest
from index_cases import Dice, naive, points

from gml.cli.main import run as command
from gml.domain.errors import MissingPackageError
from gml.index import export
from gml.index.as_mlflow import mlflow_tags
from gml.ledger import layout


@pytest.fixture
def gml(lab, capfdbinary):
    def call(*args):
        capfdbinary.readouterr()
        code = command(["-C", str(lab.repo.path), "export", *map(str, args)])
        sys.stdout.flush()
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return call


def ok(result):
    code, out, err = result
    assert (code, err) == (0, ""), err
    return out


@pytest.fixture
def many(lab):
    dice = Dice(4)
    keys = ["0", lab.experiment("churn")]
    lab.runs([dice.document(run_id, keys) for run_id in {dice.run_id() for _ in range(80)}])
    return lab


def flat(lab):
    view = lab.view()
    names = {e.experiment_id: e.name for e in view.experiments()}
    runs = {run.run_id: run for run in view.runs()}
    return [export.run_row(runs[run_id], names) for run_id in naive(view)], [runs[i] for i in naive(view)]


def same(one, two):
    return one == two or (isinstance(two, float) and math.isnan(two) and str(one).lower() == "nan")


def test_rows_are_the_runs(many):
    rows, runs = flat(many)
    for row, run in zip(rows, runs, strict=True):
        assert list(export.FIXED) == [name for name in row if name in export.FIXED]
        assert {k[7:]: v for k, v in row.items() if k.startswith("params.")} == run.params
        assert {k[5:]: v for k, v in row.items() if k.startswith("tags.")} == mlflow_tags(run)
        assert {k[8:] for k in row if k.startswith("metrics.")} == run.metrics.keys()


def test_csv_has_all_columns_and_all_runs(many, gml):
    rows, _ = flat(many)
    got = list(csv.DictReader(io.StringIO(ok(gml()), newline="")))
    assert len(got) == len(rows)
    for mine, row in zip(got, rows, strict=True):
        assert row.keys() <= mine.keys()
        for name, value in mine.items():
            wanted = row.get(name)
            if wanted is None or wanted == "":
                assert value == ""
            elif isinstance(wanted, bool):
                assert value == str(wanted).lower()
            elif isinstance(wanted, float):
                assert same(float(value), wanted)
            else:
                assert value == str(wanted)


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_json_has_what_runs_have(many, gml, form):
    rows, _ = flat(many)
    out = ok(gml("--format", form))
    got = json.loads(out) if form == "json" else [json.loads(line) for line in out.split("\n")[:-1]]
    assert [row.keys() for row in got] == [row.keys() for row in rows]
    for mine, row in zip(got, rows, strict=True):
        for name, value in mine.items():
            assert same(float(value) if isinstance(row[name], float) else value, row[name])


def test_a_query_and_an_experiment(many, gml):
    got = json.loads(
        ok(gml("status = 'FINISHED' and params.lr is not null", "-x", "churn", "--format", "json"))
    )
    _, runs = flat(many)
    names = {e.experiment_id: e.name for e in many.view().experiments()}
    wanted = [
        r.run_id
        for r in runs
        if r.status == "FINISHED" and "lr" in r.params and names.get(r.experiment_id) == "churn"
    ]
    assert [row["run_id"] for row in got] == wanted
    assert wanted


def test_columns_are_those_of_the_chosen_runs(lab, gml):
    lab.add(name="a", params={"only_a": "1"})
    lab.add(name="b", params={"only_b": "1"})
    header = ok(gml("name = 'a'")).splitlines()[0]
    assert "params.only_a" in header
    assert "params.only_b" not in header


def test_history(lab, gml):
    run_id = lab.add(**points({"loss": [1.0, float("nan"), float("inf")], "auc": [0.5]}))
    rows = list(csv.reader(io.StringIO(ok(gml("--history")))))
    assert rows[0] == ["run_id", "key", "step", "timestamp", "value"]
    assert [(r[0], r[1], r[2], r[4]) for r in rows[1:]] == [
        (run_id, "auc", "0", "0.5"), (run_id, "loss", "0", "1.0"), (run_id, "loss", "1", "nan"), (run_id, "loss", "2", "inf")]  # fmt: skip
    assert json.loads(ok(gml("--history", "--format", "json")))[2]["value"] == "NaN"


def test_a_step_query(lab, gml):
    ids = [lab.add(**points({"loss": [1.0, n / 10]})) for n in range(3)]
    assert [
        json.loads(line)["run_id"]
        for line in ok(gml("metrics.loss@step=1 > 0.15", "--format", "jsonl")).splitlines()
    ] == [ids[2]]


def test_nothing_at_all(lab, gml):
    assert ok(gml()).startswith("run_id,name,")
    assert ok(gml("--format", "json")) == "[]\n"
    assert ok(gml("--format", "jsonl")) == ""
    assert ok(gml("--history")) == "run_id,key,step,timestamp,value\n"


def test_a_file_appears_when_it_is_whole(lab, gml, tmp_path, monkeypatch):
    lab.add()
    target = tmp_path / "new" / "runs.jsonl"
    code, out, err = gml("-o", target)
    assert (code, out) == (0, "")
    assert err == f"wrote 1 run to {target}\n"
    assert json.loads(target.read_text())["status"] == "FINISHED"
    assert target.stat().st_mode & 0o777 == 0o644
    before = target.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "run_row", fail)
    code, _, err = gml("-o", target)
    assert code == 8
    assert len(err.splitlines()) == 1
    assert "No space left" in err
    assert target.read_bytes() == before
    assert [path.name for path in target.parent.iterdir()] == ["runs.jsonl"]


@pytest.mark.parametrize(
    "bad",
    [
        ["-o", "/"],
        ["-o", "nope://x/y"],
        ["-x", "nowhere"],
        ["auc > 1"],
        ["--format", "xml"],
        ["-o", "/proc/x/y.csv"],
    ],
)
def test_mistakes_are_one_line(lab, gml, bad):
    lab.add()
    code, _, err = gml(*bad)
    assert code not in {0, 1}
    assert len(err.splitlines()) == 1


def test_a_url(lab, gml):
    import fsspec

    lab.add(name="far")
    assert gml("-o", "memory://bucket/deep/runs.csv")[0] == 0
    with fsspec.open("memory://bucket/deep/runs.csv", "rt") as file:
        assert "far" in file.read()


def test_damaged_runs_are_named(lab, gml):
    lab.add(name="good")
    lab.commit({layout.record_path("0" * 12 + "7" + "0" * 19): b"{"})
    code, out, err = gml("--format", "jsonl")
    assert code == 0
    assert len(out.splitlines()) == 1
    assert "is not JSON" in err


def test_live_runs(api, repo, capfdbinary):
    with api.start_run(run_name="now"):
        api.log_param("only_live", 1)
        assert command(["-C", str(repo.path), "export"]) == 0
        sys.stdout.flush()
    out = capfdbinary.readouterr().out.decode()
    assert "params.only_live" in out
    assert ",now," in out


def test_memory_does_not_grow_with_the_number_of_runs():
    import tracemalloc

    class Sink(io.RawIOBase):
        def writable(self):
            return True

        def write(self, data):
            return len(data)

    def rows(count):
        return ({"run_id": str(n), "metrics.a": float(n)} for n in range(count))

    peaks = []
    for count in (100, 20_000):
        for form in ("csv", "json", "jsonl"):
            tracemalloc.start()
            assert (
                export.write_runs(Sink(), form, rows(count), {"run_id": "text", "metrics.a": "real"}) == count
            )
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert max(peaks) < 1_000_000


def test_parquet_without_pyarrow_is_one_line(lab, gml, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingPackageError, match="pip install"):
        export.require_parquet()
    code, _, err = gml("-o", tmp_path / "x.parquet")
    assert (code, err) == (11, "gml: Parquet needs pyarrow; pip install pyarrow\n")
    assert list(tmp_path.glob("x.parquet")) == []


def test_parquet(many, gml, tmp_path, monkeypatch):
    pq = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(export, "_BATCH", 7)
    assert gml("-o", tmp_path / "runs.parquet")[0] == 0
    rows, _ = flat(many)
    table = pq.read_table(tmp_path / "runs.parquet")
    for mine, row in zip(table.to_pylist(), rows, strict=True):
        assert all(same(value, row.get(name)) for name, value in mine.items())
        assert row.keys() <= mine.keys()
    many.add(**points({"loss": [float(n) for n in range(50)]}))
    assert gml("--history", "-o", tmp_path / "points.parquet", "metrics.loss.count = 50")[0] == 0
    assert pq.read_table(tmp_path / "points.parquet").column("value").to_pylist() == [
        float(n) for n in range(50)
    ]
