"""`gml sql` answers what docs/sql.md promises, and nothing else."""

import json
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from index_cases import HOSTILE, NOW, Dice, naive, points

from gml.domain.errors import CorruptError, GmlError, NotFoundError, UsageError
from gml.index import sql
from gml.index.sql import FUNCTIONS, Sources, SqlSession
from gml.index.store import views
from gml.ledger import layout

PAGE = (Path(__file__).parents[2] / "docs" / "sql.md").read_text("utf-8")


def session(lab, **options):
    from gml.tracking.reader import Reader

    reader = Reader(lab.workspace)
    sources = Sources(
        lambda run_id, key: reader.history(reader.run(run_id), key),
        lambda run_id: ((n, a.size, a.sha256, a.at) for n, a in reader.run(run_id).artifacts.items()),
        lambda _: None,
    )
    names = {e.experiment_id: e.name for e in reader.experiments()}
    return SqlSession(reader.index, sources, experiments=names, **options)


def ask(lab, text, **options):
    columns, rows = session(lab, **options).query(text)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def values(lab, text):
    return [tuple(row.values()) for row in ask(lab, text)]


@pytest.fixture
def three(lab):
    for n in range(3):
        lab.add(
            name=f"r{n}",
            params={"lr": str(n), "model": "rf"},
            **points({"loss": [3.0, 2.0, n / 10], "nan": [float("nan")]}),
        )
    return lab


def test_views_are_the_runs(lab):
    dice = Dice(1)
    lab.runs([dice.document(run_id) for run_id in {dice.run_id() for _ in range(60)}])
    view = lab.view()
    runs = {run.run_id: run for run in view.runs()}
    found = {row["run_id"]: row for row in ask(lab, "SELECT * FROM runs")}
    assert found.keys() == runs.keys()
    for run_id, run in runs.items():
        row = found[run_id]
        assert (row["name"], row["user"], row["status"], row["start_time"], row["end_time"], row["duration"]) == (
            run.name, run.user, run.status, run.start_time, run.end_time, run.duration)  # fmt: skip
        assert json.loads(row["source"]) == run.source
        assert row["code_commit"] == run.source.get("commit")
        assert row["live"] == 0
    assert {*values(lab, "SELECT * FROM inputs")} == {
        (r.run_id, i["name"], i["digest"], i.get("tags", {}).get("mlflow.data.context"), None, None)
        for r in runs.values()
        for i in r.inputs
    }
    assert {*values(lab, "SELECT run_id, key, value FROM params")} == {
        (r.run_id, key, value) for r in runs.values() for key, value in r.params.items()
    }
    got = {(row["run_id"], row["key"]): row for row in ask(lab, "SELECT * FROM metrics")}
    for run in runs.values():
        for key, summary in run.metrics.items():
            row = got.pop((run.run_id, key))
            for mine, theirs in (
                (row["value"], summary.last),
                (row["min"], summary.min),
                (row["max"], summary.max),
            ):
                assert mine == theirs or (mine is None and theirs != theirs)
            assert (row["step"], row["count"]) == (summary.step, summary.count)
    assert got == {}


def test_every_way_into_the_values_gives_the_same(three):
    run_id = naive(three.view())[0]
    whole = {*values(three, "SELECT run_id, key, value FROM metrics")}
    assert {*values(three, f"SELECT run_id, key, value FROM metrics WHERE run_id = '{run_id}'")} == {
        r for r in whole if r[0] == run_id
    }
    assert {*values(three, "SELECT run_id, key, value FROM metrics WHERE key = 'loss'")} == {
        r for r in whole if r[1] == "loss"
    }
    joined = "SELECT m.run_id, m.key, m.value FROM runs r JOIN metrics m USING (run_id) WHERE r.name = 'r1'"
    assert len(values(three, joined)) == 2


def test_points_are_exact_and_read_only_where_asked(three, monkeypatch):
    seen = []
    one = session(three)
    inner = one._sources.points
    one._sources.points = lambda run_id, key: seen.append(key) or inner(run_id, key)
    _, rows = one.query(
        "SELECT step, timestamp, value FROM metric_points JOIN runs USING (run_id) WHERE name = 'r1' AND key = 'loss'"
    )
    assert list(rows) == [(0, NOW, 3.0), (1, NOW + 1, 2.0), (2, NOW + 2, 0.1)]
    assert seen == ["loss"]
    monkeypatch.setattr(sql, "POINTS_A_CHUNK", 2)
    assert len(values(three, "SELECT * FROM metric_points")) == 12


def test_floats_are_bit_for_bit_those_that_were_logged(lab):
    dice = Dice(9)
    numbers = [dice.uniform(-1, 1) * 10 ** dice.randrange(-300, 300) for _ in range(100)] + [
        float("inf"),
        -0.0,
        5e-324,
    ]
    lab.add(**points({"x": numbers}))
    assert [v for (v,) in values(lab, "SELECT value FROM metric_points ORDER BY step")] == numbers


def test_live_runs_are_in_every_view(api, repo):
    from gml.tracking.reader import Reader
    from gml.workspace import Workspace

    with api.start_run(run_name="done"):
        api.log_param("p", 1)
    with api.start_run(run_name="now"):
        api.log_params({"p": 2, "q": "x"})
        api.log_metric("loss", 0.5, step=3)
        reader = Reader(Workspace.open(repo.path))
        live = [reader.run(run_id) for run_id in reader.live]
        assert [run.name for run in live] == ["now"]
        sources = Sources(
            lambda run_id, key: reader.history(reader.run(run_id), key), lambda _: (), lambda _: None
        )
        one = SqlSession(reader.index, sources, live=live)
        assert {*one.query("SELECT name, status, live FROM runs")[1]} == {
            ("done", "FINISHED", 0),
            ("now", "RUNNING", 1),
        }
        joined = "SELECT r.name, p.value FROM runs r JOIN params p USING (run_id) WHERE p.key = 'p'"
        assert {*one.query(joined)[1]} == {("done", "1"), ("now", "2")}
        assert [*one.query("SELECT step, value FROM metric_points")[1]] == [(3, 0.5)]
        assert [*one.query("SELECT max(n) FROM (SELECT count(*) AS n FROM tags GROUP BY run_id)")[1]] != []


REFUSED = [
    "DELETE FROM runs", "DELETE FROM run_rows", "DROP TABLE run_rows", "INSERT INTO keys VALUES (1, 1, 'a')",
    "UPDATE run_rows SET name = 'x'", "CREATE TABLE x (a)", "CREATE TEMP TABLE x (a)", "ATTACH 'x.db' AS x",
    "DETACH main", "PRAGMA user_version", "PRAGMA query_only = OFF", "PRAGMA writable_schema = 1", "BEGIN", "COMMIT",
    "ROLLBACK", "SAVEPOINT a", "VACUUM", "VACUUM INTO 'x.db'", "REINDEX", "ANALYZE", "SELECT load_extension('x')",
    "SELECT writefile('x', 'y')", "SELECT readfile('/etc/passwd')", "SELECT randomblob(1)", "SELECT zeroblob(1)",
    "SELECT * FROM sqlite_master", "SELECT * FROM sqlite_temp_master", "SELECT * FROM pragma_table_info('runs')",
    "SELECT value FROM meta", "SELECT message FROM damage", "SELECT run_id FROM run_rows", "SELECT run_id FROM main.run_rows",
    "SELECT run_id FROM temp.live_run_rows", "SELECT gml_points('a', 'b')", "SELECT gml_point('a', 'b', 0, 0)", "SELECT gml_call(0, 1)",
    "SELECT 1; SELECT 2", "SELECT 1; DROP TABLE run_rows", "", "  ", "-- nothing", "/* a", "SELEC 1", "SELECT", "SELECT (", "SELECT 'a",
    "SELECT nme FROM runs", "SELECT * FROM run", "SELECT foo(1)", "SELECT max()", "SELECT ?", "SELECT :a", "\0", "SELECT '\0'", "\ud800",
    "SELECT " + "(" * 2000 + "1" + ")" * 2000, "SELECT " + "1," * 40_000 + "1", "SELECT replace(printf('%60000000d', 1), ' ', 'aaaa')",
    "SELECT group_concat(x) FROM (WITH RECURSIVE n(x) AS (SELECT printf('%1000000d', 1) UNION ALL SELECT x FROM n LIMIT 100) SELECT x FROM n)",
]  # fmt: skip


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: ascii(text)[:40])
def test_everything_else_is_refused_in_one_line(three, text):
    one = session(three)
    before = one._connection.execute("SELECT count(*) FROM runs").fetchone()
    with pytest.raises(UsageError) as caught:
        list(one.query(text)[1])
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 1000
    assert [*one.query("SELECT count(*) FROM runs")[1]] == [before]


def test_even_without_the_authorizer_nothing_can_be_written(three):
    one = session(three)
    one._connection.set_authorizer(None)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        one._connection.execute("DELETE FROM run_rows")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("SELECT nme FROM runs", "'name'"),
        ("SELECT m.valu FROM metrics m", "'value'"),
        ("SELECT * FROM metrik", "'metrics'"),
        ("SELECT cuont(1)", "'count'"),
    ],
)
def test_what_was_meant(three, text, hint):
    with pytest.raises(UsageError, match=hint):
        ask(three, text)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_text(lab, text):
    lab.add(name=text, params={text or "-": text})
    literal = "'" + text.replace("'", "''") + "'"
    assert values(lab, f"SELECT value FROM params JOIN runs USING (run_id) WHERE name = {literal}") == [
        (text,)
    ]
    with pytest.raises(UsageError):
        ask(lab, f"SELECT {text} FROM")


def test_time_is_limited_also_while_rows_are_read(three):
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n"
    _, rows = session(three, timeout=0.3).query(endless)
    with pytest.raises(UsageError, match=r"more than 0\.3 s"):
        sum(1 for _ in rows)
    with pytest.raises(UsageError, match=r"more than 0\.3 s"):
        ask(
            three,
            "SELECT count(*) FROM metric_points a, metric_points b, metric_points c, metric_points d, metric_points e, metric_points f",
            timeout=0.3,
        )


def test_points_that_cannot_be_read_are_an_error_that_says_so(three):
    one = session(three)

    def broken(run_id, key):
        raise CorruptError(f"history of {run_id} is damaged")

    one._sources.points = broken
    with pytest.raises(CorruptError, match="is damaged"):
        list(one.query("SELECT * FROM metric_points")[1])
    one._sources.points = lambda run_id, key: (_ for _ in ()).throw(NotFoundError("gone"))
    with pytest.raises(GmlError, match="gone"):
        list(one.query("SELECT * FROM metric_points")[1])


def test_harmless_queries_are_not_refused(three):
    for text in (
        "VALUES (1), (2)", "SELECT date('now'), json_object('a', 1), upper('x'), sqrt(4) > 1", "SELECT count(*) FROM runs",
        "SELECT name, rank() OVER (ORDER BY start_time) FROM runs", "SELECT * FROM runs WHERE name LIKE 'r%' OR name GLOB 'r?'",
        "SELECT environment ->> '$.python', source -> '$' FROM runs", "SELECT value FROM json_each('[1,2]')",
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 5) SELECT * FROM n", "SELECT count(*) FROM artifacts",
        "SELECT r.name FROM runs r WHERE EXISTS (SELECT 1 FROM params p WHERE p.run_id = r.run_id)", "SELECT * FROM commits",
        "SELECT run_id FROM runs EXCEPT SELECT run_id FROM metrics WHERE key = 'x'",
    ):  # fmt: skip
        ask(three, text)


def test_columns_and_views_are_on_the_page():
    for name, columns in views.COLUMNS.items():
        section = PAGE[re.search(rf"^### .*\b{name}\b", PAGE, re.MULTILINE).end() :].split("\n### ")[0]
        for column in columns:
            assert f"`{column}`" in section, (name, column)


def test_functions_exist():
    with sqlite3.connect(":memory:") as connection:
        known = {row[0] for row in connection.execute("SELECT name FROM pragma_function_list")}
    connection.close()
    assert not {"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer", "randomblob"} & FUNCTIONS
    assert len(FUNCTIONS & known) > 80


@pytest.mark.parametrize(
    ("args", "out", "code"),
    [
        (["SELECT 1 AS a, 2 AS a", "--json"], '[\n  {"a": 1, "a_2": 2}\n]\n', 0),
        (["SELECT 1 WHERE 0", "--json"], "[]\n", 0),
        (
            ["SELECT 0.1, NULL, x'00ff', 'a,b', 9e999", "--csv"],
            "0.1,NULL,x'00ff',\"'a,b'\",9e999\n0.1,,00ff,\"a,b\",inf\n",
            0,
        ),
        (["SELECT 1.5 AS x, NULL AS y"], "x\ty\n1.5\t\n", 0),
        (["-"], "a\n1\n", 0),
        (["DROP TABLE runs"], "", 2),
        (["SELECT 1", "--csv", "--json"], "", 2),
    ],
)
def test_command(three, args, out, code):
    done = subprocess.run([sys.executable, "-W", "error", "-m", "gml", "-C", str(three.repo.path), "sql", *args] if _has_main() else
                          ["gml", "-C", str(three.repo.path), "sql", *args], input="SELECT 1 AS a", capture_output=True, text=True, check=False)  # fmt: skip
    assert (done.stdout, done.returncode) == (out, code), done.stderr
    assert len(done.stderr.splitlines()) == (1 if code else 0)


def _has_main():
    from importlib.util import find_spec

    return find_spec("gml.__main__") is not None


def test_damaged_runs_are_named_and_the_others_answered(three):
    three.commit({layout.record_path("0" * 12 + "7" + "0" * 19): b"{"})
    assert values(three, "SELECT count(*) FROM runs") == [(3,)]
