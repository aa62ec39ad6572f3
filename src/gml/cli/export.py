"""`gml export`: runs and metric points for pandas, DuckDB, Spark and spreadsheets."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import click

from gml.cli.code_options import tell
from gml.cli.common import open_reader, report_damage
from gml.domain.errors import GmlError, StorageError, UsageError
from gml.domain.run import ACTIVE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gml.domain.run import Run
    from gml.index.export import Keys
    from gml.ledger.view import RunEntry
    from gml.tracking.reader import Reader

_BY_SUFFIX: Final = {
    ".csv": "csv", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet",
}  # fmt: skip


class _Export(click.Command):
    """Rows of a table, unless the first word names another tool."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Hand over to `gml export mlflow`."""
        if args and args[0] == "mlflow":
            from gml.cli.export_mlflow import mlflow_command

            return mlflow_command.make_context(f"{info_name} mlflow", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command("export", cls=_Export)
@click.argument("query", required=False, default="")
@click.option(
    "--format", "form", type=click.Choice(["csv", "json", "jsonl", "parquet"]),
    help="The default follows from the name of FILE, and is csv.",
)  # fmt: skip
@click.option(
    "-x", "--experiment", "experiments", multiple=True, metavar="NAME", help="Only this experiment."
)
@click.option("--history", is_flag=True, help="One row a metric point, not one a run.")
@click.option("-o", "--output", metavar="FILE|URL", help="Where to write; standard output by default.")
def export_command(
    query: str, form: str | None, experiments: tuple[str, ...], history: bool, output: str | None
) -> None:
    """Write the runs that match QUERY, newest first, one row a run.

    Columns are run_id, name, experiment and so on, then params.KEY, metrics.KEY and tags.KEY. A file
    appears when it is whole. Parquet needs pyarrow. `gml export mlflow` writes what MLflow reads.

    \b
    Example:
      gml export -o runs.csv
      gml export "metrics.auc > 0.9" -x churn -o s3://bucket/runs.parquet
      gml export --history --format jsonl
    """
    from gml.index import export
    from gml.index.query import parse
    from gml.tracking.missing import experiment_ids, missing_keys

    form = form or _BY_SUFFIX.get(Path(output or "").suffix.lower(), "csv")
    if form == "parquet":
        if output is None and sys.stdout.isatty():
            raise UsageError("Parquet is not for a terminal", hint="give a file: -o runs.parquet")
        export.require_parquet()
    reader = open_reader()
    names = {e.experiment_id: e.name for e in reader.experiments()}
    entries = matching(reader, query, experiment_ids(reader, experiments))
    if query.strip():
        tell(missing_keys(reader, parse(query).fields()))
    with _output(output) as out:
        if history:
            runs = read_runs(reader, entries)
            count = export.write_points(out, form, export.point_rows(runs, reader.history))
        else:
            columns = {} if form in {"json", "jsonl"} else _keys(reader, entries).columns()
            rows = (export.run_row(run, names) for run in read_runs(reader, entries))
            count = export.write_runs(out, form, rows, columns)
    if output is not None:
        what = "points" if history else "runs"
        click.echo(f"wrote {count} {what[:-1] if count == 1 else what} to {output}", err=True)
    report_damage(reader)


def matching(reader: Reader, query: str, experiments: set[str] | None) -> list[RunEntry]:
    """Return where the runs are, not the runs: those of a large repository do not fit into memory."""
    from gml.index.query import matches, parse
    from gml.index.store.compile import NotCompilableError
    from gml.index.store.rows import position
    from gml.ledger.view import RunEntry

    parsed = parse(query) if query.strip() else None
    now = int(time.time() * 1000)
    try:
        found = reader.index.search(parsed, now_ms=now, experiments=experiments)
    except NotCompilableError:
        runs = reader.search(parsed, now_ms=now, experiments=experiments)
        return [RunEntry(run.run_id, None, None) for run in runs]
    reader.damaged += reader.index.damaged()
    names = {e.experiment_id: e.name for e in reader.experiments()}
    live = []
    for run in read_runs(reader, [RunEntry(run_id, None, None) for run_id in reader.live]):
        name = names.get(run.experiment_id)
        if run.lifecycle_stage != ACTIVE or (
            experiments is not None and run.experiment_id not in experiments
        ):
            continue
        if parsed is None or matches(parsed, run, experiment_name=name, now_ms=now):
            live.append((position(run.run_id, run.start_time), RunEntry(run.run_id, None, None)))
    live.sort(key=itemgetter(0), reverse=True)
    # Live runs are the newest but for clocks that differ: they go first.
    return [entry for _, entry in live] + [entry for entry in found if entry.run_id not in reader.live]


def _keys(reader: Reader, entries: list[RunEntry]) -> Keys:
    from gml.index.as_mlflow import mlflow_tags
    from gml.index.export import Keys

    params, metrics, tags = map(set, reader.index.keys_of([entry.run_id for entry in entries]))
    for run in read_runs(reader, [entry for entry in entries if entry.run_id in reader.live]):
        params |= run.params.keys()
        metrics |= run.metrics.keys()
        tags |= mlflow_tags(run).keys()
    return Keys(sorted(params), sorted(metrics), sorted(tags))


def read_runs(reader: Reader, entries: list[RunEntry]) -> Iterator[Run]:
    """Yield the runs of entries; damaged ones are collected in the reader."""
    for entry in entries:
        try:
            run = reader.run(entry.run_id) if entry.record is None else reader.view.load(entry)
        except GmlError as error:
            reader.damaged.append(error)
        else:
            if run is not None:
                yield run


@contextmanager
def _output(output: str | None) -> Iterator[IO[bytes]]:
    """Give the file to write to; under its name nothing appears that is not whole."""
    if output is None or output == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    from gml.cas.urls import is_url, send

    remote = is_url(output)
    target = Path(tempfile.gettempdir(), "gml-export") if remote else Path(output).expanduser()
    if not remote and target.is_dir():
        raise UsageError(f"{output} is a directory", hint="give a file name")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", suffix=".tmp", dir=target.parent)
    except OSError as error:
        raise StorageError(f"cannot write {output}: {error.strerror}") from error
    temporary = Path(name)
    try:
        with os.fdopen(number, "wb") as file:
            yield file
        if remote:
            send(temporary, output)
        else:
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(target)
    except OSError as error:
        raise StorageError(f"cannot write {output}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    value = os.umask(0)
    os.umask(value)
    return value
