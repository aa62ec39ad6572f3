"""`gml models`: look at models, predict with them, serve them."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gml.cli.common import json_option, open_workspace
from gml.cli.models_common import find, model_option, options_of, trust_option
from gml.cli.models_more import convert_command, predictions_command
from gml.cli.output import emit_json, size

if TYPE_CHECKING:
    from gml.tracking.models.resolve import Resolved


@click.group("models")
def models_command() -> None:
    """Look at models, predict with them, serve them.

    MODEL is `models:/NAME/4`, `models:/NAME/Production`, `models:/NAME@alias`, `runs:/RUN/model`, or a
    folder.

    \b
    Example:
      gml models inspect runs:/@/model
      gml models serve -m models:/churn/Production -p 5001
    """


models_command.add_command(predictions_command)
models_command.add_command(convert_command)


@models_command.command("inspect")
@click.argument("uri", metavar="MODEL")
@json_option
def inspect(uri: str, as_json: bool) -> None:
    """Show what a model is, without loading it.

    \b
    Example:
      gml models inspect runs:/@/model
    """
    from gml.serving.inspect import describe

    facts = describe(find(uri))
    if as_json:
        emit_json(facts)
        return
    for key, value in facts.items():
        if value is None or value == []:
            continue
        if key == "size":
            value = size(value)  # noqa: PLW2901
        if isinstance(value, dict):
            click.echo(f"{key}:")
            for inner, text in value.items():
                click.echo(f"  {inner:<16} {text}")
        elif isinstance(value, list):
            click.echo(f"{key}:")
            for text in value:
                click.echo(f"  {text}")
        else:
            click.echo(f"{key:<18} {value}")


@models_command.command("serve")
@model_option
@click.option("-h", "--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("-p", "--port", default=5000, show_default=True, help="Port; 0 takes a free one.")
@click.option("-w", "--workers", default=1, show_default=True, type=click.IntRange(1, 256), help="Processes.")
@click.option(
    "--threads",
    default=2,
    show_default=True,
    type=click.IntRange(1, 256),
    help="Predictions a worker makes at once.",
)
@click.option("-t", "--timeout", default=60.0, show_default=True, help="Seconds for an answer.")
@click.option("--max-body", default=256, show_default=True, metavar="MB", help="Largest request.")
@click.option("--token", help="What clients must send as `Authorization: Bearer` (also GML_SERVE_TOKEN).")
@click.option(
    "--reload-on-promotion", "reload", is_flag=True, help="Exchange the model when MODEL means another one."
)
@click.option(
    "--poll", default=5.0, show_default=True, metavar="SECONDS", help="How often to look for another one."
)
@click.option(
    "--drain",
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Time for running requests at the end.",
)
@click.option(
    "--log-format",
    "log_format",
    type=click.Choice(["json", "text", "none"]),
    default="none",
    show_default=True,
    help="A line for each request on standard error.",
)
@click.option("--expect-digest", metavar="SHA256", help="Refuse a model with another digest.")
@click.option(
    "--log-predictions",
    "sample",
    metavar="sample=0.1",
    help="Keep a share of requests and answers as Parquet; `gml models predictions` shows them.",
)
@click.option(
    "--log-to", "log_to", metavar="FOLDER", help="Where to; by default beside the repository's store."
)
@trust_option
def serve(
    uri: str,
    host: str,
    port: int,
    workers: int,
    threads: int,
    timeout: float,
    max_body: int,
    token: str | None,
    reload: bool,
    poll: float,
    drain: float,
    log_format: str,
    expect_digest: str | None,
    sample: str | None,
    log_to: str | None,
    trust: str,
) -> None:
    """Answer requests with a model: MLflow's scoring protocol on /invocations.

    Also /ping, /health, /version, /metrics (Prometheus) and /openapi.json.

    \b
    Example:
      gml models serve -m models:/churn/Production -p 5001 --workers 2 --reload-on-promotion
    """
    from gml.serving.app import Limits
    from gml.serving.serve import ServeOptions
    from gml.serving.serve import serve as run

    share, folder = _prediction_log(sample, log_to)
    limits = Limits(max_body=max_body << 20, timeout=timeout, threads=threads)
    run(
        lambda: _expected(find(uri), expect_digest),
        options_of(trust),
        ServeOptions(
            host=host,
            port=port,
            workers=workers,
            limits=limits,
            token=token or os.environ.get("GML_SERVE_TOKEN") or None,
            poll=poll if reload else 0.0,
            access_log=log_format,
            drain=drain,
            ready=_say_ready,
            sample=share,
            log_to=folder,
        ),
    )


def _prediction_log(sample: str | None, folder: str | None) -> tuple[float, Path | None]:
    if sample is None:
        return 0.0, None
    from gml.serving.predictions import parse_sample

    share = parse_sample(sample)
    return share, Path(folder) if folder else open_workspace().state_dir / "predictions"


def _expected(found: Resolved, digest: str | None) -> Resolved:
    if digest is not None and found.files.digest() != digest:
        from gml.domain.errors import CorruptError

        raise CorruptError(
            f"{found.label} has the digest {found.files.digest()}, not {digest}", hint="get the model again"
        )
    return found


def _say_ready(host: str, port: int) -> None:
    shown = f"[{host}]" if ":" in host else host
    click.echo(f"gml: ready on http://{shown}:{port}", err=True)


@models_command.command("predict")
@model_option
@click.option(
    "-i", "--input-path", "source", metavar="PATH", help="CSV, JSON or Parquet; standard input by default."
)
@click.option(
    "-o", "--output-path", "target", metavar="PATH", help="CSV, JSON or Parquet; standard output by default."
)
@click.option(
    "-t",
    "--content-type",
    "kind",
    type=click.Choice(["csv", "json", "parquet"]),
    help="Format of the input; by its name.",
)
@click.option("--rows", default=65_536, show_default=True, type=click.IntRange(1), help="Rows at a time.")
@trust_option
def predict(
    uri: str, source: str | None, target: str | None, kind: str | None, rows: int, trust: str
) -> None:
    """Predict the rows of a file, a part at a time, so that memory does not grow with the file.

    \b
    Example:
      gml models predict -m models:/churn/Production -i batch.parquet -o out.parquet
    """
    from gml.models.loaded import load_model
    from gml.serving.batch import BatchOptions, predict_file

    found = find(uri)
    model = load_model(found.files, options_of(trust)(found))
    progress = _Progress() if sys.stderr.isatty() else None
    done = predict_file(model, source, target, BatchOptions(kind, rows, progress))
    if progress is not None and progress.shown:
        progress.clear()
    if target is not None:
        click.echo(f"gml: {done} rows predicted into {target}", err=True)


class _Progress:
    """A line that says how far it is, once it takes more than a second."""

    def __init__(self) -> None:
        self._next = time.monotonic() + 1.0
        self.shown = False

    def __call__(self, done: int, total: int | None) -> None:
        """Say how many rows are done."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + 0.2
        self.shown = True
        of = f" of {total}" if total else ""
        click.echo(f"\r\x1b[Kgml: {done}{of} rows", err=True, nl=False)

    def clear(self) -> None:
        """Make room for the line at the end."""
        click.echo("\r\x1b[K", err=True, nl=False)


@models_command.command("validate")
@click.argument("uri", metavar="MODEL")
@click.option(
    "--env",
    type=click.Choice(["here", "venv"]),
    default="here",
    show_default=True,
    help="`venv` installs the model's requirements into a new environment first.",
)
@trust_option
@json_option
def validate(uri: str, env: str, trust: str, as_json: bool) -> None:
    """Load a model in a fresh process, predict its input example, check the signature, measure it.

    \b
    Example:
      gml models validate runs:/@/model
    """
    from gml.serving.validate import validate_model

    found = find(uri)
    options = options_of(trust)(found)
    report = validate_model(found.files, code=options.code, new_environment=env == "venv")
    if as_json:
        emit_json(report)
    else:
        for key, value in report.items():
            click.echo(f"{key:<18} {value}")


@models_command.command("generate-dockerfile")
@model_option
@click.option(
    "-d", "--output-directory", "-o", "target", default="docker", show_default=True, help="A new folder."
)
@click.option(
    "--base", default=None, help="Base image; by default python:VERSION-slim of the model's Python."
)
@trust_option
def generate_dockerfile(uri: str, target: str, base: str | None, trust: str) -> None:
    """Write a container context: the model, its pinned environment, a Dockerfile.

    \b
    Example:
      gml models generate-dockerfile -m models:/churn/Production -d context
    """
    from gml.serving.image import write_context

    found = find(uri)
    write_context(found, target, base=base, code=options_of(trust)(found).code)
    click.echo(f"gml: docker build -t model {target}", err=True)


@models_command.command("build-docker")
@model_option
@click.option(
    "-o", "--output-directory", "target", default=None, metavar="PATH", help="Keep the context there."
)
@click.option("-n", "--name", default="gml-model", show_default=True, help="Name of the image.")
@click.option(
    "--base", default=None, help="Base image; by default python:VERSION-slim of the model's Python."
)
@trust_option
def build_docker(uri: str, target: str | None, name: str, base: str | None, trust: str) -> None:
    """Write a container context and build it with docker or podman.

    \b
    Example:
      gml models build-docker -m models:/churn/Production -n churn
    """
    from gml.serving.image import build

    found = find(uri)
    where = build(found, name, target, base=base, code=options_of(trust)(found).code)
    click.echo(f"gml: image {name} built from {where}", err=True)
