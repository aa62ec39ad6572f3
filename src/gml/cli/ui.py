"""`gml ui`: the runs of a repository in a browser."""

from __future__ import annotations

import click

from gml.cli.common import open_workspace, recover


@click.command("ui")
@click.option(
    "-p",
    "--port",
    type=click.IntRange(0, 65535),
    default=5001,
    show_default=True,
    help="Port; 0 takes a free one.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--browser/--no-browser", default=True, help="Open the browser.")
def ui_command(port: int, host: str, browser: bool) -> None:
    """Look at the runs of this repository in a browser; running trainings move by themselves.

    Read only. The link works once, for one browser; Enter prints another one.

    \b
    Example:
      gml ui
      gml ui --port 0 --no-browser
    """
    from gml.ui.serve import serve

    workspace = open_workspace()
    recover(workspace)

    def ready(link: str) -> None:
        click.echo(f"gml: {link}")
        click.echo("gml: the link opens one browser; Enter prints another one, Ctrl-C ends", err=True)
        if browser:
            click.launch(link)

    serve(workspace, host, port, ready, say=click.echo)
