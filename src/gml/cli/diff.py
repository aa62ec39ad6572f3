"""`gml diff`: compare two runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gml.cli.common import json_option, open_reader
from gml.cli.output import emit_json, heading, is_terminal, number, table
from gml.domain.ids import short_id

if TYPE_CHECKING:
    from gml.domain.run import Run


@click.command("diff")
@click.argument("a")
@click.argument("b", default="@")
@click.option(
    "--only", multiple=True, metavar="SECTION",
    type=click.Choice(["params", "metrics", "tags", "code", "environment", "artifacts"]),
    help="Only this section (repeatable).",
)  # fmt: skip
@click.option("--stat", is_flag=True, help="Name changed files instead of printing the code's diff.")
@json_option
def diff_command(a: str, b: str, only: tuple[str, ...], stat: bool, as_json: bool) -> None:
    """Compare runs A and B (the latest by default): params, metrics, tags, code, environment, artifacts.

    The code is compared as it ran, uncommitted changes included.

    \b
    Example:
      gml diff @~1 @
      gml diff forest boost --only metrics --json
    """
    from gml.tracking.compare import compare_runs

    reader = open_reader()
    first, second = reader.resolve(a), reader.resolve(b)
    result = compare_runs(reader, first, second, only)
    if as_json:
        emit_json(result)
    else:
        _print(result, first, second, stat)


def _label(run: Run) -> str:
    return f"{short_id(run.run_id)} {run.name}"


def _print(result: dict[str, Any], a: Run, b: Run, stat: bool) -> None:
    click.echo(f"a  {_label(a)}\nb  {_label(b)}")
    same = []
    for name in ("params", "metrics", "tags", "environment", "artifacts"):
        part = result.get(name)
        if part is None:
            continue
        rows = _rows(name, part)
        if not rows:
            same.append(name)
            continue
        heading(f"\n{name}")
        columns = ["key", "a", "b", *(["delta"] if name == "metrics" else [])]
        table(columns, rows, right=["a", "b", "delta"] if name == "metrics" else [])
    code = result.get("code")
    if code is not None and not _print_code(code, stat):
        same.append("code")
    if same:
        click.echo(f"\nequal: {', '.join(same)}")


def _text(name: str, value: Any) -> str:
    if name == "metrics":
        return number(float(value))
    if name == "artifacts" and isinstance(value, dict):
        return f"{value.get('sha256', '')[:12]} {value.get('size', '')}".strip()
    if name == "artifacts":
        return str(value)[:12]
    return "" if value is None else str(value)


def _rows(name: str, part: dict[str, Any]) -> list[list[str]]:
    rows = []
    delta = part.get("delta", {})
    for key, (old, new) in part["changed"].items():
        row = [key, _text(name, old), _text(name, new)]
        if name == "metrics":
            change = delta.get(key)
            row.append("" if change is None else f"{float(change):+.5g}")
        rows.append(row)
    rows += [
        [key, _text(name, value), "-", *([""] * (name == "metrics"))] for key, value in part["only_a"].items()
    ]
    rows += [
        [key, "-", _text(name, value), *([""] * (name == "metrics"))] for key, value in part["only_b"].items()
    ]
    return rows


def _print_code(code: dict[str, Any], stat: bool) -> bool:
    """Print the code section; False when the code is equal."""
    if code.get("missing"):
        heading("\ncode")
        which = " and ".join(short_id(run_id) for run_id in code["missing"])
        click.echo(f"  the code of {which} is not in this repository")
        return True
    if not code.get("patch"):
        return False
    heading("\ncode")
    if code.get("commit"):
        old, new = (str(side)[:12] if side else "no commit" for side in code["commit"])
        click.echo(f"  commit {old} -> {new}")
    if stat:
        marks = {"changed": "M", "only_a": "D", "only_b": "A"}
        for section, mark in marks.items():
            for path in code[section]:
                click.echo(f"  {mark} {path}")
        return True
    for line in code["patch"].splitlines():
        click.echo(_paint(line) if is_terminal() else line.encode("utf-8", "replace").decode())
    return True


def _paint(line: str) -> str:
    text = line.encode("utf-8", "replace").decode()
    if line.startswith(("+++", "---", "diff ", "index ")):
        return click.style(text, bold=True)
    colours = {"+": "green", "-": "red", "@": "cyan"}
    return click.style(text, fg=colours[line[0]]) if line[:1] in colours else text
