"""`gml diff`: compare two runs, or many."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from gml.cli.code_options import best_pair
from gml.cli.common import json_option, open_reader
from gml.cli.output import emit_json, heading, is_terminal, number, table
from gml.domain.errors import UsageError
from gml.domain.ids import short_id
from gml.tracking.compare import SECTIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gml.domain.run import Run
    from gml.tracking.report.sections import Report


@click.command("diff")
@click.argument("wanted", metavar="A [B] [C ...]", nargs=-1, required=True)
@click.option(
    "--only", multiple=True, metavar="SECTION", type=click.Choice(SECTIONS),
    help=f"Only this section (repeatable): {', '.join(SECTIONS)}.",
)  # fmt: skip
@click.option("--all", "everything", is_flag=True, help="Also rows in which all of three or more are equal.")
@click.option("--stat", is_flag=True, help="Name changed files instead of printing the code's diff.")
@click.option(
    "--champion", metavar="METRIC",
    help="Put the best run by METRIC first; its name tells (loss: lower), or 'METRIC ASC|DESC'.",
)  # fmt: skip
@click.option(
    "--best", metavar="METRIC", help="Compare the best runs of both sides of a range A..B of commits."
)
@click.option(
    "-x", "--experiment", "experiments", multiple=True, metavar="NAME", help="With --best: only of it."
)
@click.option("--markdown", "as_markdown", is_flag=True, help="Print Markdown for a pull request comment.")
@click.option("--html", "html", metavar="FILE", help="Write a page with curves; it works from disk.")
@json_option
def diff_command(
    wanted: tuple[str, ...],
    only: tuple[str, ...],
    everything: bool,
    stat: bool,
    champion: str | None,
    best: str | None,
    experiments: tuple[str, ...],
    as_markdown: bool,
    html: str | None,
    as_json: bool,
) -> None:
    """Compare runs A and B (the latest by default), or more: what differs, one column a run.

    Compared are params, metrics, curves, data sets, tags, code, environment and artifacts. The code is
    compared as it ran, uncommitted changes included.

    \b
    Example:
      gml diff @~1 @
      gml diff forest boost --only metrics --json
      gml diff @~2 @~1 @ --champion metrics.auc --markdown
      gml diff @~1 @ --html report.html
      gml diff --best metrics.auc -x churn main..feature/x
    """
    from gml.tracking.compare import compare_runs
    from gml.tracking.report.sections import Report, champion_first

    if (html is not None) + as_markdown + as_json > 1:
        raise UsageError("--markdown, --html and --json exclude each other")
    reader = open_reader()
    if best is not None:
        runs = best_pair(reader, best, wanted, experiments)
    elif experiments:
        raise UsageError("-x goes with --best", hint="name the runs, or see `gml diff --help`")
    else:
        runs = [reader.resolve(text) for text in (wanted if len(wanted) > 1 else (*wanted, "@"))]
    if champion is not None:
        runs = champion_first(runs, champion)
    names = " ".join(short_id(run.run_id) for run in runs[:8]) + (" ..." if len(runs) > 8 else "")
    report = Report(reader, runs, only, everything, champion or "", f"gml diff {names}", patches=not stat)
    if html is not None:
        _write_page(report, html)
    elif as_markdown:
        from gml.tracking.report.markdown import markdown

        click.echo(markdown(report), nl=False)
    elif len(runs) > 2:
        if as_json:
            emit_json(report.to_json())
        else:
            _print_many(report)
    else:
        result = compare_runs(reader, runs[0], runs[1], only)
        if as_json:
            emit_json(result)
        else:
            print_diff(result, runs[0], runs[1], stat=stat)


def _write_page(report: Report, html: str) -> None:
    from pathlib import Path

    from gml import fs
    from gml.tracking.report.page import page

    data = page(report).encode()
    if html == "-":
        sys.stdout.buffer.write(data)
        return
    fs.write_atomic(Path(html), data, durable=False)
    click.echo(f"wrote {html}", err=True)


def _label(run: Run) -> str:
    return f"{short_id(run.run_id)} {run.name}"


def _print_many(report: Report) -> None:
    """Print one column a run, only rows that differ."""
    runs = report.runs
    heads = [_label(run) for run in runs]
    if len(set(heads)) < len(heads):
        heads = [f"{at + 1} {head}" for at, head in enumerate(heads)]
    same = []
    for name, rows in report.tables.items():
        if not rows:
            same += [name] if name != "files" else []
            continue
        heading(name)
        cells = [[key, *_many_cells(name, values)] for key, values in rows.items()]
        table(["key", *heads], cells, right=heads if name == "metrics" else [])
        click.echo()
    if same:
        click.echo(f"equal: {', '.join(same)}")


def _many_cells(name: str, values: Sequence[Any]) -> list[str]:
    if name == "files":
        return [str(value) or "-" for value in values]
    return ["-" if value is None else _text(name, value) for value in values]


def print_diff(result: dict[str, Any], a: Run, b: Run, *, stat: bool) -> None:
    """Print the differences of two runs, as `compare_runs` returns them."""
    click.echo(f"a  {_label(a)}\nb  {_label(b)}")
    same = []
    for name in ("params", "metrics", "curves", "inputs", "tags", "environment", "artifacts"):
        part = result.get(name)
        if part is None:
            continue
        rows = _rows(name, part)
        if not rows:
            same.append(name)
            continue
        heading(f"\n{name}")
        extra = {"metrics": ["delta"], "curves": ["gap", "at step"]}.get(name, [])
        columns = ["key", "a", "b", *extra]
        table(columns, rows, right=["a", "b", "delta", "gap", "at step"] if extra else [])
    code = result.get("code")
    if code is not None and not _print_code(code, stat):
        same.append("code")
    if same:
        click.echo(f"\nequal: {', '.join(same)}")


def _text(name: str, value: Any) -> str:
    if name == "metrics":
        return number(float(value))
    if name == "curves":
        return f"{value['count']} in {number(value['min'])}..{number(value['max'])}"
    if name == "inputs":
        return str(value["digest"])
    if name == "artifacts" and isinstance(value, dict):
        return f"{value.get('sha256', '')[:12]} {value.get('size', '')}".strip()
    if name == "code":
        return str(value)[:12]
    return "" if value is None else str(value)


def _rows(name: str, part: dict[str, Any]) -> list[list[str]]:
    rows = []
    delta, gaps = part.get("delta", {}), part.get("gap", {})
    blank = [""] * {"metrics": 1, "curves": 2}.get(name, 0)
    for key, (old, new) in part["changed"].items():
        row = [key, _text(name, old), _text(name, new)]
        if name == "metrics":
            change = delta.get(key)
            row.append("" if change is None else f"{float(change):+.5g}")
        elif name == "curves":
            apart = gaps.get(key, {})
            known = apart.get("max") is not None
            row += [number(apart["max"]), str(apart["at_step"])] if known else blank
        rows.append(row)
    rows += [[key, _text(name, value), "-", *blank] for key, value in part["only_a"].items()]
    rows += [[key, "-", _text(name, value), *blank] for key, value in part["only_b"].items()]
    return rows


def _print_code(code: dict[str, Any], stat: bool) -> bool:
    """Print the code section; False when the code is equal."""
    if code.get("missing"):
        heading("\ncode")
        which = " and ".join(short_id(run_id) for run_id in code["missing"])
        click.echo(
            f"  the code of {which} is not in this repository, or only as a patch (code/changes.patch)"
        )
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
