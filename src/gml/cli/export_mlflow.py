"""`gml export mlflow`: runs as an MLflow file store, or to a server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from gml.cli.common import json_option, open_reader, report_damage
from gml.cli.export import matching, read_runs
from gml.cli.output import emit_json
from gml.domain.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gml.domain.run import Run
    from gml.tracking.reader import Reader

_ONE_RUN: Final = re.compile(r"@(?:~\d+)?|(?:m-)?[0-9a-f]{4,32}")


@click.command("mlflow")
@click.argument("query", metavar="[RUN|QUERY]", required=False, default="")
@click.option(
    "-x", "--experiment", "experiments", multiple=True, metavar="NAME", help="Only this experiment."
)
@click.option("-o", "--output", metavar="DIR", help="Write a file store of MLflow there.")
@click.option("--to", "url", metavar="URL", help="Send to this MLflow server, which gives runs new ids.")
@json_option
def mlflow_command(
    query: str, experiments: tuple[str, ...], output: str | None, url: str | None, as_json: bool
) -> None:
    """Write runs as MLflow has them: one, those that match QUERY, or all with the registry.

    A file store is read by `gml import mlflow`, and by MLflow itself, which moves it to a database with
    `mlflow migrate-filestore`. Deleted runs go along where no QUERY is given.

    \b
    Example:
      gml export mlflow -o mlruns
      gml export mlflow "metrics.auc > 0.9" --to http://localhost:5000
    """
    from gml.compat.export_files import FileStoreWriter

    if (output is None) == (url is None):
        raise UsageError("say where to", hint="-o mlruns for a folder, or --to http://server:5000")
    reader = open_reader()
    whole = not query.strip() and not experiments
    runs = _chosen(reader, query, experiments, whole=whole)
    if url is not None:
        from gml.compat.export_rest import RestWriter
        from gml.compat.rest import Rest

        sent = RestWriter(reader, Rest(url, reader.workspace.environ))
        sent.write(runs)
        done, where = sent.done, url
    else:
        writer = FileStoreWriter(reader, Path(str(output)).expanduser())
        writer.write(runs)
        if whole:
            from gml.compat.registry_out import registered_models
            from gml.registry.branch import Registry

            writer.write_models(registered_models(Registry(reader.workspace).view()))
        done, where = writer.done, str(output)
    report_damage(reader)
    if as_json:
        emit_json(
            {
                "to": where,
                "runs": done.runs,
                "models": done.models,
                "versions": done.versions,
                "points": done.points,
                "files": done.files,
                "lost": done.losses.lines(),
            }
        )
        return
    click.echo(
        f"wrote {done.runs} run{'s' * (done.runs != 1)}, {done.points} points, {done.files} files to {where}",
        err=True,
    )
    for line in done.losses.lines():
        click.echo(f"gml: no home for {line}", err=True)


def _chosen(reader: Reader, query: str, experiments: tuple[str, ...], *, whole: bool) -> Iterator[Run]:
    """Yield the runs, then the logged models that belong to them."""
    from gml.compat.foreign import MODEL, MODEL_DELETED
    from gml.tracking.missing import experiment_ids

    if _ONE_RUN.fullmatch(query.strip()):
        found: Iterator[Run] = iter([reader.resolve(query.strip())])
    elif whole:
        found = (
            run for run in reader.runs(deleted=True) if run.lifecycle_stage not in {MODEL, MODEL_DELETED}
        )
    else:
        found = read_runs(reader, matching(reader, query, experiment_ids(reader, experiments)))
    models: dict[str, None] = {}
    for run in found:
        models |= {str(entry["model_id"]): None for entry in run.outputs if entry.get("model_id")}
        yield run
    if whole:
        models = {
            run.run_id: None
            for run in reader.runs(deleted=True)
            if run.lifecycle_stage in {MODEL, MODEL_DELETED}
        }
    for model_id in models:
        model = reader.run(model_id)
        if model is not None:
            yield model
