"""`gml import`: runs of other tools."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gml.cli.common import json_option, open_workspace, recover
from gml.cli.output import emit_json, size

if TYPE_CHECKING:
    from collections.abc import Callable

    from gml.compat.foreign import Source
    from gml.compat.importing import Report

experiment_option = click.option(
    "-x", "--experiment", "experiments", multiple=True, metavar="NAME|ID", help="Only this experiment."
)
since_option = click.option(
    "--since", metavar="TIME", help="Only runs that ended since then or go on: 2026-01-31, 30d."
)


@click.group("import")
def import_command() -> None:
    """Bring runs of other tools into the ledger.

    \b
    Example:
      gml import mlflow ./mlruns
    """


@import_command.command("mlflow")
@click.argument("source")
@experiment_option
@since_option
@click.option("--no-files", is_flag=True, help="Leave artifacts where they are.")
@click.option("--no-models", is_flag=True, help="Leave the model registry out.")
@json_option
def mlflow_command(
    source: str,
    experiments: tuple[str, ...],
    since: str | None,
    no_files: bool,
    no_models: bool,
    as_json: bool,
) -> None:
    """Bring everything of an MLflow store: runs, artifacts, logged models and the registry.

    SOURCE is an `mlruns` folder, a database of SQLite, or the URL of a server (MLFLOW_TRACKING_TOKEN, or
    MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD). MLflow is not needed. Ids, times and users stay.
    The same command again takes in what is new; one that was interrupted goes on.

    \b
    Example:
      gml import mlflow ./mlruns
      gml import mlflow sqlite:///mlflow.db -x churn --since 30d
      gml import mlflow https://mlflow.example.org
    """
    from gml.compat.sources import import_mlflow, moment, open_mlflow

    start = None if since is None else moment(since)
    workspace = open_workspace()
    recover(workspace)
    opened = open_mlflow(source, workspace.environ)
    with_progress = _Progress()
    report = import_mlflow(
        workspace,
        opened,
        experiments,
        start,
        files=not no_files,
        models=not no_models,
        progress=with_progress,
    )
    with_progress.end()
    show(report, as_json=as_json)


into_option = click.option(
    "-x", "--experiment", "experiment", default="Default", metavar="NAME", help="The experiment of the runs."
)


@import_command.command("csv")
@click.argument("file", type=click.Path(path_type=Path))
@into_option
@click.option("--param", "params", multiple=True, metavar="COLUMN", help="This column is a param.")
@click.option("--metric", "metrics", multiple=True, metavar="COLUMN", help="This column is a metric.")
@json_option
def csv_command(
    file: Path, experiment: str, params: tuple[str, ...], metrics: tuple[str, ...], as_json: bool
) -> None:
    """Bring a table in which a row is a run.

    Columns are those of `gml export` and of MLflow: run_id, name, status, start_time, params.KEY,
    metrics.KEY, tags.KEY and so on.

    \b
    Example:
      gml import csv runs.csv -x churn
      gml import csv sheet.csv --param lr --metric auc
    """
    from gml.compat.csv_runs import read_csv

    _bring(lambda: read_csv(file, experiment, params, metrics), "csv", as_json=as_json)


@import_command.command("tensorboard")
@click.argument("logdir", type=click.Path(path_type=Path))
@into_option
@json_option
def tensorboard_command(logdir: Path, experiment: str, as_json: bool) -> None:
    """Bring the scalars of TensorBoard's event files; a folder is a run. TensorFlow is not needed.

    \b
    Example:
      gml import tensorboard runs/ -x churn
    """
    from gml.compat.tensorboard import read_tensorboard

    _bring(lambda: read_tensorboard(logdir, experiment), "tensorboard", as_json=as_json)


@import_command.command("dvclive")
@click.argument("folder", type=click.Path(path_type=Path))
@into_option
@json_option
def dvclive_command(folder: Path, experiment: str, as_json: bool) -> None:
    """Bring the run that DVCLive wrote into a folder, with its files.

    \b
    Example:
      gml import dvclive dvclive/ -x churn
    """
    from gml.compat.dvclive import read_dvclive

    _bring(lambda: read_dvclive(folder, experiment), "dvclive", as_json=as_json)


def _bring(read: Callable[[], Source], kind: str, *, as_json: bool) -> None:
    from gml.compat.importing import Importer

    workspace = open_workspace()
    recover(workspace)
    progress = _Progress()
    report = Importer(workspace, read(), kind, progress=progress).run()
    progress.end()
    show(report, as_json=as_json)


class _Progress:
    """The number of runs so far: on a terminal all the time, in a log every ten seconds."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._every = 0.2 if self._terminal else 10.0
        self._next = time.monotonic() + self._every
        self._shown = False

    def __call__(self, count: int) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self._every
            self._shown = True
            click.echo(
                f"\rgml: {count} runs" if self._terminal else f"gml: {count} runs",
                err=True,
                nl=not self._terminal,
            )

    def end(self) -> None:
        if self._shown and self._terminal:
            click.echo("\r\x1b[K", err=True, nl=False)


def show(report: Report, *, as_json: bool) -> None:
    """Say what an import did, and what had no home."""
    counts = report.counts
    if as_json:
        emit_json(
            {
                "source": report.source,
                **{key: getattr(counts, key) for key in counts.__slots__},
                "commits": report.commits,
                "notes": report.notes,
                "lost": report.lost,
            }
        )
        return
    lines: list[tuple[str, str]] = [("from", report.source)]
    seen = [(counts.new, "new"), (counts.changed, "changed"), (counts.unchanged, "here already")]
    seen += [(counts.kept, "written by others, left alone")]
    lines.append(("runs", ", ".join(f"{n} {what}" for n, what in seen if n) or "none"))
    for what, count in (
        ("experiments", counts.experiments),
        ("points", counts.points),
        ("models", counts.models),
    ):
        if count:
            lines.append((what, str(count)))
    if counts.files:
        lines.append(("files", f"{counts.files} ({size(counts.size)})"))
    registered = [
        (counts.versions, "version" if counts.versions == 1 else "versions"),
        (counts.stages, "stage" if counts.stages == 1 else "stages"),
        (counts.aliases, "alias" if counts.aliases == 1 else "aliases"),
    ]
    if any(n for n, _ in registered):
        lines.append(("registry", ", ".join(f"{n} {what}" for n, what in registered if n)))
    for name, text in lines:
        click.echo(f"{name:<12}{text}")
    for line in report.notes:
        click.echo(f"gml: {line}", err=True)
    for line in report.lost:
        click.echo(f"gml: no home for {line}", err=True)


@import_command.command("gto")
@click.option("-m", "--model", "models", multiple=True, metavar="NAME", help="Only this artifact of GTO.")
@click.option(
    "--stage", "stages", multiple=True, metavar="OLD=NEW", help="Another name for a stage: prod=Production."
)
@json_option
def gto_command(models: tuple[str, ...], stages: tuple[str, ...], as_json: bool) -> None:
    """Bring the registry that GTO keeps in tags of this repository: versions, and all changes of stages.

    Tags, dates and taggers are kept as unverified facts. The tags stay; the same command again takes in what
    is new. Import before you protect a stage: what nobody approved here is not let in by a policy.

    \b
    Example:
      gml import gto --stage prod=Production
    """
    from gml.cli.registry_common import open_registry
    from gml.domain.errors import UsageError
    from gml.registry.gto import import_gto

    renamed = dict(each.partition("=")[::2] for each in stages)
    if not all(old and new for old, new in renamed.items()):
        raise UsageError("--stage wants OLD=NEW", hint="such as --stage prod=Production")
    report = import_gto(open_registry(), stages=renamed, only=models)
    if as_json:
        emit_json({"versions": report.versions, "changes": report.changes, "notes": report.notes})
        return
    click.echo(f"{report.versions} versions, {report.changes} changes of stages")
    for note in report.notes:
        click.echo(f"gml: {note}", err=True)
