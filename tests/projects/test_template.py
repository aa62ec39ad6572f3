"""Values never become code, whatever is in them and wherever the template has them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gml.domain.errors import InvalidValueError
from gml.projects.mlproject.template import render

SHOW = f"{sys.executable} -c 'import sys, json; print(json.dumps(sys.argv[1:]))'"
NASTY = [
    "; touch PWN", "$(touch PWN)", "`touch PWN`", "' ; touch PWN ; '", '" ; touch PWN ; "', "| touch PWN",
    "& touch PWN", "\n touch PWN\n", "a b", "", "*", "~", "-rf", "\\", "${IFS}touch", "{x}", "%s", "!!",
    "a[$(touch PWN)]", "é\u200b",
]  # fmt: skip
TEMPLATES = [
    "{show} {x}", "{show} '{x}'", '{show} "{x}"', "{show} {x} | cat", "true && {show} {x}", "true && {show} '{x}'",
    'true && {show} "{x}"', "{show} $({show2} {x})", "A={x} {show} done", "{show} done # {x}", "{show} a{x}b;",
    "cat <<EOF\n{x}\nEOF", 'echo "$(echo {x})" > /dev/null',
]  # fmt: skip


def run(argv, cwd):
    return subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False, timeout=30)


@pytest.mark.parametrize("template", TEMPLATES)
def test_no_value_runs_anything(template, tmp_path):
    safe = template.replace("{show2}", "echo").replace("{show}", "echo")
    for value in NASTY:
        run(render(safe, {"x": value}, {"extra": value}, "main"), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == []


@pytest.mark.parametrize("template", ["{x}", "'{x}'", '"{x}"', "--a={x}", "pre{x}post"])
@pytest.mark.parametrize("shell", ["", " && true"])
def test_a_value_is_one_word(template, shell, tmp_path):
    script = tmp_path / "show.py"
    script.write_text("import sys, json; print(json.dumps(sys.argv[1:]))")
    for value in ("a b", "$HOME", "'q'", '"', "*", "", "\\", "ü"):
        argv = render(f"{sys.executable} {script} {template}{shell}", {"x": value}, {}, "main")
        (word,) = json.loads(run(argv, tmp_path).stdout)
        assert word == template.strip("'\"").replace("{x}", value)


def test_no_shell_is_used_where_none_is_needed():
    assert render("python t.py --a {a} '{b} c'", {"a": "1 2", "b": "x"}, {"k": "v w"}, "main") == [
        "python", "t.py", "--a", "1 2", "x c", "--k", "v w",
    ]  # fmt: skip
    assert render("echo a > b", {}, {}, "main")[:2] == ["bash", "-c"]
    assert render("FOO=1 env", {}, {}, "main")[0] == "bash"
    assert render("cd x", {}, {}, "main")[0] == "bash"
    assert render("echo {{a}}", {}, {}, "main") == ["bash", "-c", "echo {a}", "gml-run"]


@pytest.mark.parametrize(
    "template",
    [
        "python {y}", "python {x!r}", "python {x.__class__}", "python {x[0]}", "python {x:>10}", "python {x", "python }",
        "python {}", "python {0}", "eval {x}", "echo $(( {x} ))", "[[ {x} -eq 1 ]]", "python -c 'print({x})'",
        'bash -c "echo {x}"', "sh -ec 'a {x}'", "Rscript -e 'print({x})'", "let a={x}",
    ],
)  # fmt: skip
def test_templates_that_make_code_of_values_are_refused(template):
    with pytest.raises(InvalidValueError):
        render(template, {"x": "1"}, {}, "entry point main")


def test_an_option_called_c_is_no_code():
    assert render("python t.py -c {x} -e {x}/a", {"x": "1"}, {}, "m") == [
        "python",
        "t.py",
        "-c",
        "1",
        "-e",
        "1/a",
    ]


def test_extra_parameters_have_names():
    with pytest.raises(InvalidValueError):
        render("python t.py", {}, {"a; rm": "1"}, "main")


@settings(max_examples=60, deadline=None)
@given(
    st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"])),
    st.sampled_from(['"', "'", ""]),
)
def test_bash_gives_back_any_value(value, quote):
    argv = render(f"printf %s {quote}{{x}}{quote} && true", {"x": value}, {}, "main")
    assert subprocess.run(argv, capture_output=True, check=True, timeout=30).stdout.decode() == value
