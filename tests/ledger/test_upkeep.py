"""The ledger's objects stay few and small, whatever else is in the repository."""

from __future__ import annotations

import shutil

import pytest

from gml.git import maintenance
from gml.ledger import layout, upkeep
from gml.ledger.ledger import Batch


def packs(repo) -> set[str]:
    return {path.stem for path in (repo.path / ".git/objects/pack").glob("*.pack")}


def append(repo, count: int) -> None:
    ledger = repo.workspace().ledger
    for number in range(count):
        ledger.append(lambda _, n=number: Batch({f"runs-x/aa/bb/run-{n}.json": b"{}\n" * (n + 1)}, f"{n}\n"))


def test_a_commit_is_one_pack(repo):
    append(repo, 3)
    assert len(packs(repo)) == 3
    assert repo.git("count-objects").startswith("3 objects")


def test_many_packs_become_few_and_nothing_is_lost(repo):
    append(repo, upkeep.PACKS + 3)
    assert len(packs(repo)) < upkeep.PACKS // 2
    view = repo.workspace().ledger.view()
    assert all(view.read(f"runs-x/aa/bb/run-{n}.json") == b"{}\n" * (n + 1) for n in range(upkeep.PACKS + 3))
    assert view.read(layout.FORMAT_PATH) == layout.FORMAT_FILE


def test_packs_that_git_may_not_unite_do_not_count(repo):
    append(repo, 4)
    for stem in list(packs(repo))[:3]:
        (repo.path / f".git/objects/pack/{stem}.keep").touch()
    assert maintenance.count_packs(repo.path / ".git") == 1


def test_without_a_git_command_packs_stay_as_they_are(repo, tmp_path):
    append(repo, 2)
    store = repo.workspace(PATH=str(tmp_path)).store
    assert shutil.which("git", path=str(tmp_path)) is None
    assert maintenance.roll_up(store) is False
    assert len(packs(repo)) == 2


@pytest.mark.parametrize("unreachable", ["a dropped stash", "another"])
def test_the_users_unreachable_objects_are_not_pruned(repo, unreachable):
    oid = repo.git("hash-object", "-w", "--stdin", data=unreachable)
    append(repo, upkeep.PACKS + 2)
    assert repo.git("cat-file", "-p", oid) == unreachable
