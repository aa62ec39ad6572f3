"""A second process that reads for the first one changes nothing but the time."""

import contextlib
import os
import sys

import pytest
from index_cases import Dice, dump, found, naive

from gml.index.store import update, worker
from gml.ledger import layout

BAD = "0" * 12 + "7" + "0" * 19


@pytest.fixture
def many(lab, monkeypatch):
    monkeypatch.setattr(worker, "WORTHWHILE", 10)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    dice = Dice(2)
    lab.runs([dice.document(run_id) for run_id in {dice.run_id() for _ in range(120)}])
    run_id = naive(lab.view())[0]
    lab.commit(
        {
            f"{layout.edits_dir(run_id)}/000001-{'0' * 16}.json": dice.edit(run_id, 1),
            layout.record_path(BAD): b"{",
        }
    )
    return lab


def alone(lab, path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(update, "is_worthwhile", lambda _: False)
        with contextlib.closing(lab.open(path)) as index:
            return dump(index)


def test_the_tables_are_the_same(many, tmp_path, monkeypatch):
    used = []
    monkeypatch.setattr(update, "frames", lambda view: used.append(view) or worker.frames(view))
    with contextlib.closing(many.open()) as index:
        assert used
        assert dump(index) == alone(many, tmp_path / "alone", monkeypatch)
        assert [BAD in str(each) for each in index.damaged()] == [True]
        many.add(name="next")
    with contextlib.closing(many.open()) as index:
        assert found(index, None) == naive(many.view())


@pytest.mark.parametrize("program", ["/bin/false", "/bin/cat", "/nowhere", "/bin/echo"])
def test_a_process_that_does_not_do_it(many, tmp_path, monkeypatch, program):
    monkeypatch.setattr(sys, "executable", program)
    with contextlib.closing(many.open()) as index:
        assert dump(index) == alone(many, tmp_path / "alone", monkeypatch)


def test_a_process_that_dies_in_the_middle(many, tmp_path, monkeypatch):
    def dying(view):
        whole = worker.frames(view)
        yield next(whole)
        whole.close()
        raise worker.WorkerError("killed")

    monkeypatch.setattr(update, "frames", dying)
    with contextlib.closing(many.open()) as index:
        assert dump(index) == alone(many, tmp_path / "alone", monkeypatch)


def test_small_ledgers_and_single_processors_do_without(many, monkeypatch):
    assert worker.is_worthwhile(many.view())
    monkeypatch.setattr(worker, "WORTHWHILE", 1000)
    assert not worker.is_worthwhile(many.view())
    monkeypatch.setattr(worker, "WORTHWHILE", 10)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert not worker.is_worthwhile(many.view())


def test_modules_of_the_user_are_not_taken_for_those_of_python(many, tmp_path, monkeypatch):
    (tmp_path / "struct.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    assert [frame["done"] for frame in worker.frames(many.view())] == [121]
