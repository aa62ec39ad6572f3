"""`gml models predictions` and `gml models convert`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gml.cli.common import json_option, open_workspace
from gml.cli.models_common import find, model_option, options_of, trust_option
from gml.cli.output import emit_json, table

if TYPE_CHECKING:
    from gml.workspace import Workspace


def predictions_folder(workspace: Workspace) -> Path:
    """Return where servers of this repository log predictions."""
    return workspace.state_dir / "predictions"


@click.command("predictions")
@click.argument("model")
@click.option("--version", type=click.IntRange(1), help="Only of this version.")
@click.option("-n", "--limit", default=50, show_default=True, type=click.IntRange(1), help="At most so many.")
@click.option(
    "--from", "top", metavar="FOLDER", help="Where they are; by default where servers of this repository log."
)
@json_option
def predictions_command(model: str, version: int | None, limit: int, top: str | None, as_json: bool) -> None:
    """List predictions of MODEL that a server logged, the newest first.

    MODEL is the registered name, or the first 16 digits of the digest of a model without one.

    \b
    Example:
      gml models serve -m models:/churn/Production --log-predictions sample=0.1
      gml models predictions churn -n 5
    """
    from gml.domain.names import check_artifact_path
    from gml.serving.predictions import read

    check_artifact_path(model)
    folder = (Path(top) if top else predictions_folder(open_workspace())) / model
    rows = [_shown(row) for row in read(folder, version=version, limit=limit)]
    if as_json:
        emit_json(rows)
        return
    table(
        ["time", "model", "ms", "rows", "input", "output"],
        [
            [
                *(str(row[key]) for key in ("time", "model", "latency_ms", "rows")),
                _short(row["input"]),
                _short(row["output"]),
            ]
            for row in rows
        ],
        right=["ms", "rows"],
    )


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    body = row["input"]
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = f"{len(body)} bytes of {row['content_type']}"
    return {**row, "time": row["time"].isoformat(timespec="milliseconds"), "input": _parsed(text),
            "output": _parsed(row["output"])}  # fmt: skip


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@click.command("convert")
@model_option
@click.option(
    "--to", "target", required=True, type=click.Choice(["onnx", "safetensors", "skops"]), help="Which format."
)
@click.option("-o", "--output-directory", "folder", required=True, metavar="PATH", help="A new folder.")
@trust_option
def convert_command(uri: str, target: str, folder: str, trust: str) -> None:
    """Write a model in a format without code, and compare its predictions.

    scikit-learn to `onnx` or `skops`, PyTorch to `safetensors`.

    \b
    Example:
      gml models convert -m runs:/@/model --to onnx -o model-onnx
    """
    from gml.models.convert import convert

    found = find(uri)
    convert(found.files, target, folder, options_of(trust)(found))
    click.echo(f"gml: {found.label} as {target} is in {folder}", err=True)
