"""What the commands of models share: options, finding a model, trust."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gml.cli.common import open_workspace

if TYPE_CHECKING:
    from collections.abc import Callable

    from gml.models.flavor import LoadOptions
    from gml.tracking.models.resolve import Resolved
    from gml.workspace import Workspace

trust_option = click.option(
    "--trust",
    type=click.Choice(["data", "code"]),
    default="data",
    show_default=True,
    help="`code` lets a model run code of its own while it is loaded; an approved version may anyway.",
)
model_option = click.option("-m", "--model-uri", "uri", required=True, metavar="MODEL", help="Which model.")


def find(uri: str) -> Resolved:
    """Find a model; the repository is opened only where the URI needs it."""
    from gml.tracking.models.resolve import resolve

    return resolve(uri, _space_for(uri))


def _space_for(uri: str) -> Workspace | None:
    return open_workspace() if uri.startswith(("runs:", "models:")) else None


def options_of(trust: str) -> Callable[[Resolved], LoadOptions]:
    """Return how far a found model may be trusted."""
    from gml.models.flavor import LoadOptions

    return lambda found: LoadOptions(code=found.approved or trust == "code")
