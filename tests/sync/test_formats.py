"""Repositories of every released format open for ever; newer formats are never written into."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from test_push_pull import newer, value

FIXTURES = Path(__file__).parents[1] / "fixtures"
sys.path.insert(0, str(FIXTURES))

import make  # noqa: E402

from gml.cli import main as cli  # noqa: E402

LEDGER = "refs/gml/ledger"


@pytest.fixture
def unpack(make_repo):
    """Return a function that makes a repository of a fixture."""

    def do(name: str):
        repo = make_repo(name, commit=False)
        repo.git("fetch", "-q", "--update-head-ok", str(FIXTURES / f"{name}.bundle"), "+refs/*:refs/*")
        repo.git("reset", "-q", "--hard")
        return repo

    return do


@pytest.mark.parametrize("name", sorted(path.stem for path in FIXTURES.glob("*.bundle")))
def test_what_an_earlier_gml_wrote_is_read_and_can_be_gone_on_with(unpack, name, monkeypatch):
    repo = unpack(name)
    monkeypatch.chdir(repo.path)
    assert make.facts(repo.path) == json.loads((FIXTURES / f"{name}.json").read_text())
    assert cli.run(["tag", "first", "read=again"]) == 0
    assert make.facts(repo.path)["runs"][0]["tags"]["read"] == "again"
    assert cli.run(["doctor"]) == 0


WRITES = (
    ("tag", "one", "a=b"),
    ("note", "one", "text"),
    ("rename", "one", "two"),
    ("rm", "one"),
    ("exp", "create", "other"),
    ("log", "--", "true"),
    ("push",),
    ("pull",),
    ("sync",),
    ("fold",),
    ("bundle", "create", "out.gmlb"),
    ("registry", "register", "churn", "--run", "one"),
)


def test_nothing_is_written_into_a_newer_ledger(repo, make_bare, monkeypatch, capsys):
    bare = make_bare()
    repo.git("remote", "add", "origin", str(bare))
    monkeypatch.setenv("GML_CODE", "none")
    monkeypatch.chdir(repo.path)
    repo.python("import gml\nwith gml.start_run(run_name='one'): gml.log_text('a', 'a.txt')")
    newer(repo)
    before = repo.git("for-each-ref")
    for command in WRITES:
        code = cli.run(list(command))
        said = capsys.readouterr().err.splitlines()
        assert (command, code) == (command, 10), said
        assert len(said) == 1, said
        assert "readable by gitml 9 and newer" in said[0]
        assert repo.git("for-each-ref") == before
    assert value(bare, "refs") == ""
    assert not (repo.path / "out.gmlb").exists()
