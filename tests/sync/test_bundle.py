"""Bundles: runs, code and bytes in a file; cut, edited and applied twice."""

from __future__ import annotations

import json
import subprocess
import zipfile

import pytest
from test_push_pull import gml, names

from gml.domain.errors import CorruptError, FormatError, NotFoundError, RemoteError, UsageError
from gml.sync.bundle import COMMITS, MANIFEST, apply, create
from gml.tracking.contents import open_artifact
from gml.tracking.reader import Reader

LOG = """
import gml, sys
for name in sys.argv[1:]:
    with gml.start_run(run_name=name):
        gml.log_metric("loss", 1.0)
        gml.log_text(name * 50_000, "weights.bin")
"""


@pytest.fixture
def sites(make_repo):
    """Return two repositories; the first has a run with a large artifact and a snapshot of its code."""
    here, there = make_repo("here"), make_repo("there")
    here.file("train.py", "changed\n")
    here.python(LOG, "one")
    return here, there


def big(repo, name: str) -> bytes:
    reader = Reader(repo.workspace())
    run = next(run for run in reader.runs() if run.name == name)
    with open_artifact(reader, run, "weights.bin") as file:
        return file.read()


def test_runs_code_and_bytes_travel(sites, tmp_path):
    here, there = sites
    file = tmp_path / "all.gmlb"
    assert "holds   1 run, 1 artifact" in gml(here, "bundle", "create", str(file))
    assert "pulled  1 run, 1 code commit, 1 artifacts (150.0 kB)" in gml(there, "bundle", "apply", str(file))
    assert big(there, "one") == b"one" * 50_000
    run = next(Reader(there.workspace()).runs())
    assert there.git("show", f"{run.source['snapshot']}:train.py") == "changed"
    assert there.git("for-each-ref", "refs/gml/remotes") == ""
    assert there.git("rev-parse", "refs/gml/ledger") == here.git("rev-parse", "refs/gml/ledger")
    # plain tools can read it
    with zipfile.ZipFile(file) as archive:
        archive.extractall(tmp_path / "taken-apart")
    there.git("bundle", "verify", str(tmp_path / "taken-apart" / COMMITS))


def test_twice_does_no_harm_and_later_ones_hold_only_what_is_new(sites, tmp_path):
    here, there = sites
    first, second = tmp_path / "1.gmlb", tmp_path / "2.gmlb"
    create(here.workspace(), first)
    with pytest.raises(UsageError, match="nothing is new"):
        create(here.workspace(), second, since="last")
    here.python(LOG, "two")
    made = create(here.workspace(), second, since="last")
    assert (made.runs, made.blobs) == (1, 1)
    with pytest.raises(RemoteError, match="builds on"):
        apply(there.workspace(), second)
    assert there.git("for-each-ref", "refs/gml") == ""
    assert apply(there.workspace(), first).pulled.runs == 1
    assert apply(there.workspace(), second).pulled.runs == 1
    tip = there.git("rev-parse", "refs/gml/ledger")
    for file in (first, second, first):
        report = apply(there.workspace(), file)
        assert not report.pulled
        assert report.notes == []
    assert there.git("rev-parse", "refs/gml/ledger") == tip
    assert names(there) == ["one", "two"]


def test_both_sites_may_have_gone_on(sites, tmp_path):
    here, there = sites
    there.python(LOG, "theirs")
    create(here.workspace(), tmp_path / "a.gmlb")
    create(there.workspace(), tmp_path / "b.gmlb")
    apply(there.workspace(), tmp_path / "a.gmlb")
    apply(here.workspace(), tmp_path / "b.gmlb")
    assert names(here) == names(there) == ["one", "theirs"]
    assert here.git("rev-parse", "refs/gml/ledger") == there.git("rev-parse", "refs/gml/ledger")


def test_without_a_git_command(sites, tmp_path):
    here, there = sites
    bare = {"PATH": ""}
    create(here.workspace(**bare), tmp_path / "a.gmlb")
    here.python(LOG, "two")
    create(here.workspace(**bare), tmp_path / "b.gmlb", since="last")
    for name in ("a", "b"):
        assert apply(there.workspace(**bare), tmp_path / f"{name}.gmlb").pulled.runs == 1
    assert big(there, "two") == b"two" * 50_000


def edited(source, target, change):
    """Write a bundle again with its members changed by a function (name, bytes) -> bytes or None."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = change(name, old.read(name))
            if data is not None:
                new.writestr(name, data)
    return target


def manifest(**changes):
    def change(name, data):
        return json.dumps(json.loads(data) | changes) if name == MANIFEST else data

    return change


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda n, d: None if n == MANIFEST else d, CorruptError, "not a bundle"),
        (lambda n, d: None if n == COMMITS else d, CorruptError, "has no commits.bundle"),
        (lambda n, d: d[:-30] if n == COMMITS else d, CorruptError, "does not match its digest"),
        (lambda n, d: d[:-1] + b"x" if n.startswith("sha256") else d, CorruptError, "artifact"),
        (lambda n, d: None if n.startswith("sha256") else d, CorruptError, "lacks the artifact"),
        (manifest(format="gml-bundle 2"), FormatError, "newer gml"),
        (manifest(format="something"), CorruptError, "not a bundle"),
        (manifest(writer="../../x"), CorruptError, "damaged list"),
        (manifest(refs={}), CorruptError, "edited"),
        (manifest(refs=7), CorruptError, "damaged list"),
    ],
)
def test_a_bundle_that_was_edited_changes_nothing(sites, tmp_path, change, error, words):
    here, there = sites
    create(here.workspace(), tmp_path / "good.gmlb")
    bad = edited(tmp_path / "good.gmlb", tmp_path / "bad.gmlb", change)
    with pytest.raises(error, match=words) as caught:
        apply(there.workspace(), bad)
    assert "\n" not in str(caught.value)
    assert there.git("for-each-ref", "refs/gml") == ""
    assert list(there.workspace().blobs.digests()) == []


def test_a_bundle_cut_anywhere_changes_nothing(sites, tmp_path):
    here, there = sites
    create(here.workspace(), tmp_path / "good.gmlb")
    whole = (tmp_path / "good.gmlb").read_bytes()
    workspace = there.workspace()
    for length in [0, 1, 30, *range(100, len(whole), len(whole) // 20), len(whole) - 1]:
        (tmp_path / "cut.gmlb").write_bytes(whole[:length])
        with pytest.raises(CorruptError):
            apply(workspace, tmp_path / "cut.gmlb")
    assert there.git("for-each-ref", "refs/gml") == ""


def test_other_mistakes(sites, tmp_path):
    here, there = sites
    with pytest.raises(NotFoundError):
        apply(here.workspace(), tmp_path / "nothing.gmlb")
    with pytest.raises(UsageError, match="nothing to put"):
        create(there.workspace(), tmp_path / "x.gmlb")
    (tmp_path / "x.gmlb").write_text("mine")
    with pytest.raises(UsageError, match="exists"):
        create(here.workspace(), tmp_path / "x.gmlb")
    with pytest.raises(CorruptError):
        apply(here.workspace(), tmp_path / "x.gmlb")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "there", "x.gmlb"]
    assert (
        subprocess.run(
            ["gml", "bundle", "apply", "x.gmlb"], cwd=tmp_path, check=False, capture_output=True
        ).returncode
        == 3
    )
