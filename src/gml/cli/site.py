"""`gml site`: the pages as files, for a web server that only hands out files, a share or a mail."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from gml.cli.common import json_option, open_workspace, recover
from gml.cli.output import emit_json, size


@click.group("site")
def site_command() -> None:
    """Write the pages as files that need no server.

    \b
    Example:
      gml site build -o public/
      gml site report @~1 @ -o report.html
    """


@site_command.command("build")
@click.argument("query", required=False, default="")
@click.option(
    "-o", "--output", required=True, metavar="FOLDER", help="Folder of the site; empty, or built before."
)
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=2_000,
    show_default=True,
    help="At most so many runs, the newest.",
)
@click.option(
    "--max-file",
    type=click.IntRange(0),
    default=1_000_000,
    show_default=True,
    metavar="BYTES",
    help="Copy no file of a run that is larger.",
)
@click.option(
    "--max-files",
    type=click.IntRange(0),
    default=200_000_000,
    show_default=True,
    metavar="BYTES",
    help="Copy no more than this in all.",
)
@json_option
def build_command(query: str, output: str, limit: int, max_file: int, max_files: int, as_json: bool) -> None:
    """Build a site of the runs that QUERY selects, or bring it up to date.

    Works from a folder, a share or any web server, under any path. Only what changed since the last time is
    written again. Running runs are not shown: the site is that of the ledger.

    \b
    Example:
      gml site build -o public/
      gml site build -o public/ "metrics.auc > 0.9" --limit 500
    """
    from gml.ui.site.build import Options, build

    workspace = open_workspace()
    recover(workspace)

    def told(done: int, of: int) -> None:
        if of > 50 and sys.stderr.isatty() and (done % 20 == 0 or done == of):
            click.echo(f"\rgml: {done} of {of} runs", err=True, nl=done == of)

    folder = Path(output)
    built = build(workspace, folder, Options(query, limit, max_file, max_files), told)
    for problem in built.damaged[:5]:
        click.echo(f"gml: {problem}", err=True)
    if as_json:
        emit_json(vars(built) | {"damaged": list(built.damaged)})
        return
    click.echo(
        f"{folder / 'index.html'}: {built.runs} runs; {built.rendered} pages of runs made, "
        f"{built.written} files written, {built.removed} removed"
    )
    if built.left_out:
        click.echo(
            f"  {built.left_out} files of runs are only named: too large, or not in this repository", err=True
        )


@site_command.command("report")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("-o", "--output", required=True, metavar="FILE", help="The file to write.")
@click.option(
    "--max-files",
    type=click.IntRange(0),
    default=10_000_000,
    show_default=True,
    metavar="BYTES",
    help="Pictures and sounds in it, at most.",
)
def report_command(runs: tuple[str, ...], output: str, max_files: int) -> None:
    """Write one file with everything about a run, or with several runs side by side.

    It needs nothing else: for a mail, a pull request, an archive.

    \b
    Example:
      gml site report @ -o run.html
      gml site report @~2 @~1 @ -o report.html
    """
    from gml.ui.site.report import report

    workspace = open_workspace()
    recover(workspace)
    data = report(workspace, list(runs), max_files)
    from gml import fs

    fs.write_atomic(Path(output), data)
    click.echo(f"{output}: {size(len(data))}")
