"""Pages as files: every link leads to a file, nothing hostile gets in, and a second build does what changed."""

from __future__ import annotations

import json
import re
from urllib.parse import unquote, urlsplit

import pytest
from hostile_pages import HOSTILE
from test_pages import Page

from gml.domain.errors import NotFoundError, UsageError
from gml.ui.site import bundle
from gml.ui.site.build import Options, build
from gml.ui.site.links import POLICY, copy_name
from gml.ui.site.report import report


@pytest.fixture(scope="module")
def public(runs_repo, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "public"
    built = build(runs_repo.workspace(), folder)
    assert (built.runs, built.rendered, built.damaged) == (8, 8, ())
    return folder


def stamps(folder) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_ino for p in folder.rglob("*") if p.is_file()}


def test_every_link_leads_to_a_file_that_is_there(public):
    pages = list(public.rglob("*.html"))
    assert len(pages) > 20
    for path in pages:
        text = path.read_text("utf-8")
        page = Page(text)
        # One external script, nothing inline; the policy stands in the page, as no server sends it.
        assert re.findall(r"<script\b(?! type=\"application/json\")[^>]*>", text) == [
            f'<script defer src="{"../" * (len(path.relative_to(public).parts) - 1)}assets/gml.js">'
        ]
        assert f'content="{POLICY}"'.replace("'", "&#39;") in text
        assert not re.search(r"<[^>]* (?:style|on\w+)=", text)
        for link in page.links:
            target = urlsplit(link)
            assert not target.scheme or link.startswith("data:image/svg+xml;base64,"), link
            if target.scheme or not target.path:
                continue
            found = (path.parent / unquote(target.path)).resolve()
            assert found.is_relative_to(public.resolve()), link
            assert found.is_file(), (path, link)


def test_no_text_of_a_run_does_anything_or_names_a_file(public, run_ids):
    page = Page((public / "runs" / f"{run_ids[HOSTILE[0]]}.html").read_text("utf-8"))
    assert HOSTILE[0] in page.text
    for path in public.rglob("*"):
        assert re.fullmatch(r"[\w.-]+", path.name), path
        # A host would serve these with a right to run scripts.
        if path.suffix in {".html", ".svg", ".js"}:
            assert path.parent.name == "assets" or "files" not in path.relative_to(public).parts
    for path in public.rglob("*.html"):
        assert "<script>window.pwned" not in path.read_text("utf-8")
    assert copy_name("x.svg", "0" * 64).endswith(".txt")
    assert copy_name("x.JS", "0" * 64).endswith(".txt")


def test_a_second_build_writes_what_changed(make_repo, tmp_path, monkeypatch):
    monkeypatch.setattr("gml.ui.site.build.ROWS", 10)
    repo = make_repo()
    one = "gml.start_run(run_name={}):\n  gml.log_metric('a', {}); gml.log_text(f'{{n}}', 'model/w.bin')"
    many = "import gml\nwith gml.batch():\n for n in range(25):\n  with "
    repo.python(many + one.format("f'r{n}'", "n").replace("\n", "\n "))
    folder = tmp_path / "public"
    first = build(repo.workspace(), folder)
    assert first.rendered == first.runs == 25
    counts = {p.name: len(re.findall("data-run=", p.read_text())) for p in folder.glob("index*.html")}
    assert counts == {"index-0.html": 10, "index.html": 15}
    before = stamps(folder)
    again = build(repo.workspace(), folder)
    assert (again.rendered, again.written, again.removed) == (0, 0, 0)
    assert stamps(folder) == before
    repo.python("import gml\nn = 0\nwith " + one.format("'new'", "30"))
    third = build(repo.workspace(), folder)
    assert (third.runs, third.rendered) == (26, 1)
    changed = {name for name, inode in stamps(folder).items() if before.get(name) != inode}
    new = {name for name in changed if name not in before}
    assert changed - new == {
        "index.html", "experiments.html", "experiments/0.html", "search.js", "site.json",
        *(n for n in changed if n.startswith("history")),
    }  # fmt: skip
    assert "index-0.html" not in changed
    # What is deleted goes, with its files; a run that is left loses its link to nothing.
    run_id = next(run.run_id for run in repo.workspace().ledger.view().runs() if run.name == "r3")
    repo.python("import sys; from gml.cli.main import run; sys.exit(run(['rm', 'r3']))")
    fourth = build(repo.workspace(), folder)
    assert (fourth.runs, fourth.rendered) == (25, 0)
    assert not (folder / "runs" / f"{run_id}.html").exists()
    assert fourth.removed >= 2
    fifth = build(repo.workspace(), folder, Options(query="metrics.a > 20", limit=1))
    assert fifth.runs == 1
    assert len(list((folder / "runs").glob("*.html"))) == 1
    assert len(list((folder / "files").rglob("*.*"))) == 1


def test_a_folder_of_others_is_left_alone(runs_repo, tmp_path):
    theirs = tmp_path / "thesis"
    theirs.mkdir()
    (theirs / "index.html").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        build(runs_repo.workspace(), theirs)
    (theirs / "site.json").write_text("{}")
    with pytest.raises(UsageError, match="not what this gml writes"):
        build(runs_repo.workspace(), theirs)
    assert (theirs / "index.html").read_text() == "mine"
    assert sorted(p.name for p in theirs.iterdir()) == ["index.html", "site.json"]


def test_a_list_from_elsewhere_removes_nothing_outside(runs_repo, tmp_path):
    folder = tmp_path / "public"
    build(runs_repo.workspace(), folder, Options(limit=1))
    kept = tmp_path / "kept"
    kept.write_text("mine")
    state = json.loads((folder / "site.json").read_text())
    state["pages"] |= {"../kept": "", str(kept): "", ".git/config": "", "gone.html": ""}
    (folder / "site.json").write_text(json.dumps(state))
    (folder / "gone.html").write_text("old")
    build(runs_repo.workspace(), folder, Options(limit=1))
    assert kept.read_text() == "mine"
    assert not (folder / "gone.html").exists()


def test_files_are_bounded_and_what_is_left_out_is_named(runs_repo, tmp_path, run_ids):
    folder = tmp_path / "public"
    built = build(runs_repo.workspace(), folder, Options(largest=20))
    assert built.left_out > 0
    assert all(p.stat().st_size <= 20 for p in (folder / "files").rglob("*.*"))
    page = Page((folder / "runs" / f"{run_ids[HOSTILE[0]]}.html").read_text("utf-8"))
    assert "table.csv" in page.text


def test_one_file_has_everything_inside(runs_repo, run_ids):
    several = report(runs_repo.workspace(), ["m-0.1-2", "m-0.8-3", run_ids[HOSTILE[0]]]).decode()
    one = report(runs_repo.workspace(), [run_ids[HOSTILE[0]]]).decode()
    for text in (several, one):
        page = Page(text)
        assert all(link.startswith(("#", "data:image/")) for link in page.links), page.links
        assert text.count("<script>") == 1
        assert "script-src &#39;sha256-" in text
        assert "unsafe" not in text.split("<title>")[0]
        data = json.loads(page.data["site-data"])
        assert run_ids[HOSTILE[0]] in data
    assert "Compare 3 runs" in Page(several).text
    with pytest.raises(NotFoundError):
        report(runs_repo.workspace(), ["nothing"])


def test_modules_become_one_script_or_an_error():
    text = bundle.script()
    assert not re.search(r"^(?:import|export)\b", text, re.MULTILINE)
    assert "</script" not in text
    with pytest.raises(Exception, match="classic script"):
        bundle.module("a", "export default 1;\n")
