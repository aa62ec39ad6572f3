"""Stores of MLflow come in whole, and what goes out comes in again as it was."""

from __future__ import annotations

import io
import json
import math
import shutil
import sqlite3
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gml.compat.export_files import FileStoreWriter
from gml.compat.foreign import ForeignExperiment, ForeignFile, ForeignRun, Losses
from gml.compat.importing import Importer
from gml.compat.mlflow_files import MlflowFiles
from gml.compat.sources import import_mlflow, moment, open_mlflow
from gml.domain.errors import GmlError, NotFoundError, UsageError
from gml.index.as_mlflow import mlflow_tags
from gml.registry.branch import Registry
from gml.tracking.contents import open_artifact
from gml.tracking.reader import Reader
from gml.workspace import Workspace

FIRST = "634a9d9cd3f7403eaccd6b29b2b5c90a"
KID = "29bd0197f35f413085e8df9125809735"
RUN_META = """\
artifact_uri: {uri}
end_time: {end}
entry_point_name: ''
experiment_id: '7'
lifecycle_stage: active
run_id: {run_id}
run_name: {name}
source_type: 4
start_time: 1700000000000
status: {status}
tags: []
user_id: ada
"""


@pytest.fixture
def workspace(repo):
    return Workspace.open(repo.path)


@pytest.fixture
def database(tmp_path):
    """Return a database that MLflow wrote; the files of its runs are beside it."""
    path = tmp_path / "mlflow.db"
    with sqlite3.connect(path) as db:
        db.executescript((Path(__file__).parent / "mlflow_3_17.sql").read_text())
    db.close()
    notes = tmp_path / "mlruns/1" / FIRST / "artifacts/notes"
    notes.mkdir(parents=True)
    (notes / "a.txt").write_text("hi")
    return path


@pytest.fixture
def store(tmp_path):
    """Return a file store as older versions of MLflow wrote them."""
    root = tmp_path / "mlruns"
    folder = root / "7"
    folder.mkdir(parents=True)
    (folder / "meta.yaml").write_text(
        "artifact_location: /gone/mlruns/7\ncreation_time: 5\nexperiment_id: '7'\n"
        "last_update_time: 5\nlifecycle_stage: active\nname: churn\n"
    )
    return SimpleNamespace(root=root, folder=folder, add=lambda *args, **more: add_run(folder, *args, **more))


def add_run(
    folder,
    run_id,
    *,
    name="r",
    status=3,
    end=1_700_000_001_000,
    uri=None,
    metrics=None,
    params=None,
    tags=None,
):
    path = folder / run_id
    path.mkdir()
    for kind, values in (("params", params), ("metrics", metrics), ("tags", tags), ("artifacts", {})):
        (path / kind).mkdir()
        for key, value in (values or {}).items():
            (path / kind / key).parent.mkdir(parents=True, exist_ok=True)
            (path / kind / key).write_text(value)
    uri = uri or f"/gone/mlruns/7/{run_id}/artifacts"
    text = RUN_META.format(
        run_id=run_id, name=name, status=status, end="null" if end is None else end, uri=uri
    )
    (path / "meta.yaml").write_text(text)
    return path


def points(workspace, run_id, key):
    reader = Reader(workspace)
    columns = reader.history(reader.run(run_id), key)
    return [tuple(row) for row in zip(*(column.tolist() for column in columns), strict=True)]


# --- databases --------------------------------------------------------------------------------


def test_a_database_of_mlflow_comes_in_whole(workspace, database):
    report = import_mlflow(workspace, open_mlflow(f"sqlite:///{database}", {}))
    counts = report.counts
    assert (counts.new, counts.models, counts.versions, counts.stages, counts.aliases) == (4, 1, 2, 1, 1)
    reader = Reader(workspace)
    run = reader.run(FIRST)
    assert (run.name, run.user, run.status, run.start_time, run.end_time) == (
        "first", "ada", "FINISHED", 1795598467879, 1795598468506,
    )  # fmt: skip
    assert run.params == {"lr": "0.1", "a/b": "x"}
    assert mlflow_tags(run) == {
        "mlflow.runName": "first", "mlflow.user": "ada", "mlflow.source.name": "train.py",
        "mlflow.source.type": "LOCAL", "t.1": "v\nw",
    }  # fmt: skip
    assert [value for _, _, value in points(workspace, FIRST, "loss")] == [1.0, 0.5, 1 / 3, 0.25, 0.2]
    assert math.isnan(run.metrics["nan"].last)
    assert run.metrics["inf"].last == math.inf
    (dataset,) = run.inputs
    assert (dataset["name"], dataset["digest"], dataset["tags"]) == (
        "d", "2afe0dd9", {"z": "1", "mlflow.data.context": "train"},
    )  # fmt: skip
    assert [entry["step"] for entry in run.outputs] == [3]
    assert reader.run(KID).parent_run_id == FIRST
    with open_artifact(reader, run, "notes/a.txt") as file:
        assert file.read() == b"hi"
    stages = {r.lifecycle_stage for r in reader.runs(deleted=True)}
    assert stages == {"active", "deleted", "model"}


def test_experiments_keep_name_tags_times_and_life_cycle(workspace, database):
    import_mlflow(workspace, open_mlflow(str(database), {}))
    known = {e.name: e for e in workspace.ledger.view().experiments()}
    assert set(known) == {"Default", "churn", "old"}
    assert known["churn"].creation_time == 1795598467707
    assert known["old"].lifecycle_stage == "deleted"
    assert known["old"].tags["et"] == "1"
    assert known["old"].tags["gml.imported.experimentId"] == "2"


def test_registered_models_are_imported_as_facts_that_nobody_verified(workspace, database):
    import_mlflow(workspace, open_mlflow(str(database), {}))
    view = Registry(workspace).view()
    one = view.version("churn", 1)
    assert (one.run, one.path, one.files, one.description) == (FIRST, "notes", 1, "dd")
    assert one.imported["from"] == "mlflow"
    assert one.imported["current_stage"] == "Production"
    assert view.stage("churn", "Production").version == 1
    model = view.model("churn")
    assert (model.description, model.tags, model.aliases) == ("the model", {"q": "1"}, {"champion": 2})
    assert model.versions["1"].tags == {"s": "2"}


def test_the_same_import_again_writes_nothing(workspace, database):
    import_mlflow(workspace, open_mlflow(str(database), {}))
    tips = workspace.ledger.tip(), Registry(workspace).tip()
    again = import_mlflow(workspace, open_mlflow(str(database), {}))
    assert again.commits == 0
    assert again.counts.unchanged == 5
    assert (workspace.ledger.tip(), Registry(workspace).tip()) == tips


def test_a_deleted_version_leaves_a_gap_that_stays_one(workspace, database):
    with sqlite3.connect(database) as db:
        db.execute("DELETE FROM model_versions WHERE version = 1")
    db.close()
    import_mlflow(workspace, open_mlflow(str(database), {}))
    view = Registry(workspace).view()
    assert view.numbers("churn") == [1, 2]
    assert view.model("churn").versions["1"].status == "deleted"
    assert view.version("churn", 2).run == FIRST


def test_a_database_of_an_old_mlflow_has_fewer_columns(workspace, tmp_path):
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as db:
        db.executescript("""
            CREATE TABLE experiments (experiment_id INTEGER, name TEXT, artifact_location TEXT, lifecycle_stage TEXT);
            CREATE TABLE runs (run_uuid TEXT, name TEXT, user_id TEXT, status TEXT, start_time BIGINT,
                end_time BIGINT, lifecycle_stage TEXT, artifact_uri TEXT, experiment_id INTEGER);
            CREATE TABLE params (key TEXT, value TEXT, run_uuid TEXT);
            CREATE TABLE tags (key TEXT, value TEXT, run_uuid TEXT);
            CREATE TABLE metrics (key TEXT, value FLOAT, timestamp BIGINT, run_uuid TEXT);
            INSERT INTO experiments VALUES (3, 'e', '', 'active');
            INSERT INTO runs VALUES ('ab12', '', 'ada', 'RUNNING', 1, NULL, 'active', 's3://bucket/ab12/artifacts', 3);
            INSERT INTO tags VALUES ('mlflow.runName', 'old', 'ab12');
            INSERT INTO metrics VALUES ('m', 2.5, 7, 'ab12');
        """)
    db.close()
    report = import_mlflow(workspace, open_mlflow(str(path), {}))
    run = Reader(workspace).run("ab12")
    assert (run.name, run.status, run.metrics["m"].last, run.metrics["m"].timestamp) == (
        "old",
        "RUNNING",
        2.5,
        7,
    )
    assert any("in another store" in line for line in report.lost)


# --- file stores ------------------------------------------------------------------------------


def test_a_file_store_that_was_moved_comes_in_with_its_files(workspace, store):
    path = store.add("a" * 32, params={"lr": "0.1"}, metrics={"val/loss": "10 0.5 0\n20 nan 1\n"})
    (path / "artifacts/model").mkdir()
    (path / "artifacts/model/weights.bin").write_bytes(b"w" * 100_000)
    report = import_mlflow(workspace, open_mlflow(str(store.root), {}))
    assert report.lost == []
    run = Reader(workspace).run("a" * 32)
    assert run.artifacts["model/weights.bin"].at == "cas"
    assert run.metrics["val/loss"].count == 2
    assert report.counts.size == 100_000


def test_a_run_that_went_on_is_read_again_and_edits_stay(workspace, store, gml):
    path = store.add("a" * 32, status=1, end=None, metrics={"loss": "10 0.5 0\n"})
    import_mlflow(workspace, open_mlflow(str(store.root), {}))
    gml("tag", "a" * 32, "team=risk")
    (path / "metrics/loss").write_text("10 0.5 0\n20 0.25 1\n")
    (path / "meta.yaml").write_text((path / "meta.yaml").read_text().replace("status: 1", "status: 3"))
    report = import_mlflow(workspace, open_mlflow(str(store.root), {}))
    assert (report.counts.new, report.counts.changed) == (0, 1)
    run = Reader(workspace).run("a" * 32)
    assert (run.status, run.metrics["loss"].last, run.tags["team"]) == ("FINISHED", 0.25, "risk")


def test_files_that_are_gone_from_the_source_go_from_the_record(workspace, store, repo):
    path = store.add("a" * 32)
    (path / "artifacts/one.txt").write_text("1")
    import_mlflow(workspace, open_mlflow(str(store.root), {}))
    (path / "artifacts/one.txt").rename(path / "artifacts/two.txt")
    import_mlflow(workspace, open_mlflow(str(store.root), {}))
    assert list(Reader(workspace).run("a" * 32).artifacts) == ["two.txt"]
    assert "one.txt" not in repo.git("ls-tree", "-r", "--name-only", "refs/gml/ledger")


def test_damage_in_one_run_keeps_no_other_out(workspace, store):
    store.add("a" * 32, metrics={"loss": "10 0.5 0\nnonsense\n20 x 1\n"})
    (store.add("b" * 32) / "meta.yaml").write_text("run_id: [")
    (store.folder / ("c" * 32)).mkdir()
    report = import_mlflow(workspace, open_mlflow(str(store.root), {}))
    assert report.counts.new == 1
    assert any(line.startswith("runs that are damaged: 2") for line in report.lost)
    assert any(line.startswith("metric lines that are damaged: 2") for line in report.lost)


def test_a_store_of_somebody_else_reads_nothing_outside_of_it(workspace, store, tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("private")
    linked = store.add("a" * 32)
    (linked / "artifacts/key").symlink_to(secret / "key")
    (linked / "artifacts/all").symlink_to(secret)
    (store.add("b" * 32, uri=str(secret)) / "artifacts").rmdir()
    report = import_mlflow(workspace, open_mlflow(str(store.root), {}))
    reader = Reader(workspace)
    assert [dict(reader.run(c * 32).artifacts) for c in "ab"] == [{}, {}]
    assert any("links that lead out" in line for line in report.lost)
    assert any("not named after" in line for line in report.lost)


def test_only_what_was_asked_for(workspace, store, database):
    store.add("a" * 32)
    store.add("b" * 32, end=1_800_000_000_000)
    source = open_mlflow(str(store.root), {})
    report = import_mlflow(workspace, source, ["churn"], moment("2025-01-01"))
    assert report.counts.new == 1
    with pytest.raises(NotFoundError, match="no experiment 'chrun'; it has 'churn'"):
        import_mlflow(workspace, source, ["chrun"])
    with pytest.raises(UsageError, match="is not a time"):
        moment("yesterday")


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("nowhere", "there is no nowhere"),
        (".", "is no file store"),
        ("a.txt", "is not a database"),
        ("empty.db", "is no database of MLflow"),
        ("postgresql://u:secret@db/x", "is read through a server"),
        ("http://", "is not the URL"),
    ],
)
def test_what_is_no_store_is_said_in_one_line(address, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("text")
    sqlite3.connect("empty.db").executescript("CREATE TABLE t (a);")
    with pytest.raises(GmlError, match=words) as caught:
        open_mlflow(address, {})
    assert "secret" not in str(caught.value)


def test_the_command_reports_in_words_and_in_json(gml, database):
    first = gml("import", "mlflow", f"sqlite:///{database}")
    assert "runs        4 new" in first.out
    assert "registry    2 versions, 1 stage, 1 alias" in first.out
    again = json.loads(gml("import", "mlflow", database, "--json").out)
    assert (again["new"], again["unchanged"], again["commits"], again["lost"]) == (0, 5, 0, [])


def test_an_import_that_is_killed_goes_on(workspace, store, start, monkeypatch):
    from gml.compat import importing

    monkeypatch.setattr(importing, "RUNS_A_COMMIT", 2)
    for number in range(7):
        store.add(f"{number}" * 32)

    class StopError(Exception):
        pass

    def stop(count):
        if count == 5:
            raise StopError

    with pytest.raises(StopError):
        import_mlflow(workspace, open_mlflow(str(store.root), {}), progress=stop)
    report = import_mlflow(workspace, open_mlflow(str(store.root), {}))
    assert (report.counts.unchanged, report.counts.new) == (4, 3)


# --- round trip -------------------------------------------------------------------------------

KEYS = st.from_regex(r"[a-z][\w.\- :]{0,12}(/[a-z]{1,4})?", fullmatch=True).map(str.strip)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
NUMBERS = st.integers(-(2**62), 2**62)
POINTS = st.lists(st.tuples(KEYS, st.floats(), st.integers(0, 2**62), NUMBERS), max_size=12)
NAMES = st.from_regex(r"[a-zA-Z0-9_][\w .+@-]{0,10}[a-z0-9](/[a-z]{1,5}\.txt)?", fullmatch=True)
DATASETS = st.fixed_dictionaries(
    {"name": KEYS, "digest": st.from_regex(r"[0-9a-f]{8}", fullmatch=True), "source_type": st.just("local"),
     "source": TEXTS, "tags": st.dictionaries(KEYS, TEXTS, max_size=2)},
    optional={"schema": TEXTS, "profile": TEXTS},
)  # fmt: skip


@st.composite
def foreign_runs(draw):
    keys = {"points": draw(POINTS), "params": draw(st.dictionaries(KEYS, TEXTS, max_size=4))}
    files = draw(st.dictionaries(NAMES, st.binary(max_size=60), max_size=3))
    return ForeignRun(
        draw(st.from_regex(r"[0-9a-f]{32}", fullmatch=True)),
        "1",
        draw(st.from_regex(r"[\w ]{0,8}\w", fullmatch=True)),
        draw(st.sampled_from(["", "ada"])),
        draw(st.sampled_from(["RUNNING", "FINISHED", "FAILED", "KILLED", "SCHEDULED"])),
        draw(st.integers(0, 2**40)),
        draw(st.none() | st.integers(0, 2**40)),
        draw(st.sampled_from(["active", "deleted"])),
        keys["params"],
        draw(st.dictionaries(KEYS, TEXTS, max_size=3)),
        lambda: keys["points"],
        draw(st.lists(DATASETS, max_size=2, unique_by=lambda d: (d["name"], d["digest"]))),
        draw(
            st.lists(st.builds(dict, model_id=st.just("m-" + "0" * 32), step=st.integers(0, 9)), max_size=1)
        ),
        lambda: [
            ForeignFile(name, len(data), lambda data=data: io.BytesIO(data)) for name, data in files.items()
        ],
    )


class Memory:
    """A source that has what it is given."""

    name = "memory"

    def __init__(self, runs):
        self.losses = Losses()
        self._runs = runs

    def experiments(self):
        return [ForeignExperiment("1", "round trip", created=3, tags={"a": "b"})]

    def runs(self, _experiment, _since):
        return iter(self._runs)

    def models(self):
        return []

    def count_rest(self):
        pass


def state(workspace):
    """Return all that MLflow knows of the runs of a repository."""
    reader = Reader(workspace)
    found = {}
    for run in reader.runs(deleted=True):
        files = {}
        for name in run.artifacts:
            with open_artifact(reader, run, name) as file:
                files[name] = file.read()
        history = {key: [str(p) for p in points(workspace, run.run_id, key)] for key in run.metrics}
        found[run.run_id] = (
            run.experiment_id, run.name, run.user, run.status, run.start_time, run.end_time, run.lifecycle_stage,
            dict(run.params), mlflow_tags(run), history, sorted(run.inputs, key=str), run.outputs, files,
        )  # fmt: skip
    return found, [
        (e.experiment_id, e.name, e.tags, e.creation_time) for e in workspace.ledger.view().experiments()
    ]


def _distinct(keys):
    keys = list(keys)
    return not any(a != b and b.startswith(f"{a}/") for a in keys for b in keys)


# Without shrinking, which would take minutes: each example writes two repositories.
@settings(
    max_examples=15,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(foreign_runs(), min_size=1, max_size=4, unique_by=lambda run: run.run_id))
def test_import_of_an_export_is_equal(tmp_path_factory, runs):
    for run in runs:  # a file store cannot have a key, or file, that is the folder of another
        if not all(
            map(
                _distinct, (run.params, run.tags, {p[0] for p in run.points()}, [f.path for f in run.files()])
            )
        ):
            return
    place = tmp_path_factory.mktemp("trip")
    for name in ("one", "two"):
        subprocess.run(["git", "init", "-q", place / name], check=True)
    one, two = (Workspace.open(place / name) for name in ("one", "two"))
    assert Importer(one, Memory(runs), "test").run().counts.new == len(runs)
    writer = FileStoreWriter(Reader(one), place / "mlruns")
    writer.write(Reader(one).runs(deleted=True))
    assert writer.done.losses.lines() == []
    report = import_mlflow(two, MlflowFiles(place / "mlruns"))
    assert report.lost == []
    assert state(two) == state(one)
    shutil.rmtree(place)


def test_the_registry_and_logged_models_go_out_and_come_in(workspace, database, gml, make_repo, tmp_path):
    import_mlflow(workspace, open_mlflow(str(database), {}))
    gml("export", "mlflow", "-o", tmp_path / "out")
    other = make_repo("other")
    gml("import", "mlflow", tmp_path / "out", cwd=other.path)
    there = Workspace.open(other.path)
    assert state(there) == state(workspace)
    one, two = Registry(workspace).view(), Registry(there).view()
    assert [v.digest for v in two.versions("churn")] == [v.digest for v in one.versions("churn")]
    assert two.model("churn") == one.model("churn")
    assert two.stage("churn", "Production").version == 1


def test_an_export_never_writes_into_another_folder(gml, repo, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").write_text("mine")
    assert gml("export", "mlflow", "-o", tmp_path / "full", code=2).err.startswith("gml: ")
    assert (
        gml("export", "mlflow", code=2).err
        == "gml: say where to; -o mlruns for a folder, or --to http://server:5000\n"
    )
    assert (tmp_path / "full/mine").read_text() == "mine"
