"""`gml server`: MLflow's REST API, and gml's own, over HTTP."""

from __future__ import annotations

import os
from pathlib import Path

import click

from gml.domain.errors import UsageError


@click.command("server")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--port", default=5000, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one."
)
@click.option(
    "--repo", "repos", multiple=True, metavar="NAME=PATH",
    help="Serve a further repository below /repos/NAME (repeatable).",
)  # fmt: skip
@click.option(
    "--allow-host", "hosts", multiple=True, metavar="NAME",
    help="Answer to this name as well: what clients and browsers call the server (repeatable).",
)  # fmt: skip
@click.option(
    "--users", type=click.Path(path_type=Path), metavar="FILE",
    help="Users with roles, a line each: `name read|log|admin sha256-of-token [YYYY-MM-DD]`.",
)  # fmt: skip
@click.option("--no-token", is_flag=True, help="Let everybody on this machine read and write.")
@click.option("--root-path", default="", metavar="PATH", help="Prefix that a proxy in front takes off.")
@click.option(
    "--proxy",
    "proxies",
    multiple=True,
    metavar="ADDRESS",
    help="Believe forwarded headers of this proxy (repeatable).",
)
@click.option("--log-json", is_flag=True, help="Write a line of JSON for each request to standard error.")
@click.pass_obj
def server_command(
    repo: str | None,
    host: str,
    port: int,
    repos: tuple[str, ...],
    hosts: tuple[str, ...],
    users: Path | None,
    no_token: bool,
    root_path: str,
    proxies: tuple[str, ...],
    log_json: bool,
) -> None:
    """Serve this repository to MLflow's clients, and to curl.

    Without a users file a token is made up and printed once, with a link that opens a session in a browser;
    GML_SERVER_TOKEN gives one instead. What a client was told is kept is in the journal, and a run that was
    ended is a commit.

    \b
    Example:
      gml server
      gml server --port 8080 --users users.txt --host 0.0.0.0 --allow-host tracking.example.org
    """
    from gml.server.run import Settings, serve

    repositories: dict[str, Path | None] = {"": Path(repo) if repo else None}
    for each in repos:
        name, equals, path = each.partition("=")
        if not equals or not name or "/" in name:
            raise UsageError(f"--repo {each!r} is not NAME=PATH")
        repositories[name] = Path(path)
    settings = Settings(
        host=host,
        port=port,
        repositories=repositories,
        hosts=hosts,
        token=os.environ.get("GML_SERVER_TOKEN") or None,
        users=users,
        open=no_token,
        root_path=root_path.rstrip("/"),
        proxies=proxies,
        json_log=log_json,
    )
    serve(settings, lambda line: click.echo(line, err=True))
