"""`gml artifacts`: files of runs."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gml.cli.artifact_remotes import pull_command, push_command, status_command
from gml.cli.artifacts_diff import diff_command
from gml.cli.artifacts_import import adding_to, import_command
from gml.cli.artifacts_upkeep import du_command, gc_command, shred_command, verify_command
from gml.cli.common import json_option, open_reader
from gml.cli.output import emit_json, is_terminal, size, table
from gml.cli.progress import transfer_progress
from gml.domain.errors import GmlError, NotFoundError, UsageError

if TYPE_CHECKING:
    from gml.domain.run import Run
    from gml.tracking.reader import Reader


@click.group("artifacts")
def artifacts_command() -> None:
    """List, read and add files of runs.

    \b
    Example:
      gml artifacts ls @
      gml artifacts get @ model/ -o out/
    """


@artifacts_command.command("ls")
@click.argument("run", default="@")
@click.argument("path", required=False)
@json_option
def ls(run: str, path: str | None, as_json: bool) -> None:
    """List the files of RUN, or those below PATH.

    \b
    Example:
      gml artifacts ls @ model/
    """
    found = open_reader().resolve(run)
    prefix = (path or "").strip("/")
    listed = {
        name: facts
        for name, facts in sorted(found.artifacts.items())
        if not prefix or name == prefix or name.startswith(f"{prefix}/")
    }
    if prefix and not listed:
        raise NotFoundError(
            f"run {found.run_id} has no artifact {prefix!r}", hint=f"`gml artifacts ls {run}`"
        )
    if as_json:
        emit_json([{"path": n, "size": a.size, "sha256": a.sha256, "at": a.at} for n, a in listed.items()])
        return
    table(
        ["path", "size", "sha256"],
        [[n, size(a.size), a.sha256[:12]] for n, a in listed.items()],
        right=["size"],
    )


@artifacts_command.command("get")
@click.argument("run")
@click.argument("path", required=False)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), default=Path(), show_default="here",
    help="Directory to write to.",
)  # fmt: skip
def get(run: str, path: str | None, output: Path) -> None:
    """Copy a file, a folder, or everything of RUN out, verified.

    \b
    Example:
      gml artifacts get @ model/ -o out/
    """
    from gml.tracking.queries import copy_artifacts

    reader = open_reader()
    for place in copy_artifacts(reader, reader.resolve(run), path, output):
        click.echo(place)


@artifacts_command.command("cat")
@click.argument("run")
@click.argument("path")
def cat(run: str, path: str) -> None:
    """Write a file of RUN to standard output.

    \b
    Example:
      gml artifacts cat @ logs/stdout.txt
    """
    from gml.tracking.contents import open_artifact

    reader = open_reader()
    with open_artifact(reader, reader.resolve(run), path) as file:
        while chunk := file.read(1 << 20):
            sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()


@artifacts_command.command("put")
@click.argument("run")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--to", "folder", metavar="FOLDER", help="Folder within the run.")
@click.option(
    "--link", is_flag=True, help="FILE is a URL or path that stays where it is: keep only its digest."
)
@click.option("--progress", is_flag=True, help="Show how far it has come: a bar, or lines in a log.")
def put(run: str, files: tuple[str, ...], folder: str | None, link: bool, progress: bool) -> None:
    """Add files or folders to RUN.

    With --link a file on the web, in a bucket or on a share is read once and referred to by its URL;
    whoever reads it gets the same bytes or an error.

    \b
    Example:
      gml artifacts put @ report.html --to reports
      gml artifacts put @ checkpoint/ --progress
      gml artifacts put @ s3://team-data/2026/train.parquet --link
    """
    from gml.tracking.artifacts import artifact_name, files_below, log_files

    reader = open_reader()
    found = reader.resolve(run)
    if link:
        _put_links(reader, found, files, folder, progress=progress)
        return
    listed: list[tuple[Path, str]] = []
    for file in map(Path, files):
        if not file.exists():
            raise NotFoundError(f"{file} does not exist")
        name = artifact_name(file.resolve(), folder)
        if file.is_dir():
            listed += files_below(file, name)
        else:
            listed.append((file, name))
    problems: list[Exception] = []
    count = 0
    with adding_to(reader, found) as recorder:
        try:
            with transfer_progress(quiet=not progress) as told:
                told.begin("put", len(listed), _total(listed))
                count = log_files(recorder, listed, problems.append, told.advance)
                for _ in range(count):
                    told.file_done()
        except GmlError as error:
            problems.append(error)
    _report(found, count, problems)


def _put_links(
    reader: Reader, found: Run, urls: tuple[str, ...], folder: str | None, *, progress: bool
) -> None:
    from gml.tracking.links import link_name, log_link

    names = [link_name(url, folder) for url in urls]
    problems: list[Exception] = []
    count = 0
    with adding_to(reader, found) as recorder, transfer_progress(quiet=not progress) as told:
        told.begin("link", len(urls), 0)
        for url, name in zip(urls, names, strict=True):
            try:
                log_link(recorder, url, name, told.advance)
            except GmlError as error:
                problems.append(error)
            else:
                count += 1
    _report(found, count, problems)


def _report(found: Run, count: int, problems: list[Exception]) -> None:
    for problem in problems:
        click.echo(f"gml: {problem}", err=True)
    if is_terminal() or not problems:
        click.echo(f"added {count} files to {found.name}", err=True)
    if problems:
        raise UsageError(f"{len(problems)} of {len(problems) + count} files could not be added")


def _total(files: list[tuple[Path, str]]) -> int:
    total = 0
    for path, _ in files:
        with suppress(OSError):
            total += path.stat().st_size
    return total


for _command in (
    push_command, pull_command, status_command, diff_command, import_command, verify_command, gc_command,
    du_command, shred_command,
):  # fmt: skip
    artifacts_command.add_command(_command)
