"""Whatever is wrong with a question gets one clear line and never a wrong answer."""

from __future__ import annotations

import pytest

from gml.cli.main import run as run_cli
from gml.domain.ids import short_id
from support import Done


@pytest.fixture
def ask(repo, capsys):
    """Return a function that runs `gml` in this process."""

    def run(*args: object, code: int | None = 0) -> Done:
        capsys.readouterr()
        result = run_cli(["-C", str(repo.path), *map(str, args)])
        said = capsys.readouterr()
        assert code is None or result == code, said
        return Done(result, said.out, said.err)

    return run


@pytest.fixture
def runs(api):
    """Three runs, auc 0.7, 0.8 and 0.9; returns their ids."""
    ids = []
    for number in (7, 8, 9):
        with api.start_run(run_name=f"run-{number}") as run:
            api.log_param("lr", f"0.{number}")
            api.log_metric("auc", number / 10)
        ids.append(run.info.run_id)
    return ids


LONG = " or ".join(f"params.k{n} = '{n}'" for n in range(7000))[: 100 * 1024]
MANY = ", ".join(["name"] * 10_000)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ls", "acu > 0.9"], "unknown attribute 'acu' (at character 1); metrics, params and tags need their prefix"),
        (["ls", "metric.auc > 0.1 and foo.x = 1"], "unknown entity 'foo' (at character 22)"),
        (["ls", "stauts = 'FAILED'"], "did you mean 'status'?"),
        (["ls", "(metrics.auc > 0.9"], "this ( is never closed (at character 1)"),
        (["ls", "metrics.auc > 0.9)"], "this ) closes nothing (at character 18)"),
        (["ls", "metrics.auc > 'high'"], "metrics compare with numbers"),
        (["ls", "start_time > 'someday'"], "a time looks like"),
        (["ls", "duration > 90"], "90"),
        (["ls", "dirty = 3"], "dirty is true or false"),
        (["ls", "params.lr ~ '((a{1000}){1000}){1000}'"], "this pattern is too large"),
        (["ls", "params.lr ~ '(?=a)b'"], "in this regular expression"),
        (["ls", LONG], "the limit is 65536"),
        (["ls", "(" * 3000 + "metrics.auc > 1" + ")" * 3000], "nested more than 200 deep"),
        (["ls", "--sort", ",".join(f"params.k{n}" for n in range(100))], "at most 64 keys"),
        (["ls", "--columns", "auc"], "unknown attribute 'auc'"),
        (["ls", "--at", "someday"], "neither a time nor a git revision"),
        (["ls", "--since", "someday"], "is no time"),
        (["ls", "--commit", "nowhere..main"], "'nowhere' is no commit"),
        (["ls", "--branch", "nowhere"], "no branch and no run's branch is named 'nowhere'"),
        (["ls", "--touching", "nowhere.py"], "no code of these runs has 'nowhere.py'"),
        (["export", "metrics.auc >"], "expected a value"),
        (["export", "-x", "nowhere"], "no experiment is named 'nowhere'"),
        (["export", "-o", "."], "is a directory"),
        (["sql", "DELETE FROM runs"], "gml sql only reads"),
        (["sql", "ATTACH 'other.db' AS other"], "gml sql only reads"),
        (["sql", "PRAGMA user_version = 5"], "gml sql only reads"),
        (["sql", "VACUUM INTO 'copy.db'"], "gml sql only reads"),
        (["sql", "CREATE TEMP TABLE t(a)"], "gml sql only reads"),
        (["sql", "SELECT load_extension('x')"], "load_extension is not available"),
        (["sql", "SELECT * FROM sqlite_master"], "there is no view 'sqlite_master'"),
        (["sql", "SELECT 1; SELECT 2"], "a query is one SELECT"),
        (["sql", f"SELECT {MANY} FROM runs"], "too many columns"),
        (["sql", "SELEC 1"], "the SQL has an error near 'SELEC'"),
        (["diff", "run-7", "nowhere"], "no run matches 'nowhere'"),
        (["diff", "--best", "metrics.nothing", "main~1..main"], "no"),
        (["diff", "--best", "metrics.auc", "main"], "has no two sides"),
        (["history", "metrics.nothing"], "no finished run has metrics.nothing"),
        (["bisect", "metrics.auc", "--good", "nowhere"], "'nowhere' is no commit"),
        (["blame", "params.nothing"], "no run of the experiment has params.nothing"),
        (["blame", "nothing"], "unknown attribute 'nothing'"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)  # fmt: skip
def test_one_clear_line(ask, repo, runs, arguments, words):
    done = ask(*arguments, code=None)
    assert done.code > 1
    (line,) = done.err.splitlines()
    assert line.startswith("gml: ")
    assert words in line
    assert len(line) < 600
    assert not (repo.path / "copy.db").exists()


def test_a_pattern_that_others_explode_on_is_answered_at_once(ask, runs, api):
    with api.start_run():
        api.log_param("lr", "a" * 5000 + "!")
    assert ask("ls", "params.lr ~ '(a+)+$'", "--json").json == []
    assert len(ask("ls", "params.lr ~ '(a*)*!'", "--json").json) == 1


def test_a_directory_where_the_index_belongs(ask, repo, runs, caplog):
    ask("ls", "metrics.auc > 0.75")
    path = repo.workspace().state_dir / "index.sqlite"
    for left in path.parent.glob("index.sqlite*"):
        left.unlink()
    path.mkdir()
    done = ask("ls", "metrics.auc > 0.75")
    assert [row["name"] for row in done.rows] == ["run-9", "run-8"]
    assert [str(path) in record.getMessage() for record in caplog.records] == [True]
    path.rmdir()
    assert [row["name"] for row in ask("ls", "metrics.auc > 0.75").rows] == ["run-9", "run-8"]


def test_a_ledger_rewritten_by_force(ask, repo, runs):
    """What was indexed and is in the ledger no more is not found, by query, name or id."""
    assert len(ask("ls", "metrics.auc > 0", "--json").json) == 3
    repo.git("update-ref", "refs/gml/ledger", "refs/gml/ledger~1")
    assert [row["name"] for row in ask("ls", "metrics.auc > 0").rows] == ["run-8", "run-7"]
    for text in ("run-9", runs[2], short_id(runs[2])):
        assert "no run matches" in ask("show", text, code=4).err
    repo.git("update-ref", "-d", "refs/gml/ledger")
    assert ask("ls", "metrics.auc > 0", "--json").json == []


def test_a_run_that_was_deleted_after_it_was_found(ask, runs):
    found = ask("ls", "name = 'run-8'", "--json").json
    ask("rm", "run-8")
    assert ask("show", found[0]["run_id"], "--json").json["lifecycle_stage"] == "deleted"
    assert "no run matches" in ask("show", "run-8", code=4).err
    assert ask("ls", "name = 'run-8'", "--json").json == []
    assert len(ask("ls", "name = 'run-8'", "--deleted", "--json").json) == 1


def test_ten_thousand_columns(ask, api, repo):
    with api.start_run(run_name="wide"):
        api.log_params({f"p{n}": n for n in range(5000)})
        api.log_metrics({f"m{n}": n for n in range(5000)})
    with api.start_run(run_name="narrow"):
        api.log_metric("m1", 0.5)
    assert [row["name"] for row in ask("ls", "metrics.m4999 = 4999 and params.p4999 = 4999").rows] == ["wide"]
    columns = ask("ls", "--csv").out.splitlines()[0].split(",")
    assert len([name for name in columns if name.startswith(("params.", "metrics."))]) == 10_000
    ask("export", "-o", repo.path / "runs.csv")
    head, *rows = (repo.path / "runs.csv").read_text().splitlines()
    assert len(head.split(",")) > 10_000
    assert len(rows) == 2
    named = ",".join(f"params.p{n}" for n in range(5000))
    assert ask("ls", "--columns", named).rows[1]["p4999"] == "4999"
