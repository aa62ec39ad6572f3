"""`gml rerun`: run a recorded run again."""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gml.cli.common import json_option, open_reader
from gml.cli.log import pairs
from gml.cli.output import emit_json, number, table
from gml.domain.errors import UsageError
from gml.domain.ids import short_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gml.domain.run import Run
    from gml.projects.rerun import Report
    from gml.projects.rerun.execute import Prepared
    from gml.tracking.reader import Reader

EXIT_CODES = {"reproduced": 0, "drifted": 20, "failed": 21, "changed": 0}


@click.command("rerun")
@click.argument("wanted", metavar="RUN")
@click.option(
    "--set", "changes", multiple=True, metavar="K=V", callback=pairs,
    help="Another value of a param (repeatable).",
)  # fmt: skip
@click.option("--exact", is_flag=True, help="Demand equal digests of all artifacts.")
@click.option(
    "--tolerance", multiple=True, metavar="[METRIC=]BOUND",
    help="How far a metric may be off: auc=0.01, loss=1%, 'time*=inf', or 1e-6 for all (repeatable).",
)  # fmt: skip
@click.option("--code", metavar="REV", help="Use the code of this commit, tag or branch instead.")
@click.option(
    "--bring", multiple=True, metavar="PATH",
    help="Copy a file or folder of the work tree that is not part of the code (repeatable).",
)  # fmt: skip
@click.option(
    "--env", "env", metavar="MODE", type=click.Choice(["here", "restore"]), default="here", show_default=True,
    help="Run in the environment that is here, or restore the recorded one.",
)  # fmt: skip
@click.option("-n", "--name", metavar="NAME", help="Name of the new run; by default NAME-rerun.")
@click.option("--dry-run", is_flag=True, help="Only say what would run and what is missing or differs.")
@click.option("--force", is_flag=True, help="Start although something is missing.")
@click.option("--keep", metavar="DIR", type=click.Path(path_type=Path), help="Keep the checkout there.")
@click.option(
    "--diff", "show_diff", is_flag=True, help="Show all differences to the original, as `gml diff`."
)
@click.option("--trust", is_flag=True, help="Run a command that was recorded in another clone.")
@json_option
def rerun_command(
    wanted: str,
    changes: dict[str, str],
    exact: bool,
    tolerance: tuple[str, ...],
    code: str | None,
    bring: tuple[str, ...],
    env: str,
    name: str | None,
    dry_run: bool,
    force: bool,
    keep: Path | None,
    show_diff: bool,
    trust: bool,
    as_json: bool,
) -> int:
    """Run a recorded run again: the same code, command, params, data and seeds; then say what drifted.

    The code, uncommitted and untracked parts included, is checked out in a temporary directory. What is
    missing or differs is said before anything runs. Exit codes: 0 reproduced, 20 drifted, 21 failed, 22 not
    started because something is missing. The command's output goes to standard error.

    \b
    Example:
      gml rerun @
      gml rerun forest --set lr=0.2 --diff
      gml rerun 3f2a --exact --tolerance auc=0.001 --env restore
    """
    from gml.projects.rerun import Tolerances, Wish, rerun
    from gml.projects.rerun.execute import is_ours

    if keep is not None and keep.exists():
        raise UsageError(f"{keep} is there already", hint="name a new directory for --keep")
    reader = open_reader()
    run = reader.resolve(wanted)
    if not dry_run and not is_ours(reader, run):
        confirm(f"run {short_id(run.run_id)} was recorded in another clone by {run.user}",
                shlex.join(map(str, run.source.get("argv", ()))), trust=trust)  # fmt: skip
    wish = Wish(
        changes=changes,
        exact=exact,
        tolerances=Tolerances.parse(tolerance),
        code=code,
        bring=bring,
        force=force,
        keep=keep.absolute() if keep is not None else None,
        name=name,
        python=_restored(reader, run) if env == "restore" and not dry_run else None,
    )
    if dry_run:
        return _dry_run(reader, run, wish, as_json=as_json)

    def started(ready: Prepared) -> None:
        for need in ready.needs:
            click.echo(f"gml: {need}", err=True)
        click.echo(f"gml: {short_id(run.run_id)} again: {shlex.join(ready.argv)}", err=True)

    with output_on_stderr():
        result = rerun(reader, run, wish, started)
    if as_json:
        emit_json(result.report.to_json())
    else:
        _print(result.report)
        if show_diff:
            _diff(result.report)
    return EXIT_CODES[result.report.verdict]


def _restored(reader: Reader, run: Run) -> Path:
    from gml.projects.environments.recorded import restore

    built = restore(reader, run)
    click.echo(f"gml: environment {built.path}{' (cached)' if built.cached else ''}", err=True)
    return built.bin


def confirm(what: str, command: str, *, trust: bool) -> None:
    """Let a person confirm that foreign code or a foreign command is run.

    Raises:
        UsageError: nobody is there to ask, or the answer is no.
    """
    if trust:
        return
    click.echo(f"gml: {what}; it would run: {command}", err=True)
    if sys.stdin.isatty() and click.confirm("Run it?", err=True):
        return
    raise UsageError(f"{what} and is not run without consent", hint="read it, then give --trust")


@contextmanager
def output_on_stderr() -> Iterator[None]:
    """Let what commands print go to standard error: standard output is for the answer."""
    sys.stdout.flush()
    saved = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        sys.stdout.flush()
        os.dup2(saved, 1)
        os.close(saved)


def _dry_run(reader: Reader, run: Run, wish: Any, *, as_json: bool) -> int:
    from gml.projects.rerun.execute import prepared
    from gml.projects.rerun.needs import NOT_STARTED

    with prepared(reader, run, wish) as ready:
        blocked = any(need.blocking for need in ready.needs)
        if as_json:
            needs = [
                {"part": n.part, "name": n.name, "detail": n.detail, "blocking": n.blocking}
                for n in ready.needs
            ]
            emit_json({"run_id": run.run_id, "argv": ready.argv, "needs": needs, "blocked": blocked})
        else:
            click.echo(f"command  {shlex.join(ready.argv)}")
            rows = [[n.part, n.name, "missing" if n.blocking else "differs", n.detail] for n in ready.needs]
            if rows:
                table(["part", "name", "state", "detail"], rows)
            else:
                click.echo("everything is here")
    return NOT_STARTED if blocked else 0


def _print(report: Report) -> None:
    new = short_id(report.rerun)
    click.echo(f"{report.verdict}: run {new} against {short_id(report.original)}")
    for key, value in report.changes.items():
        click.echo(f"set: {key}={value}")
    if report.differences:
        rows = [
            [d.part, d.key, _cell(d.old), _cell(d.new), "drift" if d.counts else "noted"]
            for d in report.differences
        ]
        table(["part", "key", "original", "rerun", ""], rows, keep=["part", "key"])
    same = ", ".join(f"{count} {part}" for part, count in report.equal.items() if count)
    if same:
        click.echo(f"equal: {same}")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return number(value) if float(number(value)) == value else repr(value)
    text = str(value)
    return text[:12] if len(text) in {40, 64} and set(text) <= set("0123456789abcdef") else text


def _diff(report: Report) -> None:
    from gml.cli.diff import print_diff
    from gml.tracking.compare import compare_runs

    reader = open_reader()
    a, b = reader.resolve(report.original), reader.resolve(report.rerun)
    print_diff(compare_runs(reader, a, b), a, b, stat=False)
