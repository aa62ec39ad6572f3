"""What the documentation shows runs, what it names exists, and what exists is documented."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import gml
import warm
from gml.domain import errors

TOP = Path(__file__).parents[2]
DOCS = sorted([TOP / "README.md", *(TOP / "docs").glob("*.md")])
PAGES = sorted(
    [*DOCS, TOP / "CONTRIBUTING.md", TOP / "CHANGELOG.md", *(TOP / "docs/decisions").glob("*.md"),
     *(TOP / "examples").rglob("README.md"), TOP / "hooks/README.md"]
)  # fmt: skip
# Run by tests of its own.
ELSEWHERE = {"queries.md"}
LINK = re.compile(r"\]\(([^)\s]+)\)")
NAMED_PATH = re.compile(
    r"(?<![\w/.$<-])(?:src|docs|tests|examples|hooks|benchmarks|\.ci)/[\w.-]+(?:/[\w.-]+)*(?![\w*<{-])"
)


def tool(name: str):
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, TOP / "docs" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


blocks = tool("blocks")
make_cli = tool("make_cli")


# --- what is shown runs -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "page", [page for page in DOCS if page.name not in ELSEWHERE], ids=lambda page: page.name
)
def test_what_is_shown_runs(page, tmp_path):
    differences = blocks.check(page, tmp_path / "box", warm.command().parent)
    assert not differences, (
        "\n\n".join(map(str, differences)) + f"\n\npython docs/blocks.py --update {page.name}"
    )


def test_the_pages_show_something():
    counts = {page.name: len(blocks.steps(page.read_text())) for page in DOCS}
    assert counts["README.md"] >= 10
    assert counts["format.md"] >= 20
    assert counts["python.md"] >= 60


@pytest.mark.parametrize(
    ("shown", "actual", "equal"),
    [
        ("run 1a2b3c4d\n", "run 99887766\n", True),
        ("run forest\n", "run boost\n", False),
        ("a\n...\nz\n", "a\nb\nc\nz\n", True),
        ("a\n...\nz\n", "a\nz\n", True),
        ("a\n...\nz\n", "a\nb\n", False),
        ("python ... packages\n", "python 3.12 7 packages\n", True),
        ("took 0.1s\n", "took 12s\n", True),
        ("loss 0.25\n", "loss 0.5\n", False),
        ("id   name\n──\n", "id name\n─────\n", True),
        ("", "something\n", False),
    ],
)
def test_outputs_are_compared_with_care(shown, actual, equal):
    assert blocks.same(shown, actual) is equal


def test_a_command_that_fails_is_no_documentation(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```console\n$ gml show nothing\n```\n")
    with pytest.raises(AssertionError, match="no run matches"):
        blocks.check(page, tmp_path / "box", warm.command().parent)


# --- the command line -------------------------------------------------------------------------


def test_the_page_of_commands_is_up_to_date():
    assert (TOP / "docs/cli.md").read_text() == make_cli.page(), "python docs/make_cli.py"


@pytest.mark.parametrize(("name", "command"), list(make_cli.commands()), ids=str)
def test_every_command_has_help_with_an_example(name, command):
    body, examples = make_cli.text_and_examples(command)
    assert body
    assert examples
    assert all(line.startswith("gml ") for line in examples)
    group = name.split()[1]
    assert any(line.split()[1] == group for line in examples)


def test_every_option_says_what_it_does():
    for name, command in make_cli.commands():
        for parameter in command.params:
            if parameter.param_type_name == "option":
                assert parameter.help, (name, parameter.name)


def test_every_setting_is_documented():
    source = "\n".join(path.read_text() for path in (TOP / "src").rglob("*.py"))
    text = "\n".join(page.read_text() for page in DOCS)
    names = set(re.findall(r"\bGML_[A-Z_]+\b", source))
    settings = (TOP / "src/gml/workspace/settings.py").read_text()
    names |= set(re.findall(r"\bconfig\(\"(gml\.[\w.]+)\"\)", settings))
    assert len(names) > 10
    assert sorted(name for name in names if name not in text) == []


# --- exit codes -------------------------------------------------------------------------------


def test_the_exit_codes_are_those_of_the_errors():
    page = (TOP / "docs/exit-codes.md").read_text()
    stated = {name: int(code) for code, name in re.findall(r"^\| (\d+) \| `(\w+)` \|", page, re.MULTILINE)}
    real = {
        name: kind.exit_code
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, errors.GmlError)
    }
    assert stated == real


# --- the Python API ---------------------------------------------------------------------------


def public_names() -> list[str]:
    return [name for name in gml.__all__ if not name.startswith("_")]


@pytest.mark.parametrize("name", public_names())
def test_every_public_name_is_documented(name):
    value = getattr(gml, name)
    assert inspect.getdoc(value)
    page = (TOP / "docs/python.md").read_text()
    headings = re.findall(r"^### (.*)$", page, re.MULTILINE)
    listed = {part.strip() for line in headings for part in line.split(",")}
    assert name in listed or name == "ActiveRun", f"### {name} is missing in docs/python.md"
    shown = "".join(step.source for step in blocks.steps(page) if step.kind == "pycon")
    assert f"gml.{name}" in shown


def test_the_python_page_names_nothing_that_is_not_there():
    page = (TOP / "docs/python.md").read_text()
    names = set(re.findall(r"\bgml\.([a-z_]+)\(", page))
    assert names - set(gml.__all__) == set()


# --- the format -------------------------------------------------------------------------------


def test_the_format_names_every_key_of_a_record(repo):
    repo.file("helper.py", "x = 1\n")
    repo.file(".env", "password=1\n")
    run_id = repo.python(
        """
        import gml
        with gml.start_run(tags={"a": "b"}) as run:
            gml.log_param("depth", 3)
            for step in range(300):
                gml.log_metric("loss", 0.5, step=step)
            gml.log_metrics({"auc": 0.5}, step=1)
            gml.log_metrics({"auc": 0.6}, step=2)
            gml.log_text("x", "x.txt")
            gml.log_input([{"a": 1}], context="train")
        with gml.start_run(run_id=run.run_id):
            gml.log_metric("late", 1.0)
        gml.delete_run(run.run_id)
        print(run.run_id)
        """.replace("\n        ", "\n")
    )
    page = (TOP / "docs/format.md").read_text()
    listed = set(re.findall(r"`(\w+)`", page)) | set(
        re.findall(r"\w+", " ".join(re.findall(r"`\{(.*?)\}`", page)))
    )
    names = repo.git("ls-tree", "-r", "--name-only", "refs/gml/ledger").splitlines()
    documents = [name for name in names if name.endswith(".json") and run_id in name]
    assert len(documents) == 3
    for name in documents:
        document = json.loads(repo.git("show", f"refs/gml/ledger:{name}"))
        assert set(document) <= listed, name
        for section in ("source", "process", "environment"):
            assert set(document.get(section, ())) <= listed, (name, section)
        for summary in document.get("metrics", {}).values():
            assert set(summary) <= listed
    (environment,) = [name for name in names if name.startswith("environments/")]
    assert set(json.loads(repo.git("show", f"refs/gml/ledger:{environment}"))) <= listed


# --- what is named exists ---------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    found = set()
    for heading in re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower())
        found.add(plain.replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_links_resolve(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in LINK.findall(text):
        if "://" in link:
            continue
        target, _, anchor = link.partition("#")
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), link
        if anchor:
            assert anchor in anchors(there), link


def tracked() -> list[str]:
    done = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=TOP, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip("not a git checkout")
    return [name for name in done.stdout.split("\0") if name and (TOP / name).is_file()]


def test_no_file_names_a_path_that_does_not_exist():
    wrong = []
    for name in tracked():
        # Tests make up paths of their own; test code that names real ones fails by itself.
        if name.startswith("tests/") or name.endswith((".lock", ".ipynb")) or Path(name).name in ELSEWHERE:
            continue
        text = (TOP / name).read_text("utf-8", "replace")
        for path in set(NAMED_PATH.findall(text)):
            plain = path.rstrip(".")
            if not (TOP / plain).exists() and not (TOP / Path(name).parent / plain).exists():
                wrong.append(f"{name}: {plain}")
    assert sorted(wrong) == []


def test_modules_that_are_named_can_be_imported():
    rooms = {path.stem for path in (TOP / "src/gml").iterdir()}
    for page in PAGES:
        for name in set(re.findall(r"`(gml(?:\.\w+){2,})`", page.read_text())):
            if name.split(".")[1] in rooms - {"_version"}:
                module, _, last = name.rpartition(".")
                assert hasattr(importlib.import_module(module), last) or importlib.import_module(name)
