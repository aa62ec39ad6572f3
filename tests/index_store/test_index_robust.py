"""The index may be deleted, damaged, foreign, locked, shared or without room: answers stay right."""

import contextlib
import logging
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from index_cases import HOSTILE, NOW, Dice, Lab, dump, found, git, naive

from gml.domain.errors import GmlError
from gml.index.query import ast, parse
from gml.index.store import RunIndex, schema
from gml.index.store.files import Guard

QUERY = parse("metrics.auc > 0 or params.lr = 0.1 or tags.team is null")
HERE = str(Path(__file__).parent)


@pytest.fixture
def filled(make_repo, prepared):
    """A ledger of 400 runs with an index that is up to date."""
    repo = make_repo("lab")
    prepared(repo, "filled", lambda: fill(Lab(repo)))
    return Lab(repo)


def fill(lab):
    dice = Dice(3)
    lab.runs([dice.document(run_id) for run_id in {dice.run_id() for _ in range(400)}])
    lab.open().close()


def check(lab):
    with contextlib.closing(lab.open()) as index:
        assert found(index, QUERY) == naive(lab.view(), QUERY)
        assert found(index, None) == naive(lab.view())
    return index


def files(lab):
    return sorted(path.name for path in lab.path.parent.iterdir() if path.name.startswith("index"))


def test_it_is_closed_without_a_trace(filled):
    assert files(filled) == ["index.sqlite", "index.sqlite.lock"]


def test_deleted(filled):
    for path in filled.path.parent.glob("index*"):
        path.unlink()
    check(filled)


@pytest.mark.parametrize("left", [0, 1, 100, 4096, 5000, 65_536, 0.5, 0.99])
def test_truncated(filled, left):
    size = filled.path.stat().st_size
    os.truncate(filled.path, left if isinstance(left, int) else int(size * left) // 4096 * 4096)
    check(filled)


@pytest.mark.parametrize("seed", range(6))
def test_random_bytes(filled, seed):
    dice = random.Random(seed)
    if seed == 0:
        filled.path.write_bytes(dice.randbytes(50_000))
    else:
        size = filled.path.stat().st_size
        with filled.path.open("r+b") as file:
            # Whole pages: a bit that flips inside a value is not noticed, as in any database.
            for page in dice.sample(range(size // 4096), size // 4096 // seed):
                file.seek(page * 4096)
                file.write(dice.randbytes(4096))
    check(filled)
    check(filled)


def test_damage_that_is_met_in_a_question_and_not_before(filled):
    index = filled.open()
    with filled.path.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(os.urandom(filled.path.stat().st_size - 4096 * 3))
    assert found(index, QUERY) == naive(filled.view(), QUERY)
    index.close()
    check(filled)


@pytest.mark.parametrize("statement", [f"PRAGMA user_version = {schema.VERSION + 1}", "PRAGMA user_version = 1",
                                       "DROP TABLE run_rows", "DROP TABLE damage", "DELETE FROM meta"])  # fmt: skip
def test_another_version_or_tables_that_are_gone(filled, statement):
    with contextlib.closing(sqlite3.connect(filled.path)) as connection:
        connection.execute(statement)
        connection.commit()
    check(filled)


def test_the_database_of_something_else(lab):
    lab.add()
    with contextlib.closing(sqlite3.connect(lab.path)) as connection:
        connection.execute("CREATE TABLE run_rows (a)")
        connection.commit()
    check(lab)


def test_a_directory_in_its_place(lab, caplog):
    lab.add()
    lab.path.mkdir(parents=True)
    check(lab)
    (message,) = [record.getMessage() for record in caplog.records]
    assert str(lab.path) in message
    assert "\n" not in message
    assert lab.path.is_dir()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_directory_as_a_user(filled):
    read_only(filled)


def read_only(lab):
    folder = lab.path.parent
    before = lab.path.read_bytes()
    folder.chmod(0o555)
    try:
        check(lab)
        lab.add(name="later")
    finally:
        folder.chmod(0o755)
    assert lab.path.read_bytes() == before


def test_a_directory_that_refuses_everything(filled, monkeypatch, caplog):
    """As root: what a read-only mount answers."""
    import errno

    def refuse(_self, _path):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Guard, "__init__", refuse)
    before = filled.path.read_bytes()
    filled.add(name="later")
    caplog.clear()
    index = filled.open()
    assert found(index, QUERY) == naive(filled.view(), QUERY)
    assert index.connection.execute("SELECT count(*) FROM run_rows").fetchone()[0] >= 390
    assert filled.path.read_bytes() == before
    assert ["Read-only" in record.getMessage() for record in caplog.records] == [True]


def test_the_seen_commit_and_its_objects_are_gone(filled):
    filled.repo.damaged = True
    filled.add(name="seen")
    filled.open().close()
    store = filled.workspace.store
    tip = filled.ledger.tip()
    earlier = git(filled.repo.path, "rev-parse", f"{tip}~1")
    store.update_ref(filled.ledger.ref, earlier, expected=tip, message="force")
    git(filled.repo.path, "reflog", "expire", "--expire=now", "--all")
    git(filled.repo.path, "repack", "-adq")
    git(filled.repo.path, "prune", "--expire=now")
    fresh = Lab(filled.repo)
    with pytest.raises(GmlError):
        fresh.workspace.store.read(tip)
    check(fresh)


def test_an_empty_ledger(lab):
    check(lab)
    lab.add()
    check(lab)


def test_text_of_the_user_is_never_sql(lab):
    """Hostile keys, values and names are found as what they are, and tables stay."""
    ids = {text: lab.add(name=text, params={text or "-": text}, tags={text or "-": text}) for text in HOSTILE}
    with contextlib.closing(lab.open()) as index:
        before = dump(index)
        statements = []
        index.connection.set_trace_callback(None)
        for text, run_id in ids.items():
            for field in (
                ast.Field(ast.PARAM, text),
                ast.Field(ast.TAG, text),
                ast.Field(ast.ATTRIBUTE, "run_name"),
            ):
                query = ast.Query(ast.Comparison(field, "=", ast.Text(text)))
                assert run_id in found(index, query)
                statements.append(compiled(index, query))
            assert index.match_names(text) == [run_id]
            assert found(index, None, experiments=[text]) == []
        assert not [text for text in HOSTILE if len(text) > 3 and any(text in sql for sql in statements)]
        assert len(set(statements)) < 3 * len(HOSTILE)
        assert dump(index) == before


def compiled(index, query):
    from gml.index.store.compile import Compiler

    return Compiler(index.connection, NOW).statement(query).sql


WORKER = """
import sys
sys.path[:0] = {path!r}
from index_cases import *
from gml.index.query import parse
class Place: path = sys.argv[1]
lab = Lab(Place)
query = parse("metrics.auc > 0 or params.lr = 0.1 or tags.team is null")
for _ in range(int(sys.argv[2])):
    view = lab.view()
    index = RunIndex.open(lab.path, view)
    have = {{*found(index, query)}}
    missing = {{*naive(view, query)}} - have
    assert not missing, missing
    index.close()
print("fine")
"""


def worker(lab, rounds):
    script = WORKER.format(path=[HERE, str(Path(HERE).parent / "index")])
    return subprocess.Popen([sys.executable, "-W", "error", "-c", script, str(lab.repo.path), str(rounds)],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip


@pytest.mark.parametrize("damage", [False, True])
def test_eight_processes_read_while_another_appends(lab, damage):
    dice = Dice(5)
    lab.runs([dice.document(dice.run_id()) for _ in range(60)])
    if damage:
        lab.path.parent.mkdir(parents=True, exist_ok=True)
        lab.path.write_bytes(b"no database" * 1000)
    children = [worker(lab, 4) for _ in range(8)]
    while any(child.poll() is None for child in children):
        lab.runs([dice.document(dice.run_id())])
        time.sleep(0.05)
    for child in children:
        out, err = child.communicate()
        assert (out.strip(), child.returncode) == ("fine", 0), err
        assert "cannot be used" not in err
    check(lab)


def test_killed_while_it_is_built(filled):
    filled.path.unlink()
    script = WORKER.format(path=[HERE, str(Path(HERE).parent / "index")]).replace(
        "for _ in range", "import os, signal, gml.index.store.update as u\nu.CHUNK = 50\n"
        "stop = lambda n: n >= 200 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "RunIndex.open(lab.path, lab.view(), stop)\nfor _ in range")  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", script, str(filled.repo.path), "1"], capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert filled.path.exists()
    check(filled)


@pytest.mark.parametrize("limit", [0, 1000, 50_000, 200_000])
def test_a_full_disk(filled, limit):
    filled.path.unlink()
    script = (
        f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        + WORKER.format(path=[HERE, str(Path(HERE).parent / "index")])
    )
    done = subprocess.run([sys.executable, "-B", "-c", script, str(filled.repo.path), "1"],
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.stdout.strip() == "fine", done.stderr
    check(filled)


def test_others_use_the_file_that_is_to_be_made_anew(filled, monkeypatch, caplog):
    from gml.index.store import files as module

    monkeypatch.setattr(module, "PATIENCE", 0.2)
    holder = Guard(filled.path)
    with filled.path.open("r+b") as file:
        file.write(b"\0" * 4096)
    with caplog.at_level(logging.WARNING):
        check(filled)
    assert "other processes use it" in caplog.text
    holder.close()
    caplog.clear()
    check(filled)
    check(filled)
    assert caplog.text == ""


def test_the_file_that_another_process_made_anew_is_kept(filled):
    one, two = Guard(filled.path), Guard(filled.path)
    inode = filled.path.stat().st_ino
    two.close()
    assert one.discard()
    filled.path.write_bytes(b"")
    keep = filled.path.with_name("keep")
    shutil.copy(filled.path, keep)
    assert one.discard()
    one.close()
    assert inode
    check(filled)


def test_it_is_never_used_for_a_write(filled, api):
    """With an index that lies, runs are logged, edited and deleted as the ledger has it."""
    from gml.tracking import edits

    with contextlib.closing(sqlite3.connect(filled.path)) as connection:
        for table in ("run_rows", "details", "metric_rows", "text_rows", "keys"):
            connection.execute(f"DELETE FROM {table}")
        connection.commit()
    run_id = naive(filled.view())[0]
    edits.delete_runs(filled.workspace, [run_id])
    assert filled.view().run(run_id).lifecycle_stage == "deleted"


def test_it_is_opened_read_only_by_nobody_who_only_looks(filled):
    before = filled.path.stat().st_mtime_ns
    check(filled)
    assert filled.path.stat().st_mtime_ns == before


def test_progress_counts_runs(filled):
    filled.path.unlink()
    seen = []
    RunIndex.open(filled.path, filled.view(), seen.append).close()
    assert seen == [len(naive(filled.view(), stages=("active", "deleted")))]
