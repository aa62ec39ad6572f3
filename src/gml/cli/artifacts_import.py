"""`gml artifacts import`: files that DVC or git-LFS keep become artifacts of a run."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gml.cli.common import json_option, open_reader
from gml.cli.output import emit_json, size
from gml.domain.errors import RepositoryError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gml.domain.run import Run
    from gml.tracking.reader import Reader
    from gml.tracking.recorder import Recorder
    from gml.tracking.storage.foreign import Foreign

to_option = click.option("--to", "folder", metavar="FOLDER", help="Folder within the run.")


@click.group("import")
def import_command() -> None:
    """Take in files that another tool keeps, without copying them where that is safe.

    Blocks are shared where the file system can do that (reflinks); otherwise a file is linked if nobody
    may write to it. What its cache says it is, is verified.

    \b
    Example:
      gml artifacts import dvc @
      gml artifacts import lfs @ models/
    """


@import_command.command("dvc")
@click.argument("run")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE.dvc|dvc.lock]...")
@to_option
@json_option
def dvc(run: str, files: tuple[Path, ...], folder: str | None, as_json: bool) -> None:
    """Add files that DVC tracks to RUN, from DVC's cache.

    \b
    Example:
      gml artifacts import dvc @ data.dvc
    """
    from gml.tracking.storage.foreign import dvc_files

    reader = open_reader()
    _take(reader, reader.resolve(run), dvc_files(_top(reader), files), folder, as_json=as_json)


@import_command.command("lfs")
@click.argument("run")
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@to_option
@json_option
def lfs(run: str, paths: tuple[str, ...], folder: str | None, as_json: bool) -> None:
    """Add the files of HEAD that git-LFS keeps to RUN; PATH is relative to the top of the work tree.

    \b
    Example:
      gml artifacts import lfs @ models/
    """
    from gml.tracking.storage.foreign import lfs_files

    reader = open_reader()
    _take(reader, reader.resolve(run), lfs_files(reader.workspace, paths), folder, as_json=as_json)


def _top(reader: Reader) -> Path:
    top = reader.workspace.store.location.worktree
    if top is None:
        raise RepositoryError("a bare repository has no .dvc files", hint="run it in a work tree")
    return Path(top).resolve()


def _take(reader: Reader, found: Run, files: Sequence[Foreign], folder: str | None, *, as_json: bool) -> None:
    from gml.tracking.storage.foreign import take_in

    problems: list[Exception] = []
    with adding_to(reader, found) as recorder:
        done = take_in(recorder, files, problems.append, folder)
    for problem in problems:
        click.echo(f"gml: {problem}", err=True)
    counts = {how: done[how] for how in ("known", "cloned", "linked", "copied")}
    if as_json:
        emit_json({"run_id": found.run_id, "bytes": done["bytes"], "failed": len(problems), **counts})
    else:
        shown = ", ".join(f"{count} {how}" for how, count in counts.items() if count)
        click.echo(f"added {sum(counts.values())} files, {size(done['bytes'])}: {shown or 'none'}")
    if problems:
        raise UsageError(f"{len(problems)} of {len(files)} files could not be added")


@contextmanager
def adding_to(reader: Reader, found: Run) -> Iterator[Recorder]:
    """Give what adds to a run that may have ended, and leave its status as it is."""
    from gml.tracking.start import resume

    recorder = resume(reader.workspace, found.run_id)
    try:
        yield recorder
    finally:
        recorder.end(found.status if recorder.owner else None, found.end_time)
